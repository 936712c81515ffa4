"""Statistics of columns and images, as LeRobot keeps them per episode and per dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}

Statistics = dict[str, np.ndarray]
_COMBINED = ("min", "max", "mean", "std", "count")  # without these, nothing can be added


def check_combinable(statistics: Mapping[str, Statistics], where: str) -> None:
    """Raises ValueError for statistics by feature that lack what `combine` needs. where: they were read from."""
    for name, found in statistics.items():
        if lacking := [each for each in _COMBINED if each not in found]:
            raise ValueError(f"{where}: the statistics of {name} lack {', '.join(lacking)}; nothing is appended")


def of_column(values: np.ndarray) -> Statistics:
    """(T,) or (T, n) -> min, max, mean, std, quantiles of shape (n,) over time, and count (1,)."""
    values = values.reshape(len(values), -1).astype(np.float64)
    return {
        "min": values.min(axis=0),
        "max": values.max(axis=0),
        "mean": values.mean(axis=0),
        "std": values.std(axis=0),
        "count": np.array([len(values)]),
        **{name: np.quantile(values, q, axis=0) for name, q in QUANTILES.items()},
    }


class ImageStatistics:
    """Statistics of the frames of one episode as they stream by, from a histogram of whole values per channel.

    Every frame counts, every n-th pixel of it, so that no frame looks at more than about 20,000 pixels.
    """

    def __init__(self, *, height: int, width: int, channels: int, num_values: int) -> None:
        self._step = max(1, int(np.sqrt(height * width / 20_000)))
        self._counts = np.zeros((channels, num_values), dtype=np.int64)
        self._num_frames = 0

    def add(self, frame: np.ndarray) -> None:
        """frame: whole numbers (H, W) or (H, W, channels)."""
        pixels = frame[:: self._step, :: self._step].reshape(-1, len(self._counts))
        for counts, channel in zip(self._counts, pixels.T, strict=True):
            counts += np.bincount(channel, minlength=counts.size)
        self._num_frames += 1

    def result(self, values: np.ndarray) -> Statistics:
        """Statistics of shape (channels, 1, 1), where values[i] (rising) is what pixel value i stands for."""
        shares = self._counts / self._counts.sum(axis=1, keepdims=True)
        mean = shares @ values
        cumulative = shares.cumsum(axis=1)
        columns = {
            "min": values[(shares > 0).argmax(axis=1)],
            "max": values[shares.shape[1] - 1 - (shares > 0)[:, ::-1].argmax(axis=1)],
            "mean": mean,
            "std": np.sqrt((shares * (values - mean[:, None]) ** 2).sum(axis=1)),
            **{
                name: values[np.minimum((cumulative < q).sum(axis=1), len(values) - 1)] for name, q in QUANTILES.items()
            },
        }
        statistics = {name: column.reshape(-1, 1, 1) for name, column in columns.items()}
        return {**statistics, "count": np.array([self._num_frames])}


def combine(parts: Sequence[Statistics]) -> Statistics:
    """Statistics of several episodes together.

    Exact but for quantiles, which are the mean of the parts' own, weighted by count, as LeRobot combines them.
    """
    counts = np.array([part["count"][0] for part in parts], dtype=np.float64)
    weights = counts / counts.sum()

    def average(values: Sequence[np.ndarray]) -> np.ndarray:
        return np.tensordot(weights, np.stack(values), axes=1)

    mean = average([part["mean"] for part in parts])
    variance = average([part["std"] ** 2 + (part["mean"] - mean) ** 2 for part in parts])
    quantiles = [name for name in QUANTILES if all(name in part for part in parts)]
    return {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": np.array([int(counts.sum())]),
        **{name: average([part[name] for part in parts]) for name in quantiles},
    }
