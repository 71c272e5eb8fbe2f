"""Counts that the authors and users of a data set have published, and the comparison of a release with them (``--strict``).

Only counts are here. The data sets forbid passing on their lists, so no clip of theirs is named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dferkit.datasets.findings import Findings
from dferkit.schema import Release

COUNTED = "counted from the release's own lists"


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """Published counts of one data set; others are left out.

    Attributes:
        num_clips: All clips; None where no count was published.
        per_class: Clips of each class over the whole set.
        folds: (train, test) clips by name of the fold.
        test_per_class: Clips of each class on the test side, by name of the fold.
        short_clips: Clips with fewer than 16 frames.
        source: Where the counts come from.
    """

    num_clips: int | None = None
    per_class: Mapping[str, int] = field(default_factory=dict)
    folds: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    test_per_class: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    short_clips: int | None = None
    source: str = ""


def by_class(order: Sequence[str], counts: Sequence[int]) -> Mapping[str, int]:
    """Counts by class."""
    return dict(zip(order, counts, strict=True))


def by_fold(train: Sequence[int], test: Sequence[int]) -> Mapping[str, tuple[int, int]]:
    """(train, test) counts of the folds ``1``, ``2``, …"""
    return {str(k): pair for k, pair in enumerate(zip(train, test, strict=True), 1)}


def by_fold_and_class(order: Sequence[str], rows: Sequence[Sequence[int]]) -> Mapping[str, Mapping[str, int]]:
    """Counts of five folds from one row per class; a row of one number holds for all five."""
    whole = [tuple(row) if len(row) == 5 else tuple(row) * 5 for row in rows]
    return {str(k + 1): by_class(order, [row[k] for row in whole]) for k in range(5)}


def compare_with_published(release: Release, published: Published, findings: Findings) -> None:
    """Compare every published count with what is there; each difference becomes a finding."""
    label_of = {record.clip_id: record.label for record in release.records}

    def compare(what: str, found: int, expected: int | None) -> None:
        if expected is not None and found != expected:
            findings.error("COUNT", f"{what}: {found:,} of {expected:,} clips that were published")

    compare("all clips", len(release.records), published.num_clips)
    counts = Counter(label_of.values())
    for label, expected in published.per_class.items():
        compare(f"class {label}", counts[label], expected)
    for fold in release.folds:
        train, test = published.folds.get(fold.name, (None, None))
        compare(f"fold {fold.name}, training", len(fold.train), train)
        compare(f"fold {fold.name}, test", len(fold.test), test)
        tested = Counter(label_of[clip_id] for clip_id in fold.test)
        for label, expected in published.test_per_class.get(fold.name, {}).items():
            compare(f"fold {fold.name}, test, class {label}", tested[label], expected)
    for name in published.folds:
        if name not in {fold.name for fold in release.folds}:
            findings.error("FOLD_ABSENT", f"fold {name} is missing; the release has {len(published.folds)}")
