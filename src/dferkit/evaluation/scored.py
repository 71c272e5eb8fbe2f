"""Answers with their true classes: the rows from which every score is computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float64, Int64

from dferkit.errors import DataError
from dferkit.evaluation.metrics import NO_ANSWER, evaluate_predictions
from dferkit.labels import restrict_probabilities
from dferkit.schema import Evaluation

_SUM_TOLERANCE = 1e-3
_SHOWN = 3  # clips that a message names


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredClips:
    """Clips with their true class and the answer of one system, row by row.

    Rows may repeat (a padded sampler of a distributed run repeats clips); ``join`` drops repeats, and nothing is
    scored while there are any.

    Attributes:
        labels: Class names; their order numbers the classes.
        clip_ids: Names of the clips.
        true: Number of the true class.
        probabilities: Sum to 1 in each row; a row of NaN is a clip without an answer, which counts as wrong.
        folds: Name of the test fold of each clip, empty for none.
        subjects: Person of each clip; None where not every person is known.
        attributes: Further columns for scores by group, such as ``scene``; an empty text is a value that is not known.

    Raises:
        DataError: Columns of unequal length, a class number out of range, an empty subject, or a row that is neither
            probabilities nor all NaN.
    """

    labels: tuple[str, ...]
    clip_ids: tuple[str, ...]
    true: Int64[np.ndarray, " clips"]
    probabilities: Float64[np.ndarray, "clips classes"]
    folds: tuple[str, ...]
    subjects: tuple[str, ...] | None = None
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        num_clips, num_classes = len(self.clip_ids), len(self.labels)
        if len(set(self.labels)) != num_classes or num_classes == 0:
            raise DataError(f"the classes must be different names, at least one; got {', '.join(self.labels)}")
        if self.probabilities.shape != (num_clips, num_classes):
            raise DataError(
                f"probabilities have shape {self.probabilities.shape}, but there are {num_clips} clips and {num_classes} classes"
            )
        columns: dict[str, Sized] = {"true": self.true, "folds": self.folds, **self.attributes}
        if self.subjects is not None:
            columns["subjects"] = self.subjects
        for name, column in columns.items():
            if len(column) != num_clips:
                raise DataError(f"{name} has {len(column)} values for {num_clips} clips; give one per clip")
        if self.subjects is not None and "" in self.subjects:
            raise DataError(
                f"clip {self.clip_ids[self.subjects.index('')]!r} has no subject; name one for every clip, or for none"
            )
        wrong = np.flatnonzero((self.true < 0) | (self.true >= num_classes))
        if len(wrong):
            raise DataError(
                f"clip {self.clip_ids[wrong[0]]!r} has true class {self.true[wrong[0]]}, but classes run from 0 to {num_classes - 1}"
            )
        missing = np.isnan(self.probabilities)
        with np.errstate(invalid="ignore"):
            is_answer = (self.probabilities >= 0).all(1) & (abs(self.probabilities.sum(1) - 1) <= _SUM_TOLERANCE)
        wrong = np.flatnonzero(~is_answer & ~missing.all(1))
        if len(wrong):
            raise DataError(
                f"clip {self.clip_ids[wrong[0]]!r}: probabilities must be 0 or more and sum to 1, or all be NaN without an answer; got {self.probabilities[wrong[0]].tolist()}"
            )

    @property
    def has_answer(self) -> np.ndarray:
        """True for each clip with an answer."""
        return ~np.isnan(self.probabilities).any(1)

    @property
    def predicted(self) -> np.ndarray:
        """Number of the most probable class (the first of equal ones), -1 without an answer."""
        return np.where(self.has_answer, np.nan_to_num(self.probabilities).argmax(1), NO_ANSWER).astype(np.int64)

    def take(self, chosen: np.ndarray) -> ScoredClips:
        """Rows of a mask, or of row numbers in their order."""
        rows = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        return replace(
            self,
            clip_ids=tuple(self.clip_ids[i] for i in rows),
            true=self.true[rows],
            probabilities=self.probabilities[rows],
            folds=tuple(self.folds[i] for i in rows),
            subjects=None if self.subjects is None else tuple(self.subjects[i] for i in rows),
            attributes={name: tuple(values[i] for i in rows) for name, values in self.attributes.items()},
        )

    def in_label_order(self, labels: tuple[str, ...]) -> ScoredClips:
        """The same answers with the classes numbered in another order; classes are matched by name.

        Raises:
            DataError: ``labels`` are not the same classes.
        """
        if labels == self.labels:
            return self
        if set(labels) != set(self.labels) or len(labels) != len(self.labels):
            raise DataError(
                f"the classes differ: {', '.join(self.labels)} against {', '.join(labels)}; compare on the shared classes only (--shared-classes)"
            )
        column = np.array([self.labels.index(label) for label in labels])
        return replace(
            self, labels=labels, true=np.argsort(column)[self.true], probabilities=self.probabilities[:, column]
        )

    def restrict(self, labels: tuple[str, ...]) -> ScoredClips:
        """Clips whose true class is one of ``labels``, with the probabilities given that the answer is one of them.

        Raises:
            ConfigError: One of ``labels`` is not a class here.
        """
        kept = self.take(np.isin(self.true, [self.labels.index(label) for label in labels if label in self.labels]))
        probabilities = restrict_probabilities(kept.probabilities, kept.labels, labels)
        true = np.array([labels.index(kept.labels[i]) for i in kept.true], dtype=np.int64)
        return replace(kept, labels=labels, true=true, probabilities=probabilities)

    def in_order_of(self, other: ScoredClips) -> ScoredClips:
        """The rows in the order of another system's rows of the same clips.

        Clips are matched by name; where a name occurs in several folds, by name and fold.

        Raises:
            DataError: One side has clips that the other lacks, or rows repeat.
        """
        has_repeats = any(len(set(side.clip_ids)) < len(side.clip_ids) for side in (self, other))
        own, wanted = (side.keys() if has_repeats else list(side.clip_ids) for side in (self, other))
        self.check_unique()
        other.check_unique()
        place = {key: i for i, key in enumerate(own)}
        extra, missing = set(own) - set(wanted), [key for key in wanted if key not in place]
        if extra or missing:
            raise DataError(
                f"not the same clips: {len(wanted)} in the first and {len(own)} in the second, {len(wanted) - len(missing)} of them in both"
                f" (only on one side are such as {_some([*missing, *(key for key in own if key in extra)])})"
            )
        return self.take(np.array([place[key] for key in wanted], dtype=np.int64))

    def keys(self) -> list[tuple[str, str]]:
        """(clip id, fold) of each row."""
        return list(zip(self.clip_ids, self.folds, strict=True))

    def check_unique(self) -> None:
        """Refuse rows that repeat.

        Raises:
            DataError: A clip is twice in one fold.
        """
        repeated = [key for key, count in Counter(self.keys()).items() if count > 1]
        if repeated:
            raise DataError(
                f"{len(repeated)} clips occur more than once in one fold ({_some(repeated)}); join() drops repeats"
            )


def join(parts: Sequence[ScoredClips], *, tolerance: float = 1e-6) -> ScoredClips:
    """Rows of all parts, one below the other; a row that repeats a clip of the same fold is dropped.

    Args:
        tolerance: Largest distance of two probabilities that still are the same answer: one clip in two batches of
            different size does not give the same last bits. The first row is kept.

    Raises:
        DataError: No parts; other classes or columns; or two rows of one clip and fold that contradict each other.
    """
    if not parts:
        raise DataError("there is nothing to join; give at least one part")
    first = parts[0]
    if any(part.labels != first.labels for part in parts):
        raise DataError("the parts number their classes differently; bring them into one order with in_label_order")
    parts = [part for part in parts if part.clip_ids] or [first]
    first = parts[0]
    for part in parts:
        if set(part.attributes) != set(first.attributes) or (part.subjects is None) != (first.subjects is None):
            raise DataError("the parts do not have the same columns (subjects and attributes)")
    whole = replace(
        first,
        clip_ids=tuple(clip_id for part in parts for clip_id in part.clip_ids),
        true=np.concatenate([part.true for part in parts]),
        probabilities=np.concatenate([part.probabilities for part in parts]),
        folds=tuple(fold for part in parts for fold in part.folds),
        subjects=None if first.subjects is None else tuple(s for part in parts for s in part.subjects or ()),
        attributes={name: tuple(v for part in parts for v in part.attributes[name]) for name in first.attributes},
    )
    kept: dict[tuple[str, str], int] = {}
    for row, key in enumerate(whole.keys()):
        earlier = kept.setdefault(key, row)
        if earlier != row and not _is_same(whole, earlier, row, tolerance):
            fold = f" of fold {key[1]}" if key[1] else ""
            raise DataError(f"clip {key[0]!r}{fold} has two rows that contradict each other; keep one")
    return whole.take(np.array(list(kept.values()), dtype=np.int64))


def evaluate_clips(clips: ScoredClips, *, seed: int = 0) -> Evaluation:
    """Class scores of the rows; intervals by subject where subjects are known.

    Raises:
        DataError: No clips, or a clip is twice in one fold.
    """
    clips.check_unique()
    return evaluate_predictions(clips.labels, clips.true, clips.predicted, subjects=clips.subjects, seed=seed)


def _is_same(clips: ScoredClips, a: int, b: int, tolerance: float) -> bool:
    texts = [*clips.attributes.values(), *([clips.subjects] if clips.subjects is not None else [])]
    return (
        bool(clips.true[a] == clips.true[b])
        and all(column[a] == column[b] for column in texts)
        and np.allclose(clips.probabilities[a], clips.probabilities[b], rtol=0, atol=tolerance, equal_nan=True)
    )


def _some(keys: Sequence[str | tuple[str, str]]) -> str:
    names = [key if isinstance(key, str) else " of fold ".join(part for part in key if part) for key in keys]
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
