"""What is to be done, as one token: a learned table of tasks, or sentences that were embedded elsewhere.

Legend: B batch, D width, G width of embedded sentences.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Goals(nn.Module):
    """dim: D. sentence_dim: G, or 0 for a table of `dim` numbers for each task."""

    def __init__(self, *, tasks: Sequence[str], dim: int, sentence_dim: int = 0) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.unknown = nn.Parameter(torch.randn(dim) * 0.5)
        if sentence_dim:
            self.register_buffer("table", torch.zeros(len(tasks), sentence_dim))
            self.project = nn.Sequential(nn.Linear(sentence_dim, dim), nn.GELU(), nn.Linear(dim, dim))
        else:
            self.table = nn.Parameter(torch.randn(len(tasks), dim) * 0.5)
            self.project = nn.Identity()
        self.table: Tensor

    @torch.no_grad()
    def set_sentences(self, embedded: Tensor) -> None:
        """Take embeddings of the tasks (tasks, G), made by a sentence encoder; kept with the weights."""
        if self.table.requires_grad or embedded.shape != self.table.shape:
            raise ValueError(
                f"embedded goals have shape {tuple(embedded.shape)}; this policy takes "
                + ("none: it learns a table" if self.table.requires_grad else f"{tuple(self.table.shape)}")
            )
        # of unit variance, whatever the encoder's scale: most give vectors of length one
        self.table.copy_(embedded / embedded.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-6))

    def numbers(self, task: Sequence[str] | None, batch_size: int, device: torch.device) -> Tensor:
        """Instructions -> int64 (B,), indices into the tasks; -1 where nothing is said. ValueError for unknown ones."""
        if task is None:
            return torch.full((batch_size,), -1, device=device)
        if len(task) != batch_size:
            raise ValueError(f"there are {len(task)} tasks for {batch_size} environments; one for each is needed")
        places = {name: index for index, name in enumerate(self.tasks)}
        if missing := [name for name in task if name not in places]:
            near = difflib.get_close_matches(missing[0], self.tasks, 1) or list(self.tasks[:3])
            learned = f"the {len(self.tasks)} that this policy learned"
            raise ValueError(f"task {missing[0]!r} is none of {learned}, such as {', '.join(near)}")
        return torch.tensor([places[name] for name in task], device=device)

    def forward(self, goal: Tensor, forgotten: Tensor | None = None) -> Tensor:
        """goal int64 (B,), -1 = unknown; forgotten: bool (B,) -> tokens (B, 1, D)."""
        unknown = goal < 0 if forgotten is None else (goal < 0) | forgotten
        if not self.tasks:
            return self.unknown.expand(len(goal), 1, -1)
        token = self.project(self.table[goal.clamp_min(0)])
        return torch.where(unknown[:, None], self.unknown.to(token.dtype), token)[:, None]
