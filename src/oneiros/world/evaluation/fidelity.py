"""How well a world dreams held-out episodes, and how well it obeys: spec/genie2.md section 8, docs/metrics.md.

Legend: n clips in all, B in a batch, T context frames, H horizon (dreamed frames), h x w pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from oneiros.console import Advance, Track, silent
from oneiros.data.frames import to_uint8
from oneiros.records import Clip
from oneiros.sampling import Sampling
from oneiros.world import metrics
from oneiros.world.evaluation.certainty import clustered_error
from oneiros.world.evaluation.config import ClipSource, EvalConfig
from oneiros.world.evaluation.drift import DriftFrames, measure_drift
from oneiros.world.evaluation.frechet.scores import FrechetScores
from oneiros.world.evaluation.networks import Networks, lpips, video_features
from oneiros.world.evaluation.pixels import PixelScores
from oneiros.world.evaluation.speed import measure_speed
from oneiros.world.evaluation.things.judge import Judge
from oneiros.world.evaluation.things.scores import ThingScores
from oneiros.world.rollout import GREEDY, LIKELIEST, begin, context_of, roll

if TYPE_CHECKING:
    from oneiros.world.model import World

_KEPT = 64  # clips whose frames are kept as examples


@dataclass(frozen=True)
class Example:
    """One clip for the report. real: uint8 (T+H, h, w, 3); dreams: uint8 (H, h, w, 3) by variant; actions: (T+H-1, ...)
    or None; gain: dB above copying the last frame, averaged over the horizon; where: episode, first row."""

    real: Tensor
    dreams: dict[str, Tensor]
    actions: Tensor | None
    gain: float
    where: tuple[int, int]


@dataclass(frozen=True)
class Evaluation:
    """metrics: what goes to metrics.json. examples: the first clips, ordered from the worst dreamed to the best.
    drift: frames of the long dreams, or None."""

    metrics: dict[str, Any]
    examples: tuple[Example, ...]
    drift: DriftFrames | None = None


def evaluate(
    world: World,
    clips: ClipSource,
    *,
    config: EvalConfig | None = None,
    networks: Networks | None = None,
    judge: Judge | None = None,
    track: Track = silent,
) -> Evaluation:
    """Measure a world on clips of held-out episodes, `config.clip_length` frames each, all of them real.

    networks: the user's own, for LPIPS and FVD; these are None in the metrics without them. judge: who looks for
    things, likewise.
    Raises ValueError for fewer than two clips or clips with padding.
    """
    config = config or EvalConfig()
    if (whole := world.tokenizer.whole(config.context)) != config.context:
        raise ValueError(f"context is {config.context}; for this world's video codec {whole} would do")
    if len(clips) < 2:
        raise ValueError(f"the held-out episodes hold {len(clips)} clip of {config.clip_length} frames; 2 are needed")
    chosen = choose(len(clips), config)
    results = _Results(world, config, networks or Networks(), judge)
    variants = 4 if world.config.action_spec else 3
    advance = track("dreaming held-out clips", len(chosen) * config.horizon * variants)
    for number, indices in enumerate(_batches(chosen, config.batch_size)):
        clip = clips.batch(indices)
        if clip.frames.shape[1] != config.clip_length or not clip.valid.all():
            raise ValueError(f"evaluation needs clips of {config.clip_length} real frames, without padding")
        dreams, guesses = _dream(world, clip, config, seed=config.seed + number, advance=advance)
        results.add(clip, dreams, guesses, [clips.where(index) for index in indices])
    drift_metrics, drift_frames = measure_drift(world, clips, config=config, track=track)
    measured = {
        "clips": len(chosen),
        "context": config.context,
        "horizon": config.horizon,
        "seed": config.seed,
        **results.summary(),
        "drift": drift_metrics,
        "speed": measure_speed(world, clips, config=config, track=track),
    }
    return Evaluation(measured, results.examples(), drift_frames)


def choose(available: int, config: EvalConfig) -> list[int]:
    """Which clips: `config.clips` of them (or all there are) in a seeded random order."""
    order = torch.randperm(available, generator=torch.Generator().manual_seed(config.seed))
    return order[: config.clips].tolist()


def _batches(chosen: list[int], size: int) -> list[list[int]]:
    """Nearly equal batches, none of a single clip: shuffled actions come from another clip of the same batch."""
    count = min(-(-len(chosen) // size), len(chosen) // 2)
    return [part.tolist() for part in torch.tensor(chosen).tensor_split(count)]


def _dream(
    world: World, clip: Clip, config: EvalConfig, *, seed: int, advance: Advance
) -> tuple[dict[str, Tensor], Tensor | None]:
    """Every variant of a batch's next H frames, uint8 (B, H, h, w, 3), and the guesses of the action head."""
    context, first = context_of(clip, config.context), config.context - 1
    true = clip.actions[:, first:] if world.config.action_spec and clip.actions is not None else None
    state = begin(world, context)

    def dream(actions: Tensor | None, sampling: Sampling, *, guess: bool = False) -> tuple[Tensor, Tensor | None]:
        options = {"num_frames": config.horizon, "sampling": sampling, "seed": seed, "guess": guess}
        return roll(world, state.clone(), actions, advance=advance, **options)

    model, guesses = dream(true, GREEDY, guess=true is not None and world.action_head is not None)
    dreams = {
        "model": model,
        "copy_last_frame": to_uint8(context.frames[:, -1:]).expand_as(model),
        "reconstruction": reconstruct(world, clip, config.context)[:, config.context :],
    }
    if true is not None:
        order = metrics.derangement(len(true), torch.Generator().manual_seed(seed))
        dreams["shuffled_actions"], _ = dream(true[order], GREEDY)
    dreams["sampled"], _ = dream(true, config.sampling)
    dreams["likeliest"], _ = dream(true, LIKELIEST)
    return dreams, guesses


