"""A file of predictions, and its rows as scored clips."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Float64, Int64

from dferkit.errors import DataError
from dferkit.evaluation.scored import ScoredClips
from dferkit.labels import shared_labels

LEAKY_MARK = "EPOCH CHOSEN ON THE TEST CLIPS"
"""Text in the column ``trained_on`` of answers whose score is too good for that reason."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionFile:
    """Content of a file of predictions; the true classes may be missing.

    Attributes:
        true: Number of the true class, -1 where the file does not have it.
        notes: Decisions made on reading, in sentences.
    """

    name: str
    labels: tuple[str, ...]
    clip_ids: tuple[str, ...]
    true: Int64[np.ndarray, " clips"]
    probabilities: Float64[np.ndarray, "clips classes"]
    folds: tuple[str, ...]
    subjects: tuple[str, ...] | None = None
    attributes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def has_truth(self) -> bool:
        """Every row has its true class."""
        return bool((self.true >= 0).all())

    def scored(self, truth: ScoredClips | None = None) -> ScoredClips:
        """The rows with their truth, in the order of the file.

        Args:
            truth: Rows of the same clips to take truth, names, folds, subjects and attributes from. Clips are matched
                by name; if not one name fits, by file name without folder and ending.

        Raises:
            DataError: The file has no true classes and none are given, classes or clips differ, or true classes contradict
                each other (as they do when the class order is not the right one).
        """
        if truth is None:
            if not self.has_truth:
                raise DataError(
                    f"{self.name} has no true classes; give a file that does, such as our predictions.csv of the same clips"
                )
            return ScoredClips(
                labels=self.labels,
                clip_ids=self.clip_ids,
                true=self.true,
                probabilities=self.probabilities,
                folds=self.folds,
                subjects=self.subjects,
                attributes=self.attributes,
            )
        kept, rows = self._match(truth)
        own = self.true[kept]
        number = [self.labels.index(label) if label in self.labels else -1 for label in truth.labels]
        given = np.array(number, dtype=np.int64)[truth.true[rows]]
        if (given < 0).any():
            lacking = [label for label in truth.labels if label not in self.labels]
            raise DataError(
                f"{self.name} has no class {lacking[0]!r}, which some clips truly are; compare on the shared classes only (--shared-classes)"
            )
        clash = np.flatnonzero((own >= 0) & (own != given))
        if len(clash):
            i = clash[0]
            raise DataError(
                f"{self.name}: {len(clash)} of {len(given)} clips have another true class than in the other file, {self.clip_ids[kept[i]]!r} is {self.labels[own[i]]} here and {self.labels[given[i]]} there; check the class order"
            )
        found = truth.take(rows)
        subjects = found.subjects
        if subjects is None and self.subjects is not None:
            subjects = tuple(self.subjects[i] for i in kept)
        return replace(found, labels=self.labels, true=given, probabilities=self.probabilities[kept], subjects=subjects)

    def _match(self, truth: ScoredClips) -> tuple[np.ndarray, np.ndarray]:
        """Own rows, and the row of ``truth`` of each."""
        has_same_names = bool(set(self.clip_ids) & set(truth.clip_ids))
        has_repeats = len(set(truth.clip_ids)) < len(truth.clip_ids)

        def key(clip_id: str, fold: str) -> tuple[str, str]:
            name = clip_id if has_same_names else PurePosixPath(clip_id.replace("\\", "/")).stem
            return name, fold if has_repeats else ""

        place: dict[tuple[str, str], int] = {}
        for row, (clip_id, fold) in enumerate(truth.keys()):
            if place.setdefault(key(clip_id, fold), row) != row:
                raise DataError(
                    f"clip {clip_id!r} cannot be matched with {self.name}: the other file has two clips of that name"
                )
        own = [key(clip_id, fold) for clip_id, fold in zip(self.clip_ids, self.folds, strict=True)]
        # A clip whose true class is missing in the other file was left out there on purpose.
        is_other = [true >= 0 and self.labels[true] not in truth.labels for true in self.true]
        missing = [row for row, name in enumerate(own) if name not in place and not is_other[row]]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(own)} clips of {self.name} are not in the other file with {len(place)} clips (such as {self.clip_ids[missing[0]]!r}); give the same clips"
            )
        kept = np.array([row for row, name in enumerate(own) if name in place], dtype=np.int64)
        return kept, np.array([place[own[row]] for row in kept], dtype=np.int64)


def score_pair(
    a: PredictionFile, b: PredictionFile, *, on_shared_classes: bool = False
) -> tuple[ScoredClips, ScoredClips]:
    """Two files of the same clips, for ``compare``; the truth is that of A, else that of B, and both must agree.

    Args:
        on_shared_classes: Keep the classes that both have, and the clips that truly are one of them.

    Raises:
        ConfigError: Fewer than two shared classes.
        DataError: Neither file has the true classes, or see ``PredictionFile.scored``.
    """
    if not a.has_truth and b.has_truth:
        second, first = score_pair(b, a, on_shared_classes=on_shared_classes)
        return first, second
    first = a.scored()
    if not on_shared_classes:
        return first, b.scored(first)
    shared = shared_labels(a.labels, b.labels)
    first = first.restrict(shared)
    return first, b.scored(first).restrict(shared)
