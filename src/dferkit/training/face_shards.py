"""Rendered training faces for the box: crops that came through the default detector, with their true action units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import cv2
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from dferkit.errors import DataError
from dferkit.evaluation.claims import on_crop
from dferkit.faces import CROP_MARGIN, HaarDetector, track_faces, warp_face
from dferkit.labels import BASIC
from dferkit.parallel import run_parallel
from dferkit.schema import DecodeReport, Frames
from dferkit.storage import atomic_path
from dferkit.synthetic.benchmark import (
    CLIPS_PER_SUBJECT,
    BenchmarkConfig,
    draw_clip,
    draw_identity,
    generator,
    plan_clips,
)
from dferkit.synthetic.flow import motion_truth
from dferkit.synthetic.identity import SKIN_TONES
from dferkit.synthetic.render import render_frames

SUBJECTS_PER_SHARD = 16
CROP_SIZE = 80
NETWORK_SIZE = 64
WIDE_MARGIN = 0.3125  # wider than in use: room for shifts, scale and roll
USED_SIZE = (
    CROP_SIZE * (1 + 2 * CROP_MARGIN) / (1 + 2 * WIDE_MARGIN)
)  # pixels of a stored crop that a clip in use would show
_RENDER_SIZES = (112, 112, 144)
HEAT_GRID = (8, 8)  # of the box's tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceShard:
    """Training clips.

    Attributes:
        crops: uint8 (clips, frames, 80, 80, 3) RGB. au: (clips, frames, AUs). label: (clips,) index into ``labels.BASIC``.
        subject: (clips,) number of the person within profile and seed. tone: (clips,) index into ``SKIN_TONES``.
        is_natural: (clips,). heat: float16 (clips, AUs, 8, 8) how far each action unit moves what a cell of a crop in use shows, largest cell 1.
    """

    crops: np.ndarray
    au: np.ndarray
    label: np.ndarray
    subject: np.ndarray
    tone: np.ndarray
    is_natural: np.ndarray
    heat: np.ndarray


def _render_shard(job: tuple[BenchmarkConfig, int, str]) -> int:
    config, number, out = job
    path = Path(out)
    if path.is_file():
        return SUBJECTS_PER_SHARD * CLIPS_PER_SUBJECT
    cv2.setNumThreads(1)
    detector = HaarDetector()
    plans = plan_clips(config)
    rows: dict[str, list[np.ndarray | int | bool]] = {
        key: [] for key in ("crops", "au", "label", "subject", "tone", "is_natural", "heat")
    }
    for subject in range(number * SUBJECTS_PER_SHARD, min((number + 1) * SUBJECTS_PER_SHARD, config.num_subjects)):
        identity = draw_identity(config, subject)
        for plan in (p for p in plans if p.subject == subject):
            performance = draw_clip(config, plan)
            size = _RENDER_SIZES[int(generator(config, 2, plan.number).integers(len(_RENDER_SIZES)))]
            images = render_frames(
                identity, performance.au, performance.asymmetry, performance.scene, size=size, noise_seed=plan.number
            )
            times = np.arange(len(images)) / config.fps
            frames = Frames(
                images=images,
                timestamps=times,
                indices=np.arange(len(images)),
                start_seconds=0.0,
                end_seconds=config.seconds,
                report=DecodeReport(num_requested=len(images), num_decoded=len(images)),
            )
            tracks = track_faces(frames, detector)
            if not tracks:
                continue  # as in use: a clip without a found face teaches nothing
            clip = warp_face(frames, tracks[0], size=CROP_SIZE, margin=WIDE_MARGIN)
            rows["crops"].append(clip.images)
            rows["au"].append(performance.au.astype(np.float16))
            rows["label"].append(BASIC.index(plan.label))
            rows["subject"].append(subject)
            rows["tone"].append(list(SKIN_TONES).index(identity.skin_tone))
            rows["is_natural"].append(config.profile == "natural")
            heat = motion_truth(identity, performance, size=size).heat
            rows["heat"].append(
                on_crop(heat, np.nanmean(tracks[0].boxes, 0), (size, size), HEAT_GRID).astype(np.float16)
            )
    with atomic_path(path) as temporary:
        save_file(
            {key: np.ascontiguousarray(np.stack([np.asarray(v) for v in value])) for key, value in rows.items()},
            temporary,
        )
    return SUBJECTS_PER_SHARD * CLIPS_PER_SUBJECT


def render_shards(
    folder: Path | str, config: BenchmarkConfig, *, workers: int, on_progress: Callable[[int, int], None] | None = None
) -> list[Path]:
    """Render ``config.clips`` clips of both profiles (half each) as shards; finished shards are kept.

    Returns:
        Shard paths, posed first.
    """
    jobs = []
    for profile in ("posed", "natural"):
        half = replace(config, profile=profile, clips=config.clips // 2, seed=config.seed * 2 + (profile == "natural"))
        for number in range(-(-half.num_subjects // SUBJECTS_PER_SHARD)):
            jobs.append((half, number, str(Path(folder) / f"{profile}-{number:03d}.safetensors")))
    # Profiles alternate, so that an interrupted rendering holds both.
    half_count = len(jobs) // 2
    ordered = [job for pair in zip(jobs[:half_count], jobs[half_count:], strict=True) for job in pair]
    done = 0
    for count in run_parallel(_render_shard, ordered, workers):
        done += count
        if on_progress:
            on_progress(min(done, config.clips), config.clips)
    return [Path(job[2]) for job in jobs]


def read_shards(paths: list[Path]) -> FaceShard:
    """All shards as one, in memory (about 310 kB a clip).

    Raises:
        DataError: A shard was written by another version.
    """
    wanted = {field.name for field in fields(FaceShard)}
    columns: dict[str, list[np.ndarray]] = {}
    offset = {"posed": 0, "natural": 1_000_000}
    for path in paths:
        with safe_open(path, framework="numpy") as handle:
            if missing := sorted(wanted - set(handle.keys())):
                raise DataError(
                    f"{path.name} was rendered by another version (no {', '.join(missing)}); delete its folder and run the same command again"
                )
            for key in handle.keys():  # noqa: SIM118
                value = handle.get_tensor(key)
                columns.setdefault(key, []).append(
                    value + offset[path.name.split("-")[0]] if key == "subject" else value
                )
    return FaceShard(**{key: np.concatenate(value) for key, value in columns.items()})
