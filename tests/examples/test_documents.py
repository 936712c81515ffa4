"""The documents keep up with the code: their Python runs, their commands exist, their links lead somewhere."""

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from pkgutil import resolve_name

import pytest

from oneiros.cli import VERBS
from tests.places import ROOT

TRAINED = (["tokenizer"], ["decoder"], ["world"], ["agent"], ["policy"], ["cloning"], ["segmenter"])
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(document: Path, *languages: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)
    return [text for language, text in found if language in languages]


def commands(document: Path) -> list[list[str]]:
    """The `oneiros VERB ...` of a document, in blocks and in running text, as words."""
    text = document.read_text()
    lines = [line for block in blocks(document, "sh", "bash") for line in block.replace("\\\n", " ").splitlines()]
    lines += [line.partition("| ")[2] for line in lines] + re.findall(r"`(oneiros [^`\n]+)`", text)
    words = [shlex.split(line, comments=True) for line in lines if line.lstrip().startswith("oneiros ")]
    return [line for line in words if len(line) > 1 and not line[1].startswith(("-", "VERB"))]


@cache
def help_of(*words: str) -> str:
    command = [sys.executable, "-m", "oneiros", *words]
    return subprocess.run(command, capture_output=True, text=True).stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_options_exist(document):
    for line in commands(document):
        verb = line[1:3] if line[1] == "train" and line[2:3] in TRAINED else line[1:2]
        assert verb[0] in VERBS, line
        for option in (word for word in line if re.match(r"--[a-z]", word)):
            shown = help_of(*verb, "--help-model" if option.startswith("--model.") else "--help")
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", shown), f"{' '.join(line)}: {option}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_paths_lead_somewhere(document):
    text = document.read_text()
    links = [link.partition("#")[0] for link in re.findall(r"\]\((?!https?:|#)([^)]+)\)", text)]
    missing = [link for link in links if not (document.parent / link).exists()]
    paths = re.findall(r"(?<![\w./-])(?:src|docs|examples|tests|benchmarks)/[\w./-]*\w", text)
    missing += [path for path in paths if not (ROOT / path).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_names_exist(document):
    for name in set(re.findall(r"`(oneiros(?:\.\w+)+)`", document.read_text())):
        resolve_name(name)  # raises where there is none


def test_a_translation_has_the_same_lines_of_code():
    english, chinese = (blocks(ROOT / "docs" / name, "python") for name in ("world.md", "world.zh.md"))
    assert english == chinese


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_runs(document, examples, tmp_path, monkeypatch):
    """Top to bottom, in a folder where demo/ holds data, tokenizer and world, as after `make demo`."""
    (tmp_path / "demo").symlink_to(examples[1])
    monkeypatch.chdir(tmp_path)
    program = "\n".join(blocks(document, "python"))
    exec(compile(program, document.name, "exec"), {"__name__": "document"})
