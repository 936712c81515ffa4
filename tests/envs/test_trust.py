"""A name that stands in a file runs no code of whoever wrote the file."""

import sys

import gymnasium
import pytest

from oneiros.envs.make import is_built_in, make_env
from tests.envs import echo_env

EVIL = """
import gymnasium, pathlib
pathlib.Path("ran").touch()
gymnasium.register("Ball-v0", "run.evil:Ball")
"""


@pytest.fixture
def strangers(tmp_path, monkeypatch):
    """The working folder, on the path as under `python -m oneiros`, with a stranger's run and more in it."""
    for package in ("run", "shimmy", "Ball"):
        (tmp_path / package).mkdir()
    (tmp_path / "run" / "evil.py").write_text(EVIL)
    (tmp_path / "Ball" / "__init__.py").write_text(EVIL)
    (tmp_path / "shimmy" / "openai_gym_compatibility.py").write_text(EVIL)
    spec = gymnasium.envs.registration.EnvSpec("Elsewhere-v0", "shimmy.openai_gym_compatibility:Elsewhere")
    monkeypatch.setitem(gymnasium.registry, "Elsewhere-v0", spec)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        "gym:run.evil:Ball-v0",  # a module of the run folder
        "gym:Ball/Ball-v0",  # a package that is called like the namespace
        "gym:Elsewhere-v0",  # registered, but the module that has it is not installed
        "gym:nothing-v0",
        "gym:",
        "run.evil:Ball-v0",
        "dream:doom:health_gathering",
        "unknown",
        "",
    ],
)
def test_what_would_import_a_strangers_module_is_not_built_in(strangers, name):
    assert not is_built_in(name)
    assert not (strangers / "ran").exists()


@pytest.mark.parametrize(
    "name", ["doom:health_gathering", "metaworld:door-open-v3", "gym:CartPole-v1", "gym:EchoBox-v0"]
)
def test_what_comes_along_or_was_imported_is_built_in(strangers, name):
    assert echo_env.STRIPES
    assert is_built_in(name)


def test_a_package_of_the_working_folder_is_not_vizdoom(tmp_path, monkeypatch):
    (tmp_path / "vizdoom.py").write_text(EVIL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    monkeypatch.delitem(sys.modules, "vizdoom", raising=False)
    assert not is_built_in("doom:health_gathering")
    assert not (tmp_path / "ran").exists()


def test_what_the_user_names_is_opened(strangers):
    with pytest.raises(ValueError, match="is not a registered environment"):
        make_env("gym:run.evil:Nothing-v0")
    assert (strangers / "ran").exists()
    gymnasium.registry.pop("Ball-v0")
