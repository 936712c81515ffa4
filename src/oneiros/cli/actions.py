"""`oneiros actions`: what was done in films, told from what moves in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    import numpy as np

    from oneiros.console import Advance
    from oneiros.data.episodes.dataset import Dataset
    from oneiros.world.inverse.motion import Watched

_DESCRIPTION = """Infer what was done in films from what moves in them. The dataset stays as it is.

  oneiros actions data --out told                     infer the actions that are not known from those that are
  oneiros actions data --labelled 0-6 --out told      infer those of all episodes but 0 to 6
  oneiros actions data --latent 8 --out coded         films alone: eight codes of what can happen, as actions 1 to 8
  oneiros actions coded --map data --labelled 0-4     which of data's actions each code stands for

A recorded action is never changed; each inferred one is written with how sure it is (column action_confidence: 1 is
recorded, 0 not known). A world learns from all of them, and from frames whose actions are not known.
"""


@dataclass(frozen=True)
class Actions:
    data: Annotated[Path, tyro.conf.Positional]
    """A LeRobot dataset (v3.0), such as `oneiros record` and `oneiros import` write."""
    out: Path | None = None
    """The new dataset's folder: new or empty."""
    labelled: str | None = None
    """Episodes whose actions are to be believed, such as 0-6,9. Default: those whose actions are all recorded."""
    latent: int | None = None
    """So many codes learned from the films alone, in the place of actions."""
    map: Path | None = None
    """The dataset of the same episodes with its real actions, to compare codes with."""
    least_sure: float = 0.0
    """Inferred actions that are less sure stay unknown."""
    camera: str | None = None
    """The dataset's camera to look at. Default: its first."""
    steps: int | None = None
    """Of training. Default: 500, 1000 with --latent."""
    seed: int = 0
    """Of all that is random."""


def main(arguments: list[str]) -> None:
    infer_actions(tyro.cli(Actions, prog="oneiros actions", args=arguments, description=_DESCRIPTION))


def infer_actions(command: Actions) -> None:
    """Raises ValueError for data that do not allow it, OSError for a full disk; the dataset appears whole or not."""
    from oneiros.data.episodes.dataset import Dataset
    from oneiros.world.inverse.rewrite import check_target

    if command.steps is not None and command.steps < 1:
        raise ValueError(f"steps is {command.steps}; it must be at least 1")
    dataset = Dataset.open(command.data)
    if command.map is not None:
        _print_map(command, dataset, Dataset.open(command.map))
        return
    if command.out is None:
        raise ValueError("the new dataset needs a place: --out NEW")
    check_target(dataset, command.out)
    if command.latent is not None:
        _write_codes(command, dataset, command.out)
    else:
        _write_inferred(command, dataset, command.out)
    print(f"Next: oneiros inspect {command.out}")


def _write_inferred(command: Actions, dataset: Dataset, out: Path) -> None:
    from oneiros.console import bars
    from oneiros.world.inverse.rewrite import write_with_actions
    from oneiros.world.inverse.training import STEPS, complete, learn

    if (spec := dataset.action_spec) is None:
        raise ValueError(f"{dataset.path}: has no actions to learn from; --latent 8 learns codes from films alone")
    labelled = _labelled(command, dataset)
    kept = {each.index: _recorded(command, dataset, each.index, labelled) for each in dataset.episodes}
    if all(each.all() for each in kept.values()):
        raise ValueError(f"{dataset.path}: every action is recorded; --labelled 0-6 believes only these episodes")
    with bars() as track:
        seen = _watch(command, dataset, labelled, track("looking at labelled episodes", len(labelled)), actions=True)
        inverse = learn([*seen.values()], spec, steps=command.steps or STEPS, seed=command.seed, track=track)
        advance, done, inferred, unknown, sure = track("telling what was done", len(kept)), {}, 0, 0, 0.0
        for index, recorded in kept.items():
            watched = None if recorded.all() else _watch(command, dataset, [index]).get(index)
            told = inverse.tell(watched) if watched is not None and len(watched.motion) else None
            done[index] = complete(_own(dataset, index), recorded, told, least_sure=command.least_sure)
            confidence = done[index][1][~recorded]
            inferred, unknown = inferred + int((confidence > 0).sum()), unknown + int((confidence == 0).sum())
            sure += float(confidence.sum())
            advance(1)
        write_with_actions(dataset, out, spec, done)
    for name, score in inverse.scores.items():
        usual = inverse.constant[name]
        print(f"{name} on labelled episodes that were not seen: {score:.3f} (saying the same always: {usual:.3f})")
    whole = sum(each.all() for each in kept.values())
    print(
        f"{out}: {whole} of {len(kept)} episodes as they were recorded; {inferred:,} actions inferred, on average "
        f"{sure / max(1, inferred):.0%} sure; {unknown:,} stay unknown"
    )


