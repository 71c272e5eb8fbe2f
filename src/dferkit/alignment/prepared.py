"""A transport problem made ready for a solver: its values checked, its masses scaled, and the solver chosen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dferkit.alignment.choose import choose_solver
from dferkit.alignment.newton import newton
from dferkit.alignment.problem import TransportProblem
from dferkit.alignment.sinkhorn import sinkhorn
from dferkit.alignment.solver import Solver, SolverSettings, block_slices
from dferkit.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedProblem:
    """Masses sum to 1 and are 0 at masked positions; the cost is float32 or float64."""

    cost: Float[Tensor, "batch words visual"]
    text_mass: Float[Tensor, "batch words"]
    visual_mass: Float[Tensor, "batch visual"]
    is_masked: bool
    settings: SolverSettings
    solver: Solver

    def blocks(self) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """(part of the batch, its cost with +inf at masked positions, its masses), without gradient."""
        # The Triton solver takes the whole batch at once and needs no scratch memory of its size.
        parts = block_slices(self.cost) if self.solver in (newton, sinkhorn) else [slice(None)]
        for part in parts:
            a, b = self.text_mass.detach()[part], self.visual_mass.detach()[part]
            yield part, filled(self.cost.detach()[part], a, b, torch.inf, is_masked=self.is_masked), a, b


def prepare(problem: TransportProblem) -> PreparedProblem:
    """The problem for a solver.

    Raises:
        BackendError: The method needs a package that is not installed.
        ConfigError: The method cannot take this cost.
        DataError: An element without words or visual tokens, a cost that is not finite, or a mass that is not positive or
            vanishes relative to the others.
    """
    cost = problem.cost.to(torch.promote_types(problem.cost.dtype, torch.float32))
    a = _masses(problem.text_mass, problem.text_mask, cost.shape[:2], like=cost, what="text", things="words")
    b = _masses(
        problem.visual_mass, problem.visual_mask, cost.shape[::2], like=cost, what="visual", things="visual tokens"
    )
    text, visual = problem.text_relaxation, problem.visual_relaxation
    prepared = PreparedProblem(
        cost=cost,
        text_mass=a,
        visual_mass=b,
        is_masked=problem.text_mask is not None or problem.visual_mask is not None,
        settings=SolverSettings(
            epsilon=problem.epsilon,
            text_slack=0.0 if text is None else problem.epsilon / text,
            visual_slack=0.0 if visual is None else problem.epsilon / visual,
            tolerance=problem.tolerance,
            max_iterations=problem.max_iterations,
        ),
        solver=choose_solver(problem.method, cost),
    )
    for part in block_slices(cost):
        live = filled(cost.detach()[part], a[part], b[part], 0.0, is_masked=prepared.is_masked)
        # A sum is one pass without a copy; only one that overflows or is NaN needs a closer check.
        if not bool(live.sum().isfinite()) and not bool(live.isfinite().all()):
            raise DataError("the transport cost has NaN or infinite entries at valid positions; check the tokens")
    return prepared


def filled(block: Tensor, a: Tensor, b: Tensor, value: float, *, is_masked: bool) -> Tensor:
    """The block with a fixed value at masked positions; the block itself if nothing is masked."""
    if not is_masked:
        return block
    return torch.where((a > 0)[:, :, None] & (b > 0)[:, None, :], block, value)


def _masses(
    mass: Tensor | None, mask: Tensor | None, shape: torch.Size, *, like: Tensor, what: str, things: str
) -> Tensor:
    """Masses that sum to 1 over the live positions and are 0 elsewhere."""
    live = torch.ones(shape, dtype=torch.bool, device=like.device) if mask is None else mask
    check_any_live(live, things)
    if mass is None:
        mass = live.to(like.dtype)
    else:
        mass = mass.to(like.dtype)
        if not bool((mass.isfinite() & (mass > 0) | ~live).all()):
            raise DataError(
                f"{what}_mass must be finite and above 0 wherever its mask is True; mask positions without mass"
            )
        mass = torch.where(live, mass, 0.0)
        mass = mass / mass.amax(1, keepdim=True)  # so that no sum overflows
    mass = mass / mass.sum(1, keepdim=True)
    if bool((live & (mass < torch.finfo(mass.dtype).tiny)).any()):
        raise DataError(
            f"{what}_mass has entries too small relative to the others for {mass.dtype}; mask positions without mass"
        )
    return mass


def check_any_live(mask: Tensor, things: str) -> None:
    """Refuse batch elements in which nothing counts.

    Raises:
        DataError: A row of the mask has no True.
    """
    if not bool(mask.any(1).all()):
        where = (~mask.any(1)).nonzero()[:, 0].tolist()
        raise DataError(f"batch elements {where} have no {things} that count; drop them or give at least one")
