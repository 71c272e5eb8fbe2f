"""All checks of a release in one report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from dferkit.datasets.data_set import Options
from dferkit.datasets.findings import Findings
from dferkit.datasets.lists import place
from dferkit.datasets.registry import find_data_set, read_release
from dferkit.inspection.contents import hash_all, near_duplicates, same_bytes, why_unreadable
from dferkit.inspection.media import MediaFacts, check_media
from dferkit.schema import Finding, Release

Depth = Literal["lists", "media", "contents"]
DEPTHS: tuple[Depth, ...] = ("lists", "media", "contents")


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckReport:
    """What a check found.

    Attributes:
        findings: Of lists, media and contents, in this order.
        media: Figures of the media; None when only lists were read.
    """

    release: Release
    findings: tuple[Finding, ...]
    media: MediaFacts | None
    depth: Depth

    @property
    def is_clean(self) -> bool:
        """No error and no warning."""
        return all(finding.severity == "note" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``: counts and the published ones, media, findings."""
        release, published = self.release, find_data_set(self.release.layout).published
        label_of = {record.clip_id: str(record.label) for record in release.records}
        counts = Counter(label_of.values())
        return {
            "layout": release.layout,
            "clean": self.is_clean,
            "depth": self.depth,
            "num_clips": len(release.records),
            "published_clips": published.num_clips,
            "published_source": published.source or None,
            "classes": {
                label: {"clips": counts[label], "published": published.per_class.get(label)} for label in release.labels
            },
            "folds": [
                {
                    "name": fold.name,
                    "train": len(fold.train),
                    "test": len(fold.test),
                    "published": list(published.folds.get(fold.name, ())) or None,
                    "test_per_class": dict(sorted(Counter(label_of[c] for c in fold.test).items())),
                }
                for fold in release.folds
            ],
            "media": {
                "folder": release.media,
                "kind": release.media_kind,
                "reason": release.media_reason,
                "missing": self.media.num_missing if self.media else None,
                "unlisted": self.media.num_unlisted if self.media else None,
                "frames": self.media.summary() if self.media else {},
            },
            "annotation_digest": release.annotation_digest,
            "counts": dict(Counter(finding.severity for finding in self.findings)),
            "findings": [
                {"severity": f.severity, "code": f.code, "where": f.where, "message": f.message} for f in self.findings
            ],
        }


def check_release(
    layout: str,
    root: Path | str,
    *,
    options: Options | None = None,
    depth: Depth = "contents",
    workers: int = 1,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> CheckReport:
    """Read a release and look at everything that can be wrong with it.

    Args:
        depth: ``lists`` reads annotations only; ``media`` also looks for every clip and counts frames; ``contents`` also looks for clips that are
            there twice, and reads pictures for it.

    Raises:
        ConfigError: Unknown data set. ManifestError: No such release below ``root``.
    """
    root, options = Path(root), options or Options()
    progress = on_progress or (lambda stage, done, of: None)
    if depth == "lists":
        options = replace(options, with_media=False)
    release = read_release(layout, root, options)
    findings = Findings()
    findings.items += release.findings
    _check_folds(release, findings)
    media = None
    if depth != "lists" and release.media_kind != "none":
        media = check_media(release, root, findings, on_progress=lambda a, b: progress("media", a, b))
        if depth == "contents":
            _check_contents(release, root, findings, workers, progress)
    elif depth != "lists" and release.records:
        findings.warning("MEDIA_NONE", release.media_reason)
    return CheckReport(release=release, findings=tuple(findings.items), media=media, depth=depth)


def _check_folds(release: Release, findings: Findings) -> None:
    """Folds without a side, and people on both sides."""
    subject_of = {record.clip_id: record.subject for record in release.records if record.subject}
    if not release.folds and release.records:
        findings.note(
            "NO_FOLDS",
            "no clip is marked for testing; give a column split with train and test, or name the test clips yourself",
        )
    for fold in release.folds:
        for side, clips in (("training", fold.train), ("test", fold.test)):
            if not clips:
                findings.warning("FOLD_EMPTY", f"fold {fold.name} has no {side} clip; the copy is incomplete")
        people = [{subject_of[c] for c in side if c in subject_of} for side in (fold.train, fold.test)]
        if shared := sorted(people[0] & people[1]):
            findings.warning(
                "SUBJECT_LEAK",
                f"{len(shared)} people are in the training and the test list of fold {fold.name}, such as {shared[0]}; the score would be too high for other people",
            )


def _check_contents(
    release: Release, root: Path, findings: Findings, workers: int, progress: Callable[[str, int, int], None]
) -> None:
    sides = _sides(release)

    def is_apart(a: str, b: str) -> bool:
        return any(x != y for x, y in zip(sides[a], sides[b], strict=True))

    found_already: set[frozenset[str]] = set()
    for group in same_bytes(release.records):
        first, *others = group
        for other in others:
            found_already.add(frozenset((first, other)))
            if is_apart(first, other):
                findings.error(
                    "SAME_BYTES",
                    f"clips {first} and {other} have the same bytes and are on both sides of a fold; keep one",
                )
            else:
                findings.warning("SAME_BYTES", f"clips {first} and {other} have the same bytes; keep one")
    hashes = hash_all(release.records, workers=workers, on_progress=lambda a, b: progress("contents", a, b))
    for record in release.records:
        if record.clip_id in hashes and hashes[record.clip_id] is None:
            findings.error("CLIP_UNREADABLE", why_unreadable(record.video), place(record.video, root))
    readable = {clip_id: found for clip_id, found in hashes.items() if found is not None}
    for a, b, distance in near_duplicates(readable, is_apart):
        if frozenset((a, b)) not in found_already:
            findings.warning(
                "NEAR_DUPLICATE",
                f"clips {a} and {b} look the same ({distance:.1f} of 64 bits of their perceptual hashes differ) and are on both sides of a fold; compare them",
            )


def _sides(release: Release) -> Mapping[str, tuple[str, ...]]:
    """By clip, which side of every fold it is on."""
    tests = [set(fold.test) for fold in release.folds]
    trains = [set(fold.train) for fold in release.folds]
    return {
        record.clip_id: tuple(
            "test" if record.clip_id in test else "train" if record.clip_id in train else ""
            for train, test in zip(trains, tests, strict=True)
        )
        for record in release.records
    }
