"""The tables of a store: the release it was made from, one row per clip, and the counts. Their bytes depend on nothing else."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import av
import cv2

import dferkit
from dferkit.errors import CheckpointError, ConfigError
from dferkit.preparation.config import FORMAT
from dferkit.preparation.shards import StoreFolder, num_shards, places, read_header
from dferkit.schema import Finding, Fold, Record, Release
from dferkit.storage import digest_json, guard_cell, read_json, write_json, write_text

COLUMNS = (
    "clip_id",
    "shard",
    "place",
    "status",
    "message",
    "num_frames",
    "num_face_frames",
    "coverage",
    "median_height_pixels",
    "sharpness",
    "brightness",
    "jitter",
    "num_people",
    "num_damaged",
    "end_seconds",
    "warnings",
    "detector",
    "digest",
)


def release_json(release: Release, root: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A release as JSON, with paths below ``root`` only, and the settings of the store."""
    records = [
        {**asdict(record), "video": _below(record.video, root), "attributes": dict(record.attributes)}
        for record in release.records
    ]
    value = {**{name: getattr(release, name) for name in Release.__slots__}, "records": records}
    value["folds"] = [asdict(fold) for fold in release.folds]
    value["findings"] = [asdict(finding) for finding in release.findings]
    # Through text once, so that what is compared with a file has lists for tuples as the file has.
    plain: dict[str, Any] = json.loads(json.dumps({"prepared_with": dict(settings), **value}))
    return plain


def _below(video: Path, root: Path) -> str:
    try:
        return video.absolute().relative_to(root.absolute()).as_posix()
    except ValueError:
        return video.name


def release_of(value: Mapping[str, Any]) -> Release:
    """The release of ``release_json``; videos are relative paths."""
    records = tuple(
        Record(
            **{
                **record,
                "video": Path(record["video"]),
                "votes": None if record["votes"] is None else tuple(record["votes"]),
            }
        )
        for record in value["records"]
    )
    folds = tuple(Fold(name=f["name"], train=tuple(f["train"]), test=tuple(f["test"])) for f in value["folds"])
    findings = tuple(Finding(**finding) for finding in value["findings"])
    plain = {name: value[name] for name in Release.__slots__ if name not in ("records", "folds", "findings", "labels")}
    return Release(**plain, labels=tuple(value["labels"]), records=records, folds=folds, findings=findings)


def claim_folder(folder: StoreFolder, value: dict[str, Any]) -> None:
    """Write down what the folder is for, or check that it is for the same clips.

    Annotations that do not change a face (labels, folds, votes, captions, findings) are taken over: nothing has to be cut again for them.

    Raises:
        ConfigError: It holds other clips, or was started with other settings.
    """
    name = folder.path.name
    if not folder.release.is_file():
        if folder.about.exists() or (folder.path / "faces").exists():
            raise ConfigError(f"{name}/ holds faces, but no release.json: give another folder")
        write_json(folder.release, value)
        return
    try:
        found = read_json(folder.release)
        was, now = dict(found["prepared_with"]), value["prepared_with"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{name}/release.json is damaged: remove {name}/, or give another folder") from error
    if _clips(found) != _clips(value):
        raise ConfigError(
            f"{name}/ holds other clips ({found.get('layout')}, {len(found.get('records', ()))} clips): give another folder"
        )
    if was != now:
        changed = [
            f"{key} {was.get(key)} → {now.get(key)}" for key in sorted({*was, *now}) if was.get(key) != now.get(key)
        ]
        raise ConfigError(
            f"{name}/ was started with other settings ({', '.join(changed)}): give the same ones, or another folder"
        )
    if found != value:
        folder.about.unlink(missing_ok=True)  # not complete until the tables have the new annotations
        write_json(folder.release, value)


def _clips(value: Mapping[str, Any]) -> tuple[Any, list[tuple[Any, Any]]]:
    """What the faces depend on besides the settings."""
    return value.get("layout"), [(record["clip_id"], record["video"]) for record in value.get("records", ())]


def missing_shards(folder: StoreFolder, num_clips: int) -> list[int]:
    """Numbers of the shards that are not there yet."""
    return [number for number in range(num_shards(num_clips)) if not folder.shard(number).is_file()]


def abouts_of(folder: StoreFolder, number: int, num_clips: int) -> list[dict[str, Any]]:
    """Descriptions of a shard's clips.

    Raises:
        CheckpointError: The shard is missing, damaged, or of another size.
    """
    abouts = read_header(folder.shard(number))
    if abouts is None or len(abouts) != len(places(number, num_clips)):
        raise CheckpointError(
            f"{folder.shard(number).name} of {folder.path.name}/ is missing or damaged: run dferkit prepare again"
        )
    return abouts


def write_tables(folder: StoreFolder, value: Mapping[str, Any]) -> None:
    """Write ``index.csv`` and, last of all, ``store.json``.

    Raises:
        CheckpointError: A shard is damaged.
    """
    num_clips, settings = len(value["records"]), digest_json(value["prepared_with"])
    text = io.StringIO()
    rows = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    rows.writeheader()
    counts: Counter[str] = Counter()
    failures: dict[str, Counter[str]] = {}
    for number in range(num_shards(num_clips)):
        for place, about in enumerate(abouts_of(folder, number, num_clips)):
            record = value["records"][places(number, num_clips)[place]]
            if (about["clip_id"], about["settings"]) != (record["clip_id"], settings):
                raise CheckpointError(
                    f"{folder.shard(number).name} holds {about['clip_id']} where {record['clip_id']} belongs, or was made "
                    "with other settings: remove it and run dferkit prepare again"
                )
            rows.writerow(_row(number, place, about))
            counts[about["status"]] += 1
            if not about["arrays"]:
                failures.setdefault(record["label"] or "", Counter())[about["status"]] += 1
    store = {
        "format": FORMAT,
        "layout": value["layout"],
        "settings": value["prepared_with"],
        "annotation_digest": value["annotation_digest"],
        "release_digest": digest_json(value),
        "num_clips": num_clips,
        "statuses": dict(counts),
        "failures": {label: dict(found) for label, found in failures.items()},
        "num_bytes": sum(folder.shard(number).stat().st_size for number in range(num_shards(num_clips))),
        "versions": {"dferkit": dferkit.__version__, "opencv": cv2.__version__, "pyav": av.__version__},
    }
    for attempt in range(3):
        try:
            write_text(folder.index, text.getvalue())
            write_json(folder.about, store)
            return
        except FileNotFoundError:
            # A process on another machine took our temporary file for that of one which ended.
            if attempt == 2:
                raise


def _row(number: int, place: int, about: Mapping[str, Any]) -> dict[str, Any]:
    quality = about["quality"] or {}
    cells = {name: about.get(name, quality.get(name, "")) for name in COLUMNS}
    cells["warnings"] = " ".join([*about["video_warnings"], *quality.get("warnings", ())])
    cells["shard"], cells["place"] = number, place
    return {name: guard_cell(cell) if isinstance(cell, str) else cell for name, cell in cells.items()}


def read_counts(folder: StoreFolder, numbers: Iterable[int], num_clips: int) -> Counter[str]:
    """Clips per status in these shards."""
    return Counter(about["status"] for number in numbers for about in abouts_of(folder, number, num_clips))
