"""Rendered training faces for the box: crops and landmarks that came through the front ends in use, with their true action units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from dferkit.errors import DataError
from dferkit.evaluation.claims import on_crop
from dferkit.faces import CROP_MARGIN, FaceLandmarker, HaarDetector, measure_geometry, track_faces, warp_face
from dferkit.labels import BASIC
from dferkit.parallel import run_parallel
from dferkit.schema import DecodeReport, FaceTrack, Frames
from dferkit.storage import atomic_path
from dferkit.synthetic.benchmark import (
    BenchmarkConfig,
    ClipPlan,
    draw_clip,
    draw_identity,
    generator,
    plan_clips,
)
from dferkit.synthetic.flow import motion_truth
from dferkit.synthetic.identity import SKIN_TONES, Identity
from dferkit.synthetic.motion import Performance
from dferkit.synthetic.render import render_frames

SUBJECTS_PER_SHARD = 8
CROP_SIZE = 80
NETWORK_SIZE = 64
WIDE_MARGIN = 0.3125  # wider than in use: room for shifts, scale and roll
USED_SIZE = (
    CROP_SIZE * (1 + 2 * CROP_MARGIN) / (1 + 2 * WIDE_MARGIN)
)  # pixels of a stored crop that a clip in use would show
_SIZES = (0.86, 1.0, 1.0, 1.14)  # shares of the configured size
_LARGE, _SUPERSAMPLING = 160, (1.5, 1.0)  # large pictures are drawn once per pixel
HEAT_GRID = (8, 8)  # of the box's tokens
PROFILES = ("posed", "natural", "varied")
_PEOPLE_PER_PART = 1_000_000
_LANDMARKS = 478  # MediaPipe's


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceShard:
    """Training clips.

    Attributes:
        crops: uint8 (clips, frames, 80, 80, 3) RGB. au: (clips, frames, AUs). label: (clips,) index into ``labels.BASIC``.
        subject: (clips,) number of the person, unique over the parts of a rendering. tone: (clips,) index into ``SKIN_TONES``.
        profile: (clips,) index into ``PROFILES``.
        heat: float16 (clips, AUs, 8, 8) how far each action unit moves what a cell of a crop in use shows, largest cell 1.
        landmarks: float32 (clips, frames, 478, 3) pixels of the frame, NaN where the landmarker saw no face or was not there.
        boxes: (clips, frames, 4) pixels, NaN where not found.
    """

    crops: np.ndarray
    au: np.ndarray
    label: np.ndarray
    subject: np.ndarray
    tone: np.ndarray
    profile: np.ndarray
    heat: np.ndarray
    landmarks: np.ndarray
    boxes: np.ndarray

    def take(self, chosen: np.ndarray) -> FaceShard:
        """Some clips."""
        return FaceShard(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})

    def of_profile(self, name: str) -> np.ndarray:
        """(clips,) True for the clips of one profile."""
        return self.profile == PROFILES.index(name)


_landmarker: FaceLandmarker | None = None


def _landmarker_of(path: str) -> FaceLandmarker:
    """One landmarker per worker: loading takes as long as a clip."""
    global _landmarker
    if _landmarker is None:
        _landmarker = FaceLandmarker(path)
    return _landmarker


def _landmarks(frames: Frames, track: FaceTrack, landmarker: str) -> np.ndarray:
    if not landmarker:
        return np.full((len(frames.images), _LANDMARKS, 3), np.nan)
    found = measure_geometry(frames, track, _landmarker_of(landmarker)).landmarks
    assert found is not None
    return found


def _render_shard(job: tuple[BenchmarkConfig, int, str, str]) -> int:
    config, number, out, landmarker = job
    subjects = range(number * SUBJECTS_PER_SHARD, min((number + 1) * SUBJECTS_PER_SHARD, config.num_subjects))
    plans = [plan for plan in plan_clips(config) if plan.subject in subjects]
    if Path(out).is_file():
        return len(plans)
    cv2.setNumThreads(1)
    detector, rows = HaarDetector(), []
    people = {subject: draw_identity(config, subject) for subject in subjects}
    for plan in plans:
        performance = draw_clip(config, plan)
        frames = _frames(config, plan, people[plan.subject], performance)
        tracks = track_faces(frames, detector)
        if not tracks:
            continue  # as in use: a clip without a found face teaches nothing
        landmarks = _landmarks(frames, tracks[0], landmarker)
        rows.append(_row(config, plan, people[plan.subject], performance, frames, tracks[0], landmarks))
    with atomic_path(out) as temporary:
        save_file({key: np.ascontiguousarray(np.stack([row[key] for row in rows])) for key in rows[0]}, temporary)
    return len(plans)


def _frames(config: BenchmarkConfig, plan: ClipPlan, identity: Identity, performance: Performance) -> Frames:
    share = _SIZES[int(generator(config, 2, plan.number).integers(len(_SIZES)))]
    size = round(config.size * share / 8) * 8
    images = render_frames(
        identity,
        performance.au,
        performance.asymmetry,
        performance.scene,
        size=size,
        supersampling=_SUPERSAMPLING[size >= _LARGE],
        noise_seed=plan.number,
    )
    return Frames(
        images=images,
        timestamps=np.arange(len(images)) / config.fps,
        indices=np.arange(len(images)),
        start_seconds=0.0,
        end_seconds=config.seconds,
        report=DecodeReport(num_requested=len(images), num_decoded=len(images)),
    )


def _row(
    config: BenchmarkConfig,
    plan: ClipPlan,
    identity: Identity,
    performance: Performance,
    frames: Frames,
    track: FaceTrack,
    landmarks: np.ndarray,
) -> dict[str, np.ndarray]:
    size = frames.images.shape[1]
    heat = motion_truth(identity, performance, size=size).heat
    return {
        "crops": warp_face(frames, track, size=CROP_SIZE, margin=WIDE_MARGIN).images,
        "au": performance.au.astype(np.float16),
        "label": np.array(BASIC.index(plan.label)),
        "subject": np.array(plan.subject),
        "tone": np.array(list(SKIN_TONES).index(identity.skin_tone)),
        "profile": np.array(PROFILES.index(config.profile)),
        "heat": on_crop(heat, np.nanmean(track.boxes, 0), (size, size), HEAT_GRID).astype(np.float16),
        "landmarks": landmarks.astype(np.float32),
        "boxes": track.boxes.astype(np.float32),
    }


def render_shards(
    folder: Path | str,
    parts: Sequence[BenchmarkConfig],
    *,
    landmarker: Path | str | None,
    workers: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Render several configurations as shards; finished shards are kept.

    Args:
        landmarker: Task file of the face landmarker; without one no landmarks are stored.

    Returns:
        Shard paths, part by part.
    """
    jobs = [
        (
            config,
            number,
            str(Path(folder) / f"part{part:02d}-{number:04d}{'' if landmarker else '-unmeasured'}.safetensors"),
            str(landmarker or ""),
        )
        for part, config in enumerate(parts)
        for number in range(-(-config.num_subjects // SUBJECTS_PER_SHARD))
    ]
    done, total = 0, sum(config.clips for config in parts)
    # Parts are rendered side by side, so that an interrupted rendering holds something of each.
    for count in run_parallel(_render_shard, sorted(jobs, key=lambda job: job[1]), workers, in_order=False):
        done += count
        if on_progress:
            on_progress(done, total)
    return [Path(job[2]) for job in jobs]


def read_shards(paths: Sequence[Path]) -> FaceShard:
    """All shards as one, in memory (about 420 kB a clip).

    Raises:
        DataError: A shard was written by another version.
    """
    wanted = {field.name for field in fields(FaceShard)}
    columns: dict[str, list[np.ndarray]] = {}
    for path in paths:
        with safe_open(path, framework="numpy") as handle:
            if missing := sorted(wanted - set(handle.keys())):
                raise DataError(
                    f"{path.name} was rendered by another version (no {', '.join(missing)}); delete its folder and run the same command again"
                )
            for key in sorted(wanted):
                value = handle.get_tensor(key)
                columns.setdefault(key, []).append(value + _first_subject(path) if key == "subject" else value)
    return FaceShard(**{key: np.concatenate(value) for key, value in columns.items()})


def _first_subject(path: Path) -> int:
    """People of different parts get different numbers."""
    return _PEOPLE_PER_PART * int(path.name.removeprefix("part").split("-")[0])
