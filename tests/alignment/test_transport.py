import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from dferkit.alignment import TransportProblem, transport_plan
from dferkit.alignment.implicit import plan_gradient
from dferkit.alignment.solver import SolverSettings
from dferkit.errors import ConfigError, DataError

METHODS = ["newton", "sinkhorn"]


def random_cost(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return 2 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def random_mass(*shape: int, seed: int = 1) -> Tensor:
    return 0.2 + torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unrolled_plan(cost: Tensor, a: Tensor, b: Tensor, epsilon: float, sweeps: int) -> Tensor:
    """Plain differentiable Sinkhorn: the gradient oracle."""
    f, g = torch.zeros_like(a), torch.zeros_like(b)
    for _ in range(sweeps):
        g = b.log() - torch.logsumexp(f[:, :, None] - cost / epsilon, 1)
        f = a.log() - torch.logsumexp(g[:, None, :] - cost / epsilon, 2)
    return (f[:, :, None] + g[:, None, :] - cost / epsilon).exp()


@pytest.mark.parametrize("method", METHODS)
def test_constant_cost_gives_the_product_of_the_masses(method):
    a, b = random_mass(2, 3), random_mass(2, 5)
    found = transport_plan(
        TransportProblem(cost=torch.full((2, 3, 5), 0.7).double(), text_mass=a, visual_mass=b, method=method)
    )
    a, b = a / a.sum(1, keepdim=True), b / b.sum(1, keepdim=True)
    torch.testing.assert_close(found.plan, a[:, :, None] * b[:, None, :], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.transport_cost, torch.full((2,), 0.7).double())


@pytest.mark.parametrize("seed", range(4))
def test_small_epsilon_approaches_the_best_assignment(seed):
    cost = random_cost(1, 7, 7, seed=seed)
    rows, columns = linear_sum_assignment(cost[0].numpy())
    found = transport_plan(TransportProblem(cost=cost, epsilon=0.004, tolerance=1e-3, max_iterations=30_000))
    assert found.converged.all()
    best = cost[0].numpy()[rows, columns].mean()
    assert best - 1e-3 <= float(found.transport_cost) <= best + 0.004
    assert np.array_equal(found.plan[0].argmax(1).numpy(), columns)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("epsilon", [0.2, 0.05, 0.02])
@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (1, 4), (4, 1)])
def test_marginals_reach_the_tolerance(method, dtype, epsilon, shape):
    cost = random_cost(3, *shape, dtype=dtype)
    found = transport_plan(TransportProblem(cost=cost, epsilon=epsilon, max_iterations=20_000, method=method))
    assert found.plan.dtype == dtype
    assert found.converged.all()
    assert found.marginal_error.max() <= 1e-5
    torch.testing.assert_close(found.plan.sum(2), torch.full((3, shape[0]), 1 / shape[0], dtype=dtype))
    reference = transport_plan(
        TransportProblem(cost=cost.double(), epsilon=epsilon, tolerance=1e-11, max_iterations=20_000)
    )
    assert (found.plan - reference.plan).abs().sum((1, 2)).max() < 1e-4


def test_a_strongly_structured_cost_is_solved_by_absorption():
    # Words and visual tokens lie far apart on a line: potentials reach many times the range of float32 scalings.
    cost = (torch.linspace(0, 1, 8)[:, None] - torch.linspace(0, 1, 30) ** 3).square()[None] * 2
    found = transport_plan(TransportProblem(cost=cost, epsilon=0.002, max_iterations=50_000, tolerance=1e-4))
    reference = transport_plan(
        TransportProblem(cost=cost.double(), epsilon=0.002, max_iterations=50_000, tolerance=1e-7, method="sinkhorn")
    )
    assert found.converged.all()
    assert (found.plan - reference.plan).abs().sum() < 1e-2


