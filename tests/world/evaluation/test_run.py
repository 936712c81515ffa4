"""From a run folder and a dataset to metrics.json and a page that fetches nothing."""

import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace as Namespace

import numpy as np
import pytest
import torch

from oneiros.data.episodes.dataset import Dataset
from oneiros.report.charts import Line, line_chart
from oneiros.world.evaluation.config import DriftConfig, EvalConfig, ThingsConfig
from oneiros.world.evaluation.fidelity import evaluate
from oneiros.world.evaluation.report import About, report_html
from oneiros.world.evaluation.run import evaluate_world
from tests.dot_runs import save_world, save_world_for, write_dataset
from tests.dot_world import SPECS, DotWorld
from tests.recorded import record
from tests.world.evaluation.test_fidelity import dot_clips

CONFIG = EvalConfig(clips=6, context=3, horizon=4, batch_size=3, drift=DriftConfig(frames=12, dreams=2), speed_steps=5)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A folder with data, run and the evaluation of one on the other."""
    folder = tmp_path_factory.mktemp("eval")
    write_dataset(folder / "data")
    save_world(folder / "run", folder / "data")
    evaluate_world(folder / "run", folder / "data", out=folder / "out", config=CONFIG)
    return folder


def test_metrics_have_the_layout_that_was_promised(written):
    measured = json.loads((written / "out" / "metrics.json").read_text(), parse_constant=pytest.fail)
    for measure in ("psnr", "ssim"):
        assert set(measured[measure]) == {
            "model",
            "sampled",
            "likeliest",
            "copy_last_frame",
            "reconstruction",
            "shuffled_actions",
        }
        assert all(len(values) == 4 for values in measured[measure].values())
    assert len(measured["delta_psnr"]) == 4
    assert {"action_recovery", "drift", "machine", "config", "lpips", "fvd"} <= set(measured)
    assert set(measured["speed"]["step_ms"]) == {"p50", "p95", "p99"}
    assert measured["speed"]["frames_per_second"] > 0


@pytest.mark.parametrize(("wrong", "message"), [("continuous", "the env's actions are"), ("keys", "20 steps a second")])
def test_an_environment_that_does_not_fit_is_named_before_anything_is_measured(written, monkeypatch, wrong, message):
    def measure(*given, **named):
        raise AssertionError("measured")

    env = Namespace(fps=20 if wrong == "keys" else 10, action_spec=SPECS[wrong], closed=0)
    env.close = lambda: setattr(env, "closed", env.closed + 1)
    monkeypatch.setattr("oneiros.world.evaluation.run.make_env", lambda name, **options: env)
    monkeypatch.setattr("oneiros.world.evaluation.run.evaluate", measure)
    with pytest.raises(ValueError, match=message):
        evaluate_world(written / "run", written / "data", out=written / "none", config=CONFIG, env="doom:basic")
    assert env.closed == 1


def test_only_the_episodes_that_the_run_held_out_are_measured(written):
    assert json.loads((written / "out" / "metrics.json").read_text())["episodes"] == [7, 9]


class Fetches(HTMLParser):
    """Collects everything a page would load, and checks that tags are closed."""

    def __init__(self):
        super().__init__()
        self.urls: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.urls += [value for name, value in attributes if name in ("src", "href", "srcset", "data") and value]
        if tag not in ("meta", "link", "img", "br", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.urls += [value for name, value in attributes if name in ("src", "href", "xlink:href") and value]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_self_contained_and_well_formed(written):
    text = (written / "out" / "report.html").read_text()
    parser = Fetches()
    parser.feed(text)
    assert parser.open == []
    assert len([url for url in parser.urls if url.startswith("data:image/")]) > 20
    assert all(url.startswith(("data:", "#")) for url in parser.urls)
    assert not re.search(r"@import|url\((?!#)", text)
    assert "prefers-color-scheme: dark" in text


def test_the_page_shows_what_there_is_and_says_what_is_missing(written):
    text = (written / "out" / "report.html").read_text()
    for part in (
        "Watch",
        "Frame by frame",
        "Crispness",
        "Fidelity",
        "Control",
        "Long dreams",
        "Configuration",
        "Machine",
    ):
        assert f"<h2>{part}</h2>" in text
    assert "Not measured: they need the weights" in text
    assert "Left out: data has no label images" in text
    assert "image/webp" in text


def test_a_page_without_actions_drift_or_speed():
    config = EvalConfig(clips=4, context=1, horizon=1, drift=DriftConfig(frames=0), speed_steps=0)
    result = evaluate(DotWorld(None), dot_clips(length=2), config=config)
    about = About(run="<dots>", data="d", fps=10.0, stride=1, action_spec=None, config={}, machine={})
    text = report_html(result, about)
    assert "trained without actions" in text
    assert "Long dreams" not in text
    assert "&lt;dots&gt;: how well it dreams" in text


def test_charts_take_their_colours_from_the_page_and_are_reproducible():
    def draw() -> str:
        return line_chart(
            [1, 2], [Line("a", [1.0, None], "model"), Line("b", [2, 3], "copy")], x_label="x", y_label="y"
        )

    assert draw() == draw()
    assert draw().startswith("<svg")
    assert "var(--model)" in draw()
    assert "var(--copy)" in draw()
    assert not re.search(r"#0[0-9a-f]0a0[0-9a-f]", draw())


@pytest.mark.parametrize(("kind", "message"), [("discrete", "this world knows keys actions"), (None, None)])
def test_a_dataset_of_another_action_spec_is_refused(written, tmp_path, kind, message):
    data = write_dataset(tmp_path / "other", kind or "discrete", episodes=2, length=12)
    if message is None:  # a world without actions takes any dataset
        run = save_world(tmp_path / "run", kind=None)
        assert evaluate_world(run, data, out=tmp_path, config=CONFIG)["delta_psnr"] is None
        return
    with pytest.raises(ValueError, match=message):
        evaluate_world(written / "run", data, out=tmp_path, config=CONFIG)


def test_episodes_shorter_than_a_clip_are_named(written, tmp_path):
    data = write_dataset(tmp_path / "short", episodes=2, length=5)
    with pytest.raises(ValueError, match="every episode is shorter than a clip: 7 frames"):
        evaluate_world(written / "run", data, out=tmp_path, config=CONFIG)


def test_a_full_disk_leaves_the_last_report(written, monkeypatch):
    before = (written / "out" / "metrics.json").read_text()
    monkeypatch.setattr(os, "replace", lambda source, target: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space left"):
        evaluate_world(written / "run", written / "data", out=written / "out", config=CONFIG)
    assert (written / "out" / "metrics.json").read_text() == before
    assert not list((written / "out").glob(".partial*"))


def test_things_are_looked_for_where_a_dataset_has_label_images(tmp_path):
    data = record(tmp_path / "data", labels=True)
    run = save_world_for(tmp_path / "run", Dataset.open(data))
    config = replace(CONFIG, things=ThingsConfig(steps=40), drift=DriftConfig(frames=0), speed_steps=0)
    things = evaluate_world(run, data, out=tmp_path / "out", config=config)["things"]
    assert things["kinds"] == ["square"]
    assert things["learned_from"] == 5 * 30  # the sixth episode is held out
    assert min(things["f1"]["real"]) > 0.8
    assert max(things["f1"]["sampled"]) < 0.5  # an untrained world
    text = (tmp_path / "out" / "report.html").read_text()
    assert "A small network learned on 150 real training frames" in text
    assert "F1 by size" in text


def test_the_same_seed_gives_the_same_figures(written, tmp_path):
    again = evaluate_world(written / "run", written / "data", out=tmp_path, config=CONFIG)
    first = json.loads((written / "out" / "metrics.json").read_text())
    assert again["psnr"] == first["psnr"]
    assert again["drift"]["sharpness"] == first["drift"]["sharpness"]
    assert np.isfinite(again["ssim"]["model"]).all()
    assert torch.is_grad_enabled()
