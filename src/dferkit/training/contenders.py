"""Models of a comparison: what each reads, and how it learns from the training side of a split.

Plain baselines stand beside the systems, because without them no claim of an alignment means anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dferkit.encoders.box import BOX_FOLDER
from dferkit.encoders.clip_model import ClipEncoder
from dferkit.encoders.text import TextEncoder
from dferkit.errors import ConfigError, DataError
from dferkit.facs import load_facs
from dferkit.labels import nearest_name
from dferkit.losses import class_weights_effective, weighted_focal
from dferkit.models.a3lign import A3lign, A3lignConfig, A3lignReader, DynamicEncoder
from dferkit.models.build import VARIANTS, variant
from dferkit.models.checkpoint import TrainedModel
from dferkit.models.coarse import CoarseClassifier, fit_coarse, unit_statistics
from dferkit.models.joint_space import joint_space_of
from dferkit.tokens.batches import draw_views
from dferkit.tokens.dataset import ClipSet, caption_split
from dferkit.training.loop import TrainingConfig, predict_probabilities, train_grace
from dferkit.training.phases import BapConfig, paragraphs_of, train_a3lign
from dferkit.training.row import base_config

_AT_ONCE = 64

Answer = Callable[[ClipSet], np.ndarray]
"""Clips → class probabilities (clips, classes)."""
Keep = Callable[[TrainedModel, CoarseClassifier], None]
"""Takes a model that can be used without its training data, and the coarse classifier that guides its captions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchConfig:
    """Settings of all models; ``--set bap.epochs=[4,3,3]`` changes fields.

    Attributes:
        grace: Budget of GRACE and its variants. bap: Of A³lign-DFER. sentences, tokens: Size of its paragraphs.
        head_epochs, head_rate: Of the plain heads.
    """

    grace: TrainingConfig = field(default_factory=TrainingConfig)
    bap: BapConfig = field(default_factory=BapConfig)
    sentences: int = 16
    tokens: int = 64
    head_epochs: int = 40
    head_rate: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("sentences", "tokens", "head_epochs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; give at least 1")
        if not 0 < self.head_rate < 1:
            raise ConfigError(f"head_rate is {self.head_rate}; give a number between 0 and 1")

    def with_seed(self, seed: int) -> BenchConfig:
        """The same settings with another seed everywhere."""
        return replace(self, grace=replace(self.grace, seed=seed), bap=replace(self.bap, seed=seed))


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """What a contender learns from: rows are clips or views of them, and what is trained by epochs draws one view of each clip per epoch. ``test`` is there for what must be known before an answer (captions); its classes are never read.

    Attributes:
        state: Where a long training keeps what it goes on from after an interruption. keep: Called with the trained model of contenders that
            ``predict`` and ``explain`` can use. tell: Called with (epochs done, of, mean loss).
    """

    train: ClipSet
    test: ClipSet
    config: BenchConfig
    clip: ClipEncoder | None = None
    state: Path | None = None
    keep: Keep = lambda model, coarse: None
    tell: Callable[[int, int, float], None] = lambda done, of, loss: None

    @property
    def towers(self) -> ClipEncoder:
        """The frozen CLIP of contenders that read it."""
        assert self.clip is not None
        return self.clip


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """One model of a comparison.

    Attributes:
        reads: Whose tokens (``nothing``, ``box``, ``videomae``, ``clip``). what: One line for a reader of the table.
        has_paragraphs: It learns sentences of ``BenchConfig.tokens`` tokens. tells_words: It reads texts through CLIP's tokenizer.
    """

    reads: str
    what: str
    learn: Callable[[Lesson], Answer]
    has_paragraphs: bool = False
    tells_words: bool = False


def _class_prior(lesson: Lesson) -> Answer:
    counts = np.bincount(lesson.train.target[lesson.train.first_rows], minlength=len(lesson.train.labels)).astype(float)
    return lambda clips: np.tile(counts / counts.sum(), (len(clips.target), 1))


def _mean_pooled(lesson: Lesson) -> Answer:
    def pooled(clips: ClipSet) -> np.ndarray:
        parts = [clips.visual[i : i + _AT_ONCE].double().mean((1, 2)) for i in range(0, len(clips.target), _AT_ONCE)]
        return torch.cat(parts).numpy()

    head = fit_coarse(pooled(lesson.train), lesson.train.target, labels=lesson.train.labels)
    return lambda clips: head.probabilities(pooled(clips))


