"""``dferkit train --from``: the heads of a trained checkpoint, adapted to a few dozen clips and judged on people left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dferkit.datasets import check_disjoint, choose_split, read_manifest
from dferkit.encoders.box import BOX_FOLDER
from dferkit.encoders.text import TextEncoder
from dferkit.errors import ConfigError, DataError, ManifestError
from dferkit.evaluation.compare import Comparison, Difference, compare
from dferkit.evaluation.scored import ScoredClips, join
from dferkit.evaluation.summary import evaluation_figures
from dferkit.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dferkit.models.coarse import assign_folds
from dferkit.models.grace import Grace
from dferkit.recipes.provenance import (
    UNCALIBRATED,
    about_checkpoint,
    check_fits,
    check_not_trained_on,
    count_clips,
    plural,
)
from dferkit.recipes.scoring import answer_features, provenance_of, scored_clips, write_scores
from dferkit.recipes.training_run import apply_settings
from dferkit.reports.tables import Provenance, clean_json
from dferkit.schema import Record, TextTokens
from dferkit.storage import digest_file, write_json
from dferkit.tokens.captioned import caption_unseen
from dferkit.tokens.dataset import clip_set
from dferkit.tokens.features import FeatureConfig, Features, extract_features, one_thread
from dferkit.training.adaptation import AdaptationConfig, adapt_grace
from dferkit.training.loop import predict_logits

Report = Callable[[str, int, int, str], None]
MOST_FOLDS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptationRun:
    """One adaptation; ``--set training.epochs=10`` changes a field."""

    training: AdaptationConfig


def adapt_manifest(
    manifest: Path | str,
    start: Checkpoint,
    out: Path | str,
    *,
    face: str = "haar",
    seed: int = 0,
    settings: Sequence[str] = (),
    workers: int | None = None,
    on_progress: Report | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Adapt a checkpoint to the train rows of a manifest (all rows without a split column), after cross-validation over people.

    Every person is answered by a model that was adapted without them, and by the start; ``predictions.csv`` and ``metrics.json`` are the
    adapted answers, those below ``start/`` the start's. The written weights come from all train rows. Rows marked val or test are only
    measured. The start's coarse classifier stays: it has seen none of these clips, so its guides leak nothing.
    The same command goes on after an interruption.

    Returns:
        The checkpoint's folder and the figures of ``train.json``.

    Raises:
        ManifestError: The manifest is wrong, has no train row, or names not every person.
        ConfigError: An unknown setting, or the start was trained on these clips.
        CheckpointError: The start stands on another box or encoder than those installed.
        DataError: Clips of one person or of one class only, also without the people of one fold.
    """
    manifest, out, tell = Path(manifest), Path(out), on_progress or (lambda stage, done, of, note: None)
    run: AdaptationRun = apply_settings(AdaptationRun(training=AdaptationConfig(seed=seed)), settings)
    if not isinstance(start.model, Grace):
        raise ConfigError(f"{start.about['name']} cannot be adapted: --from takes box or a GRACE checkpoint")
    records = read_manifest(manifest, labels=start.labels)
    rows = training_rows(records, manifest.name)
    check_not_trained_on(start, manifest)
    check_fits(start, box=BOX_FOLDER)
    config = FeatureConfig(face=face, encoder=str(start.about["encoder"]), motion=start.model.motion_source)
    features = extract_features(
        rows,
        out / "cache" / "train",
        config,
        workers=workers,
        on_progress=lambda a, b: tell("faces and tokens", a, b, ""),
    )
    text_encoder = TextEncoder(BOX_FOLDER / "text")
    name = "grace" if start.about["name"] == "box" else str(start.about["name"])
    trained_on = f"{manifest.name} ({count_clips(len(features.records), [str(r.subject) for r in features.records])}), from {start.about['name']}: {start.about['trained_on']}"
    with one_thread():
        clips = adaptable(start, features, text_encoder)
        fold_of = folds_of(rows, clips)
        adapted = cross_validate(start.model, clips, rows, fold_of, run.training, out / "state", tell)
        final = adapt(start.model, clips, run.training, out / "state" / "final", tell, "adapting on all clips")
    about = about_checkpoint(
        name,
        box=BOX_FOLDER,
        trained_on=trained_on,
        encoder=str(start.about["encoder"]),
        encoder_digest=features.encoder_digest,
        caption=dict(start.about["caption"]),
        seed=run.training.seed,
        data_digest=digest_file(manifest),
        training=dataclasses.asdict(run.training),
        start={"name": start.about["name"], "weights_sha256": start.digest, "trained_on": start.about["trained_on"]},
    )
    folder = save_checkpoint(Checkpoint(model=final, coarse=start.coarse, about=about), out / "checkpoints" / name)
    checkpoint = load_checkpoint(folder)  # what is measured is what was written
    as_it_was = _in_folds(start, features, rows, fold_of, text_encoder)
    comparison = compare(as_it_was, adapted, seed=seed)
    write_scores(
        out,
        adapted,
        Provenance(model=name, calibration=UNCALIBRATED, trained_on=f"{trained_on}; each answer from the other folds"),
        statuses=features.statuses,
        about={"model": name, "start": about["start"], "training": about["training"]},
        seed=seed,
    )
    write_scores(out / "start", as_it_was, provenance_of(start), statuses=features.statuses, seed=seed)
    figures: dict[str, Any] = {
        "model": name,
        "start": about["start"],
        "train_clips": len(clips.target),
        "people": len({str(r.subject) for r in rows}),
        "classes": {label: int(np.sum(clips.target == i)) for i, label in enumerate(start.labels)},
        "failed": len(rows) - len(clips.target),
        "folds": int(max(fold_of.values())) + 1,
        "cross_validation": comparison_figures(comparison),
        "verdict": verdict(comparison.uar, str(start.about["name"])),
    }
    for split in ("val", "test"):
        side = [r for r in records if r.split == split]
        if side:
            figures[split] = _measure(
                side, start, checkpoint, out / "cache" / split, config, text_encoder, workers, seed
            )
    write_json(out / "train.json", clean_json(figures))
    return folder, figures


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptableClips:
    """Clips as an adaptation reads them: cached tokens, captions guided by the start's classifier, classes."""

    features: Features
    texts: tuple[TextTokens, ...]
    target: np.ndarray

    def take(self, chosen: np.ndarray) -> AdaptableClips:
        """Some clips, by number."""
        return AdaptableClips(
            features=self.features.take(chosen),
            texts=tuple(self.texts[i] for i in chosen),
            target=self.target[chosen],
        )


