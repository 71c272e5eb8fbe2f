"""Entropy-regularised optimal transport between words and visual tokens (GRACE, E7), with the exact gradient of the
plan.

On NVIDIA GPUs ``fused`` solves in one launch, elsewhere ``newton`` wherever one side is short; ``sinkhorn`` is the
reference, and takes what is large on both sides. ``implicit`` has the gradient, ``score`` the cost for those who need no
plan.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from dferkit.alignment.eager import not_compiled
from dferkit.alignment.implicit import plan_gradient
from dferkit.alignment.prepared import PreparedProblem, filled, prepare
from dferkit.alignment.problem import TransportProblem
from dferkit.alignment.solver import block_slices, wanted_marginal
from dferkit.errors import DataError
from dferkit.schema import TransportPlan


@not_compiled
def transport_plan(
    problem: TransportProblem | Float[Tensor, "batch words visual"], *, epsilon: float | None = None
) -> TransportPlan:
    """Plan that moves the text mass to the visual mass at the least cost, smoothed by entropy.

    It minimises ⟨P, cost⟩ + ε KL(P ‖ a bᵀ), plus relaxation · KL(marginal ‖ mass) for each side whose marginal is
    relaxed; a hard marginal is met exactly. The plan and the transport cost are differentiable in ``cost`` and in both
    masses (once, not twice; not under ``vmap`` or ``torch.func``); the gradient is that of the converged plan, found by
    implicit differentiation. Memory does not grow with the iterations; on a CPU the batch is solved in blocks, so that
    beyond plan and gradient it does not grow with the batch either.

    Deviation: the usual implementations hold the plan constant or unroll a few sweeps; the first has no gradient
    through the plan, the second a wrong one at small epsilon.

    Args:
        problem: The problem; or a cost alone, in which every word and visual token counts, with equal masses.
        epsilon: Goes with a cost alone: weight of the entropy, in units of the cost (default 0.1).

    Raises:
        BackendError: The method needs a package that is not installed.
        ConfigError: A number is out of range, or the method is unknown or cannot take this cost.
        DataError: An element without words or visual tokens, a cost that is not finite, a mass that is not positive or
            vanishes relative to the others, a wrong shape, or a cost / epsilon that the number type cannot hold.
    """
    problem = TransportProblem.of(problem, epsilon)
    with torch.autocast(problem.cost.device.type, enabled=False):
        prepared = prepare(problem)
        plan, transport_cost, error, num_iterations = _ImplicitPlan.apply(  # type: ignore[no-untyped-call]
            prepared.cost, prepared.text_mass, prepared.visual_mass, prepared
        )
        return TransportPlan(
            plan=plan,
            transport_cost=transport_cost,
            marginal_error=error,
            num_iterations=num_iterations,
            converged=error <= problem.tolerance,
        )


class _ImplicitPlan(torch.autograd.Function):
    """Plan and transport cost; backward solves the linearised marginal equations at the plan."""

    @staticmethod
    def forward(
        ctx: Any, cost: Tensor, text_mass: Tensor, visual_mass: Tensor, prepared: PreparedProblem
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        settings = prepared.settings
        plan = torch.empty_like(cost, memory_format=torch.contiguous_format)
        transport_cost, error = cost.new_empty(cost.shape[0]), cost.new_empty(cost.shape[0])
        num_iterations = 0
        for part, block, a, b in prepared.blocks():
            found = prepared.solver(block, a, b, settings, plan=plan[part])
            num_iterations = max(num_iterations, found.num_iterations)
            error[part] = marginal_error(plan[part], a, b, found.text_potential, found.visual_potential, prepared)
            transport_cost[part] = inner(plan[part], filled(block, a, b, 0.0, is_masked=prepared.is_masked))
        check_finite(error, settings.epsilon)
        ctx.save_for_backward(plan, cost, text_mass, visual_mass)
        ctx.settings, ctx.is_masked = settings, prepared.is_masked
        ctx.mark_non_differentiable(error)
        ctx.set_materialize_grads(False)
        return plan, transport_cost, error, num_iterations

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_plan: Tensor | None, of_transport_cost: Tensor | None, *_: Any
    ) -> tuple[Tensor | None, ...]:
        plan, cost, text_mass, visual_mass = ctx.saved_tensors
        settings = ctx.settings
        if of_plan is None and of_transport_cost is None:
            return None, None, None, None
        of_cost = torch.empty_like(plan) if ctx.needs_input_grad[0] else None
        of_text, of_visual = torch.empty_like(text_mass), torch.empty_like(visual_mass)
        with torch.autocast(plan.device.type, enabled=False):
            for part in block_slices(plan):
                a, b = text_mass[part], visual_mass[part]
                parts: list[Tensor] = []
                if of_plan is not None:
                    parts.append(filled(of_plan[part], a, b, 0.0, is_masked=ctx.is_masked))
                if of_transport_cost is not None:
                    weight = of_transport_cost[part, None, None]
                    parts.append(filled(cost[part] * weight, a, b, 0.0, is_masked=ctx.is_masked))
                cotangent = parts[0] if len(parts) == 1 else parts[1].add_(parts[0])
                out = torch.empty_like(plan[part]) if of_cost is None else of_cost[part]
                of_text[part], of_visual[part] = plan_gradient(
                    plan[part],
                    cotangent,
                    a,
                    b,
                    settings,
                    out=out,
                )
                if of_transport_cost is not None:
                    out.addcmul_(weight, plan[part])
        return of_cost, of_text, of_visual, None


def check_finite(error: Tensor, epsilon: float) -> None:
    """Refuse a plan that the number type cannot hold."""
    if not bool(error.isfinite().all()):
        raise DataError(
            f"the plan is not finite: with epsilon {epsilon:g} cost / epsilon leaves the range of {error.dtype}; "
            "scale the cost or change epsilon"
        )


def marginal_error(
    plan: Tensor, a: Tensor, b: Tensor, text_potential: Tensor, visual_potential: Tensor, prepared: PreparedProblem
) -> Tensor:
    """L1 distance of a block's marginals from the wanted ones."""
    rows = wanted_marginal(a, text_potential, prepared.settings.text_slack)
    columns = wanted_marginal(b, visual_potential, prepared.settings.visual_slack)
    return (plan.sum(2) - rows).abs().sum(1) + (plan.sum(1) - columns).abs().sum(1)


def inner(one: Tensor, other: Tensor) -> Tensor:
    """Inner product of every batch element, without a temporary matrix."""
    return torch.linalg.vecdot(one.flatten(1), other.flatten(1))
