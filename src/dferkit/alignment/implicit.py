"""Exact gradient of a converged plan, by implicit differentiation of its marginal equations.

The plan P = exp(p + q − cost / ε) satisfies P 1 = a · exp(−slack (p − log a)), and the same for the columns. The
gradient of ⟨G, P⟩ solves one symmetric system in [α; β]; the longer side is eliminated, which leaves one small system
per element.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from dferkit.alignment.solver import SolverSettings

_RIDGE = {torch.float32: 1e-9, torch.float64: 1e-13}
# Problems of so few entries are summed and solved in float64. Where a plan is near a permutation the system is nearly
# singular; the larger the problem, the less that happens, and the slower float64 is.
_SMALL = 2**12
# Entries whose squares leave the normal range of the number type; processors handle such numbers slowly.
_SMALLEST = {torch.float32: 1e-18, torch.float64: 1e-150}


@torch.no_grad()
def plan_gradient(
    plan: Float[Tensor, "batch words visual"],
    cotangent: Float[Tensor, "batch words visual"],
    text_mass: Float[Tensor, "batch words"],
    visual_mass: Float[Tensor, "batch visual"],
    settings: SolverSettings,
    *,
    out: Float[Tensor, "batch words visual"],
) -> tuple[Float[Tensor, "batch words"], Float[Tensor, "batch visual"]]:
    """Gradient of ⟨cotangent, plan⟩ with respect to the cost, written into ``out``, and to both masses, returned.

    With r, c the plan's marginals and W = plan ⊙ cotangent it is plan ⊙ (α + β − cotangent) / ε, where
    [diag r (1 + slack), P; Pᵀ, diag c (1 + slack)] [α; β] = [W 1; Wᵀ 1]; that of a mass is α r (1 + slack) / mass.
    For two hard marginals the gradients of the masses are known up to a constant, which has no effect on normalised masses.
    """
    text_slack, visual_slack = settings.text_slack, settings.visual_slack
    torch.mul(plan, cotangent, out=out)
    right_rows, right_columns = (_exact(out).sum(axis).double() for axis in (2, 1))
    if plan.shape[1] > plan.shape[2]:
        flipped = plan.transpose(1, 2).contiguous()
        beta, alpha = _solve(flipped, right_columns, right_rows, visual_slack, text_slack)
    else:
        alpha, beta = _solve(plan, right_rows, right_columns, text_slack, visual_slack)
    alpha, beta = alpha.to(plan.dtype), beta.to(plan.dtype)
    torch.sub(cotangent, alpha[:, :, None], out=out).sub_(beta[:, None, :]).mul_(plan).mul_(-1.0 / settings.epsilon)
    of_text = alpha if text_slack == 0 else alpha * _per_mass(plan.sum(2), text_mass) * (1.0 + text_slack)
    of_visual = beta if visual_slack == 0 else beta * _per_mass(plan.sum(1), visual_mass) * (1.0 + visual_slack)
    return of_text, of_visual


def _solve(
    plan: Tensor, right_rows: Tensor, right_columns: Tensor, row_slack: float, column_slack: float
) -> tuple[Tensor, Tensor]:
    """[α; β] of the adjoint system in float64; columns, the longer side, are eliminated."""
    exact = _exact(plan)
    rows, columns = exact.sum(2).double(), exact.sum(1).double()
    row_weight, column_weight = rows * (1.0 + row_slack), columns * (1.0 + column_slack)
    inverse = torch.where(columns > 0, 1.0 / column_weight, 0.0)  # Masked columns take no part.
    half = torch.threshold_(plan * inverse.sqrt().to(plan.dtype)[:, None, :], _SMALLEST[plan.dtype], 0.0)
    # diag(r) − P diag(1/c) Pᵀ is a graph Laplacian. Building the diagonal from the off-diagonal makes its row sums
    # exactly zero, which keeps rounding out of the direction (α + t, β − t).
    system = torch.bmm(half, half.transpose(1, 2)).double().neg_()
    system.diagonal(dim1=1, dim2=2).zero_()
    # 1 + row slack − 1 / (1 + column slack), written so that two hard marginals give exactly 0.
    surplus = row_slack + column_slack / (1.0 + column_slack)
    system.diagonal(dim1=1, dim2=2).copy_(surplus * rows - system.sum(2))
    # Scaled by the roots of r, words of any mass weigh the same.
    root = rows.sqrt()
    inverse_root = torch.where(rows > 0, 1.0 / root, 0.0)
    system = system.mul_(inverse_root[:, :, None]).mul_(inverse_root[:, None, :])
    is_hard = row_slack == 0 and column_slack == 0
    if is_hard:
        unit_root = root / root.norm(dim=1, keepdim=True)
        system = system.add_(unit_root[:, :, None] * unit_root[:, None, :])  # Lifts the direction above.
    # A plan close to a permutation falls apart into pieces that only rounding connects; the ridge fixes their
    # level. What it adds to the gradient is of its own size, and the refinement below removes it where the pieces are
    # connected.
    system.diagonal(dim1=1, dim2=2).add_((rows <= 0).double() + _RIDGE[plan.dtype])
    factor = torch.linalg.cholesky(system)

    def solve(of_rows: Tensor, of_columns: Tensor) -> tuple[Tensor, Tensor]:
        right = of_rows - _times(of_columns * inverse, exact.transpose(1, 2))
        if is_hard:
            right = right - rows * (right.sum(1, keepdim=True) / rows.sum(1, keepdim=True))
        alpha = torch.cholesky_solve((right * inverse_root)[:, :, None], factor)[:, :, 0] * inverse_root
        return alpha, (of_columns - _times(alpha, exact)) * inverse

    alpha, beta = solve(right_rows, right_columns)
    rest_rows = right_rows - row_weight * alpha - _times(beta, exact.transpose(1, 2))
    rest_columns = right_columns - column_weight * beta - _times(alpha, exact)
    more_alpha, more_beta = solve(rest_rows, rest_columns)
    return alpha + more_alpha, beta + more_beta


def _exact(matrix: Tensor) -> Tensor:
    return matrix.double() if matrix.shape[1] * matrix.shape[2] <= _SMALL else matrix


def _times(vector: Tensor, matrix: Tensor) -> Tensor:
    """vectorᵀ matrix of every element, in the type of the matrix, returned in that of the vector."""
    return torch.bmm(vector[:, None, :].to(matrix.dtype), matrix)[:, 0].to(vector.dtype)


def _per_mass(sums: Tensor, mass: Tensor) -> Tensor:
    """sums / mass, 0 where the mass is 0."""
    return torch.where(mass > 0, sums / torch.where(mass > 0, mass, 1.0), 0.0)
