"""Labelled videos → cached tokens and action units: decode, find faces, encode once, keep as safetensors shards."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dferkit.encoders.box import BOX_FOLDER, BoxEncoder
from dferkit.encoders.landmarks import seen_share
from dferkit.encoders.open import open_visual_encoder
from dferkit.encoders.protocols import DescribingEncoder, VisualEncoder, num_tokens
from dferkit.errors import ConfigError, DataError
from dferkit.faces import BoxFile, Detector, FaceLandmarker, build_detector, landmarker_file
from dferkit.faces.clip import read_clip_faces
from dferkit.faces.read import LOW_COVERAGE_BELOW
from dferkit.motion import measure_motion
from dferkit.parallel import run_parallel
from dferkit.schema import ClipStatus, FaceClip, Record
from dferkit.storage import atomic_path, digest_arrays, digest_file, digest_json
from dferkit.tokens.rows import TokenRows, take_rows
from dferkit.video import digest_source

CLIPS_PER_SHARD = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureConfig:
    """How clips become features.

    Attributes:
        face: Detector name. encoder: As ``encoders.open`` knows it. box: Folder of the box.
        landmarker: Task file, or ``auto``, for an encoder that reads landmarks.
    """

    face: str = "haar"
    encoder: str = "box"
    box: str = str(BOX_FOLDER)
    num_samples: int = 16
    motion: str = "tokens"
    landmarker: str = "auto"


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """Tokens and action units of the records that could be read, in their order.

    Attributes:
        records: Of the rows below. statuses: Of all records asked for, by clip id.
        visual: float16 (clips, frames, patches, dim). summary: float16 (clips, frames, summary_dim). units: (clips, 16, AUs) of the describer, 0 to 1.
        timestamps: (clips, 16) seconds. boxes: (clips, 16, 4) and frame_sizes (clips, 2) width, height, to map truth onto crops.
        motion: Measured motion weights (clips, frames, patches), when they were asked for.
        au_names: Of the describer. grid, areas: Of the visual encoder. encoder, encoder_digest: Who made the tokens.
    """

    records: tuple[Record, ...]
    statuses: dict[str, ClipStatus]
    visual: Tensor | TokenRows
    summary: Tensor
    units: np.ndarray
    timestamps: np.ndarray
    boxes: np.ndarray
    frame_sizes: np.ndarray
    au_names: tuple[str, ...]
    grid: tuple[int, int]
    areas: tuple[str, ...]
    encoder: str
    encoder_digest: str
    motion: Tensor | None = None

    def take(self, chosen: Sequence[int] | np.ndarray) -> Features:
        """Some rows."""
        index = np.asarray(chosen, int)
        return Features(
            records=tuple(self.records[i] for i in index),
            statuses=self.statuses,
            visual=take_rows(self.visual, index),
            summary=self.summary[torch.from_numpy(index)],
            units=self.units[index],
            timestamps=self.timestamps[index],
            boxes=self.boxes[index],
            frame_sizes=self.frame_sizes[index],
            au_names=self.au_names,
            grid=self.grid,
            areas=self.areas,
            encoder=self.encoder,
            encoder_digest=self.encoder_digest,
            motion=None if self.motion is None else self.motion[torch.from_numpy(index)],
        )


def read_clip(
    record: Record, detector: Detector | BoxFile, *, num_samples: int = 16, landmarker: FaceLandmarker | None = None
) -> tuple[FaceClip | None, ClipStatus, tuple[int, int]]:
    """The face clip of a whole labelled clip, or the reason why there is none; and the frame's (width, height).

    Args:
        landmarker: With one, a clip in most of whose frames it sees no face is none.
    """
    found = read_clip_faces(record, detector, num_samples=num_samples, landmarker=landmarker)
    if landmarker is None or found.clip is None or seen_share(found.clip) >= LOW_COVERAGE_BELOW:
        return found.clip, found.status, found.frame_size
    message = f"the landmarker saw the face in {seen_share(found.clip):.0%} of the frames"
    return None, replace(found.status, status="no_face", message=message), found.frame_size


def encode_clips(
    clips: Sequence[FaceClip], box: BoxEncoder, encoder: VisualEncoder, *, num_samples: int, motion: str
) -> dict[str, Tensor]:
    """Everything a model reads of face clips, one row per clip: ``visual``, ``summary``, ``units``, ``timestamps``, ``boxes`` and, if measured, ``motion``.

    Args:
        box: Describes the action units where the encoder does not. encoder: Makes the visual tokens; may be the box. motion: One of ``motion.SOURCES``.
    """
    describer = encoder if isinstance(encoder, DescribingEncoder) else box
    readings = describer.read(clips)
    tokens = [r.tokens for r in readings] if encoder is describer else encoder.encode(clips)
    steps, patches = encoder.num_frames, num_tokens(encoder)
    num_units = len(describer.au_names)
    tensors = {
        "visual": _rows([t.values.half() for t in tokens], (steps, patches, encoder.dim), torch.float16),
        "summary": _rows([t.summary.half() for t in tokens], (steps, encoder.summary_dim), torch.float16),
        "units": _rows([r.action_units.intensity for r in readings], (num_samples, num_units), torch.float32),
        "timestamps": _rows([c.timestamps for c in clips], (num_samples,), torch.float64),
        "boxes": _rows([c.track.boxes for c in clips], (num_samples, 4), torch.float32),
    }
    if motion != "tokens":
        tensors["motion"] = measure_motion(clips, motion, encoder.encode, grid=encoder.grid, num_steps=steps)
    return tensors


def refuse_motion(encoder: VisualEncoder | None, motion: str) -> None:
    """Motion is measured on patches.

    Raises:
        ConfigError: The encoder has tokens of face areas, and motion is to be measured.
    """
    if encoder is not None and encoder.areas and motion != "tokens":
        raise ConfigError(
            f"motion_source {motion} is measured on patches; with the encoder {encoder.name} choose tokens"
        )


def _rows(values: Sequence[Tensor | np.ndarray], shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Stacked, also when there are none."""
    return (
        torch.stack([torch.as_tensor(v).to(dtype) for v in values]) if values else torch.zeros((0, *shape), dtype=dtype)
    )


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch with one thread: sums keep one order, so that bytes do not depend on how many cores a machine has or a command found free."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _extract_shard(job: tuple[list[Record], FeatureConfig, str, str]) -> int:
    with one_thread():
        return _extract(*job)


