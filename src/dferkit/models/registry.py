"""The one table of models: what each reads, its configuration, its network, how it is trained, and what it starts from.

``dferkit train NAME``, ``bench``, checkpoints and recipes all read this table; a new model is one file and one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Protocol

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dferkit.labels import check_name
from dferkit.models.a3lign import A3lignConfig, A3lignReader
from dferkit.models.baselines import (
    BaselineConfig,
    ClassPrior,
    ClipTemporal,
    ClipZeroShot,
    MeanPooled,
    SummaryHead,
    describe_class,
    name_class,
)
from dferkit.models.grace import Grace, GraceConfig
from dferkit.models.grace_fused import FusedConfig, GraceFused
from dferkit.schema import Caption, ModelOutput, TokenBatch, TokenShape


class TrainableModel(Protocol):
    """Interface of a model for training, scoring, ``predict`` and ``explain``; it is an ``nn.Module`` as well.

    Attributes:
        motion_source: Where its motion weights come from, one of ``motion.SOURCES``.
        aligns_words: It aligns words with the video, and can be explained by them.
    """

    config: Any
    motion_source: str
    aligns_words: bool

    def __call__(self, batch: TokenBatch) -> ModelOutput:
        """Class scores and, of models that have them, alignment, motion and attention."""

    def loss(
        self,
        output: Any,
        target: Int[Tensor, " batch"],
        class_counts: Int[Tensor, " classes"] | None = None,
        *,
        soft_target: Float[Tensor, "batch classes"] | None = None,
    ) -> Float[Tensor, ""]:
        """What one step lowers. ``class_counts``: Training clips per class."""

    def finish(self) -> None:
        """Called once after training."""

    def aligned_text(self, label: int) -> Caption | None:
        """The text whose words the model aligns for an answer; None where that is the clip's caption."""

    def scores_without_words(
        self, batch: TokenBatch, label: int, keep: Bool[Tensor, "versions words"]
    ) -> Float[Tensor, "versions classes"]:
        """Class scores of one clip in versions of its text, words marked False left out; of models that align words."""


_QUIET: Mapping[str, object] = {"token_noise": 0.0, "token_drop": 0.0}


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelEntry:
    """One row of the table.

    Attributes:
        family: Names the settings that its members share (``grace``, ``a3lign``, ``baseline``). what: One line for a reader.
        reads: Where its tokens come from by default: the ``front end`` (pixels or landmarks), ``videomae``, ``clip``; ``nothing`` for a model that reads none.
        reads_text: It reads captions. class_text: Class → the text that CLIP reads of it.
        config: Class of its configuration, a frozen dataclass with ``labels``, ``for_shape`` (a ``TokenShape`` → the defaults for these data) and ``FROM_DATA``: names of
            the fields that the data decides and nobody sets. change: From the family's defaults to this model. build: Configuration → network.
        learns: By gradient ``steps``, in the ``stages`` of BAP, or by a ``solution`` in closed form. budget: Training settings other than the defaults.
        ignores: Settings of its family that it does not read, such as ``model.dropout``; they are refused. has_joint_space: It starts from the trained joint space.
        adapts: ``train --from`` can adapt its weights. adaptation: Settings of ``train --from`` other than the defaults.
    """

    family: str
    what: str
    config: Any
    build: Callable[[Any], nn.Module]
    reads: Literal["front end", "videomae", "clip", "nothing"] = "front end"
    reads_text: bool = False
    class_text: Callable[[str], str] | None = None
    change: Callable[[Any], Any] = lambda config: config
    learns: Literal["steps", "stages", "solution"] = "steps"
    budget: Mapping[str, object] = field(default_factory=dict)
    ignores: tuple[str, ...] = ()
    has_joint_space: bool = False
    adapts: bool = True
    adaptation: Mapping[str, object] = field(default_factory=lambda: _QUIET)

    @property
    def default_encoder(self) -> str | None:
        """The backbone that is read where the user names none; None for the front end."""
        return "videomae" if self.reads == "videomae" else None

    def matches_captions(self, config: Any = None) -> bool:
        """It compares captions with videos in a joint space. ``config``: Its own by default."""
        if not self.has_joint_space:
            return False
        config = config or self.change(self.config())
        return config.text != "none" and getattr(config, "use_visual", True)

    def config_for(self, shape: TokenShape) -> Any:
        """The model's configuration for these data."""
        return self.change(self.config.for_shape(shape))


_HEAD = {"epochs": 40, "learning_rate": 1e-3, "weight_decay": 0.05, **_QUIET}


def _grace(what: str, change: Callable[[Any], Any] = lambda config: config, **more: Any) -> ModelEntry:
    return ModelEntry(
        family="grace",
        what=what,
        reads_text=True,
        change=change,
        has_joint_space=True,
        adaptation={},
        **{"config": GraceConfig, "build": Grace, **more},
    )


def _fused(what: str, change: Callable[[FusedConfig], FusedConfig] = lambda config: config) -> ModelEntry:
    return _grace(what, change, config=FusedConfig, build=GraceFused)


def _baseline(what: str, build: Callable[[Any], nn.Module], *settings: str, **more: Any) -> ModelEntry:
    """``settings``: Those of ``BaselineConfig`` that it reads."""
    names = [f.name for f in fields(BaselineConfig) if f.name not in (*BaselineConfig.FROM_DATA, *settings)]
    return ModelEntry(
        family="baseline",
        what=what,
        config=BaselineConfig,
        build=build,
        ignores=tuple(f"model.{name}" for name in names),
        **more,
    )


