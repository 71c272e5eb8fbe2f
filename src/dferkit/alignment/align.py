"""The aligners in one table: transport is GRACE's, the others are what it is compared with.

Only transport also fixes how much mass each visual token receives. A new aligner is a class in a file of this folder and
one line in ``ALIGNERS``; ``docs/how-to/add-an-aligner.md`` shows both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import nn

from dferkit.alignment.aligner import Aligner, AlignerSettings, FoundPlan, TokenPair
from dferkit.alignment.problem import TransportProblem
from dferkit.alignment.transport import transport_plan
from dferkit.checks import check_choices


class TransportAligner(Aligner):
    """Entropic optimal transport with the cosine cost (GRACE, E6 and E7).

    For tokens on an NVIDIA GPU the plan is found by the Triton kernel of ``fused``, with at most 128 words or visual
    tokens on the shorter side; elsewhere by Newton's method in torch (``choose.choose_solver``).
    """

    name = "transport"

    def plan(self, pair: TokenPair) -> FoundPlan:
        """The optimal plan, its marginal error and the iterations."""
        found = transport_plan(
            TransportProblem(
                cost=pair.cost if self.settings.is_plan_differentiable else pair.cost.detach(),
                epsilon=self.settings.epsilon,
                text_mask=pair.text_mask,
                visual_mask=pair.visual_mask,
                visual_mass=pair.visual_mass,
                visual_relaxation=self.settings.visual_relaxation or None,
                tolerance=self.settings.tolerance,
                max_iterations=self.settings.max_iterations,
            )
        )
        return FoundPlan(plan=found.plan, marginal_error=found.marginal_error, num_iterations=found.num_iterations)


class CosineAligner(Aligner):
    """Per word a softmax over visual tokens of cosine similarity / temperature, times the text mass.

    The paper compares with "cosine" without its formula; this is our reading: the same similarities, each word on its
    own.
    """

    name = "cosine"

    def plan(self, pair: TokenPair) -> FoundPlan:
        """One softmax per word."""
        return FoundPlan(plan=pair.attend((1.0 - pair.cost) / self.settings.temperature))


class CrossAttentionAligner(Aligner):
    """One head of scaled dot-product attention from words to visual tokens, with learned queries and keys."""

    name = "cross_attention"

    def __init__(self, settings: AlignerSettings, dim: int) -> None:
        super().__init__(settings, dim)
        width = settings.attention_dim or dim
        self.query = nn.Linear(dim, width)
        self.key = nn.Linear(dim, width)

    def plan(self, pair: TokenPair) -> FoundPlan:
        """One softmax per word."""
        query, key = self.query(pair.text), self.key(pair.visual)
        logits = torch.bmm(query, rearrange(key, "batch visual dim -> batch dim visual")) / math.sqrt(query.shape[-1])
        return FoundPlan(plan=pair.attend(logits.to(pair.cost.dtype)))


ALIGNERS: dict[str, type[Aligner]] = {
    "transport": TransportAligner,
    "cosine": CosineAligner,
    "cross_attention": CrossAttentionAligner,
}
"""Name → aligner; the names are the values of ``AlignerConfig.method``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignerConfig(AlignerSettings):
    """How words and visual tokens are aligned: a name of ``ALIGNERS`` and its numbers.

    Raises:
        ConfigError: The method is unknown, or a number is out of range.
    """

    method: str = "transport"

    def __post_init__(self) -> None:
        check_choices(self, {"method": ALIGNERS})
        AlignerSettings.__post_init__(self)  # A class with slots has no plain super().


def build_aligner(config: AlignerConfig, dim: int) -> Aligner:
    """Aligner for tokens of width ``dim``."""
    return ALIGNERS[config.method](config, dim)