def _extract(records: list[Record], config: FeatureConfig, out: str, key: str) -> int:
    cv2.setNumThreads(1)
    detector = build_detector(config.face)
    box = BoxEncoder(config.box)
    encoder = box if config.encoder == "box" else open_visual_encoder(config.encoder, box=config.box)
    landmarker = FaceLandmarker(landmarker_file(config.landmarker)) if encoder.needs_landmarks else None
    clips: list[FaceClip] = []
    kept: list[int] = []
    sizes: list[tuple[int, int]] = []
    statuses: list[dict[str, object]] = []
    for i, record in enumerate(records):
        clip, status, size = read_clip(record, detector, num_samples=config.num_samples, landmarker=landmarker)
        statuses.append({name: getattr(status, name) for name in status.__slots__})
        if clip is not None:
            clips.append(clip)
            kept.append(i)
            sizes.append(size)
    if landmarker is not None:
        landmarker.close()
    tensors = encode_clips(clips, box, encoder, num_samples=config.num_samples, motion=config.motion)
    tensors["frame_sizes"] = torch.tensor(sizes, dtype=torch.int64).reshape(-1, 2)
    tensors["kept"] = torch.tensor(kept, dtype=torch.int64)
    about = {
        "key": key,
        "sha256": digest_tensors(tensors),
        "statuses": statuses,
        "encoder": encoder.name,
        "digest": encoder.digest,
        "grid": list(encoder.grid),
        "areas": list(encoder.areas),
        "au_names": list(box.au_names),
    }
    with atomic_path(out) as temporary:
        save_file(
            {name: value.contiguous() for name, value in tensors.items()},
            temporary,
            metadata={"about": json.dumps(about, sort_keys=True)},
        )
    return len(records)


