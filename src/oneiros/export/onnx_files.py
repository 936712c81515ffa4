"""The graphs of a world as ONNX files, their weights in 32, 16 or 8 bits.

Weights of fewer bits save disk and wire alone: the graph turns them back to float32 before anything is computed, which
ONNX Runtime does once, when it loads. Products in float32 are also what is fast on the processors of browsers.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from oneiros.console import Advance
from oneiros.disk import replacing
from oneiros.export.graphs import DecodeGraph, EncodeGraph, LevelGraph, OutcomeGraph, StepGraph, time_frequencies
from oneiros.world.model import World
from oneiros.world.nn.codec import ImageCodec

if TYPE_CHECKING:
    from onnx import ModelProto

Precision = Literal["float32", "float16", "int8"]
OPSET = 22  # before root-mean-square norms were an operator, which ONNX Runtime 1.30 gets wrong on WebGPU
LEAST = 4096  # numbers of a tensor that is worth fewer bits


@dataclass(frozen=True)
class Part:
    """A graph, what it is given for an example, and the names of what goes in and comes out. shapes: the axes
    of inputs that have more lengths than one, as `torch.export` takes them; None = there are none."""

    name: str
    graph: nn.Module
    example: tuple[Tensor, ...]
    inputs: Sequence[str]
    outputs: Sequence[str]
    shapes: tuple[Any, ...] | None = None


def parts_of(world: World) -> list[Part]:
    """All graphs of a world; the first is its step."""
    levels = len(world.dynamics.levels)
    finer = [_level(world, level) for level in range(1, levels)]
    return [_step(world), *finer, *_outcome(world), _decode(world), _encode(world)]


@torch.no_grad()
def write_parts(
    parts: Sequence[Part], folder: Path, *, precision: Precision = "float32", advance: Advance = lambda amount: None
) -> dict[str, int]:
    """Write NAME.onnx for each part into the folder; returns their sizes in bytes by name.

    Raises ValueError for a graph that holds what ONNX has no operator for.
    """
    import onnx

    sizes = {}
    for part in parts:
        model = _exported(part)
        for node in model.graph.node:
            del node.metadata_props[:]  # paths of this machine
        if precision != "float32":
            _shrink(model, precision)
        onnx.checker.check_model(model)
        with replacing(folder / f"{part.name}.onnx") as temporary:
            onnx.save(model, temporary)
        sizes[part.name] = (folder / f"{part.name}.onnx").stat().st_size
        advance(1)
    return sizes


# -- the parts -----------------------------------------------------------------------------------------------------


def _step(world: World) -> Part:
    graph, dynamics = StepGraph(world), world.dynamics
    layers, m, heads, d = len(dynamics.blocks), dynamics.layout.tokens_per_step, dynamics.heads, dynamics.head_dim
    rows, ring = 2 * m, dynamics.window * dynamics.layout.num_elements
    example = (
        torch.zeros(len(dynamics.levels), rows, dtype=torch.long),
        torch.zeros(rows, dtype=torch.long),
        torch.zeros(rows, graph.actions.size + 2),
        torch.zeros(2, rows, len(time_frequencies(dynamics))),
        torch.zeros(rows, rows),
        torch.zeros(rows, ring),
        *(torch.zeros(heads, d, ring) for _ in range(layers)),
        *(torch.zeros(heads, ring, d) for _ in range(layers)),
    )
    of_ring = [f"{kind}_{layer}" for kind in ("keys", "values") for layer in range(layers)]
    inputs = ["digits", "elements", "action", "in_time", "near", "mask", *of_ring]
    some = torch.export.Dim.DYNAMIC
    shapes = ({1: some}, {0: some}, {0: some}, {1: some}, {0: some, 1: some}, {0: some}, (None,) * len(of_ring))
    return Part("step", graph, example, inputs, ["logits", "outputs", "features", "keys", "values"], shapes)


def _level(world: World, level: int) -> Part:
    m = world.dynamics.layout.tokens_per_step
    example = (torch.zeros(m, world.config.dim), torch.zeros(level, m, dtype=torch.long))
    return Part(f"level_{level}", LevelGraph(world, level), example, ["outputs", "digits"], ["logits"])


def _outcome(world: World) -> list[Part]:
    """For worlds that pay or end."""
    if world.outcome_head is None:
        return []
    example = (torch.zeros(world.config.dim),)
    return [Part("outcome", OutcomeGraph(world.outcome_head), example, ["features"], ["rewards", "end_logit"])]


def _decode(world: World) -> Part:
    tokenizer = world.tokenizer
    size = tokenizer.config
    digits = torch.zeros(size.codebook_levels, tokenizer.lookback + 1, tokenizer.num_codes, dtype=torch.long)
    real = ["reference"] if size.reference_frame else []
    real += ["decoded", "missing"] if world.config.carry_detail else []
    frames = (torch.zeros(size.channels, size.height, size.width) for _ in real)
    return Part("decode", DecodeGraph(world), (digits, *frames), ["digits", *real], ["frame"])


def _encode(world: World) -> Part:
    tokenizer = world.tokenizer
    size, past = tokenizer.config, tokenizer.lookback
    example, inputs = (torch.zeros(size.channels, size.height, size.width),), ["frame"]
    if past:
        example, inputs = (*example, torch.zeros(past, size.code_dim, *tokenizer.grid)), ["frame", "past"]
    return Part("encode", EncodeGraph(world), example, inputs, ["digits", "latents"])


# -- files ---------------------------------------------------------------------------------------------------------


def _exported(part: Part) -> ModelProto:
    with _quiet():
        try:
            program = torch.onnx.export(
                part.graph.eval(),
                part.example,
                input_names=list(part.inputs),
                output_names=list(part.outputs),
                dynamic_shapes=part.shapes,
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        except (torch.onnx.OnnxExporterError, RuntimeError) as error:
            raise ValueError(_why(part, error)) from None
    assert program is not None
    return program.model_proto


def _why(part: Part, error: BaseException) -> str:
    """Of an exporter's report, over many lines, what is to be known."""
    whose = f"the {part.name} graph"
    tokenizer = part.graph.tokenizer if isinstance(part.graph, DecodeGraph | EncodeGraph) else None
    if tokenizer is not None and not isinstance(tokenizer.codec, ImageCodec):
        whose = f"the codec {type(tokenizer.codec).__name__}"
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{whose} cannot become ONNX: {lines[0] if lines else type(cause).__name__}"


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of its progress and of packages that this project does not use."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _shrink(model: ModelProto, precision: Precision) -> None:
    """Keep large weights in 16 or 8 bits, and turn them back where they are used."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, kept = [], []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < LEAST:
            kept.append(tensor)
            continue
        name = tensor.name
        if precision == "float16":
            kept.append(numpy_helper.from_array(values.astype(np.float16), f"{name}_16"))
            nodes.append(helper.make_node("Cast", [f"{name}_16"], [name], to=TensorProto.FLOAT))
            continue
        whole, scales = in_eight_bits(values)
        kept += [numpy_helper.from_array(whole, f"{name}_8"), numpy_helper.from_array(scales, f"{name}_scale")]
        nodes.append(helper.make_node("Cast", [f"{name}_8"], [f"{name}_whole"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [f"{name}_whole", f"{name}_scale"], [name]))
    nodes += model.graph.node
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)


def in_eight_bits(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers, int8, and the scales they are to be multiplied by: one for each row or each column, whichever
    comes closer."""
    best: tuple[np.ndarray, np.ndarray] | None = None
    least = np.inf
    for axis in {0, values.ndim - 1}:
        others = tuple(other for other in range(values.ndim) if other != axis)
        scales = (np.abs(values).max(others, keepdims=True) / 127).clip(1e-12).astype(np.float32)
        whole = np.rint(values / scales).astype(np.int8)
        error = float(np.square(whole * scales - values).mean())
        if error < least:
            best, least = (whole, scales), error
    assert best is not None
    return best
