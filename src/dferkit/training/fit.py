"""Labelled clips and a specification → a trained model: guides, captions, settings, training, choice of the epoch."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dferkit.encoders.clip_model import ClipEncoder
from dferkit.encoders.open import open_text_encoder, open_visual_encoder
from dferkit.encoders.text import TextEncoder
from dferkit.errors import ConfigError
from dferkit.models.a3lign import A3lign, A3lignReader
from dferkit.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dferkit.models.coarse import CoarseClassifier
from dferkit.schema import ReportProgress
from dferkit.storage import digest_json
from dferkit.tokens.captioned import caption_other_clips, caption_training_clips, caption_unseen, fit_guide, with_texts
from dferkit.tokens.dataset import TokenDataset
from dferkit.training.about import about_checkpoint, check_texts, check_tokens
from dferkit.training.loop import train_steps
from dferkit.training.phases import paragraphs_of, train_a3lign
from dferkit.training.score import predict_logits
from dferkit.training.selection import EpochSelection
from dferkit.training.space import learn_space
from dferkit.training.spec import RunConfig, TrainingSpec

Losses = Callable[[int, int, float], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """Clips on which the epoch is chosen. ``rule``: One of ``datasets.protocol.RULES``."""

    data: TokenDataset
    rule: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """A trained model.

    Attributes:
        model: With the weights of the chosen epoch. last: Of the last epoch; the same where nothing was chosen.
        coarse: The guide of its captions. epoch: The chosen one, counted from 1. uar_by_epoch: On the held-out clips.
        data: What it was trained on, captions included.
    """

    spec: TrainingSpec
    run: RunConfig
    data: TokenDataset
    model: Any
    last: Any
    coarse: CoarseClassifier
    epoch: int
    uar_by_epoch: tuple[float, ...] = ()

    def checkpoint(self, trained_on: str, *, name: str = "", **facts: Any) -> Checkpoint:
        """The model with its guide and a record of its origin.

        Args:
            trained_on: One line for outputs. name: For outputs, by default the model's. facts: Further entries of ``about``.
        """
        about = about_checkpoint(
            name or self.spec.model,
            trained_on=trained_on,
            encoder=self.spec.encoder,
            text_encoder=self.spec.text_encoder,
            box=self.spec.box,
            **{
                "encoder_digest": self.data.encoder_digest,
                "prior": self.data.class_shares,
                "seed": self.spec.seed,
                "training": asdict(self.run.training),
                **({"space": asdict(self.run.space)} if self.run.space.epochs else {}),
                "engine": asdict(self.run.engine),
                **facts,
            },
        )
        return Checkpoint(name=self.spec.model, model=self.model, coarse=self.coarse, about=about)

    def save(self, folder: Path, trained_on: str, **facts: Any) -> Checkpoint:
        """Write ``checkpoint`` and read it again, so that what is scored is what was written."""
        return load_checkpoint(save_checkpoint(self.checkpoint(trained_on, **facts), folder))


def fit(
    data: TokenDataset,
    spec: TrainingSpec,
    *,
    held: HeldOut | None = None,
    state: Path | None = None,
    stage: str = "",
    on_progress: ReportProgress | None = None,
) -> Fitted:
    """Train one model; the same call resumes from ``state`` after an interruption.

    All that learns (the guides of the captions too) reads these clips only. With a start, its own classifier guides: it has seen none of them.

    Args:
        data: With captions of any source in ``texts``, or without: then the template writes them.
        held: Clips on which the epoch is chosen; without them the last epoch is kept. stage: Name of the training in progress reports.

    Raises:
        ConfigError: Settings that do not go together, or tokens that the model does not read.
        DataError: Too few clips or classes, or a loss that is not finite.
    """
    report, entry = on_progress or (lambda stage, done, of, note: None), spec.entry
    stage = stage or f"training {spec.model}"
    data = data.with_votes() if spec.use_votes else data
    text_encoder = open_text_encoder(spec.text_encoder, spec.encoder, box=spec.box, device=spec.device)
    if spec.start is not None:
        check_tokens(spec.start, data)
        check_texts(spec.start, data)
    coarse = fit_guide(data) if spec.start is None else spec.start.coarse
    if entry.reads_text:
        data = _captioned(data, spec, text_encoder, partial(report, f"{stage}: captions"))
    towers = _towers(spec)
    run = spec.plan(
        data.shape(
            text_dim=text_encoder.dim,
            token_width=0 if towers is None else towers.token_width,
            has_joint_space=spec.joint_space is not None,
            shares_space=spec.shares_space,
        )
    )
    selection = None if held is None else _selection(held, spec, coarse, text_encoder)

    def losses(done: int, of: int, loss: float) -> None:
        report(stage, done, of, f"loss {loss:.3f}")

    if spec.start is not None or entry.learns == "steps":
        last = _start_model(spec, run, towers)
        if run.space.epochs:
            learn_space(
                last, data, run.space, device=spec.device, state=state and state / "space",
                on_progress=lambda done, of, loss: report(f"{stage}: joint space", done, of, f"loss {loss:.3f}"),
            )  # fmt: skip
        if run.training.epochs:
            last = train_steps(
                last.to(spec.device), data, run.training, engine=run.engine, selection=selection, state=state, on_progress=losses,
            )  # fmt: skip
        epochs = run.training.epochs
    elif entry.learns == "stages":
        last, epochs = _train_stages(data, spec, run, towers, state, losses), 0
    else:
        last, epochs = _start_model(spec, run, towers), 0
        last.solve(data.batches(), data.clips)
    chosen = selection.best.cpu().eval() if selection is not None and selection.best is not None else last
    chosen.finish()
    return Fitted(
        spec=spec,
        run=run,
        data=data,
        model=chosen.eval(),
        last=last.eval(),
        coarse=coarse,
        epoch=selection.epoch if selection is not None and selection.best is not None else epochs,
        uar_by_epoch=tuple(selection.scores) if selection is not None else (),
    )


def _captioned(
    data: TokenDataset, spec: TrainingSpec, encoder: TextEncoder, report: Callable[[int, int, str], None]
) -> TokenDataset:
    """The clips with captions: their own, or those that the template writes.

    Raises:
        ConfigError: Their own were read by another text encoder.
    """
    if data.texts is not None:
        if data.text_encoder_digest not in ("", encoder.digest):
            raise ConfigError(
                f"the captions of these clips were read by another text encoder than {spec.text_encoder}; caption them with the one that is trained with"
            )
        return data
    report(0, len(data), "")
    captioned = (
        caption_training_clips(data, encoder)
        if spec.start is None
        else caption_unseen(spec.start, data, encoder, for_training=True)
    )
    report(len(data), len(data), "")
    return with_texts(data, captioned)


def _towers(spec: TrainingSpec) -> ClipEncoder | None:
    """CLIP, for a model that reads it.

    Raises:
        ConfigError: The tokens are not CLIP's.
    """
    if spec.entry.reads != "clip":
        return None
    encoder = open_visual_encoder(spec.encoder, box=spec.box)
    if not isinstance(encoder, ClipEncoder):
        raise ConfigError(f"{spec.model} reads CLIP's features of frames: give --encoder clip:FOLDER")
    return encoder


def _start_model(spec: TrainingSpec, run: RunConfig, towers: ClipEncoder | None) -> Any:
    """The untrained network: from the start's weights, or new, with the joint space and the texts of the classes."""
    if spec.start is not None:
        return deepcopy(spec.start.model)
    torch.manual_seed(run.training.seed)
    model: Any = spec.entry.build(run.model)
    joint = spec.joint_space
    if spec.entry.has_joint_space and joint is not None:
        model.space.start_from(joint)
    if spec.entry.class_text is not None and towers is not None:
        texts = [spec.entry.class_text(label) for label in run.model.labels]
        model.read_classes(towers.encode_texts(texts).clone(), float(towers.model.logit_scale.detach().exp()))
    return model


