"""Valid files of every kind that Oneiros reads, and what reads each; a case spoils one file and runs one reader."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.fuzz.mutations import CANARY, mutate
from tests.places import ROOT
from tests.recorded import XY, record, world_settings

Reader = Callable[[Path], None]

CONTROL = "control"  # begins the seeds of cases that spoil nothing
OLD_RUNS = ROOT / "tests" / "old_runs"


@dataclass(frozen=True)
class Kind:
    """A kind of file. folder: below the samples, copied whole. files: globs below it, one of which is spoiled.
    readers: called with the copy of the folder. weight: how often it is chosen."""

    folder: str
    files: tuple[str, ...]
    readers: tuple[Reader, ...]
    weight: int = 1


# -- readers -----------------------------------------------------------------------------------------------------------


def verb(*words: str) -> Reader:
    """The command line with these words; in them HERE is the case's folder."""

    def read(folder: Path) -> None:
        from oneiros.cli import main

        main([word.replace("HERE", str(folder)) for word in words])

    read.__name__ = " ".join(words)
    return read


def load(run: str) -> Reader:
    def read(folder: Path) -> None:
        import oneiros

        oneiros.load(folder / "runs" / run)

    read.__name__ = f"load {run}"
    return read


def decode(folder: Path) -> None:
    """Everything that a dataset has of its first and its last episode."""
    from oneiros.data.episodes.dataset import Dataset

    dataset = Dataset.open(folder / "data")
    for episode in (dataset.episodes[0].index, dataset.episodes[-1].index):
        dataset.actions(episode)
        dataset.states(episode)
        for camera in dataset.cameras:
            for _ in dataset.stream(episode, camera, stop=min(dataset.episodes[0].length, 3)):
                pass


def append(folder: Path) -> None:
    """One more episode into the dataset."""
    record(folder / "data", spec=XY, depth=True, labels=True, states=True, num_episodes=1)


def resume(folder: Path) -> None:
    """A world's training goes on, with data recorded again, and finds that it is done."""
    from oneiros.world.training import world

    runs = {"tokenizer": folder / "runs" / "tokenizer", "cache": folder / "runs" / "cache"}
    again = {"resume": True, "data_changed": True, "steps": 12}
    world.run(world_settings(folder / "runs" / "world", data=folder / "data", **again, **runs))


def relabel(name: str) -> Reader:
    def read(folder: Path) -> None:
        import numpy as np

        from oneiros.data.clouds.formats import open_cloud, write_labels

        path = folder / name
        write_labels(path, folder / f"out{path.suffix}", np.zeros(min(open_cloud(path).num_points, 10**6), np.uint8))

    read.__name__ = f"relabel {name}"
    return read


def _cloud(name: str, weight: int = 3) -> Kind:
    inspect, quiet = verb("inspect", f"HERE/{name}"), verb("inspect", f"HERE/{name}", "--json")
    segment = verb("segment", f"HERE/{name}", "--model", str(OLD_RUNS / "segmenter"), "--out", f"HERE/out-{name}")
    segmenting = (segment,) if name not in ("text.ply", "plain.npy") else ()  # those lack what the segmenter looks at
    return Kind("clouds", (name,), (quiet, quiet, inspect, relabel(name), *segmenting), weight)


def _dataset(glob: str, weight: int = 3) -> Kind:
    readers = (verb("inspect", "HERE/data"), verb("inspect", "HERE/data", "--json", "--strict"), decode, decode, append)
    return Kind("data", (glob,), (*readers, verb("clouds", "HERE/data", "--out", "HERE/out", "--stride", "20")), weight)


_DREAM = ("dream", "HERE/runs/world", "--actions", "0.1 0.2*3", "--frames", "2", "--out", "HERE/out.png")

KINDS: Mapping[str, Kind] = {
    **{name: _cloud(name) for name in ("tile.las", "tile.laz", "text.ply", "binary.ply", "rows.npy", "plain.npy")},
    "info.json": _dataset("data/meta/info.json", 6),
    "stats.json": _dataset("data/meta/stats.json", 1),
    "episodes.parquet": _dataset("data/meta/episodes/**/*.parquet"),
    "tasks.parquet": _dataset("data/meta/tasks.parquet", 2),
    "data.parquet": _dataset("data/data/**/*.parquet"),
    "video": _dataset("data/videos/**/*.mp4"),
    "config.json": Kind(
        "runs", ("runs/*/config.json", "runs/world/tokenizer/config.json", "runs/policy/world/config.json"), (), 8
    ),
    "model.safetensors": Kind("runs", ("runs/*/model.safetensors", "runs/policy/world/model.safetensors"), (), 3),
    "starts.safetensors": Kind("runs", ("runs/world/starts.safetensors",), (verb(*_DREAM),), 2),
    "state.pt": Kind("both", ("runs/world/state.pt",), (resume,), 4),
    "metrics.jsonl": Kind("both", ("runs/world/metrics.jsonl",), (resume,), 1),
    "resumed config.json": Kind("both", ("runs/world/config.json", "runs/tokenizer/config.json"), (resume,), 2),
    "cache": Kind("both", ("runs/cache/**/*.npy", "runs/cache/**/*.json"), (resume,), 1),
}


