"""Files that exist completely or not at all, their fingerprints, and cells of a table that no program runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import numpy as np

Settings = TypeVar("Settings")

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".flv", ".gif", ".3gp")
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
"""Names by which a folder's videos, and a clip's pictures, are known."""


@contextlib.contextmanager
def atomic_path(path: Path | str, *, is_durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it replaces ``path``, on failure it is removed.

    File and folder are flushed to disk, so that a crash leaves either the old or the new content.

    Args:
        is_durable: False leaves out the flushing, for files that are checked by a digest before they are used: a killed
            process still leaves old or new, a power cut may leave anything.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept, because writers of pictures and videos choose the format by it.
    temporary = final.with_name(f".{final.stem}.{os.getpid()}.{secrets.token_hex(4)}.tmp{final.suffix}")
    try:
        yield temporary
        if not is_durable:
            os.replace(temporary, final)
            return
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, final)
        folder = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON atomically, with sorted keys and no NaN (``ValueError`` if there is one)."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def from_json(kind: type[Settings], values: Mapping[str, Any]) -> Settings:
    """A frozen dataclass of settings from what ``asdict`` and JSON made of it: lists are tuples again, objects the dataclasses of their fields.

    Raises:
        TypeError: A name is unknown, or one without a default is missing.
    """
    kinds = get_type_hints(kind)

    def read(value: Any, of: Any) -> Any:
        if isinstance(of, type) and is_dataclass(of):
            return from_json(of, value)
        return tuple(read(item, None) for item in value) if isinstance(value, list) else value

    return kind(**{name: read(value, kinds.get(name)) for name, value in values.items()})


def digest_file(path: Path | str) -> str:
    """SHA-256 of a file, as hexadecimal text."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of names and bytes; the order of the names does not matter."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def digest_json(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def natural_key(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Sorts ``2.jpg`` before ``10.jpg`` and ``a_00002_00010.jpg`` after ``a_00002_00009.jpg``; padding does not matter."""
    pieces = re.findall(r"[0-9]+|[^0-9]+", name)
    # The name itself decides between 1.jpg and 01.jpg.
    return tuple((0, int(p), "") if p[0] in "0123456789" else (1, 0, p.lower()) for p in pieces), name


# A spreadsheet takes a cell that begins with one of these for a formula and runs it.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_GUARD = "'"


def guard_cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula: a ``'`` is put before ``= + - @`` at the start, and before a text that already has such a mark."""
    return _GUARD + text if _needs_guard(text) else text


def unguard_cell(text: str) -> str:
    """Take off what ``guard_cell`` put before a text."""
    return text[1:] if text.startswith(_GUARD) and _needs_guard(text[1:]) else text


def _needs_guard(text: str) -> bool:
    return text.lstrip(_GUARD).lstrip(" ").startswith(_FORMULA_STARTS)
