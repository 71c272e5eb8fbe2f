"""The folder of a release that holds its videos or frames, and its entries. Lists folders, opens no picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dferkit.datasets.lists import place
from dferkit.errors import ConfigError, ManifestError
from dferkit.storage import PICTURE_SUFFIXES, VIDEO_SUFFIXES, natural_key

_LIST_SUFFIXES = (".csv", ".txt", ".xlsx")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place where a release or a known copy of it keeps its media.

    Attributes:
        folder: Path below the root. kind: ``faces``, ``frames`` or ``videos`` (see ``schema.Release``).
        why: Reason that is reported when it is chosen.
    """

    folder: str
    kind: str
    why: str


@dataclass(frozen=True, slots=True)
class Media:
    """The chosen folder; None for lists without media."""

    folder: Path | None
    kind: str
    reason: str

    def name(self, root: Path) -> str:
        """Path below the root, empty for none."""
        return "" if self.folder is None else place(self.folder, root)


def find(root: Path, names: Sequence[str]) -> Path | None:
    """The first of these relative paths that is there: below the root, or one folder further down (archives nest).

    A name with the suffix of a list is a file, every other one a folder.
    """
    bases = [root, *subfolders(root)] if root.is_dir() else []
    for name in names:
        for base in bases:
            path = base / name
            if path.is_file() if path.suffix in _LIST_SUFFIXES else path.is_dir():
                return _unnest(path)
    return None


def subfolders(folder: Path) -> list[Path]:
    """Folders directly below, hidden ones left out, in natural order."""
    return sorted(
        (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")), key=lambda p: natural_key(p.name)
    )


def pictures(folder: Path) -> list[str]:
    """Names of the pictures in a folder, unsorted."""
    with os.scandir(folder) as listing:
        return [e.name for e in listing if not e.name.startswith(".") and e.name.lower().endswith(PICTURE_SUFFIXES)]


def _unnest(path: Path) -> Path:
    """The folder of the same name inside, where unpacking made two of one."""
    while path.is_dir() and (path / path.name).is_dir():
        path = path / path.name
    return path


def choose_media(root: Path, candidates: Sequence[Candidate], asked: str = "", *, or_root: bool = False) -> Media:
    """The first candidate that is there, or the one asked for by its path or its last part.

    Args:
        or_root: The root itself may be a candidate, where nothing but media belongs to the release.

    Raises:
        ConfigError: The asked folder is not there or not one of this layout; the message lists those that are.
    """
    by_path: dict[Path, Candidate] = {}
    for candidate in candidates:
        if (path := find(root, [candidate.folder])) is not None:
            by_path.setdefault(path, candidate)
    if or_root:
        for candidate in candidates:
            if root.name == candidate.folder:
                by_path.setdefault(root, candidate)
    there = [(candidate, path) for path, candidate in by_path.items()]
    if asked:
        for candidate, path in there:
            if asked in (candidate.folder, place(path, root), path.name):
                return Media(path, candidate.kind, "asked for")
        known = ", ".join(place(path, root) for _, path in there) or "none"
        raise ConfigError(f"no media folder {asked!r} of this layout below {root.name}/; there: {known}")
    if not there:
        return Media(None, "none", "no folder of videos or frames was found: lists only")
    candidate, path = there[0]
    others = ", ".join(place(other, root) for _, other in there[1:])
    return Media(path, candidate.kind, candidate.why + (f"; also there: {others}" if others else ""))


def entries(folder: Path | None) -> dict[str, Path]:
    """Entries of a folder, by name without suffix (videos) or by name (folders); hidden files are left out."""
    if folder is None:
        return {}
    found: dict[str, Path] = {}
    with os.scandir(folder) as listing:
        for entry in listing:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                found[entry.name] = Path(entry.path)
            elif entry.name.lower().endswith(VIDEO_SUFFIXES):
                found.setdefault(entry.name.rsplit(".", 1)[0], Path(entry.path))
    return found


def require_root(root: Path, layout: str) -> None:
    """Refuse a root that is not a folder.

    Raises:
        ManifestError: Nothing there, or a file.
    """
    if not root.is_dir():
        what = "is a file" if root.is_file() else "does not exist"
        raise ManifestError(f"{root.name or root} {what}; give the folder that holds the {layout} release, unpacked")
