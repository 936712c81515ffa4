"""python -m tests.fuzz N [--seed S] [--kinds KIND ...] [--workers W] [--out FOLDER]

Spoils N files and prints what came of it; failing inputs stay in the folder. N = 0 spoils nothing: all must succeed.
`--case KIND SEED` runs one case again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.fuzz.cases import KINDS, Case, make_cases, make_controls, make_samples
from tests.fuzz.run import complaint, groups, is_good, run_cases, table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("count", type=int, nargs="?", default=300)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--kinds", nargs="*", default=[], choices=[*KINDS])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--case", nargs=2, metavar=("KIND", "SEED"))
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="fuzz-"))
    samples = make_samples(work / "samples")
    cases = make_cases(arguments.count, arguments.seed, tuple(arguments.kinds))
    if not arguments.count:
        cases = make_controls()
    if arguments.case:
        cases = [Case(*arguments.case)]
    arguments.out.mkdir(parents=True, exist_ok=True)

    def keep(result: dict) -> None:
        if is_good(result):
            if arguments.case:
                print(complaint(result))
            return
        name = f"{result['outcome']}-{result['kind']}-{result['seed']}".replace(" ", "_")
        (arguments.out / f"{name}.txt").write_text(complaint(result))
        if result["folder"]:
            shutil.rmtree(arguments.out / name, ignore_errors=True)
            shutil.move(result["folder"], arguments.out / name)
        print(complaint(result).partition("\n")[0], flush=True)

    results = run_cases(cases, samples, work, workers=min(arguments.workers, len(cases)), each=keep)
    shutil.rmtree(work, ignore_errors=True)
    print(groups(results), table(results), sep="\n\n")
    longest = max(results, key=lambda result: result["seconds"])
    print(f"slowest: {longest['seconds']} s ({longest['kind']} {longest['seed']}); failing inputs: {arguments.out}")
    sys.exit(not all(is_good(result) for result in results))


if __name__ == "__main__":
    main()
