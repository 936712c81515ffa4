"""Runs cases, each in a process of its own that may die, hang or eat memory: python -m tests.fuzz.worker.

The process imports everything once and is forked for each case, which takes milliseconds. Cases come as lines of JSON
on stdin, results go as lines of JSON to stdout.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from importlib import import_module
from pathlib import Path

from oneiros.console import in_one_line
from tests.fuzz.cases import Case
from tests.fuzz.mutations import CANARY

SECONDS = 20  # of computing
PATIENCE = 60  # seconds of the clock, which runs on while others compute
GIGABYTE = 1 << 30
_LONGEST_LINE = 80 * 24


def run(case: Case, samples: Path, work: Path) -> dict:
    """The outcome of a case: ok, refused (both good), or how it went wrong; and what was said."""
    folder = Path(tempfile.mkdtemp(prefix="case-", dir=work))
    said = folder.with_suffix(".said")
    before, began = _resident(), time.monotonic()
    pid = os.fork()
    if pid == 0:
        _child(case, samples, folder, said)
    status, used = _wait(pid, began + PATIENCE)
    text = said.read_text(errors="replace") if said.exists() else ""
    what, _, text = text.partition("\n")
    grown = used.ru_maxrss * 1024 - before
    outcome = _outcome(status, text, grown, ran=(folder / f"{CANARY}.ran").exists())
    result = {"kind": case.kind, "seed": case.seed, "outcome": outcome, "what": what, "said": text[-3000:]}
    result |= {"seconds": round(used.ru_utime + used.ru_stime, 2), "megabytes": round(grown / 1e6), "folder": ""}
    if outcome not in ("ok", "refused") and what:
        result["folder"] = str(folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    said.unlink(missing_ok=True)
    return result


def _child(case: Case, samples: Path, folder: Path, said: Path) -> None:
    code = 70
    try:
        sys.stdin.close()
        reader, what = case.prepare(samples, folder)
        output = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.write(output, f"{what}\n".encode("utf-8", "replace"))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(output, 2)
        os.chdir(folder)
        sys.path.insert(0, "")
        warnings.simplefilter("ignore")
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (_mapped() + 3 * GIGABYTE,) * 2)  # this machine is not only ours
        code = _call(reader, folder)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _call(reader, folder: Path) -> int:
    """As the command line: 0, or 2 with one line on stderr."""
    try:
        reader(folder)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except (ValueError, OSError) as error:
        print(in_one_line(f"oneiros: {error}"), file=sys.stderr)
        return 2
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _outcome(status: int, text: str, grown: int, *, ran: bool) -> str:
    if ran:
        return "code"
    if os.WIFSIGNALED(status):
        return "hang" if os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL) else "abort"
    if grown > GIGABYTE or "MemoryError" in text.rpartition("\n  ")[2]:
        return "memory"
    code = os.WEXITSTATUS(status)
    if code == 70:
        return "harness"
    if code == 0:
        return "ok"
    last = text.rstrip("\n").rpartition("\n")[2]
    if code != 2 or "Traceback (most recent call last)" in text or not last.startswith("oneiros: "):
        return "traceback"
    return "long" if len(last) > _LONGEST_LINE else "refused"


def _wait(pid: int, deadline: float) -> tuple[int, resource.struct_rusage]:
    pause = 0.002
    while time.monotonic() < deadline:
        done, status, used = os.wait4(pid, os.WNOHANG)
        if done:
            return status, used
        time.sleep(pause)
        pause = min(pause * 1.3, 0.05)
    os.kill(pid, signal.SIGKILL)
    _, status, used = os.wait4(pid, 0)
    return status, used


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _mapped() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def import_everything() -> None:
    """What cases need, so that a fork has it; nothing here starts a thread."""
    for name in (*_LIBRARIES, *(f"oneiros.{module}" for module in _MODULES)):
        import_module(name)
    import torch

    torch.set_num_threads(1)


_LIBRARIES = ("av", "laspy", "lightning_fabric", "matplotlib.pyplot", "numba", "pyarrow.parquet", "scipy.spatial")
_LIBRARIES += ("torch._dynamo",)
_MODULES = (
    *(f"cli.{name}" for name in ("clouds", "dream", "eval", "inspect", "points.inspect_cloud", "segment", "train")),
    *(
        "data.clouds.las.reader",
        "data.clouds.picture",
        "data.episodes.inspection.contact_sheet",
        "data.episodes.writer",
    ),
    *("loading", "points.labelling", "policy.cloning", "policy.model", "train.fit", "world.dream"),
    "world.training.world",
)


def main() -> None:
    samples, work = map(Path, sys.argv[1:3])
    import_everything()
    gc.freeze()  # what forks share is not copied only because one of them collects garbage
    for line in sys.stdin:
        print(json.dumps(run(Case(**json.loads(line)), samples, work)), flush=True)
    os._exit(0)  # libraries would complain of what is frozen


if __name__ == "__main__":
    main()
