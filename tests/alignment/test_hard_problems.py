"""Convergence, masks and gradients where they are hardest: sharp plans, clusters, light masses, ragged batches."""

import pytest
import torch
from torch import Tensor

from dferkit.alignment import TransportProblem, cosine_cost, transport_plan


def clustered(batch: int, words: int, visual: int, random: torch.Generator) -> Tensor:
    """Cosine cost of unit vectors in 12 clusters of unequal mass: ill-conditioned, as that of trained tokens."""
    centers = torch.randn(12, 64, generator=random)
    sides = []
    for count in (words, visual):
        weights = torch.rand(batch, 12, generator=random) ** 2 + 0.02
        chosen = centers[torch.multinomial(weights, count, replacement=True, generator=random)]
        sides.append(chosen + 0.7 * torch.randn(batch, count, 64, generator=random))
    return cosine_cost(*sides)


def nearly_constant_blocks(batch: int, words: int, visual: int, random: torch.Generator) -> Tensor:
    """4 × 4 groups that differ by much, with little inside."""
    between = 2 * torch.rand(4, 4, generator=random)
    rows, columns = (torch.randint(4, (batch, size), generator=random) for size in (words, visual))
    return 0.9 * between[rows[:, :, None], columns[:, None, :]] + 0.01 * torch.rand(
        batch, words, visual, generator=random
    )


def uniform(batch: int, words: int, visual: int, random: torch.Generator) -> Tensor:
    return 2 * torch.rand(batch, words, visual, generator=random)


@pytest.mark.parametrize("make", [uniform, clustered, nearly_constant_blocks])
@pytest.mark.parametrize("epsilon", [0.5, 0.1, 0.05, 0.01, 0.005])
@pytest.mark.parametrize("visual_relaxation", [None, 0.3])
def test_masked_weighted_ragged_batches_equal_the_compact_problem(make, epsilon, visual_relaxation):
    random = torch.Generator().manual_seed(int(1000 * epsilon))
    options = {"epsilon": epsilon, "visual_relaxation": visual_relaxation}
    for _ in range(7):
        words, visual = (int(torch.randint(1, most, (1,), generator=random)) for most in (40, 150))
        cost = make(2, words, visual, random)
        text_mask = torch.rand(2, words, generator=random) < 0.7
        visual_mask = torch.rand(2, visual, generator=random) < 0.7
        text_mask[:, 0], visual_mask[:, -1] = True, True
        text_mass = torch.rand(2, words, generator=random) ** 3 + 1e-4
        visual_mass = torch.rand(2, visual, generator=random) ** 3 + 1e-4
        cotangent = torch.randn(2, words, visual, generator=random)
        dead = ~(text_mask[:, :, None] & visual_mask[:, None, :])
        padded = cost.masked_fill(dead, torch.nan).requires_grad_()
        found = transport_plan(
            TransportProblem(
                cost=padded,
                text_mask=text_mask,
                visual_mask=visual_mask,
                text_mass=text_mass,
                visual_mass=visual_mass,
                **options,
            )
        )
        (gradient,) = torch.autograd.grad(found.plan, padded, cotangent)
        assert found.converged.all()
        assert (found.plan[dead] == 0).all()
        assert (gradient[dead] == 0).all()
        for element in range(2):
            rows, columns = text_mask[element], visual_mask[element]
            here = cotangent[element][rows][:, columns]
            compact = cost[element][rows][:, columns][None].requires_grad_()
            masses = {"text_mass": text_mass[element, rows][None], "visual_mass": visual_mass[element, columns][None]}
            alone = transport_plan(TransportProblem(cost=compact, **masses, **options))
            (expected,) = torch.autograd.grad(alone.plan, compact, here[None])
            assert (found.plan[element][rows][:, columns] - alone.plan[0]).abs().sum() <= 1e-5
            # Some plans do not depend on the cost at all (one word): the scale is that of the terms that cancel.
            scale = (alone.plan[0] * here).norm() / epsilon
            assert (gradient[element][rows][:, columns] - expected[0]).norm() <= 1e-5 * scale


@pytest.mark.parametrize("epsilon", [0.1, 0.05, 0.01])
def test_float32_gradient_against_float64(epsilon):
    cost = clustered(2, 24, 300, torch.Generator().manual_seed(2))
    cotangent = torch.randn(2, 24, 300, generator=torch.Generator().manual_seed(3))
    gradients = []
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        leaf = cost.to(dtype).requires_grad_()
        found = transport_plan(TransportProblem(cost=leaf, epsilon=epsilon, tolerance=tolerance))
        assert found.converged.all()
        (of_plan,) = torch.autograd.grad(found.plan, leaf, cotangent.to(dtype), retain_graph=True)
        (of_cost,) = torch.autograd.grad(found.transport_cost.sum(), leaf)
        gradients.append((of_plan, of_cost))
    for ours, exact, bound in zip(*gradients, (1e-5, 1e-4), strict=True):
        assert (ours - exact).norm() <= bound * exact.norm()


def test_the_blocks_of_a_batch_do_not_show(monkeypatch):
    cost = clustered(5, 12, 40, torch.Generator().manual_seed(4)).requires_grad_()
    whole = transport_plan(cost, epsilon=0.02)
    (expected,) = torch.autograd.grad(whole.plan.square().sum(), cost)
    monkeypatch.setattr("dferkit.alignment.solver._BLOCK_BYTES", 2 * 12 * 40 * 4)
    parts = transport_plan(cost, epsilon=0.02)
    torch.testing.assert_close(parts.plan, whole.plan, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(torch.autograd.grad(parts.plan.square().sum(), cost)[0], expected, rtol=1e-4, atol=1e-7)


def test_newton_takes_few_iterations_where_sweeps_take_hundreds():
    cost = clustered(2, 20, 200, torch.Generator().manual_seed(5))
    sharp = transport_plan(TransportProblem(cost=cost, epsilon=0.01, method="newton"))
    swept = transport_plan(TransportProblem(cost=cost, epsilon=0.01, method="sinkhorn", max_iterations=5000))
    assert sharp.converged.all()
    assert swept.converged.all()
    assert sharp.num_iterations < 40 < 200 < swept.num_iterations
    assert (sharp.plan - swept.plan).abs().sum((1, 2)).max() < 1e-3


def test_same_input_gives_the_same_bytes():
    cost = clustered(3, 10, 50, torch.Generator().manual_seed(6))
    assert torch.equal(transport_plan(cost, epsilon=0.01).plan, transport_plan(cost, epsilon=0.01).plan)


@pytest.mark.usefixtures("unchecked_shapes")
def test_a_compiled_model_around_it_gives_the_same():
    text, visual = torch.randn(2, 5, 8), torch.randn(2, 9, 8)
    weight = torch.randn(8, 8, requires_grad=True)

    def model(text: Tensor, visual: Tensor) -> Tensor:
        found = transport_plan(cosine_cost(text @ weight, visual))
        return (found.plan @ visual).square().sum() + found.transport_cost.sum()

    (expected,) = torch.autograd.grad(model(text, visual), weight)
    (gradient,) = torch.autograd.grad(torch.compile(model, backend="eager")(text, visual), weight)
    torch.testing.assert_close(gradient, expected)
