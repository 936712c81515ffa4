from importlib import metadata

import pytest

from oneiros.cli import VERBS, doctor, main


def test_everything_is_ready_where_everything_is_installed(capsys):
    main(["doctor"])
    out = capsys.readouterr().out
    assert all(verb in out for verb in VERBS)
    assert "torch" in out
    assert "cores" in out
    assert "needs" not in out


def test_what_is_missing_is_named_with_its_remedy(capsys, monkeypatch):
    installed = metadata.version

    def without_vizdoom(name):
        if name == "vizdoom":
            raise metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(metadata, "version", without_vizdoom)
    assert doctor.missing("doom") == ["vizdoom"]
    assert doctor.missing("train") == []
    assert doctor.state("record") == "needs vizdoom for doom:SCENARIO: pip install -e '.[doom]' in the repository"
    assert doctor.state("play") == "ready"
    main(["doctor"])
    assert "-e'.[doom]'" in "".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("chosen", "works", "words"),
    [
        (None, True, "drawn by rays; for MuJoCo's renderer install libosmesa6"),
        ("osmesa", True, "drawn by MuJoCo's renderer, MUJOCO_GL=osmesa"),
        ("egl", False, "drawn by rays: MUJOCO_GL=egl fails; install libosmesa6"),
    ],
)
def test_what_draws_meta_world_is_told(monkeypatch, chosen, works, words):
    pytest.importorskip("metaworld")
    from oneiros.envs.metaworld import renderer_camera

    monkeypatch.setattr(renderer_camera, "opengl_works", lambda: works)
    if chosen is None:
        monkeypatch.delenv("MUJOCO_GL", raising=False)
    else:
        monkeypatch.setenv("MUJOCO_GL", chosen)
    assert doctor._robot_camera().startswith(words)


@pytest.mark.parametrize("verb", doctor.NEEDS)
def test_only_verbs_and_extras_that_exist_are_spoken_of(verb):
    assert verb in VERBS
    extras = metadata.metadata("oneiros").get_all("Provides-Extra")
    assert set(doctor.NEEDS[verb]) <= set(extras)
