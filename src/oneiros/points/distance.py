"""How far a cloud lies from those that a segmenter was trained on, told before it is labelled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from oneiros.console import Track, show, silent
from oneiros.data.clouds.formats import open_cloud
from oneiros.points.profile import CloudProfile
from oneiros.points.segmenter import Segmenter
from oneiros.run_folder import CloudOrigin

if TYPE_CHECKING:
    from rich.table import Table

_THINNEST, _DENSEST = 0.04, 4.0  # times the density of the training clouds; training thins fields down to the former
_GAIN = 3.0  # times the intensities of the training clouds, for models that look at them as they are
_TALLER = 2.0  # times the heights of the training clouds
_SHARE = 0.25  # of pulses of one return, more or fewer than in training


@dataclass(frozen=True)
class Difference:
    """One thing that clouds are compared by. trained, here: in words. note: what it means, empty where all is well.

    far: whether labels are not to be trusted for it."""

    what: str
    trained: str
    here: str
    note: str = ""
    far: bool = False


def trained_on(origin: CloudOrigin) -> tuple[CloudProfile, ...]:
    """What the clouds were like that a run learned from; none for runs made before that was kept."""
    return tuple(CloudProfile.from_json(values) for values in origin.profiles)


def differences(model: Segmenter, trained: Sequence[CloudProfile], here: CloudProfile) -> tuple[Difference, ...]:
    """Of a cloud and those of the training, of which there is at least one."""
    features = model.config.features
    return tuple(
        [
            _density(trained, here),
            *_intensity(features, trained, here),
            *_returns(features, trained, here),
            *_colour(features, trained, here),
            _heights(trained, here),
            *_unit(here),
        ]
    )


def compare(
    model: Segmenter,
    origin: CloudOrigin,
    clouds: Sequence[Path],
    *,
    strict: bool,
    columns: str = "",
    track: Track = silent,
) -> dict[Path, CloudProfile]:
    """Look at clouds, print in one table how far they lie from those of the training, and return what they are like.

    Clouds that cannot be read, or hold no points, are passed over here. ValueError, with `strict`, for one that is too
    far. columns: of texts. origin: of the run; one that does not tell what its clouds were like prints nothing.
    """
    trained, profiles = trained_on(origin), {}
    advance = track("looking at clouds", len(clouds))
    for path in clouds:
        with suppress(ValueError, OSError):
            file = open_cloud(path, columns)
            if file.num_points:
                profiles[path] = CloudProfile.of_file(file)
        advance(1)
    if trained:
        found = {path: differences(model, trained, profile) for path, profile in profiles.items()}
        if (table := difference_table(found)) is not None:
            show(table)
        if strict:
            for path, rows in found.items():
                check_near(path, rows)
    return profiles


def check_near(path: Path, found: Sequence[Difference]) -> None:
    """ValueError, for `--strict`, where a difference is too far."""
    for each in found:
        if each.far:
            raise ValueError(f"{path}: {each.what} is {each.here}, in training {each.trained}: {each.note} (--strict)")


def difference_table(found: Mapping[Path, Sequence[Difference]]) -> Table | None:
    """A row for each difference; of several clouds, only for those that have a note. None without rows."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(
        title="beside the clouds of the training", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD
    )
    several = len(found) > 1
    for head in (*(["cloud"] if several else []), "", "", "in training", "here", ""):
        drawn.add_column(head)
    for path, rows in found.items():
        for row in rows:
            if several and not row.note:
                continue
            mark = Text("✗", "red") if row.far else Text("!", "yellow") if row.note else Text("✓", "green")
            note = Text(row.note, "red" if row.far else "yellow")
            drawn.add_row(*([path.name] if several else []), mark, row.what, row.trained, row.here, note)
    return drawn if drawn.row_count else None


def _span(values: Sequence[float], digits: int = 3) -> str:
    low, high = (f"{value:.{digits}g}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _density(trained: Sequence[CloudProfile], here: CloudProfile) -> Difference:
    known = [each.density for each in trained]
    said = f"{_span(known)} points/m²", f"{here.density:.3g} points/m²"
    if here.density < _THINNEST * min(known):
        return Difference("density", *said, "thinner than anything it learned from", True)
    if here.density > _DENSEST * max(known):
        return Difference("density", *said, "denser than anything it learned from; cells average it")
    return Difference("density", *said)


def _intensity(features: Sequence[str], trained: Sequence[CloudProfile], here: CloudProfile) -> Iterator[Difference]:
    known = [each.quantiles["intensity"] for each in trained if "intensity" in each.quantiles]
    if not known or not {"intensity", "intensity_rank"} & set(features):
        return
    middles = [each[len(each) // 2] for each in known]
    said = f"median {_span(middles)}"
    found = here.quantiles.get("intensity")
    ranked = "intensity_rank" in features
    if found is None:
        note = "labelled without it, by shape alone" if ranked else "the model needs it"
        yield Difference("intensity", said, "none", note, not ranked)
        return
    middle = found[len(found) // 2]
    far = not ranked and not min(middles) / _GAIN <= middle <= max(middles) * _GAIN
    note = "another scale, and the model takes intensities as they are" if far else ""
    yield Difference("intensity", said, f"median {middle:.3g}" + (", ranked" if ranked else ""), note, far)


def _returns(features: Sequence[str], trained: Sequence[CloudProfile], here: CloudProfile) -> Iterator[Difference]:
    known = [each.returns[0] for each in trained if each.returns]
    if not known or not {"returns", "echoes"} & set(features):
        return
    said = f"{min(known):.0%} to {max(known):.0%} single" if min(known) < max(known) else f"{known[0]:.0%} single"
    needed = "returns" in features
    if not here.returns:
        note = "labelled without them" if not needed else "the model needs them"
        yield Difference("returns", said, "not told, or single", note, needed)
        return
    apart = not min(known) - _SHARE <= here.returns[0] <= max(known) + _SHARE
    yield Difference("returns", said, f"{here.returns[0]:.0%} single", "another mix of returns" if apart else "")


def _colour(features: Sequence[str], trained: Sequence[CloudProfile], here: CloudProfile) -> Iterator[Difference]:
    if not {"colour", "colour_rank"} & set(features):
        return
    depth = {0: "none", 1: "from 0 to 1", 255: "8 bits", 65535: "16 bits"}
    said = ", ".join(dict.fromkeys(depth[each.full_colour] for each in trained))
    there = "red" in here.quantiles
    needed = "colour" in features
    note = "" if there else "the model needs them" if needed else "labelled without them"
    yield Difference("colours", said, depth[here.full_colour] if there else "none", note, not there and needed)


def _heights(trained: Sequence[CloudProfile], here: CloudProfile) -> Difference:
    known = [each.heights[2] for each in trained]
    said = f"up to {max(known):.3g} m", f"up to {here.heights[2]:.3g} m"
    far = here.heights[2] > _TALLER * max(known)
    return Difference("heights", *said, "taller than anything it learned from" if far else "")


def _unit(here: CloudProfile) -> Iterator[Difference]:
    if not here.unit:
        yield Difference("unit", "metre", "not told", "taken for metres")
    elif here.unit != "metre":
        yield Difference("unit", "metre", here.unit, "brought to metres inside, written back as it is")
