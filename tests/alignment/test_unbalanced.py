"""Relaxed marginals: closed forms, limits, and POT."""

import math

import pytest
import torch
from torch import Tensor

from dferkit.alignment import TransportProblem, transport_plan, transport_score

RELAXATIONS = [(None, None), (0.3, None), (None, 0.05), (0.3, 0.5)]


def problem(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    cost = 2 * torch.rand(2, 4, 6, generator=random, dtype=torch.float64)
    a, b = (0.2 + torch.rand(2, size, generator=random, dtype=torch.float64) for size in (4, 6))
    return cost.to(dtype), (a / a.sum(1, keepdim=True)).to(dtype), (b / b.sum(1, keepdim=True)).to(dtype)


def divergence(one: Tensor, other: Tensor) -> Tensor:
    """KL(one ‖ other) of measures that need not have the same mass."""
    return torch.special.xlogy(one, one / other) - one + other


@pytest.mark.parametrize("method", ["newton", "sinkhorn"])
@pytest.mark.parametrize("epsilon", [0.2, 0.02])
@pytest.mark.parametrize("relaxations", RELAXATIONS)
def test_plan_and_value_are_those_of_pot(relaxations, epsilon, method):
    ot = pytest.importorskip("ot")
    cost, a, b = problem()
    options = {"epsilon": epsilon, "tolerance": 1e-12, "max_iterations": 20_000, "method": method}
    options |= {"text_relaxation": relaxations[0], "visual_relaxation": relaxations[1]}
    found = transport_plan(TransportProblem(cost=cost, text_mass=a, visual_mass=b, **options))
    value = transport_score(TransportProblem(cost=cost, text_mass=a, visual_mass=b, **options)).value
    assert found.converged.all()
    for element in range(2):
        given = a[element].numpy(), b[element].numpy(), cost[element].numpy()
        if relaxations == (None, None):
            plan = ot.sinkhorn(*given, epsilon, method="sinkhorn_log", numItermax=10_000, stopThr=1e-12)
        else:
            prices = tuple(price or math.inf for price in relaxations)
            plan = ot.unbalanced.sinkhorn_unbalanced(
                *given, epsilon, prices, reg_type="kl", numItermax=10_000, stopThr=1e-13
            )
        plan = torch.from_numpy(plan)
        torch.testing.assert_close(found.plan[element], plan, atol=1e-10, rtol=0)
        expected = (plan * cost[element]).sum() + epsilon * divergence(plan, a[element, :, None] * b[element]).sum()
        for price, marginal, mass in zip(relaxations, (plan.sum(1), plan.sum(0)), (a, b), strict=True):
            if price is not None:
                expected = expected + price * divergence(marginal, mass[element]).sum()
        torch.testing.assert_close(value[element], expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("method", ["newton", "sinkhorn"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_word_and_one_visual_token_have_a_closed_form(method, dtype):
    cost = torch.tensor([[[0.4]], [[1.7]]], dtype=dtype)
    found = transport_plan(
        TransportProblem(
            cost=cost, epsilon=0.1, text_relaxation=0.5, visual_relaxation=0.2, tolerance=1e-6, method=method
        )
    )
    torch.testing.assert_close(found.plan, (-cost / 0.8).exp(), atol=2e-6, rtol=0)
    hard = transport_plan(TransportProblem(cost=cost, text_relaxation=0.5, method=method))
    torch.testing.assert_close(hard.plan, torch.ones_like(cost), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_high_price_is_a_hard_marginal(dtype):
    cost, a, b = problem(dtype)
    hard = transport_plan(TransportProblem(cost=cost, text_mass=a, visual_mass=b))
    before = None
    for price in (1.0, 1e2, 1e4, 1e6, 1e8):
        found = transport_plan(
            TransportProblem(cost=cost, text_mass=a, visual_mass=b, text_relaxation=price, visual_relaxation=price)
        )
        assert found.converged.all()
        distance = float((found.plan - hard.plan).abs().sum())
        assert before is None or distance <= before + 1e-5
        before = distance
    assert before < 2e-5


def test_a_low_price_frees_the_visual_tokens():
    cost, a, _ = problem()
    found = transport_plan(
        TransportProblem(cost=cost, text_mass=a, epsilon=0.05, visual_relaxation=1e-6, tolerance=1e-9)
    )
    torch.testing.assert_close(found.plan, (-cost / 0.05).softmax(2) * a[:, :, None], atol=1e-4, rtol=0)


@pytest.mark.parametrize("epsilon", [0.1, 0.02, 0.005])
@pytest.mark.parametrize("relaxations", [*RELAXATIONS[1:], (0.01, 0.01)])
def test_float32_converges_far_from_balance(relaxations, epsilon):
    cost, a, b = problem()
    options = {"epsilon": epsilon, "text_mass": a, "visual_mass": b}
    options |= {"text_relaxation": relaxations[0], "visual_relaxation": relaxations[1]}
    found = transport_plan(TransportProblem(cost=(cost + 1.0).float().requires_grad_(), **options))
    assert found.converged.all()
    assert found.plan.isfinite().all()
    reference = transport_plan(
        TransportProblem(cost=cost + 1.0, **options, tolerance=1e-9, max_iterations=20_000, method="sinkhorn")
    )
    assert (found.plan - reference.plan).abs().sum((1, 2)).max() < 2e-5
