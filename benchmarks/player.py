"""What the player adds to the model's step, how soon it is there, and whether a crowd is served fairly.

    python benchmarks/player.py RUN                            500 frames by one client over a real WebSocket
    python benchmarks/player.py RUN --idle 8 --active 2 --seconds 300

The server runs as its own process, as `oneiros play` starts it. The model's step is what the server measured itself;
the rest of the round trip (parsing, threads, packing, the socket, the client in Python) is what the player adds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from websockets.asyncio.client import connect

WARM_UP = 20


@contextmanager
def player(run: str, folder: Path, options: list[str]) -> Iterator[tuple[subprocess.Popen[str], int, float]]:
    """The process, its port, and when the command was given."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "oneiros", "play", run, "--port", "0", "--no-browser", "--out", str(folder)]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r":(\d+)/", process.stdout.readline())
        assert found, "the player did not start"
        yield process, int(found[1]), began
    finally:
        process.terminate()
        process.wait(20)


def rest(spec: dict[str, Any] | None, number: int) -> Any:
    """Some action or other."""
    if spec is None:
        return None
    if spec["kind"] == "discrete":
        return number % len(spec["names"])
    held = [int(number // 8 % len(spec["names"]) == index) for index in range(len(spec["names"]))]
    return held if spec["kind"] == "keys" else [0.0] * len(held)


class Client:
    def __init__(self, socket: Any, spec: dict[str, Any] | None) -> None:
        self.socket, self.spec, self.id = socket, spec, 0

    async def ask(self, **request: Any) -> bytes:
        self.id += 1
        await self.socket.send(json.dumps({"id": self.id, **request}))
        answer = await self.socket.recv()
        assert isinstance(answer, bytes), answer
        assert struct.unpack_from("<I", answer, 12)[0] == self.id, "an answer is missing or out of order"
        return answer

    async def step(self) -> tuple[float, float, int]:
        """Seconds of the whole round trip, seconds of the model, frames since the start."""
        began = time.perf_counter()
        answer = await self.ask(do="step", action=rest(self.spec, self.id))
        frame, model_ms = struct.unpack_from("<If", answer, 16)
        return time.perf_counter() - began, model_ms / 1e3, frame


async def one(port: int, began: float, frames: int) -> None:
    async with connect(f"ws://127.0.0.1:{port}/ws", compression=None, max_size=None) as socket:
        await socket.recv()
        client = Client(socket, info(port)["action_spec"])
        picture = await client.ask(do="reset", start=None)
        print(f"first frame {time.perf_counter() - began:.1f} s after the command, {len(picture):,} bytes")
        times = np.array([(await client.step())[:2] for _ in range(WARM_UP + frames)])[WARM_UP:]
    added = times[:, 0] - times[:, 1]
    for name, seconds in (("the model's step", times[:, 1]), ("round trip", times[:, 0]), ("the player adds", added)):
        p50, p95, p99 = np.quantile(seconds, (0.5, 0.95, 0.99)) * 1e3
        print(f"{name:<17} p50 {p50:6.2f}   p95 {p95:6.2f}   p99 {p99:6.2f}   best {seconds.min() * 1e3:6.2f} ms")


async def crowd(port: int, process: subprocess.Popen[str], *, idle: int, active: int, seconds: float) -> None:
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(idle + active):
            socket = await stack.enter_async_context(
                connect(f"ws://127.0.0.1:{port}/ws", compression=None, ping_interval=None)
            )
            await socket.recv()
            clients.append(Client(socket, info(port)["action_spec"]))
            await clients[-1].ask(do="reset", start=None)
        played, watch = clients[idle:], asyncio.create_task(memory(process.pid, seconds))
        end = time.perf_counter() + seconds
        found = await asyncio.gather(*(play_until(client, end) for client in played))
        for number, (count, longest, lost) in enumerate(found):
            print(
                f"player {number}: {count} frames, {count / seconds:.1f} a second, {lost} lost, longest {longest:.2f} s"
            )
        for client in clients[:idle]:
            await client.step()
        print(f"{idle} idle players: each still answered")
        print("memory   " + "   ".join(f"{at:.0f} s {size:.0f} MiB" for at, size in await watch))


async def play_until(client: Client, end: float) -> tuple[int, float, int]:
    """Frames, the longest wait in seconds, and frames that were skipped."""
    count, longest, last = 0, 0.0, 0
    while time.perf_counter() < end:
        seconds, _, last = await client.step()
        count, longest = count + 1, max(longest, seconds)
    return count, longest, last - count


async def memory(pid: int, seconds: float, samples: int = 10) -> list[tuple[float, float]]:
    """Resident MiB, now and then."""
    found = []
    for index in range(samples + 1):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        found.append((seconds * index / samples, pages * resource.getpagesize() / 2**20))
        await asyncio.sleep(0 if index == samples else seconds / samples)
    return found


def info(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/info") as answer:
        return json.load(answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a world's run folder, or an environment")
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--threads", type=int, help="cores for a step of the model; default: the player's own choice")
    parser.add_argument("--idle", type=int, default=0)
    parser.add_argument("--active", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=300.0)
    told = parser.parse_args()
    options = ["--sessions", str(max(8, told.idle + told.active))]
    options += ["--threads", str(told.threads)] if told.threads else []
    with TemporaryDirectory() as folder, player(told.run, Path(folder) / "played", options) as (process, port, began):
        info(port)
        print(f"page        {time.perf_counter() - began:.1f} s after the command")
        asyncio.run(one(port, began, told.frames))
        if told.active:
            asyncio.run(crowd(port, process, idle=told.idle, active=told.active, seconds=told.seconds))


if __name__ == "__main__":
    main()