def extract_features(
    records: Sequence[Record],
    folder: Path | str,
    config: FeatureConfig | None = None,
    *,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Features:
    """Features of all records, from the cache in ``folder`` where it holds them.

    A shard is keyed by the bytes of its videos, the detector and the encoder's weights: anything else is made again. A video that
    cannot be read is recorded and the rest goes on.

    Raises:
        DataError: No record could be read.
    """
    config, folder, records = config or FeatureConfig(), Path(folder), list(records)
    build_detector(config.face)  # wrong names and missing files are told before any work
    weights = digest_file(Path(config.box) / "visual.safetensors")
    opened = None if config.encoder == "box" else open_visual_encoder(config.encoder, box=config.box)
    encoder = "" if opened is None else opened.digest
    measured = [] if config.motion == "tokens" else [config.motion]
    refuse_motion(opened, config.motion)
    if opened is not None and opened.needs_landmarks:
        measured.append(digest_file(landmarker_file(config.landmarker)))
    jobs = []
    for number, first in enumerate(range(0, len(records), CLIPS_PER_SHARD)):
        part = records[first : first + CLIPS_PER_SHARD]
        bytes_of = [(r.clip_id, digest_source(r.video)) for r in part]
        boxes = digest_file(config.face) if config.face.endswith(".csv") else config.face
        key = digest_json([bytes_of, boxes, config.encoder, config.num_samples, weights, encoder, *measured])
        path = folder / f"features-{number:04d}.safetensors"
        jobs.append((part, config, str(path), key, stored_key(path) == key))
    done = sum(len(job[0]) for job in jobs if job[4])
    if on_progress:
        on_progress(done, len(records))
    todo = [(part, conf, path, key) for part, conf, path, key, finished in jobs if not finished]
    for count in run_parallel(_extract_shard, todo, workers or os.cpu_count() or 1):
        done += count
        if on_progress:
            on_progress(done, len(records))
    return _read_shards([(job[0], Path(job[2])) for job in jobs])


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names and values."""
    return digest_arrays({name: value.numpy() for name, value in tensors.items()})


def stored_key(path: Path) -> str:
    """Key of a shard of features or tokens; empty when it is missing or damaged in any way, also by a single bit."""
    try:
        with safe_open(path, framework="pt") as handle:
            about = json.loads(handle.metadata()["about"])
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
        return str(about["key"]) if about["sha256"] == digest_tensors(tensors) else ""
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError):
        return ""


def _read_shards(shards: list[tuple[list[Record], Path]]) -> Features:
    records: list[Record] = []
    statuses: dict[str, ClipStatus] = {}
    columns: dict[str, list[Tensor]] = {}
    about: dict[str, Any] = {}
    for part, path in shards:
        with safe_open(path, framework="pt") as handle:
            about = json.loads(handle.metadata()["about"])
            for name in set(handle.keys()) - {"kept"}:
                columns.setdefault(name, []).append(handle.get_tensor(name))
            records += [part[i] for i in handle.get_tensor("kept").tolist()]
        for record, status in zip(part, about["statuses"], strict=True):
            statuses[record.clip_id] = ClipStatus(**status)
    if not records:
        first = next(iter(statuses.values()))
        raise DataError(f"none of {len(statuses)} videos could be used; the first: {first.message}")
    joined = {name: torch.cat(parts) for name, parts in columns.items()}
    return Features(
        records=tuple(records),
        statuses=statuses,
        visual=joined["visual"],
        summary=joined["summary"],
        units=joined["units"].numpy(),
        timestamps=joined["timestamps"].numpy(),
        boxes=joined["boxes"].numpy(),
        frame_sizes=joined["frame_sizes"].numpy(),
        au_names=tuple(about["au_names"]),
        grid=tuple(about["grid"]),
        areas=tuple(about["areas"]),
        encoder=str(about["encoder"]),
        encoder_digest=str(about["digest"]),
        motion=joined.get("motion"),
    )
