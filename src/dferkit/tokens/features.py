"""Labelled videos → cached tokens and action units: decode, find faces, encode once, store as safetensors shards."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dferkit.checks import check_choices, check_counts
from dferkit.devices import device_facts
from dferkit.encoders.box import BOX_FOLDER
from dferkit.encoders.front_end import FRONT_ENDS
from dferkit.encoders.landmarks import seen_share
from dferkit.encoders.open import describer_of, open_visual_encoder
from dferkit.encoders.protocols import DescribingEncoder, VisualEncoder, check_declared, num_tokens
from dferkit.errors import ConfigError, DataError
from dferkit.faces import BoxFile, Detector, FaceLandmarker, build_detector, landmarker_file
from dferkit.faces.clip import read_clip_faces
from dferkit.faces.read import LOW_COVERAGE_BELOW
from dferkit.faces.status import landmarks_missing
from dferkit.labels import BASIC
from dferkit.motion import SOURCES, measure_motion
from dferkit.parallel import run_parallel
from dferkit.schema import ClipStatus, FaceClip, Record
from dferkit.storage import atomic_path, digest_arrays, digest_file, digest_json
from dferkit.tokens.dataset import TokenDataset, subjects_of, targets_of
from dferkit.video import digest_source

CLIPS_PER_SHARD = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenConfig:
    """How clips become tokens.

    Attributes:
        encoder: As ``encoders.open`` names it. box: Folder of the bundled model, whose video network measures action units where the encoder does not.
        num_samples: Frames of a view. motion: One of ``motion.SOURCES``.
        face: Detector name, and landmarker: task file or ``auto``, of videos; the faces of a store are cut already.
        times, with_flip: Views of a store's clips, see ``views.clip_views``.
    """

    encoder: str = FRONT_ENDS["pixels"]
    box: str = str(BOX_FOLDER)
    num_samples: int = 16
    motion: str = "tokens"
    face: str = "haar"
    landmarker: str = "auto"
    times: int = 1
    with_flip: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_choices(self, {"motion": SOURCES})
        check_counts(self, "num_samples", "times")


def read_clip(
    record: Record, detector: Detector | BoxFile, *, num_samples: int = 16, landmarker: FaceLandmarker | None = None
) -> tuple[FaceClip | None, ClipStatus, tuple[int, int]]:
    """The face clip of a whole labelled clip, or the reason why there is none; and the frame's (width, height).

    Args:
        landmarker: With one, a clip counts as without a face if the landmarker finds none in most frames.
    """
    found = read_clip_faces(record, detector, num_samples=num_samples, landmarker=landmarker)
    if landmarker is None or found.clip is None or seen_share(found.clip) >= LOW_COVERAGE_BELOW:
        return found.clip, found.status, found.frame_size
    return None, landmarks_missing(found.status), found.frame_size


def encode_clips(
    clips: Sequence[FaceClip], describer: DescribingEncoder, encoder: VisualEncoder, *, num_samples: int, motion: str
) -> dict[str, Tensor]:
    """Everything a model reads of face clips, one row per clip: ``visual``, ``summary``, ``units``, ``timestamps``, ``boxes`` and, if measured, ``motion``.

    Args:
        describer: Measures the action units. encoder: Makes the visual tokens; may be the describer. motion: One of ``motion.SOURCES``.

    Raises:
        ConfigError: The tokens are not as the encoder declares them.
    """
    readings = describer.read(clips)
    tokens = [r.tokens for r in readings] if encoder is describer else encoder.encode(clips)
    if tokens:
        check_declared(encoder, tokens[0])
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


def refuse_motion(encoder: VisualEncoder, motion: str) -> None:
    """Motion is measured on patches.

    Raises:
        ConfigError: The encoder has tokens of face areas, and motion is to be measured.
    """
    if encoder.areas and motion != "tokens":
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


def _extract_shard(job: tuple[list[Record], TokenConfig, str, str]) -> int:
    with one_thread():
        return _extract(*job)


def _extract(records: list[Record], config: TokenConfig, out: str, key: str) -> int:
    cv2.setNumThreads(1)
    detector = build_detector(config.face)
    encoder = open_visual_encoder(config.encoder, box=config.box, device=config.device)
    describer = describer_of(encoder, config.box, device=config.device)
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
    tensors = encode_clips(clips, describer, encoder, num_samples=config.num_samples, motion=config.motion)
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
        "au_names": list(describer.au_names),
        "describer": describer.name,
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
    config: TokenConfig | None = None,
    *,
    labels: tuple[str, ...] = BASIC,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> TokenDataset:
    """Tokens and action units of all records that could be read, from the cache in ``folder`` where it holds them.

    A shard is keyed by the bytes of its videos, the detector and the encoder's weights: anything else is made again. A video that
    cannot be read is recorded, and the others are read.

    Args:
        labels: Classes of the data set.

    Raises:
        DataError: No record could be read.
    """
    config, folder, records = config or TokenConfig(), Path(folder), list(records)
    build_detector(config.face)  # wrong names and missing files are refused before any work
    encoder = open_visual_encoder(config.encoder, box=config.box)
    weights = [encoder.digest, describer_of(encoder, config.box).digest]
    measured = [*device_facts(config.device).values(), *([] if config.motion == "tokens" else [config.motion])]
    refuse_motion(encoder, config.motion)
    if encoder.needs_landmarks:
        measured.append(digest_file(landmarker_file(config.landmarker)))
    jobs = []
    for number, first in enumerate(range(0, len(records), CLIPS_PER_SHARD)):
        part = records[first : first + CLIPS_PER_SHARD]
        bytes_of = [(r.clip_id, digest_source(r.video)) for r in part]
        boxes = digest_file(config.face) if config.face.endswith(".csv") else config.face
        key = digest_json([bytes_of, boxes, config.num_samples, *weights, *measured, ClipStatus.__slots__])
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
    return _read_shards([(job[0], Path(job[2])) for job in jobs], labels)


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


def _read_shards(shards: list[tuple[list[Record], Path]], labels: tuple[str, ...]) -> TokenDataset:
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
    return dataset_of(records, labels, joined, about, statuses=statuses)


def dataset_of(
    records: Sequence[Record],
    labels: tuple[str, ...],
    tensors: Mapping[str, Any],
    about: Mapping[str, Any],
    *,
    statuses: Mapping[str, ClipStatus],
    view: np.ndarray | None = None,
) -> TokenDataset:
    """The tensors of ``encode_clips``, with their records, as a data set.

    Args:
        about: ``encoder``, ``digest``, ``grid``, ``areas``, ``au_names`` and ``describer``, as a shard notes them.
    """
    return TokenDataset(
        records=tuple(records),
        labels=labels,
        target=targets_of(records, labels),
        groups=subjects_of(records),
        visual=tensors["visual"],
        summary=tensors["summary"],
        motion=tensors.get("motion"),
        units=tensors["units"].numpy(),
        timestamps=tensors["timestamps"].numpy(),
        boxes=tensors["boxes"].numpy(),
        frame_sizes=tensors["frame_sizes"].numpy(),
        view=np.zeros(len(records), np.int64) if view is None else view,
        au_names=tuple(about["au_names"]),
        grid=tuple(about["grid"]),
        areas=tuple(about["areas"]),
        encoder=str(about["encoder"]),
        encoder_digest=str(about["digest"]),
        describer=str(about["describer"]),
        statuses=statuses,
    )