def run_readers(path: Path, folder: Path) -> list[Reader]:
    """What reads a file of a run folder."""
    name = path.relative_to(folder / "runs").parts[0]
    readers = [load(name), load(name), verb("inspect", f"HERE/runs/{name}")]
    if name.startswith("world"):
        dream = [word.replace("runs/world", f"runs/{name}") for word in _DREAM]
        readers += [verb(*dream), verb(*dream)]
    if name == "segmenter":
        readers += [verb("eval", "HERE/runs/segmenter", str(folder / "clouds/tile.las"), "--out", "HERE/out")]
    return readers


# -- cases -------------------------------------------------------------------------------------------------------------


def make_samples(folder: Path) -> Path:
    """The valid files, a folder of each group; made once, copied for each case."""
    import numpy as np

    from oneiros.data.clouds.formats import write_cloud
    from tests.towns import part_of, town

    cloud = part_of(town(), np.arange(600))
    clouds = folder / "clouds"
    clouds.mkdir(parents=True)
    for name in ("tile.las", "tile.laz", "binary.ply", "rows.npy"):
        write_cloud(clouds / name, cloud)
    np.save(clouds / "plain.npy", np.c_[cloud.xyz, cloud.attributes["intensity"], cloud.attributes["red"]])
    columns = [*cloud.xyz.T, cloud.attributes["intensity"], cloud.attributes["classification"]]
    head = "\n".join(f"property {kind} {name}" for kind, name in zip(_KINDS, _NAMES, strict=True))
    rows = "\n".join(" ".join(f"{number:.9g}" for number in row) for row in zip(*columns, strict=True))
    text = f"ply\nformat ascii 1.0\ncomment class 2 soil\nelement vertex 600\n{head}\nend_header\n{rows}\n"
    (clouds / "text.ply").write_text(text)
    record(folder / "data" / "data", spec=XY, depth=True, labels=True, states=True, num_episodes=4)
    shutil.copytree(OLD_RUNS, folder / "runs" / "runs")
    shutil.copytree(OLD_RUNS, folder / "both" / "runs")
    shutil.copytree(folder / "data" / "data", folder / "both" / "data")
    resume(folder / "both")  # makes the cache
    for group in ("clouds", "data", "runs", "both"):
        (folder / group / f"{CANARY}.py").write_text(
            f"import os\nos.makedirs({CANARY + '.ran'!r}, exist_ok=True)\ndef run(*a, **k): return 0\n"
        )
    return folder


_KINDS, _NAMES = ("double", "double", "double", "ushort", "uchar"), ("x", "y", "z", "intensity", "classification")


@dataclass(frozen=True)
class Case:
    """One case, fixed by its kind and seed."""

    kind: str
    seed: str

    def prepare(self, samples: Path, folder: Path) -> tuple[Reader, str]:
        """Copy the samples to `folder` and spoil one; what reads it, and how it was spoiled."""
        random, kind = Random(f"{self.kind}:{self.seed}"), KINDS[self.kind]
        shutil.copytree(samples / kind.folder, folder, dirs_exist_ok=True)
        if kind.folder == "runs":
            shutil.copytree(samples / "clouds", folder / "clouds", dirs_exist_ok=True)
        paths = sorted(path for glob in kind.files for path in folder.glob(glob))
        path = random.choice(paths)
        if self.seed.startswith(CONTROL):
            readers = kind.readers or run_readers(path, folder)
            reader = readers[int(self.seed.removeprefix(CONTROL)) % len(readers)]
            return reader, f"{path.relative_to(folder)}: untouched; {reader.__name__}"
        reader = random.choice(kind.readers or run_readers(path, folder))
        how = mutate(path, random)
        return reader, f"{path.relative_to(folder)}: {how}; {reader.__name__}"


def make_controls() -> list[Case]:
    """Cases that spoil nothing, one for each reader, which must succeed, or the others prove little."""
    cases = {
        (kind.folder, reader): Case(name, f"{CONTROL}{number}")
        for name, kind in KINDS.items()
        for number, reader in enumerate(kind.readers or range(5))
    }
    return [*cases.values()]


def make_cases(count: int, seed: str, kinds: tuple[str, ...] = ()) -> list[Case]:
    """So many cases, kinds in proportion to their weights."""
    random, names = Random(seed), kinds or tuple(KINDS)
    chosen = random.choices(names, [KINDS[name].weight for name in names], k=count)
    return [Case(name, f"{seed}.{number}") for number, name in enumerate(chosen)]
