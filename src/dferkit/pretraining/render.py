"""Rendered training faces as shards: each clip is drawn, its face is found and warped as in use, and its truth is stored beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from safetensors.numpy import save_file

from dferkit.evaluation.claims import on_crop
from dferkit.faces import FaceLandmarker, HaarDetector, measure_geometry, track_faces, warp_face
from dferkit.faces.landmarks import NUM_POINTS
from dferkit.labels import BASIC
from dferkit.parallel import run_parallel
from dferkit.pretraining.rendered_faces import CROP_SIZE, PROFILES, WIDE_MARGIN, shard_name
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
HEAT_GRID = (8, 8)  # of the box's tokens
_SIZES = (0.86, 1.0, 1.0, 1.14)  # shares of the configured size
_LARGE, _SUPERSAMPLING = 160, (1.5, 1.0)  # large pictures are drawn once per pixel


def render_shards(
    folder: Path | str,
    parts: Sequence[BenchmarkConfig],
    *,
    landmarker: Path | str | None,
    workers: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Render several configurations as shards, keeping the shards that are already there.

    Args:
        landmarker: Task file of the face landmarker; without one no landmarks are stored.

    Returns:
        Shard paths, part by part.
    """
    jobs = [
        (
            config,
            number,
            str(Path(folder) / shard_name(part, number, has_landmarks=bool(landmarker))),
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


_landmarker: FaceLandmarker | None = None


def _landmarker_of(path: str) -> FaceLandmarker:
    """The landmarker of this process: loading one takes as long as rendering a clip."""
    global _landmarker
    if _landmarker is None:
        _landmarker = FaceLandmarker(path)
    return _landmarker


def _landmarks(frames: Frames, track: FaceTrack, landmarker: str) -> np.ndarray:
    if not landmarker:
        return np.full((len(frames.images), NUM_POINTS, 3), np.nan)
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
            continue  # in use, too, such a clip gets no answer
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
