"""Many cases over a few workers, and the table of what came of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.fuzz.cases import CONTROL, Case
from tests.places import ROOT

GOOD = ("ok", "refused")
BAD = ("traceback", "abort", "hang", "memory", "code", "long", "harness")


def run_cases(
    cases: Sequence[Case],
    samples: Path,
    work: Path,
    *,
    workers: int,
    each: Callable[[dict], None] = lambda result: None,
) -> list[dict]:
    """The results of cases, in any order. A worker takes the next case when it is done with one."""
    waiting, results, lock = iter(cases), [], threading.Lock()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}

    def work_off() -> None:
        command = [sys.executable, "-m", "tests.fuzz.worker", str(samples), str(work)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
        ) as worker:
            assert worker.stdin is not None
            assert worker.stdout is not None
            while True:
                with lock:
                    case = next(waiting, None)
                if case is None:
                    break
                print(json.dumps(asdict(case)), file=worker.stdin, flush=True)
                result = json.loads(worker.stdout.readline())
                with lock:
                    results.append(result)
                    each(result)
            worker.stdin.close()

    threads = [threading.Thread(target=work_off) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(results) < len(cases):
        raise RuntimeError("a worker of the fuzzer itself died")
    return results


def is_good(result: dict) -> bool:
    return result["outcome"] == "ok" or (result["outcome"] == "refused" and not result["seed"].startswith(CONTROL))


def table(results: Sequence[dict]) -> str:
    """Kinds by outcomes."""
    counts = Counter((result["kind"], result["outcome"]) for result in results)
    columns = [*GOOD, *(name for name in BAD if any(outcome == name for _, outcome in counts))]
    kinds = sorted({kind for kind, _ in counts})
    rows = [("", *columns)]
    rows += [(kind, *(str(counts[kind, name] or "") for name in columns)) for kind in kinds]
    rows += [("all", *(str(sum(counts[kind, name] for kind in kinds)) for name in columns))]
    return "\n".join(f"{row[0]:<22}" + "".join(f"{cell:>11}" for cell in row[1:]) for row in rows)


def groups(results: Sequence[dict]) -> str:
    """What went wrong, alike together: a line each with how often, on what, where in the package and a case."""
    found: dict[tuple, list[dict]] = {}
    for result in results:
        if not is_good(result):
            places = re.findall(r'File "[^"]*src/oneiros/([^"]+)", line \d+, in (\w+)', result["said"])
            place = "/".join(places[-1]) if places else ""
            last = result["said"].rstrip().rpartition("\n")[2][:160]
            found.setdefault((result["outcome"], result["kind"], place, last.partition(":")[0]), []).append(result)
    lines = []
    for (outcome, kind, place, _), alike in sorted(found.items(), key=lambda item: -len(item[1])):
        last = alike[0]["said"].rstrip().rpartition("\n")[2][:160]
        lines.append(
            f"{len(alike)} x {outcome} of {kind} in {place}: {last}   ({alike[0]['seed']}: {alike[0]['what']})"
        )
    return "\n".join(lines)


def complaint(result: dict) -> str:
    """One line that finds a case again, and the end of what it said."""
    return (
        f"{result['outcome']}: {result['kind']} {result['seed']}: {result['what']} "
        f"({result['seconds']} s, {result['megabytes']} MB)\n{result['said'][-1500:]}"
    )