def adaptable(start: Checkpoint, features: Features, encoder: TextEncoder) -> AdaptableClips:
    """Captions of clips that the start has never seen."""
    clips = clip_set(features, start.labels)
    captioned = caption_unseen(start, clips.units, clips.timestamps, clips.au_names, encoder, for_training=True)
    return AdaptableClips(features=features, texts=captioned.tokens, target=clips.target)


def training_rows(records: Sequence[Record], name: str) -> list[Record]:
    """Rows to adapt on: those marked train, or all where there is no split column.

    Raises:
        ManifestError: No such row, a row without a subject, or a person in two splits.
        DataError: All are of one person, or of one class.
    """
    check_disjoint(list(records))
    rows = choose_split(list(records), "train")
    if not rows:
        raise ManifestError(f"{name} has a split column, but no row with split train")
    nameless = [row.clip_id for row in rows if not row.subject]
    if nameless:
        raise ManifestError(
            f"{name} names no subject for {plural(len(nameless), 'clip', 'clips')}, such as {nameless[0]}; fill the column subject, since an adaptation is judged on people that it has not seen"
        )
    people, classes = {str(row.subject) for row in rows}, {str(row.label) for row in rows}
    if len(people) < 2:
        raise DataError(
            f"all {len(rows)} clips are of one person ({people.pop()}); give clips of at least two people, better ten"
        )
    if len(classes) < 2:
        raise DataError(f"all {len(rows)} clips are labelled {classes.pop()}; give clips of at least two classes")
    return rows


def folds_of(rows: Sequence[Record], clips: AdaptableClips) -> dict[str, int]:
    """Fold of each person; clips that could not be read stand in the fold of their person.

    Raises:
        DataError: Without the people of one fold, fewer than two classes are left.
    """
    people = np.array([str(row.subject) for row in rows])
    fold_of = dict(zip(people.tolist(), assign_folds(people, folds=MOST_FOLDS).tolist(), strict=True))
    of_clip = _fold_numbers(clips.features, fold_of)
    for fold in range(max(fold_of.values()) + 1):
        left = len(np.unique(clips.target[of_clip != fold]))
        if left < 2:
            held = ", ".join(sorted(person for person, number in fold_of.items() if number == fold))
            raise DataError(
                f"without {held} the usable clips are of {plural(left, 'class', 'classes')}; give clips of more people in every class"
            )
    return fold_of


