"""`oneiros train tokenizer|decoder|world|policy|cloning|segmenter`: from data to a model, in a run folder."""

from __future__ import annotations

import os
from typing import Annotated

import tyro

from oneiros import machine
from oneiros.points.settings import SegmenterSettings
from oneiros.policy.settings import CloningSettings, PolicySettings
from oneiros.world.settings import DecoderSettings, TokenizerSettings, WorldSettings

_DESCRIPTION = """Train a tokenizer, a world on its codes, a policy on what that imagines; a decoder that draws sharper;
cloning, which acts without a world; or a segmenter of clouds.

  oneiros train tokenizer data --out runs/tokenizer
  oneiros train world data --tokenizer runs/tokenizer --out runs/world
  oneiros train world data --tokenizer runs/tokenizer --out runs/world --resume
  oneiros train decoder runs/world data --out runs/sharp
  oneiros train policy demonstrations --world runs/world --out runs/policy
  oneiros train cloning demonstrations --out runs/cloning
  oneiros train segmenter tiles/*.laz --classes 2,3-5,6 --out runs/segmenter

Ctrl-C saves; --resume goes on bit for bit, after a kill too. Episodes held out (the last tenth) are never trained on.
Many GPUs or machines: torchrun --nproc-per-node=8 -m oneiros train world ...
"""

Command = (
    Annotated[TokenizerSettings, tyro.conf.subcommand("tokenizer")]
    | Annotated[DecoderSettings, tyro.conf.subcommand("decoder")]
    | Annotated[WorldSettings, tyro.conf.subcommand("world")]
    | Annotated[PolicySettings, tyro.conf.subcommand("policy")]
    | Annotated[CloningSettings, tyro.conf.subcommand("cloning")]
    | Annotated[SegmenterSettings, tyro.conf.subcommand("segmenter")]
)


def main(arguments: list[str]) -> None:
    """Train, then say on stdout where the model is and what comes next."""
    settings = _parse(arguments)
    if isinstance(settings, TokenizerSettings):
        from oneiros.world.training.tokenizer import run as train

        follow = f"oneiros train world {settings.data} --tokenizer {settings.out} --out WORLD"
    elif isinstance(settings, DecoderSettings):
        from oneiros.world.training.decoder import run as train

        follow = f"oneiros eval {settings.out} {settings.data}"
    elif isinstance(settings, SegmenterSettings):
        from oneiros.points.training import run as train

        follow = f"oneiros segment CLOUD --model {settings.out} --out LABELLED"
    elif isinstance(settings, PolicySettings):
        from oneiros.policy.training.policy import run as train

        follow = f"oneiros eval {settings.out} --env metaworld:TASK"
    elif isinstance(settings, CloningSettings):
        from oneiros.policy.training.cloning import run as train

        follow = f"oneiros eval {settings.out} --env metaworld:TASK"
    else:
        from oneiros.world.training.world import run as train

        follow = f"oneiros play {settings.out}"
    machine.prepare()
    result = train(settings)  # type: ignore[arg-type]
    if os.environ.get("RANK", "0") == "0":
        print(f"{settings.out}: step {result.step:,}, loss {result.loss:.4g}, {result.seconds:,.0f} s. Next: {follow}")


def _parse(arguments: list[str]) -> Command:
    """Settings, from the command line; those that it leaves out are the defaults, or those of the run to resume."""
    settings = tyro.cli(
        Command,  # type: ignore[arg-type]
        prog="oneiros train",
        description=_DESCRIPTION,
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone),
    )
    before = settings.begun_with()
    if before is None:
        return settings
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone)  # with pairs: a flag that is on is accepted, too
    return tyro.cli(type(before), args=arguments[1:], default=before, config=config)
