"""`oneiros eval`: how well a world dreams, a segmenter labels what it never saw, an agent plays, or a policy acts."""

from __future__ import annotations

import re
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, fields, replace
from io import StringIO
from pathlib import Path
from typing import Annotated, TypeVar

import tyro

from oneiros.agents.eval_config import AgentEvalConfig
from oneiros.cli.points.eval_clouds import CloudsEval, are_clouds
from oneiros.cli.points.eval_clouds import main as compare_clouds
from oneiros.disk import contained
from oneiros.policy.evaluation.config import PolicyEvalConfig
from oneiros.report.files import METRICS, REPORT
from oneiros.sampling import Sampling
from oneiros.world.evaluation.config import EvalConfig

_DESCRIPTION = """Measure a world on episodes, or a segmenter on clouds, that it never trained on; or let an
agent or a policy act.

  oneiros eval runs/world data
  oneiros eval runs/world data --env doom:health_gathering   also: the same start, another action, against the env
  oneiros eval runs/segmenter                                the clouds that its training held out
  oneiros eval runs/segmenter tiles/*.laz                    these classified clouds
  oneiros eval before.laz after.laz                          two classifications of the same points, or two folders
  oneiros eval runs/agent --env doom:take_cover --episodes 400
  oneiros eval runs/world --planner cem --env doom:basic     without training: dreams what actions would lead to
  oneiros eval runs/policy --env metaworld:drawer-open-v3,door-open-v3 --episodes 50 --beside runs/cloning

Each kind of run has options of its own; oneiros eval RUN --help shows those of one run. Writes metrics.json and
report.html, one page with everything in it. docs/metrics.md explains each figure."""

C = TypeVar("C", EvalConfig, PolicyEvalConfig, AgentEvalConfig)

_CONFIG = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone, tyro.conf.OmitArgPrefixes)


@dataclass(frozen=True, kw_only=True)
class WorldEval(EvalConfig):
    """Measure a world on episodes that it never trained on.

    Clips of held-out episodes are dreamed on from a few real frames and set beside what happened: PSNR and SSIM by
    dreamed frame, next to copying the last frame and to the tokenizer's own reconstruction; how much the player's
    actions matter; what becomes of long dreams; how fast a step is.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="WORLD")]
    """The run folder of a world."""
    data: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATA")] = ()
    """The dataset. Of the one the world was trained on, only episodes held out then are used."""
    out: Path | None = None
    """Where metrics.json and report.html go. Default: eval/ in the run folder."""
    episodes: tuple[int, ...] = ()
    """Evaluate on these episodes instead of those held out."""
    env: str | None = None
    """The environment of the recording, such as doom:health_gathering: asks it and the dream what the same start
    becomes under other actions."""
    lpips: str | None = None
    """module:function that returns the LPIPS (M,) of two batches of frames (M, 3, H, W) in [-1, 1]; the weights are
    yours to bring."""
    fvd: str | None = None
    """module:function that returns features (M, D) of clips (M, T, 3, H, W) in [-1, 1]; likewise."""
    codec: str | None = None
    """The codec of the world's tokenizer, where it was made with one of your own: module:factory."""
    temperature: float = Sampling.temperature
    """Of the sampled variant, the long dreams and the timing; the other figures draw nothing at random."""
    device: str = "cpu"
    """Such as cuda."""

    def __post_init__(self) -> None:
        """Nothing is checked before `_config`: what is raised there is said in one line, and not by tyro in five."""


