"""Three ways in which words meet visual tokens, with one output. Transport is GRACE; the others are what it is
compared with.

In all of them the plan's rows of live words sum to the text mass, and the score is the cosine similarity expected
under the plan, ⟨plan, cosine⟩ = 1 − ⟨plan, cost⟩ (GRACE, E8). Only transport also fixes how much each visual token
receives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dferkit.alignment.cost import cosine_cost
from dferkit.alignment.transport import transport_plan
from dferkit.errors import ConfigError, DataError
from dferkit.schema import Alignment

METHODS = ("transport", "cosine", "cross_attention")


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignerConfig:
    """How words meet visual tokens.

    Attributes:
        method: One of ``METHODS``.
        epsilon, tolerance, max_iterations: Of ``transport``, see ``transport_plan``.
        visual_relaxation: Of ``transport``: price of not matching visual tokens, in units of the cost; small lets those
            that no word is near go unmatched, 0 stands for a hard marginal.
        temperature: Of ``cosine``: similarities are divided by it before the softmax.
        attention_dim: Width of the learned queries and keys of ``cross_attention``; 0 means that of the tokens.
        is_plan_differentiable: Let gradient flow through the plan; False holds it constant, as most published code
        does.
    """

    method: str = "transport"
    epsilon: float = 0.1
    tolerance: float = 1e-5
    max_iterations: int = 1000
    visual_relaxation: float = 0.0
    temperature: float = 0.1
    attention_dim: int = 0
    is_plan_differentiable: bool = True

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"method is {self.method!r}, but must be one of {', '.join(METHODS)}")
        for name in ("epsilon", "tolerance", "temperature"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} is {value}, but must be a finite number above 0")
        if not (math.isfinite(self.visual_relaxation) and self.visual_relaxation >= 0):
            raise ConfigError(f"visual_relaxation is {self.visual_relaxation}, but must be a finite number, 0 or more")
        if self.max_iterations < 1:
            raise ConfigError(f"max_iterations is {self.max_iterations}, but must be at least 1")
        if self.attention_dim < 0:
            raise ConfigError(f"attention_dim is {self.attention_dim}, but must be 0 or more")


@dataclass(frozen=True, slots=True)
class Pair:
    """The two sides of a batch, checked: tokens 0 at masked positions, their cosine cost, masks, and the visual mass."""

    text: Float[Tensor, "batch words dim"]
    visual: Float[Tensor, "batch visual dim"]
    cost: Float[Tensor, "batch words visual"]
    text_mask: Bool[Tensor, "batch words"]
    visual_mask: Bool[Tensor, "batch visual"]
    visual_mass: Float[Tensor, "batch visual"] | None


class Aligner(nn.Module):
    """Aligns words with visual tokens; see ``forward``."""

    def __init__(self, config: AlignerConfig) -> None:
        super().__init__()
        self.config = config

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
            text, visual: Tokens of one width. What stands at masked positions has no influence.
            text_mask, visual_mask: True for what counts (default all); masked rows and columns of the plan are
            exactly 0.
            visual_mass: Positive weight of each visual token, such as its motion: the column marginal of
                ``transport``, a prior that multiplies the exponentials of the two others. Uniform by default. No
                gradient flows to it.
            visual_index: Position of each visual token before selection (default 0, 1, …).

        Raises:
            DataError: An element without words or visual tokens, or a ``visual_mass`` that is not positive.
        """
        if text_mask is None:
            text_mask = torch.ones(text.shape[:2], dtype=torch.bool, device=text.device)
        if visual_mask is None:
            visual_mask = torch.ones(visual.shape[:2], dtype=torch.bool, device=visual.device)
        for mask, things in ((text_mask, "words"), (visual_mask, "visual tokens")):
            if not bool(mask.any(1).all()):
                where = (~mask.any(1)).nonzero()[:, 0].tolist()
                raise DataError(f"batch elements {where} have no {things} that count; drop them or give at least one")
        if visual_mass is not None and not bool((visual_mass.isfinite() & (visual_mass > 0) | ~visual_mask).all()):
            raise DataError("visual_mass must be finite and above 0 wherever visual_mask is True")
        if visual_index is None:
            visual_index = torch.arange(visual.shape[1], device=visual.device).expand(visual.shape[:2])
        if visual_mass is not None:
            visual_mass = visual_mass.detach()
        text = text.masked_fill(~text_mask[:, :, None], 0.0)
        visual = visual.masked_fill(~visual_mask[:, :, None], 0.0)
        cost = cosine_cost(text, visual)
        plan, error, num_iterations = self.plan(Pair(text, visual, cost, text_mask, visual_mask, visual_mass))
        if not self.config.is_plan_differentiable:
            plan = plan.detach()
        return Alignment(
            plan=plan,
            score=1.0 - torch.einsum("bwv,bwv->b", plan, cost),
            visual_index=visual_index.masked_fill(~visual_mask, -1),
            method=self.config.method,
            marginal_error=error,
            num_iterations=num_iterations,
        )

    def plan(self, pair: Pair) -> tuple[Float[Tensor, "batch words visual"], Float[Tensor, " batch"] | None, int]:
        """Plan, its marginal error (None without column marginals) and the sweeps used."""
        raise NotImplementedError


