"""`oneiros train tokenizer|decoder|world|agent|policy|cloning|segmenter`: from data to a model, in a run folder."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise
from typing import Annotated

import tyro

from oneiros import machine
from oneiros.agents.settings import AgentSettings
from oneiros.points.settings import SegmenterSettings
from oneiros.policy.settings import CloningSettings, PolicySettings
from oneiros.train.model_options import help_text, split_options, typed
from oneiros.world.settings import DecoderSettings, TokenizerSettings, WorldSettings

_DESCRIPTION = """Train a tokenizer, a world on its codes, an agent that learns to play in its dreams, a policy on what
it imagines; a decoder that draws sharper; cloning, which acts without a world; or a segmenter of clouds.

  oneiros train tokenizer data --out runs/tokenizer
  oneiros train world data --tokenizer runs/tokenizer --out runs/world
  oneiros train world data --tokenizer runs/tokenizer --out runs/world --resume
  oneiros train decoder runs/world data --out runs/sharp
  oneiros train agent runs/world --env doom:basic --out runs/agent
  oneiros train policy demonstrations --world runs/world --out runs/policy
  oneiros train cloning demonstrations --out runs/cloning
  oneiros train segmenter tiles/*.laz --classes 2,3-5,6 --out runs/segmenter

--model.FIELD sets any field of the model of a tokenizer, world or policy, such as --model.depth 8; --help-model lists
them: oneiros train world --help-model

Ctrl-C saves; --resume goes on bit for bit, after a kill too. Episodes held out (the last tenth) are never trained on.
Many GPUs or machines: torchrun --nproc-per-node=8 -m oneiros train world ...
"""

Command = (
    Annotated[TokenizerSettings, tyro.conf.subcommand("tokenizer")]
    | Annotated[DecoderSettings, tyro.conf.subcommand("decoder")]
    | Annotated[WorldSettings, tyro.conf.subcommand("world")]
    | Annotated[AgentSettings, tyro.conf.subcommand("agent")]
    | Annotated[PolicySettings, tyro.conf.subcommand("policy")]
    | Annotated[CloningSettings, tyro.conf.subcommand("cloning")]
    | Annotated[SegmenterSettings, tyro.conf.subcommand("segmenter")]
)


def main(arguments: list[str]) -> None:
    """Train, then say on stdout where the model is and what comes next."""
    if "--help-model" in arguments:
        print(_help_of_model(arguments))
        return
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

        follow = None
    elif isinstance(settings, AgentSettings):
        from oneiros.agents.training import run as train

        follow = None
    elif isinstance(settings, CloningSettings):
        from oneiros.policy.training.cloning import run as train

        follow = None
    else:
        from oneiros.world.training.world import run as train

        follow = f"oneiros play {settings.out}"
    machine.prepare()
    result = train(settings)  # type: ignore[arg-type]
    if os.environ.get("RANK", "0") == "0":
        follow = follow or f"oneiros eval {settings.out} --env {_environment(settings)}"
        print(f"{settings.out}: {result}. Next: {follow}")


def _environment(settings: Command) -> str:
    """Where to measure what was trained: in what recorded its data, as far as that is known."""
    from oneiros.run_folder import read_origin

    if isinstance(settings, AgentSettings) and settings.env:
        return settings.env
    found = read_origin(settings.out).environment if isinstance(settings, PolicySettings | CloningSettings) else None
    return found if found and ":" in found else "ENV"


def _parse(arguments: list[str]) -> Command:
    """Settings, from the command line; those that it leaves out are the defaults, or those of the run to resume."""
    arguments, given = split_options(arguments)
    settings = tyro.cli(
        Command,  # type: ignore[arg-type]
        prog="oneiros train",
        description=_DESCRIPTION,
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone),
    )
    fields = _model_config(arguments[0]) if given else None
    model = typed(given, fields, type(settings)) if fields and not isinstance(settings, AgentSettings) else {}
    before = settings.begun_with()
    if before is not None:
        config = (tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone)  # with pairs: a flag that is on is accepted, too
        settings = tyro.cli(type(before), args=arguments[1:], default=before, config=config)
    return replace(settings, model={**settings.model, **model}) if model else settings


def _model_config(kind: str) -> type:
    """The config whose fields are options of a kind of training. Raises ValueError for a kind that has none."""
    match kind:
        case "tokenizer":
            from oneiros.world.tokenizer import TokenizerConfig as Config
        case "world":
            from oneiros.world.config import WorldConfig as Config
        case "policy":
            from oneiros.policy.config import PolicyConfig as Config
        case _:
            raise ValueError(f"--model options are of a tokenizer, a world or a policy, not of a {kind}")
    return Config


def _help_of_model(arguments: list[str]) -> str:
    """The options `--model.FIELD` of a kind, with the values of the preset that is named, or else of small."""
    kinds = {"tokenizer": TokenizerSettings, "world": WorldSettings, "policy": PolicySettings}
    kind = arguments[0]
    config = _model_config(kind)
    rest = [word for word in arguments[1:] if word != "--help-model"]
    preset = dict(pairwise(rest)).get("--preset", "small")
    if preset not in kinds[kind].presets:
        raise ValueError(f"--preset is {preset}; choose {', '.join(kinds[kind].presets)}")
    return f"options of the model of oneiros train {kind}:\n\n{help_text(config, kinds[kind], preset)}"