@pytest.mark.parametrize("epsilon", [1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tiny_epsilon_stays_finite(epsilon, dtype):
    cost = random_cost(3, 6, 11, dtype=dtype).requires_grad_()
    found = transport_plan(TransportProblem(cost=cost, epsilon=epsilon, max_iterations=50))
    assert found.plan.isfinite().all()
    torch.testing.assert_close(found.plan.sum((1, 2)), torch.ones(3, dtype=dtype))
    found.plan.square().sum().backward()
    assert cost.grad.isfinite().all()


def test_autocast_does_not_lower_the_precision():
    cost = random_cost(2, 5, 9).float()
    gradients = []
    for enabled in (False, True):
        leaf = cost.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            transport_plan(leaf).plan.square().sum().backward()
        gradients.append(leaf.grad)
    assert torch.equal(*gradients)


def test_not_converging_is_a_value():
    found = transport_plan(TransportProblem(cost=random_cost(2, 6, 9), epsilon=0.01, max_iterations=1))
    assert not found.converged.any()
    assert found.num_iterations == 1
    assert (found.marginal_error > 1e-5).all()


@pytest.mark.parametrize("epsilon", [0.1, 0.01])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_padding_changes_nothing(epsilon, dtype):
    cost, a, b = random_cost(1, 5, 12, dtype=dtype), random_mass(1, 5), random_mass(1, 12)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-10

    def solve(cost, **masses):
        cost = cost.clone().requires_grad_()
        found = transport_plan(
            TransportProblem(cost=cost, epsilon=epsilon, tolerance=tolerance, max_iterations=20_000, **masses)
        )
        rows, columns = (torch.arange(size).to(dtype) for size in found.plan.shape[1:])
        (found.plan * (rows[:, None] * columns + rows[:, None]).cos()).sum().backward()
        return found, cost.grad

    compact, compact_grad = solve(cost, text_mass=a, visual_mass=b)
    padded = torch.full((2, 8, 17), torch.nan, dtype=dtype)
    padded[0, :5, :12] = cost
    padded[1] = random_cost(8, 17, seed=5, dtype=dtype)
    text_mask, visual_mask = torch.ones(2, 8, dtype=torch.bool), torch.ones(2, 17, dtype=torch.bool)
    text_mask[0, 5:], visual_mask[0, 12:] = False, False
    text_mass, visual_mass = torch.full((2, 8), torch.nan), torch.full((2, 17), -1.0)
    text_mass[0, :5], visual_mass[0, :12] = a[0].float(), b[0].float()
    text_mass[1], visual_mass[1] = 1.0, 1.0
    found, grad = solve(
        padded, text_mask=text_mask, visual_mask=visual_mask, text_mass=text_mass, visual_mass=visual_mass
    )
    assert (found.plan[0, 5:] == 0).all()
    assert (found.plan[0, :, 12:] == 0).all()
    assert (found.plan[0, :5, :12] - compact.plan[0]).abs().sum() <= 1e-5
    assert (grad[0, 5:] == 0).all()
    assert (grad[0, :, 12:] == 0).all()
    assert (grad[0, :5, :12] - compact_grad[0]).norm() <= 1e-4 * compact_grad.norm()


def test_an_element_does_not_depend_on_the_rest_of_the_batch():
    easy, hard = torch.full((1, 4, 9), 0.5) + 0.01 * random_cost(1, 4, 9).float(), random_cost(1, 4, 9).float()
    alone = transport_plan(TransportProblem(cost=easy, epsilon=0.02, max_iterations=5000))
    together = transport_plan(TransportProblem(cost=torch.cat([easy, hard]), epsilon=0.02, max_iterations=5000))
    assert together.num_iterations > alone.num_iterations
    torch.testing.assert_close(together.plan[:1], alone.plan, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
@pytest.mark.parametrize("relaxations", [(None, None), (0.3, None), (None, 0.3), (0.3, 0.5)])
def test_gradcheck_with_masks_and_masses(shape, relaxations):
    words, visual = shape
    cost = random_cost(2, words, visual).requires_grad_()
    text_mask, visual_mask = torch.ones(2, words, dtype=torch.bool), torch.ones(2, visual, dtype=torch.bool)
    text_mask[0, -1], visual_mask[1, 0] = False, False
    text_mass, visual_mass = random_mass(2, words).requires_grad_(), random_mass(2, visual).requires_grad_()

    def outputs(cost: Tensor, text_mass: Tensor, visual_mass: Tensor) -> tuple[Tensor, Tensor]:
        found = transport_plan(
            TransportProblem(
                cost=cost,
                epsilon=0.2,
                text_mask=text_mask,
                visual_mask=visual_mask,
                text_mass=text_mass,
                visual_mass=visual_mass,
                text_relaxation=relaxations[0],
                visual_relaxation=relaxations[1],
                tolerance=1e-14,
            )
        )
        return found.plan, found.transport_cost

    assert torch.autograd.gradcheck(outputs, (cost, text_mass, visual_mass), eps=1e-5, atol=1e-7)


@pytest.mark.parametrize(("epsilon", "sweeps"), [(0.2, 400), (0.1, 2000)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_equals_that_of_an_unrolled_solver(epsilon, sweeps, dtype):
    cost = random_cost(2, 6, 10).requires_grad_()
    a, b = random_mass(2, 6), random_mass(2, 10)
    a, b = a / a.sum(1, keepdim=True), b / b.sum(1, keepdim=True)
    cotangent = torch.randn(2, 6, 10, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    plan = unrolled_plan(cost, a, b, epsilon, sweeps)
    (expected,) = torch.autograd.grad(((plan * cotangent).sum(), (plan * cost).sum())[0], cost, retain_graph=True)
    (expected_cost,) = torch.autograd.grad((plan * cost).sum(), cost)

    ours = cost.detach().to(dtype).requires_grad_()
    tolerance = 1e-6 if dtype == torch.float32 else 1e-13
    found = transport_plan(
        TransportProblem(
            cost=ours, epsilon=epsilon, text_mass=a, visual_mass=b, tolerance=tolerance, max_iterations=sweeps
        )
    )
    (gradient,) = torch.autograd.grad((found.plan * cotangent.to(dtype)).sum(), ours, retain_graph=True)
    (gradient_cost,) = torch.autograd.grad(found.transport_cost.sum(), ours)
    bound = 1e-4 if dtype == torch.float32 else 1e-9
    assert (gradient - expected).norm() <= bound * expected.norm()
    assert (gradient_cost - expected_cost).norm() <= bound * expected_cost.norm()


def test_gradient_stays_finite_for_a_plan_that_is_a_permutation():
    cost = (2 * (1 - torch.eye(6)))[None].requires_grad_()
    found = transport_plan(cost, epsilon=0.01)
    found.plan.square().sum().backward()
    assert cost.grad.isfinite().all()
    assert cost.grad.abs().max() < 1e-3


def test_plan_gradient_is_the_same_from_both_sides():
    plan = transport_plan(TransportProblem(cost=random_cost(2, 4, 9), tolerance=1e-13, visual_relaxation=0.5)).plan
    a, b, cotangent = random_mass(2, 4), random_mass(2, 9), random_cost(2, 4, 9, seed=4)
    here, there = torch.empty_like(plan), torch.empty_like(plan).transpose(1, 2)

    def settings(text_slack, visual_slack):
        return SolverSettings(
            epsilon=0.1, text_slack=text_slack, visual_slack=visual_slack, tolerance=1e-5, max_iterations=1
        )

    masses = plan_gradient(plan, cotangent, a, b, settings(0.0, 0.2), out=here)
    flipped = plan_gradient(plan.transpose(1, 2), cotangent.transpose(1, 2), b, a, settings(0.2, 0.0), out=there)
    torch.testing.assert_close(here, there.transpose(1, 2))
    torch.testing.assert_close(masses, flipped[::-1])


def test_memory_for_the_gradient_does_not_grow_with_sweeps():
    saved: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel())
        return tensor

    sizes = []
    for max_iterations in (4, 400):
        saved.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            transport_plan(
                TransportProblem(
                    cost=random_cost(2, 6, 9).requires_grad_(), epsilon=0.01, max_iterations=max_iterations
                )
            )
        sizes.append(sum(saved))
    assert sizes[0] == sizes[1]


@settings(max_examples=25, deadline=None)
@given(
    words=st.integers(1, 7),
    visual=st.integers(1, 9),
    epsilon=st.sampled_from([0.5, 0.1, 0.03]),
    seed=st.integers(0, 2**31 - 1),
)
def test_random_masked_problems(words, visual, epsilon, seed):
    random = torch.Generator().manual_seed(seed)
    cost = 2 * torch.rand(2, words, visual, generator=random)
    text_mask = torch.rand(2, words, generator=random) < 0.7
    visual_mask = torch.rand(2, visual, generator=random) < 0.7
    text_mask[:, 0], visual_mask[:, -1] = True, True
    visual_mass = torch.rand(2, visual, generator=random) + 1e-3
    options = {"epsilon": epsilon, "max_iterations": 20_000}
    found = transport_plan(
        TransportProblem(cost=cost, text_mask=text_mask, visual_mask=visual_mask, visual_mass=visual_mass, **options)
    )
    assert found.converged.all()
    assert (found.plan >= 0).all()
    assert (found.plan[~(text_mask[:, :, None] & visual_mask[:, None, :])] == 0).all()
    torch.testing.assert_close(found.plan.sum((1, 2)), torch.ones(2), atol=1e-5, rtol=0)
    # The order of words and visual tokens means nothing.
    rows, columns = torch.randperm(words, generator=random), torch.randperm(visual, generator=random)
    permuted = transport_plan(
        TransportProblem(
            cost=cost[:, rows][:, :, columns],
            text_mask=text_mask[:, rows],
            visual_mask=visual_mask[:, columns],
            visual_mass=visual_mass[:, columns],
            **options,
        )
    )
    torch.testing.assert_close(permuted.plan, found.plan[:, rows][:, :, columns], atol=2e-5, rtol=0)


def test_half_precision_is_raised_to_float32():
    found = transport_plan(random_cost(1, 3, 4).bfloat16())
    assert found.plan.dtype == torch.float32
    assert found.converged.all()


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    "option",
    [
        {"epsilon": 0.0},
        {"epsilon": float("nan")},
        {"tolerance": 0.0},
        {"max_iterations": 0},
        {"method": "simplex"},
        {"text_relaxation": -1.0},
        {"visual_relaxation": float("inf")},
    ],
)
def test_settings_out_of_range_are_refused(option):
    with pytest.raises(ConfigError, match=next(iter(option))):
        transport_plan(TransportProblem(cost=random_cost(1, 2, 2), **option))


def test_a_cost_alone_is_the_problem_with_equal_masses():
    cost = random_cost(2, 3, 4)
    even = TransportProblem(cost=cost, epsilon=0.05, text_mass=torch.ones(2, 3), visual_mass=torch.ones(2, 4))
    torch.testing.assert_close(transport_plan(cost, epsilon=0.05).plan, transport_plan(even).plan)
    assert torch.equal(transport_plan(cost).plan, transport_plan(cost, epsilon=0.1).plan)
    with pytest.raises(ConfigError, match="set it in the TransportProblem"):
        transport_plan(even, epsilon=0.2)


def test_unusable_data_are_refused():
    cost, none = random_cost(2, 3, 4), torch.tensor([[True] * 3, [False] * 3])
    with pytest.raises(DataError, match=r"\[1\] have no words"):
        transport_plan(TransportProblem(cost=cost, text_mask=none))
    with pytest.raises(DataError, match=r"\[0\] have no visual tokens"):
        transport_plan(TransportProblem(cost=cost, visual_mask=torch.tensor([[False] * 4, [True] * 4])))
    for bad in (torch.nan, torch.inf, -torch.inf):
        broken = cost.clone()
        broken[0, 1, 2] = bad
        with pytest.raises(DataError, match="NaN or infinite"):
            transport_plan(broken)
        mask = torch.ones(2, 4, dtype=torch.bool)
        mask[0, 2] = False
        assert transport_plan(TransportProblem(cost=broken, visual_mask=mask)).converged.all()
    for bad in (0.0, -1.0, torch.nan, torch.inf):
        mass = torch.ones(2, 3)
        mass[1, 1] = bad
        with pytest.raises(DataError, match="text_mass must be finite and above 0"):
            transport_plan(TransportProblem(cost=cost, text_mass=mass))


@pytest.mark.parametrize("shape", [(2, 30, 600), (1, 600, 30), (1, 150, 150)])
def test_float32_gradient_of_large_problems(shape):
    """Above the size up to which float64 is used within."""
    cost = random_cost(*shape)
    cotangent = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = []
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        leaf = cost.to(dtype).requires_grad_()
        found = transport_plan(TransportProblem(cost=leaf, epsilon=0.05, tolerance=tolerance))
        gradients.append(torch.autograd.grad(found.plan, leaf, cotangent.to(dtype))[0].double())
    assert (gradients[0] - gradients[1]).norm() <= 1e-5 * gradients[1].norm()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("epsilon", [0.05, 0.01])
def test_float32_gradient_of_the_cost_near_a_permutation(seed, epsilon):
    """Small square problems at small epsilon fall apart into nearly separate pieces: the system is nearly singular."""
    cost = random_cost(1, 5, 5, seed=seed).float()
    gradients = []
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        leaf = cost.to(dtype).requires_grad_()
        found = transport_plan(TransportProblem(cost=leaf, epsilon=epsilon, tolerance=tolerance))
        gradients.append(torch.autograd.grad(found.transport_cost.sum(), leaf)[0].double())
    assert (gradients[0] - gradients[1]).norm() <= 1e-4 * gradients[1].norm()


def test_the_reference_solver_looks_at_rows_before_it_stops():
    """Here the first potentials already fit the columns, and only those."""
    shares = torch.rand(1, 6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shares = shares / shares.mean(1, keepdim=True)
    found = transport_plan(TransportProblem(cost=-0.1 * shares.log(), epsilon=0.1, method="sinkhorn"))
    assert found.converged.all()


@pytest.mark.usefixtures("unchecked_shapes")
def test_edges_are_one_sentence():
    with pytest.raises(DataError, match=r"cost\[None\]"):
        transport_plan(torch.rand(20, 40))
    with pytest.raises(DataError, match=r"visual_mask has the shape \(1, 2\), but the cost requires \(1, 3\)"):
        TransportProblem(cost=torch.rand(1, 2, 3), visual_mask=torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(DataError, match="booleans"):
        transport_plan(TransportProblem(cost=torch.rand(1, 2, 3), text_mask=torch.ones(1, 2, dtype=torch.long)))
    with pytest.raises(DataError, match="too small"):
        transport_plan(TransportProblem(cost=torch.rand(1, 2, 2), visual_mass=torch.tensor([[1.0, 1e-42]])))
    with pytest.raises(DataError, match="not finite"):
        transport_plan(torch.rand(1, 4, 5), epsilon=1e-39)
    large = transport_plan(TransportProblem(cost=torch.rand(1, 2, 3), text_mass=torch.full((1, 2), 1e38)))
    torch.testing.assert_close(large.plan.sum(2), torch.full((1, 2), 0.5))
    assert transport_plan(torch.rand(0, 3, 4)).plan.shape == (0, 3, 4)


def test_memory_stays_within_bounds():
    """Peak extra memory of forward and backward, in multiples of the cost: plan and gradient, and little more."""
    program = """
import torch
from pathlib import Path
from dferkit.alignment import transport_plan
torch.set_num_threads(1)
def status(key):
    return next(int(l.split()[1]) * 1024 for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(key))
def both(cost, cotangent):
    plan = transport_plan(cost, epsilon=0.1).plan
    return plan, torch.autograd.grad(plan, cost, cotangent)
both(torch.rand(1, 77, 200, requires_grad=True), torch.rand(1, 77, 200))
cost, cotangent = torch.rand(32, 77, 1568, requires_grad=True), torch.rand(32, 77, 1568)
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
kept = both(cost, cotangent)
print((status("VmHWM") - before) / cost.nbytes)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) <= 2.5
