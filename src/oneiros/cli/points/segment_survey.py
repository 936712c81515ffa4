"""`oneiros segment FOLDER`: all tiles of a survey, by as many processes and machines as there are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oneiros.points.labelling import Labelling


def segment_survey(
    run: Path,
    copies: dict[Path, Path],
    out: Path,
    how: Labelling,
    *,
    columns: str,
    strict: bool,
    workers: int,
    cluster: str | None,
    device: str,
) -> None:
    """Label what of the list is not done, and sum up.

    Raises ValueError at the end where tiles could not be labelled; all others are done then.
    """
    from oneiros.cluster import work_through
    from oneiros.console import bars, printable, say
    from oneiros.points.survey import TileJob, TileResult, label_tile, plan, waiting

    jobs = plan(run, copies, out, how, device=device, columns=columns)
    _compare(run, jobs[0].profile, out, strict=strict)
    results: dict[Path, TileResult] = {}
    with bars() as track:
        advance = track("labelling tiles", len(jobs))

        def go_through(some: list[TileJob]) -> None:
            for job, result in work_through(label_tile, some, workers=workers, cluster=cluster):
                results[job.source] = result
                if result.error:
                    say(printable(result.error))
                if not result.taken:
                    advance(1)

        go_through(jobs)
        if taken := [waiting(job) for job in jobs if results[job.source].taken]:
            say(f"{len(taken)} tiles are another process's work at the moment")
            go_through(taken)
    print(printable(_summary(list(results.values()), out)))
    if failed := [job.source.name for job in jobs if results[job.source].error]:
        raise ValueError(f"{len(failed)} of {len(jobs)} tiles are not labelled: {', '.join(failed)}")


def _compare(run: Path, profile: object, out: Path, *, strict: bool) -> None:
    """How far the survey as a whole lies from the clouds of the training."""
    from oneiros.console import show
    from oneiros.points.distance import check_near, difference_table, differences, trained_on
    from oneiros.points.labelling import load_segmenter
    from oneiros.points.profile import CloudProfile
    from oneiros.run_folder import read_cloud_origin

    if not (trained := trained_on(read_cloud_origin(run))):
        return
    found = differences(load_segmenter(run), trained, CloudProfile.from_json(profile))  # type: ignore[arg-type]
    if (table := difference_table({out: found})) is not None:
        show(table)
    if strict:
        check_near(out, found)


def _summary(results: list, out: Path) -> str:
    counts: Counter[str] = Counter()
    for result in results:
        counts.update(result.counts or {})
    total, before = sum(counts.values()), sum(result.before for result in results)
    done = sum(result.counts is not None for result in results)
    empty = sum(result.counts == {} for result in results)
    shares = ", ".join(f"{name} {count / total:.1%}" for name, count in counts.items()) if total else "nothing"
    told = [f"{before:,} done before"] if before else []
    told += [f"{empty:,} without points, copied"] if empty else []
    said = f" ({', '.join(told)})" if told else ""
    return f"{out}: {done:,} tiles{said}, {total:,} points, {shares}"
