"""Modules that the user names are found where the user is."""

import sys

import pytest

from oneiros.imports import import_from_cwd


def test_a_module_of_the_working_directory_with_its_own_imports(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_drive_module.py").write_text(
        "def drive():\n    import my_drive_helper\n    return my_drive_helper.SPEED"
    )
    (tmp_path / "my_drive_helper.py").write_text("SPEED = 3")
    for _ in range(2):
        assert import_from_cwd("my_drive_module").drive() == 3
    assert sys.path.count("") == 1
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        import_from_cwd("no_such_module")
