"""python -m tests.fuzz.kill N [--seed S] [--actors ACTOR ...]

Kills recording, training and playing with SIGKILL, N times, by the clock or at one of their renames and flushes, and
looks at what is there then: every episode that was said to be saved, a run that goes on bit for bit, no process, no
half-written folder. What is killed and what looks are forks of this process, which has imported everything once.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.worker import import_everything

ENVIRONMENT = "gym:tests.envs.echo_env:EchoBox-v0"
EPISODES, MOST = 3, 12  # episodes of one attempt; of a dataset, which then is left for a new one
_CALLS = ("replace", "fsync", "unlink", "rename")

Say = Callable[[], None]


# -- what is killed, and what is looked at then ------------------------------------------------------------------------


class Recording:
    """`oneiros record` into one folder, again and again; `reference` has the same episodes, recorded undisturbed."""

    environment = ENVIRONMENT

    def __init__(self, folder: Path, reference: Path) -> None:
        self.data, self.reference, self.said, self.spent = folder / "data", reference, 0, False

    def attempt(self, say: Say) -> None:
        import oneiros.envs.record as module
        from oneiros.cli import main

        real = module.record_episode

        def record_episode(*arguments: Any, **options: Any) -> Any:
            tally = real(*arguments, **options)
            say()
            return tally

        module.record_episode = record_episode
        main(["record", self.environment, "--out", str(self.data), "--episodes", str(EPISODES), *_SMALL])

    def reopen(self) -> None:
        """As the next recording begins, which mends what the kill left."""
        from oneiros.data.episodes.writer import DatasetWriter
        from oneiros.envs.make import make_env

        env = make_env(self.environment, height=32, width=32)
        try:
            DatasetWriter.of(env, self.data, outcomes=True, robot_type=self.environment).close()
        finally:
            env.close()

    def look(self) -> None:
        """Opened anew, the dataset has all that was said to be saved, as it was, and no trace of the kill."""
        import numpy as np

        from oneiros.data.episodes.dataset import Dataset

        self.reopen()
        if not self.said and not _num_episodes(self.data):
            return  # killed before the first was saved
        found, expected = Dataset.open(self.data, strict=True), Dataset.open(self.reference, strict=True)
        assert len(found.episodes) >= self.said, f"{self.said} episodes were saved, {len(found.episodes)} are there"
        for ours, theirs in zip(found.episodes, expected.episodes, strict=False):
            assert np.array_equal(found.actions(ours.index), expected.actions(theirs.index)), f"actions of {ours.index}"
            assert np.array_equal(found.frames(ours.index), expected.frames(theirs.index)), f"frames of {ours.index}"
        assert not (problems := _damage(found)), problems

    def learn(self, said: int) -> None:
        self.said += said
        self.spent = self.said >= MOST - EPISODES

    def leftovers(self) -> list[str]:
        return [path.name for path in self.data.parent.rglob(".partial*")]


class DoomRecording(Recording):
    """The same of ViZDoom, whose engine is a process of its own."""

    environment = "doom:basic"


class Training:
    """Toy training, killed and resumed until it is done; `reference` is the run that was never killed."""

    def __init__(self, folder: Path, reference: Path) -> None:
        self.out, self.reference, self.kills, self.spent = folder / "run", reference, 0, False

    def attempt(self, say: Say) -> None:
        from tests.train import toy

        toy.train(self.out, resume=(self.out / "state.pt").exists())

    def look(self) -> None:
        """What was saved can be loaded; after the last kill the run is finished and compared."""
        from oneiros.train.state import load_state
        from tests.train.test_resume import assert_same_run

        if (self.out / "state.pt").exists():
            load_state(self.out)
        if self.kills >= 3:
            self.attempt(lambda: None)
            assert_same_run(self.out, self.reference)
            assert not self.leftovers(), self.leftovers()

    def learn(self, said: int) -> None:
        self.kills, self.spent = self.kills + 1, self.kills >= 2

    def leftovers(self) -> list[str]:
        return [path.name for path in self.out.rglob(".*")] if self.spent else []


class Playing(Recording):
    """The player's server, while somebody records episodes on its page."""

    def attempt(self, say: Say) -> None:
        from oneiros.cli.playing.browser import play_in_browser, real_game
        from oneiros.web.choices import Choice

        read, write = os.pipe()
        if not os.fork():  # the page
            try:
                os.close(write)
                signal.alarm(60)
                _visit(read, say)
            except OSError:
                pass  # the server is dead
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(read)
        os.dup2(write, 1)
        os.close(write)
        sys.stdout = os.fdopen(1, "w")
        play_in_browser(
            {"": Choice(ENVIRONMENT, lambda: real_game(ENVIRONMENT, height=32, width=32))},
            record_to=self.data,
            host="127.0.0.1",
            port=0,
            sessions=2,
            open_page=False,
        )

    def reopen(self) -> None:
        from oneiros.cli.playing.browser import real_game
        from oneiros.data.episodes.writer import DatasetWriter

        DatasetWriter.of(real_game(ENVIRONMENT, height=32, width=32), self.data, outcomes=True).close()

    def look(self) -> None:
        """Episodes are whole; what is played has no reference."""
        from oneiros.data.episodes.dataset import Dataset

        self.reopen()
        if not self.said and not _num_episodes(self.data):
            return
        found = Dataset.open(self.data, strict=True)
        assert len(found.episodes) >= self.said, f"{self.said} episodes were saved, {len(found.episodes)} are there"
        assert all(len(found.frames(each.index)) == each.length == 4 for each in found.episodes)
        assert not (problems := _damage(found)), problems