@torch.no_grad()
def reconstruct(world: World, clip: Clip, context: int) -> Tensor:
    """What the tokenizer alone makes of the real frames, the ceiling of any dream: uint8 (B, T+H, h, w, 3). A decoder
    that is shown a reference frame gets the last of the `context`."""
    frames, reference = clip.frames.to(world.device), clip.frames[:, context - 1 : context].to(world.device)
    return to_uint8(world.tokenizer.decode(world.tokenizer.encode(frames), reference=reference)).cpu()


class _Results:
    """Scores of all clips, gathered batch by batch: n clips, H horizons."""

    def __init__(self, world: World, config: EvalConfig, networks: Networks, judge: Judge | None) -> None:
        self.config, self.spec, self.stride = config, world.config.action_spec, world.tokenizer.temporal_stride
        self.networks = networks
        self.scores: dict[str, dict[str, list[Tensor]]] = {"psnr": {}, "ssim": {}, "lpips": {}}
        self.pixels, self.frechet = PixelScores(), FrechetScores()
        stride = world.config.frame_stride
        self.things = ThingScores(judge, context=config.context, stride=stride) if judge else None
        self.features: dict[str, list[Tensor]] = {}
        self.guesses: list[Tensor] = []
        self.actions: list[Tensor] = []
        self.episodes: list[int] = []
        self.kept: list[Example] = []

    def add(self, clip: Clip, dreams: dict[str, Tensor], guesses: Tensor | None, where: list[tuple[int, int]]) -> None:
        frames = to_uint8(clip.frames).cpu()
        real = frames[:, self.config.context :]
        for name, dreamed in dreams.items():
            self.scores["psnr"].setdefault(name, []).append(metrics.psnr(dreamed, real))
            self.scores["ssim"].setdefault(name, []).append(metrics.ssim(dreamed, real))
            if self.networks.lpips:
                self.scores["lpips"].setdefault(name, []).append(lpips(self.networks.lpips, dreamed, real))
        last = frames[:, self.config.context - 1 : self.config.context]
        self.pixels.add(last, real, dreams)
        self.frechet.add(last, real, dreams)
        if self.things:
            self.things.add(where, real, dreams)
        if self.networks.video_features:
            for name, seen in {"real": real, **dreams}.items():
                self.features.setdefault(name, []).append(video_features(self.networks.video_features, seen))
        self.episodes += [episode for episode, _ in where]
        if guesses is not None and clip.actions is not None:
            self.guesses.append(guesses)
            self.actions.append(clip.actions.cpu())
        gain = (self.scores["psnr"]["model"][-1] - self.scores["psnr"]["copy_last_frame"][-1]).mean(1)
        for i in range(min(len(frames), _KEPT - len(self.kept))):
            actions = None if clip.actions is None else clip.actions[i].cpu()
            dreamed = {name: variant[i] for name, variant in dreams.items()}
            self.kept.append(Example(frames[i], dreamed, actions, gain[i].item(), where[i]))

    def examples(self) -> tuple[Example, ...]:
        return tuple(sorted(self.kept, key=lambda example: example.gain))

    def summary(self) -> dict[str, Any]:
        """Averages over clips, a value for each horizon."""
        psnr, ssim, perceptual = (
            {name: torch.cat(parts) for name, parts in measured.items()} for measured in self.scores.values()
        )
        gain = psnr["model"] - psnr["copy_last_frame"]
        delta = psnr["model"] - psnr["shuffled_actions"] if "shuffled_actions" in psnr else None
        return {
            "episodes": sorted(set(self.episodes)),
            "psnr": {name: values.mean(0).tolist() for name, values in psnr.items()},
            "ssim": {name: values.mean(0).tolist() for name, values in ssim.items()},
            "lpips": {name: values.mean(0).tolist() for name, values in perceptual.items()} or None,
            "fvd": self._frechet_video_distances(),
            "psnr_gain": gain.mean(0).tolist(),
            "delta_psnr": None if delta is None else delta.mean(0).tolist(),
            "standard_error": {
                "psnr_gain": clustered_error(gain, self.episodes),
                "delta_psnr": None if delta is None else clustered_error(delta, self.episodes),
            },
            **self.pixels.summary(self.episodes),
            "frechet": self.frechet.summary(self.episodes),
            "things": self.things.summary(self.episodes) if self.things else None,
            "action_recovery": self._action_recovery(),
        }

    def _frechet_video_distances(self) -> dict[str, float] | None:
        features = {name: torch.cat(parts) for name, parts in self.features.items()}
        real = features.pop("real", None)
        if real is None:
            return None
        return {name: metrics.frechet_distance(dreamed, real) for name, dreamed in features.items()}

    def _action_recovery(self) -> dict[str, Any] | None:
        """Scores of the action head after real frames and after dreamed ones, and of repeating the last action."""
        if self.spec is None or not self.guesses:
            return None
        spec, stride, first = self.spec, self.stride, self.config.context - 1
        guesses, actions = torch.cat(self.guesses), torch.cat(self.actions)

        def per_step(rows: slice) -> Tensor:
            return spec.join(actions[:, rows], stride)

        true = per_step(slice(first, None))
        by_horizon = [metrics.action_scores(guesses[:, h], true[:, h], spec) for h in range(guesses.shape[1])]
        recovery: dict[str, Any] = {"real": by_horizon[0], "dreamed": None, "repeat_last_action": None}
        if dreamed := by_horizon[1:]:
            recovery["dreamed"] = {name: [scores[name] for scores in dreamed] for name in dreamed[0]}
        if first >= stride:
            before = per_step(slice(first - stride, -stride))
            recovery["repeat_last_action"] = metrics.action_scores(before.flatten(0, 1), true.flatten(0, 1), spec)
        return recovery
