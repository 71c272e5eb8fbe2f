"""``dferkit train --from``: a trained model, adapted to a few dozen clips and judged on people left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dferkit.encoders.open import open_text_encoder
from dferkit.errors import DataError, ManifestError
from dferkit.evaluation.compare import Comparison, compare
from dferkit.evaluation.metrics import Estimate
from dferkit.evaluation.scored import ScoredClips, join
from dferkit.evaluation.summary import evaluation_figures
from dferkit.faces.status import unused_clips
from dferkit.models.checkpoint import Checkpoint
from dferkit.models.coarse import assign_folds
from dferkit.models.installed import check_fits
from dferkit.recipes.data import LabelledClips, Sides, for_labels
from dferkit.recipes.provenance import check_not_trained_on, claim_training, count_clips, plural
from dferkit.recipes.scores import provenance_of, scored_clips, write_scores
from dferkit.reports.comparison import difference_figures
from dferkit.reports.tables import clean_json
from dferkit.schema import Record, ReportProgress
from dferkit.storage import write_json
from dferkit.tokens.captioned import caption_unseen, with_texts
from dferkit.tokens.dataset import TokenDataset
from dferkit.tokens.features import TokenConfig, one_thread
from dferkit.training.fit import Fitted, fit
from dferkit.training.score import predict_probabilities, score
from dferkit.training.spec import TrainingSpec

MOST_FOLDS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sides:
    """Rows to adapt on, their tokens, and the fold of each person."""

    rows: Sequence[Record]
    data: TokenDataset
    fold_of: Mapping[str, int]

    @property
    def folds(self) -> range:
        """Numbers of the folds."""
        return range(max(self.fold_of.values()) + 1)

    @property
    def fold_of_row(self) -> np.ndarray:
        """Fold of each row of ``data``."""
        return np.array([self.fold_of[str(record.subject)] for record in self.data.records])

    def scored(self, answered: Mapping[str, np.ndarray]) -> ScoredClips:
        """Answers fold by fold; a clip without one counts as wrong."""
        parts = []
        for fold in self.folds:
            held = [row for row in self.rows if self.fold_of[str(row.subject)] == fold]
            parts.append(scored_clips(held, answered, self.data.labels, fold=str(fold), among=self.rows))
        return join(parts)


def adapt(clips: LabelledClips, out: Path, spec: TrainingSpec, report: ReportProgress) -> tuple[Path, dict[str, Any]]:
    """Adapt ``spec.start`` to the training side of a data set (all rows without a split), after cross-validation over people.

    Every person is answered by a model that was adapted without them, and by the start; ``predictions.csv`` and ``metrics.json`` are the
    adapted answers, those below ``start/`` the start's. The written weights come from all train rows. Rows marked val or test are only
    measured. The start's coarse classifier stays: it has seen none of these clips, so its guides leak nothing.
    The same command goes on after an interruption.

    Returns:
        The checkpoint's folder and the figures of ``train.json``.

    Raises:
        ManifestError: The data set has no train row, or names not every person.
        ConfigError: An unknown setting, a model without weights to adapt, the start was trained on these clips or lacks one of their classes, a
            store has several folds and none is named, or the folder holds another run.
        CheckpointError: The start was trained on top of other parts than those installed.
        DataError: Clips of one person or of one class only, also without the people of one fold.
    """
    start = spec.start
    assert start is not None
    run = spec.plan()
    clips = for_labels(clips, start.labels)
    marked = clips.sides()
    rows = training_rows(marked, clips.name)
    check_not_trained_on(start, clips, [row.clip_id for row in rows])
    check_fits(start)
    claim_training(out, clips, spec, run.training)
    config = TokenConfig(encoder=spec.encoder, motion=start.model.motion_source, device=spec.device)
    data = clips.read(rows, config, part="train", report=report)
    name = start.name
    people = [str(r.subject) for r in data.records]
    trained_on = (
        f"{clips.name} ({count_clips(len(data), people)}), from {start.about['name']}: {start.about['trained_on']}"
    )
    with one_thread():
        data = _captioned(start, data)
        sides = _Sides(rows=rows, data=data, fold_of=folds_of(rows, data))
        adapted = cross_validate(sides, spec, out / "state", report)
        fitted = fit(data, spec, state=out / "state" / "final", stage="adapting on all clips", on_progress=report)
        about_start = {"weights_sha256": start.digest, **{key: start.about[key] for key in ("name", "trained_on")}}
        folder = out / "checkpoints" / name
        facts = {
            "caption": dict(start.about["caption"]),
            "start": about_start,
            "selection": "last",
            "fold": marked.fold,
        }
        checkpoint = fitted.save(folder, trained_on, name=name, **facts, **clips.about)
        as_it_was = sides.scored(score(start, data, device=spec.device).of_clips())
    comparison = compare(as_it_was, adapted, seed=spec.seed)
    write_scores(
        out,
        adapted,
        replace(
            provenance_of(checkpoint), weights_sha256="", trained_on=f"{trained_on}; each answer from the other folds"
        ),
        statuses=data.statuses,
        about={"model": name, "start": about_start, "training": asdict(run.training)},
        seed=spec.seed,
    )
    write_scores(out / "start", as_it_was, provenance_of(start), statuses=data.statuses, seed=spec.seed)
    figures: dict[str, Any] = {
        "model": name,
        "start": about_start,
        "train_clips": len(data),
        "people": len({str(r.subject) for r in rows}),
        "classes": {label: int(np.sum(data.target == i)) for i, label in enumerate(start.labels)},
        "unused": unused_clips(data.statuses, (row.clip_id for row in rows)),
        "folds": len(sides.folds),
        "cross_validation": compared_figures(comparison),
        "verdict": verdict(comparison.uar, str(start.about["name"])),
    }
    for split, side in (("val", marked.val), ("test", marked.test)):
        if side:
            held = _captioned(start, clips.read(side, config, part=split, report=report))
            figures[split] = _compare_on(held, side, start, checkpoint, spec)
    write_json(out / "train.json", clean_json(figures))
    return folder, figures


def _compare_on(
    held: TokenDataset, rows: Sequence[Record], start: Checkpoint, adapted: Checkpoint, spec: TrainingSpec
) -> dict[str, Any]:
    """Scores of both on clips that nothing was adapted on."""
    pair = [scored_clips(rows, score(one, held, device=spec.device).of_clips(), one.labels) for one in (start, adapted)]
    return compared_figures(compare(*pair, seed=spec.seed))


def _captioned(start: Checkpoint, data: TokenDataset) -> TokenDataset:
    """Captions of clips that the start has never seen; start and adapted model read the same."""
    encoder = open_text_encoder(str(start.about["text_encoder"]), str(start.about["encoder"]))
    return with_texts(data, caption_unseen(start, data, encoder, for_training=True))


def training_rows(sides: Sides, name: str) -> list[Record]:
    """Rows to adapt on: the training side, or all where there are no sides.

    Raises:
        ManifestError: No such row, or a row without a subject.
        DataError: All are of one person, or of one class.
    """
    rows = sides.of("train")
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


def folds_of(rows: Sequence[Record], data: TokenDataset) -> dict[str, int]:
    """Fold of each person; clips that could not be read are in the fold of their person.

    Raises:
        DataError: Without the people of one fold, fewer than two classes are left.
    """
    people = np.array([str(row.subject) for row in rows])
    fold_of = dict(zip(people.tolist(), assign_folds(people, folds=MOST_FOLDS).tolist(), strict=True))
    sides = _Sides(rows=rows, data=data, fold_of=fold_of)
    for fold in sides.folds:
        left = len(np.unique(data.target[sides.fold_of_row != fold]))
        if left < 2:
            held = ", ".join(sorted(person for person, number in fold_of.items() if number == fold))
            raise DataError(
                f"without {held} the usable clips are of {plural(left, 'class', 'classes')}; give clips of more people in every class"
            )
    return fold_of


def cross_validate(sides: _Sides, spec: TrainingSpec, state: Path, report: ReportProgress) -> ScoredClips:
    """Answers of all rows, each by a model that was adapted without the clip's person."""
    answered: dict[str, np.ndarray] = {}
    for fold in sides.folds:
        is_held = sides.fold_of_row == fold
        fitted: Fitted = fit(
            sides.data.take(np.flatnonzero(~is_held)),
            spec,
            state=state / f"fold{fold}",
            stage=f"adapting without fold {fold}",
            on_progress=report,
        )
        if is_held.any():
            held = sides.data.take(np.flatnonzero(is_held))
            probabilities = predict_probabilities(fitted.model, held, device=spec.device)
            answered |= dict(zip(held.clip_ids, probabilities, strict=True))
    return sides.scored(answered)


def compared_figures(found: Comparison) -> dict[str, Any]:
    """Scores of both on the same clips, and adapted minus start with its paired interval."""
    return {
        "adapted": evaluation_figures(found.b),
        "start": evaluation_figures(found.a),
        "difference": difference_figures(found),
    }


def verdict(uar: Estimate, start: str) -> str:
    """What cross-validation shows of the adaptation, in one sentence; from the interval of the difference in UAR."""
    numbers = f"UAR {uar.value:+.3f}, 95 % interval {uar.low:+.3f} to {uar.high:+.3f}"
    if uar.low > 0:
        return f"On people left out, adapting helps ({numbers})."
    if uar.high < 0:
        return f"On people left out, adapting does harm ({numbers}): keep {start}."
    return f"These clips do not show that adapting helps ({numbers}): keep {start}, or add clips of more people."
