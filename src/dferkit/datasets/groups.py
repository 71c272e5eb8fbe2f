"""Attributes of clips from a CSV of the user, for scores by group. They are given by people and never inferred."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

from dferkit.errors import ManifestError
from dferkit.schema import Release

_CLIP = "clip_id"


def with_groups(release: Release, path: Path | str) -> Release:
    """The release with the columns of a CSV (``clip_id`` and any others) as attributes of its clips; rows of other clips are ignored.

    Raises:
        ManifestError: No such file, no column ``clip_id``, no other column, a clip listed twice, or no clip of the release.
    """
    path = Path(path)
    if not path.is_file():
        raise ManifestError(f"{path.name}: not found; give a CSV file with clip_id and one column per attribute")
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path.name} is not UTF-8 text (byte {error.start}); save it as CSV UTF-8") from error
    columns = [name for name in (rows[0] if rows else {}) if name and name != _CLIP]
    if not rows or _CLIP not in rows[0] or not columns:
        raise ManifestError(
            f"{path.name}: expected a header with clip_id and at least one attribute, and a row per clip"
        )
    known: dict[str, dict[str, str]] = {}
    for line, row in enumerate(rows, 2):
        clip_id = str(row[_CLIP]).strip()
        if clip_id in known:
            raise ManifestError(f"{path.name}:{line}: clip {clip_id!r} is listed twice; keep one row")
        known[clip_id] = {name: str(row[name] or "").strip() for name in columns}
    if not any(record.clip_id in known for record in release.records):
        raise ManifestError(
            f"{path.name}: none of its {len(known)} clips is one of {release.layout}; clip ids look like {release.records[0].clip_id!r}"
        )
    records = (
        replace(record, attributes={**record.attributes, **known.get(record.clip_id, {})}) for record in release.records
    )
    return replace(release, records=tuple(records))
