"""Entropy-regularised optimal transport between words and visual tokens (GRACE, E7), with the exact gradient of the
plan.

``sinkhorn_log`` is the reference: slow, safe at any epsilon. ``sinkhorn_scaling`` does the same sweeps as matrix-vector
products on a kernel that is built once, and rebuilds it around the current potentials when the scalings grow large.
Both have the type ``Solver``, and so has any other that returns the plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from dferkit.errors import ConfigError, DataError
from dferkit.schema import TransportPlan

_CHECK_EVERY = 4  # Sweeps between two looks at the error; a look makes the host wait for the device.
# Logarithm of a scaling; far enough from the float32 range that a few more sweeps cannot overflow.
_ABSORB_ABOVE = 20.0
# Logarithm of a kernel entry below which it is taken as 0. Even both scalings at their limit leave it without weight,
# and numbers below the normal range, which processors handle slowly, are kept out of the products.
_NEGLIGIBLE = {torch.float32: -70.0, torch.float64: -600.0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Solution:
    """What a solver finds: the plan, exactly 0 where a mass is 0, and the sweeps or steps it took."""

    plan: Float[Tensor, "batch words visual"]
    num_iterations: int


Solver = Callable[..., Solution]
"""(cost, text_mass, visual_mass, *, epsilon, tolerance, max_iterations) → Solution.

