"""A joint space learned from captions alone, for encoders that never saw each other, such as VideoMAE and a text model.

The space of the bundled model was trained where the cells of every movement are known. Of a user's clips only the captions are known: every video of a batch is
compared with every caption, token by token, and its own caption has to be the nearest (``losses.token_contrastive``). No class is read.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dferkit.losses import token_contrastive
from dferkit.models.word_alignment import AlignedModel, AlignmentConfig
from dferkit.schema import ModelOutput, TokenBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class MatchOutput(ModelOutput):
    """Tokens of a batch in the joint space; it has no class scores.

    Attributes:
        units: Phrases or words. unit_mask: Which of them are real. visual: Visual tokens. caption: Number of each clip's caption; equal ones have one number.
    """

    units: Float[Tensor, "batch units dim"]
    unit_mask: Bool[Tensor, "batch units"]
    visual: Float[Tensor, "batch visual dim"]
    caption: Int[Tensor, " batch"]


class CaptionMatcher(AlignedModel):
    """The part of GRACE before its head, trained to match captions with their videos."""

    def __init__(self, config: AlignmentConfig) -> None:
        super().__init__(config)
        self.temperature = nn.Parameter(torch.tensor(0.1))

    def forward(self, batch: TokenBatch) -> MatchOutput:
        """Tokens in the joint space.

        Raises:
            DataError: The batch lacks something that the configuration asks for.
        """
        tokens = self._tokens(batch)
        assert batch.text is not None
        motion = self._motion(tokens, batch.motion)
        units, mask, _ = self._units(batch)
        is_same = (batch.text[:, None] == batch.text[None]).flatten(2).all(2)
        return MatchOutput(
            logits=tokens.new_zeros(len(tokens), len(self.config.labels)),
            units=units,
            unit_mask=mask,
            visual=self._project(self.space.visual_norm(tokens), motion),
            caption=is_same.int().argmax(1),
        )

    def loss(
        self,
        output: MatchOutput,
        target: Int[Tensor, " batch"],
        class_counts: Int[Tensor, " classes"] | None = None,
        *,
        soft_target: Float[Tensor, "batch classes"] | None = None,
    ) -> Float[Tensor, ""]:
        """Contrast of every video with every caption of the batch; classes are not read."""
        return token_contrastive(
            output.units, output.visual, output.unit_mask, temperature=self.temperature, same_group=output.caption
        )
