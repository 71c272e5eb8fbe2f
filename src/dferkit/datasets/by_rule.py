"""Names of files → a release, for data sets whose labels, people and folds follow from the names of files and folders."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from dferkit.datasets.data_set import Source
from dferkit.datasets.lists import place
from dferkit.datasets.media import Media, pictures, subfolders
from dferkit.errors import ManifestError
from dferkit.schema import Fold, Record, Release
from dferkit.storage import VIDEO_SUFFIXES, natural_key

FACES, VIDEOS = "face crops", "the release's videos"


def release_by_people(source: Source, records: Sequence[Record], people: Sequence[Sequence[str]]) -> Release:
    """Folds by subject: fold k tests the k-th group of people and trains on all others.

    Raises:
        ManifestError: There is no clip.
    """
    if not records and not source.findings.items:
        raise ManifestError(
            f"no clip of {source.name} below {source.root.name}/; dferkit data mini {source.name} OUT writes a small example of its tree"
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
    return release_of(source, records, folds)


def release_of(source: Source, records: Iterable[Record], folds: Sequence[Fold]) -> Release:
    """Records in natural order, each clip once; a clip that is there twice becomes a finding."""
    seen: dict[str, Record] = {}
    for record in records:
        if record.clip_id in seen:
            source.findings.error(
                "LISTED_TWICE",
                f"clip {record.clip_id} exists twice; the first is {place(seen[record.clip_id].video, source.root)}",
                place(record.video, source.root),
            )
        seen.setdefault(record.clip_id, record)
    ordered = [seen[clip_id] for clip_id in sorted(seen, key=natural_key)]
    names = "\n".join(f"{r.clip_id} {r.label} {r.subject}" for r in ordered)
    return source.release(ordered, folds, hashlib.sha256(names.encode()).hexdigest())


def folders_with(base: Path, pattern: str) -> list[Path]:
    """The base itself, or those folders in it (archives may come one by one), that hold folders of this name."""
    return [
        folder
        for folder in (base, *subfolders(base))
        if any(re.fullmatch(pattern, child.name) for child in subfolders(folder))
    ]


def with_videos_in(source: Source, folders: Sequence[Path]) -> Source:
    """The source with these folders as its videos, where no folder of faces was found."""
    if source.media.folder is not None or not folders:
        return source
    return replace(source, media=Media(folders[0] if len(folders) == 1 else source.root, "videos", VIDEOS))


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
