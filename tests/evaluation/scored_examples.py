"""Answers of an imagined system, with all that makes scoring hard: unequal skill, ties, failures, an absent class."""

from __future__ import annotations

import numpy as np

from dferkit.evaluation.scored import ScoredClips
from dferkit.labels import BASIC


def imagined_clips(
    num_clips: int = 240,
    *,
    seed: int = 0,
    skill: float = 0.5,
    num_folds: int = 5,
    fails_every: int = 17,
    has_subjects: bool = False,
    labels: tuple[str, ...] = BASIC,
    num_present: int | None = None,
) -> ScoredClips:
    """Random clips; the truth does not depend on ``seed`` or ``skill``, so two calls are two systems on the same clips."""
    num_classes = len(labels)
    true = np.random.default_rng(99).integers(num_present or num_classes, size=num_clips)
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.full(num_classes, 0.6), size=num_clips)
    p[np.arange(num_clips), true] += skill * random.random(num_clips)
    p /= p.sum(1, keepdims=True)
    p[1:6] = p[0]  # equal confidence
    if fails_every:
        p[::fails_every] = np.nan
    scenes = ("school", "crisis", "", "rare")
    return ScoredClips(
        labels=labels,
        clip_ids=tuple(f"clip {i:05d}" for i in range(num_clips)),
        true=true,
        probabilities=p,
        folds=tuple(f"fd{1 + i % num_folds}" if num_folds else "" for i in range(num_clips)),
        subjects=tuple(f"s{i % 23}" for i in range(num_clips)) if has_subjects else None,
        attributes={"scene": tuple(scenes[3 if i < 20 else i % 3] for i in range(num_clips))},
    )