def _write_codes(command: Actions, dataset: Dataset, out: Path) -> None:
    import numpy as np

    from oneiros.console import bars
    from oneiros.data.episodes.clips import spread
    from oneiros.records import ActionSpec
    from oneiros.world.inverse.latent import MOST_ROWS, STEPS, learn_codes
    from oneiros.world.inverse.rewrite import write_with_actions

    count = command.latent or 0
    if not 2 <= count <= 64:
        raise ValueError(f"latent is {count}; there may be 2 to 64 codes")
    indices = [episode.index for episode in dataset.episodes]
    mean = sum(episode.length for episode in dataset.episodes) / len(indices)
    some = [indices[place] for place in spread(max(2, int(MOST_ROWS / mean)), len(indices))]
    spec = ActionSpec("discrete", tuple(str(code) for code in range(1, count + 1)))
    with bars() as track:
        seen = _watch(command, dataset, some, track("looking at episodes", len(some)))
        model, told = learn_codes([*seen.values()], count, steps=command.steps or STEPS, seed=command.seed, track=track)
        advance, done = track("telling what happened", len(indices)), {}
        for index in indices:
            length = next(episode.length for episode in dataset.episodes if episode.index == index)
            watched = seen[index] if index in seen else _watch(command, dataset, [index]).get(index)
            codes = np.zeros(length, np.int64)
            if watched is not None and len(watched.motion):
                codes[:-1] = model.codes(watched.motion).numpy()
                codes[-1] = codes[-2]
            done[index] = codes, np.full(length, watched is not None, np.float32)
            advance(1)
        write_with_actions(dataset, out, spec, done)
    shares = np.bincount(np.concatenate([codes for codes, _ in done.values()]), minlength=count)
    shares = shares / shares.sum()
    used = int((shares > 0.01).sum())
    print(
        f"{used} of {count} codes are used in more than 1% of the rows: {', '.join(f'{each:.0%}' for each in shares)}"
    )
    print(f"of what moves, {told[0]:.0%} is told with the codes, {told[1]:.0%} with those of other steps")
    if told[0] - told[1] < 0.02:
        print("the codes say next to nothing of what moves: look at another camera, or ask for more codes")


