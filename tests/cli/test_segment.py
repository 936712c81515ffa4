"""`oneiros train segmenter`, `segment` and `eval` from the command line."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oneiros.cli import main
from oneiros.data.clouds.formats import open_cloud, write_cloud
from oneiros.points import labelling
from tests.dot_runs import save_world
from tests.towns import having, part_of, save_segmenter, segmenter_config, town, write_town


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return save_segmenter(tmp_path_factory.mktemp("runs") / "segmenter", segmenter_config(("intensity", "colour")))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")


def fails(capsys, *arguments) -> str:
    """What a verb says when it ends with exit code 2: one line."""
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    assert exit_.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("oneiros: ")]
    assert len(lines) == 1
    return lines[0]


def files() -> dict[str, str]:
    """Everything that lies here, with its digest."""
    found = sorted(path for path in Path().rglob("*"))
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "" for path in found}


def test_from_classified_towns_to_a_labelled_one(capsys):
    for seed in range(3):
        write_town(Path(f"{seed}.laz"), seed)
    write_cloud("raw.laz", having(town(7), classification=None))
    options = ["--preset", "tiny", "--steps", "2", "--grid", "1", "--radius", "8", "--precision", "float32"]
    main(["train", "segmenter", "0.laz", "1.laz", "2.laz", "--held-out", "1.laz", "--out", "run", *options])
    said = capsys.readouterr()
    assert "run: step 2" in said.out
    assert "Next: oneiros segment CLOUD --model run --out LABELLED" in said.out
    assert json.loads(Path("run/config.json").read_text())["data"]["held_out"] == ["1.laz"]
    main(["segment", "raw.laz", "--model", "run", "--out", "labelled.laz"])
    said = capsys.readouterr().out
    assert re.search(r"labelled\.laz: 4,\d\d\d points, ground [\d.]+%, vegetation [\d.]+%, building [\d.]+%", said)
    assert set(open_cloud("labelled.laz").classes) <= {2, 5, 6}
    main(["eval", "run"])
    said = capsys.readouterr().out
    assert "mIoU" in said
    assert "building" in said
    assert Path("run/eval/report.html").is_file()
    main(["train", "segmenter", "--out", "run", "--resume", "--steps", "3"])
    assert "run: step 3" in capsys.readouterr().out


def test_several_clouds_get_their_copies_in_a_folder(run, capsys):
    paths = [write_town(Path(f"town.{ending}"), size=20) for ending in ("las", "laz", "ply", "npy")]
    before = files()
    main(["segment", *map(str, paths), "--model", str(run), "--out", "labelled", "--probabilities"])
    assert len(capsys.readouterr().out.splitlines()) == 4
    for path in paths:
        ours, theirs = open_cloud(Path("labelled") / path).read(), open_cloud(path).read()
        assert np.array_equal(ours.xyz, theirs.xyz)
        assert "probability_building" in ours.attributes
    assert {name: digest for name, digest in files().items() if not name.startswith("labelled")} == before
    assert sorted(path.name for path in Path("labelled").iterdir()) == sorted(path.name for path in paths)


def test_one_cloud_and_a_folder_that_is_there(run):
    write_town(Path("town.ply"), size=20)
    Path("labelled").mkdir()
    main(["segment", "town.ply", "--model", str(run), "--out", "labelled"])
    assert open_cloud("labelled/town.ply").num_points == open_cloud("town.ply").num_points


def test_copies_of_copc_in_a_folder_are_plain_laz(run, monkeypatch):
    """COPC cannot be written; the name must not say that a copy is."""
    asked = []
    monkeypatch.setattr(labelling, "label_file", lambda model, source, out, **_: asked.append(out) or {"ground": 1})
    for name in ("a.copc.laz", "b.COPC.LAZ", "c.laz"):
        write_town(Path(name.lower()), size=20).rename(name)
    main(["segment", "a.copc.laz", "b.COPC.LAZ", "c.laz", "--model", str(run), "--out", "labelled"])
    assert asked == [Path("labelled/a.laz"), Path("labelled/b.laz"), Path("labelled/c.laz")]


def test_help_needs_no_torch():
    script = (
        "import sys\nfrom oneiros.cli import main\n"
        "try: main(['segment', '--help'])\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for word in ("--model", "--out", "--probabilities", "oneiros segment cloud.laz --model runs/segmenter"):
        assert word in done.stdout


def nan_at(name: str):
    return lambda cloud: having(cloud, **{name: np.full(len(cloud), np.nan, np.float32)})


WRONG_CLOUDS = {
    "NaN colours": (nan_at("blue"), "town.ply: point 0: blue is nan; it must be a number"),
    "degrees": (lambda c: replace(c, xyz=c.xyz * (1e-7, 1e-6, 1)), "town.ply: x and y span at most"),
    "no colour": (lambda c: having(c, red=None), "town.ply: has no colour, which the model was trained with"),
}


@pytest.mark.parametrize("wrong", WRONG_CLOUDS)
def test_a_cloud_that_does_not_fit_is_one_line(run, capsys, wrong):
    change, message = WRONG_CLOUDS[wrong]
    write_cloud("town.ply", change(town()))
    before = files()
    assert message in fails(capsys, "segment", "town.ply", "--model", run, "--out", "out.ply")
    assert files() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["town.ply", "--out", "town.ply"], "town.ply: is the source itself, which is never written to"),
        (["town.ply", "--out", "out.laz"], "out.laz: labels are written in the format of town.ply: the name must end"),
        (["town.ply", "--out", "."], "town.ply: is the source itself"),
        (["town.ply", "other/town.ply", "--out", "new"], "two of the clouds have the same name"),
        (["town.ply", "other/second.ply", "--out", "other"], "other/second.ply: is the source itself"),
        (["town.ply", "other/second.ply", "--out", "taken.ply"], "--out taken.ply is a file; several clouds need"),
        (["--out", "out.ply"], "name at least one cloud"),
        (["nowhere.ply", "--out", "out.ply"], "nowhere.ply: there is no such file"),
        (["town.obj", "--out", "out.obj"], "town.obj: .obj is no known format of clouds"),
        (["damaged.laz", "--out", "out.laz"], "damaged.laz: "),
        (["town.ply", "--out", "out.ply", "--device", "gameboy"], "device 'gameboy' cannot hold the model"),
    ],
)
def test_wrong_names_are_one_line(run, capsys, arguments, message):
    Path("other").mkdir()
    for name in ("town.ply", "other/town.ply", "other/second.ply", "taken.ply", "town.obj.ply"):
        write_town(Path(name), size=14)
    Path("town.obj.ply").rename("town.obj")
    whole = write_town(Path("damaged.laz")).read_bytes()
    Path("damaged.laz").write_bytes(whole[: len(whole) // 2])
    before = files()
    assert message in fails(capsys, "segment", *arguments, "--model", run)
    assert files() == before


def test_a_run_of_another_kind_is_one_line(run, capsys):
    write_town(Path("town.ply"), size=14)
    save_world(Path("world"))
    message = "world holds a world; this needs a segmenter"
    assert message in fails(capsys, "segment", "town.ply", "--model", "world", "--out", "out.ply")
    assert "no run folder" in fails(capsys, "segment", "town.ply", "--model", "nowhere", "--out", "out.ply")
    for verb in (["dream", run, "."], ["play", run, "--terminal"]):
        assert str(run) in fails(capsys, *verb)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name at least one classified cloud"),
        (["town.ply", "--classes", "2,9"], "no point of the clouds is of class water (9)"),
        (["town.ply", "--classes", "2,trees"], "'trees' is no code"),
        (["town.ply", "--names", "a", "a", "b"], "--names: a names two classes"),
        (["town.ply", "--held-out", "other.ply"], "--held-out other.ply is none of the clouds given"),
        (["town.ply", "--held-out", "town.ply"], "--held-out names every cloud"),
        (["town.ply", "town.ply"], "town.ply: is given twice"),
        (["town.ply", "raw.ply"], "raw.ply: has no classification to learn from"),
        (["town.ply", "--grid", "0"], "--grid is 0.0; it must be above 0"),
        (["nowhere.ply"], "nowhere.ply: there is no such file"),
    ],
)
def test_wrong_training_is_one_line(capsys, arguments, message):
    write_town(Path("town.ply"))
    write_cloud("raw.ply", having(town(), classification=None))
    before = files()
    assert message in fails(capsys, "train", "segmenter", *arguments, "--preset", "tiny", "--out", "run")
    assert files() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "held out no whole cloud; name the classified clouds"),
        (["raw.ply"], "raw.ply: has no classification to measure against"),
        (["nowhere.ply"], "nowhere.ply: there is no such file"),
    ],
)
def test_wrong_evaluation_is_one_line(run, capsys, arguments, message):
    write_cloud("raw.ply", having(town(), classification=None))
    assert message in fails(capsys, "eval", run, *arguments)


def test_ctrl_c_leaves_nothing_behind(run, capsys, monkeypatch):
    write_town(Path("town.ply"))
    before = files()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(labelling, "label_points", interrupted)
    with pytest.raises(SystemExit) as exit_:
        main(["segment", "town.ply", "--model", str(run), "--out", "out.ply"])
    assert exit_.value.code == 130
    assert files() == before


def test_an_empty_tile_is_copied_and_the_others_are_done(run, capsys):
    write_town(Path("a.laz"), size=20)
    write_cloud("b.laz", part_of(town(), np.arange(0)))
    write_town(Path("c.laz"), 1, size=20)
    main(["segment", "a.laz", "b.laz", "c.laz", "--model", str(run), "--out", "labelled"])
    said = capsys.readouterr().out
    assert "labelled/b.laz: no points, copied as it is" in said
    assert "without points, copied as they are: b.laz" in said
    counts = {path.name: open_cloud(path).num_points for path in Path("labelled").iterdir()}
    assert counts == {path: open_cloud(path).num_points for path in ("a.laz", "b.laz", "c.laz")}


def test_a_damaged_tile_stops_no_other_and_is_summed_up(run, capsys):
    for name in ("a.laz", "b.laz", "c.laz"):
        write_town(Path(name), size=20)
    Path("b.laz").write_bytes(Path("b.laz").read_bytes()[:3000])
    said = fails(capsys, "segment", "a.laz", "b.laz", "c.laz", "--model", run, "--out", "labelled")
    assert said.endswith("1 of 3 clouds are not labelled: b.laz")
    assert sorted(path.name for path in Path("labelled").iterdir()) == ["a.laz", "c.laz"]


def test_codes_that_are_kept_and_points_that_are_unsure(run):
    cloud = town(size=20)
    codes = cloud.classification.copy()
    codes[:50], codes[50:60] = 9, 7
    write_cloud("town.laz", having(cloud, classification=codes.astype(np.uint8)))
    main(["segment", "town.laz", "--model", str(run), "--keep", "9,17-18", "--unsure", "0.7", "--probabilities"])
    found = open_cloud("town-labelled.laz").read()
    assert (found.classification[:50] == 9).all()
    chances = np.stack([found.attributes[f"probability_{name}"] for name in ("ground", "vegetation", "building")], 1)
    unsure = chances.max(1) < 0.7
    assert 0 < unsure[50:].sum() < len(codes) - 50
    assert ((found.classification == 1) == unsure)[50:].all()
    assert not (found.classification == 7).any()
    main(["segment", "town.laz", "--model", str(run), "--out", "noise.laz"])
    found = open_cloud("noise.laz").read().classification
    assert (found[50:60] == 7).all()
    assert set(found) == {2, 5, 6, 7}


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--unsure", "1.5", "--unsure is 1.5; it is a probability"),
        ("--keep", "noise", "--keep: 'noise' is no code"),
        ("--keep", "300", "--keep: '300'; codes go from 0 to 255"),
    ],
)
def test_wrong_options_are_one_line(run, capsys, option, value, message):
    write_town(Path("town.laz"), size=14)
    assert message in fails(capsys, "segment", "town.laz", "--model", run, option, value)
