"""A segmenter: a network of kernel point convolutions, with the features and classes that it was trained on.

Legend: N cells, C channels, K classes, B clouds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from oneiros.ops.receptive_fields import receptive_fields
from oneiros.points.nn.dense import DensePointNet, DensePointNetConfig
from oneiros.points.nn.unet import PointUNet, PointUNetConfig
from oneiros.records import Loss, PointBatch, Trainable
from oneiros.run_folder import CloudOrigin, from_json, load_model, read_config, save_model


@dataclass(frozen=True)
class SegmenterConfig:
    """names, codes: of each class, and the classification codes in files that count as it. writes: the code that stands
    for each class in files that are labelled. features: what `cells.make_cells` is asked for beside the heights.
    mean, std: of each channel. radius: of receptive fields, vertical cylinders, in metres (the clouds' unit).
    max_points: cells of a field that are looked at together, at most.
    class_weights: of each class in the loss. label_smoothing: of the loss. network: its `grid` is the cells'.
    squash: whether normalised features pass through asinh, so that heights never seen are not far from those seen.
    """

    names: tuple[str, ...]
    codes: tuple[tuple[int, ...], ...]
    writes: tuple[int, ...]
    features: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_weights: tuple[float, ...]
    radius: float = 12.0
    max_points: int = 8192
    label_smoothing: float = 0.0
    squash: bool = False
    network: PointUNetConfig | DensePointNetConfig = field(default_factory=PointUNetConfig)

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.codes) == len(self.writes) == len(self.class_weights):
            raise ValueError(
                f"names ({len(self.names)}), codes ({len(self.codes)}), writes ({len(self.writes)}) and class_weights "
                f"({len(self.class_weights)}) need one entry for each class"
            )
        if self.network.num_classes != len(self.names):
            raise ValueError(f"the network's num_classes is {self.network.num_classes}; there are {len(self.names)}")
        if not len(self.mean) == len(self.std) == self.network.in_dim:
            raise ValueError(f"mean, std and the network's in_dim ({self.network.in_dim}) differ in length")
        if not self.radius > 0:
            raise ValueError(f"radius is {self.radius}; it must be above 0")
        if self.max_points < 1:
            raise ValueError(f"max_points is {self.max_points}; it must be at least 1")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SegmenterConfig:
        return from_json(cls, values, "the segmenter's config")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Segmenter(Trainable):
    """Labels clouds of cells. `forward` trains on receptive fields; `probabilities` and `predict` take whole clouds."""

    kind: ClassVar = "segmenter"

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        self.config = config
        self.network = _network(config.network)
        self.register_buffer("mean", torch.tensor(config.mean), persistent=False)
        self.register_buffer("std", torch.tensor(config.std), persistent=False)
        self.register_buffer("class_weights", torch.tensor(config.class_weights), persistent=False)
        self.mean: Tensor
        self.std: Tensor
        self.class_weights: Tensor

    @property
    def num_classes(self) -> int:
        return len(self.config.names)

    def forward(self, batch: PointBatch) -> Loss:
        """Cross-entropy of the labelled points of receptive fields. Raises ValueError for a batch without labels."""
        if batch.labels is None:
            raise ValueError("a segmenter learns from labelled points; the batch has no labels")
        labelled = batch.labels >= 0
        logits, labels = self._logits(batch)[labelled].float(), batch.labels[labelled]
        smoothing = self.config.label_smoothing
        losses = F.cross_entropy(logits, labels, self.class_weights, reduction="none", label_smoothing=smoothing)
        total = losses.sum() / max(len(labels), 1)
        if isinstance(self.network, DensePointNet):
            total = total + self.network.regularization()
        accuracy = (logits.argmax(1) == labels).float().sum() / max(len(labels), 1)
        return Loss(total, {"segmenter/state": total.detach(), "segmenter/accuracy": accuracy.detach()})

    def loss_weight(self, batch: PointBatch) -> Tensor:
        """How many points the loss is a mean over."""
        assert batch.labels is not None
        return (batch.labels >= 0).sum()

    @torch.no_grad()
    def probabilities(self, points: PointBatch, needed: Tensor | None = None) -> Tensor:
        """Probabilities of the classes, float32 (N, K), averaged over the receptive fields that see a point.

        points: cells of whole clouds, subsampled with the network's grid. needed: bool (N,), cells whose probabilities
            are needed; receptive fields without any are left out, and cells that no other sees come out as nan.
        """
        sums = points.features.new_zeros(len(points.xyz), self.num_classes)
        pack: list[Tensor] = []
        for rows in self._fields(points):
            if needed is not None and not bool(needed[rows].any()):
                continue
            if pack and sum(map(len, pack)) + len(rows) > self.config.max_points:
                self._add_probabilities(sums, points, pack)
                pack = []
            pack.append(rows)
        if pack:
            self._add_probabilities(sums, points, pack)
        return sums / sums.sum(1, keepdim=True)

    def _fields(self, points: PointBatch) -> Iterator[Tensor]:
        """The rows of receptive fields that cover every cloud of the batch."""
        for first, last in itertools.pairwise(points.offsets.tolist()):
            xyz = points.xyz[first:last]
            for _, rows in receptive_fields(xyz, self.config.radius, max_points=self.config.max_points):
                yield rows + first

    def _add_probabilities(self, sums: Tensor, points: PointBatch, fields: Sequence[Tensor]) -> None:
        """Of several small fields at once: a network's pass has its price however few points it sees."""
        rows = torch.cat(list(fields))
        offsets = torch.tensor([0, *itertools.accumulate(map(len, fields))], device=rows.device)
        logits = self._logits(PointBatch(points.xyz[rows], points.features[rows], None, offsets))
        sums.index_add_(0, rows, logits.float().softmax(1))

    def predict(self, points: PointBatch) -> Tensor:
        """The likeliest class of each point: int64 (N,)."""
        return self.probabilities(points).argmax(1)

    # -- run folders ----------------------------------------------------------------------------------------------

    def save(
        self,
        folder: Path | str,
        *,
        recipe: Mapping[str, Any] | None = None,
        data: CloudOrigin | None = None,
    ) -> None:
        """Write a run folder that `load` reads back bitwise. recipe, data: what it was trained with, and on."""
        save_model(self, folder, self.kind, self.config.to_json(), recipe=recipe, data=data)

    @classmethod
    def load(cls, folder: Path | str, *, device: torch.device | str = "cpu") -> Segmenter:
        """The segmenter of a run folder, in eval mode. Raises ValueError, in one line, for a folder that holds none or
        is damaged, and for a device that is not there."""
        config = read_config(folder, cls.kind)
        return load_model(folder, config, lambda values: cls(SegmenterConfig.from_json(values)), device=device)

    def _logits(self, batch: PointBatch) -> Tensor:
        features = (batch.features - self.mean) / self.std
        features = features.asinh() if self.config.squash else features
        return self.network(PointBatch(batch.xyz, features, None, batch.offsets))


def _network(config: PointUNetConfig | DensePointNetConfig) -> PointUNet | DensePointNet:
    return PointUNet(config) if isinstance(config, PointUNetConfig) else DensePointNet(config)
