"""Pure measures on frames and actions. Every one is explained, with its limits, in docs/metrics.md.

Frames are uint8 (..., H, W, 3), as they are on disk and on screen.
"""

from __future__ import annotations

import torch
from torch import Tensor

from oneiros.records import ActionSpec

PSNR_CAP = 60.0  # what identical frames score; an infinite value would swallow every average
MOVES = 16  # grey levels of 255 by which a pixel that moves differs; what films lose by compression stays below
_SSIM_CHUNK = 32  # frames a call: larger batches fall out of the cache and run slower


def psnr(predicted: Tensor, real: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each frame in dB, at most 60.

    predicted, real: uint8 (..., H, W, 3) that broadcast. Returns float32 (...).
    """
    _check_frames(predicted, real)
    error = (predicted.float() - real.float()).square().mean(dim=(-3, -2, -1))
    return (10 * torch.log10(255**2 / error)).clamp(max=PSNR_CAP)


def ssim(predicted: Tensor, real: Tensor) -> Tensor:
    """Structural similarity of each frame (Wang et al. 2004: 11 x 11 Gaussian window, sigma 1.5), 1 = identical.

    predicted, real: uint8 (..., H, W, 3) that broadcast, H and W at least 6. Returns float32 (...).
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    _check_frames(predicted, real)
    predicted, real = torch.broadcast_tensors(predicted, real)
    # Permuting leaves the memory channels-last, which torch convolves several times faster here.
    a, b = (frames.reshape(-1, *frames.shape[-3:]).permute(0, 3, 1, 2) for frames in (predicted, real))
    values = [
        structural_similarity_index_measure(x.float(), y.float(), data_range=255.0, reduction="none")
        for x, y in zip(a.split(_SSIM_CHUNK), b.split(_SSIM_CHUNK), strict=True)
    ]
    return torch.cat([torch.as_tensor(value).reshape(-1) for value in values]).reshape(predicted.shape[:-3])


def _check_frames(predicted: Tensor, real: Tensor) -> None:
    for frames in (predicted, real):
        if frames.dtype != torch.uint8 or frames.shape[-1] != 3:
            raise ValueError(f"frames are uint8 (..., H, W, 3), got {frames.dtype} {tuple(frames.shape)}")


def derangement(count: int, generator: torch.Generator) -> Tensor:
    """A random order of `count` clips in which none keeps its place: int64 (count,).

    Shuffled actions taken from it are always another clip's. Uniform over all derangements (by rejection; on average
    e = 2.7 tries). Raises ValueError below two clips.
    """
    if count < 2:
        raise ValueError(f"{count} clip cannot take another clip's actions; at least 2 clips are needed")
    place = torch.arange(count)
    while True:
        order = torch.randperm(count, generator=generator)
        if not (order == place).any():
            return order


def action_scores(predicted: Tensor, true: Tensor, spec: ActionSpec) -> dict[str, float]:
    """How well actions were recovered, by scores that fit the kind of action.

    predicted, true: (M,) discrete, (M, A) keys or (M, k*A) continuous. Returns
        discrete    accuracy
        keys        f1 over all key presses (1.0 when nothing is held and nothing is predicted), exact (whole chords)
        continuous  mae in standard deviations of the true actions, r2 (averaged over the dimensions that move)
    """
    if predicted.shape != true.shape:
        raise ValueError(
            f"predicted actions {tuple(predicted.shape)} and true ones {tuple(true.shape)} differ in shape"
        )
    if spec.kind == "discrete":
        return {"accuracy": (predicted == true).float().mean().item()}
    if spec.kind == "keys":
        predicted, true = predicted.bool(), true.bool()
        return {"f1": _f1(predicted, true), "exact": (predicted == true).all(dim=-1).float().mean().item()}
    return _regression_scores(predicted.double(), true.double())


def _f1(predicted: Tensor, true: Tensor) -> float:
    hits, wrong = (predicted & true).sum().item(), (predicted ^ true).sum().item()
    return 2 * hits / (2 * hits + wrong) if hits + wrong else 1.0


def _regression_scores(predicted: Tensor, true: Tensor) -> dict[str, float]:
    spread = true.std(dim=0, correction=0)
    moves = spread > 1e-8
    if not moves.any():
        return {"mae": float("nan"), "r2": float("nan")}
    error = (predicted - true)[:, moves] / spread[moves]
    return {"mae": error.abs().mean().item(), "r2": (1 - error.square().mean(dim=0)).mean().item()}


def sharpness(frames: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels, across and down, in grey levels: uint8 -> float (...)."""
    grey = frames.float().mean(dim=-1)
    return (grey.diff(dim=-1).abs().mean(dim=(-2, -1)) + grey.diff(dim=-2).abs().mean(dim=(-2, -1))) / 2


def motion(frames: Tensor) -> Tensor:
    """Mean absolute change from each frame to the next in grey levels: uint8 (..., T, H, W, 3) -> float (..., T-1)."""
    return frames.float().diff(dim=-4).abs().mean(dim=(-3, -2, -1))


def moves(frames: Tensor, before: Tensor) -> Tensor:
    """Which pixels differ from those of `before` by more than 16 of 255 levels in red, green or blue.

    frames, before: uint8 (..., h, w, 3) that broadcast. Returns bool (..., h, w).
    """
    return ((frames.int() - before.int()).abs() > MOVES).any(dim=-1)


def code_entropy(codes: Tensor) -> float:
    """Shannon entropy in bits of how often each code is used. codes: int64, any shape.

    It grows with the number of codes looked at: compare only equal numbers.
    """
    share = codes.unique(return_counts=True)[1].double() / codes.numel()
    return -(share * share.log2()).sum().item()


def nearest_distance(frames: Tensor, gallery: Tensor) -> Tensor:
    """How far each frame is from the most similar frame of `gallery`: RMSE in grey levels on 16 x 16 thumbnails.

    frames: uint8 (M, H, W, 3); gallery: uint8 (G, H, W, 3). Returns float (M,).
    """
    a, b = _thumbnails(frames), _thumbnails(gallery)
    return torch.cdist(a, b).amin(dim=1) / a.shape[1] ** 0.5


def _thumbnails(frames: Tensor) -> Tensor:
    small = torch.nn.functional.adaptive_avg_pool2d(frames.permute(0, 3, 1, 2).float(), 16)
    return small.flatten(1)


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Frechet distance of two Gaussians fitted to features a (M, D) and b (M', D), the distance of FID and FVD.

    tr((S_a S_b)^1/2) is the sum of the square roots of the eigenvalues of S_a S_b, which are real and not negative.
    """
    a, b = a.double(), b.double()
    cov_a, cov_b = (torch.atleast_2d(torch.cov(x.T)) for x in (a, b))
    cross = torch.linalg.eigvals(cov_a @ cov_b).real.clamp(min=0).sqrt().sum()
    distance = (a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross
    return distance.clamp(min=0).item()
