"""From classified clouds to a trained segmenter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from oneiros.console import say
from oneiros.data.clouds.checks import require_metres
from oneiros.data.clouds.classes import MAX_CODE, Grouping, parse_classes
from oneiros.data.clouds.formats import Cloud, open_cloud
from oneiros.disk import replacing
from oneiros.ops.neighbors import knn
from oneiros.points.cells import NOT_LEARNED, Cells, features_of, layout, make_cells, num_channels
from oneiros.points.evaluation.confusion import Confusion
from oneiros.points.evaluation.pictures import class_colours, triptych
from oneiros.points.fields import Fields
from oneiros.points.labelling import label_cells
from oneiros.points.landscapes import changed
from oneiros.points.nn.dense import DENSE, DensePointNet, DensePointNetConfig
from oneiros.points.nn.model_file import ModelFile
from oneiros.points.nn.unet import PRESETS as NETWORKS
from oneiros.points.nn.unet import PointUNetConfig
from oneiros.points.profile import CloudProfile
from oneiros.points.segmenter import Segmenter, SegmenterConfig
from oneiros.points.settings import SegmenterSettings
from oneiros.run_folder import CloudOrigin, read_cloud_origin, read_config
from oneiros.train.fit import FitResult
from oneiros.train.recipe import Recipe, train
from oneiros.train.warm_start import copy_weights

__all__ = ["SegmenterSettings", "prepare", "run"]

_FIELD_CELLS = 30  # radius of a receptive field
_SPACING_SAMPLE = 20_000  # points whose distance to their neighbour is looked at
_WIDE = 1200  # pixels: small pictures are enlarged towards this width
_PROFILES = 20  # clouds of the training whose profile is kept, at most
_HELD_OUT_SHARE = 0.2  # of a single cloud's length
_RARE = 0.05  # classes below this share of the cells weigh no more than if they had it


def run(settings: SegmenterSettings) -> FitResult:
    """Train a segmenter on classified clouds, some of them held out, into the run folder `settings.out`.

    Raises ValueError or OSError, in one line, for what is wrong with a cloud, the settings or the run folder.
    """
    return train(settings, prepare)


def prepare(settings: SegmenterSettings) -> Recipe:
    """The segmenter of the settings, and the receptive fields that it learns from."""
    torch.manual_seed(settings.seed)
    data = _read(settings)
    model = _make_model(settings, data)
    fields = Fields(
        data.train,
        features=model.config.features,
        num_classes=model.num_classes,
        radius=model.config.radius,
        grid=model.config.network.grid,
        max_points=model.config.max_points,
    )
    return Recipe(
        title="segmenter",
        model=model,
        num_samples=len(fields),
        make_batch=lambda indices, seeds: fields.batch(seeds.tolist()),
        save=partial(model.save, data=data.origin),
        measure=lambda step, picture: _measure(model, data.held_out, picture, settings.out / "kernels"),
    )


@dataclass(frozen=True)
class _Data:
    """Cells to learn from and cells to measure on. writes: each class's commonest code. origin: for config.json."""

    train: list[Cells]
    held_out: list[Cells]
    grouping: Grouping
    writes: tuple[int, ...]
    features: tuple[str, ...]
    grid: float
    origin: CloudOrigin


