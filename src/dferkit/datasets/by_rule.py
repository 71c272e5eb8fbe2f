"""What data sets share whose labels, people and folds are a function of the file names: CREMA-D, RAVDESS, eNTERFACE'05, AFEW."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from dferkit.datasets.assemble import Options, compare_with_published
from dferkit.datasets.findings import Findings
from dferkit.datasets.lists import place
from dferkit.datasets.media import Media, pictures, subfolders
from dferkit.errors import ManifestError
from dferkit.labels import LABEL_SETS
from dferkit.schema import Fold, Record, Release
from dferkit.storage import VIDEO_SUFFIXES, natural_key

FACES, VIDEOS = "face crops", "the release's videos"


def release_by_people(
    layout: str,
    root: Path,
    media: Media,
    records: list[Record],
    people: Sequence[Sequence[str]],
    findings: Findings,
    options: Options,
) -> Release:
    """Folds by subject: fold k tests the k-th group of people and trains on all others."""
    if not records and not findings.items:
        raise ManifestError(
            f"no clip of {layout} below {root.name}/; dferkit data mini {layout} OUT writes a small example of its tree"
        )
    folds = []
    for number, group in enumerate(people, 1):
        members = set(group)
        folds.append(
            Fold(
                name=str(number),
                train=tuple(r.clip_id for r in records if r.subject not in members),
                test=tuple(r.clip_id for r in records if r.subject in members),
            )
        )
    return release_of(layout, root, media, records, folds, findings, options)


def release_of(
    layout: str,
    root: Path,
    media: Media,
    records: list[Record],
    folds: list[Fold],
    findings: Findings,
    options: Options,
) -> Release:
    """Records in natural order, each clip once; findings told, and with ``strict`` the published counts compared."""
    seen: dict[str, Record] = {}
    for record in records:
        if record.clip_id in seen:
            findings.error(
                "LISTED_TWICE",
                f"clip {record.clip_id} is there twice; the first is {place(seen[record.clip_id].video, root)}",
                place(record.video, root),
            )
        seen.setdefault(record.clip_id, record)
    ordered = tuple(seen[clip_id] for clip_id in sorted(seen, key=natural_key))
    names = "\n".join(f"{r.clip_id} {r.label} {r.subject}" for r in ordered)
    release = Release(
        layout=layout,
        labels=LABEL_SETS[layout],
        records=ordered,
        folds=tuple(folds),
        media=media.name(root),
        media_reason=media.reason,
        media_kind=media.kind,
        annotation_digest=hashlib.sha256(names.encode()).hexdigest(),
    )
    if options.strict:
        compare_with_published(release, findings)
    return replace(release, findings=tuple(findings.items))


def folders_with(base: Path, pattern: str) -> list[Path]:
    """The base itself, or those folders in it (archives may come one by one), that hold folders of this name."""
    return [
        folder
        for folder in (base, *subfolders(base))
        if any(re.fullmatch(pattern, child.name) for child in subfolders(folder))
    ]


def clips_below(folder: Path) -> Iterator[Path]:
    """Video files and folders of pictures directly below, in natural order."""
    for path in sorted(folder.iterdir(), key=lambda p: natural_key(p.name)):
        if path.name.startswith("."):
            continue
        if (path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES) or (path.is_dir() and pictures(path)):
            yield path


def stem(path: Path) -> str:
    """Name of a clip, be it a video file or a folder of pictures."""
    return path.stem if path.suffix.lower() in VIDEO_SUFFIXES else path.name
