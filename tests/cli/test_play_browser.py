"""`oneiros play` as a process: what it loads when, how it ends, and that being killed costs one episode at most."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
websockets = pytest.importorskip("websockets")

from oneiros.data.episodes.dataset import Dataset  # noqa: E402
from tests.dot_runs import save_world, write_dataset  # noqa: E402

TELL_MODULES = """
import sys
from oneiros.cli import main
try:
    main(sys.argv[1:])
finally:
    print("MODULES", *sys.modules)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    data = write_dataset(folder / "data", "keys", episodes=2, length=12)
    save_world(folder / "world", data, "keys", held_out=(1,))
    return folder


@contextmanager
def playing(folder, out, *options: str):
    command = ["play", str(folder / "world"), "--data", str(folder / "data"), "--no-browser", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-c", TELL_MODULES, *command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background inherits "ignore"
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        assert found, line + process.stderr.read()
        yield process, int(found[1])
    finally:
        process.kill()
        process.communicate()


async def ask(socket, wishes: list[dict]) -> None:
    for number, wish in enumerate(wishes, 1):
        await socket.send(json.dumps({"id": number, **wish}))
        answer = await asyncio.wait_for(socket.recv(), 60)
        assert isinstance(answer, bytes) or json.loads(answer)["ok"], answer


async def play(port: int, frames: int, *, then=None) -> int | None:
    """Record so many steps as an episode; then: done instead of ending the recording. Returns the closing code."""
    async with websockets.connect(f"ws://127.0.0.1:{port}/ws", compression=None) as socket:
        await asyncio.wait_for(socket.recv(), 60)
        wishes = [{"do": "reset"}, {"do": "record", "on": True}, *[{"do": "step", "action": [0, 1, 0, 0]}] * frames]
        await ask(socket, wishes if then else [*wishes, {"do": "record", "on": False}])
        if then is None:
            return None
        then()
        await asyncio.wait_for(socket.wait_closed(), 30)
        return socket.close_code


def lengths(path) -> list[int]:
    return [episode.length for episode in Dataset.open(path, strict=True).episodes]


def test_ctrl_c_ends_it_cleanly_and_only_what_is_needed_was_loaded(folder, tmp_path):
    with playing(folder, tmp_path / "played", "--port", "0") as (process, port):
        assert b"<html" in urllib.request.urlopen(f"http://127.0.0.1:{port}/").read()
        asyncio.run(play(port, 4))
        process.send_signal(signal.SIGINT)
        said, complaints = process.communicate(timeout=30)
    assert process.returncode == 130
    assert complaints.strip() == "stopped"
    modules = set(said.partition("MODULES")[2].split())
    assert "torch" in modules
    assert not modules & {"lightning_fabric", "vector_quantize_pytorch", "torchmetrics", "matplotlib", "oneiros.train"}
    assert lengths(tmp_path / "played") == [5]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_and_a_closed_terminal_save_what_is_being_recorded(folder, tmp_path, number):
    with playing(folder, tmp_path / "played", "--port", "0") as (process, port):
        assert asyncio.run(play(port, 6, then=lambda: process.send_signal(number))) == 1012
        process.communicate(timeout=30)
    assert lengths(tmp_path / "played") == [7]


def test_an_address_for_the_network_has_a_token_and_a_warning(folder, tmp_path):
    with playing(folder, tmp_path / "played", "--port", "0", "--host", "0.0.0.0") as (process, port):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/")
        process.send_signal(signal.SIGTERM)
        _, complaints = process.communicate(timeout=30)
    assert process.returncode == 143
    assert re.fullmatch(r"Warning: whoever can reach .*\nstopped\n", complaints)


def test_killed_and_started_again_it_goes_on_where_it_was(folder, tmp_path):
    with playing(folder, tmp_path / "played", "--port", "0") as (process, port):
        asyncio.run(play(port, 3))
        asyncio.run(play(port, 6, then=process.kill))
        process.wait(10)
    assert lengths(tmp_path / "played") == [4]
    with playing(folder, tmp_path / "played", "--port", str(port)) as (process, again):
        assert again == port
        asyncio.run(play(port, 5))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert lengths(tmp_path / "played") == [4, 6]


def test_the_page_is_served_before_torch_is_imported():
    script = "import sys; import oneiros.cli.playing.browser; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "oneiros.web.server" in loaded
    assert not {"torch", "gymnasium", "av", "pyarrow", "vizdoom", "lightning_fabric"} & set(loaded)
