"""What every aligner is given and returns, and its settings.

In all of them the plan's rows of live words sum to the text mass, and the score is the cosine similarity expected under
the plan, ⟨plan, cosine⟩ = 1 − ⟨plan, cost⟩ (GRACE, E8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dferkit.alignment.cost import cosine_cost
from dferkit.alignment.prepared import check_any_live
from dferkit.checks import check_counts, check_range
from dferkit.errors import DataError
from dferkit.schema import Alignment


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignerSettings:
    """Numbers of the aligners; each aligner reads those that it needs.

    Attributes:
        epsilon, tolerance, max_iterations: Of ``transport``, see ``TransportProblem``.
        visual_relaxation: Of ``transport``: price of not matching visual tokens, in units of the cost; small lets those
            far from every word stay unmatched, 0 stands for a hard marginal.
        temperature: Of ``cosine``: similarities are divided by it before the softmax.
        attention_dim: Width of the learned queries and keys of ``cross_attention``; 0 means that of the tokens.
        is_plan_differentiable: Let gradient flow through the plan; False holds it constant, as most published code does.

    Raises:
        ConfigError: A number is out of range.
    """

    epsilon: float = 0.1
    tolerance: float = 1e-5
    max_iterations: int = 1000
    visual_relaxation: float = 0.0
    temperature: float = 0.1
    attention_dim: int = 0
    is_plan_differentiable: bool = True

    def __post_init__(self) -> None:
        check_range(self, "epsilon", "tolerance", "temperature", above=0)
        check_range(self, "visual_relaxation", "attention_dim", least=0)
        check_counts(self, "max_iterations")


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenPair:
    """The two sides of a batch, checked.

    Attributes:
        text, visual: Tokens, 0 at masked positions.
        cost: Their cosine distance, 0 to 2.
        text_mask, visual_mask: True for what counts.
        visual_mass: Positive weight of each visual token; None for equal ones.
    """

    text: Float[Tensor, "batch words dim"]
    visual: Float[Tensor, "batch visual dim"]
    cost: Float[Tensor, "batch words visual"]
    text_mask: Bool[Tensor, "batch words"]
    visual_mask: Bool[Tensor, "batch visual"]
    visual_mass: Float[Tensor, "batch visual"] | None

    def attend(self, logits: Float[Tensor, "batch words visual"]) -> Float[Tensor, "batch words visual"]:
        """Plan of one softmax per word: over the live visual tokens, weighted by their mass, times 1 / number of live words."""
        if self.visual_mass is not None:
            mass = torch.where(self.visual_mask, self.visual_mass, 1.0)
            logits = logits + mass.log().to(logits.dtype)[:, None, :]
        weights = logits.masked_fill(~self.visual_mask[:, None, :], -torch.inf).softmax(dim=2)
        text_mass = self.text_mask.to(weights.dtype) / self.text_mask.sum(1, keepdim=True)
        return weights * text_mass[:, :, None]


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundPlan:
    """Plan of an aligner; an aligner that iterates adds the marginal error and the iterations it used."""

    plan: Float[Tensor, "batch words visual"]
    marginal_error: Float[Tensor, " batch"] | None = None
    num_iterations: int = 0


class Aligner(nn.Module):
    """Aligns words with visual tokens; a subclass has a ``name`` and gives the plan.

    It runs on the device of its tokens.
    """

    name: ClassVar[str]

    def __init__(self, settings: AlignerSettings, dim: int) -> None:
        """Prepare for tokens of width ``dim``."""
        super().__init__()
        self.settings = settings

    def plan(self, pair: TokenPair) -> FoundPlan:
        """The plan: 0 or more, exactly 0 in masked rows and columns; rows of live words sum to 1 / number of live words."""
        raise NotImplementedError

    def forward(
        self,
        text: Float[Tensor, "batch words dim"],
        visual: Float[Tensor, "batch visual dim"],
        *,
        text_mask: Bool[Tensor, "batch words"] | None = None,
        visual_mask: Bool[Tensor, "batch visual"] | None = None,
        visual_mass: Float[Tensor, "batch visual"] | None = None,
        visual_index: Int[Tensor, "batch visual"] | None = None,
    ) -> Alignment:
        """Align.

        Args:
            text, visual: Tokens of one width. Values at masked positions have no influence.
            text_mask, visual_mask: True for what counts (default all); masked rows and columns of the plan are
                exactly 0.
            visual_mass: Positive weight of each visual token, such as its motion: the column marginal of ``transport``, a
                prior that multiplies the exponentials of the others. Uniform by default.
            visual_index: Position of each visual token before selection (default 0, 1, …).

        Raises:
            DataError: An element without words or visual tokens, or a ``visual_mass`` that is not positive.
        """
        if text_mask is None:
            text_mask = torch.ones(text.shape[:2], dtype=torch.bool, device=text.device)
        if visual_mask is None:
            visual_mask = torch.ones(visual.shape[:2], dtype=torch.bool, device=visual.device)
        check_any_live(text_mask, "words")
        check_any_live(visual_mask, "visual tokens")
        if visual_mass is not None and not bool((visual_mass.isfinite() & (visual_mass > 0) | ~visual_mask).all()):
            raise DataError("visual_mass must be finite and above 0 wherever visual_mask is True")
        if visual_index is None:
            visual_index = torch.arange(visual.shape[1], device=visual.device).expand(visual.shape[:2])
        text = text.masked_fill(~text_mask[:, :, None], 0.0)
        visual = visual.masked_fill(~visual_mask[:, :, None], 0.0)
        cost = cosine_cost(text, visual)
        found = self.plan(
            TokenPair(
                text=text,
                visual=visual,
                cost=cost,
                text_mask=text_mask,
                visual_mask=visual_mask,
                visual_mass=visual_mass,
            )
        )
        plan = found.plan if self.settings.is_plan_differentiable else found.plan.detach()
        return Alignment(
            plan=plan,
            score=1.0 - torch.einsum("bwv,bwv->b", plan, cost),
            visual_index=visual_index.masked_fill(~visual_mask, -1),
            method=self.name,
            marginal_error=found.marginal_error,
            num_iterations=found.num_iterations,
        )
