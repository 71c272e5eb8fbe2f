"""What every transport solver is given and returns, and the formulas of hard and relaxed marginals.

The plan is P = exp(p + q − cost / ε) with log-potentials p over words and q over visual tokens. The marginal that belongs
to the potentials is mass · exp(−slack · (p − log mass)), slack = ε / relaxation: for a hard marginal slack is 0 and
it is the mass itself (Chizat et al., Scaling algorithms for unbalanced transport problems, 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

# Bytes of cost that one block of batch elements may have on a CPU: a few copies stay in its cache.
_BLOCK_BYTES = 2 * 2**20
_BLOCKS_ON_ACCELERATOR = (
    4  # There few large launches are faster; a quarter of the batch still bounds the scratch memory.
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SolverSettings:
    """Checked numbers of one call; the slacks are ε / relaxation, 0 for a hard marginal."""

    epsilon: float
    text_slack: float
    visual_slack: float
    tolerance: float
    max_iterations: int

    def flipped(self) -> SolverSettings:
        """The same with words and visual tokens exchanged."""
        return SolverSettings(
            epsilon=self.epsilon,
            text_slack=self.visual_slack,
            visual_slack=self.text_slack,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Solution:
    """What a solver finds for a block: log-potentials in float64, finite also at masked positions, and the work."""

    text_potential: Float[Tensor, "batch words"]
    visual_potential: Float[Tensor, "batch visual"]
    num_iterations: int


Solver = Callable[..., Solution]
"""(cost, text_mass, visual_mass, settings, *, plan) → Solution; writes the plan into ``plan``.

The cost is +inf at masked positions, the masses are 0 there and sum to 1.
"""


def block_slices(cost: Float[Tensor, "batch words visual"]) -> Iterator[slice]:
    """Parts of the batch that are solved one after the other, which bounds scratch memory."""
    batch, words, visual = cost.shape
    if cost.device.type == "cpu":
        size = max(1, _BLOCK_BYTES // (words * visual * cost.element_size()))
    else:
        size = max(1, -(-batch // _BLOCKS_ON_ACCELERATOR))
    for start in range(0, batch, size):
        yield slice(start, start + size)


def safe_log(mass: Tensor) -> Tensor:
    """Logarithm in float64; 0, not −inf, where the mass is 0."""
    return torch.where(mass > 0, mass, 1.0).double().log()


def log_mass(mass: Tensor) -> Tensor:
    """Logarithm in the type of the mass; −inf where it is 0."""
    return safe_log(mass).to(mass.dtype).masked_fill(mass <= 0, -torch.inf)


def wanted_marginal(mass: Tensor, potential: Tensor, slack: float) -> Tensor:
    """Marginal that a float64 log-potential implies: the mass itself where it is hard."""
    if slack == 0:
        return mass
    return (mass * (-slack * (potential - safe_log(mass))).exp()).to(mass.dtype)


def divergence(excess: Tensor, slack: float) -> Tensor:
    """(exp(slack · excess) − 1) / slack, and its limit ``excess`` for slack 0: the dual of a marginal's penalty."""
    return excess if slack == 0 else torch.expm1(slack * excess) / slack


def exponent(cost: Tensor, text: Tensor, visual: Tensor, epsilon: float) -> Tensor:
    """p + q − cost / ε in float64 (potentials of hundreds cancel), returned in the type of the cost."""
    scaled = cost.double() * (-1.0 / epsilon)
    return scaled.add_(text[:, :, None]).add_(visual[:, None, :]).to(cost.dtype)
