"""How GRACE aligns the words of a caption with the video (arXiv 2507.11892, E1–E7): what its two heads, ``grace`` and ``grace_fused``, share.

The paper's code was never released and its method section could not be read; the equations E1–E10 are our reconstruction
(``docs/explanation/grace.md`` separates what is known from what is ours).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, get_args

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dferkit.alignment import AlignerConfig, build_aligner
from dferkit.checks import check_choices, check_counts, check_range
from dferkit.errors import ConfigError, DataError
from dferkit.labels import BASIC
from dferkit.losses import class_weights_effective, weighted_focal
from dferkit.models.joint_space import JointSpace
from dferkit.motion import SOURCES, Mode, apply_motion, motion_weights
from dferkit.schema import Caption, TokenBatch, TokenShape

TEXTS = ("tokens", "phrases", "sentence", "none")
VISUAL_MASSES = ("uniform", "motion", "learned")
LEAST_MASS = 1e-3  # of a uniform share


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignmentConfig:
    """Shape and switches of the alignment, and the losses on its class scores.

    Attributes:
        visual_dim, text_dim: Width of the encoders' tokens.
        shares_space: Both come from one image–text model, in its own common space: then ``dim`` is its width.
        num_frames, grid, areas: Token steps, rows and columns of patches, and face areas of the visual encoder.
        aligner: How words and patches are aligned (E6, E7).
        text: The unit that is aligned: ``tokens``, ``phrases`` (one vector per phrase), ``sentence`` (one vector per caption) or ``none``
            (vision only: learned queries in place of the words, so that capacity stays the same).
        motion: Motion weighting (E2). motion_source: What it is computed from: the ``tokens``, or ``motion.measure_motion`` of the
            clip with head and camera held still (``steady``, ``pixels``). motion_strength: Start of the learned strength of E3, 0 to 1.
        visual_mass: How much of the words' mass a visual token receives: ``uniform``, ``motion`` (∝ its motion weight) or ``learned``
            (a linear layer of the joint space, trained where the truth is known; ``grace`` can train it on).
        dim: Common width (E5). num_queries: Learned queries when there is no text.
        gamma, label_smoothing: Of the focal loss. class_balance: β of the effective number.
        weight_focal, weight_contrastive: λ1, λ2 (E10).
    """

    FROM_DATA: ClassVar[tuple[str, ...]] = (
        "visual_dim", "text_dim", "shares_space", "num_frames", "grid", "areas", "labels",
    )  # fmt: skip

    visual_dim: int = 96
    text_dim: int = 128
    shares_space: bool = False
    num_frames: int = 8
    grid: tuple[int, int] = (8, 8)
    areas: int = 0
    labels: tuple[str, ...] = BASIC
    aligner: AlignerConfig = field(default_factory=AlignerConfig)
    text: str = "phrases"
    motion: Mode = "both"
    motion_source: str = "tokens"
    motion_strength: float = 0.3
    visual_mass: str = "uniform"
    dim: int = 96
    num_queries: int = 24
    dropout: float = 0.2
    gamma: float = 1.0
    label_smoothing: float = 0.1
    class_balance: float = 0.999
    weight_focal: float = 1.0
    weight_contrastive: float = 0.0

    def __post_init__(self) -> None:
        check_choices(self, {"text": TEXTS, "motion": get_args(Mode), "motion_source": SOURCES})
        check_choices(self, {"visual_mass": VISUAL_MASSES})
        if self.motion_source != "tokens" and self.motion not in ("both", "none"):
            raise ConfigError(
                f"motion {self.motion} is measured on tokens only; with motion_source {self.motion_source} choose both"
            )
        check_range(self, "motion_strength", above=0, below=1)
        check_range(self, "dropout", "label_smoothing", "class_balance", least=0, below=1)
        check_range(self, "gamma", "weight_focal", "weight_contrastive", least=0)
        check_counts(self, "dim", "num_queries")

    @classmethod
    def for_shape(cls, shape: TokenShape, **more: Any) -> Any:
        """The defaults for these tokens; with a trained joint space the visual mass is the one that was trained with it."""
        if shape.shares_space:
            more |= {"shares_space": True, "dim": shape.visual_dim}
        return cls(
            visual_dim=shape.visual_dim,
            text_dim=shape.text_dim,
            num_frames=shape.num_frames,
            grid=shape.grid,
            areas=shape.num_areas,
            labels=shape.labels,
            visual_mass="learned" if shape.has_joint_space else "uniform",
            **more,
        )


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


class AlignedModel(nn.Module):
    """The part of GRACE before its head: motion weights, words and visual tokens in one space, and the mass of each token.

    Its head is a subclass. Encoders stay outside and frozen.
    """

    config: AlignmentConfig

    def __init__(self, config: AlignmentConfig) -> None:
        super().__init__()
        self.config = config
        dim, patches = config.dim, config.grid[0] * config.grid[1] + config.areas
        self.strength = nn.Parameter(torch.logit(torch.tensor(config.motion_strength)))
        self.space = JointSpace(
            config.visual_dim,
            config.text_dim,
            dim,
            num_frames=config.num_frames,
            num_patches=patches,
            shares_space=config.shares_space,
        )
        self.queries = nn.Parameter(torch.randn(config.num_queries, dim) * dim**-0.5) if config.text == "none" else None
        self.aligner = build_aligner(config.aligner, dim)

    @property
    def motion_source(self) -> str:
        """Where motion weights come from."""
        return self.config.motion_source

    @property
    def aligns_words(self) -> bool:
        """It aligns the words of a caption with the video, and can be explained by them."""
        return self.config.text in ("tokens", "phrases")

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

    def _tokens(self, batch: TokenBatch) -> Tensor:
        """Visual tokens; those that are deleted are the clip's mean."""
        if batch.visual is None or batch.text is None or batch.text_mask is None or batch.sentence is None:
            raise DataError("GRACE reads visual tokens and captions; give clips that have both")
        tokens = batch.visual.float()
        if batch.visual_keep is None:
            return tokens
        return torch.where(batch.visual_keep[..., None], tokens, tokens.mean((1, 2), keepdim=True))

    @torch.no_grad()
    def _motion(self, tokens: Tensor, measured: Tensor | None) -> Tensor:
        """E1 and E2, on frozen tokens standardised without learned scales: training cannot change what counts as motion."""
        if self.config.motion_source == "tokens" or self.config.motion == "none":
            return motion_weights(F.layer_norm(tokens, tokens.shape[-1:]), mode=self.config.motion)
        if measured is None:
            raise DataError("this model reads measured motion (motion.measure_motion); give motion")
        return measured.float()

    def _units(self, batch: TokenBatch) -> tuple[Tensor, Tensor, Tensor | None]:
        """What is aligned, in the common width (E5): vectors, which of them are real, and with phrases each word's share of its phrase."""
        assert batch.text is not None
        assert batch.text_mask is not None
        if self.queries is not None:
            words = self.queries.expand(len(batch.text), -1, -1)
            return words, torch.ones(words.shape[:2], dtype=torch.bool, device=words.device), None
        if self.config.text == "sentence":
            assert batch.sentence is not None
            return self.space.words(batch.sentence)[:, None], batch.text_mask.new_ones(len(batch.sentence), 1), None
        words, mask = self.space.words(batch.text), batch.text_mask
        if self.config.text == "phrases":
            return pool_phrases(words, mask, batch.phrases)
        return words, mask, None

    def _project(self, normed: Tensor, motion: Tensor) -> Tensor:
        """All visual tokens, weighted by motion (E3) and placed, in the common width (E5): (batch, visual, dim)."""
        placed = apply_motion(normed, motion, torch.sigmoid(self.strength)) + (self.space.place + self.space.time)
        projected: Tensor = self.space.visual_projection(rearrange(placed, "b t p d -> b (t p) d"))
        return projected

    def _mass(self, placed: Tensor, motion: Tensor) -> Tensor | None:
        """Mass of every visual token; None for uniform."""
        match self.config.visual_mass:
            case "motion":
                return rearrange(motion, "b t p -> b (t p)")
            case "learned":
                return self.space.visual_mass(placed) * motion.shape[1] * motion.shape[2]
            case _:
                return None

    def class_loss(
        self,
        logits: Float[Tensor, "batch classes"],
        target: Int[Tensor, " batch"],
        class_counts: Int[Tensor, " classes"] | None,
        soft_target: Float[Tensor, "batch classes"] | None,
    ) -> Float[Tensor, ""]:
        """λ1 times the weighted focal loss (E10); without ``class_counts`` all classes weigh the same."""
        c = self.config
        return c.weight_focal * weighted_focal(
            logits,
            target,
            gamma=c.gamma,
            class_weights=None if class_counts is None else class_weights_effective(class_counts, beta=c.class_balance),
            label_smoothing=c.label_smoothing,
            shares=soft_target,
        )