def _print_map(command: Actions, coded: Dataset, real: Dataset) -> None:
    import numpy as np

    from oneiros.cli.tables import table
    from oneiros.console import show
    from oneiros.world.inverse.latent import code_table

    if coded.action_spec is None or coded.action_spec.kind != "discrete":
        raise ValueError(f"{coded.path}: has no codes; make them with --latent 8")
    if real.action_spec is None or real.action_spec.kind == "continuous":
        raise ValueError(f"{real.path}: has no choices or keys that codes could stand for")
    lengths = {episode.index: episode.length for episode in real.episodes}
    labelled = [index for index in _labelled(command, real) if index in {each.index for each in coded.episodes}]
    for episode in coded.episodes:
        if episode.index in labelled and lengths[episode.index] != episode.length:
            raise ValueError(
                f"{real.path}: episode {episode.index} has {lengths[episode.index]} rows, in {coded.path} "
                f"{episode.length}; the two are not of the same films"
            )
    names, labels = _chords(real, labelled)
    codes = [_own(coded, index)[:-1] for index in labelled]
    counts, right, usual = code_table(codes, labels, num_codes=coded.action_spec.size, num_labels=len(names))
    shown = table("codes by what was done", "code", "stands for", *names)
    for name, row in zip(coded.action_spec.names, counts, strict=True):
        stands = names[int(np.argmax(row))] if row.sum() else "(unused)"
        shown.add_row(name, stands, *map(str, row.tolist()))
    show(shown, "")
    print(
        f"each of {len(labelled)} episodes mapped by the others: {right:.1%} of the steps are right (saying what is "
        f"most frequent always: {usual:.1%})"
    )


def _chords(dataset: Dataset, indices: list[int]) -> tuple[list[str], list[np.ndarray]]:
    """What was done in each step of these episodes, keys held together as one: names, and numbers of them (T - 1,)."""
    import numpy as np

    spec = dataset.action_spec
    assert spec is not None
    done = [_own(dataset, index)[:-1] for index in indices]
    if spec.kind == "discrete":
        return [*spec.names], done
    chords, numbers = np.unique(np.concatenate(done), axis=0, return_inverse=True)
    names = ["+".join(name for name, held in zip(spec.names, row, strict=True) if held) or "nothing" for row in chords]
    return names, np.split(numbers.reshape(-1), np.cumsum([len(each) for each in done])[:-1])


def _labelled(command: Actions, dataset: Dataset) -> list[int]:
    """Episodes whose actions are to be believed. ValueError where one of them is not there, or has not all."""
    indices = [episode.index for episode in dataset.episodes]
    whole = [index for index in indices if (sure := dataset.confidence(index)) is None or (sure == 1).all()]
    if command.labelled is None:
        return whole
    chosen: list[int] = []
    for part in command.labelled.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdigit() or not (last or first).isdigit():
            raise ValueError(f"--labelled is {command.labelled!r}; write numbers of episodes, such as 0-6,9")
        chosen += [index for index in indices if int(first) <= index <= int(last or first)]
    if not chosen:
        raise ValueError(f"{dataset.path}: has no episode {command.labelled}; it has {indices[0]} to {indices[-1]}")
    if lacking := [index for index in chosen if index not in whole]:
        raise ValueError(f"{dataset.path}: episode {lacking[0]} cannot be believed: not all its actions are recorded")
    return list(dict.fromkeys(chosen))


def _recorded(command: Actions, dataset: Dataset, index: int, labelled: Sequence[int]) -> np.ndarray:
    """Which rows' actions are recorded and to be believed: bool (T,)."""
    import numpy as np

    sure = dataset.confidence(index)
    rows = np.ones(next(each.length for each in dataset.episodes if each.index == index), bool)
    believed = command.labelled is None or index in labelled
    return (rows if sure is None else sure == 1) & believed


def _own(dataset: Dataset, index: int) -> np.ndarray:
    actions = dataset.actions(index)
    assert actions is not None
    return actions


def _watch(
    command: Actions,
    dataset: Dataset,
    indices: Sequence[int],
    advance: Advance = lambda _: None,
    *,
    actions: bool = False,
) -> dict[int, Watched]:
    """Those of the episodes that can be decoded."""
    from oneiros.console import say
    from oneiros.data.video import DamagedVideoError
    from oneiros.world.inverse.motion import watch

    camera, found = dataset.camera(command.camera), {}
    for index in indices:
        try:
            found[index] = watch(dataset, camera, index, actions=actions)
        except DamagedVideoError as error:
            say(f"no action is told of episode {index} ({error})")
        advance(1)
    return found
