"""Answers beside the truth, and the files of a scoring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dferkit.errors import DataError
from dferkit.evaluation.scored import ScoredClips
from dferkit.evaluation.summary import summarize
from dferkit.judgement import Place, answer_row
from dferkit.models.checkpoint import Checkpoint
from dferkit.readings import ClassTables, OnnxFrames
from dferkit.reports.scored_table import write_scored
from dferkit.reports.tables import Provenance, clean_json
from dferkit.schema import ClipStatus, Prediction, Record
from dferkit.storage import write_json

_MOST_GROUPS = 40
BASELINES = "baselines"
"""Key of ``metrics.json``, and folder of each baseline's own tables."""


def provenance_of(checkpoint: Checkpoint) -> Provenance:
    """What every table records of the model."""
    about = checkpoint.about
    return Provenance(
        model=str(about["name"]),
        weights_sha256=checkpoint.digest,
        calibration=str(about["calibration"]),
        trained_on=str(about["trained_on"]),
        front_end=str(about["front_end"]),
    )


def clip_predictions(clips: ScoredClips, statuses: Mapping[str, ClipStatus], front_end: str) -> list[Prediction]:
    """One row per clip, in their order; a clip without an answer keeps its reason. ``front_end``: What the model reads of a face."""
    rows = []
    for clip_id, probabilities, has_answer in zip(clips.clip_ids, clips.probabilities, clips.has_answer, strict=True):
        place, seen = Place(input=clip_id, clip_id=clip_id, track_id=0 if has_answer else -1), statuses[clip_id]
        answer = probabilities if has_answer else None
        rows.append(answer_row(place, seen, clips.labels, answer, front_end=front_end))
    return rows


def scored_clips(
    records: Sequence[Record],
    answered: Mapping[str, np.ndarray],
    labels: tuple[str, ...],
    *,
    fold: str = "",
    among: Sequence[Record] | None = None,
) -> ScoredClips:
    """The answers beside the truth; a clip without an answer has a row of NaN and counts as wrong.

    Attributes of the records become those of the clips, empty where a record has none.

    Args:
        among: The whole set, so that all its parts get the same columns; by default these records alone.

    Raises:
        DataError: No records.
    """
    if not records:
        raise DataError(f"fold {fold} has no test clip" if fold else "there is no clip to score")
    missing = np.full(len(labels), np.nan)
    whole = records if among is None else among
    has_people = all(r.subject for r in whole)
    attributes = sorted({name for r in whole for name in r.attributes})
    return ScoredClips(
        labels=labels,
        clip_ids=tuple(r.clip_id for r in records),
        true=np.array([labels.index(str(r.label)) for r in records], dtype=np.int64),
        probabilities=np.stack([answered.get(r.clip_id, missing) for r in records]).astype(np.float64),
        folds=(fold,) * len(records),
        subjects=tuple(str(r.subject) for r in records) if has_people else None,
        attributes={name: tuple(r.attributes.get(name, "") for r in records) for name in attributes},
    )


def groups_of(clips: ScoredClips) -> tuple[str, ...]:
    """Attributes that are worth a table: with more than one value, and not with one for every clip."""
    return tuple(name for name, values in clips.attributes.items() if 1 < len(set(values) - {""}) <= _MOST_GROUPS)


def write_scores(
    out: Path,
    clips: ScoredClips,
    provenance: Provenance,
    *,
    statuses: Mapping[str, ClipStatus] | None = None,
    about: Mapping[str, Any] | None = None,
    further: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Write ``predictions.csv`` and, with every figure of it, ``metrics.json``.

    Args:
        statuses: What became of each clip, by clip id, for the table.
        about: Stands in ``metrics.json`` under ``model``; not a figure.
        further: More figures; those without a value are left out. ``selection``: how the epoch was chosen. ``baselines``: figures of other
            classifiers on the same clips, by name (``score_baselines``).

    Returns:
        The figures, as ``evaluation.summary.summarize`` gives them, and the further ones.
    """
    figures = {
        **summarize(clips, attributes=groups_of(clips), seed=seed),
        **{name: value for name, value in (further or {}).items() if value},
    }
    predictions = None if statuses is None else clip_predictions(clips, statuses, provenance.front_end)
    write_scored(out / "predictions.csv", clips, provenance, predictions=predictions)
    write_json(out / "metrics.json", clean_json({**figures, **({"model": about} if about else {})}))
    return figures


def score_baselines(
    sources: Mapping[str, ClassTables | OnnxFrames], scored: Mapping[str, ScoredClips], out: Path
) -> dict[str, dict[str, Any]]:
    """Figures of each outside classifier on the same clips, with ``source`` and ``notes``; its own tables go to ``baselines/NAME/``.

    A clip without an answer counts as wrong, as it does for the model.
    """
    rows = {}
    for name, source in sources.items():
        about = {"source": source.name, "notes": list(source.notes)}
        provenance = Provenance(
            model=source.name,
            front_end="pixels" if isinstance(source, OnnxFrames) else "not known",
            weights_sha256=source.digest if isinstance(source, OnnxFrames) else "",
            calibration="UNKNOWN",
            trained_on="not known; another tool's classifier may have seen these clips",
        )
        rows[name] = {**write_scores(out / BASELINES / name, scored[name], provenance, about=about), **about}
    return rows
