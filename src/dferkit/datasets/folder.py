"""A user's own clips, as a CSV of ``video,label[,split,subject,…]`` or as one folder per class → records. No video is opened."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dferkit.datasets.assemble import digest_lists
from dferkit.datasets.data_set import DataSet, Source
from dferkit.datasets.findings import Findings
from dferkit.datasets.lists import place
from dferkit.datasets.media import pictures, require_root, subfolders
from dferkit.datasets.mini import Mini, MiniClip, MiniConfig, MiniMedia, one_split
from dferkit.datasets.published import Published
from dferkit.errors import ManifestError
from dferkit.labels import BASIC, MAFW, MAFW_COMPOUND, RAVDESS, parse_label
from dferkit.schema import Finding, Fold, Record, Release
from dferkit.storage import VIDEO_SUFFIXES, natural_key, write_text

SPLITS = ("train", "val", "test")
_COLUMNS = ("video", "label", "split", "subject")
_MANIFEST = "clips.csv"
_ALL_LABELS = tuple(dict.fromkeys((*MAFW_COMPOUND, *RAVDESS)))
_MOST_ERRORS = 50


def read_manifest(path: Path | str, *, labels: tuple[str, ...] = BASIC, needs_label: bool = True) -> list[Record]:
    """Records of a manifest. Paths of videos are relative to the manifest's folder.

    The error lists all faults, each with file and line.

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
    seen: dict[Path, Record] = {}
    for line, row in rows:
        where = f"{path.name}:{line}"
        try:
            record = _record(row, path.parent, labels, where, needs_label)
        except ManifestError as error:
            faults.append(str(error))
            continue
        earlier = seen.get(record.video)  # a path has one form, where clip ids may differ: a.mp4, ./a.mp4
        if earlier is not None:
            clash = (
                f", there as {earlier.label!r} and here as {record.label!r}" if earlier.label != record.label else ""
            )
            faults.append(f"{where}: video {record.clip_id!r} is listed twice{clash}; keep one row")
        seen[record.video] = record
        records.append(record)
    faults = _without_repeats(faults)
    if faults:
        more = f"\n… and {len(faults) - _MOST_ERRORS} more" if len(faults) > _MOST_ERRORS else ""
        raise ManifestError("\n".join(faults[:_MOST_ERRORS]) + more)
    if not records:
        raise ManifestError(f"{path.name} has no rows; give one line per clip: video,label")
    return records


def _without_repeats(faults: list[str]) -> list[str]:
    """Each fault (``file:line: what``) once, with its first line and the number of further rows that have it."""
    rows: dict[str, list[str]] = {}
    for fault in faults:
        where, _, what = fault.partition(": ")
        rows.setdefault(what, []).append(where)
    return [
        f"{places[0]}: {what}" + (f" (and {len(places) - 1} more rows)" if len(places) > 1 else "")
        for what, places in rows.items()
    ]


def read_folder(source: Source) -> Release:
    """Clips of a user: ``clips.csv`` in the folder (or the CSV itself), or folders ``<class>/<clip>``, or ``{train,val,test}/<class>/<clip>``.

    A clip is a video or a folder of frames. The label set is the smallest known one that holds every class found. With a training and a
    test side there is one fold; clips with split ``val`` are the validation block.

    Raises:
        ManifestError: No such folder, or nothing of the kind in it.
    """
    root = source.root
    manifest = root if root.suffix.lower() == ".csv" else root / _MANIFEST
    if manifest.is_file():
        return _from_manifest(manifest)
    require_root(root, "clips")
    return _from_folders(root)


def _from_manifest(manifest: Path) -> Release:
    try:
        records = read_manifest(manifest, labels=_ALL_LABELS)
    except ManifestError as error:
        found = tuple(_finding(line) for line in str(error).split("\n"))
        return _own_release([], manifest.parent, "videos", digest_lists([manifest]), found)
    return _own_release(records, manifest.parent, "videos", digest_lists([manifest]), ())


def _finding(line: str) -> Finding:
    where, separator, message = line.partition(": ")
    is_place = bool(separator) and ".csv" in where
    return Finding(
        severity="error", code="MANIFEST", message=message if is_place else line, where=where if is_place else ""
    )


