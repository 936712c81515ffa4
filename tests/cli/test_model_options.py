"""`--model.FIELD` and `--help-model`: every field of a config, typed, explained, and never in contradiction."""

import json
from dataclasses import fields

import pytest

from oneiros.cli import main
from oneiros.policy.config import PolicyConfig
from oneiros.policy.settings import PolicySettings
from oneiros.train.model_options import explanations, split_options, typed
from oneiros.world.config import WorldConfig
from oneiros.world.settings import TokenizerSettings, WorldSettings
from oneiros.world.tokenizer import TokenizerConfig
from tests.recorded import SIZE

MODELS = {
    "tokenizer": (TokenizerConfig, TokenizerSettings),
    "world": (WorldConfig, WorldSettings),
    "policy": (PolicyConfig, PolicySettings),
}


def fails(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        main(["train", *words])
    assert stopped.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("kind", MODELS)
def test_help_shows_every_field_with_its_meaning(kind, capsys):
    config, settings = MODELS[kind]
    assert explanations(config).keys() == {each.name for each in fields(config)}
    assert not settings.elsewhere.keys() - {each.name for each in fields(config)}
    main(["train", kind, "--help-model"])
    shown = capsys.readouterr().out
    for name in (each.name for each in fields(config)):
        flag = f"  --model.{name.replace('_', '-')} "
        assert (flag in shown) == (name not in settings.elsewhere), name


def test_help_shows_the_presets_values(capsys):
    main(["train", "world", "--preset", "base", "--help-model"])
    shown = capsys.readouterr().out
    assert "--model.depth a whole number  (base: 12)" in shown
    assert "--model.residual-streams a whole number  (base: 1)\n      above 1, hyper-connections." in shown
    assert "--model.learn-first-frame true or false  (base: false)" in shown


def test_words_become_values():
    words = ["world", "d", "--model.depth", "8", "--model.heads=3", "--model.learn-first-frame", "--out", "run"]
    rest, given = split_options([*words, "--model.key_gated", "false", "--model.corruption=0.2"])
    assert rest == ["world", "d", "--out", "run"]
    values = typed(given, WorldConfig, WorldSettings)
    assert values == {"depth": 8, "heads": 3, "learn_first_frame": True, "key_gated": False, "corruption": 0.2}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model.depht", "8"), "the model has no field 'depht'; did you mean depth"),
        (("--model.depth", "eight"), "--model.depth takes a whole number, not 'eight'"),
        (("--model.depth",), "--model.depth takes a whole number after it"),
        (("--model.joint", "true"), "--model.joint cannot be set: it is the option --joint"),
        (("--model.window", "8"), "--model.window cannot be set: it is the option --context"),
        (("--model.key-gated", "perhaps"), "--model.key-gated takes true or false, not 'perhaps'"),
        (("--model.depth", "1", "--model.depth=2"), "--model.depth is given twice"),
    ],
)
def test_words_that_do_not_do_are_one_line(words, said, capsys):
    assert said in fails(capsys, "world", "data", "--out", "run", *words)


def test_kinds_without_such_options_say_so(capsys):
    assert "--model options are of a tokenizer, a world or a policy" in fails(capsys, "segmenter", "--help-model")


def test_options_reach_the_model_and_a_run_goes_on_as_it_began(recording, tmp_path, capsys):
    made, size = str(tmp_path / "tokenizer"), ("--height", str(SIZE), "--width", str(SIZE), "--preset", "tiny")
    shape = ("--model.codebook-size", "16", "--model.temporal-convs", "--model.codebook-dead-share", "0.1")
    begin = ["train", "tokenizer", str(recording), *size, "--sharpen-steps", "0", "--steps", "2"]
    main([*begin, *shape, "--out", made])
    config = json.loads((tmp_path / "tokenizer" / "config.json").read_text())
    assert config["recipe"]["model"] == {"codebook_size": 16, "temporal_convs": True, "codebook_dead_share": 0.1}
    assert {name: config["model"][name] for name in config["recipe"]["model"]} == config["recipe"]["model"]
    assert config["model"]["code_dim"] == 8  # the preset's

    run = str(tmp_path / "world")
    shape = ("--model.depth", "1", "--model.heads", "3", "--model.num-meta-tokens", "0", "--model.residual-streams=2")
    begin = ["train", "world", str(recording), "--tokenizer", made, "--preset", "tiny", "--tokens-per-step", "4"]
    main([*begin, "--steps", "2", *shape, "--out", run])
    config = json.loads((tmp_path / "world" / "config.json").read_text())["model"]
    assert (config["depth"], config["heads"], config["num_meta_tokens"], config["residual_streams"]) == (1, 3, 0, 2)
    again = ("world", str(recording), "--resume", "--steps", "3", "--out", run)
    said = fails(capsys, *again, "--model.depth", "2")
    assert f"--model.depth is 2, but {run} was begun with 1: a run goes on as it began" in said
    assert "--tokens-per-step is 8" in fails(capsys, *again, "--tokens-per-step", "8")
    main(["train", *again, "--model.depth", "1"])
    assert "step 3" in capsys.readouterr().out