def _train_stages(
    data: TokenDataset,
    spec: TrainingSpec,
    run: RunConfig,
    towers: ClipEncoder | None,
    state: Path | None,
    losses: Losses,
) -> A3lignReader:
    """The three steps of BAP; the finished model holds the paragraphs' features and nothing of CLIP's text tower."""
    assert towers is not None
    if run.model.num_tokens > towers.max_tokens:
        raise ConfigError(
            f"num_tokens is {run.model.num_tokens}; {towers.name} takes sentences of up to {towers.max_tokens} tokens"
        )
    torch.manual_seed(run.training.seed)
    model = A3lign(run.model).to(spec.device)
    tower = partial(towers.to(spec.device).encode_embeddings, use_bfloat16=run.training.use_bfloat16)
    train_a3lign(model, tower, data, run.training, state=state, on_progress=losses)
    with torch.no_grad():
        return A3lignReader.of(model, paragraphs_of(model, towers.to("cpu").encode_embeddings))


def _selection(
    held: HeldOut, spec: TrainingSpec, coarse: CoarseClassifier, text_encoder: TextEncoder
) -> EpochSelection:
    """Held-out clips as an epoch is judged on them: captions guided by a classifier that never saw them."""
    data = held.data
    if spec.entry.reads_text and data.texts is None:
        data = with_texts(data, caption_other_clips(data, coarse, text_encoder))
    key = digest_json([held.rule, list(data.clip_ids), data.digest])
    return EpochSelection(
        lambda model: predict_logits(model, data, device=spec.device).numpy(), data.target, len(data.labels), key=key
    )
