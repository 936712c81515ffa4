"""Which codes make up which class."""

from __future__ import annotations

import numpy as np
import pytest

from oneiros.data.clouds.classes import parse_classes


def test_codes_ranges_and_names():
    found = parse_classes("2, 3-5,6,17-18,64")
    assert found.codes == ((2,), (3, 4, 5), (6,), (17, 18), (64,))
    assert found.names == ("ground", "vegetation", "building", "bridge deck or high noise", "class 64")
    assert parse_classes("5,1-2", ("trees", "the rest")).names == ("trees", "the rest")
    assert parse_classes("5,3-4").names == ("high vegetation", "vegetation")
    assert parse_classes("0,255").codes == ((0,), (255,))


def test_labels():
    grouping = parse_classes("6,3-5,2")
    assert grouping.labels(np.array([2, 3, 4, 5, 6, 0, 7, 255])).tolist() == [2, 1, 1, 1, 0, -1, -1, -1]
    assert grouping.labels(np.array([6, 1000])).tolist() == [0, -1]
    assert grouping.labels(np.array([], np.int64)).shape == (0,)
    assert grouping.labels(np.array([2], np.uint8)).dtype == np.int64


@pytest.mark.parametrize(
    ("text", "names", "message"),
    [
        ("2,3-5,4", (), "--classes 2,3-5,4: code 4 stands in two classes"),
        ("2,2", (), "code 2 stands in two classes"),
        ("2", (), "at least two classes"),
        ("", (), "'' is no code"),
        ("2,,6", (), "'' is no code"),
        ("2,ground", (), "'ground' is no code"),
        ("2,-6", (), "'-6' is no code"),
        ("2,3-", (), "'3-' is no code"),
        ("2,3-5-6", (), "'3-5-6' is no code"),
        ("2,5-3", (), "'5-3'; codes go from 0 to 255, the lower one first"),
        ("2,256", (), "'256'; codes go from 0 to 255"),
        ("2,6", ("ground",), "--names gives 1 names for the 2 classes of --classes 2,6"),
        ("2,6", ("roof", "roof"), "--names: roof names two classes"),
        ("2,6", ("tall tree", "tall_tree"), "--names: tall_tree names two classes"),
        ("2,6", ("ground", " "), "--names: a class has no name"),
    ],
)
def test_what_makes_no_classes_is_one_line(text, names, message):
    with pytest.raises(ValueError, match="--") as refused:
        parse_classes(text, names)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
