"""Whatever stands in a stranger's metadata, the answer is a dataset or one line that names the file."""

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.inspection.checks import run_checks

OFFICIAL = Path(__file__).parent / "lerobot_0_6_1"
WRONG = [None, "x", -1, 0, 1.5, True, [], {}, [None]]


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def changed(value: Any, path: tuple, new: Any) -> Any:
    """A copy with another value at one place; without the place where the value is Ellipsis."""
    if not path:
        return new
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    if new is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return value


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return shutil.copytree(OFFICIAL, tmp_path_factory.mktemp("data") / "set")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["meta/info.json", "meta/stats.json"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(st.data())
def test_any_damage_to_the_metadata_is_one_line(root, name, data):
    original = json.loads((OFFICIAL / name).read_text())
    path = data.draw(st.sampled_from(list(places(original))))
    new = data.draw(st.sampled_from([*WRONG, ...] if path else WRONG))
    (root / name).write_text(json.dumps(changed(original, path, new)))
    answer = ""
    try:
        use(root)
    except ValueError as error:
        answer = str(error)
    finally:
        (root / name).write_text(json.dumps(original))
    assert "\n" not in answer
    assert not answer or str(root) in answer or "meta/info.json" in answer


def use(root: Path) -> None:
    dataset = Dataset.open(root)
    run_checks(dataset)
    dataset.actions(0)
    dataset.frames(0, stop=1)


@pytest.mark.parametrize(
    ("feature", "values"),
    [
        ("action", {"shape": [10**12]}),
        ("action", {"dtype": "int64", "shape": [1], "info": None}),  # of statistics that say 10 ** 12
        ("observation.state", {"shape": [10**6, 10**6]}),
        ("observation.images.front", {"shape": [10**9, 10**9, 3]}),
        ("observation.images.front", {"info": {"camera": {"kind": "x"}}}),
        ("observation.images.front", {"info": {"camera": {"fx": 1e999}}}),
    ],
)
def test_features_that_no_row_has(root, tmp_path, feature, values):
    shutil.copytree(root, tmp_path / "set")
    info = json.loads((root / "meta/info.json").read_text())
    feature = next(name for name in info["features"] if name.startswith(feature.rpartition(".")[0] or feature))
    info["features"][feature] |= values
    (tmp_path / "set/meta/info.json").write_text(json.dumps(info))
    stats = json.loads((root / "meta/stats.json").read_text())
    stats["action"] |= {"max": [1e12], "mean": [0], "std": [1]}
    (tmp_path / "set/meta/stats.json").write_text(json.dumps(stats))
    with pytest.raises(ValueError, match=r"meta/info\.json"):
        Dataset.open(tmp_path / "set")


def test_a_robot_is_a_text(root, tmp_path):
    shutil.copytree(root, tmp_path / "set")
    info = json.loads((root / "meta/info.json").read_text())
    (tmp_path / "set/meta/info.json").write_text(json.dumps({**info, "robot_type": {"a": 1}}))
    with pytest.raises(ValueError, match=r"info\.json: robot_type is .*; it must be a text"):
        Dataset.open(tmp_path / "set")