@dataclass(frozen=True)
class SegmenterEval:
    """Measure a segmenter on clouds whose classes are known.

    IoU, F1, precision and recall of each class, the confusion matrix, and pictures of the errors.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SEGMENTER")]
    """The run folder of a segmenter."""
    clouds: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="CLOUDS")] = ()
    """Classified clouds. Default: those that its training held out."""
    out: Path | None = None
    """Where metrics.json and report.html go. Default: eval/ in the run folder."""
    strict: bool = False
    """Refuse clouds that lie far from those of the training."""
    columns: str = ""
    """What the columns of texts are, such as x,y,z,intensity,class. Default: what their first line says."""
    device: str = "cpu"
    """Such as cuda."""


@dataclass(frozen=True, kw_only=True)
class PolicyEval(PolicyEvalConfig):
    """Let a policy, or a cloning, act in an environment.

    The share of episodes that succeed from fixed starts, beside other runs, the scripted expert and random actions; the
    paired difference; the time of a decision; videos of what it imagined beside what came. The same command again goes
    on after a kill: batches of episodes that are done are kept.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="POLICY")]
    """The run folder of a policy or a cloning."""
    env: str | None = None
    """Where it acts, such as metaworld:drawer-open-v3, tasks joined by commas, metaworld:MT10 or gym:ENV_ID."""
    beside: tuple[Path, ...] = ()
    """Other runs, of policies or clonings, to play from the same starts."""
    out: Path | None = None
    """Where metrics.json, report.html and videos/ go. Default: eval/ in the run folder."""
    device: str = "cpu"
    """Such as cuda."""

    def __post_init__(self) -> None:
        """Nothing is checked before `_config`: what is raised there is said in one line, and not by tyro in five."""


@dataclass(frozen=True, kw_only=True)
class AgentEval(AgentEvalConfig):
    """Let an agent play, or a planner in a world that has no agent.

    Return and length of an episode in the real game, beside random actions and other agents, and in the dream: where
    that promises far more than the game pays, the agent has learned what only the dream allows.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="AGENT")]
    """The run folder of an agent; or of a world, with --planner."""
    beside: tuple[Path, ...] = ()
    """Run folders of other agents to play the same game."""
    data: Path | None = None
    """The dataset at whose moments dreams begin. Default: those that the agent's training kept."""
    out: Path | None = None
    """Where metrics.json, report.html and films/ go. Default: eval/ in the run folder."""

    def __post_init__(self) -> None:
        """Nothing is checked before `_config`: what is raised there is said in one line, and not by tyro in five."""


_PLANNER = "--planner"
_KINDS = {
    "world": WorldEval,
    "segmenter": SegmenterEval,
    "agent": AgentEval,
    "policy": PolicyEval,
    "cloning": PolicyEval,
}


