"""Sinkhorn sweeps on logarithms: the reference solver, and the one for problems that are large on both sides."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from dferkit.alignment.solver import Solution, SolverSettings, exponent, log_mass, wanted_marginal

_CHECK_EVERY = 4  # Sweeps between two checks of the error; a check makes the host wait for the device.


@torch.no_grad()
def sinkhorn(
    cost: Float[Tensor, "batch words visual"],
    text_mass: Float[Tensor, "batch words"],
    visual_mass: Float[Tensor, "batch visual"],
    settings: SolverSettings,
    *,
    plan: Float[Tensor, "batch words visual"],
) -> Solution:
    """Solve a block, see ``solver.Solver``: two log-sum-exps of the whole matrix per sweep (GRACE, E7).

    A relaxed marginal damps its update (Chizat et al., 2018). Iterations are sweeps.
    """
    kernel = cost * (-1.0 / settings.epsilon)
    log_a, log_b = log_mass(text_mass), log_mass(visual_mass)
    row, column = log_a, log_b
    done = torch.zeros(cost.shape[0], dtype=torch.bool, device=cost.device)
    num_iterations = settings.max_iterations
    for sweep in range(1, settings.max_iterations + 1):
        # Every sweep ends with the rows: words then have exactly their marginal, and the columns carry the error.
        from_rows = torch.logsumexp(kernel + row[:, :, None], dim=1)
        if sweep % _CHECK_EVERY == 1:
            mass = torch.where(visual_mass > 0, (from_rows + column).exp(), 0.0)
            wanted = wanted_marginal(visual_mass, _finite(column), settings.visual_slack)
            if sweep > 1:  # before that, no row has been checked
                done = done | ((mass - wanted).abs().sum(1) <= 0.5 * settings.tolerance)
            if bool(done.all()):
                num_iterations = sweep - 1
                break
        # A finished element stays as it is, so that its plan does not depend on the others of the batch.
        column = torch.where(done[:, None], column, _update(log_b, from_rows, settings.visual_slack))
        from_columns = torch.logsumexp(kernel + column[:, None, :], dim=2)
        row = torch.where(done[:, None], row, _update(log_a, from_columns, settings.text_slack))
    p, q = _finite(row), _finite(column)
    plan.copy_(exponent(cost, p, q, settings.epsilon)).exp_()
    # Potentials of hundreds are rounded by more than the tolerance; a last sweep on the plan itself takes that out.
    q = q + _repair(plan, 1, visual_mass, q, settings.visual_slack)
    p = p + _repair(plan, 2, text_mass, p, settings.text_slack)
    return Solution(text_potential=p, visual_potential=q, num_iterations=num_iterations)


def _finite(potential: Tensor) -> Tensor:
    """The potential in float64, 0 where the mass is 0."""
    return torch.where(potential == -torch.inf, 0.0, potential).double()


def _update(log_mass: Tensor, log_sum: Tensor, slack: float) -> Tensor:
    """Potential that gives one side its marginal; −inf, not NaN, where the mass is zero."""
    return torch.where(log_mass == -torch.inf, log_mass, log_mass - log_sum / (1.0 + slack))


def _repair(plan: Tensor, summed: int, mass: Tensor, potential: Tensor, slack: float) -> Tensor:
    """Scale one side of the plan, in place, to the marginal that its potential implies; the change of the potential."""
    sums = plan.sum(summed)
    wanted = wanted_marginal(mass, potential, slack)
    change = torch.where((sums > 0) & (wanted > 0), (wanted / sums).double().log() / (1.0 + slack), 0.0)
    plan.mul_(change.exp().to(plan.dtype).unsqueeze(summed))
    return change
