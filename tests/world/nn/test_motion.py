import torch

from oneiros.world.nn.motion import motion_weights


def test_a_cell_weighs_more_after_it_or_a_neighbour_changed():
    vectors = torch.zeros(1, 4, 2, 5, 6)
    vectors[0, 1:, :, 2, 2] = 3.0  # changes from frame 0 to frame 1, and stays
    weights = motion_weights(vectors, 4.0).view(4, 5, 6)
    torch.testing.assert_close(weights[0], torch.ones(5, 6))
    torch.testing.assert_close(weights[1], torch.ones(5, 6))  # nothing is known yet of what moves
    near = torch.zeros(5, 6, dtype=torch.bool)
    near[1:4, 1:4] = True
    share = 30 / 9  # all change lies in 9 cells of 30
    torch.testing.assert_close(weights[2][near], torch.full((9,), (1 + 4 * share) / 5), rtol=1e-3, atol=0)
    torch.testing.assert_close(weights[2][~near], torch.full((21,), 1 / 5), rtol=1e-2, atol=0)
    torch.testing.assert_close(weights[3], torch.ones(5, 6))  # all is still again


def test_weights_are_one_on_average_and_never_see_the_frame_that_they_weigh():
    vectors = torch.randn(2, 5, 3, 4, 4)
    weights = motion_weights(vectors, 2.0)
    torch.testing.assert_close(weights.mean(-1), torch.ones(2, 5))
    changed = vectors.clone()
    changed[:, 3] += 1
    assert torch.equal(motion_weights(changed, 2.0)[:, :4], weights[:, :4])
    assert not torch.equal(motion_weights(changed, 2.0)[:, 4], weights[:, 4])


def test_short_clips_weigh_all_alike():
    for frames in (1, 2):
        assert torch.equal(motion_weights(torch.randn(2, frames, 3, 4, 4), 2.0), torch.ones(2, frames, 16))
