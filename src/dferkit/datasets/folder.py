"""A user's own manifest: a CSV of ``video,label[,split,subject,…]`` → records. Never opens a video."""

from __future__ import annotations

import csv
from pathlib import Path

from dferkit.errors import ManifestError
from dferkit.labels import BASIC, parse_label
from dferkit.schema import Record

SPLITS = ("train", "val", "test")
_MOST_ERRORS = 50


def read_manifest(path: Path | str, *, labels: tuple[str, ...] = BASIC, needs_label: bool = True) -> list[Record]:
    """Records of a manifest; videos are looked for relative to its folder.

    All faults are listed at once, each with file and line.

    Raises:
        ManifestError: No such file, no rows, a missing column, an unknown label or split, a path outside the folder, or the same
            video with two labels.
    """
    path = Path(path)
    rows, columns = _read_rows(path)
    for column in ("video", "label") if needs_label else ("video",):
        if column not in columns:
            raise ManifestError(
                f"{path.name}: no column {column!r}; found {', '.join(columns) or 'nothing'}; expected video,label[,split,subject]"
            )
    faults: list[str] = []
    records: list[Record] = []
    seen: dict[str, Record] = {}
    for line, row in rows:
        where = f"{path.name}:{line}"
        try:
            record = _record(row, path.parent, labels, where, needs_label)
        except ManifestError as error:
            faults.append(str(error))
            continue
        earlier = seen.get(record.clip_id)
        if earlier is not None:
            clash = (
                f", there as {earlier.label!r} and here as {record.label!r}" if earlier.label != record.label else ""
            )
            faults.append(f"{where}: video {record.clip_id!r} is listed twice{clash}; keep one row")
        seen[record.clip_id] = record
        records.append(record)
    if faults:
        more = f"\n… and {len(faults) - _MOST_ERRORS} more" if len(faults) > _MOST_ERRORS else ""
        raise ManifestError("\n".join(faults[:_MOST_ERRORS]) + more)
    if not records:
        raise ManifestError(f"{path.name} has no rows; give one line per clip: video,label")
    return records


def _read_rows(path: Path) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    if not path.is_file():
        raise ManifestError(f"{path.name}: not found; give a CSV file with columns video,label[,split,subject]")
    data = path.read_bytes()
    if b"\0" in data:
        raise ManifestError(f"{path.name} is not UTF-8 text (it holds NUL bytes); save it as CSV UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path.name} is not UTF-8 text (byte {error.start}); save it as CSV UTF-8") from error
    reader = csv.reader(text.splitlines())
    header = [name.strip().lower() for name in next(reader, [])]
    rows: list[tuple[int, dict[str, str]]] = []
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise ManifestError(
                f"{path.name}:{reader.line_num}: {len(cells)} cells, but the header has {len(header)}; quote values that hold commas"
            )
        rows.append((reader.line_num, dict(zip(header, (cell.strip() for cell in cells), strict=True))))
    return rows, header


def _record(row: dict[str, str], root: Path, labels: tuple[str, ...], where: str, needs_label: bool) -> Record:
    name = row["video"]
    if not name:
        raise ManifestError(f"{where}: the cell video is empty; give a file name")
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ManifestError(f"{where}: {name!r} leaves the manifest's folder; give a path below it")
    label = row.get("label", "")
    split = row.get("split", "").lower() or None
    if split is not None and split not in SPLITS:
        raise ManifestError(f"{where}: unknown split {split!r}; known: {', '.join(SPLITS)}")
    return Record(
        clip_id=name,
        video=root / name,
        label=parse_label(label, labels, where=where) if label or needs_label else None,
        split=split,
        subject=row.get("subject") or None,
    )


def choose_split(records: list[Record], split: str) -> list[Record]:
    """Records of one split; all records when the manifest has no split column."""
    if all(record.split is None for record in records):
        return list(records)
    return [record for record in records if record.split == split]


def read_column(path: Path | str, column: str) -> dict[str, str]:
    """Another column of a manifest, by video name; empty when there is none."""
    rows, columns = _read_rows(Path(path))
    return {row["video"]: row[column] for _, row in rows} if column in columns else {}