# What inspect says of few short episodes, and of a film whose last episode never was, which readers leave alone.
_HARMLESS = ("there is one episode", "every action is the same", "at its end that are no episode's")


def _damage(found: Any) -> list[str]:
    """What inspect finds wrong with a dataset and a kill may have done."""
    from oneiros.data.episodes.inspection.checks import run_checks

    problems = [problem.text for check in run_checks(found) for problem in check.problems]
    return [each for each in problems if not any(harmless in each for harmless in _HARMLESS)]


def _visit(url: int, say: Say) -> None:
    """Record episodes of three steps until the server is gone."""
    from websockets.sync.client import connect

    line = os.fdopen(url).readline()
    port = re.search(r"http://127\.0\.0\.1:(\d+)(/\S*)?", line)
    if not port:
        return
    with connect(f"ws://127.0.0.1:{port[1]}/ws", compression=None) as socket:
        socket.recv()
        step = {"do": "step", "action": [0.0] * 4}
        wishes = ({"do": "reset"}, {"do": "record", "on": True}, step, step, step, {"do": "record", "on": False})
        numbers = count(1)
        while True:
            for wish in wishes:
                socket.send(json.dumps({"id": next(numbers), **wish}))
                answer = socket.recv()
                assert isinstance(answer, bytes) or json.loads(answer)["ok"], answer
            say()


def _num_episodes(data: Path) -> int:
    info = data / "meta" / "info.json"
    return json.loads(info.read_text())["total_episodes"] if info.exists() else 0


_SMALL = ("--height", "32", "--width", "32", "--max-steps", "8")
ACTORS = {"record": Recording, "train": Training, "play": Playing, "doom": DoomRecording}


# -- killing -----------------------------------------------------------------------------------------------------------


