"""What an evaluation of a world found, as one page with everything in it.

Pictures are embedded and charts are inline, so the page fetches nothing and can be mailed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from oneiros.data.pictures import DREAMED, GIVEN, beside, data_uri, encode
from oneiros.envs.actions import action_text
from oneiros.records import ActionSpec
from oneiros.report.charts import Line, line_chart
from oneiros.report.page import (
    card,
    figure,
    folded,
    frame_grid,
    head,
    number_table,
    page,
    picture,
    section,
    settings_table,
    side_by_side,
    small,
)
from oneiros.world.evaluation.counterfactual import CounterfactualFrames
from oneiros.world.evaluation.crisp_section import crispness
from oneiros.world.evaluation.drift import DriftFrames
from oneiros.world.evaluation.fidelity import Evaluation, Example
from oneiros.world.evaluation.horizon_chart import VARIANTS, horizon_chart, horizons
from oneiros.world.evaluation.outcomes.section import rewards_and_ends
from oneiros.world.evaluation.things.judge import Judge
from oneiros.world.evaluation.things.section import things_that_stay

_SHOWN_HORIZONS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_SHOWN_CONTEXT = 3
_LARGEST_ACTION = 12  # actions of more dimensions are not written under the frames
_EMPTY = "<div></div>"


@dataclass(frozen=True)
class About:
    """What the page says around the figures. stride: env steps a dreamed frame lasts. config, machine: for tables."""

    run: str
    data: str
    fps: float
    stride: int
    action_spec: ActionSpec | None
    config: Mapping[str, Any]
    machine: Mapping[str, Any]


def report_html(
    evaluation: Evaluation,
    about: About,
    counterfactual: CounterfactualFrames | None = None,
    judge: Judge | None = None,
) -> str:
    """The whole page."""
    measured = evaluation.metrics
    shown = _spread(evaluation.examples)
    return page(
        title=f"{about.run}: how well it dreams",
        lead=_lead(measured, about),
        cards=_cards(measured),
        sections=[
            _watch(shown, about),
            _strips(shown, about),
            crispness(measured, shown[1][1]),
            things_that_stay(measured, evaluation.examples, judge, about.stride),
            rewards_and_ends(measured.get("outcomes")),
            _fidelity(measured),
            _control(measured),
            _counterfactual(measured.get("counterfactual"), counterfactual),
            _drift(measured["drift"], evaluation.drift),
            _perceptual(measured),
            _numbers(measured),
            section("Configuration", "", folded("every option of this run", settings_table(about.config))),
            section("Machine", "", settings_table(about.machine)),
        ],
    )


def _lead(measured: Mapping[str, Any], about: About) -> str:
    episodes = len(measured["episodes"])
    after = "then only the player's actions" if about.action_spec else "then nothing more"
    return (
        f"A world model continues {measured['clips']} clips from {_count(episodes, 'episode')} of "
        f"{about.data} that it never trained on. It is given {measured['context']} frames and {after}, for "
        f"{measured['horizon']} frames ({measured['horizon'] / about.fps:.1f} s)."
    )


def _cards(measured: Mapping[str, Any]) -> list[str]:
    horizon = measured["horizon"]
    first, last = min(4, horizon), min(8, horizon)
    gain = _mean(measured["psnr_gain"][first - 1 : last])
    cards = [card(f"{gain:+.1f}", "dB", f"over copying the last frame, frames {first} to {last}")]
    if measured["delta_psnr"]:
        text = f"lost at frame {first} with another clip's actions: how much the player decides"
        cards.append(card(f"{measured['delta_psnr'][first - 1]:.1f}", "dB", text))
    sharp, at_last = measured["sharpness"], f"at frame {last} of the dream as played, over real"
    cards.append(card(f"{sharp['sampled'][last - 1]:.2f}", "sharpness", at_last))
    ceiling = _mean(measured["psnr"]["reconstruction"])
    cards.append(card(f"{ceiling:.1f}", "dB", "PSNR of the tokenizer alone, the ceiling of any dream"))
    if outcomes := measured.get("counterfactual"):
        accuracy = _mean([value for value in outcomes["accuracy"] if value is not None])
        text = (
            f"of outcomes tell which of {len(outcomes['actions'])} actions was taken (chance {outcomes['chance']:.0%})"
        )
        cards.append(card(f"{accuracy:.0%}", "", text))
    if drift := measured["drift"]:
        kept = drift["sharpness"][-1] / max(drift["real"]["sharpness"], 1e-9)
        cards.append(card(f"{kept:.0%}", "", f"of real sharpness after {drift['frames'][-1]:,} dreamed frames"))
    if speed := measured["speed"]:
        text = f"dreamed for one player, 95% of steps within {speed['step_ms']['p95']:.0f} ms, on {_where(speed)}"
        cards.append(card(f"{speed['frames_per_second']:.0f}", "frames/s", text))
    return cards


def _where(speed: Mapping[str, Any]) -> str:
    where = _count(speed["threads"], "CPU thread") if speed["device"] == "cpu" else speed["device"]
    return f"{where}, {'with' if speed['bf16'] else 'without'} bf16"


def _count(number: int, thing: str) -> str:
    return f"1 {thing}" if number == 1 else f"{number} {thing}s"


def _spread(examples: Sequence[Example]) -> list[tuple[str, Example]]:
    """A hard, a typical and an easy clip: the 10th, 50th and 90th percentile of the gain, not the prettiest."""
    places = (
        ("hard clip (10th percentile)", 0.1),
        ("typical clip (median)", 0.5),
        ("easy clip (90th percentile)", 0.9),
    )
    return [(name, examples[min(int(share * len(examples)), len(examples) - 1)]) for name, share in places]


def _watch(shown: Sequence[tuple[str, Example]], about: About) -> str:
    text = (
        f"Left what happened, right the dream as a player sees it, sampled. While the bar is {_key(GIVEN)} grey both "
        f"are real; once it is {_key(DREAMED)} orange the right side is dreamed."
    )
    return section("Watch", text, side_by_side([_moving(name, example, about) for name, example in shown], 3))


def _moving(name: str, example: Example, about: About) -> str:
    real, dream = example.real.numpy(), example.dreams["sampled"].numpy()
    given = len(real) - len(dream)
    frames = beside([real, np.concatenate([real[:given], dream])], num_given=given)
    source = data_uri(encode(frames, ".webp", fps=about.fps), "image/webp")
    caption = f"{name}: {example.gain:+.1f} dB over copying. Episode {example.where[0]}, row {example.where[1]}."
    return figure(f'<img src="{source}" alt="real and dreamed frames, animated">', caption)


def _key(colour: tuple[int, int, int]) -> str:
    return f'<span class="key" style="background:rgb{colour}"></span>'


def _strips(shown: Sequence[tuple[str, Example]], about: About) -> str:
    text = (
        "The same clips frame by frame. Columns under <b>given</b> are real frames that the dream starts from; "
        "numbers are dreamed frames."
    )
    strips = "".join(f"<h3>{name}</h3>{_strip(example, about)}" for name, example in shown)
    return section("Frame by frame", text, strips)


def _strip(example: Example, about: About) -> str:
    horizon = len(example.dreams["model"])
    given = len(example.real) - horizon
    context = range(max(0, given - _SHOWN_CONTEXT), given)
    dreamed = [given + h - 1 for h in _SHOWN_HORIZONS if h <= horizon]
    columns = [*context, *dreamed]
    rows = [
        ("", [*(head("given") for _ in context), *(head(t - given + 1, dreamed=True) for t in dreamed)]),
        ("real", [picture(example.real[t].numpy()) for t in columns]),
    ]
    for variant in ("sampled", "model", "shuffled_actions"):
        if variant in example.dreams:
            frames = [picture(example.dreams[variant][t - given].numpy()) for t in dreamed]
            rows.append((VARIANTS[variant][0], [*[_EMPTY] * len(context), *frames]))
    spec, actions = about.action_spec, example.actions
    if spec and actions is not None and (spec.kind != "continuous" or spec.size * about.stride <= _LARGEST_ACTION):
        done = [small(_words(actions[t - 1].numpy(), spec)) if t else _EMPTY for t in columns]
        rows.append(("action into it", done))
    return frame_grid(rows)


def _words(action: np.ndarray, spec: ActionSpec) -> list[str]:
    if spec.kind == "continuous":
        return [f"{value:.2g}" for value in action]
    text = action_text(action, spec)
    return [_spoken(name) for name in (text.split("+") if spec.kind == "keys" else [text])]


def _spoken(name: str) -> str:
    """MOVE_FORWARD -> move forward, which breaks into lines."""
    return name.replace("_", " ").lower()


def _fidelity(measured: Mapping[str, Any]) -> str:
    text = (
        "How close the dream stays to what really happened. Copying the last given frame costs nothing and must be "
        "beaten; the tokenizer's reconstruction of the real frame is the best the dream could do. As played, a dream "
        "draws one of several possible futures; the expected codes average them, which is nearer to what happened and "
        "blurred; the likeliest codes one by one are not the likeliest frame. The Frechet distance asks less: do "
        "dreamed frames, as a crowd, look and move like real ones? Lower is closer; a copied frame, which stands "
        "still, is off the chart."
    )
    charts = [
        horizon_chart(measured, measured[name], label) for name, label in (("psnr", "PSNR in dB"), ("ssim", "SSIM"))
    ]
    frechet = measured["frechet"]
    drawn = {name: values for name, values in frechet["by_frame"].items() if name != "copy_last_frame"}
    errors = {name: error for name, error in frechet["standard_error"].items() if error}
    charts.append(horizon_chart(measured, drawn, "Frechet distance", from_zero=True, error=errors))
    rows = [(VARIANTS[name][0], [frechet["all"][name]], 2) for name in VARIANTS if name in frechet["all"]]
    table = number_table("Frechet distance, all frames together", [""], rows)
    return section("Fidelity", text, side_by_side([figure(each) for each in (*charts, table)]))


def _control(measured: Mapping[str, Any]) -> str:
    if not measured["delta_psnr"]:
        return section("Control", "This world was trained without actions: there is nothing to obey.", "")
    text = (
        "Does the player decide? Delta-PSNR is how much closer the dream is with the true actions than with another "
        "clip's; a world that ignores its player scores 0. The action head guesses the player's next action from the "
        "frames so far; it should do so as well on dreamed frames as on real ones."
    )
    error = measured["standard_error"]["delta_psnr"]
    delta = Line("delta-PSNR", measured["delta_psnr"], "model", error=error)
    chart = line_chart(horizons(measured), [delta], x_label="dreamed frame", y_label="delta-PSNR in dB", from_zero=True)
    figures = [figure(chart, "Band: one standard error, clips of an episode counted as one group." if error else "")]
    if recovery := measured["action_recovery"]:
        figures.append(figure(_recovery_chart(recovery)))
    return section("Control", text, side_by_side(figures))


def _recovery_chart(recovery: Mapping[str, Any]) -> str:
    name, real = next(iter(recovery["real"].items()))
    dreamed = (recovery["dreamed"] or {}).get(name, [])
    count = 1 + len(dreamed)
    lines = [
        Line("action head on dreamed frames", [None, *dreamed], "model"),
        Line("action head on real frames", [real] * count, "ceiling", dashed=True),
    ]
    if repeated := recovery["repeat_last_action"]:
        lines.append(Line("repeating the last action", [repeated[name]] * count, "copy", dashed=True))
    x_label, y_label = "dreamed frames seen", f"next action guessed: {name}"
    return line_chart(list(range(count)), lines, x_label=x_label, y_label=y_label, from_zero=True)


def _counterfactual(outcomes: Mapping[str, Any] | None, frames: CounterfactualFrames | None) -> str:
    if outcomes is None or frames is None:
        return ""
    text = (
        f"{outcomes['starts']} starts in {escape(outcomes['env'])}, each continued with every action held. In the "
        "picture: one start, and where each action leads after the last step, in the environment and in the dream."
    )
    steps = len(outcomes["accuracy"])
    lines = [
        Line("action told from its outcome", outcomes["accuracy"], "model"),
        Line("chance", [outcomes["chance"]] * steps, "copy", dashed=True),
    ]
    x_label = "frames that the action is held"
    chart = line_chart(range(1, steps + 1), lines, x_label=x_label, y_label="accuracy", from_zero=True)
    rows = [
        ("", [small([_spoken(name)]) for name in ("start", *frames.actions)]),
        ("environment", [picture(frame) for frame in (frames.start.numpy(), *frames.real.numpy())]),
        ("dream", [_EMPTY, *(picture(frame) for frame in frames.dreamed.numpy())]),
    ]
    figures = [figure(chart), figure(frame_grid(rows, widest="8rem"))]
    return section("The same start, another action", text, side_by_side(figures))


def _drift(drift: Mapping[str, Any] | None, frames: DriftFrames | None) -> str:
    if drift is None or frames is None:
        return ""
    text = (
        f"{drift['dreams']} dreams of {drift['frames'][-1]:,} frames. Nothing real can be set beside the last of them, "
        "so dreamed frames are compared in kind with real ones (dashed): sharpness falls when a dream blurs, motion "
        "when it freezes, the entropy of codes when it grows monotonous; the distance to the most similar real frame "
        "of another episode grows when it shows places that do not exist."
    )
    rows = [("", [head("start"), *(head(f"{age:,}", dreamed=True) for age in frames.ages)])]
    for number, shown in enumerate(zip(frames.starts.numpy(), frames.frames.numpy(), strict=True), 1):
        rows.append((f"dream {number}", [picture(shown[0]), *(picture(frame) for frame in shown[1])]))
    labels = {
        "sharpness": "sharpness, grey levels",
        "motion": "motion, grey levels a frame",
        "code_entropy_bits": "entropy of codes, bits",
        "nearest_real_rmse": "distance to a real frame",
    }
    charts = [_age_chart(drift, name, label) for name, label in labels.items() if drift["real"][name] is not None]
    content = frame_grid(rows, widest="7rem") + side_by_side([figure(chart) for chart in charts])
    return section("Long dreams", text, content)


def _age_chart(drift: Mapping[str, Any], name: str, label: str) -> str:
    ages = drift["frames"]
    lines = [
        Line("dream", drift[name], "model"),
        Line("real frames", [drift["real"][name]] * len(ages), "ceiling", dashed=True),
    ]
    return line_chart(ages, lines, x_label="age in frames", y_label=label, log_x=True, from_zero=True, size=(5.4, 2.9))


def _perceptual(measured: Mapping[str, Any]) -> str:
    figures = []
    if measured["lpips"]:
        figures.append(figure(horizon_chart(measured, measured["lpips"], "LPIPS (lower is closer)")))
    if measured["fvd"]:
        rows = [(VARIANTS[variant][0], [value], 1) for variant, value in measured["fvd"].items()]
        figures.append(figure(number_table("FVD (lower is closer)", [""], rows)))
    if not figures:
        text = "Not measured: they need the weights of networks of yours (<code>--lpips</code>, <code>--fvd</code>)."
        return section("LPIPS and FVD", text, "")
    text = "By the networks that were given with <code>--lpips</code> and <code>--fvd</code>."
    return section("LPIPS and FVD", text, side_by_side(figures))


def _numbers(measured: Mapping[str, Any]) -> str:
    rows = [("PSNR over copying", measured["psnr_gain"], 2)]
    if measured["delta_psnr"]:
        rows.append(("delta-PSNR", measured["delta_psnr"], 2))
    groups = (
        ("PSNR", measured["psnr"], 2),
        ("SSIM", measured["ssim"], 3),
        ("sharpness", measured["sharpness"], 3),
        ("PSNR over moving pixels", measured["moving"]["psnr"], 2),
    )
    for label, values, digits in groups:
        rows += [(f"{label}, {VARIANTS[name][0]}", values[name], digits) for name in VARIANTS if name in values]
    table = number_table("dreamed frame", horizons(measured), rows)
    text = "All of them, and more, are in metrics.json; docs/metrics.md explains each."
    return section("Numbers", text, folded("by dreamed frame", table))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))
