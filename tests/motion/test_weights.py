import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dferkit.errors import ConfigError
from dferkit.motion import apply_motion, motion_weights, select_tokens

MODES = ["spatial", "temporal", "both", "none"]
DIFFERENCES = ["cosine", "l2"]


def clip(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("difference", DIFFERENCES)
@pytest.mark.parametrize("frames", [1, 2, 8])
def test_a_static_clip_gives_exactly_one(mode, difference, frames):
    tokens = clip(2, 1, 5, 16).expand(2, frames, 5, 16).clone().requires_grad_()
    weights = motion_weights(tokens, mode=mode, difference=difference)
    assert torch.equal(weights, torch.ones(2, frames, 5))
    if weights.requires_grad:
        weights.sum().backward()
        assert tokens.grad.isfinite().all()


@settings(max_examples=40, deadline=None)
@given(
    frames=st.integers(1, 6),
    patches=st.integers(1, 6),
    mode=st.sampled_from(MODES),
    difference=st.sampled_from(DIFFERENCES),
    seed=st.integers(0, 2**31 - 1),
)
def test_mean_is_one_and_order_of_patches_means_nothing(frames, patches, mode, difference, seed):
    tokens = clip(2, frames, patches, 8, seed=seed)
    weights = motion_weights(tokens, mode=mode, difference=difference)
    assert (weights > 0).all()
    torch.testing.assert_close(weights.mean((1, 2)), torch.ones(2))
    order = torch.randperm(patches, generator=torch.Generator().manual_seed(seed))
    permuted = motion_weights(tokens[:, :, order], mode=mode, difference=difference)
    torch.testing.assert_close(permuted, weights[:, :, order], rtol=1e-3, atol=1e-4)
    # Clips of a batch do not see each other, and time may run backwards.
    alone = motion_weights(tokens[:1], mode=mode, difference=difference)
    torch.testing.assert_close(alone, weights[:1], rtol=1e-3, atol=1e-4)
    reversed_ = motion_weights(tokens.flip(1), mode=mode, difference=difference)
    torch.testing.assert_close(reversed_.flip(1), weights, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_a_moving_patch_gets_the_largest_weight(difference):
    tokens = clip(1, 1, 9, 16).expand(1, 8, 9, 16).clone()
    tokens[0, 4, 6] += 3 * clip(16, seed=1)  # Patch 6 moves in frame 4 only.
    spatial = motion_weights(tokens, mode="spatial", difference=difference)[0]
    assert spatial[4].argmax() == 6
    assert spatial[4, 6] > 5
    torch.testing.assert_close(spatial[0], torch.ones(9))  # Nothing moves in frame 0: even weights.
    temporal = motion_weights(tokens, mode="temporal", difference=difference)[0]
    assert temporal[:, 0].argmax() == 4  # The apex, not its neighbours.
    both = motion_weights(tokens, mode="both", difference=difference)[0]
    assert divmod(int(both.argmax()), 9) == (4, 6)
    torch.testing.assert_close(both, spatial * temporal)


def test_matches_a_hand_computed_case():
    # Two patches over two frames; only the second turns by 90 degrees: differences 0 and 1.
    tokens = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]]])
    weights = motion_weights(tokens, mode="spatial", temperature_spatial=0.5)
    expected = 2 * torch.tensor([0.0, 2.0]).softmax(0)
    torch.testing.assert_close(weights, expected.expand(1, 2, 2))


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_scale_of_the_tokens_means_nothing(difference):
    tokens = clip(1, 4, 5, 8)
    torch.testing.assert_close(
        motion_weights(1024 * tokens, difference=difference), motion_weights(tokens, difference=difference)
    )


def test_weights_are_differentiable():
    tokens = clip(1, 3, 4, 5).double().requires_grad_()
    for difference in DIFFERENCES:
        assert torch.autograd.gradcheck(lambda t, d=difference: motion_weights(t, difference=d), (tokens,))


def test_apply_motion():
    tokens, weights = clip(2, 3, 4, 5), torch.rand(2, 3, 4)
    assert torch.equal(apply_motion(tokens, weights, 0.0), tokens)
    torch.testing.assert_close(apply_motion(tokens, weights, 1.0), tokens * weights[..., None])
    strength = torch.tensor(0.25, requires_grad=True)
    result = apply_motion(tokens, weights, strength)
    torch.testing.assert_close(result, 0.75 * tokens + 0.25 * tokens * weights[..., None])
    result.sum().backward()
    assert strength.grad is not None
    assert apply_motion(tokens.bfloat16(), weights, 0.5).dtype == torch.bfloat16


@pytest.mark.parametrize(("ratio", "kept"), [(0.5, 6), (0.25, 3), (1.0, 12), (0.01, 1), (7 / 12, 7)])
def test_selection_keeps_the_largest(ratio, kept):
    tokens, weights = clip(2, 3, 4, 5), torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0))
    values, index = select_tokens(tokens, weights, ratio=ratio)
    assert values.shape == (2, kept, 5)
    assert (index.diff(dim=1) > 0).all()
    for row in range(2):
        assert set(index[row].tolist()) == set(weights[row].flatten().topk(kept).indices.tolist())
        torch.testing.assert_close(values[row], tokens[row].reshape(12, 5)[index[row]])


def test_ties_keep_the_earlier_position_and_gradient_reaches_kept_tokens_only():
    tokens = clip(1, 2, 4, 3).requires_grad_()
    values, index = select_tokens(tokens, torch.ones(1, 2, 4), ratio=0.4)
    assert index.tolist() == [[0, 1, 2]]
    values.sum().backward()
    assert tokens.grad.reshape(8, 3).sum(1).tolist() == [3.0] * 3 + [0.0] * 5


@pytest.mark.usefixtures("unchecked_shapes")
def test_settings_out_of_range_are_refused():
    tokens = clip(1, 2, 3, 4)
    for option in ({"mode": "x"}, {"difference": "l1"}, {"temperature_spatial": 0.0}, {"temperature_temporal": -1.0}):
        with pytest.raises(ConfigError, match=next(iter(option))):
            motion_weights(tokens, **option)
    with pytest.raises(ConfigError, match="strength"):
        apply_motion(tokens, tokens[..., 0], 1.5)
    for ratio in (0.0, 1.1):
        with pytest.raises(ConfigError, match="ratio"):
            select_tokens(tokens, tokens[..., 0], ratio=ratio)
