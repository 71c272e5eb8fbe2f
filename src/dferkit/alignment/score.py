"""The cost of transport without a plan: nothing of the plan's size is kept, and the gradient is as exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from dferkit.alignment.eager import not_compiled
from dferkit.alignment.implicit import plan_gradient
from dferkit.alignment.prepared import PreparedProblem, filled, prepare
from dferkit.alignment.problem import TransportProblem
from dferkit.alignment.solver import Solution, block_slices, divergence, exponent, safe_log
from dferkit.alignment.transport import check_finite, inner, marginal_error


@dataclass(frozen=True, kw_only=True, slots=True)
class TransportScore:
    """Answer of ``transport_score``, per batch element.

    Attributes:
        transport_cost: ⟨plan, cost⟩, the same as that of ``transport_plan``.
        value: The minimum itself, entropy and relaxations included: smooth, and convex in the masses.
        marginal_error: L1 distance of the plan's marginals from the wanted ones.
        num_iterations: Sweeps and steps used (the whole batch).
        converged: ``marginal_error`` ≤ tolerance.
    """

    transport_cost: Float[Tensor, " batch"]
    value: Float[Tensor, " batch"]
    marginal_error: Float[Tensor, " batch"]
    num_iterations: int
    converged: Bool[Tensor, " batch"]


@not_compiled
def transport_score(
    problem: TransportProblem | Float[Tensor, "batch words visual"], *, epsilon: float | None = None
) -> TransportScore:
    """Cost and value of the plan that ``transport_plan`` finds for the same problem, without storing it (a CPU holds a
    block of it at a time, a GPU a quarter, with Triton all of it).

    Kept for the gradient are the cost and the potentials; blocks of the plan are made again from them. The gradient of
    ``value`` is the plan itself (envelope theorem), that of ``transport_cost`` takes the small system of ``implicit``.

    Args and errors are those of ``transport_plan``.
    """
    problem = TransportProblem.of(problem, epsilon)
    with torch.autocast(problem.cost.device.type, enabled=False):
        prepared = prepare(problem)
        transport_cost, value, error, num_iterations = _Score.apply(  # type: ignore[no-untyped-call]
            prepared.cost, prepared.text_mass, prepared.visual_mass, prepared
        )
        return TransportScore(
            transport_cost=transport_cost,
            value=value,
            marginal_error=error,
            num_iterations=num_iterations,
            converged=error <= problem.tolerance,
        )


class _Score(torch.autograd.Function):
    """Transport cost and value; backward makes the plan again, block by block."""

    @staticmethod
    def forward(
        ctx: Any, cost: Tensor, text_mass: Tensor, visual_mass: Tensor, prepared: PreparedProblem
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        transport_cost, value, error = (cost.new_empty(cost.shape[0]) for _ in range(3))
        text_potential = torch.empty_like(text_mass, dtype=torch.float64)
        visual_potential = torch.empty_like(visual_mass, dtype=torch.float64)
        num_iterations = 0
        for part, block, a, b in prepared.blocks():
            plan = torch.empty_like(block, memory_format=torch.contiguous_format)
            found = prepared.solver(block, a, b, prepared.settings, plan=plan)
            num_iterations = max(num_iterations, found.num_iterations)
            text_potential[part], visual_potential[part] = found.text_potential, found.visual_potential
            error[part] = marginal_error(plan, a, b, found.text_potential, found.visual_potential, prepared)
            transport_cost[part] = inner(plan, filled(block, a, b, 0.0, is_masked=prepared.is_masked))
            value[part] = _dual_value(plan, a, b, found, prepared)
        check_finite(error, prepared.settings.epsilon)
        ctx.save_for_backward(cost, text_mass, visual_mass, text_potential, visual_potential)
        ctx.settings, ctx.is_masked = prepared.settings, prepared.is_masked
        ctx.mark_non_differentiable(error)
        ctx.set_materialize_grads(False)
        return transport_cost, value, error, num_iterations

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_transport_cost: Tensor | None, of_value: Tensor | None, *_: Any
    ) -> tuple[Tensor | None, ...]:
        cost, text_mass, visual_mass, text_potential, visual_potential = ctx.saved_tensors
        settings = ctx.settings
        if of_transport_cost is None and of_value is None:
            return None, None, None, None
        of_cost = torch.empty_like(cost, memory_format=torch.contiguous_format) if ctx.needs_input_grad[0] else None
        of_text, of_visual = torch.zeros_like(text_mass), torch.zeros_like(visual_mass)
        with torch.autocast(cost.device.type, enabled=False):
            for part in block_slices(cost):
                a, b, p, q = text_mass[part], visual_mass[part], text_potential[part], visual_potential[part]
                plan = exponent(filled(cost[part], a, b, torch.inf, is_masked=ctx.is_masked), p, q, settings.epsilon)
                plan.exp_()
                out = torch.empty_like(plan) if of_cost is None else of_cost[part]
                out.zero_()
                direct = torch.zeros_like(p[:, 0]).to(cost.dtype)
                if of_transport_cost is not None:
                    direct = of_transport_cost[part]
                    cotangent = filled(cost[part], a, b, 0.0, is_masked=ctx.is_masked) * direct[:, None, None]
                    of_text[part], of_visual[part] = plan_gradient(
                        plan,
                        cotangent,
                        a,
                        b,
                        settings,
                        out=out,
                    )
                if of_value is not None:
                    direct = direct + of_value[part]
                    weight = settings.epsilon * of_value[part, None]
                    of_text[part] += weight * _mass_gradient(plan.sum(2), a, p, settings.text_slack)
                    of_visual[part] += weight * _mass_gradient(plan.sum(1), b, q, settings.visual_slack)
                out.addcmul_(plan, direct[:, None, None])
        return of_cost, of_text, of_visual, None


def _dual_value(plan: Tensor, a: Tensor, b: Tensor, found: Solution, prepared: PreparedProblem) -> Tensor:
    """Value of the dual at the potentials, which at the optimum is that of the primal."""
    settings = prepared.settings
    rows = a * divergence(safe_log(a) - found.text_potential, settings.text_slack)
    columns = b * divergence(safe_log(b) - found.visual_potential, settings.visual_slack)
    return -settings.epsilon * (rows.sum(1) + columns.sum(1) + plan.sum((1, 2)).double() - 1.0)


def _mass_gradient(sums: Tensor, mass: Tensor, potential: Tensor, slack: float) -> Tensor:
    """Gradient of value / ε with respect to a mass, the potentials held (envelope theorem)."""
    per_mass = sums / torch.where(mass > 0, mass, 1.0)
    return torch.where(mass > 0, -divergence(safe_log(mass) - potential, slack) - per_mass, 0.0).to(mass.dtype)
