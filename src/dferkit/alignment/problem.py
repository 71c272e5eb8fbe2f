"""A transport problem: costs, masses, and how exactly it is to be solved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dferkit.checks import check_choices, check_counts, check_range
from dferkit.errors import ConfigError, DataError

Method = Literal["auto", "newton", "sinkhorn", "triton"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TransportProblem:
    """Words of one mass, visual tokens of another, and the cost of moving mass between them, for a batch.

    Attributes:
        cost: Finite wherever both masks are True; anything, NaN too, elsewhere. Below float32 it is raised to float32.
        epsilon: Weight of the entropy, in units of the cost; smaller is sharper and needs more iterations.
        text_mask, visual_mask: True for what counts (default all). Masked rows and columns of the plan are exactly 0.
        text_mass, visual_mass: Positive where the mask is True, ignored elsewhere; scaled to sum to 1 when the problem is
            solved. Uniform by default.
        text_relaxation, visual_relaxation: Price of a marginal that differs from its mass, in units of the cost. Small
            lets words or visual tokens without a near partner go unmatched; None holds the marginal exactly. With both
            relaxed the plan's total mass may differ from 1.
        tolerance: L1 distance of the marginals from the wanted ones at which an element counts as converged. Of a
            relaxed side the wanted marginal is the one that its potential implies.
        max_iterations: Most sweeps and Newton steps together. The result reports whether it converged.
        method: ``newton``, ``sinkhorn``, ``triton`` (Newton's method in one launch on an NVIDIA GPU), or ``auto``: see
            ``choose.choose_solver``.

    Raises:
        ConfigError: A number is out of range, or the method is unknown.
        DataError: A cost, mask or mass of the wrong shape or type. Values are checked when the problem is solved.
    """

    cost: Float[Tensor, "batch words visual"]
    epsilon: float = 0.1
    text_mask: Bool[Tensor, "batch words"] | None = None
    visual_mask: Bool[Tensor, "batch visual"] | None = None
    text_mass: Float[Tensor, "batch words"] | None = None
    visual_mass: Float[Tensor, "batch visual"] | None = None
    text_relaxation: float | None = None
    visual_relaxation: float | None = None
    tolerance: float = 1e-5
    max_iterations: int = 1000
    method: Method = "auto"

    def __post_init__(self) -> None:
        check_range(self, "epsilon", "tolerance", above=0)
        for name in ("text_relaxation", "visual_relaxation"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} is {value}, but must be a finite number above 0; None gives a hard marginal")
        check_counts(self, "max_iterations")
        check_choices(self, {"method": get_args(Method)})
        if self.cost.ndim != 3:
            raise DataError(
                f"the cost has the shape {tuple(self.cost.shape)}; give (batch, words, visual tokens), for one problem cost[None]"
            )
        for side, shape in (("text", self.cost.shape[:2]), ("visual", self.cost.shape[::2])):
            mask, mass = getattr(self, f"{side}_mask"), getattr(self, f"{side}_mass")
            for name, value in (("mask", mask), ("mass", mass)):
                if value is not None and value.shape != shape:
                    raise DataError(
                        f"{side}_{name} has the shape {tuple(value.shape)}, but the cost requires {tuple(shape)}"
                    )
            if mask is not None and mask.dtype != torch.bool:
                raise DataError(f"{side}_mask is of type {mask.dtype}; give booleans, such as mask.bool()")

    @classmethod
    def of(
        cls, problem: TransportProblem | Float[Tensor, "batch words visual"], epsilon: float | None
    ) -> TransportProblem:
        """The problem itself, or that of a cost alone: every word and visual token counts, with equal masses.

        Raises:
            ConfigError: ``epsilon`` is given for a problem, which has its own.
        """
        if not isinstance(problem, Tensor):
            if epsilon is not None:
                raise ConfigError("epsilon is for a cost without a problem; set it in the TransportProblem")
            return problem
        return cls(cost=problem) if epsilon is None else cls(cost=problem, epsilon=epsilon)
