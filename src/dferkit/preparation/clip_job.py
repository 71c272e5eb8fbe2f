"""The work on one clip, as a worker process gets it."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from multiprocessing.util import Finalize
from pathlib import Path

import cv2

from dferkit.errors import BackendError
from dferkit.faces import (
    BoxFile,
    Crop,
    Detector,
    FaceLandmarker,
    build_detector,
    front_end_key,
    open_landmarker,
    read_clip_faces,
)
from dferkit.preparation.config import PrepareConfig, settings_of
from dferkit.preparation.part import make_part, write_part
from dferkit.schema import Record
from dferkit.storage import digest_json
from dferkit.video import digest_source


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipJob:
    """One clip to be there afterwards.

    Attributes:
        shard, place: Where it belongs. part: Path of its part file.
        known_key: Of what is stored already, empty for nothing. front_end: Key of the detector that must be used.
    """

    shard: int
    place: int
    clip_id: str
    video: str
    part: str
    known_key: str
    config: PrepareConfig
    front_end: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipDone:
    """What became of a job. ``is_new``: A part file was written; otherwise the stored clip is still right."""

    shard: int
    place: int
    key: str
    is_new: bool
    num_frames: int = 0
    cpu_seconds: float = 0.0
    num_bytes: int = 0


def prepare_clip(job: ClipJob) -> ClipDone:
    """Make the part file of a clip, unless what is stored was made from the same bytes with the same settings.

    The source's bytes are hashed every time. That takes a fortieth of the work on faces that are cut already and far less
    of any other (docs/benchmarks.md), while names, sizes and times of files can stay the same when the content changes.
    Where the source is gone, what is stored stays: videos may be deleted once their faces are kept.
    """
    cv2.setNumThreads(1)
    started = time.process_time()
    source = digest_source(job.video)
    settings = digest_json(settings_of(job.config, job.front_end))
    key = digest_json([settings, job.clip_id, source])
    if job.known_key and (key == job.known_key or not source):
        return ClipDone(shard=job.shard, place=job.place, key=job.known_key, is_new=False)
    found = read_clip_faces(
        Record(clip_id=job.clip_id, video=Path(job.video)),
        _detector(job.config.face, job.front_end),
        max_frames=job.config.max_frames,
        crop=Crop(size=job.config.size, margin=job.config.margin),
        landmarker=_landmarker(job.config.landmarker),
    )
    part = make_part(job.clip_id, key, found, quality=job.config.quality, settings=settings)
    write_part(Path(job.part), part)
    return ClipDone(
        shard=job.shard,
        place=job.place,
        key=key,
        is_new=True,
        num_frames=int(part.about["num_frames"]),
        cpu_seconds=time.process_time() - started,
        num_bytes=Path(job.part).stat().st_size,
    )


@functools.lru_cache(maxsize=1)
def _detector(face: str, front_end: str) -> Detector | BoxFile:
    """The detector, built once per process.

    Raises:
        BackendError: It is another one than where the run was started.
    """
    detector = build_detector(face)
    if front_end_key(detector) != front_end.partition(" ")[0]:
        raise BackendError(f"face detector {face} differs in this worker: give all workers the same model files")
    return detector


@functools.lru_cache(maxsize=1)
def _landmarker(spec: str) -> FaceLandmarker | None:
    """The landmarker, loaded once per process. A worker closes it when it ends, this process by ``close_landmarker``."""
    landmarker = open_landmarker(spec)
    if landmarker is not None:
        Finalize(None, landmarker.close, exitpriority=10)
    return landmarker


def close_landmarker(spec: str) -> None:
    """Give back what clips that were prepared in this process have loaded: at the interpreter's end it would be too late."""
    landmarker = _landmarker(spec) if _landmarker.cache_info().currsize else None
    if landmarker is not None:
        landmarker.close()
    _landmarker.cache_clear()
