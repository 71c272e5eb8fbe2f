"""``predictions.csv`` of an evaluation: every answer beside its truth, exact enough to work all figures out again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dferkit.errors import DataError
from dferkit.evaluation.scored import ScoredClips
from dferkit.faces.status import status_of_answer
from dferkit.reports.tables import Provenance, prediction_table, write_table
from dferkit.schema import Prediction

ATTRIBUTE_PREFIX = "attr_"


def scored_table(
    clips: ScoredClips, provenance: Provenance, *, predictions: Sequence[Prediction] | None = None
) -> pd.DataFrame:
    """``prediction_table`` with ``true_label``, ``fold``, ``subject`` and ``attr_…`` at the end, one row per clip.

    Args:
        predictions: What else is known of each answer, in the order of the clips; by default only what ``clips`` tells.

    Raises:
        DataError: The predictions are not those of the clips.
    """
    if predictions is None:
        predictions = [_prediction(clips, row, int(number)) for row, number in enumerate(clips.predicted)]
    named = tuple(prediction.clip_id for prediction in predictions)
    if named != clips.clip_ids:
        raise DataError(
            f"got {len(named)} predictions for {len(clips.clip_ids)} clips; give one per clip, in the same order"
        )
    table = prediction_table(predictions, provenance, labels=clips.labels)
    table[list(clips.labels)] = clips.probabilities
    table["true_label"] = [clips.labels[i] for i in clips.true]
    table["fold"] = list(clips.folds)
    table["subject"] = [""] * len(named) if clips.subjects is None else list(clips.subjects)
    for name, values in clips.attributes.items():
        table[ATTRIBUTE_PREFIX + name] = list(values)
    return table


def write_scored(
    path: Path | str,
    clips: ScoredClips,
    provenance: Provenance,
    *,
    predictions: Sequence[Prediction] | None = None,
) -> None:
    """Write ``scored_table``; numbers are the shortest text that reads back as the same float64."""
    write_table(path, scored_table(clips, provenance, predictions=predictions), float_format=None)


def _prediction(clips: ScoredClips, row: int, predicted: int) -> Prediction:
    is_answered = predicted >= 0
    return Prediction(
        input=clips.clip_ids[row],
        clip_id=clips.clip_ids[row],
        track_id=0 if is_answered else -1,
        window=0,
        start_seconds=float("nan"),
        end_seconds=float("nan"),
        labels=clips.labels,
        label=clips.labels[predicted] if is_answered else None,
        probabilities=clips.probabilities[row] if is_answered else None,
        status=status_of_answer(is_answered),
    )
