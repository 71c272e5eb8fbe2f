"""The score without a plan gives what the plan gives, and the gradients of both."""

import pytest
import torch

from dferkit.alignment import TransportProblem, transport_plan, transport_score
from dferkit.errors import ConfigError, DataError

RELAXATIONS = [(None, None), (0.3, None), (None, 0.05), (0.3, 0.5)]


def problem(dtype=torch.float64):
    random = torch.Generator().manual_seed(0)
    cost = 2 * torch.rand(2, 4, 6, generator=random, dtype=torch.float64).to(dtype)
    text_mass, visual_mass = torch.rand(2, 4, generator=random) + 0.2, torch.rand(2, 6, generator=random) + 0.2
    text_mask, visual_mask = torch.ones(2, 4, dtype=torch.bool), torch.ones(2, 6, dtype=torch.bool)
    text_mask[0, 1], visual_mask[1, 3:] = False, False
    return cost, {
        "text_mask": text_mask,
        "visual_mask": visual_mask,
        "text_mass": text_mass.to(dtype),
        "visual_mass": visual_mass.to(dtype),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("relaxations", RELAXATIONS)
def test_cost_and_gradient_are_those_of_the_plan(relaxations, dtype):
    cost, given = problem(dtype)
    options = {"epsilon": 0.05, "text_relaxation": relaxations[0], "visual_relaxation": relaxations[1]}
    results = []
    for solve in (transport_plan, transport_score):
        leaves = [leaf.clone().requires_grad_() for leaf in (cost, given["text_mass"], given["visual_mass"])]
        found = solve(
            TransportProblem(cost=leaves[0], **given | {"text_mass": leaves[1], "visual_mass": leaves[2]}, **options)
        )
        assert found.converged.all()
        results.append([found.transport_cost, *torch.autograd.grad(found.transport_cost.sum(), leaves)])
    # In float32 the plan is made again from rounded potentials.
    torch.testing.assert_close(*results, rtol=1e-4 if dtype == torch.float32 else 1e-9, atol=1e-5)


@pytest.mark.parametrize("relaxations", RELAXATIONS)
def test_gradcheck(relaxations):
    cost, given = problem()
    masks = {name: given.pop(name) for name in ("text_mask", "visual_mask")}

    def outputs(cost, text_mass, visual_mass):
        found = transport_score(
            TransportProblem(
                cost=cost,
                epsilon=0.2,
                text_mass=text_mass,
                visual_mass=visual_mass,
                text_relaxation=relaxations[0],
                visual_relaxation=relaxations[1],
                tolerance=1e-14,
                **masks,
            )
        )
        return found.transport_cost, found.value

    leaves = tuple(leaf.requires_grad_() for leaf in (cost, *given.values()))
    assert torch.autograd.gradcheck(outputs, leaves, eps=1e-5, atol=1e-7)


def test_gradient_of_the_value_is_the_plan():
    cost, given = problem()
    cost.requires_grad_()
    (gradient,) = torch.autograd.grad(
        transport_score(TransportProblem(cost=cost, tolerance=1e-12, **given)).value.sum(), cost
    )
    torch.testing.assert_close(gradient, transport_plan(TransportProblem(cost=cost, tolerance=1e-12, **given)).plan)


def test_neither_changes_its_inputs():
    cost, _ = problem()
    before = cost.clone()
    cost.requires_grad_()
    for method in ("newton", "sinkhorn"):
        transport_score(TransportProblem(cost=cost, method=method)).value.sum().backward()
        transport_plan(TransportProblem(cost=cost, method=method)).transport_cost.sum().backward()
    assert torch.equal(cost.detach(), before)


def test_unusable_input_is_refused():
    cost, _ = problem()
    with pytest.raises(ConfigError, match="epsilon"):
        transport_score(cost, epsilon=0.0)
    with pytest.raises(DataError, match="no words"):
        transport_score(TransportProblem(cost=cost, text_mask=torch.zeros(2, 4, dtype=torch.bool)))
