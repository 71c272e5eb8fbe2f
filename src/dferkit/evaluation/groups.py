"""Scores by group: is a model equally good for every scene, or every kind of person?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from dferkit.errors import ConfigError
from dferkit.evaluation.metrics import wilson_interval
from dferkit.evaluation.scored import ScoredClips, evaluate_clips
from dferkit.schema import Evaluation

MIN_CLIPS = 30
"""A group with fewer clips has insufficient data: it has no figures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupScores:
    """Scores of the clips that share a value.

    Attributes:
        evaluation: None with insufficient data (fewer than ``MIN_CLIPS`` clips). Its UAR is over the classes present in
            the group, so two groups' UAR may be over different classes.
        clips_per_class: Clips of each true class.
        recall_ci95: Wilson interval of each class's recall (low, high); NaN for a class without clips; None with
            insufficient data.
    """

    value: str
    num_clips: int
    evaluation: Evaluation | None
    clips_per_class: Int64[np.ndarray, " classes"]
    recall_ci95: Float64[np.ndarray, "classes 2"] | None

    @property
    def has_enough(self) -> bool:
        """Whether there are figures."""
        return self.evaluation is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class AttributeScores:
    """Scores per value of one attribute.

    Attributes:
        groups: Sorted by value.
        num_without_value: Clips whose value is empty; they are in no group.
        uar_gap, war_gap: Best minus worst group with enough data; NaN with fewer than two such groups.
    """

    attribute: str
    groups: tuple[GroupScores, ...]
    num_without_value: int
    uar_gap: float
    war_gap: float


def evaluate_groups(clips: ScoredClips, attribute: str, *, seed: int = 0) -> AttributeScores:
    """Scores per value of ``clips.attributes[attribute]``.

    Raises:
        ConfigError: The clips have no such attribute.
        DataError: A clip is twice in one fold.
    """
    if attribute not in clips.attributes:
        known = ", ".join(sorted(clips.attributes)) or "none"
        raise ConfigError(f"the clips have no attribute {attribute!r}; known: {known}")
    of_clip = np.array(clips.attributes[attribute], dtype=object)
    values = sorted({value for value in clips.attributes[attribute] if value})
    groups = tuple(_score_group(value, clips.take(of_clip == value), seed) for value in values)
    found = [group.evaluation for group in groups if group.evaluation is not None]
    return AttributeScores(
        attribute=attribute,
        groups=groups,
        num_without_value=int((of_clip == "").sum()),
        uar_gap=_gap([evaluation.uar for evaluation in found]),
        war_gap=_gap([evaluation.war for evaluation in found]),
    )


def _score_group(value: str, clips: ScoredClips, seed: int) -> GroupScores:
    total = np.bincount(clips.true, minlength=len(clips.labels)).astype(np.int64)
    if len(clips.clip_ids) < MIN_CLIPS:
        return GroupScores(
            value=value, num_clips=len(clips.clip_ids), evaluation=None, clips_per_class=total, recall_ci95=None
        )
    evaluation = evaluate_clips(clips, seed=seed)
    return GroupScores(
        value=value,
        num_clips=len(clips.clip_ids),
        evaluation=evaluation,
        clips_per_class=total,
        recall_ci95=wilson_interval(np.diagonal(evaluation.confusion), total),
    )


def _gap(scores: list[float]) -> float:
    return max(scores) - min(scores) if len(scores) > 1 else float("nan")
