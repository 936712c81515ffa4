"""A causal transformer over the codes of all frames, conditioned on actions.

After Genie (arXiv 2402.15391) and the description of Genie 2, with the frame as a block of a few parallel steps (see
`layout`). The same blocks run over a whole clip (`forward`) and frame by frame against a ring of past keys and values
(`Ring`); both obey one mask rule, `layout.visible`.

Legend: B batch, T frames, N codes per frame, m codes per step, S steps and E = S * m elements per frame, M meta
tokens, D width, C width of a codebook vector, L levels of the codebook, K entries of each, W window in frames, d
channels of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oneiros.machine import bf16_is_faster
from oneiros.nn.attention import attend, check_divides
from oneiros.ops.choice import choose
from oneiros.world.nn.blocks import DynamicsBlock, Memory
from oneiros.world.nn.code_loss import distance_cross_entropy, distance_logits, neighbourly_targets
from oneiros.world.nn.codebooks import code_of, digits_of, vectors_of
from oneiros.world.nn.compiled import CompiledDynamics, head_weights
from oneiros.world.nn.layout import TokenLayout, visible
from oneiros.world.nn.norm import RMSNorm
from oneiros.world.nn.rope import rotary_table

FRAMES_PER_CHUNK = 2  # queries attended together in a clip: more would spend products on masked scores


class Dynamics(nn.Module):
    """A causal transformer over codes: `forward` gives outputs per element, `logits` scores them by code."""

    def __init__(
        self,
        *,
        grid: tuple[int, int],
        codebook: Tensor,
        codebook_levels: int = 1,
        dim: int = 256,
        depth: int = 6,
        head_dim: int = 64,
        heads: int | None = None,
        tokens_per_step: int = 16,
        window: int = 16,
        num_meta_tokens: int = 16,
        residual_streams: int = 1,
        target_spread: float = 0.0,
    ) -> None:
        """codebook: (L * K, C), level after level; kept shifted and scaled so that the first has unit spread, which
        lets one learning rate fit every tokenizer. Its spacing sets the initial scale of the logits. target_spread: see
        `neighbourly_targets`, in the spread of each level. heads: of head_dim channels each; None = as many as make
        dim."""
        super().__init__()
        if heads is None:
            check_divides("head_dim", head_dim, "dim", dim)
        self.layout = TokenLayout.of(*grid, tokens_per_step)
        self.window, self.num_meta_tokens, self.streams = window, num_meta_tokens, residual_streams
        self.head_dim, self.heads = head_dim, heads or dim // head_dim
        self.periods = (8.0 * window, 4.0 * max(grid[0], 2), 4.0 * max(grid[1], 2))
        self.codebook_levels = codebook_levels
        first = codebook.detach().float()[: len(codebook) // codebook_levels]
        self.register_buffer("codebook_mean", first.mean(0))
        self.register_buffer("codebook_spread", first.std().clamp_min(1e-6))
        self.register_buffer("codebook", torch.empty_like(codebook, dtype=torch.float32))
        self.codebook_mean: Tensor
        self.codebook_spread: Tensor
        self.codebook: Tensor
        self.target_spread = target_spread
        self.set_codebook(codebook)
        self.enter = nn.Linear(codebook.shape[1], dim)
        self.own_position = nn.Embedding(self.layout.num_codes + 1, dim)  # the last is ACT
        self.target_position = nn.Embedding(self.layout.num_codes + 1, dim)  # the last is NONE
        self.meta = nn.Parameter(torch.zeros(num_meta_tokens, dim))
        self.blocks = nn.ModuleList(
            DynamicsBlock(dim=dim, heads=self.heads, head_dim=head_dim, layer=layer, streams=residual_streams)
            for layer in range(depth)
        )
        self.compiled: CompiledDynamics | None = None
        self.output_norm = RMSNorm(dim)
        self.leave = nn.Linear(dim, codebook.shape[1])
        self.log_scale = nn.Parameter(_initial_log_scale(self.levels[0]))
        self.finer = nn.ModuleList(FinerLevel(dim, level) for level in self.levels[1:])
        self._initialise()

    def _initialise(self) -> None:
        for position in (self.own_position, self.target_position):
            nn.init.normal_(position.weight, std=0.5)
        with torch.no_grad():
            for block in self.blocks:
                assert isinstance(block, DynamicsBlock)
                for layer in (block.attention.output, block.feed_forward.contract):
                    layer.weight.mul_((2 * len(self.blocks)) ** -0.5)

    @torch.no_grad()
    def set_codebook(self, codebook: Tensor) -> None:
        """Follow a codebook (L * K, C) that goes on learning; shift and scale stay those of the first."""
        first = len(codebook) // self.codebook_levels
        self.codebook.copy_(codebook / self.codebook_spread)
        self.codebook[:first] = (codebook[:first] - self.codebook_mean) / self.codebook_spread

    @property
    def levels(self) -> Tensor:
        """The codebook by level (L, K, C): a code's vector is the sum of its entries."""
        return self.codebook.unflatten(0, (self.codebook_levels, -1))

    def prepare_for_inference(self, *, float32: bool = False) -> None:
        """Compile what dreams on a CPU, and turn the blocks to bf16 where the machine multiplies it faster."""
        self.compile_for_cpu()
        if not float32 and bf16_is_faster(self.codebook.device.type):
            self.blocks.to(torch.bfloat16)

    @torch.no_grad()
    def compile_for_cpu(self) -> None:
        """From now on, until the next training, dreams on this CPU run a compiled copy of this dynamics as it is. Does
        nothing for several residual streams, for heads that are together not as wide as the model, on other devices,
        and where ONEIROS_KERNELS says reference."""
        device, as_wide = self.codebook.device, self.heads * self.head_dim == self.meta.shape[1]
        if device.type != "cpu" or self.streams > 1 or not as_wide or choose("auto", device) == "reference":
            return
        self.compiled = CompiledDynamics(
            [block for block in self.blocks if isinstance(block, DynamicsBlock)],
            self.layout,
            head_weights(self.output_norm.weight, self.leave, self.levels[0], self.log_scale.exp()),
            contents=self._contents(),
            positions=self._positions(),
            periods=self.periods,
            window=self.window,
            num_meta_tokens=self.num_meta_tokens,
            of_meta=self._of_meta(),
        )

    def _of_meta(self) -> tuple[Tensor, Tensor]:
        """Keys and values of the meta tokens, which see one another alone, (layers, 1, heads, M, d) each."""
        if not self.num_meta_tokens:
            nothing = self.meta.new_zeros(len(self.blocks), 1, self.heads, 0, self.head_dim)
            return nothing, nothing
        memory, x = ClipMemory(self, 0, self.meta.device, keep=True), self.meta[None]
        none = torch.zeros(0, dtype=torch.long, device=x.device)
        self.run(x, memory, x.new_zeros(2, x.shape[1], self.rotary(none, none).shape[-1]))
        keys, values = zip(*memory.kept or (), strict=True)
        return torch.stack(keys).float(), torch.stack(values).float()

    def train(self, mode: bool = True) -> Dynamics:
        if mode:
            self.compiled = None
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Dynamics:
        """On another device, or as other numbers, the copy would no longer be one."""
        self.compiled = None
        return super()._apply(fn, recurse)

    # -- elements ------------------------------------------------------------------------------------------------

    def elements(self, codes: Tensor, conditions: Tensor) -> Tensor:
        """Blocks of elements (..., E, D) from codes (..., N) in raster order and conditions (..., D)."""
        content = self._entered(codes[..., self.layout.order.to(codes.device)])
        acts = conditions[..., None, :].expand(*conditions.shape[:-1], self.layout.tokens_per_step, -1)
        content = torch.cat([acts, content + conditions[..., None, :]], -2)
        return content + self._positions()

    def _contents(self) -> Tensor:
        """What enters for each entry of the codebook, by level (L, K, D)."""
        if self.compiled is not None:
            return self.compiled.contents
        first, *finer = self.levels
        return torch.stack([self.enter(first), *(F.linear(level, self.enter.weight) for level in finer)])

    def _positions(self) -> Tensor:
        """Where each element of a frame is, and what it predicts (E, D)."""
        if self.compiled is not None:
            return self.compiled.positions
        own, target = (index.to(self.codebook.device) for index in (self.layout.own, self.layout.target))
        return self.own_position(own) + self.target_position(target)

    def step_elements(self, step: int, codes: Tensor | None, condition: Tensor) -> Tensor:
        """The m elements of one step (B, m, D): `codes` (B, m) in generation order, None for step 0."""
        m = self.layout.tokens_per_step
        span = slice(step * m, (step + 1) * m)
        content = condition[:, None].expand(-1, m, -1)
        if codes is not None:
            content = content + self._entered(codes)
        return content + self._positions()[span]

    def _entered(self, codes: Tensor) -> Tensor:
        """What enters for codes (...), summed over their levels (..., D)."""
        return vectors_of(codes, self._contents())

    def last_step_elements(self, codes: Tensor, condition: Tensor) -> Tensor:
        """The m elements of a frame's last step (B, m, D), from all its codes (B, N) in raster order."""
        last = codes[:, self.layout.order.to(codes.device)[-self.layout.tokens_per_step :]]
        return self.step_elements(self.layout.num_steps - 1, last, condition)

    def rotary(self, times: Tensor, elements: Tensor) -> Tensor:
        """Rotary tables (2, L, channels) of elements (L,), numbered 0 .. E-1 within their frames at `times` (L,)."""
        row, column = self.layout.row.to(times.device)[elements], self.layout.column.to(times.device)[elements]
        return rotary_table(torch.stack([times, row, column], 1), self.head_dim, self.periods)

    def run(self, x: Tensor, memory: Memory, rotary: Tensor, *, layers: Sequence[int] = ()) -> Tensor:
        """All blocks over elements x (B, L, D). Returns outputs (B, L, D), streams averaged. layers: instead, outputs
        of these blocks, joined (B, L, len(layers) * D); what lies above the last of them does not run."""
        entered = x.dtype
        x = x.to(self._stream_dtype(x.device.type))
        if self.streams > 1:
            x = x[:, :, None].expand(-1, -1, self.streams, -1)
        first_values, read, last = None, {}, len(self.blocks) - 1
        for number, block in enumerate(islice(self.blocks, max(layers, default=last) + 1)):
            x, values = block(x, memory, rotary, first_values)
            first_values = values if first_values is None else first_values
            if number in (layers or (last,)):
                read[number] = (x.mean(2) if self.streams > 1 else x).to(entered)
        return torch.cat([read[number] for number in layers or (last,)], -1)

    def _stream_dtype(self, device_type: str) -> torch.dtype:
        """Elements travel in the products' own type: in training, their bytes cost as much as the products."""
        if torch.is_autocast_enabled(device_type):
            return torch.get_autocast_dtype(device_type)
        return self.blocks[0].attention.value.weight.dtype  # type: ignore[union-attr]

    # -- a whole clip ----------------------------------------------------------------------------------------------

    def forward(
        self,
        codes: Tensor,
        conditions: Tensor,
        *,
        memory: ClipMemory | None = None,
        first_time: int = 0,
        layers: Sequence[int] = (),
    ) -> Tensor:
        """Outputs (B, T, E, D) of a clip in one causal pass (teacher forcing).

        codes: int64 (B, T, N), raster order. conditions: (B, T, D), of the action that led into each frame.
        first_time: frame index of the first frame; only differences matter. layers: see `run`.
        """
        (batch, frames), elements = codes.shape[:2], self.layout.num_elements
        x = self.elements(codes, conditions).flatten(1, 2)
        x = torch.cat([self.meta.expand(batch, -1, -1), x], 1)
        times = torch.arange(first_time, first_time + frames, device=codes.device).repeat_interleave(elements)
        rotary = self.rotary(times, torch.arange(elements, device=codes.device).repeat(frames))
        rotary = torch.cat([rotary.new_zeros(2, self.num_meta_tokens, rotary.shape[-1]), rotary], 1)
        memory = memory or ClipMemory(self, frames, codes.device)
        outputs = self.run(x, memory, rotary, layers=layers)[:, self.num_meta_tokens :]
        return outputs.unflatten(1, (frames, elements))

    def predictions(self, outputs: Tensor) -> Tensor:
        """The outputs that predict codes: (..., E, D) -> (..., N, D), in generation order."""
        return outputs[..., : self.layout.num_codes, :]

    def logits(self, outputs: Tensor) -> Tensor:
        """Outputs (..., D) -> float32 logits (..., K) of the first level: negative distance to each entry times a
        learned scale."""
        if self.compiled is not None and outputs.device.type == "cpu":
            return self.compiled.logits(outputs)
        return distance_logits(self.leave(self.output_norm(outputs)), self.levels[0], self.log_scale.exp())

    def draw(self, outputs: Tensor, choose: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Codes int64 (B, m) from outputs (B', m, D), level by level, each seeing those before it.

        choose: (logits (B', m, K), entries (K, C)) -> which of them (B, m); B' is B, or 2B where it guides.
        """
        logits, levels = self.logits(outputs), self.levels
        digits = [choose(logits, levels[0])]
        normed, vectors = self.output_norm(outputs) if self.finer else outputs, 0.0
        for finer, entries, above in zip(self.finer, levels[1:], levels, strict=False):
            vectors = vectors + F.embedding(digits[-1], above).repeat(len(outputs) // len(digits[-1]), 1, 1)
            assert isinstance(finer, FinerLevel)
            digits.append(choose(distance_logits(finer(normed, vectors), entries, finer.log_scale.exp()), entries))
        return code_of(digits, levels.shape[1])

    def code_losses(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs (..., D), codes (...) -> cross-entropy, summed over levels, and whether the first level's entry was
        the likeliest, each (...)."""
        levels, normed = self.levels, self.output_norm(outputs).flatten(0, -2)
        digits = digits_of(targets.flatten(), levels.shape[1], len(levels))

        def of_level(query: Tensor, level: int, log_scale: Tensor) -> tuple[Tensor, Tensor]:
            distributions = neighbourly_targets(levels[level], self.target_spread * self._spread_of(level))
            return distance_cross_entropy(query, levels[level], log_scale, digits[level], distributions)

        losses, hits = of_level(self.leave(normed), 0, self.log_scale)
        vectors = torch.zeros((), device=outputs.device)
        for level, finer in enumerate(self.finer, 1):
            assert isinstance(finer, FinerLevel)
            vectors = vectors + F.embedding(digits[level - 1], levels[level - 1])
            losses = losses + of_level(finer(normed, vectors), level, finer.log_scale)[0]
        return losses.view_as(targets), hits.view_as(targets)

    def _spread_of(self, level: int) -> float:
        """The standard deviation of a level's entries; the first's was 1 when the dynamics were made."""
        return 1.0 if level == 0 else float(self.levels[level].std())

    def step_features(self, outputs: Tensor) -> Tensor:
        """What is known of a step before the frame it leads to: the mean of that frame's outputs (..., E, D) over its
        step 0, whose elements are the action's -> (..., D)."""
        return outputs[..., : self.layout.tokens_per_step, :].mean(-2)

    def frame_features(self, outputs: Tensor) -> Tensor:
        """What the action head reads: the mean of outputs (..., E, D) over steps 1 .. N/m -> (..., D)."""
        return outputs[..., self.layout.tokens_per_step :, :].mean(-2)


class FinerLevel(nn.Module):
    """Where the next entry lies, from an output and the vectors of the levels before: a small network, so that all
    levels are drawn in one pass of the blocks (as the RQ-Transformer's depth transformer, arXiv 2203.01941)."""

    def __init__(self, dim: int, entries: Tensor) -> None:
        """dim: D of outputs. entries: (K, C) of this level, normalised."""
        super().__init__()
        width = entries.shape[1]
        self.read, self.above = nn.Linear(dim, 2 * dim), nn.Linear(width, 2 * dim, bias=False)
        self.leave = nn.Linear(2 * dim, width)
        self.log_scale = nn.Parameter(_initial_log_scale(entries))

    def forward(self, outputs: Tensor, vectors: Tensor) -> Tensor:
        """Normalised outputs (..., D), vectors so far (..., C) -> queries (..., C)."""
        return self.leave(F.silu(self.read(outputs) + self.above(vectors)))


def _initial_log_scale(codebook: Tensor) -> Tensor:
    """The scale at which codes at the mean distance differ by a factor e^2: at scale 1, close codes would cap the
    confidence; much above this, training would begin by unlearning confidence in the wrong codes."""
    if len(codebook) < 2:
        return torch.zeros(())
    return (2.0 / torch.pdist(codebook).mean().clamp_min(1e-3)).log()


class ClipMemory:
    """The memory of a whole clip: every element attends to the elements that `visible` allows, chunk by chunk."""

    def __init__(self, dynamics: Dynamics, num_frames: int, device: torch.device, *, keep: bool = False) -> None:
        """keep: remember each layer's keys and values, to fill a `Ring`."""
        layout, window = dynamics.layout, dynamics.window
        elements, step = layout.num_elements, layout.step.to(device)
        self.meta = dynamics.num_meta_tokens
        self.kept: list[tuple[Tensor, Tensor]] | None = [] if keep else None
        self.sizes, self.spans, self.masks = [self.meta], [], []
        for first in range(0, num_frames, FRAMES_PER_CHUNK):
            last = min(first + FRAMES_PER_CHUNK, num_frames)
            oldest = max(0, first - window + 1)
            times = torch.arange(oldest, last, device=device).repeat_interleave(elements)
            steps = step.repeat(last - oldest)
            asking = slice((first - oldest) * elements, None)
            mask = visible(times[asking], steps[asking], times, steps, window)
            self.masks.append(additive(torch.cat([mask.new_ones(len(mask), self.meta), mask], 1)))
            self.spans.append((self.meta + oldest * elements, self.meta + last * elements))
            self.sizes.append(len(mask))

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if self.kept is not None:
            self.kept.append((key, value))
        meta = self.meta
        if layer == 0:
            self.masks = [mask.to(query.dtype) for mask in self.masks]
        of_meta, *queries = query.split(self.sizes, dim=2)
        read = [attend(of_meta, key[:, :, :meta], value[:, :, :meta])] if meta else []
        for asking, (oldest, end), mask in zip(queries, self.spans, self.masks, strict=True):
            keys, values = key, value
            if oldest > meta:
                keys, values = (torch.cat([x[:, :, :meta], x[:, :, oldest:end]], 2) for x in (key, value))
            elif end < key.shape[2]:
                keys, values = key[:, :, :end], value[:, :, :end]
            read.append(attend(asking, keys, values, mask=mask))
        return torch.cat(read, 2) if len(read) > 1 else read[0]


def additive(mask: Tensor) -> Tensor:
    """A bool mask as float32 to add to scores: 0 where True, -inf where False."""
    return torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -torch.inf)