def _grace(name: str) -> Callable[[Lesson], Answer]:
    def learn(lesson: Lesson) -> Answer:
        encoder, train, joint = TextEncoder(BOX_FOLDER / "text"), lesson.train, joint_space_of(BOX_FOLDER, "box")
        sides = caption_split(train, lesson.test, encoder)
        base, budget = base_config(train, encoder, has_joint=joint is not None), lesson.config.grace
        model = train_grace(
            variant(name, base), train.visual, sides.train.tokens, train.target, summary=train.summary, motion=train.motion, config=budget, joint=joint,
            clips=train.clips, state=lesson.state, on_progress=lesson.tell,
        )  # fmt: skip
        lesson.keep(model, sides.coarse)
        # The captions are the test clips', in their order; a look at the same frames in another order keeps them.
        return lambda clips: predict_probabilities(model, clips.visual, sides.test.tokens, summary=clips.summary)

    return learn


def _head(*, is_focal: bool) -> Callable[[Lesson], Answer]:
    """Mean and maximum over time of the encoder's own vectors, two layers."""

    def learn(lesson: Lesson) -> Answer:
        train = lesson.train
        torch.manual_seed(lesson.config.grace.seed)
        width, classes = train.summary.shape[-1], len(train.labels)
        net = nn.Sequential(nn.LayerNorm(2 * width), nn.Dropout(0.3), nn.Linear(2 * width, 128), nn.GELU(), nn.Dropout(0.3), nn.Linear(128, classes))  # fmt: skip
        counts = torch.bincount(torch.from_numpy(train.target[train.first_rows]), minlength=classes)
        weights = class_weights_effective(counts) if is_focal else None

        def loss(logits: Tensor, target: Tensor) -> Tensor:
            return weighted_focal(logits, target, gamma=2.0, class_weights=weights) if is_focal else F.cross_entropy(logits, target)  # fmt: skip

        def forward(clips: ClipSet) -> Tensor:
            return cast(Tensor, net(torch.cat([clips.summary.float().mean(1), clips.summary.float().amax(1)], -1)))

        return _fit(net, forward, loss, lesson)

    return learn


def _zero_shot(describe: Callable[[str], str]) -> Callable[[Lesson], Answer]:
    def learn(lesson: Lesson) -> Answer:
        classes = F.normalize(lesson.towers.encode_texts([describe(label) for label in lesson.train.labels]), dim=-1)
        scale = float(lesson.towers.model.logit_scale.detach().exp())
        return lambda clips: (F.normalize(_frames(clips).mean(1), dim=-1) @ classes.T * scale).softmax(1).numpy()

    return learn


def _clip_temporal(lesson: Lesson) -> Answer:
    """The DFER-CLIP family: a transformer over frozen frame features meets fixed descriptions of the classes."""
    towers, config = lesson.towers, lesson.config
    shape = _a3lign_config(lesson, "shared")
    torch.manual_seed(config.grace.seed)
    net = DynamicEncoder(shape.num_frames, 1, shape)
    classes = F.normalize(towers.encode_texts([described(label) for label in lesson.train.labels]).clone(), dim=-1)

    def forward(clips: ClipSet) -> Tensor:
        return F.normalize(net(_frames(clips)), dim=-1) @ classes.T / shape.temperature

    return _fit(net, forward, F.cross_entropy, lesson)


def _a3lign(mode: str = "shared", *, has_bap: bool = True) -> Callable[[Lesson], Answer]:
    def learn(lesson: Lesson) -> Answer:
        bap, train, towers = lesson.config.bap, lesson.train, lesson.towers
        if mode == "none":
            # Without modules step 2 has nothing to train.
            bap = replace(bap, epochs=(0, 0, bap.epochs[0] + bap.epochs[2]))
        elif not has_bap:
            bap = replace(bap, epochs=(0, 0, sum(bap.epochs)))
        torch.manual_seed(bap.seed)
        model = A3lign(_a3lign_config(lesson, mode))
        tower = partial(towers.to(bap.device).encode_embeddings, use_bfloat16=bap.use_bfloat16)
        train_a3lign(
            model, tower, _frames(train), train.target, bap, clips=train.clips, state=lesson.state, on_progress=lesson.tell
        )  # fmt: skip
        with torch.no_grad():
            reader = A3lignReader.of(model, paragraphs_of(model, towers.to("cpu").encode_embeddings))
        lesson.keep(
            reader, fit_coarse(unit_statistics(train.units.astype(np.float64)), train.target, labels=train.labels)
        )

        @torch.inference_mode()
        def answer(clips: ClipSet) -> np.ndarray:
            scores = torch.cat([reader.scores(some) for some in _frames(clips).split(_AT_ONCE)])
            return scores.double().softmax(1).numpy()

        return answer

    return learn


def described(label: str) -> str:
    """A class by the movements that it usually shows, and not by its name; by its name where the FACS tables do not know it."""
    facs = load_facs()
    rule = facs.classes.get(label)
    if rule is None:
        return f"a face showing {label}"
    titles = [facs.action_units[unit].title for unit in rule.core if unit in facs.action_units]
    return f"a face: {', '.join(titles)}" if titles else "a still face"


