"""The memory of a rollout: a ring of past frames' keys and values, constant in size and in time per frame.

Legend: B batch, m codes per step, E elements per frame, M meta tokens, W window in frames, d channels of a head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from oneiros.nn.attention import attend
from oneiros.world.nn.dynamics import ClipMemory, Dynamics, additive
from oneiros.world.nn.layout import visible

_UNWRITTEN = 1 << 62  # a frame index that no query can look back to


@dataclass(frozen=True)
class Ring:
    """Keys and values of the last W + 1 frames, and of the meta tokens, which come first. `run` writes into them.

    keys, values: (layers, B, heads, M + (W+1)*E, d). slots: int64 (B, W+1), the frame index each slot holds; the newest
    is the same for all samples, but some may remember fewer before it.
    """

    dynamics: Dynamics
    keys: Tensor
    values: Tensor
    slots: Tensor

    @classmethod
    def filled(
        cls, dynamics: Dynamics, codes: Tensor, conditions: Tensor, *, first_time: int = 0
    ) -> tuple[Ring, Tensor]:
        """A ring holding the last frames of a clip, and the outputs (B, T, E, D) of all its frames.

        codes: (B, T, N); conditions: (B, T, D); first_time: frame index of the clip's first frame.
        """
        layout, frames = dynamics.layout, codes.shape[1]
        meta, elements, num_slots = dynamics.num_meta_tokens, layout.num_elements, dynamics.window + 1
        if dynamics.compiled is not None and codes.device.type == "cpu" and frames <= num_slots:
            ring = cls._empty(dynamics, dynamics.compiled.of_meta, len(codes))
            places = [(first_time + frame, step) for frame in range(frames) for step in range(layout.num_steps)]
            outputs = ring.run(dynamics.elements(codes, conditions).flatten(1, 2), places)
            return ring, outputs.unflatten(1, (frames, elements))
        memory = ClipMemory(dynamics, frames, codes.device, keep=True)
        outputs = dynamics(codes, conditions, memory=memory, first_time=first_time)
        assert memory.kept is not None
        keys = torch.stack([key for key, _ in memory.kept])
        values = torch.stack([value for _, value in memory.kept])
        ring = cls._empty(dynamics, (keys[..., :meta, :], values[..., :meta, :]), len(codes))
        for frame in range(max(0, frames - num_slots), frames):
            time = first_time + frame
            source = slice(meta + frame * elements, meta + (frame + 1) * elements)
            start = meta + time % num_slots * elements
            ring.keys[..., start : start + elements, :] = keys[..., source, :]
            ring.values[..., start : start + elements, :] = values[..., source, :]
            ring.slots[:, time % num_slots] = time
        return ring, outputs

    @classmethod
    def _empty(cls, dynamics: Dynamics, of_meta: tuple[Tensor, Tensor], batch: int) -> Ring:
        """A ring that holds no frames yet, for a batch. of_meta: keys and values of the meta tokens, of every sample or
        of one for all."""
        num_slots, (keys, values) = dynamics.window + 1, of_meta
        layers, _, heads, meta, width = keys.shape
        shape = (layers, batch, heads, meta + num_slots * dynamics.layout.num_elements, width)
        dtype = keys.dtype if dynamics.compiled is None else torch.float32
        slots = torch.full((batch, num_slots), _UNWRITTEN, device=keys.device)
        ring = cls(dynamics, keys.new_zeros(shape, dtype=dtype), values.new_zeros(shape, dtype=dtype), slots)
        ring.keys[..., :meta, :], ring.values[..., :meta, :] = keys, values
        return ring

    def run(self, x: Tensor, places: list[tuple[int, int]]) -> Tensor:
        """Outputs of a few steps' elements x (B, len(places) * m, D); places: (frame index, step) of each m of them.

        Their keys and values are written first, in place, so that they may see one another under the mask rule.
        """
        layout = self.dynamics.layout
        m, meta, elements, device = layout.tokens_per_step, self.dynamics.num_meta_tokens, layout.num_elements, x.device
        for time, _ in places:
            self.slots[:, time % self.slots.shape[1]] = time
        if self.dynamics.compiled is not None and device.type == "cpu":
            return self.dynamics.compiled.run(x, self.keys, self.values, self.slots.numpy(), places)
        times = torch.tensor([time for time, _ in places], device=device).repeat_interleave(m)
        steps = torch.tensor([step for _, step in places], device=device).repeat_interleave(m)
        of_step = torch.cat([torch.arange(step * m, (step + 1) * m, device=device) for _, step in places])
        places_in_ring = meta + times % self.slots.shape[1] * elements + of_step
        key_steps = layout.step.to(device).repeat(self.slots.shape[1])
        mask = visible(times, steps, self._key_times(), key_steps, self.dynamics.window)
        mask = additive(torch.cat([mask.new_ones(*mask.shape[:-1], meta), mask], -1)).to(self.keys.dtype)
        memory = _RingMemory(self.keys, self.values, places_in_ring, mask)
        return self.dynamics.run(x, memory, self.dynamics.rotary(times, of_step))

    def _key_times(self) -> Tensor:
        """The frame that each element of the ring is of: (ring,), or (B, 1, ring) where samples hold different ones."""
        slots = self.slots[:1] if bool((self.slots == self.slots[:1]).all()) else self.slots[:, None]
        times = slots.repeat_interleave(self.dynamics.layout.num_elements, -1)
        return times[0] if len(times) == 1 else times

    def replaced(self, rows: Tensor, other: Ring) -> None:
        """Samples `rows` (R,) become those of another ring (R, ...), in place. Its newest frame is this one's."""
        self.keys[:, rows], self.values[:, rows], self.slots[rows] = other.keys, other.values, other.slots

    def clone(self) -> Ring:
        """An independent copy."""
        return replace(self, keys=self.keys.clone(), values=self.values.clone(), slots=self.slots.clone())

    def joined(self, other: Ring) -> Ring:
        """Both batches in one ring, this one's first. The two must hold the same frames."""
        return replace(
            self,
            keys=torch.cat([self.keys, other.keys], 1),
            values=torch.cat([self.values, other.values], 1),
            slots=torch.cat([self.slots, other.slots]),
        )

    def first(self, count: int) -> Ring:
        """The ring of the first `count` samples alone."""
        return self.of(torch.arange(count, device=self.slots.device))

    def of(self, samples: Tensor) -> Ring:
        """The ring of these samples (R,), of which one may be named several times."""
        return replace(self, keys=self.keys[:, samples], values=self.values[:, samples], slots=self.slots[samples])


@dataclass(frozen=True)
class _RingMemory:
    """The memory of one run: new keys and values go to their `places` in the ring (L,), queries see all that `mask`
    (L, ring), or (B, 1, L, ring), allows."""

    keys: Tensor
    values: Tensor
    places: Tensor
    mask: Tensor

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        keys, values = self.keys[layer], self.values[layer]
        keys[:, :, self.places] = key
        values[:, :, self.places] = value
        return attend(query, keys, values, mask=self.mask)
