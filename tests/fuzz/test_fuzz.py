"""Three hundred spoiled files, of every kind that is read: each ends with success or in one line (see `worker`)."""

import pytest

from tests.fuzz.cases import make_cases, make_controls, make_samples
from tests.fuzz.run import groups, is_good, run_cases


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return make_samples(tmp_path_factory.mktemp("samples"))


def test_spoiled_files_end_in_one_line_and_sound_ones_are_read(samples, tmp_path):
    results = run_cases([*make_controls(), *make_cases(300, "suite")], samples, tmp_path, workers=2)
    assert all(map(is_good, results)), groups(results)
