"""Scores of each front end of the bundled model on recordings of lower quality: from frames to class, on rendered clips with known truth.

    python benchmarks/robustness.py --landmarker face_landmarker.task --out benchmarks/results/robustness.json

Every row has the same clips of the same people (the benchmark's posed profile, with another seed), changed in one way.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from dferkit.encoders.box import BOX_FOLDER
from dferkit.encoders.front_end import FRONT_ENDS, front_end_of
from dferkit.evaluation.metrics import evaluate_predictions
from dferkit.faces import BoxJitter, FaceLandmarker, HaarDetector, landmarker_file, measure_geometry, track_faces
from dferkit.faces.warp import warp_face
from dferkit.labels import BASIC
from dferkit.models.checkpoint import load_checkpoint
from dferkit.models.shipped import head_folder
from dferkit.parallel import run_parallel
from dferkit.pipeline import Model
from dferkit.schema import DecodeReport, Frames
from dferkit.storage import write_json
from dferkit.synthetic import BenchmarkConfig, Performance, fingerprint, plan_clips
from dferkit.synthetic.benchmark import draw_clip, draw_identity
from dferkit.synthetic.render import render_frames
from dferkit.synthetic.scene import PER_FRAME, Occluder, Scene

SEED = 77


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One way to lower the quality of a recording.

    Attributes:
        size: Height and width of the frames. scene: Changes the rendered scene. picture: Changes a frame, uint8 RGB. jitter: Displacement of the crop.
        every: A new frame comes every this many frames; the others repeat it.
    """

    size: int = 112
    scene: Callable[[Scene], Scene] = lambda scene: scene
    picture: Callable[[np.ndarray, np.random.Generator], np.ndarray] = lambda image, rng: image
    jitter: BoxJitter | None = None
    every: int = 1


def turned(degrees: float) -> Callable[[Scene], Scene]:
    """The head is turned further to the side."""

    def change(scene: Scene) -> Scene:
        pose = scene.pose.copy()
        pose[:, 0] += np.deg2rad(degrees) * (1 if pose[:, 0].mean() >= 0 else -1)
        return replace(scene, pose=pose)

    return change


def hidden(extent: float) -> Callable[[Scene], Scene]:
    """A grey object hides part of the lower half of the face."""
    thing = Occluder(centre=(2.0, -4.0), drift=(0.0, 0.0), extent=(extent, extent), angle=0.0, colour=(0.4, 0.4, 0.4))
    return lambda scene: replace(scene, occluder=thing)


def compressed(quality: int) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """JPEG."""

    def change(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        _, data = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))
        return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])

    return change


def noisy(levels: float) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """Gaussian noise."""
    return lambda image, rng: np.clip(image + rng.standard_normal(image.shape) * levels, 0, 255).astype(np.uint8)


CHANGES: dict[str, Change] = {
    "clean": Change(),
    "blur, sigma 2 pixels": Change(picture=lambda image, rng: cv2.GaussianBlur(image, (0, 0), 2.0)),
    "noise, 16 levels": Change(picture=noisy(16)),
    "JPEG quality 30": Change(picture=compressed(30)),
    "JPEG quality 12": Change(picture=compressed(12)),
    "dark, half the light": Change(picture=lambda image, rng: (image * 0.5).astype(np.uint8)),
    "crop moved by 6 %": Change(jitter=BoxJitter(shift_x=0.06, shift_y=-0.06)),
    "yaw 15° more": Change(scene=turned(15)),
    "yaw 30° more": Change(scene=turned(30)),
    "mouth corner hidden": Change(scene=hidden(1.6)),
    "half of the mouth hidden": Change(scene=hidden(2.8)),
    "4 new frames a second": Change(every=2),
    "2 new frames a second": Change(every=4),
    "frames of 160 pixels": Change(size=160),
    "frames of 80 pixels": Change(size=80),
    "frames of 64 pixels": Change(size=64),
}


def sampled(performance: Performance, every: int) -> Performance:
    """Frames between the new ones repeat the last new one; the true class is the same."""
    shown = np.arange(len(performance.au)) // every * every
    scene = replace(performance.scene, **{name: getattr(performance.scene, name)[shown] for name in PER_FRAME})
    return replace(performance, au=performance.au[shown], scene=scene)


