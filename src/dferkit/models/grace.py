"""GRACE (arXiv 2507.11892): motion weights → token selection → transport between words and patches → fusion → class.

The paper's code was never released and its method section could not be read; the equations E1–E10 are our reconstruction
(``docs/explanation/grace.md`` separates what is known from what is ours). This file reads in the order of the paper's figure.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import ClassVar, get_args

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dferkit.alignment import AlignerConfig, build_aligner
from dferkit.checks import check_choices, check_counts, check_range
from dferkit.errors import ConfigError, DataError
from dferkit.labels import BASIC
from dferkit.losses import auxiliary, class_weights_effective, contrastive, weighted_focal
from dferkit.models.joint_space import JointSpace
from dferkit.motion import SOURCES, Mode, apply_motion, motion_weights, select_by_mass, select_tokens
from dferkit.schema import Alignment, Caption, ModelOutput, TokenBatch, TokenShape

TEXTS = ("tokens", "phrases", "sentence", "none")
SELECTIONS = ("ratio", "mass")
VISUAL_MASSES = ("uniform", "motion", "learned")
_LEAST_MASS = 1e-3  # of a uniform share


@dataclass(frozen=True, kw_only=True, slots=True)
class GraceConfig:
    """Shape and switches of GRACE; every ablation of the paper is a value here.

    Attributes:
        visual_dim, text_dim: Width of the encoders' tokens.
        summary_dim: Width of the visual encoder's own vector per token step; 0 takes the mean of the tokens.
        num_frames, grid, areas: Token steps, rows and columns of patches, and face areas of the visual encoder.
        aligner: How words and patches are aligned (E6, E7).
        text: ``tokens`` (the paper), ``phrases`` (one vector per phrase), ``sentence`` (one vector per caption) or ``none``
            (vision only: the words' place is taken by learned queries, so that capacity stays the same).
        use_visual: False gives the text-only baseline.
        motion: Motion weighting (E2). motion_source: What it is computed from: the ``tokens``, or ``motion.measure_motion`` of the
            clip with head and camera held still (``steady``, ``pixels``). motion_strength: Start of the learned strength of E3, 0 to 1.
        selection, ratio: What is kept (E4): with ``ratio`` that share of the visual tokens, with ``mass`` as few as hold that share
            of the motion weights (the paper's open question: an adaptive number).
        visual_mass: How much of the words' mass a visual token receives: ``uniform``, ``motion`` (∝ its motion weight) or ``learned``
            (a linear layer of the joint space, trained where the truth is known; GRACE's own loss trains what it reads, not the layer).
        dim: Common width (E5). num_queries: Learned queries when there is no text.
        gamma, label_smoothing: Of the focal loss. class_balance: β of the effective number.
        weight_focal, weight_contrastive, weight_auxiliary: λ1, λ2, λ3 (E10).
    """

    FROM_DATA: ClassVar[tuple[str, ...]] = (
        "visual_dim", "summary_dim", "text_dim", "num_frames", "grid", "areas", "labels",
    )  # fmt: skip

    visual_dim: int = 96
    summary_dim: int = 0
    text_dim: int = 128
    num_frames: int = 8
    grid: tuple[int, int] = (8, 8)
    areas: int = 0
    labels: tuple[str, ...] = BASIC
    aligner: AlignerConfig = field(default_factory=AlignerConfig)
    text: str = "tokens"
    use_visual: bool = True
    motion: Mode = "both"
    motion_source: str = "tokens"
    motion_strength: float = 0.3
    selection: str = "ratio"
    ratio: float = 0.5
    visual_mass: str = "uniform"
    dim: int = 96
    num_queries: int = 24
    dropout: float = 0.3
    gamma: float = 1.0
    label_smoothing: float = 0.1
    class_balance: float = 0.999
    weight_focal: float = 1.0
    weight_contrastive: float = 0.1
    weight_auxiliary: float = 0.5

    def __post_init__(self) -> None:
        check_choices(self, {"text": TEXTS, "motion": get_args(Mode), "motion_source": SOURCES})
        check_choices(self, {"selection": SELECTIONS, "visual_mass": VISUAL_MASSES})
        if not self.use_visual and self.text == "none":
            raise ConfigError("a model needs text or video: use_visual=False goes with text tokens or sentence")
        if self.motion_source != "tokens" and self.motion not in ("both", "none"):
            raise ConfigError(
                f"motion {self.motion} is measured on tokens only; with motion_source {self.motion_source} choose both"
            )
        check_range(self, "ratio", above=0, most=1)
        check_range(self, "motion_strength", above=0, below=1)
        check_range(self, "dropout", "label_smoothing", "class_balance", least=0, below=1)
        check_range(self, "gamma", "weight_focal", "weight_contrastive", "weight_auxiliary", least=0)
        check_counts(self, "dim", "num_queries")

    @classmethod
    def for_shape(cls, shape: TokenShape) -> GraceConfig:
        """GRACE for these tokens; with a trained joint space the visual mass is the one that was trained with it."""
        return cls(
            visual_dim=shape.visual_dim,
            text_dim=shape.text_dim,
            num_frames=shape.num_frames,
            summary_dim=shape.summary_dim,
            grid=shape.grid,
            areas=shape.num_areas,
            labels=shape.labels,
            visual_mass="learned" if shape.has_joint_space else "uniform",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class GraceOutput(ModelOutput):
    """Answer of GRACE for a batch, with what its loss reads.

    ``alignment`` has words × kept visual tokens, and is None for text only. With phrases each word has an equal part of its phrase's row.

    Attributes:
        visual_logits: Class scores of the auxiliary head, which reads no text.
        fused: z of E9. text_pooled, visual_pooled: What the contrastive loss compares.
    """

    visual_logits: Float[Tensor, "batch classes"]
    fused: Float[Tensor, "batch dim"]
    text_pooled: Float[Tensor, "batch dim"]
    visual_pooled: Float[Tensor, "batch dim"]

    def among(self, classes: Int[Tensor, " shown"]) -> GraceOutput:
        """Class scores of some classes only."""
        return replace(self, logits=self.logits[:, classes], visual_logits=self.visual_logits[:, classes])


class VisualSummary(nn.Module):
    """The video as one vector: mean (steps in time weighted by their motion) and maximum of its steps, then one layer.

    With ``summary_dim`` 0 a step is the mean of its weighted tokens, as in E9. Deviation: with an encoder that has a vector of its own
    per step (``VisualTokens.summary``), that is used instead, because a mean of patches loses the information which of them moved.
    """

    def __init__(self, config: GraceConfig) -> None:
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


def pool_phrases(
    words: Float[Tensor, "batch words dim"],
    mask: Bool[Tensor, "batch words"],
    phrases: Int[Tensor, "batch words"] | None,
) -> tuple[Float[Tensor, "batch phrases dim"], Bool[Tensor, "batch phrases"], Float[Tensor, "batch words phrases"]]:
    """Mean of the live words of each phrase, which phrases have any, and each word's share of its phrase.

    Where no phrase has a live word, all live words are one phrase.

    Raises:
        DataError: No phrases are given.
    """
    if phrases is None:
        raise DataError("this model reads phrases; give phrases (TextEncoder.encode_captions gives them)")
    inside = mask & (phrases >= 0)
    is_lost = ~inside.any(1, keepdim=True)
    number = torch.where(is_lost, 0, phrases).clamp_min(0)
    member = F.one_hot(number, int(number.max()) + 1) * torch.where(is_lost, mask, inside)[..., None]
    count = member.sum(1, keepdim=True)
    share = member / count.clamp_min(1)
    return torch.einsum("bwp,bwd->bpd", share.to(words.dtype), words), count[:, 0] > 0, share.to(words.dtype)


class Grace(nn.Module):
    """The network on cached tokens; encoders stay outside and frozen."""

    def __init__(self, config: GraceConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or GraceConfig()
        dim, patches = config.dim, config.grid[0] * config.grid[1] + config.areas
        self.strength = nn.Parameter(torch.logit(torch.tensor(config.motion_strength)))
        self.space = JointSpace(config.visual_dim, config.text_dim, dim, config.num_frames, patches)
        self.queries = nn.Parameter(torch.randn(config.num_queries, dim) * dim**-0.5) if config.text == "none" else None
        self.aligner = build_aligner(config.aligner, dim)
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
    def motion_source(self) -> str:
        """Where motion weights come from."""
        return self.config.motion_source

    @property
    def aligns_words(self) -> bool:
        """It aligns the words of a caption with the video, and can be explained by them."""
        return self.config.use_visual and self.config.text in ("tokens", "phrases")

    def aligned_text(self, label: int) -> Caption | None:
        """None: the words that GRACE aligns are those of the clip's caption."""
        return None

    def scores_without_words(
        self, batch: TokenBatch, label: int, keep: Bool[Tensor, "versions words"]
    ) -> Float[Tensor, "versions classes"]:
        """Class scores of one clip in versions of its caption; words marked False are left out."""
        versions = len(keep)
        many = {f.name: getattr(batch, f.name) for f in fields(batch)}
        many = {name: None if v is None else v.expand(versions, *v.shape[1:]) for name, v in many.items()}
        scores: Tensor = self(TokenBatch(**{**many, "text_mask": keep})).logits
        return scores

    def finish(self) -> None:
        """Nothing is left to compute after training."""

    def forward(self, batch: TokenBatch) -> GraceOutput:
        """Run GRACE on visual tokens and captions; ``summary``, ``phrases`` and ``motion`` are read if the configuration requires them.

        Raises:
            DataError: The batch lacks something that the configuration requires.
        """
        if batch.visual is None or batch.text is None or batch.text_mask is None or batch.sentence is None:
            raise DataError("GRACE reads visual tokens and captions; give clips that have both")
        text_mask, visual_keep = batch.text_mask, batch.visual_keep
        tokens = batch.visual.float()
        if visual_keep is not None:
            mean = tokens.mean((1, 2), keepdim=True)
            tokens = torch.where(visual_keep[..., None], tokens, mean)
        motion = self._motion(tokens, batch.motion)
        normed = self.space.visual_norm(tokens)
        place = self.space.place + self.space.time
        weighted = apply_motion(normed, motion, torch.sigmoid(self.strength)) + place
        words, word_mask = self._words(batch.text, text_mask, batch.sentence)
        if self.config.text == "phrases":
            words, word_mask, share_of_phrase = pool_phrases(words, word_mask, batch.phrases)
        pooled = (
            self._pool(weighted, batch.summary, motion)
            if self.config.use_visual
            else words.new_zeros(len(words), self.config.dim)
        )
        mass = self._mass(normed + place, motion)
        alignment, aligned, visual_pooled = self._align(words, word_mask, weighted, motion, mass, visual_keep)
        # E9: the product with the word is what makes the plan matter; a linear pooling would cancel it.
        per_word = self.word_mlp(torch.cat([words, aligned, words * aligned], -1))
        share = word_mask.float() / word_mask.sum(1, keepdim=True)
        mean = torch.einsum("bwd,bw->bd", per_word, share)
        top = per_word.masked_fill(~word_mask[..., None], -1e4).amax(1)
        text_pooled = torch.einsum("bwd,bw->bd", words, share)
        if alignment is not None and self.config.text == "phrases":
            alignment = replace(alignment, plan=torch.bmm(share_of_phrase, alignment.plan))
        fused = self.fusion(torch.cat([mean, top, pooled, text_pooled], -1))
        return GraceOutput(
            logits=self.head(fused),
            visual_logits=self.visual_head(pooled),
            alignment=alignment,
            motion=motion,
            fused=fused,
            text_pooled=text_pooled,
            visual_pooled=visual_pooled,
        )

    @torch.no_grad()
    def _motion(self, tokens: Tensor, measured: Tensor | None) -> Tensor:
        """E1 and E2, on frozen tokens standardised without learned scales: training cannot change what counts as motion."""
        if self.config.motion_source == "tokens" or self.config.motion == "none":
            return motion_weights(F.layer_norm(tokens, tokens.shape[-1:]), mode=self.config.motion)
        if measured is None:
            raise DataError("this model reads measured motion (motion.measure_motion); give motion")
        return measured.float()

    def _pool(self, weighted: Tensor, summary: Tensor | None, motion: Tensor) -> Tensor:
        """The video as one vector; motion weights count in time here, in space within ``weighted``."""
        of_steps = motion.mean(2)
        share = torch.sigmoid(self.strength)
        weights = 1 - share + share * of_steps
        if self.config.summary_dim == 0:
            return self.summary(weighted.mean(2), torch.ones_like(weights))  # E3 has weighted the tokens already
        if summary is None:
            raise DataError("this model reads the visual encoder's own vectors (VisualTokens.summary); give summary")
        return self.summary(summary.float(), weights)

    def _words(self, text: Tensor, text_mask: Tensor, sentence: Tensor) -> tuple[Tensor, Tensor]:
        """Text tokens in the common width (E5), for every granularity."""
        if self.queries is not None:
            words = self.queries.expand(len(text), -1, -1)
            return words, torch.ones(words.shape[:2], dtype=torch.bool, device=words.device)
        if self.config.text == "sentence":
            return self.space.words(sentence)[:, None], text_mask.new_ones(len(sentence), 1)
        return self.space.words(text), text_mask

    def _mass(self, placed: Tensor, motion: Tensor) -> Tensor | None:
        """Mass of every visual token before selection; None for uniform."""
        match self.config.visual_mass:
            case "motion":
                return rearrange(motion, "b t p -> b (t p)")
            case "learned":
                return self.space.visual_mass(placed) * motion.shape[1] * motion.shape[2]
            case _:
                return None

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
        order = motion if keep is None else motion.masked_fill(~keep, -1.0)
        values, index, live = self._select(weighted, order)
        visual = self.space.visual_projection(values)
        if keep is not None:
            live = live & rearrange(keep, "b t p -> b (t p)").gather(1, index)
        live = live | ~live.any(1, keepdim=True)  # with everything deleted the mean tokens stand in
        kept_mass = None if mass is None else mass.gather(1, index).clamp_min(_LEAST_MASS)
        alignment = self.aligner(
            words, visual, text_mask=word_mask, visual_mask=live, visual_mass=kept_mass, visual_index=index
        )
        rows = alignment.plan.sum(2, keepdim=True).clamp_min(1e-12)
        aligned = torch.bmm(alignment.plan / rows, visual)
        return alignment, aligned * word_mask[..., None], (visual * live[..., None]).sum(1) / live.sum(1, keepdim=True)

    def loss(
        self,
        output: GraceOutput,
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
        total = c.weight_focal * weighted_focal(
            output.logits,
            target,
            gamma=c.gamma,
            class_weights=None if class_counts is None else class_weights_effective(class_counts, beta=c.class_balance),
            label_smoothing=c.label_smoothing,
            shares=soft_target,
        )
        if c.use_visual and c.weight_auxiliary:
            total = total + c.weight_auxiliary * auxiliary(
                output.visual_logits, target, label_smoothing=c.label_smoothing, shares=soft_target
            )
        if c.use_visual and c.text != "none" and c.weight_contrastive:
            total = total + c.weight_contrastive * contrastive(
                output.text_pooled, output.visual_pooled, temperature=self.temperature, same_group=target
            )
        return total
