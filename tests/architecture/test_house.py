"""The house rules: who may import whom, and what importing the package may cost."""

import re
import subprocess
import sys

import pytest

import oneiros
from tests.places import ROOT

HEAVY = [
    "torch",
    "numpy",
    "gymnasium",
    "pyarrow",
    "av",
    "lightning_fabric",
    "vector_quantize_pytorch",
    "vizdoom",
    "matplotlib",
    "rich",
    "tyro",
]


def loaded_after(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(' '.join(sys.modules))"
    return set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )


def test_import_contracts_hold():
    pytest.importorskip("importlinter")
    result = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout


def test_import_loads_no_heavy_library():
    assert not loaded_after("import oneiros").intersection(HEAVY)


def test_overview_loads_no_heavy_library():
    assert not loaded_after("from oneiros.cli import main; main(['--help'])").intersection(HEAVY)


@pytest.mark.parametrize("name", oneiros._PUBLIC)
def test_public_names_resolve(name):
    assert getattr(oneiros, name).__doc__


def test_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        oneiros.nonsense  # noqa: B018


# Who is asked there is a stranger: a user's codec, an environment of Gymnasium's.
ASKED_BY_GETATTR = {"world/tokenizer.py", "envs/rendered.py"}


def test_models_and_environments_are_asked_by_their_protocols():
    asks = re.compile(
        r"(getattr|hasattr|vars)\(\s*(\w+\.)*(model|world|policy|codec|env|envs|opened|unwrapped|owner)\b"
    )
    source = ROOT / "src" / "oneiros"
    found = {path.relative_to(source).as_posix() for path in source.rglob("*.py") if asks.search(path.read_text())}
    assert found == ASKED_BY_GETATTR
