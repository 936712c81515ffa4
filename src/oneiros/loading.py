"""Any run folder's model, whatever its kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from oneiros.run_folder import CONFIG, read_config

if TYPE_CHECKING:
    import torch
    from torch import nn

    from oneiros.agents.model import Agent
    from oneiros.points.segmenter import Segmenter
    from oneiros.policy.cloning import Cloning
    from oneiros.policy.model import Policy
    from oneiros.world.model import World
    from oneiros.world.tokenizer import Tokenizer


def load(
    folder: Path | str, *, device: torch.device | str = "cpu", codec: nn.Module | None = None, trainable: bool = False
) -> Tokenizer | World | Segmenter | Policy | Cloning | Agent:
    """The model of a run folder, in eval mode. codec: the caller's own, for a tokenizer that was built with one.
    trainable: of a tokenizer or a world, with a codebook that learns.

    Raises ValueError, in one line, for a folder that is no run, whose files are missing or damaged, and for a device
    that is not there.
    """
    match read_config(folder).kind:  # each model is imported only where it is needed
        case "tokenizer":
            from oneiros.world.tokenizer import Tokenizer

            return Tokenizer.load(folder, device=device, codec=codec, trainable=trainable)
        case "world":
            from oneiros.world.model import World

            return World.load(folder, device=device, codec=codec, trainable=trainable)
        case "segmenter":
            from oneiros.points.segmenter import Segmenter

            return Segmenter.load(folder, device=device)
        case "policy":
            from oneiros.policy.model import Policy

            return Policy.load(folder, device=device, codec=codec)
        case "cloning":
            from oneiros.policy.cloning import Cloning

            return Cloning.load(folder, device=device)
        case "agent":
            from oneiros.agents.model import Agent

            return Agent.load(folder)
        case kind:
            known = "tokenizer, world, segmenter, policy, cloning and agent"
            raise ValueError(f"{Path(folder) / CONFIG}: kind is {kind!r}; this version knows {known}")
