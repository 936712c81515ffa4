"""Frames <-> codes: a codec around a vector quantiser, with optional causal convolutions over time.

Sources: VQ-VAE (arXiv 1711.00937), residual quantisation (arXiv 2203.01941), the rotation trick (arXiv 2410.06424),
Genie's tokenizer (arXiv 2402.15391).

Legend: B batch, T frames, T' latents in time, C latent channels, H x W pixels, h x w latent grid, N = h * w codes, L
levels of the codebook, K entries of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oneiros.machine import bf16_is_faster
from oneiros.nn.attention import check_counts
from oneiros.nn.per_sample import PerSample
from oneiros.records import Clip, Loss, Trainable
from oneiros.run_folder import Origin, from_json, load_model, read_config, save_model
from oneiros.world.nn.codebooks import LearningQuantiser, StepWatch, nearest, vectors_of
from oneiros.world.nn.codec import CausalTemporalConv, ImageCodec
from oneiros.world.nn.own_codec import blank_latents, latents_of

_WITHOUT_REFERENCE = 0.1  # of the clips that a tokenizer with a reference frame learns from


@dataclass(frozen=True)
class TokenizerConfig:
    """A tokenizer's shape, and how it learns.

    height, width: of frames in pixels, multiples of 8 for the default codec. channels: 3 RGB, 4 RGB + depth.
    codebook_size: entries of a codebook. codebook_levels: codebooks stacked on one another; a code is one number all
    the same. code_dim: channels of a latent and of an entry. codec_width: channels of the default codec at a quarter of
    the frame's size, double at an eighth. codec_depth: its residual blocks at each size.
    linear_path: the default codec adds what its networks make to a linear map of each patch and back.
    external_codec: the codec is the caller's own module, given to the constructor and to `load`. codec_name: what it
    was called in training, module:factory, to tell whoever opens the run; nothing imports it.
    temporal_convs: causal convolutions over time before and after the quantiser. temporal_kernel_size: of these.
    commitment_weight: of the latents' distance to their entries in the loss. latent_reconstruction_weight: of the
    latents' distance to what the convolution after the quantiser makes of them.
    codebook_decay: of the moving averages by which entries follow latents. codebook_dead_share: entries used less than
    this share of an even use begin anew. codebook_kmeans_steps: of the clustering that begins the codebooks.
    codebook_cosine: latents and entries have length 1, so that the nearest entry is that of the largest cosine; one
    level alone.
    rotation_trick: gradients pass the quantiser turned and scaled as its latents are, else straight through, which is
    better where latents lie around 0, as principal components do (the quotient of lengths then knows no bound).
    reference_frame: the default codec's decoder is also shown an earlier frame, so that codes need only say what has
    changed since: for a camera that stands still. A dream shows it the last real frame it began with.
    """

    height: int = 64
    width: int = 64
    channels: int = 3
    codebook_size: int = 512
    codebook_levels: int = 1
    code_dim: int = 32
    codec_width: int = 64
    codec_depth: int = 2
    linear_path: bool = False
    external_codec: bool = False
    codec_name: str = ""
    temporal_convs: bool = False
    temporal_kernel_size: int = 5
    commitment_weight: float = 1.0
    latent_reconstruction_weight: float = 0.2
    codebook_decay: float = 0.99
    codebook_dead_share: float = 0.05
    codebook_kmeans_steps: int = 10
    codebook_cosine: bool = False
    rotation_trick: bool = True
    reference_frame: bool = False

    def __post_init__(self) -> None:
        check_counts({name: getattr(self, name) for name in ("codebook_size", "code_dim", "codec_width")})
        check_counts({name: getattr(self, name) for name in ("height", "width", "channels")}, most=2**13)
        counts = ("codec_depth", "temporal_kernel_size", "codebook_kmeans_steps")
        check_counts({name: getattr(self, name) for name in counts}, most=1024)
        check_counts({"codebook_levels": self.codebook_levels}, most=8)
        for name in ("codebook_decay", "codebook_dead_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in [0, 1]")
        if self.codebook_cosine and self.codebook_levels > 1:
            raise ValueError("codebook_cosine is for one level: what a level leaves out has no length of 1")
        if self.num_entries > 2**31:
            raise ValueError(
                f"{self.codebook_levels} levels of {self.codebook_size} entries make more codes than 32 bits can count"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    @property
    def num_entries(self) -> int:
        """How many codes there are: K ** L."""
        return self.codebook_size**self.codebook_levels

    @property
    def depth(self) -> bool:
        """Whether frames have depth as their fourth channel."""
        return self.channels == 4

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TokenizerConfig:
        return from_json(cls, values, "the tokenizer's config")


class Tokenizer(Trainable):
    """Frames to codes and back: `encode` and `decode`. Only training needs the vector quantisation library."""

    kind: ClassVar = "tokenizer"
    learns_without_gradients: ClassVar[bool] = True  # its codebook, around a codec that is frozen

    def __init__(self, config: TokenizerConfig, codec: nn.Module | None = None, *, trainable: bool = False) -> None:
        """Takes the codec over, to train it along. trainable: carry a learning codebook. Raises ValueError for a codec
        that does not fit the config."""
        super().__init__()
        if config.external_codec != (codec is not None):
            raise ValueError(
                "the tokenizer's config says external_codec="
                f"{config.external_codec}, but {'no codec' if codec is None else 'a codec'} was given"
            )
        if config.reference_frame and codec is not None:
            raise ValueError("reference_frame is for the default codec; a codec of your own decodes from latents alone")
        self.config = config
        self.codec: Any = codec or ImageCodec(
            channels=config.channels,
            latent_dim=config.code_dim,
            width=config.codec_width,
            depth=config.codec_depth,
            linear_path=config.linear_path,
            reference_frame=config.reference_frame,
        )
        self.temporal_stride: int = getattr(self.codec, "temporal_stride", 1)
        if self.temporal_stride > 1 and config.temporal_convs:
            raise ValueError("temporal_convs needs a codec that works frame by frame, but temporal_stride is above 1")
        self.grid = self._probe_grid()
        self.before = self.after = nn.Identity()
        if config.temporal_convs:
            self.before, self.after = (
                CausalTemporalConv(dim=config.code_dim, kernel_size=config.temporal_kernel_size) for _ in range(2)
            )
        self.register_buffer("codebook", torch.randn(config.codebook_levels * config.codebook_size, config.code_dim))
        self.codebook: Tensor  # (L * K, C), level after level
        self.quantiser = None
        if trainable:
            self.quantiser = LearningQuantiser(
                levels=config.codebook_levels,
                size=config.codebook_size,
                dim=config.code_dim,
                decay=config.codebook_decay,
                rotation_trick=config.rotation_trick,
                dead_share=config.codebook_dead_share,
                kmeans_steps=config.codebook_kmeans_steps,
                unit=config.codebook_cosine,
            )
        self._seen: list[tuple[Tensor, Tensor]] = []  # latents and their codes since the last optimiser step
        self._steps = StepWatch()

    def _probe_grid(self) -> tuple[int, int]:
        config = self.config
        latents = blank_latents(self.codec, config.channels, config.height, config.width)
        if latents.shape[2] != config.code_dim:
            raise ValueError(f"the codec's latents have {latents.shape[2]} channels, code_dim says {config.code_dim}")
        return latents.shape[3], latents.shape[4]

    @property
    def num_codes(self) -> int:
        """N, codes per frame."""
        return self.grid[0] * self.grid[1]

    def whole(self, num_frames: int) -> int:
        """The most frames, `num_frames` or fewer, that fill their latents: all, but for video codecs."""
        return 1 + (num_frames - 1) // self.temporal_stride * self.temporal_stride

    # -- use -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B, T, C, H, W) in [-1, 1] -> codes int64 (B, T', N), raster order."""
        return self._nearest(self.before(self._latents(frames)))

    @torch.no_grad()
    def decode(self, codes: Tensor, past: Tensor | None = None, reference: Tensor | None = None) -> Tensor:
        """Codes (B, T', N) -> frames (B, T, C, H, W) in [-1, 1].

        past: codes (B, P, N) just before these, to which decoding looks back (see `lookback`). reference: a frame
        (B, 1, C, H, W) seen before them, where `reference_frame` is on; without it, frames lack its detail.
        """
        count = codes.shape[1]
        if past is not None and self.lookback:
            codes = torch.cat([past[:, -self.lookback :], codes], 1)
        latents = self.after(self.vectors(codes))
        if self.config.temporal_convs:
            latents = latents[:, -count:]  # the codec itself works frame by frame
        frames = self._frames(latents, reference)[:, -count * self.temporal_stride :].float()
        return frames if getattr(self.codec, "unbounded", False) else frames.clamp(-1, 1)

    def prepare_for_inference(self, *, float32: bool = False) -> None:
        """Turn the decoder to bf16 where the machine multiplies it faster: pixels change by 1 of 255 at the most. A
        codec of the caller's own stays as it is."""
        if isinstance(self.codec, ImageCodec) and not float32 and bf16_is_faster(self.codebook.device.type):
            self.codec.decoder.to(torch.bfloat16)

    @property
    def lookback(self) -> int:
        """How many earlier latents `decode` needs to continue a rollout exactly."""
        if self.config.temporal_convs:
            return self.config.temporal_kernel_size - 1
        # At the least one for a video codec, which takes the first latent it is given for a single frame.
        return getattr(self.codec, "temporal_lookback", int(self.temporal_stride > 1))

    @property
    def levels(self) -> Tensor:
        """The codebook by level (L, K, C)."""
        return self.codebook.unflatten(0, (self.config.codebook_levels, -1))

    def vectors(self, codes: Tensor) -> Tensor:
        """Codes (B, T', N) -> codebook vectors (B, T', C, h, w)."""
        return vectors_of(codes, self.levels).movedim(-1, 2).unflatten(-1, self.grid)

    # -- training ------------------------------------------------------------------------------------------------

    def forward(self, batch: Clip) -> Loss:
        """Reconstruction of valid frames, commitment, and with temporal convolutions the latents' reconstruction."""
        if self.quantiser is None:
            raise ValueError("this tokenizer was built for use; training needs Tokenizer(..., trainable=True)")
        batch, reference = self.with_reference(batch)
        latents = self._latents(batch.frames)
        real = batch.valid[:, :: self.temporal_stride]
        vectors, commitment = self._quantise(self.before(latents), real)
        restored = self.after(vectors)
        frames = self._frames(restored, reference).float()
        stride = self.temporal_stride
        valid = real.repeat_interleave(stride, 1)[:, stride - 1 :].float()  # frames of latents without padding
        error = (frames - batch.frames).square().flatten(2).mean(-1)
        reconstruction = (error * valid).sum() / valid.sum()
        total = reconstruction + self.config.commitment_weight * commitment
        parts = {"tokenizer/reconstruction": reconstruction, "tokenizer/commitment": commitment}
        if self.config.temporal_convs:
            latent = (restored - latents).float().square().flatten(2).mean(-1)[real].mean()
            total = total + self.config.latent_reconstruction_weight * latent
            parts["tokenizer/latent_reconstruction"] = latent
        parts["tokenizer/codebook_use"] = self.quantiser.use()
        return Loss(total, {name: value.detach() for name, value in parts.items()})

    def with_reference(self, clip: Clip) -> tuple[Clip, Tensor | None]:
        """What is learned from of a clip, and the reference shown with it (B, 1, C, H, W).

        Where `reference_frame` is on, the clip's first frame is the reference of the rest; in training one in ten is
        grey, so that frames can be drawn without one. Elsewhere there is none, and the clip stays whole.
        """
        if not self.config.reference_frame:
            return clip, None
        if clip.frames.shape[1] < 2:
            raise ValueError("a tokenizer with a reference frame learns from clips of 2 frames or more: it, and others")
        reference = clip.frames[:, :1]
        if self.training:
            hidden = PerSample.of(clip.seeds, len(reference), reference.device).less_than(_WITHOUT_REFERENCE)
            reference = torch.where(hidden[:, None, None, None, None], torch.zeros_like(reference), reference)
        return Clip(clip.frames[:, 1:], None, clip.valid[:, 1:], seeds=clip.seeds), reference

    @torch.no_grad()
    def begin(self, frames: Tensor) -> None:
        """Begin with what frames (B, T, C, H, W) look like, before the first step: the codec's linear path with their
        patches' principal components, the codebook with their latents' clusters. Without it, the first step does the
        latter alone."""
        assert self.quantiser is not None
        if isinstance(self.codec, ImageCodec):
            self.codec.begin(frames)
        latents = self._rows(self.before(self._latents(frames))).flatten(0, 2)
        self.quantiser.learn(latents, torch.zeros(len(latents), dtype=torch.long, device=latents.device))
        self.codebook.copy_(self.quantiser.codebook.flatten(0, 1))

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the codebook towards the latents seen since the last optimiser step, and revive dead codes; after the
        first step, begin it with their clusters. All micro-batches of all processes count, in the samples' order.
        Whoever forgets it is told by the next batch."""
        self._steps.followed()
        if self.quantiser is None or not self._seen:
            return
        latents, codes = (_of_all_processes(torch.cat(tensors)) for tensors in zip(*self._seen, strict=True))
        self._seen.clear()
        self.quantiser.learn(latents, codes)
        self.codebook.copy_(self.quantiser.codebook.flatten(0, 1))

    @torch.no_grad()
    def start_codebook(self, codebook: Tensor) -> None:
        """Go on learning from an earlier run's codebook (L * K, C) instead of the first batch's clusters."""
        assert self.quantiser is not None
        self.codebook.copy_(codebook)
        self.quantiser.start(self.levels)

    def _quantise(self, latents: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Quantised latents and the commitment loss, which like the codebook learns from real frames (B, T') alone.

        The first optimiser step has no codebook yet: its latents stay as they are.
        """
        assert self.quantiser is not None
        real = real[:, :, None].expand(-1, -1, self.num_codes).flatten()
        flat = self._rows(latents).flatten(0, 2)  # (B * T' * N, C)
        vectors, codes, commitment = self.quantiser(flat, real)
        if self.training and torch.is_grad_enabled():
            self._steps.batch(self.parameters())
            self._seen.append((flat.detach()[real], codes[real]))  # `after_step` learns from them all at once
        batch, time = latents.shape[:2]
        return vectors.view(batch, time, *self.grid, -1).movedim(-1, 2), commitment

    # -- run folders ----------------------------------------------------------------------------------------------

    def save(
        self,
        folder: Path | str,
        *,
        recipe: Mapping[str, Any] | None = None,
        data: Origin | None = None,
    ) -> None:
        """Write a run folder that `load` reads back bitwise. recipe, data: what it was trained with, and on."""
        config = asdict(self.config)
        save_model(self, folder, self.kind, config, recipe=recipe, data=data, skip=("quantiser.",))

    @classmethod
    def load(
        cls,
        folder: Path | str,
        *,
        device: torch.device | str = "cpu",
        codec: nn.Module | None = None,
        trainable: bool = False,
    ) -> Tokenizer:
        """The tokenizer of a run folder, in eval mode; codec and trainable as for the constructor. Raises ValueError,
        in one line, for a folder that holds none or is damaged, and for a device that is not there."""

        def build(values: Mapping[str, Any]) -> Tokenizer:
            return cls(TokenizerConfig.from_json(values), codec, trainable=trainable)

        config = read_config(folder, cls.kind)
        _check_codec(Path(folder), config.model, codec)
        tokenizer = load_model(folder, config, build, device=device, skip=("quantiser.",))
        if trainable:
            tokenizer.start_codebook(tokenizer.codebook)
        return tokenizer

    # -- the codec's boundary ------------------------------------------------------------------------------------

    def _latents(self, frames: Tensor) -> Tensor:
        expected = (self.config.channels, self.config.height, self.config.width)
        if frames.ndim != 5 or tuple(frames.shape[2:]) != expected:
            raise ValueError(f"frames have shape {(*frames.shape,)}; this tokenizer takes {('B', 'T', *expected)}")
        return latents_of(self.codec, frames)

    def _frames(self, latents: Tensor, reference: Tensor | None = None) -> Tensor:
        if self.config.reference_frame:
            return self.codec.decode(latents, reference)
        if not getattr(self.codec, "latent_channel_first", True):
            latents = latents.movedim(2, -1)
        return self.codec.decode(latents)

    def _rows(self, latents: Tensor) -> Tensor:
        """Latents (B, T', C, h, w) -> (B, T', N, C) as they are quantised."""
        rows = latents.float().flatten(3).movedim(2, -1)
        return F.normalize(rows, dim=-1) if self.config.codebook_cosine else rows

    def _nearest(self, latents: Tensor) -> Tensor:
        """Latents (B, T', C, h, w) -> the nearest code of each (B, T', N)."""
        flat = self._rows(latents)
        return nearest(flat.flatten(0, 2), self.levels).view(flat.shape[:3])


def _check_codec(folder: Path, config: Mapping[str, Any], codec: nn.Module | None) -> None:
    """Raises ValueError, in one line, where a run folder needs its maker's codec, or another is given."""
    if config.get("external_codec") and codec is None:
        name = config.get("codec_name") or "MODULE:FACTORY"
        raise ValueError(
            f"{folder} was made with a codec of its maker's own. If you have it and trust it, name it: --codec {name} "
            "on the command line, codec= in Python"
        )
    if codec is not None and not config.get("external_codec"):
        raise ValueError(f"{folder} was made with the default codec; leave out the codec of your own")


def _of_all_processes(rows: Tensor) -> Tensor:
    """The rows of every process that trains this model, in the order of their ranks."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return rows
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, rows.cpu())
    return torch.cat(parts).to(rows.device)