def kill(actor: Any, random: Random, usual: float) -> tuple[list[str], float]:
    """Start an attempt in a process of its own and kill it; what is wrong then, and how long the attempt lived."""
    call = random.randrange(1, 60) if random.random() < 0.5 else 0
    delay, before = random.uniform(0, 1.1 * usual), random.random() < 0.5
    read, write = os.pipe()
    began = time.monotonic()
    pid = _fork(lambda: _attempt(actor, write, call, before))
    os.close(write)
    while time.monotonic() - began < (15 if call else delay) and not os.waitid(
        os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT
    ):
        time.sleep(0.002)
    lived = time.monotonic() - began
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    wrong = [f"the attempt itself failed: {status}"] if os.WIFEXITED(status) and os.WEXITSTATUS(status) else []
    left = _processes(pid, until=time.monotonic() + 20)
    wrong += [f"{len(left)} processes are left: {left}"] if left else []
    said = len(os.read(read, 1 << 16)) if not left else 0
    os.close(read)
    actor.learn(said)
    looking = _fork(actor.look)
    _, status = os.waitpid(looking, 0)
    if status:
        wrong.append("what is left is wrong (see above)")
    wrong += [f"folders are left: {names}" for names in [actor.leftovers()] if names]
    return wrong, lived


def _attempt(actor: Any, write: int, call: int, before: bool) -> None:
    os.setsid()
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    if call:
        _die_at(call, before)
    actor.attempt(lambda: os.write(write, b"."))


def _die_at(call: int, before: bool) -> None:
    """Let this process be killed at its `call`th change of a folder, before or after it."""
    left = [call]

    def dying(real: Callable) -> Callable:
        def change(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] == 0 and before:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*arguments, **options)
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return change

    for name in _CALLS:
        setattr(os, name, dying(getattr(os, name)))


def _fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _processes(session: int, *, until: float) -> list[str]:
    """Who is left of a session, once they had time to notice."""
    while True:
        left = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                name, _, rest = path.read_text().rpartition(")")
            except OSError:
                continue
            if int(rest.split()[3]) == session and rest.split()[0] != "Z":
                left.append(name)
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.02)


def _made(make: Callable[[], None]) -> float:
    """The seconds that something takes in a process of its own."""
    began = time.monotonic()
    _, status = os.waitpid(_fork(make), 0)
    assert status == 0, "what nobody killed has failed"
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.kill")
    parser.add_argument("kills", type=int, nargs="?", default=12)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--actors", nargs="*", default=["record", "train", "play"], choices=[*ACTORS])
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    import_everything()
    for name in ("oneiros.envs.record", "oneiros.web.server", "oneiros.cli.playing.browser", "oneiros.cli.record"):
        import_module(name)
    import_module("websockets.sync.client")
    random, work = Random(arguments.seed), Path(tempfile.mkdtemp(prefix="kill-"))
    references, usual, actors = {}, {}, {}
    for name in arguments.actors:
        references[name] = work / name
        actor = ACTORS[name](work / "whole" / name, work / name)
        usual[name] = 1.5 if name == "play" else _made(lambda actor=actor: _quietly(actor))
        if name != "play":
            for _ in range(MOST // EPISODES - 1 if name != "train" else 0):
                _made(lambda actor=actor: _quietly(actor))
            shutil.move(actor.out if name == "train" else actor.data, references[name])
    counts, failures = Counter(), []
    for number in range(arguments.kills):
        name = arguments.actors[number % len(arguments.actors)]
        if name not in actors or actors[name].spent:
            actors[name] = ACTORS[name](work / f"{name}-{number}", references[name])
        wrong, lived = kill(actors[name], random, usual[name])
        counts[name] += 1
        if arguments.verbose:
            print(f"{name}: lived {lived:.2f} s; {getattr(actors[name], 'said', '')}", flush=True)
        if wrong:
            failures.append(f"{name}, kill {number} after {lived:.2f} s: {'; '.join(wrong)}")
            print(failures[-1], flush=True)
            actors.pop(name)
    if not failures:
        shutil.rmtree(work, ignore_errors=True)
    print(f"{sum(counts.values())} kills ({', '.join(f'{n} of {name}' for name, n in counts.items())}): ", end="")
    print(f"{len(failures)} with a loss or something left{f', in {work}' if failures else ''}")
    sys.exit(bool(failures))


def _quietly(actor: Any) -> None:
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    actor.attempt(lambda: None)


if __name__ == "__main__":
    main()
