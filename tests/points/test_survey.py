"""A folder of tiles is labelled as if it were one cloud, in any order and however often it is interrupted."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oneiros.cli import main
from oneiros.data.clouds.formats import open_cloud, write_cloud
from oneiros.disk import locked
from oneiros.points.labelling import Labelling, label_file, load_segmenter
from oneiros.points.profile import CloudProfile
from oneiros.points.survey import RECORDS, label_tile, plan, waiting
from tests.towns import part_of, save_segmenter, town

EDGES = (0, 33, 60, 90, 120)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return save_segmenter(tmp_path_factory.mktemp("runs") / "segmenter")


@pytest.fixture(scope="module")
def street(tmp_path_factory) -> Path:
    """`whole.laz`, and its tiles in a folder beside it."""
    folder = tmp_path_factory.mktemp("street")
    cloud = town(size=120, spacing=1.3, houses=25, trees=40)
    cloud = replace(part_of(cloud, cloud.xyz[:, 1] < cloud.xyz[:, 1].min() + 40))
    cloud = replace(cloud, xyz=np.round(cloud.xyz * 8) / 8)
    write_cloud(folder / "whole.laz", cloud)
    place = cloud.xyz[:, 0] - cloud.xyz[:, 0].min()
    (folder / "tiles").mkdir()
    for number, (low, high) in enumerate(itertools.pairwise(EDGES)):
        rows = (place >= low) & (place < high + (high == EDGES[-1]))
        write_cloud(folder / "tiles" / f"{number}.laz", part_of(cloud, rows))
    return folder


def jobs_of(run: Path, street: Path, out: Path, how: Labelling | None = None):
    copies = {path: out / path.name for path in (street / "tiles").iterdir()}
    return plan(run, copies, out, how or Labelling())


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.laz"))}


def labels(path: Path) -> np.ndarray:
    cloud = open_cloud(path).read()
    assert cloud.classification is not None
    return cloud.classification[np.lexsort(cloud.xyz.T)]


def test_labels_do_not_depend_on_the_cut(run, street, tmp_path):
    for job in jobs_of(run, street, tmp_path / "out"):
        assert label_tile(job).counts
    model, profile = load_segmenter(run), CloudProfile.of_file(open_cloud(street / "whole.laz"))
    label_file(model, street / "whole.laz", tmp_path / "whole.laz", profile=profile)
    alone = tmp_path / "alone"
    for path in (street / "tiles").iterdir():
        label_file(model, path, alone / path.name, profile=profile)
    whole, cut, blind = (
        np.concatenate([labels(path) for path in paths])
        for paths in (
            [tmp_path / "whole.laz"],
            sorted((tmp_path / "out").glob("*.laz")),
            sorted(alone.glob("*.laz")),
        )
    )
    assert len(np.unique(whole)) == 3
    assert np.sort(whole).tolist() != np.sort(blind).tolist()  # a tile by itself sees less at its edges
    assert (np.bincount(whole, minlength=7) - np.bincount(cut, minlength=7) != 0).sum() == 0


def test_any_order_and_any_interruption_give_the_same_bytes(run, street, tmp_path):
    for job in jobs_of(run, street, tmp_path / "once"):
        label_tile(job)
    first, *rest = reversed(jobs_of(run, street, tmp_path / "again"))
    label_tile(first)
    (tmp_path / "again" / "0.laz").write_bytes(b"what a kill between two files might leave")
    results = [label_tile(job) for job in (*rest, first)]
    assert [result.before for result in results] == [False, False, False, True]
    assert digests(tmp_path / "once") == digests(tmp_path / "again")


def test_what_is_done_stays_done_until_something_changes(run, street, tmp_path):
    jobs = jobs_of(run, street, tmp_path)
    assert not any(label_tile(job).before for job in jobs)
    assert all(label_tile(job).before for job in jobs_of(run, street, tmp_path))
    (tmp_path / "1.laz").unlink()
    (tmp_path / RECORDS / "2.laz.json").write_text("{")
    assert [label_tile(job).before for job in jobs] == [True, False, False, True]
    other = jobs_of(run, street, tmp_path, Labelling(unsure=0.9))
    assert not any(label_tile(job).before for job in other)
    os.utime(street / "tiles" / "0.laz", ns=(1, 1))
    again = jobs_of(run, street, tmp_path, Labelling(unsure=0.9))
    assert not any(label_tile(job).before for job in again)  # the others are near enough to look at it


def test_a_tile_that_another_process_is_at_is_left_to_it(run, street, tmp_path):
    job = jobs_of(run, street, tmp_path)[1]
    with locked(tmp_path / RECORDS / "1.laz.lock"):
        assert label_tile(job).taken
        assert not (tmp_path / "1.laz").exists()
    assert label_tile(waiting(job)).counts


def test_a_folder_from_the_command_line(run, street, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiles").mkdir()
    for path in (street / "tiles").iterdir():
        (tmp_path / "tiles" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "tiles" / "1.laz").write_bytes(b"LASF damaged")
    write_cloud(tmp_path / "tiles" / "empty.laz", part_of(town(), np.zeros(0, int)))
    (tmp_path / "tiles" / "notes.md").write_text("no cloud")
    arguments = ["segment", "tiles", "--model", str(run), "--out", "labelled"]
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    said = capsys.readouterr()
    assert stopped.value.code == 2
    assert "oneiros: 1 of 5 tiles are not labelled: 1.laz" in said.err
    assert "labelled: 4 tiles (1 without points, copied)" in said.out
    assert sorted(digests(tmp_path / "labelled")) == ["0.laz", "2.laz", "3.laz", "empty.laz"]
    (tmp_path / "tiles" / "1.laz").unlink()
    main([*arguments, "--workers", "2"])
    assert "4 tiles (" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["tiles"], "a folder of clouds needs another for their copies: --out"),
        (["tiles", "--out", "tiles"], "--out tiles is the clouds' own folder"),
        (["nothing", "--out", "out"], "nothing: holds no clouds"),
        (["tiles/0.laz", "--workers", "2"], "--workers and --cluster are for a survey"),
        (["tiles", "--out", "out", "--workers", "0"], "--workers is 0"),
    ],
)
def test_surveys_that_cannot_be_are_named(run, street, tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.chdir(street)
    (street / "nothing").mkdir(exist_ok=True)
    options = [str(tmp_path / "out") if word == "out" else word for word in options]
    with pytest.raises(SystemExit):
        main(["segment", *options, "--model", str(run)])
    assert re.search(re.escape(words), capsys.readouterr().err)
