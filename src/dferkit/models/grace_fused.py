"""GRACE with the fusion of E9: class scores from words, aligned tokens and a vector of the whole video together.

The video's own vector reaches the class scores beside the alignment, so that the answer does not have to rest on it: ``models.grace`` is the model whose
answer does. This one is kept for comparison (``grace_fused``), and older checkpoints of ``grace`` are read as it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from dferkit.checks import check_choices, check_range
from dferkit.errors import ConfigError, DataError
from dferkit.losses import auxiliary, contrastive
from dferkit.models.word_alignment import LEAST_MASS, AlignedModel, AlignmentConfig
from dferkit.motion import apply_motion, select_by_mass, select_tokens, spread_evenly
from dferkit.schema import Alignment, ModelOutput, TokenBatch, TokenShape

SELECTIONS = ("ratio", "mass")


@dataclass(frozen=True, kw_only=True, slots=True)
class FusedConfig(AlignmentConfig):
    """Switches of the fusion, beside those of the alignment.

    Attributes:
        summary_dim: Width of the visual encoder's own vector per token step; 0 takes the mean of the tokens.
        use_visual: False gives the text-only baseline.
        selection, ratio: What is kept (E4): with ``ratio`` that share of the visual tokens, with ``mass`` as few as hold that share
            of the motion weights (the paper's open question: an adaptive number). Without motion weights the share lies evenly over the clip.
        weight_auxiliary: λ3 (E10).
    """

    FROM_DATA: ClassVar[tuple[str, ...]] = (*AlignmentConfig.FROM_DATA, "summary_dim")

    summary_dim: int = 0
    text: str = "tokens"
    use_visual: bool = True
    selection: str = "ratio"
    ratio: float = 0.5
    dropout: float = 0.3
    weight_contrastive: float = 0.1
    weight_auxiliary: float = 0.5

    def __post_init__(self) -> None:
        # Not super(): a dataclass with slots is another class than the one that the method was compiled in.
        AlignmentConfig.__post_init__(self)
        check_choices(self, {"selection": SELECTIONS})
        if not self.use_visual and self.text == "none":
            raise ConfigError("a model needs text or video: use_visual=False goes with text tokens or sentence")
        check_range(self, "ratio", above=0, most=1)
        check_range(self, "weight_auxiliary", least=0)

    @classmethod
    def for_shape(cls, shape: TokenShape) -> Any:  # type: ignore[override]
        """The defaults for these tokens."""
        return AlignmentConfig.for_shape.__func__(cls, shape, summary_dim=shape.summary_dim)  # type: ignore[attr-defined]


@dataclass(frozen=True, kw_only=True, slots=True)
class FusedOutput(ModelOutput):
    """Answer of GRACE with fusion for a batch, with what its loss reads.

    ``alignment`` has words × kept visual tokens, and is None for text only. With phrases each word has an equal part of its phrase's row.

    Attributes:
        visual_logits: Class scores of the auxiliary head, which reads no text.
        fused: z of E9. text_pooled, visual_pooled: What the contrastive loss compares.
    """

    visual_logits: Float[Tensor, "batch classes"]
    fused: Float[Tensor, "batch dim"]
    text_pooled: Float[Tensor, "batch dim"]
    visual_pooled: Float[Tensor, "batch dim"]

    def among(self, classes: Int[Tensor, " shown"]) -> FusedOutput:
        """Class scores of some classes only."""
        return replace(self, logits=self.logits[:, classes], visual_logits=self.visual_logits[:, classes])


class VisualSummary(nn.Module):
    """The video as one vector: mean (steps in time weighted by their motion) and maximum of its steps, then one layer.

    With ``summary_dim`` 0 a step is the mean of its weighted tokens, as in E9. Deviation: with an encoder that has a vector of its own
    per step (``VisualTokens.summary``), that is used instead, because a mean of patches loses the information which of them moved.
    """

    def __init__(self, config: FusedConfig) -> None:
        super().__init__()
        width = config.summary_dim or config.visual_dim
        self.norm = nn.LayerNorm(width)
        self.out = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(2 * width, config.dim), nn.GELU())

    def forward(
        self, steps: Float[Tensor, "batch frames width"], weights: Float[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch out"]:
        """``weights`` have mean 1 per clip."""
        steps = self.norm(steps)
        return self.out(torch.cat([(steps * weights[..., None]).mean(1), steps.amax(1)], -1))


class GraceFused(AlignedModel):
    """The network on cached tokens."""

    config: FusedConfig

    def __init__(self, config: FusedConfig | None = None) -> None:
        config = config or FusedConfig()
        super().__init__(config)
        dim = config.dim
        self.word_mlp = nn.Sequential(
            nn.Linear(3 * dim, dim), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(dim, dim)
        )
        self.summary = VisualSummary(config)
        self.fusion = nn.Sequential(
            nn.LayerNorm(4 * dim),
            nn.Dropout(config.dropout),
            nn.Linear(4 * dim, dim),
            nn.GELU(),
            nn.Dropout(config.dropout),
        )
        self.head = nn.Linear(dim, len(config.labels))
        self.visual_head = nn.Linear(dim, len(config.labels))
        self.temperature = nn.Parameter(torch.tensor(0.1))

    @property
    def aligns_words(self) -> bool:
        """It aligns the words of a caption with the video, and can be explained by them."""
        return self.config.use_visual and super().aligns_words

    def forward(self, batch: TokenBatch) -> FusedOutput:
        """Run GRACE on visual tokens and captions; ``summary``, ``phrases`` and ``motion`` are read if the configuration requires them.

        Raises:
            DataError: The batch lacks something that the configuration requires.
        """
        tokens = self._tokens(batch)
        motion = self._motion(tokens, batch.motion)
        normed = self.space.visual_norm(tokens)
        place = self.space.place + self.space.time
        weighted = apply_motion(normed, motion, torch.sigmoid(self.strength)) + place
        words, word_mask, share_of_phrase = self._units(batch)
        pooled = (
            self._pool(weighted, batch.summary, motion)
            if self.config.use_visual
            else words.new_zeros(len(words), self.config.dim)
        )
        mass = self._mass(normed + place, motion)
        alignment, aligned, visual_pooled = self._align(words, word_mask, weighted, motion, mass, batch.visual_keep)
        # E9: the product with the word is what makes the plan matter; a linear pooling would cancel it.
        per_word = self.word_mlp(torch.cat([words, aligned, words * aligned], -1))
        share = word_mask.float() / word_mask.sum(1, keepdim=True)
        mean = torch.einsum("bwd,bw->bd", per_word, share)
        top = per_word.masked_fill(~word_mask[..., None], -1e4).amax(1)
        text_pooled = torch.einsum("bwd,bw->bd", words, share)
        if alignment is not None and share_of_phrase is not None:
            alignment = replace(alignment, plan=torch.bmm(share_of_phrase, alignment.plan))
        fused = self.fusion(torch.cat([mean, top, pooled, text_pooled], -1))
        return FusedOutput(
            logits=self.head(fused),
            visual_logits=self.visual_head(pooled),
            alignment=alignment,
            motion=motion,
            fused=fused,
            text_pooled=text_pooled,
            visual_pooled=visual_pooled,
        )

    def _pool(self, weighted: Tensor, summary: Tensor | None, motion: Tensor) -> Tensor:
        """The video as one vector; motion weights count in time here, in space within ``weighted``."""
        of_steps = motion.mean(2)
        share = torch.sigmoid(self.strength)
        weights = 1 - share + share * of_steps
        if self.config.summary_dim == 0:
            return self.summary(
                weighted.mean(2), weights
            )  # the norm of a step has removed E3's weight of the whole step
        if summary is None:
            raise DataError("this model reads the visual encoder's own vectors (VisualTokens.summary); give summary")
        return self.summary(summary.float(), weights)

    def _select(self, weighted: Tensor, order: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """E4: kept tokens, their positions, and True where a place is not padding."""
        if self.config.selection == "mass":
            values, index, live = select_by_mass(weighted, order, share=self.config.ratio)
            return values, index.clamp_min(0), live
        values, index = select_tokens(weighted, order, ratio=self.config.ratio)
        return values, index, torch.ones_like(index, dtype=torch.bool)

    def _align(
        self,
        words: Tensor,
        word_mask: Tensor,
        weighted: Tensor,
        motion: Tensor,
        mass: Tensor | None,
        keep: Tensor | None,
    ) -> tuple[Alignment | None, Tensor, Tensor]:
        """E4–E8: select, project, align, and carry the video to the words."""
        if not self.config.use_visual:
            return None, torch.zeros_like(words), words.new_zeros(len(words), self.config.dim)
        order = motion
        if (
            self.config.motion == "none" and self.config.selection == "ratio"
        ):  # equal weights would select the first frames
            order = spread_evenly(motion[0].numel()).to(motion).view_as(motion[:1]).expand_as(motion)
        order = order if keep is None else order.masked_fill(~keep, -1.0)
        values, index, live = self._select(weighted, order)
        visual = self.space.visual_projection(values)
        if keep is not None:
            live = live & rearrange(keep, "b t p -> b (t p)").gather(1, index)
        live = live | ~live.any(1, keepdim=True)  # with everything deleted the mean tokens stand in
        kept_mass = None if mass is None else mass.detach().gather(1, index).clamp_min(LEAST_MASS)
        alignment = self.aligner(
            words, visual, text_mask=word_mask, visual_mask=live, visual_mass=kept_mass, visual_index=index
        )
        rows = alignment.plan.sum(2, keepdim=True).clamp_min(1e-12)
        aligned = torch.bmm(alignment.plan / rows, visual)
        return alignment, aligned * word_mask[..., None], (visual * live[..., None]).sum(1) / live.sum(1, keepdim=True)

    def loss(
        self,
        output: FusedOutput,
        target: Int[Tensor, " batch"],
        class_counts: Int[Tensor, " classes"] | None = None,
        *,
        soft_target: Float[Tensor, "batch classes"] | None = None,
    ) -> Float[Tensor, ""]:
        """λ1 weighted focal + λ2 contrastive + λ3 auxiliary (E10); the soft target takes the place of ``target`` in the first and the last.

        Args:
            class_counts: Training clips per class; without them all classes weigh the same.
        """
        c = self.config
        total = self.class_loss(output.logits, target, class_counts, soft_target)
        if c.use_visual and c.weight_auxiliary:
            total = total + c.weight_auxiliary * auxiliary(
                output.visual_logits, target, label_smoothing=c.label_smoothing, shares=soft_target
            )
        if c.use_visual and c.text != "none" and c.weight_contrastive:
            total = total + c.weight_contrastive * contrastive(
                output.text_pooled, output.visual_pooled, temperature=self.temperature, same_group=target
            )
        return total