def _head(what: str, loss: str) -> ModelEntry:
    return _baseline(
        what, SummaryHead, "hidden", "dropout", "loss", "gamma", reads="videomae", change=lambda c: replace(c, loss=loss), budget=_HEAD
    )  # fmt: skip


def _a3lign(what: str, mode: str = "shared", **more: Any) -> ModelEntry:
    return ModelEntry(
        family="a3lign",
        what=what,
        config=A3lignConfig,
        build=A3lignReader,
        reads="clip",
        change=lambda c: replace(c, joint_mode=mode),
        learns="stages",
        **more,
    )


_LAYERS = ("text_layers", "image_layers", "joint_layers", "shared_layers", "heads", "mlp_width", "dropout")

# Every variant of GRACE has the same layers and is trained alike; only what its line changes differs.
MODELS: Mapping[str, ModelEntry] = {
    "class_prior": _baseline("how frequent each class is in training", ClassPrior, reads="nothing", learns="solution", adapts=False),
    "mean_pooled": _baseline("linear model on the mean of the tokens", MeanPooled, learns="solution", adapts=False),
    "text_only": _fused("captions only, no video", lambda c: replace(c, use_visual=False)),
    "vision_only": _fused("no text: learned queries in its place", lambda c: replace(c, text="none")),
    "grace": _grace("GRACE; the answer is the sum of what each phrase finds in the video"),
    "grace_cosine": _grace("cosine similarity in place of transport", lambda c: replace(c, aligner=replace(c.aligner, method="cosine"))),
    "grace_cross_attention": _grace("cross-attention in place of transport; its queries and keys start at random, outside the trained joint space", lambda c: replace(c, aligner=replace(c.aligner, method="cross_attention"))),
    "grace_unbalanced": _grace("transport that leaves tokens unmatched that no phrase is near", lambda c: replace(c, aligner=replace(c.aligner, visual_relaxation=0.1))),
    "grace_words": _grace("one vector per word piece", lambda c: replace(c, text="tokens")),
    "grace_sentence": _grace("one vector per caption", lambda c: replace(c, text="sentence")),
    "grace_no_motion": _grace("no motion weights", lambda c: replace(c, motion="none")),
    "grace_spatial_motion": _grace("motion weights in space only", lambda c: replace(c, motion="spatial")),
    "grace_temporal_motion": _grace("motion weights in time only", lambda c: replace(c, motion="temporal")),
    "grace_steady_motion": _grace("motion weights with head and camera held still", lambda c: replace(c, motion_source="steady")),
    "grace_contrastive": _grace("a contrastive loss between the tokens of captions and videos", lambda c: replace(c, weight_contrastive=0.1)),
    "grace_times": _grace("a loss between the times of a phrase and those of its evidence", lambda c: replace(c, weight_times=0.1)),
    "grace_cross_entropy": _grace("cross-entropy in place of the weighted focal loss", lambda c: replace(c, gamma=0.0, class_balance=0.0)),
    "grace_fused": _fused("fusion of words, aligned tokens and a vector of the video; half the tokens, by motion"),
    "grace_fused_cosine": _fused("grace_fused, cosine similarity in place of transport", lambda c: replace(c, aligner=replace(c.aligner, method="cosine"))),
    "grace_fused_sentence": _fused("grace_fused, one vector per caption", lambda c: replace(c, text="sentence")),
    "grace_fused_no_motion": _fused("grace_fused, no motion weights; as many tokens, evenly over the clip", lambda c: replace(c, motion="none")),
    "grace_fused_adaptive": _fused("grace_fused, as few tokens as hold nine tenths of the motion weights", lambda c: replace(c, selection="mass", ratio=0.9)),
    "grace_fused_no_contrastive": _fused("grace_fused, no contrastive loss", lambda c: replace(c, weight_contrastive=0.0)),
    "grace_fused_no_auxiliary": _fused("grace_fused, no auxiliary loss", lambda c: replace(c, weight_auxiliary=0.0)),
    "videomae_cross_entropy": _head("frozen VideoMAE, two layers, cross-entropy", "cross_entropy"),
    "videomae_focal": _head("frozen VideoMAE, two layers, weighted focal loss", "focal"),
    "clip_zero_shot": _baseline("CLIP, class prompts, nothing trained", ClipZeroShot, reads="clip", class_text=name_class, learns="solution", adapts=False),
    "clip_zero_shot_units": _baseline("CLIP, action-unit descriptions, nothing trained", ClipZeroShot, reads="clip", class_text=describe_class, learns="solution", adapts=False),
    "clip_temporal": _baseline("frozen CLIP, temporal transformer, class descriptions (DFER-CLIP family)", ClipTemporal, "dropout", "loss", "gamma", "layers", "temperature", reads="clip", class_text=describe_class, change=lambda c: replace(c, dropout=0.0), budget=_HEAD),
    "a3lign": _a3lign("A³lign-DFER"),
    "a3lign_concat": _a3lign("A³lign-DFER, video and paragraph as one sequence", "concat"),
    "a3lign_no_bap": _a3lign("A³lign-DFER, all trained together from the start", budget={"is_staged": False}),
    "a3lign_no_jas": _a3lign("A³lign-DFER, means over time in place of dynamic encoders", "none", adapts=False, ignores=("training.is_staged", *(f"model.{name}" for name in _LAYERS))),
}  # fmt: skip
FAMILIES = tuple(dict.fromkeys(entry.family for entry in MODELS.values()))


def find_model(name: str) -> ModelEntry:
    """A model by name.

    Raises:
        ConfigError: There is none; the message names the nearest.
    """
    check_name("model", name, MODELS)
    return MODELS[name]


def variant(name: str, base: Any) -> Any:
    """A family's configuration, changed as the named model changes it."""
    return find_model(name).change(base)
