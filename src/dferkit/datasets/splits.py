"""Checks that no clip or person is on both sides of a split."""

from __future__ import annotations

from dferkit.errors import ManifestError
from dferkit.schema import Record


def check_disjoint(records: list[Record]) -> None:
    """Refuse a subject that appears in more than one split.

    Raises:
        ManifestError: A subject is in two splits; the message names up to five.
    """
    splits: dict[str, set[str]] = {}
    for record in records:
        if record.subject and record.split:
            splits.setdefault(record.subject, set()).add(record.split)
    shared = sorted(subject for subject, found in splits.items() if len(found) > 1)
    if shared:
        raise ManifestError(
            f"{len(shared)} subjects are in more than one split, such as {', '.join(shared[:5])}; a person belongs to one split only"
        )