class TransportAligner(Aligner):
    """Entropic optimal transport with the cosine cost (GRACE, E6 and E7)."""

    def plan(self, pair: Pair) -> tuple[Float[Tensor, "batch words visual"], Float[Tensor, " batch"] | None, int]:
        found = transport_plan(
            pair.cost if self.config.is_plan_differentiable else pair.cost.detach(),
            epsilon=self.config.epsilon,
            text_mask=pair.text_mask,
            visual_mask=pair.visual_mask,
            visual_mass=pair.visual_mass,
            visual_relaxation=self.config.visual_relaxation or None,
            tolerance=self.config.tolerance,
            max_iterations=self.config.max_iterations,
        )
        return found.plan, found.marginal_error, found.num_iterations


class CosineAligner(Aligner):
    """Per word a softmax over visual tokens of cosine similarity / temperature, times the text mass.

    The paper compares with "cosine" without its formula; this is our reading: the same similarities, each word on its
    own.
    """

    def plan(self, pair: Pair) -> tuple[Float[Tensor, "batch words visual"], Float[Tensor, " batch"] | None, int]:
        return _attend((1.0 - pair.cost) / self.config.temperature, pair), None, 0


class CrossAttentionAligner(Aligner):
    """One head of scaled dot-product attention from words to visual tokens, with learned queries and keys."""

    def __init__(self, config: AlignerConfig, dim: int) -> None:
        super().__init__(config)
        width = config.attention_dim or dim
        self.query = nn.Linear(dim, width)
        self.key = nn.Linear(dim, width)

    def plan(self, pair: Pair) -> tuple[Float[Tensor, "batch words visual"], Float[Tensor, " batch"] | None, int]:
        query, key = self.query(pair.text), self.key(pair.visual)
        logits = torch.bmm(query, rearrange(key, "batch visual dim -> batch dim visual")) / math.sqrt(query.shape[-1])
        return _attend(logits.to(pair.cost.dtype), pair), None, 0


def build_aligner(config: AlignerConfig, dim: int) -> Aligner:
    """Aligner for tokens of width ``dim``."""
    match config.method:
        case "transport":
            return TransportAligner(config)
        case "cosine":
            return CosineAligner(config)
        case _:
            return CrossAttentionAligner(config, dim)


def _attend(logits: Tensor, pair: Pair) -> Tensor:
    """Softmax over the live visual tokens, times 1 / number of live words."""
    if pair.visual_mass is not None:
        mass = torch.where(pair.visual_mask, pair.visual_mass, 1.0)
        logits = logits + mass.log().to(logits.dtype)[:, None, :]
    weights = logits.masked_fill(~pair.visual_mask[:, None, :], -torch.inf).softmax(dim=2)
    text_mass = pair.text_mask.to(weights.dtype) / pair.text_mask.sum(1, keepdim=True)
    return weights * text_mass[:, :, None]
