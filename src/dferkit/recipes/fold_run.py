"""One fold of an official data set: train, choose the epoch by the rule, test on the fold's test clips."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dferkit.datasets.protocol import RULE_TEXT, FoldClips, ProtocolConfig, inner_groups
from dferkit.encoders.box import BOX_FOLDER
from dferkit.encoders.text import TextEncoder
from dferkit.errors import DataError
from dferkit.evaluation.prediction_file import LEAKY_MARK
from dferkit.evaluation.scored import ScoredClips
from dferkit.evaluation.summary import summarize
from dferkit.models.checkpoint import Checkpoint, TrainedModel, load_checkpoint, save_checkpoint
from dferkit.models.coarse import CoarseClassifier
from dferkit.models.grace import GraceConfig
from dferkit.models.joint_space import joint_space_of
from dferkit.recipes.provenance import about_checkpoint
from dferkit.recipes.scoring import answer_features, mean_over_views, provenance_of, scored_clips, write_scores
from dferkit.recipes.training_run import RunConfig
from dferkit.reports.results_table import write_results
from dferkit.schema import Release
from dferkit.storage import digest_json, write_json
from dferkit.tokens.captioned import describe_all, refine_all, test_guides, training_guides
from dferkit.tokens.dataset import clip_set
from dferkit.tokens.features import Features
from dferkit.tokens.rows import digest_rows
from dferkit.tokens.stored import StoredTokens
from dferkit.training.loop import digest_texts, predict_probabilities, train_grace
from dferkit.training.row import base_config
from dferkit.training.selection import EpochSelection

Report = Callable[[str, int, int, str], None]
CAPTIONS = "generated from the pixels by the offline template; human captions are not used"


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldResult:
    """What one fold gave.

    Attributes:
        chosen: Answers of the chosen epoch. last: Of the last epoch, which is the same with the rule ``last``.
        epoch: The chosen epoch, counted from 1.
        used: Clips listed and used, by side. val_kind: What was held out. views: How many test clips have how many different views.
    """

    name: str
    chosen: ScoredClips
    last: ScoredClips
    epoch: int
    used: Mapping[str, Mapping[str, int]]
    val_kind: str
    views: Mapping[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedFold:
    """Models of one fold. ``checkpoint`` is that of the chosen epoch, ``last`` that of the last one."""

    checkpoint: Checkpoint
    last: TrainedModel
    epoch: int


def train_fold(
    tokens: StoredTokens,
    release: Release,
    clips: FoldClips,
    out: Path,
    planned: Callable[[GraceConfig], RunConfig],
    protocol: ProtocolConfig,
    *,
    model: str,
    encoder: str,
    use_votes: bool = False,
    tell: Report,
) -> TrainedFold:
    """Train on one side of a fold and write ``checkpoints/<model>/`` and ``selection.json``; the same call goes on after an interruption.

    Everything that learns (the guides of the captions too) sees the training clips only.

    Args:
        planned: Settings of model and training for the tokens at hand.

    Raises:
        DataError: No usable training or held-out clip.
    """
    rows = tokens.rows(clips.train)
    if not len(rows):
        raise DataError(f"fold {clips.name} has no usable training clip: none of {len(clips.train)} has a face")
    text_encoder = TextEncoder(BOX_FOLDER / "text")
    joint = joint_space_of(BOX_FOLDER, encoder)
    features = tokens.features.take(rows)
    train = replace(clip_set(features, release.labels), subjects=inner_groups(features.records))
    tell(f"fold {clips.name}: captions", 0, len(train.target), "")
    coarse, guides = training_guides(train.units, train.target, train.subjects, release.labels)
    described = describe_all(train.units, train.timestamps, train.au_names, "box")
    texts = refine_all(described, guides, text_encoder, for_training=True)
    tell(f"fold {clips.name}: captions", len(train.target), len(train.target), "")
    run = planned(base_config(train, text_encoder, has_joint=joint is not None))
    selection = None
    if protocol.select != "last":
        held = tokens.rows(clips.val if protocol.select == "val" else clips.test)
        if not len(held):
            raise DataError(f"fold {clips.name}: none of the held-out clips has a face; choose --select last")
        selection = _selection(tokens.features.take(held), coarse, text_encoder, release.labels, rule=protocol.select)
    last = train_grace(
        run.model,
        train.visual,
        texts.tokens,
        train.target,
        summary=train.summary,
        motion=train.motion,
        shares=_votes(features) if use_votes else None,
        config=run.training,
        selection=selection,
        joint=joint,
        state=out / "state" / model,
        on_progress=lambda a, b, loss: tell(f"fold {clips.name}: training {model}", a, b, f"loss {loss:.3f}"),
    )
    chosen = selection.best.eval() if selection is not None and selection.best is not None else last
    about = about_checkpoint(
        model,
        box=BOX_FOLDER,
        trained_on=f"{release.layout}, {'all clips' if not clips.test else f'training side of fold {clips.name}'} ({len(train.target)} clips){leak_mark(protocol)}, on a box trained on rendered faces",
        encoder=encoder,
        encoder_digest=features.encoder_digest,
        seed=run.training.seed,
        data_digest=digest_json([release.annotation_digest, tokens.digest, list(clips.train)]),
        training=dataclasses.asdict(run.training),
        selection=protocol.select,
        fold=clips.name,
        layout=release.layout,
        annotation_digest=release.annotation_digest,
    )
    folder = save_checkpoint(Checkpoint(model=chosen, coarse=coarse, about=about), out / "checkpoints" / model)
    epoch = selection.epoch if selection else run.training.epochs
    write_json(
        out / "selection.json",
        {"rule": protocol.select, "epoch": epoch, "uar_by_epoch": list(selection.scores) if selection else []},
    )
    stored = load_checkpoint(folder)  # what is tested is what was written
    return TrainedFold(
        checkpoint=stored,
        last=stored.model if selection is None else last,
        epoch=epoch,
    )


def run_fold(
    tokens: StoredTokens,
    release: Release,
    clips: FoldClips,
    out: Path,
    planned: Callable[[GraceConfig], RunConfig],
    protocol: ProtocolConfig,
    *,
    model: str,
    encoder: str,
    use_votes: bool = False,
    tell: Report,
) -> FoldResult:
    """``train_fold``, then the test clips: ``predictions.csv`` and ``metrics.json`` of the chosen epoch.

    Raises:
        DataError: No usable training, held-out or test clip.
    """
    if not len(tokens.rows(clips.test)):
        raise DataError(f"fold {clips.name} has no usable test clip: none of {len(clips.test)} has a face")
    trained = train_fold(
        tokens, release, clips, out, planned, protocol, model=model, encoder=encoder, use_votes=use_votes, tell=tell
    )
    text_encoder = TextEncoder(BOX_FOLDER / "text")
    others = () if trained.last is trained.checkpoint.model else (trained.last,)
    answers = answer_clips(
        trained.checkpoint, tokens, clips.test, release, fold=clips.name, text_encoder=text_encoder, models=others
    )
    chosen, last = answers[0], answers[-1]
    sides = {side: getattr(clips, side) for side in ("train", "val", "test")}
    result = FoldResult(
        name=clips.name,
        chosen=chosen,
        last=last,
        epoch=trained.epoch,
        used={side: {"listed": len(names), "used": len(tokens.rows(names))} for side, names in sides.items()},
        val_kind=clips.val_kind,
        views=tokens.num_views(clips.test),
    )
    about = {
        "dataset": release.layout,
        "soft_labels": use_votes,
        "protocol": protocol_facts(protocol, result),
        "checkpoint": trained.checkpoint.about,
    }
    provenance, statuses = provenance_of(trained.checkpoint), tokens.features.statuses
    figures = write_scores(out, chosen, provenance, statuses=statuses, about=about, selection=protocol.select)
    name = f"{model} on fold {clips.name} of {release.layout}"
    rows: dict[str, Mapping[str, Any]] = {name: figures}
    if protocol.select != "last":
        rows[f"{name}, last epoch"] = {**summarize(last), "selection": "last"}
    write_results(out, rows)
    return result


def _selection(
    held: Features, coarse: CoarseClassifier, text_encoder: TextEncoder, labels: tuple[str, ...], *, rule: str
) -> EpochSelection:
    """Held-out clips as an epoch is judged on them: captions guided by a classifier that never saw them."""
    side = clip_set(held, labels)
    described = describe_all(side.units, side.timestamps, side.au_names, "box")
    texts = refine_all(described, test_guides(coarse, side.units), text_encoder, for_training=False)

    def predict(model: TrainedModel) -> np.ndarray:
        return predict_probabilities(model, side.visual, texts.tokens, summary=side.summary, motion=side.motion)

    key = digest_json(
        [rule, list(side.clip_ids), digest_rows(side.visual), digest_texts(texts.tokens), side.target.tolist()]
    )
    return EpochSelection(predict, side.target, len(labels), key=key)


def _votes(features: Features) -> np.ndarray:
    """Shares of the annotators.

    Raises:
        DataError: Some clips have none.
    """
    missing = [record.clip_id for record in features.records if record.votes is None]
    if missing:
        raise DataError(
            f"{len(missing)} training clips have no votes, such as {missing[0]}; prepare the store with --votes"
        )
    return np.array([record.votes for record in features.records])


def answer_clips(
    checkpoint: Checkpoint,
    tokens: StoredTokens,
    clip_ids: Sequence[str],
    release: Release,
    *,
    fold: str,
    text_encoder: TextEncoder,
    models: Sequence[TrainedModel] = (),
) -> list[ScoredClips]:
    """Answers of all clips, by the checkpoint and by other weights of the same run.

    The answer is the mean over a clip's different views; a clip without a face has none and counts as wrong.
    """
    rows = tokens.rows(clip_ids, all_views=True)
    answers: Sequence[np.ndarray] = [np.zeros((0, len(checkpoint.labels)))] * (1 + len(models))
    if len(rows):
        features = tokens.features.take(rows)
        found = answer_features(checkpoint, features, text_encoder, models=models)
        answers = list(found if models else found[None])
    by_id = {record.clip_id: record for record in release.records}
    return [
        scored_clips(
            [by_id[clip_id] for clip_id in clip_ids],
            mean_over_views(tokens.clip_ids[rows], answer),
            checkpoint.labels,
            fold=fold,
            among=release.records,
        )
        for answer in answers
    ]


def leak_mark(protocol: ProtocolConfig) -> str:
    """What every table of answers says of a run whose epoch was chosen on the test clips."""
    return f"; {LEAKY_MARK}" if protocol.select == "test-leaky" else ""


def protocol_facts(protocol: ProtocolConfig, *results: FoldResult) -> dict[str, Any]:
    """What a reader must know to believe the score."""
    views: dict[int, int] = {}
    for result in results:
        for number, count in result.views.items():
            views[number] = views.get(number, 0) + count
    return {
        "selection": protocol.select,
        "selection_rule": RULE_TEXT[protocol.select],
        "val_share": protocol.val_share if protocol.select == "val" else None,
        "validation": {result.name: result.val_kind for result in results} if protocol.select == "val" else None,
        "chosen_epoch": {result.name: result.epoch for result in results},
        "clips": {result.name: {side: dict(count) for side, count in result.used.items()} for result in results},
        **sampling_facts(protocol, views),
    }


def sampling_facts(protocol: ProtocolConfig, views: Mapping[int, int]) -> dict[str, Any]:
    """What of a clip the model was shown. ``views``: How many test clips have how many different views."""
    return {
        "sampling": f"{protocol.num_samples} frames, the same place of {protocol.num_samples} equal segments: deterministic",
        "views_asked": protocol.times * (2 if protocol.with_flip else 1),
        "test_clips_by_different_views": {str(number): views[number] for number in sorted(views)},
        "captions": CAPTIONS,
    }
