"""The README of an exported world."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TEXT = """# {title}

A world that dreams the next frame from what you do: {width} x {height} pixels{depth}, {fps:g} frames a second of its
own time. Exported by `oneiros export`.

| file | what it is |
|---|---|
| `step.onnx`{levels} | the dynamics: a step of a frame, {steps} steps a frame |
| `decode.onnx`, `encode.onnx` | codes to a frame, a frame to codes |
{outcome}| `world.json` | sizes, the actions, how depth is coded |
| `starts.json`, `starts.bin` | {num_starts} beginnings: codes and actions of some frames, the newest frame of each |
| `dream.py`, `dream.mjs` | programs that dream, and modules to build on |

```sh
pip install numpy onnxruntime && python dream.py
npm install onnxruntime-web && node dream.mjs
```

{actions}

The same start, seed and actions give the same dream in both. Weights are kept as {precision} and computed with in
float32. A dream takes the same time and memory however long it is: the last {window} frames are kept in a ring, and the
oldest is overwritten.

## The graphs

A frame has {steps} steps of {m} elements. Step 0 holds what was done, step s the {m} codes of group s, whose places in
the frame `order` in world.json tells. `step.onnx` runs the elements of a step and gives logits of the next group's
codes{finer}. The last step of a frame predicts nothing: it is run together with the next frame's first. So there are
r = {m} or {twice} elements a call.

| input | what it is |
|---|---|
| `digits` (levels, r) | the elements' codes, an entry of each level; {entries} in step 0, which holds none |
| `elements` (r) | their numbers within their frame: step * {m} and on |
| `action` (r, {action_size}) | the action's numbers, then 1 if an episode begins, then 1 if the action is unknown |
| `in_time` (2, r, pairs) | cosines and sines of their frame's number times each of `time_frequencies` |
| `near` (r, r) | 0 where one element sees another: of its step and of the step before; else minus infinity |
| `mask` (r, {ring}) | 0 where it sees an element of the ring, one of the last {window} frames; else minus infinity |
| `keys_*`, `values_*` | the ring; outputs `keys`, `values` go to (frame mod {window}) * {elements} + element |

`outputs`, of the last {m} elements, are what `level_1.onnx` and further ones read, with the digits drawn so far.
`features` of step 0 are what `outcome.onnx` of a world that pays or ends reads. `decode.onnx` takes the digits of a
frame row by row, after those of the {lookback} frames before it.
"""


_OUTCOME = "| `outcome.onnx` | what a step pays, and whether it ends the episode |\n"


def readme(about: Mapping[str, Any]) -> str:
    """about: what world.json holds."""
    spec, levels = about["action_spec"], about["levels"]
    finer = "".join(f", `level_{level}.onnx`" for level in range(1, levels))
    return _TEXT.format(
        **{name: about[name] for name in ("title", "width", "height", "fps", "num_starts", "precision", "window")},
        **{name: about[name] for name in ("steps", "entries", "elements", "lookback")},
        m=about["tokens_per_step"],
        twice=2 * about["tokens_per_step"],
        ring=about["window"] * about["elements"],
        action_size=about["action_size"] + 2,
        depth=" of colour and depth" if about["channels"] == 4 else "",
        levels=finer,
        finer=" of the first level" if levels > 1 else "",
        outcome=_OUTCOME if about["pays"] or about["ends"] else "",
        actions=_actions(spec),
    )


def _actions(spec: dict[str, Any] | None) -> str:
    if spec is None:
        return "The world knows no actions: `step` is given None (null)."
    names = ", ".join(f"`{name}`" for name in spec["names"])
    if spec["kind"] == "discrete":
        return f"An action is the index of one of {names}."
    if spec["kind"] == "keys":
        return f"An action is a 0 or 1 for each of the keys {names}: any of them may be held together."
    return f"An action is a number for each of {names}, in the environment's own units."
