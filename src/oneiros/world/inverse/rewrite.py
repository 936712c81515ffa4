"""A dataset written anew with other actions, its films copied as they are."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.features import ACTION, CONFIDENCE, action_column, action_features
from oneiros.data.episodes.metadata import INFO, STATS
from oneiros.data.episodes.parquet import read_table, row_groups
from oneiros.data.episodes.statistics import of_column
from oneiros.data.episodes.tables import data_schema, data_table, plain, write_data, write_episodes, write_json
from oneiros.disk import check_room, inside, replacing
from oneiros.json_file import read_json
from oneiros.records import ActionSpec


def check_target(dataset: Dataset, out: Path) -> None:
    """ValueError where it cannot be written there, before the long part. Nothing is ever written over."""
    if not dataset.info["codebase_version"].startswith("v3"):
        version = dataset.info["codebase_version"]
        raise ValueError(f"{dataset.path}: is {version}; `oneiros import {dataset.path} --out NEW` makes it v3.0")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: is there already; name a new folder")


def write_with_actions(
    dataset: Dataset, out: Path, spec: ActionSpec, done: Mapping[int, tuple[np.ndarray, np.ndarray]]
) -> None:
    """The dataset with these actions in the place of its own, whole or not at all.

    done: by episode, its actions (T, ...) and how sure each is (T,). Episodes that are not in it have none that is
    known. Raises OSError for a full disk.
    """
    check_target(dataset, out)
    copied = [path for part in ("meta", "data", "videos") for path in (dataset.path / part).rglob("*")]
    check_room(out.parent, sum(path.stat().st_size for path in copied if path.is_file()), f"{out} takes")
    old = {each for each in (action_column(dataset.info["features"]), ACTION, CONFIDENCE) if each}
    with replacing(out, "the dataset") as folder:
        for path in copied:
            place = path.relative_to(dataset.path)
            if path.is_file() and place.parts[0] != "data":
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(inside(dataset.path, place), folder / place)
        for path in (path for path in copied if path.suffix == ".parquet" and path.is_file()):
            place = path.relative_to(dataset.path)
            if place.parts[0] == "data":
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                tables = [_changed(table, old, spec, done) for table in row_groups(inside(dataset.path, place))]
                write_data(folder / place, tables)
            elif place.parts[:2] == ("meta", "episodes"):
                write_episodes(folder / place, _rows(inside(dataset.path, place), old, done))
        features = {name: each for name, each in dataset.info["features"].items() if name not in old}
        features |= action_features(spec, confidence=True)
        write_json(folder / INFO, {**dataset.info, "features": features})
        path = folder / STATS
        known = read_json(path) if path.is_file() else {}
        every = [np.concatenate(each) for each in zip(*done.values(), strict=True)]
        statistics = {name: plain(of_column(each)) for name, each in zip((ACTION, CONFIDENCE), every, strict=True)}
        if isinstance(known, dict) and known:
            write_json(path, {**{name: each for name, each in known.items() if name not in old}, **statistics})


def _changed(
    table: pa.Table, old: set[str], spec: ActionSpec, done: Mapping[int, tuple[np.ndarray, np.ndarray]]
) -> pa.Table:
    """The rows with other actions."""
    count = table.num_rows
    actions = np.zeros((count, 1 if spec.kind == "discrete" else spec.size), np.float32)
    if spec.kind == "discrete":
        actions = actions.astype(np.int64)
    sure = np.zeros(count, np.float32)
    episodes, rows = (table[name].to_numpy() for name in ("episode_index", "frame_index"))
    for episode in np.unique(episodes).tolist():
        if episode not in done:
            continue
        told, confidence = done[episode]
        here = np.flatnonzero((episodes == episode) & (rows >= 0) & (rows < len(told)))
        actions[here] = told[rows[here]].reshape(len(here), -1)
        sure[here] = confidence[rows[here]]
    schema = data_schema(action_features(spec, confidence=True))
    new = data_table(schema, {ACTION: actions, CONFIDENCE: sure})
    for name in [name for name in table.column_names if name in old]:
        table = table.drop_columns(name)
    for name in new.column_names:
        table = table.append_column(new.schema.field(name), new[name])
    return table.replace_schema_metadata(None)


def _rows(path: Path, old: set[str], done: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> list[dict]:
    """Rows of the table of episodes, with the statistics of their new actions."""
    gone = tuple(f"stats/{name}/" for name in old)
    rows = read_table(path, lambda name: not name.startswith(gone)).to_pylist()
    if not any(name.startswith("stats/") for row in rows for name in row):
        return rows
    like = next(iter(done.values()))
    for row in rows:
        told = done.get(row["episode_index"])
        if told is None:
            told = tuple(np.zeros((row["length"], *each.shape[1:])) for each in like)
        for name, values in zip((ACTION, CONFIDENCE), told, strict=True):
            row |= {f"stats/{name}/{kind}": each for kind, each in plain(of_column(values)).items()}
    return rows