def _read(settings: SegmenterSettings) -> _Data:
    for name in ("grid", "radius"):
        value = getattr(settings, name)
        if value is not None and not 0 < value < np.inf:
            raise ValueError(f"--{name} is {value}; it must be above 0")
    grouping = parse_classes(settings.classes, settings.names)
    paths = settings.clouds
    held_out = _held_out(paths, settings.held_out)
    if settings.resume:
        _check_same_clouds(settings.out, paths, held_out)
    clouds = [_open(path, settings.columns) for path in paths]
    counts = np.sum([np.bincount(_classification(cloud), minlength=MAX_CODE + 1) for cloud in clouds], axis=0)
    writes = _commonest_codes(grouping, counts)
    labels = [grouping.labels(_classification(cloud)) for cloud in clouds]
    features, grid = settings.features or _features(clouds), settings.grid or _usual_grid(clouds)
    profiles = [CloudProfile.of(cloud) for cloud, path in zip(clouds, paths, strict=True) if path not in held_out]
    cells = [make_cells(cloud, grid, features, each) for cloud, each in zip(clouds, labels, strict=True)]
    train = [each for each, path in zip(cells, paths, strict=True) if path not in held_out]
    for number, (cloud, each, path) in enumerate(zip(clouds, labels, paths, strict=True)):
        if path in held_out or not len(clouds) > 1:
            continue
        for copy in range(settings.landscapes):
            random = np.random.default_rng([settings.seed, number, copy])
            other, told = changed(cloud, each, random, built=_ground_and_building(grouping))
            train.append(make_cells(other, grid, features, told))
    measured = [each for each, path in zip(cells, paths, strict=True) if path in held_out]
    if not measured:
        train, measured = _cut(cells[0])
        if not len(measured[0]):
            raise ValueError(f"{paths[0]}: is too small to hold a part out; name another cloud to measure on")
    origin = CloudOrigin(
        train=tuple(str(path) for path in paths if path not in held_out),
        held_out=tuple(str(path) for path in held_out),
        features=features,
        grid=grid,
        profiles=tuple(each.to_json() for each in profiles[:: -(-len(profiles) // _PROFILES)]),
    )
    sizes = f"{sum(map(len, train)):,} cells of {grid:g} to learn from, {sum(map(len, measured)):,} held out"
    say(f"{sizes}; beside heights: {', '.join(features) or 'nothing'}")
    return _Data(train, measured, grouping, writes, features, grid, origin)


def _held_out(clouds: Sequence[Path], requested: Sequence[Path]) -> tuple[Path, ...]:
    """Those of the clouds that are requested, else the last; none where there is but one, which is cut."""
    if not clouds:
        raise ValueError("name at least one classified cloud to learn from")
    places = [path.resolve() for path in clouds]
    if twice := [path for path in clouds if places.count(path.resolve()) > 1]:
        raise ValueError(f"{twice[0]}: is given twice; what is learned from cannot be measured on")
    if unknown := [path for path in requested if path.resolve() not in places]:
        raise ValueError(f"--held-out {unknown[0]} is none of the clouds given")
    if not requested:
        return tuple(clouds[1:][-1:])
    chosen = {path.resolve() for path in requested}
    if len(chosen) == len(clouds):
        raise ValueError("--held-out names every cloud; leave some to learn from")
    return tuple(path for path, place in zip(clouds, places, strict=True) if place in chosen)


def _check_same_clouds(run: Path, paths: Sequence[Path], held_out: Sequence[Path]) -> None:
    """ValueError where these are not, by name, the clouds that the run learned from so far and held out."""
    before = read_cloud_origin(run)
    learned, measured = ({Path(name).name for name in names} for names in (before.train, before.held_out))
    given, left_out = {path.name for path in paths}, {path.name for path in held_out}
    if learned and (given, left_out) != (learned | measured, measured):
        raise ValueError(
            f"{run} learned from other clouds, or held out others; go on with the same, or start a new run from this "
            f"one (--from {run} and another --out)"
        )


def _open(path: Path, columns: str) -> Cloud:
    file = open_cloud(path, columns)
    if not file.num_points:
        raise ValueError(f"{path}: holds no points")
    require_metres(file)
    return file.read_metres()


def _classification(cloud: Cloud) -> np.ndarray:
    codes = cloud.classification
    if codes is None:
        raise ValueError(f"{cloud.path}: has no classification to learn from")
    if (highest := codes.max(initial=0)) > MAX_CODE:
        raise ValueError(f"{cloud.path}: classification code {highest}; codes go from 0 to {MAX_CODE}")
    return codes


def _ground_and_building(grouping: Grouping) -> tuple[int, int] | None:
    """The labels of these two, by their codes, where they are classes apart."""
    places = [next((k for k, codes in enumerate(grouping.codes) if code in codes), None) for code in (2, 6)]
    ground, building = places
    return None if ground is None or building is None or ground == building else (ground, building)


def _commonest_codes(grouping: Grouping, counts: np.ndarray) -> tuple[int, ...]:
    """Of each class. Every class must occur somewhere; a cloud without one of them is fine."""
    found = []
    for name, codes in zip(grouping.names, grouping.codes, strict=True):
        code = max(codes, key=lambda code: counts[code])
        if not counts[code]:
            raise ValueError(f"--classes: no point of the clouds is of class {name} ({', '.join(map(str, codes))})")
        found.append(code)
    return tuple(found)


def _features(clouds: Sequence[Cloud]) -> tuple[str, ...]:
    """What every cloud offers, in the order of the first."""
    offered = [features_of(cloud) for cloud in clouds]
    return tuple(name for name in offered[0] if all(name in each for each in offered))


def _usual_grid(clouds: Sequence[Cloud]) -> float:
    """Two and a half times the median distance between neighbours, to one digit."""
    random, distances = np.random.default_rng(0), []
    for cloud in clouds:
        xyz = torch.from_numpy(cloud.xyz - cloud.xyz.min(0))
        chosen = random.choice(len(xyz), min(len(xyz), _SPACING_SAMPLE), replace=False)
        distances.append(knn(xyz, xyz[chosen], 2)[1][:, 1].median().item())
    grid = 2.5 * float(np.median(distances))
    if not 0 < grid < np.inf:
        raise ValueError("the clouds' points lie on top of each other; say with --grid how large a cell is to be")
    return float(f"{grid:.0e}")


def _cut(cells: Cells) -> tuple[list[Cells], list[Cells]]:
    """A cloud's first part along its longer side, and the rest. Blocks, because neighbours tell each other's class."""
    axis = int(cells.xyz[:, :2].amax(0).sub(cells.xyz[:, :2].amin(0)).argmax())
    place = cells.xyz[:, axis]
    border = place.quantile(1 - _HELD_OUT_SHARE) if len(cells) <= 2**24 else place.median()
    return [_part(cells, place <= border)], [_part(cells, place > border)]


def _part(cells: Cells, rows: torch.Tensor) -> Cells:
    assert cells.labels is not None
    return replace(cells, xyz=cells.xyz[rows], features=cells.features[rows], labels=cells.labels[rows])


def _make_model(settings: SegmenterSettings, data: _Data) -> Segmenter:
    if settings.resume:
        return Segmenter(SegmenterConfig.from_json(read_config(settings.out, Segmenter.kind).model))
    start = Segmenter.load(settings.warm_start) if settings.warm_start else None
    preset = settings.presets[settings.preset].model
    network, weights = _network(settings, data.grouping, start)
    features = torch.cat([cells.features for cells in data.train])
    labels = torch.cat([_labels(cells) for cells in data.train])
    counts = torch.bincount(labels[labels >= 0], minlength=len(data.grouping.names)).float()
    config = SegmenterConfig(
        names=data.grouping.names,
        codes=data.grouping.codes,
        writes=data.writes,
        features=data.features,
        mean=tuple(features.mean(0).tolist()),
        std=tuple(features.std(0, correction=0).clamp_min(1e-3).tolist()),
        class_weights=_relative(weights, counts) if weights else _class_weights(counts),
        radius=settings.radius or _FIELD_CELLS * data.grid,
        max_points=preset["max_points"],
        label_smoothing=preset.get("label_smoothing", 0.0),
        squash=True,
        network=replace(
            network, in_dim=num_channels(data.features), num_classes=len(data.grouping.names), grid=data.grid
        ),
    )
    model = Segmenter(config)
    if start:
        copy_weights(model, start)
        if start.config.features != model.config.features:
            _take_over_features(model, start)
    return model


@torch.no_grad()
def _take_over_features(model: Segmenter, start: Segmenter) -> None:
    """Copy the weights of the features that both have, wherever there is one for each channel; others begin at 0."""
    theirs, (old, new) = dict(start.named_parameters()), (layout(each.config.features) for each in (start, model))
    for name, ours in model.named_parameters():
        if name not in theirs or theirs[name].ndim != ours.ndim or theirs[name].shape == ours.shape:
            continue
        apart = [axis for axis in range(ours.ndim) if theirs[name].shape[axis] != ours.shape[axis]]
        sizes = [(theirs[name].shape[axis], ours.shape[axis]) for axis in apart]
        if sizes != [(start.config.network.in_dim, model.config.network.in_dim)]:
            continue
        source, target = (each.transpose(0, apart[0]) for each in (theirs[name], ours))
        target.zero_()
        for feature in new.keys() & old.keys():
            target[new[feature]] = source[old[feature]]
    if added := [feature for feature in new if feature not in old]:
        say(f"it has not seen {', '.join(added)} before")


def _network(
    settings: SegmenterSettings, grouping: Grouping, start: Segmenter | None
) -> tuple[PointUNetConfig | DensePointNetConfig, tuple[float, ...]]:
    """The network to build, but for its channels, classes and grid; and the classes' weights, where any are given."""
    name, given = settings.network or settings.presets[settings.preset].model["network"], settings.class_weights
    if start and settings.network:
        raise ValueError("--network and --from: a run that begins with another's weights has its network")
    network = start.config.network if start else DENSE if name == "kpconvx-dense" else NETWORKS.get(name)
    if network is None:
        if not name.endswith(".json"):
            raise ValueError(f"--network is {name}; choose {', '.join(NETWORKS)}, kpconvx-dense or a .json file")
        described = ModelFile.read(Path(name))
        if described.class_names and described.class_names != grouping.names:
            raise ValueError(
                f"{name}: class_names are {', '.join(described.class_names)}; --classes and --names say "
                f"{', '.join(grouping.names)}"
            )
        network, given = described.network, given or described.class_weight
    if given and (len(given) != len(grouping.names) or not all(0 < weight < np.inf for weight in given)):
        raise ValueError(
            f"class weights are {list(given)}; each of the {len(grouping.names)} classes needs one above 0"
        )
    return network, given


def _relative(weights: Sequence[float], counts: torch.Tensor) -> tuple[float, ...]:
    """In these proportions, such that a point weighs 1 on average."""
    given = torch.tensor(weights)
    return tuple((given / (given * counts).sum() * counts.sum()).tolist())


def _labels(cells: Cells) -> torch.Tensor:
    return torch.full((len(cells),), NOT_LEARNED) if cells.labels is None else cells.labels


def _class_weights(counts: torch.Tensor) -> tuple[float, ...]:
    """Inverse square roots of the classes' shares, such that a point weighs 1 on average."""
    return _relative((counts / counts.sum()).clamp_min(_RARE).rsqrt().tolist(), counts)


def _measure(model: Segmenter, held_out: Sequence[Cells], picture: Path, kernels: Path) -> dict[str, float]:
    """The figures and picture of `_draw`, and what the kernels of a dense network look like."""
    if isinstance(model.network, DensePointNet):
        model.network.export_representations(kernels / picture.stem)
    return _draw(model, held_out, picture)


def _draw(model: Segmenter, held_out: Sequence[Cells], path: Path) -> dict[str, float]:
    """Label the held-out cells; measure, and draw the first cloud from above: truth, prediction, errors."""
    confusion, pictures = Confusion(model.num_classes), []
    for cells in held_out:
        predicted, truth = label_cells(model, cells).argmax(1), _labels(cells)
        confusion.add(truth, predicted)
        if not pictures:
            colours = class_colours(model.config.names)
            pictures.append(triptych(cells.xyz.numpy(), truth.numpy(), predicted.numpy(), colours))
    picture = Image.fromarray(pictures[0])
    times = max(1, _WIDE // picture.width)
    picture = picture.resize((times * picture.width, times * picture.height), Image.Resampling.NEAREST)
    with replacing(path) as temporary:
        picture.save(temporary, format="png")
    return {"held_out/miou": confusion.miou, "held_out/accuracy": confusion.accuracy}