def answer_subject(job: tuple[int, int, str, str]) -> list[tuple[str, str, int, int, list[list[float]], float]]:
    """Probabilities of all front ends for one person's clips under one change; runs in a worker."""
    subject, clips, name, landmarker_path = job
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    change, config = CHANGES[name], BenchmarkConfig(clips=clips, seed=SEED)
    identity, detector = draw_identity(config, subject), HaarDetector()
    rows = []
    with FaceLandmarker(landmarker_path) as landmarker:
        pixels = load_checkpoint(head_folder(BOX_FOLDER, "pixels"))
        models = {
            encoder: Model(
                load_checkpoint(head_folder(BOX_FOLDER, front_end_of(encoder))), landmarker=landmarker, fallback=pixels
            )
            for encoder in FRONT_ENDS.values()
        }
        for plan in (p for p in plan_clips(config) if p.subject == subject):
            performance = sampled(draw_clip(config, plan), change.every)
            rng = np.random.default_rng([SEED, plan.number])
            images = render_frames(
                identity,
                performance.au,
                performance.asymmetry,
                change.scene(performance.scene),
                size=change.size,
                noise_seed=plan.number,
            )
            images = np.stack([change.picture(image, rng) for image in images])
            times = np.arange(len(images)) / config.fps
            report = DecodeReport(num_requested=len(images), num_decoded=len(images))
            frames = Frames(
                images=images,
                timestamps=times,
                indices=np.arange(len(images)),
                start_seconds=0.0,
                end_seconds=config.seconds,
                report=report,
            )
            tracks = track_faces(frames, detector)
            answers: list[list[float]] = []
            seen = 0.0
            if tracks:
                clip = warp_face(frames, tracks[0], jitter=change.jitter)
                clip = replace(clip, geometry=measure_geometry(frames, tracks[0], landmarker))
                assert clip.geometry is not None
                assert clip.geometry.landmarks is not None
                seen = float(np.isfinite(clip.geometry.landmarks[:, 0, 0]).mean())
                for model in models.values():
                    reading = model.reader.read(clip)
                    answers.append(reading.head.checkpoint.probabilities(reading.output.logits[0]).tolist())
            rows.append((name, identity.subject, plan.number, BASIC.index(plan.label), answers, seen))
    return rows


def main() -> None:
    """Measure every row and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=84)
    parser.add_argument("--landmarker", default="auto")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/robustness.json"))
    given = parser.parse_args()
    landmarker = str(landmarker_file(given.landmarker))
    subjects = BenchmarkConfig(clips=given.clips, seed=SEED).num_subjects
    jobs = [(s, given.clips, name, landmarker) for name in CHANGES for s in range(subjects)]
    found: dict[str, list[tuple[str, str, int, int, list[list[float]], float]]] = {name: [] for name in CHANGES}
    for rows in run_parallel(answer_subject, jobs, given.workers):
        for row in rows:
            found[row[0]].append(row)
    table = {}
    for name, rows in found.items():
        true, people = np.array([row[3] for row in rows]), np.array([row[1] for row in rows])
        table[name] = {
            "landmarks_seen": float(np.mean([row[5] for row in rows])),
            "faces": sum(bool(r[4]) for r in rows),
        }
        for number, encoder in enumerate(FRONT_ENDS.values()):
            answers = np.array([row[4][number] if row[4] else np.full(len(BASIC), np.nan) for row in rows])
            scores = evaluate_predictions(BASIC, true, answers, subjects=people)
            table[name][encoder] = {"uar": scores.uar, "uar_ci95": list(scores.uar_ci95)}
    write_json(given.out, {"clips": given.clips, "seed": SEED, "generator": fingerprint(), "rows": table})
    for name, row in table.items():
        print(f"{name:28s}", "  ".join(f"{encoder} {row[encoder]['uar']:.3f}" for encoder in FRONT_ENDS.values()))


if __name__ == "__main__":
    main()
