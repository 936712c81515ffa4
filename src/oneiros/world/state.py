"""Where a dream is: what the dynamics remember of it, with the branch that guidance runs beside it.

Legend: B batch, T frames, N codes per frame, m codes per step, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from oneiros.world.nn.actions import ActionEmbedding
from oneiros.world.nn.detail import Detail
from oneiros.world.nn.dynamics import Dynamics
from oneiros.world.nn.ring import Ring


@dataclass(frozen=True)
class WorldState:
    """Everything a dream needs to go on. `World.step` consumes it, for it writes into the ring; `clone` branches.

    ring: keys and values. codes: int64 (B, W', N), the newest latents, as many as are looked back to. conditions: what
    led into the newest frame (B', D). time: index of the newest latent. pending: elements of its last step, not yet in
    the ring (B', m, D), or None when flushed. outputs: of its steps 1 .. (N/m, when flushed) (B', n, D). step_features:
    of the action that led to it (B, D), see `Dynamics.step_features`. B' is 2B while guidance runs its unconditional
    branch beside the dream, else B. reference: the last real frame (B, 1, C, H, W), if decoding is shown one. detail:
    of that frame, if it is carried.
    """

    ring: Ring
    codes: Tensor
    conditions: Tensor
    time: int
    pending: Tensor | None
    outputs: Tensor
    step_features: Tensor
    reference: Tensor | None = None
    detail: Detail | None = None

    @classmethod
    def after(
        cls, dynamics: Dynamics, codes: Tensor, conditions: Tensor, *, lookback: int, time: int | None = None
    ) -> WorldState:
        """The state after a clip of codes int64 (B, T, N) and conditions (B, T, D); the last `lookback` are kept. time:
        index of the newest latent, T - 1 where none is given."""
        return cls.begun(dynamics, codes, conditions, lookback=lookback, time=time)[0]

    @classmethod
    def begun(
        cls, dynamics: Dynamics, codes: Tensor, conditions: Tensor, *, lookback: int, time: int | None = None
    ) -> tuple[WorldState, Tensor]:
        """`after`, and the outputs (B, T, E, D) of all frames of the clip."""
        time = codes.shape[1] - 1 if time is None else time
        ring, all_outputs = Ring.filled(dynamics, codes, conditions, first_time=time - codes.shape[1] + 1)
        m, outputs = dynamics.layout.tokens_per_step, all_outputs[:, -1]
        state = cls(
            ring=ring,
            codes=codes[:, -lookback:],
            conditions=conditions[:, -1],
            time=time,
            pending=dynamics.last_step_elements(codes[:, -1], conditions[:, -1]),
            outputs=outputs[:, m:-m],
            step_features=dynamics.step_features(outputs),
        )
        return state, all_outputs

    @property
    def batch_size(self) -> int:
        """B, without the branch of guidance."""
        return len(self.codes)

    @property
    def guided(self) -> bool:
        """Whether an unconditional branch runs beside the dream."""
        return len(self.conditions) > self.batch_size

    def stepped(
        self, conditions: Tensor, choose: Callable[[Tensor, Tensor], Tensor], *, lookback: int
    ) -> tuple[WorldState, Tensor, Tensor | None]:
        """The state one frame further, that frame's codes (B, N), and the outputs (B', m, D) of the last step of the
        frame before, unless this state was flushed. Consumes this one.

        conditions: of the action that leads there (B', D). choose: see `Dynamics.draw`. lookback: codes are kept of.
        """
        dynamics, layout, batch = self.ring.dynamics, self.ring.dynamics.layout, self.batch_size
        m, time, branches = layout.tokens_per_step, self.time + 1, len(conditions) // batch
        groups, outputs, closing = [], [], None
        x = dynamics.step_elements(0, None, conditions)
        places = [(time, 0)]
        if self.pending is not None:
            x, places = torch.cat([self.pending, x], 1), [(time - 1, layout.num_steps - 1), *places]
        for step in range(1, layout.num_steps):
            output = self.ring.run(x, places)
            if len(places) > 1:
                closing, output = output[:, :m], output[:, m:]
            outputs.append(output)
            codes = dynamics.draw(output, choose)
            groups.append(codes)
            x = dynamics.step_elements(step, codes.repeat(branches, 1), conditions)
            places = [(time, step)]
        frame = torch.cat(groups, 1)[:, layout.inverse.to(codes.device)]
        state = replace(
            self,
            codes=torch.cat([self.codes, frame[:, None]], 1)[:, -lookback:],
            conditions=conditions,
            time=time,
            pending=x,
            outputs=torch.cat(outputs, 1)[:, m:],
            step_features=dynamics.step_features(outputs[0][:batch]),
        )
        return state, frame, closing

    def clone(self) -> WorldState:
        """An independent copy: stepping one leaves the other as it is."""
        return replace(self, ring=self.ring.clone())

    def of(self, samples: Tensor) -> WorldState:
        """An independent copy of these samples (R,), of which one may be named several times; without guidance."""
        alone = self.without_guidance() if self.guided else self
        parts = {name: value[samples] for name, value in alone._tensors().items()}
        return replace(alone, ring=alone.ring.of(samples), **parts)

    def replaced(self, rows: Tensor, other: WorldState) -> WorldState:
        """Samples `rows` (R,) become those of another state (R, ...), as those of one that begins anew do. Consumes
        this one. Raises ValueError where the two are at different times, or one is guided."""
        if self.time != other.time or self.guided or other.guided or (self.pending is None) != (other.pending is None):
            raise ValueError("dreams take the place of others where both are at the same time, and neither guided")
        self.ring.replaced(rows, other.ring)
        parts = {name: value.clone() for name, value in self._tensors().items()}
        for name, value in other._tensors().items():
            parts[name][rows] = value
        return replace(self, **parts)

    def _tensors(self) -> dict[str, Tensor]:
        """What has a row for each sample, the ring left out."""
        every = {
            "codes": self.codes,
            "conditions": self.conditions,
            "pending": self.pending,
            "outputs": self.outputs,
            "step_features": self.step_features,
            "reference": self.reference,
        }
        return {name: value for name, value in every.items() if value is not None}

    def observed(self, codes: Tensor, conditions: Tensor) -> WorldState:
        """The state after a frame of these codes (B, N), in raster order, instead of one that is drawn, which
        conditions (B, D) led into. Consumes this one, and leaves guidance out."""
        alone = self.without_guidance() if self.guided else self
        state, time, layout = alone.flushed(), self.time + 1, self.ring.dynamics.layout
        dynamics = self.ring.dynamics
        outputs = state.ring.run(
            dynamics.elements(codes, conditions), [(time, step) for step in range(layout.num_steps)]
        )
        kept = torch.cat([state.codes, codes[:, None]], 1)[:, -state.codes.shape[1] :]
        return replace(
            state,
            codes=kept,
            conditions=conditions,
            time=time,
            outputs=outputs[:, layout.tokens_per_step :],
            step_features=dynamics.step_features(outputs),
        )

    def flushed(self) -> WorldState:
        """The same state with its pending step written into the ring and its outputs complete. Consumes this one."""
        if self.pending is None:
            return self
        output = self.ring.run(self.pending, [(self.time, self.ring.dynamics.layout.num_steps - 1)])
        return replace(self, pending=None, outputs=torch.cat([self.outputs, output], 1))

    def with_guidance(self, embedding: ActionEmbedding) -> WorldState:
        """With the unconditional branch: the window's codes with unknown actions, in a ring of their own."""
        dynamics = self.ring.dynamics
        codes = self.codes[:, -dynamics.window :]
        frames = codes.shape[1]
        first_time = self.time - frames + 1
        conditions = embedding(None, frames, self.batch_size)
        if first_time > 0:
            conditions = embedding.null.expand_as(conditions)
        ring, outputs = Ring.filled(dynamics, codes, conditions, first_time=first_time)
        outputs = outputs[:, -1]
        m, newest, pending = dynamics.layout.tokens_per_step, conditions[:, -1], None
        if self.pending is None:
            outputs = outputs[:, m:]
        else:
            outputs = outputs[:, m:-m]
            pending = torch.cat([self.pending, dynamics.last_step_elements(codes[:, -1], newest)])
        return replace(
            self,
            ring=self.ring.joined(ring),
            conditions=torch.cat([self.conditions, newest]),
            pending=pending,
            outputs=torch.cat([self.outputs, outputs]),
        )

    def without_guidance(self) -> WorldState:
        """The dream alone, without the unconditional branch."""
        batch = self.batch_size
        return replace(
            self,
            ring=self.ring.first(batch),
            conditions=self.conditions[:batch],
            pending=None if self.pending is None else self.pending[:batch],
            outputs=self.outputs[:batch],
        )

    def entropy(self) -> Tensor:
        """The entropy of the prediction of each of the newest frame's codes (B, N), in raster order, over that of a
        uniform one: in [0, 1], before guidance and temperature. Consumes this state."""
        dynamics, layout = self.ring.dynamics, self.ring.dynamics.layout
        x = dynamics.elements(self.codes[:, -1].repeat(1 + self.guided, 1), self.conditions)
        outputs = self.ring.run(x, [(self.time, step) for step in range(layout.num_steps)])[: self.batch_size]
        logits = dynamics.logits(dynamics.predictions(outputs)).log_softmax(-1)
        entropy = -(logits.exp() * logits).sum(-1) / math.log(max(logits.shape[-1], 2))
        return entropy[:, layout.inverse.to(entropy.device)]
