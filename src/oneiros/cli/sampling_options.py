"""How a dream is drawn, as options of `oneiros play` and `oneiros dream`."""

from __future__ import annotations

from dataclasses import dataclass

from oneiros.sampling import Sampling


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    temperature: float = Sampling.temperature
    """0 dreams the likeliest future, more dreams bolder ones."""
    min_p: float = Sampling.min_p
    """Draw only codes at least this fraction as likely as the likeliest; 0 draws from all."""
    top_k: int | None = None
    """Draw only from this many likeliest codes. Default: all that --min-p leaves."""
    guidance: float = Sampling.guidance_scale
    """Above 1 the dream obeys more strictly, at twice the time a frame."""
    keep_parallel: float = Sampling.parallel_keep_fraction
    """How much of what guidance only scales up is kept, from 0 to 1 (adaptive projected guidance)."""

    def sampling(self) -> Sampling:
        """Raises ValueError for a number that does not do."""
        return Sampling(
            temperature=self.temperature,
            min_p=self.min_p,
            top_k=self.top_k,
            guidance_scale=self.guidance,
            parallel_keep_fraction=self.keep_parallel,
        )