def _from_folders(root: Path) -> Release:
    findings, records = Findings(), []
    splits = [path for path in subfolders(root) if path.name.lower() in SPLITS]
    for base in splits or [root]:
        for folder in subfolders(base):
            try:
                label = parse_label(folder.name, _ALL_LABELS)
            except ManifestError as error:
                findings.error("LABEL_NAME", str(error), place(folder, root))
                continue
            for path in sorted(filter(_is_clip, folder.iterdir()), key=lambda p: natural_key(p.name)):
                clip_id = path.relative_to(root).as_posix()
                if not _is_utf8(clip_id):
                    where = os.fsencode(clip_id).decode(errors="backslashreplace")
                    findings.error("CLIP_NAME", "the name is not UTF-8, so no table can hold it; rename it", where)
                    continue
                split = base.name.lower() if splits else None
                records.append(Record(clip_id=clip_id, video=path, label=label, split=split))
    if not records and not findings.items:
        raise ManifestError(
            f"no clip below {root.name}/; give clips.csv with columns video,label[,split,subject], or one folder of videos per class, such as happiness/001.mp4"
        )
    names = "\n".join(f"{r.clip_id} {r.label}" for r in records)
    digest = hashlib.sha256(names.encode()).hexdigest()
    kind = "frames" if all(r.video.is_dir() for r in records) else "videos"
    return _own_release(records, root, kind, digest, findings.items)


def _own_release(records: Sequence[Record], root: Path, kind: str, digest: str, findings: Sequence[Finding]) -> Release:
    ordered = sorted(records, key=lambda r: natural_key(r.clip_id))
    sides: Mapping[str, tuple[str, ...]] = {
        side: tuple(r.clip_id for r in ordered if r.split == side) for side in SPLITS
    }
    train = sides["train"] + sides["val"]
    folds = (Fold(name="own", train=train, test=sides["test"]),) if train and sides["test"] else ()
    return Release(
        layout="folder",
        labels=_smallest_set({str(r.label) for r in ordered}),
        records=tuple(ordered),
        folds=folds,
        media=".",
        media_reason="the clips that the manifest names",
        media_kind=kind if ordered else "none",
        annotation_digest=digest,
        findings=tuple(findings),
    )


def _smallest_set(found: set[str]) -> tuple[str, ...]:
    return next((known for known in (BASIC, MAFW, RAVDESS, MAFW_COMPOUND) if found <= set(known)), _ALL_LABELS)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes of a file name that are not UTF-8 become surrogates
        return False
    return True


def _is_clip(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    if path.is_symlink() and not path.exists():
        return True  # a broken link is a missing clip, which a later check reports
    if path.is_file():
        return path.suffix.lower() in VIDEO_SUFFIXES
    return path.is_dir() and bool(pictures(path))


def _read_rows(path: Path) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    if not path.is_file():
        raise ManifestError(
            f"{path.name}: not found; give a CSV file with columns video,label[,split,subject], or a store of dferkit prepare"
        )
    data = path.read_bytes()
    if b"\0" in data:
        raise ManifestError(f"{path.name} is not UTF-8 text (it holds NUL bytes); save it as CSV UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path.name} is not UTF-8 text (byte {error.start}); save it as CSV UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        lines = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise ManifestError(f"{path.name}:{reader.line_num}: {error}; look for a quote that is not closed") from error
    header = [name.strip().lower() for name in (lines.pop(0)[1] if lines else [])]
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice is not None:
        raise ManifestError(f"{path.name}: more than one column {twice!r}; keep one")
    rows: list[tuple[int, dict[str, str]]] = []
    for line, cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise ManifestError(
                f"{path.name}:{line}: {len(cells)} cells, but the header has {len(header)}; quote values that hold commas"
            )
        rows.append((line, dict(zip(header, (cell.strip() for cell in cells), strict=True))))
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
        attributes={name: value for name, value in row.items() if name not in _COLUMNS and value},
    )


def _plan(config: MiniConfig) -> list[MiniClip]:
    clips = one_split(
        BASIC, Published(), config, lambda _, __, train, test: (("", i >= train) for i in range(train + test))
    )
    return [replace(clip, name=f"videos/{number:04d}.mp4") for number, clip in enumerate(clips)]


def _write_manifest(root: Path, clips: Sequence[MiniClip], _: MiniConfig) -> None:
    rows = [f"{clip.name},{clip.label},{'test' if clip.test_of else 'train'},p{clip.person:02d}" for clip in clips]
    write_text(root / _MANIFEST, "\n".join(["video,label,split,subject", *rows]) + "\n")


FOLDER = DataSet(
    name="folder",
    title="clips",
    labels=(),
    read=read_folder,
    aliases=("csv",),
    is_root_file=True,
    mini=Mini(plan=_plan, media=lambda clip: [MiniMedia(kind="videos", path=clip.name)], write_lists=_write_manifest),
)
