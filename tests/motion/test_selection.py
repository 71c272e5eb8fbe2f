import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dferkit.errors import ConfigError, DataError
from dferkit.motion import select_by_mass, select_tokens


def make(seed: int, frames: int, patches: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randn(3, frames, patches, 4, generator=random)
    return tokens, torch.rand(3, frames, patches, generator=random) ** 3


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), frames=st.integers(1, 5), patches=st.integers(1, 6), share=st.floats(0.01, 1.0))
def test_no_smaller_set_holds_the_share(seed, frames, patches, share):
    tokens, weights = make(seed, frames, patches)
    values, index, mask = select_by_mass(tokens, weights, share=share)
    flat, mass = tokens.flatten(1, 2), weights.flatten(1).double()
    for clip in range(3):
        kept = index[clip][mask[clip]]
        assert (kept.diff() > 0).all()
        assert torch.equal(values[clip][mask[clip]], flat[clip, kept])
        assert (values[clip][~mask[clip]] == 0).all()
        assert (index[clip][~mask[clip]] == -1).all()
        total = mass[clip].sum()
        held = mass[clip, kept].sum()
        assert held >= share * total - 1e-6 * total
        # The largest set with one token less does not hold it: greedy by weight is optimal.
        largest = mass[clip].sort(descending=True).values[: len(kept) - 1].sum()
        assert len(kept) == 1 or largest < share * total


def test_even_weights_keep_the_share_rounded_up_and_all_of_it_keeps_all():
    tokens = torch.randn(2, 8, 64, 3)
    even = torch.ones(2, 8, 64)
    for share in (0.1, 0.5, 0.75, 1.0):
        _, index, mask = select_by_mass(tokens, even, share=share)
        assert mask.all()
        assert index[0].tolist() == list(range(math.ceil(share * 512)))
    same = select_tokens(tokens, even, ratio=1.0)
    assert torch.equal(select_by_mass(tokens, even, share=1.0)[0], same[0])


def test_clips_of_a_batch_keep_different_numbers():
    weights = torch.tensor([[[8.0, 1.0, 1.0]], [[1.0, 1.0, 1.0]]])
    _, index, mask = select_by_mass(torch.randn(2, 1, 3, 2), weights, share=0.8)
    assert index.tolist() == [[0, -1, -1], [0, 1, 2]]
    assert mask.tolist() == [[True, False, False], [True, True, True]]


def test_deleted_tokens_are_never_kept_and_something_always_is():
    weights = torch.tensor([[[-1.0, 2.0, -1.0, 0.0]], [[-1.0, -1.0, -1.0, -1.0]]])
    _, index, mask = select_by_mass(torch.randn(2, 1, 4, 2), weights, share=1.0)
    assert index[:, 0].tolist() == [1, 0]
    assert mask.sum(1).tolist() == [1, 1]


def test_gradient_reaches_kept_tokens_only():
    tokens = torch.randn(1, 1, 4, 2, requires_grad=True)
    values, index, _ = select_by_mass(tokens, torch.tensor([[[4.0, 0.1, 3.0, 0.1]]]), share=0.9)
    values.sum().backward()
    assert index.tolist() == [[0, 2]]
    assert tokens.grad is not None
    assert tokens.grad[0, 0].sum(1).tolist() == [2, 0, 2, 0]


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, math.nan])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ConfigError, match="share"):
        select_by_mass(torch.randn(1, 1, 2, 2), torch.ones(1, 1, 2), share=share)


def test_weights_that_are_not_finite_are_refused():
    with pytest.raises(DataError, match="finite"):
        select_by_mass(torch.randn(1, 1, 2, 2), torch.tensor([[[1.0, math.nan]]]), share=0.5)
