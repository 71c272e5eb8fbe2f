import pytest
import torch

from dferkit.alignment import cosine_cost


def test_matches_a_hand_computed_case():
    text = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    visual = torch.tensor([[[3.0, 0.0], [-1.0, 0.0], [1.0, 1.0]]])
    half = 1 - 0.5**0.5
    torch.testing.assert_close(cosine_cost(text, visual), torch.tensor([[[0.0, 2.0, half], [1.0, 1.0, half]]]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_stays_in_range_and_is_at_least_float32(dtype):
    tokens = torch.randn(2, 5, 16).to(dtype)
    cost = cosine_cost(tokens, tokens)
    assert cost.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert cost.min() >= 0
    assert cost.max() <= 2
    assert cost.diagonal(dim1=1, dim2=2).max() < 1e-5


def test_zero_vectors_have_cost_one_and_a_finite_gradient():
    text = torch.zeros(1, 2, 4, requires_grad=True)
    cost = cosine_cost(text, torch.randn(1, 3, 4))
    assert torch.equal(cost, torch.ones(1, 2, 3))
    cost.sum().backward()
    assert text.grad is not None
    assert text.grad.isfinite().all()