The cost is +inf at masked positions, the masses are 0 there and sum to 1.
"""


def transport_plan(
    cost: Float[Tensor, "batch words visual"],
    *,
    epsilon: float = 0.1,
    text_mask: Bool[Tensor, "batch words"] | None = None,
    visual_mask: Bool[Tensor, "batch visual"] | None = None,
    text_mass: Float[Tensor, "batch words"] | None = None,
    visual_mass: Float[Tensor, "batch visual"] | None = None,
    tolerance: float = 1e-5,
    max_iterations: int = 1000,
    solver: Solver | None = None,
) -> TransportPlan:
    """Plan that moves the text mass to the visual mass at the least cost, smoothed by entropy.

    The plan and the transport cost are differentiable in ``cost`` (once, not twice); the gradient is that of the
    converged plan, found by implicit differentiation, so memory does not grow with the number of sweeps. No gradient
    flows to masses.

    Deviation: the usual implementations hold the plan constant or unroll a few sweeps; the first has no gradient
    through the plan, the second a wrong one at small epsilon.

    Args:
        cost: Finite wherever both masks are True; anything, NaN too, elsewhere. Below float32 it is raised to float32.
        epsilon: Weight of the entropy, in units of the cost; smaller is sharper and needs more sweeps.
        text_mask, visual_mask: True for what counts (default all). Masked rows and columns of the plan are exactly 0.
        text_mass, visual_mass: Positive masses where the mask is True, ignored elsewhere; scaled here to sum to 1.
            Uniform by default.
        tolerance: L1 distance of the marginals from the wanted ones at which an element counts as converged.
        max_iterations: Most sweeps. Not converging is told by the result, not raised.
        solver: Default ``sinkhorn_scaling``, and ``sinkhorn_log`` after it where that loses its range.

    Raises:
        ConfigError: epsilon, tolerance or max_iterations is out of range.
        DataError: An element without words or visual tokens, a cost that is not finite, or a mass that is not positive.
    """
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise ConfigError(f"epsilon is {epsilon}, but must be a finite number above 0")
    if not tolerance > 0:
        raise ConfigError(f"tolerance is {tolerance}, but must be above 0")
    if max_iterations < 1:
        raise ConfigError(f"max_iterations is {max_iterations}, but must be at least 1")
    with torch.autocast(cost.device.type, enabled=False):
        cost = cost.to(torch.promote_types(cost.dtype, torch.float32))
        num_batch, num_words, num_visual = cost.shape
        a = _masses(text_mass, text_mask, num_batch, num_words, like=cost, what="text", things="words")
        b = _masses(visual_mass, visual_mask, num_batch, num_visual, like=cost, what="visual", things="visual tokens")
        solved, live_cost = cost, cost
        if text_mask is not None or visual_mask is not None:
            dead = ~((a > 0)[:, :, None] & (b > 0)[:, None, :])
            live_cost = cost.masked_fill(dead, 0.0)  # The gradient at masked positions is exactly 0.
            solved = live_cost.detach().masked_fill(dead, torch.inf)
        if not bool(torch.isfinite(live_cost.detach().sum((1, 2))).all()) and not bool(live_cost.isfinite().all()):
            raise DataError("the transport cost has NaN or infinite entries at positions that count; check the tokens")
        plan, num_iterations = _ImplicitPlan.apply(  # type: ignore[no-untyped-call]
            live_cost, solved.detach(), a, b, epsilon, tolerance, max_iterations, solver
        )
        with torch.no_grad():
            error = (plan.sum(2) - a).abs().sum(1) + (plan.sum(1) - b).abs().sum(1)
        return TransportPlan(
            plan=plan,
            transport_cost=torch.einsum("bwv,bwv->b", plan, live_cost),
            marginal_error=error,
            num_iterations=num_iterations,
            converged=error <= tolerance,
        )


def sinkhorn_log(
    cost: Float[Tensor, "batch words visual"],
    text_mass: Float[Tensor, "batch words"],
    visual_mass: Float[Tensor, "batch visual"],
    *,
    epsilon: float,
    tolerance: float,
    max_iterations: int,
) -> Solution:
    """Sinkhorn sweeps on logarithms (GRACE, E7), two log-sum-exps of the whole matrix each. The reference solver."""
    kernel = cost * (-1.0 / epsilon)
    log_a, log_b = text_mass.log(), visual_mass.log()
    row = torch.zeros_like(log_a).masked_fill(text_mass <= 0, -torch.inf)
    column = torch.zeros_like(log_b).masked_fill(visual_mass <= 0, -torch.inf)
    done = torch.zeros(cost.shape[0], dtype=torch.bool, device=cost.device)
    num_iterations = max_iterations
    for sweep in range(1, max_iterations + 1):
        # Every sweep ends with the rows: words then have exactly their mass, and the columns carry the error.
        from_rows = torch.logsumexp(kernel + row[:, :, None], dim=1)
        if sweep % _CHECK_EVERY == 1:
            mass = torch.where(visual_mass > 0, (from_rows + column).exp(), 0.0)
            done = done | ((mass - visual_mass).abs().sum(1) <= 0.5 * tolerance)
            if sweep > 1 and bool(done.all()):
                num_iterations = sweep - 1
                break
        # A finished element stays as it is, so that its plan does not depend on the others of the batch.
        column = torch.where(done[:, None], column, _log_divide(log_b, from_rows))
        from_columns = torch.logsumexp(kernel + column[:, None, :], dim=2)
        row = torch.where(done[:, None], row, _log_divide(log_a, from_columns))
    plan = kernel.add_(column[:, None, :]).add_(row[:, :, None]).exp_()
    # Potentials of hundreds are rounded by more than the tolerance; a last sweep on the plan itself takes that out.
    plan.mul_((visual_mass / _positive(plan.sum(1)))[:, None, :])
    plan.mul_((text_mass / _positive(plan.sum(2)))[:, :, None])
    return Solution(plan=plan, num_iterations=num_iterations)


def sinkhorn_scaling(
    cost: Float[Tensor, "batch words visual"],
    text_mass: Float[Tensor, "batch words"],
    visual_mass: Float[Tensor, "batch visual"],
    *,
    epsilon: float,
    tolerance: float,
    max_iterations: int,
) -> Solution:
    """The sweeps of ``sinkhorn_log`` as matrix-vector products on exp(−cost / epsilon), about ten times faster.

    The plan comes out NaN where the range of the number type was lost; the caller then has to use ``sinkhorn_log``.
    """
    live_rows, live_columns = text_mass > 0, visual_mass > 0
    negligible = _NEGLIGIBLE[cost.dtype]
    # Every live row and column of the kernel has its largest entry at 1. Masked rows are +inf before the minimum.
    smallest = cost.amin(1)
    column = torch.where(live_columns, smallest / epsilon, 0.0)
    kernel = torch.sub((column * epsilon)[:, None, :], cost).mul_(1.0 / epsilon)
    row = torch.where(live_rows, -kernel.amax(2), 0.0)
    torch.threshold_(kernel.add_(row[:, :, None]), negligible, -torch.inf).exp_()
    u, v = live_rows.to(cost.dtype), live_columns.to(cost.dtype)
    done = torch.zeros(cost.shape[0], dtype=torch.bool, device=cost.device)
    num_iterations = max_iterations
    for sweep in range(1, max_iterations + 1):
        from_rows = torch.bmm(u[:, None, :], kernel)[:, 0]
        if sweep % _CHECK_EVERY == 1 or sweep <= 2 * _CHECK_EVERY:  # The first sweeps change most.
            done = done | ((v * from_rows - visual_mass).abs().sum(1) <= 0.5 * tolerance)
            if sweep > 1 and bool(done.all()):
                num_iterations = sweep - 1
                break
            is_far = ~done & ~(
                torch.maximum(_largest_log(u, live_rows), _largest_log(v, live_columns)) <= _ABSORB_ABOVE
            )
            if bool(is_far.any()):
                # Only these elements: a rebuilt kernel is rounded anew, and a finished plan must stay as it is.
                far = is_far.nonzero()[:, 0]
                row[far] += torch.where(live_rows, u.log(), 0.0)[far]
                column[far] += torch.where(live_columns, v.log(), 0.0)[far]
                if not bool(row.isfinite().all() & column.isfinite().all()):
                    return Solution(plan=kernel.fill_(torch.nan), num_iterations=sweep - 1)
                rebuilt = cost[far].mul_(-1.0 / epsilon).add_(row[far][:, :, None]).add_(column[far][:, None, :])
                kernel[far] = torch.threshold_(rebuilt, negligible, -torch.inf).exp_()
                u[far], v[far] = live_rows[far].to(cost.dtype), live_columns[far].to(cost.dtype)
                from_rows = torch.bmm(u[:, None, :], kernel)[:, 0]
        v = torch.where(live_columns & ~done[:, None], visual_mass / from_rows, v)
        # This spelling walks the kernel along its rows; bmm(kernel, v[:, :, None]) reads memory five times slower.
        from_columns = torch.bmm(v[:, None, :], kernel.transpose(1, 2))[:, 0]
        u = torch.where(live_rows & ~done[:, None], text_mass / from_columns, u)
    plan = kernel.mul_(u[:, :, None]).mul_(v[:, None, :])
    return Solution(plan=plan, num_iterations=num_iterations)


def _masses(
    mass: Tensor | None, mask: Tensor | None, batch: int, size: int, *, like: Tensor, what: str, things: str
) -> Tensor:
    """Masses that sum to 1 over the live positions and are 0 elsewhere."""
    for name, value in ((f"{what}_mask", mask), (f"{what}_mass", mass)):
        if value is not None and value.shape != (batch, size):
            raise DataError(f"{name} has the shape {tuple(value.shape)}, but the cost asks for {(batch, size)}")
    live = torch.ones(batch, size, dtype=torch.bool, device=like.device) if mask is None else mask
    if not bool(live.any(1).all()):
        where = (~live.any(1)).nonzero()[:, 0].tolist()
        raise DataError(f"batch elements {where} have no {things} that count; drop them or give at least one")
    if mass is None:
        mass = live.to(like.dtype)
    else:
        mass = mass.detach().to(like.dtype)
        if not bool((torch.isfinite(mass) & (mass > 0) | ~live).all()):
            raise DataError(
                f"{what}_mass must be finite and above 0 wherever its mask is True; mask positions without mass"
            )
        mass = torch.where(live, mass, 0.0)
    return mass / mass.sum(1, keepdim=True)


def _log_divide(log_mass: Tensor, log_sum: Tensor) -> Tensor:
    """Potential log(mass / sum); -inf, not NaN, where the mass is zero."""
    return torch.where(log_mass == -torch.inf, log_mass, log_mass - log_sum)


def _largest_log(scaling: Tensor, live: Tensor) -> Tensor:
    """Largest |log scaling| of each element."""
    return torch.where(live, scaling.log(), 0.0).abs().amax(1)


def _positive(sums: Tensor) -> Tensor:
    """The sums with 1 in place of 0, to divide the zeros of masked positions by."""
    return torch.where(sums > 0, sums, 1.0)


class _ImplicitPlan(torch.autograd.Function):
    """Plan of a cost; backward solves the linearised marginal equations at the plan."""

    @staticmethod
    def forward(
        ctx: Any,
        cost: Tensor,
        solved: Tensor,
        a: Tensor,
        b: Tensor,
        epsilon: float,
        tolerance: float,
        max_iterations: int,
        solver: Solver | None,
    ) -> tuple[Tensor, int]:
        settings: dict[str, Any] = {"epsilon": epsilon, "tolerance": tolerance, "max_iterations": max_iterations}
        found = (solver or sinkhorn_scaling)(solved, a, b, **settings)
        if solver is None and not bool(found.plan.sum().isfinite()):
            found = sinkhorn_log(solved, a, b, **settings)
        ctx.save_for_backward(found.plan)
        ctx.epsilon = epsilon
        return found.plan, found.num_iterations

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        (plan,) = ctx.saved_tensors
        with torch.autocast(plan.device.type, enabled=False):
            of_cost = plan_gradient(plan, gradient, epsilon=ctx.epsilon)
        return of_cost, None, None, None, None, None, None, None


@torch.no_grad()
def plan_gradient(
    plan: Float[Tensor, "batch words visual"], gradient: Float[Tensor, "batch words visual"], *, epsilon: float
) -> Float[Tensor, "batch words visual"]:
    """Gradient of ⟨gradient, plan(cost)⟩ with respect to the cost, at a converged plan.

    With r, c the plan's marginals and W = plan ⊙ gradient it is −plan ⊙ (gradient − α − β) / ε, where
    [diag r, P; Pᵀ, diag c] [α; β] = [W 1; Wᵀ 1]. The longer side is eliminated, so one small system per element is
    left.
    """
    if plan.shape[1] > plan.shape[2]:
        flipped = plan_gradient(plan.transpose(1, 2).contiguous(), gradient.transpose(1, 2), epsilon=epsilon)
        return flipped.transpose(1, 2)
    r, c = plan.sum(2), plan.sum(1)
    inverse_c = torch.where(c > 0, 1.0 / c, 0.0)  # Masked columns take no part.
    scaled = plan * inverse_c[:, None, :]
    moments = plan * gradient
    right_rows, right_columns = moments.sum(2), moments.sum(1)
    del moments
    # The Schur complement diag(r) − P diag(1/c) Pᵀ is a graph Laplacian scaled by the roots of r. Building the
    # diagonal from the off-diagonal makes its row sums exactly zero, which keeps rounding out of the direction (α +
    # t, β − t).
    r64 = r.double()
    between = torch.bmm(scaled, plan.transpose(1, 2)).double()
    between = 0.5 * (between + between.transpose(1, 2))
    between.diagonal(dim1=1, dim2=2).zero_()
    system = torch.diag_embed(between.sum(2)) - between
    root = r64.sqrt()
    inverse_root = torch.where(r64 > 0, 1.0 / root, 0.0)
    system = system * inverse_root[:, :, None] * inverse_root[:, None, :]
    unit_root = root / root.norm(dim=1, keepdim=True)
    system = system + unit_root[:, :, None] * unit_root[:, None, :]  # Lifts the direction above.
    # A plan close to a permutation falls apart into pieces that rounding alone connects; the ridge settles their
    # level. What it adds to the gradient is of its own size, and the refinement below removes it where the pieces are
    # connected.
    ridge = 1e-13 if plan.dtype == torch.float64 else 1e-9
    system.diagonal(dim1=1, dim2=2).add_((r64 <= 0).double() + ridge)
    factor = torch.linalg.cholesky(system)

    def solve(rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        right = (rows - torch.bmm(columns[:, None, :], scaled.transpose(1, 2))[:, 0]).double()
        right = right - r64 * (right.sum(1, keepdim=True) / r64.sum(1, keepdim=True))
        alpha = torch.cholesky_solve((right * inverse_root)[:, :, None], factor)[:, :, 0] * inverse_root
        alpha = alpha.to(plan.dtype)
        return alpha, (columns - torch.bmm(alpha[:, None, :], plan)[:, 0]) * inverse_c

    alpha, beta = solve(right_rows, right_columns)
    rest_rows = right_rows - r * alpha - torch.bmm(beta[:, None, :], plan.transpose(1, 2))[:, 0]
    rest_columns = right_columns - c * beta - torch.bmm(alpha[:, None, :], plan)[:, 0]
    more_alpha, more_beta = solve(rest_rows, rest_columns)
    alpha, beta = alpha + more_alpha, beta + more_beta
    return torch.sub(gradient, alpha[:, :, None], out=scaled).sub_(beta[:, None, :]).mul_(plan).mul_(-1.0 / epsilon)
