"""A tiny game that can be recorded, its dataset, and the run folder of an untrained world of it."""

from pathlib import Path

import pytest
import torch

from tests.envs import echo_env

GAME = "gym:EchoDiscrete-v0"


@pytest.fixture(scope="session")
def echo_data(tmp_path_factory) -> Path:
    """Four episodes of a game that shows what was done last."""
    from oneiros.cli import main

    assert echo_env.LENGTH == 12
    path = tmp_path_factory.mktemp("echo") / "data"
    main(["record", GAME, "--episodes", "4", "--height", "16", "--width", "16", "--out", str(path)])
    return path


@pytest.fixture(scope="session")
def echo_world(echo_data) -> Path:
    """A world of that game, which pays and ends somehow."""
    return save_world(echo_data, echo_data.parent / "world", reward_values=(0.0, 1.0), end_rate=0.1)


def save_world(data: Path, run: Path, **outcomes) -> Path:
    from oneiros.data.episodes.dataset import Dataset
    from oneiros.run_folder import Origin
    from oneiros.world.config import WorldConfig
    from oneiros.world.model import World
    from oneiros.world.tokenizer import Tokenizer, TokenizerConfig
    from tests.world.worlds import scramble

    dataset = Dataset.open(data)
    torch.manual_seed(0)
    tokenizer = Tokenizer(
        TokenizerConfig(height=16, width=16, codebook_size=16, code_dim=8, codec_width=8, codec_depth=1)
    )
    config = WorldConfig(
        action_spec=dataset.action_spec,
        fps=dataset.fps,
        dim=32,
        depth=1,
        head_dim=16,
        tokens_per_step=4,
        window=4,
        num_meta_tokens=2,
        **outcomes,
    )
    world = World(config, tokenizer)
    if world.outcome_head is not None:
        scramble(world.outcome_head)
    origin = Origin(path=str(data), fingerprint=dataset.fingerprint(), train=(0, 1, 2), held_out=(3,), fps=dataset.fps)
    world.save(run, data=origin, recipe={"preset": "tiny"})
    return run
