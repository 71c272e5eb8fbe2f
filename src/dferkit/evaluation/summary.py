"""Every reported figure of one system on one set of clips, as one plain dictionary.

It is written to ``metrics.json``; ``scripts/recompute`` computes all of it again from ``predictions.csv``. What is not
defined (recall of a class without clips, a spread over one fold) is None. ``docs/reference/metrics.md`` explains the
figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dferkit.evaluation.folds import FoldScores, evaluate_folds
from dferkit.evaluation.groups import AttributeScores, GroupScores, evaluate_groups
from dferkit.evaluation.metrics import (
    LEVEL,
    NUM_RESAMPLES,
    brier,
    expected_calibration_error,
    negative_log_likelihood,
)
from dferkit.evaluation.scored import ScoredClips, evaluate_clips
from dferkit.evaluation.selective import risk_coverage
from dferkit.schema import Evaluation

NUM_BINS = 15


def summarize(clips: ScoredClips, *, attributes: Sequence[str] = (), seed: int = 0) -> dict[str, Any]:
    """All figures.

    Args:
        attributes: Columns to score by group.
        seed: Of the bootstrap intervals.

    Raises:
        ConfigError: The clips have no such attribute.
        DataError: No clips, or a clip is twice in one fold.
    """
    evaluation = evaluate_clips(clips, seed=seed)
    failed = clips.true[~clips.has_answer]
    figures = {
        **evaluation_figures(evaluation),
        "num_failed_by_class": {label: int((failed == i).sum()) for i, label in enumerate(clips.labels)},
        "calibration": _calibration(clips),
        "folds": _folds(evaluate_folds(clips, seed=seed)) if len(set(clips.folds)) > 1 else None,
        "groups": {name: _groups(clips.labels, evaluate_groups(clips, name, seed=seed)) for name in attributes},
        "bootstrap": {
            "num_resamples": NUM_RESAMPLES,
            "level": LEVEL,
            "seed": seed,
            "draws": "clips" if clips.subjects is None else "subjects",
            "numpy": np.__version__,
        },
    }
    plain = _plain(figures)
    assert isinstance(plain, dict)
    return plain


def evaluation_figures(evaluation: Evaluation) -> dict[str, Any]:
    """The class scores alone, without probabilities, folds and groups."""
    figures = {
        **_scores(evaluation),
        "labels": list(evaluation.labels),
        "per_class_recall": dict(zip(evaluation.labels, evaluation.per_class_recall.tolist(), strict=True)),
        "confusion": np.asarray(evaluation.confusion).tolist(),
        "warnings": list(evaluation.warnings),
    }
    plain = _plain(figures)
    assert isinstance(plain, dict)
    return plain


def _scores(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "num_clips": evaluation.num_clips,
        "num_failed": evaluation.num_failed,
        "uar": evaluation.uar,
        "war": evaluation.war,
        "uar_ci95": list(evaluation.uar_ci95),
        "war_ci95": list(evaluation.war_ci95),
    }


def _calibration(clips: ScoredClips) -> dict[str, Any]:
    """Figures of the probabilities, over the clips with an answer."""
    answered = clips.take(clips.has_answer)
    num_clips, p, true = len(answered.clip_ids), answered.probabilities, answered.true
    return {
        "num_clips": num_clips,
        "num_bins": NUM_BINS,
        "expected_calibration_error": expected_calibration_error(p, true, num_bins=NUM_BINS) if num_clips else None,
        "negative_log_likelihood": negative_log_likelihood(p, true) if num_clips else None,
        "brier": brier(p, true) if num_clips else None,
        "aurc": risk_coverage(p, true).area if num_clips else None,
    }


def _folds(scores: FoldScores) -> dict[str, Any]:
    return {
        "num_folds": scores.num_folds,
        "of_fold": {fold: _scores(one) for fold, one in zip(scores.folds, scores.of_fold, strict=True)},
        "uar_mean": scores.uar_mean,
        "uar_sd": scores.uar_sd,
        "war_mean": scores.war_mean,
        "war_sd": scores.war_sd,
        "pooled": _scores(scores.pooled),
    }


def _groups(labels: tuple[str, ...], scores: AttributeScores) -> dict[str, Any]:
    return {
        "values": {group.value: _group(labels, group) for group in scores.groups},
        "num_without_value": scores.num_without_value,
        "uar_gap": scores.uar_gap,
        "war_gap": scores.war_gap,
    }


def _group(labels: tuple[str, ...], group: GroupScores) -> dict[str, Any]:
    """Counts always; figures only where there are enough clips."""
    counts = dict(zip(labels, group.clips_per_class.tolist(), strict=True))
    head = {"num_clips": group.num_clips, "has_enough_data": group.has_enough, "clips_per_class": counts}
    if group.evaluation is None or group.recall_ci95 is None:
        return head
    return {
        **head,
        **_scores(group.evaluation),
        "per_class_recall": dict(zip(labels, group.evaluation.per_class_recall.tolist(), strict=True)),
        "recall_ci95": dict(zip(labels, group.recall_ci95.tolist(), strict=True)),
    }


def _plain(value: Any) -> Any:
    """NaN as None, which JSON can hold."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