CONTENDERS: Mapping[str, Contender] = MappingProxyType(
    {
        "class_prior": Contender(reads="nothing", what="how frequent each class is in training", learn=_class_prior),
        "mean_pooled": Contender(reads="box", what="linear model on the mean of the box's tokens", learn=_mean_pooled),
        **{
            name: Contender(reads="box", what=f"{name} on the box's tokens", learn=_grace(name))
            for name in ("text_only", "vision_only", *(n for n in VARIANTS if n.startswith("grace") and n != "grace_steady_motion"))
        },
        "videomae_cross_entropy": Contender(reads="videomae", what="frozen VideoMAE, two layers, cross-entropy", learn=_head(is_focal=False)),
        "videomae_focal": Contender(reads="videomae", what="frozen VideoMAE, two layers, weighted focal loss", learn=_head(is_focal=True)),
        "clip_zero_shot": Contender(reads="clip", what="CLIP, class prompts, nothing trained", learn=_zero_shot(lambda label: f"a photo of a face showing {label}"), tells_words=True),
        "clip_zero_shot_units": Contender(reads="clip", what="CLIP, action-unit descriptions, nothing trained", learn=_zero_shot(described), tells_words=True),
        "clip_temporal": Contender(reads="clip", what="frozen CLIP, temporal transformer, class descriptions (DFER-CLIP family)", learn=_clip_temporal, tells_words=True),
        "a3lign": Contender(reads="clip", what="A³lign-DFER", learn=_a3lign(), has_paragraphs=True),
        "a3lign_concat": Contender(reads="clip", what="A³lign-DFER, video and paragraph as one sequence", learn=_a3lign("concat"), has_paragraphs=True),
        "a3lign_no_bap": Contender(reads="clip", what="A³lign-DFER, all trained together from the start", learn=_a3lign(has_bap=False), has_paragraphs=True),
        "a3lign_no_jas": Contender(reads="clip", what="A³lign-DFER, means over time in place of dynamic encoders", learn=_a3lign("none"), has_paragraphs=True),
    }
)  # fmt: skip


def find_contender(name: str) -> Contender:
    """A contender by name.

    Raises:
        ConfigError: No such one; the message names the nearest.
    """
    if name not in CONTENDERS:
        raise ConfigError(f"unknown model {name!r}; did you mean {nearest_name(name, CONTENDERS)!r}? Known: {', '.join(CONTENDERS)}")  # fmt: skip
    return CONTENDERS[name]


def in_order(clips: ClipSet, order: str, *, seed: int = 0) -> ClipSet:
    """The same clips with their steps in time ``normal``, ``reversed``, or ``random`` (another order for each clip)."""
    if order == "normal":
        return clips
    visual = clips.visual_in_memory()
    steps = np.tile(np.arange(visual.shape[1])[::-1], (len(visual), 1))
    if order == "random":
        steps = np.random.default_rng(seed).permuted(steps, axis=1)
    rows, index = torch.arange(len(visual))[:, None], torch.from_numpy(steps.copy())
    return replace(clips, visual=visual[rows, index], summary=clips.summary[rows, index])


def _frames(clips: ClipSet) -> Tensor:
    """CLIP's features (clips, frames, dim)."""
    return clips.visual_in_memory()[:, :, 0].float()


def _a3lign_config(lesson: Lesson, mode: str) -> A3lignConfig:
    towers, config = lesson.towers, lesson.config
    return A3lignConfig(
        dim=towers.dim,
        token_width=towers.token_width,
        labels=lesson.train.labels,
        num_sentences=config.sentences,
        num_tokens=config.tokens,
        num_frames=lesson.train.visual.shape[1],
        mlp_width=2 * towers.dim,
        joint_mode=mode,
    )


def _fit(
    net: nn.Module, forward: Callable[[ClipSet], Tensor], loss: Callable[[Tensor, Tensor], Tensor], lesson: Lesson
) -> Answer:
    """AdamW with a cosine fall, the last weights."""
    train, config = lesson.train, lesson.config
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.head_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.head_epochs)
    rng, batch = np.random.default_rng(config.grace.seed), config.grace.batch
    net.train()
    for epoch in range(config.head_epochs):
        losses = []
        order = draw_views(train.clips, rng)
        for first in range(0, len(order), batch):
            some = train.take(order[first : first + batch])
            optimizer.zero_grad(set_to_none=True)
            value = loss(forward(some), torch.from_numpy(some.target))
            value.backward()
            optimizer.step()
            losses.append(float(value.detach()))
        if not np.isfinite(losses).all():
            raise DataError(f"the loss was not finite in epoch {epoch + 1}; lower head_rate")
        schedule.step()
        lesson.tell(epoch + 1, config.head_epochs, float(np.mean(losses)))
    net.eval()

    @torch.inference_mode()
    def answer(clips: ClipSet) -> np.ndarray:
        return forward(clips).double().softmax(1).numpy()

    return answer