def cross_validate(
    start: Grace,
    clips: AdaptableClips,
    rows: Sequence[Record],
    fold_of: Mapping[str, int],
    config: AdaptationConfig,
    state: Path,
    tell: Report,
) -> ScoredClips:
    """Answers of all rows, each by a model that was adapted without the clip's person."""
    of_clip = _fold_numbers(clips.features, fold_of)
    answered: dict[str, np.ndarray] = {}
    for fold in range(max(fold_of.values()) + 1):
        held, rest = np.flatnonzero(of_clip == fold), np.flatnonzero(of_clip != fold)
        model = adapt(start, clips.take(rest), config, state / f"fold{fold}", tell, f"adapting without fold {fold}")
        if len(held):
            answered |= _answers(model, clips.take(held))
    return _scored_in_folds(rows, answered, start.config.labels, fold_of)


def adapt(
    start: Grace, clips: AdaptableClips, config: AdaptationConfig, state: Path, tell: Report, stage: str
) -> Grace:
    """``adapt_grace`` on these clips."""
    return adapt_grace(
        start,
        clips.features.visual,
        clips.texts,
        clips.target,
        summary=clips.features.summary,
        motion=clips.features.motion,
        config=config,
        state=state,
        on_progress=lambda a, b, loss: tell(stage, a, b, f"loss {loss:.3f}"),
    )


def comparison_figures(found: Comparison) -> dict[str, Any]:
    """Scores of both on the same clips, and adapted minus start with its paired interval."""
    return {
        "adapted": evaluation_figures(found.b),
        "start": evaluation_figures(found.a),
        "difference": {
            **{
                name: {"value": d.value, "ci95": [d.low, d.high]}
                for name, d in (("uar", found.uar), ("war", found.war))
            },
            "per_class_recall": dict(zip(found.labels, found.recall_difference.tolist(), strict=True)),
            "intervals_by": "subjects" if found.is_by_subject else "clips",
        },
    }


def verdict(uar: Difference, start: str) -> str:
    """What cross-validation shows of the adaptation, in one sentence; from the interval of the difference in UAR."""
    numbers = f"UAR {uar.value:+.3f}, 95 % interval {uar.low:+.3f} to {uar.high:+.3f}"
    if uar.low > 0:
        return f"On people left out, adapting helps ({numbers})."
    if uar.high < 0:
        return f"On people left out, adapting does harm ({numbers}): stay with {start}."
    return f"These clips do not show that adapting helps ({numbers}): {start} is the safer choice, more people are the remedy."


def _fold_numbers(features: Features, fold_of: Mapping[str, int]) -> np.ndarray:
    return np.array([fold_of[str(record.subject)] for record in features.records])


def _answers(model: Grace, clips: AdaptableClips) -> dict[str, np.ndarray]:
    """Probabilities by clip id; a model in training has no temperature."""
    features = clips.features
    logits = predict_logits(model, features.visual, clips.texts, summary=features.summary, motion=features.motion)
    return _by_clip(features, logits.softmax(1).numpy())


def _by_clip(features: Features, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    return {record.clip_id: row for record, row in zip(features.records, probabilities, strict=True)}


def _in_folds(
    start: Checkpoint, features: Features, rows: Sequence[Record], fold_of: Mapping[str, int], encoder: TextEncoder
) -> ScoredClips:
    answered = _by_clip(features, answer_features(start, features, encoder))
    return _scored_in_folds(rows, answered, start.labels, fold_of)


def _scored_in_folds(
    rows: Sequence[Record], answered: Mapping[str, np.ndarray], labels: tuple[str, ...], fold_of: Mapping[str, int]
) -> ScoredClips:
    parts = []
    for fold in range(max(fold_of.values()) + 1):
        held = [row for row in rows if fold_of[str(row.subject)] == fold]
        parts.append(scored_clips(held, answered, labels, fold=str(fold), among=rows))
    return join(parts)


def _measure(
    records: Sequence[Record],
    start: Checkpoint,
    adapted: Checkpoint,
    cache: Path,
    config: FeatureConfig,
    encoder: TextEncoder,
    workers: int | None,
    seed: int,
) -> dict[str, Any]:
    """Both checkpoints on rows that nothing was adapted on."""
    features = extract_features(records, cache, config, workers=workers)
    sides = [
        scored_clips(records, _by_clip(features, answer_features(checkpoint, features, encoder)), checkpoint.labels)
        for checkpoint in (start, adapted)
    ]
    return comparison_figures(compare(*sides, seed=seed))
