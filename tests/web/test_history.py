"""What is remembered, what is forgotten, and that every remembered frame can be reached from a snapshot."""

import numpy as np
import pytest

from oneiros.web.history import History, Moment

FRAME = np.zeros((1, 1, 3), np.uint8)


def played(history: History, count: int) -> History:
    for _ in range(count):
        frame = history.newest + 1
        history.append(Moment(FRAME, action=frame, snapshots=(frame, None) if history.wants_snapshot(frame) else None))
    return history


def test_frames_keep_their_numbers_while_old_ones_are_forgotten():
    history = played(History(300), 1000)
    assert history.newest == 999
    assert 300 <= len(list(history.span(history.oldest, history.newest))) < 300 + 128
    assert history[history.oldest].action == history.oldest
    with pytest.raises(ValueError, match=f"frame 3 is not remembered; frames {history.oldest} to 999 are"):
        history[3]
    with pytest.raises(ValueError, match="frame 1000 is not remembered"):
        history[1000]


def test_snapshots_are_dense_near_the_end_and_sparse_before():
    history = played(History(2000), 3000)
    for frame in range(history.oldest, history.newest + 1):
        at = history.snapshot_before(frame)
        assert history[at].snapshots == (at, None)
        assert frame - at < (16 if frame > history.newest - 48 else 128)
    kept = [moment for moment in history.span(history.oldest, history.newest) if moment.snapshots]
    assert len(kept) <= 2000 / 128 + 64 / 16 + 3


def test_a_branch_forgets_what_came_after():
    history = played(History(100), 50)
    history.cut(20)
    assert history.newest == 20
    played(history, 1)
    assert history[21].action == 21
    history.cut(0)
    assert history.snapshot_before(history.newest) == 0