def main(arguments: list[str]) -> None:
    """Raises ValueError where run, data, env and options do not fit each other."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(_DESCRIPTION, *map(_help, dict.fromkeys((*_KINDS.values(), CloudsEval))), sep="\n\n")
        return
    if not arguments or arguments[0].startswith("-"):
        raise ValueError("the run comes first: oneiros eval RUN ...; oneiros eval --help tells what each kind can take")
    from oneiros.run_folder import read_config

    run = Path(arguments[0])
    if are_clouds(run):
        compare_clouds(arguments)
        return
    kind = read_config(run).kind
    if kind not in _KINDS:
        raise ValueError(f"{run} holds a {kind}; what can be measured is a {', a '.join(_KINDS)}")
    if kind == "world" and any(word.partition("=")[0] == _PLANNER for word in arguments):
        kind = "agent"
    command, unknown = tyro.cli(
        _KINDS[kind], prog="oneiros eval", args=arguments, config=_CONFIG, return_unknown_args=True
    )
    _check_options(unknown, kind, arguments)
    if isinstance(command, WorldEval):
        _evaluate_world(command)
    elif isinstance(command, SegmenterEval):
        _evaluate_segmenter(command)
    elif isinstance(command, AgentEval):
        _evaluate_agent(command, unknown)
    else:
        _evaluate_policy(command, unknown)


def _help(command: type) -> str:
    with redirect_stdout(StringIO()) as text, suppress(SystemExit):
        tyro.cli(command, prog="oneiros eval", args=["--help"], config=_CONFIG)
    return text.getvalue().strip()


def _check_options(unknown: list[str], kind: str, arguments: list[str]) -> None:
    """Raises ValueError for an option of another kind of run; for one of none, says which come near, and exits."""
    for option in (word.partition("=")[0].replace("_", "-") for word in unknown if word.startswith("-")):
        row = re.compile(rf"^\W*{re.escape(option)}(?![\w-])", re.MULTILINE)
        kinds = [name for name, command in _KINDS.items() if row.search(_help(command))]
        if kinds:
            whose = " or ".join(f"an {name}" if name == "agent" else f"a {name}" for name in kinds)
            raise ValueError(f"{option} is an option of {whose}; {arguments[0]} holds a {kind}")
        tyro.cli(_KINDS[kind], prog="oneiros eval RUN", args=arguments, config=_CONFIG)


def _evaluate_world(command: WorldEval) -> None:
    from oneiros.console import bars, printable, show
    from oneiros.imports import find_function
    from oneiros.world.evaluation.networks import Networks
    from oneiros.world.evaluation.run import evaluate_world
    from oneiros.world.evaluation.terminal import result_lines, result_table
    from oneiros.world.nn.own_codec import make_codec

    if len(command.data) != 1:
        raise ValueError(f"a world is measured on one dataset; {len(command.data)} are named")
    config = _config(EvalConfig, command)
    networks = Networks(*(find_function(name) if name else None for name in (command.lpips, command.fvd)))
    out = command.out or contained(command.run, "eval")
    with bars() as track:
        measured = evaluate_world(
            command.run,
            command.data[0],
            out=out,
            config=replace(config, sampling=replace(config.sampling, temperature=command.temperature)),
            device=command.device,
            env=command.env,
            episodes=command.episodes,
            networks=networks,
            codec=make_codec(command.codec),
            track=track,
        )
    show(result_table(measured))
    print(*map(printable, result_lines(measured)), _written(out), sep="\n")


def _evaluate_segmenter(command: SegmenterEval) -> None:
    from oneiros.console import bars, show
    from oneiros.points.evaluation.confusion import score_table
    from oneiros.points.evaluation.run import evaluate_segmenter

    out = command.out or contained(command.run, "eval")
    with bars() as track:
        scores = evaluate_segmenter(
            command.run,
            command.clouds,
            out=out,
            device=command.device,
            strict=command.strict,
            columns=command.columns,
            track=track,
        )
    show(score_table(scores))
    print(_written(out))


def _evaluate_agent(command: AgentEval, unknown: list[str]) -> None:
    from oneiros.agents.eval_run import FILMS, evaluate_agent
    from oneiros.agents.report import result_table
    from oneiros.console import bars, show

    if unknown:
        raise ValueError(f"{unknown[0]!r} is a word too many: the game is named by --env, the dataset by --data")
    out = command.out or contained(command.run, "eval")
    config = _config(AgentEvalConfig, command)
    with bars() as track:
        measured = evaluate_agent(
            command.run, out=out, config=config, beside=command.beside, data=command.data, track=track
        )
    show(result_table(measured))
    print(_written(out, FILMS))


def _evaluate_policy(command: PolicyEval, unknown: list[str]) -> None:
    from oneiros.console import bars, printable, show
    from oneiros.policy.evaluation.report import result_lines, result_table
    from oneiros.policy.evaluation.run import VIDEOS, evaluate_policy

    if unknown and command.env:
        raise ValueError(f"{unknown[0]!r} is a word too many: --episodes is how many starts of each task, one number")
    if not command.env:
        given = f", not on {unknown[0]}" if unknown else ""
        raise ValueError(
            f"{command.run} acts: it is measured in an environment{given}; add --env, such as "
            "--env metaworld:drawer-open-v3"
        )
    out = command.out or contained(command.run, "eval")
    with bars() as track:
        measured = evaluate_policy(
            command.run,
            command.env,
            out=out,
            beside=command.beside,
            config=_config(PolicyEvalConfig, command),
            device=command.device,
            track=track,
        )
    show(result_table(measured))
    print(*map(printable, result_lines(measured)), _written(out, *([VIDEOS] if measured["videos"] else [])), sep="\n")


def _config(cls: type[C], command: C) -> C:
    """What the evaluation alone is asked for."""
    return cls(**{each.name: getattr(command, each.name) for each in fields(cls)})


def _written(out: Path, *more: str) -> str:
    """Where the files are, after an empty line."""
    return "".join(f"\n{out / name}" for name in (METRICS, REPORT, *more))
