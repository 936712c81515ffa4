"""For tests of tiny tensors: `from tests.one_thread import one_thread` in a folder's conftest."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Threads would only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
