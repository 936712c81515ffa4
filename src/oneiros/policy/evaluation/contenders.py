"""Who takes part in an evaluation: the policy, runs beside it, the environment's expert, and chance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from oneiros.agreement import Controls, check_agreement
from oneiros.envs.look import Appearance
from oneiros.envs.pixel_env import PixelEnv
from oneiros.policy.evaluation.jobs import Contender
from oneiros.policy.evaluation.kinds import LEARNED
from oneiros.policy.evaluation.observing import ObservationSpec, open_env
from oneiros.policy.evaluation.rollouts import begin_at, instruction_of
from oneiros.policy.model import WORLD, Policy
from oneiros.run_folder import WEIGHTS, read_config, read_origin
from oneiros.world.model import TOKENIZER


def find_contenders(
    run: Path, beside: Sequence[Path], *, env: str, max_steps: int, seed: int, look: Appearance | None = None
) -> tuple[tuple[Contender, ...], tuple[str | None, ...]]:
    """Everyone who plays, the policy of `run` first, and the environment's tasks; (None,) where it has no several.

    Raises ValueError for a run that is no policy, an environment that does not fit one of them, a task that one was
    never taught, and runs of different speeds.
    """
    opened = [_open(path, look, beside=number > 0) for number, path in enumerate((run, *beside))]
    spec = opened[0][1]
    tasks, instructions, has_expert = _look_at(env, spec)
    family = env if tasks == (None,) else env.partition(":")[0]  # every row names its task
    settings = (family, max_steps, seed, spec.fps)
    contenders: list[Contender] = []
    for path, (model, its_spec) in zip((run, *beside), opened, strict=True):
        _check_instructions(path, model.config.tasks, env, instructions)
        ours, theirs = (Controls(str(p), s.action_spec, s.fps) for p, s in ((run, spec), (path, its_spec)))
        check_agreement(theirs, ours)
        if its_spec != spec:
            open_env(env, its_spec).close()  # says where it does not fit
        key = _key(*settings, repr(its_spec), _weights(path))
        contenders.append(Contender(_name(path, contenders), model.kind, path.absolute(), its_spec, key))
    for kind in ("expert", "random") if has_expert else ("random",):
        contenders.append(Contender(kind, kind, None, spec, _key(*settings, kind)))
    return tuple(contenders), tasks


def _check_instructions(run: Path, learned: Sequence[str], env: str, instructions: Sequence[str]) -> None:
    if strangers := [each for each in instructions if each and each not in learned]:
        raise ValueError(f"{run} was never taught {strangers[0]!r}; it knows {', '.join(learned)}")
    if not all(instructions) and len(learned) > 1:
        raise ValueError(f"{env} does not say what is to be done, and {run} knows several: {', '.join(learned)}")


def observation_spec_of(run: Path, model: Any) -> ObservationSpec:
    """How the model of `run` saw the recording it learned from, as config.json says."""
    data, config = read_origin(run), model.config
    world = model.world
    size = world.tokenizer.config if world is not None else config
    camera = data.camera
    fps = data.fps or (world.config.fps * world.config.frame_stride if world is not None else None)
    if fps is None:
        raise ValueError(f"{run} does not tell how fast its recording ran (data.fps in config.json)")
    rendered = (camera.height, camera.width) if camera and camera.height else (size.height, size.width)
    return ObservationSpec(
        height=size.height,
        width=size.width,
        channels=size.channels,
        rendered=rendered,
        fps=float(fps),
        action_spec=config.action_spec,
        camera=data.camera_name,
        depth_camera=data.depth_camera,
        metres=isinstance(model, Policy) and model.config.geometry_tokens > 0,
        state_size=len(config.state_mean),
        instruction=config.tasks[0] if config.tasks else "",
        lossless=camera is not None and camera.lossless,
    )


def _open(run: Path, look: Appearance | None, *, beside: bool) -> tuple[Any, ObservationSpec]:
    kind = read_config(run).kind
    if kind not in LEARNED:
        where = f"--beside {run}" if beside else str(run)
        raise ValueError(
            f"{where} holds a {kind}; what acts is a {' or a '.join(LEARNED)} (oneiros train policy --help)"
        )
    model: Any = LEARNED[kind].load(run)
    return model, replace(observation_spec_of(run, model), look=look)


def _look_at(env: str, spec: ObservationSpec) -> tuple[tuple[str | None, ...], list[str], bool]:
    """The environment's tasks, their instructions, and whether it has an expert. Opens it for a moment."""
    opened = open_env(env, spec)
    try:
        tasks: tuple[str | None, ...] = opened.tasks or (None,)
        return tasks, [_instruction(opened, task) for task in tasks], opened.has_expert
    finally:
        opened.close()


def _instruction(env: PixelEnv, task: str | None) -> str:
    if task is not None:
        begin_at(env, task, 0)
    return instruction_of(env, task)


def _name(path: Path, others: Sequence[Contender]) -> str:
    name = path.resolve().name
    return str(path) if any(other.name == name for other in others) or name in ("expert", "random") else name


def _weights(run: Path) -> str:
    """A hash of what decides how a run acts: weights and configuration of its model, its world and tokenizer."""
    digest = hashlib.sha256()
    for folder in (run, run / WORLD, run / WORLD / TOKENIZER):
        if folder.is_dir():
            digest.update(json.dumps(read_config(folder).model, sort_keys=True).encode())
            with (folder / WEIGHTS).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
