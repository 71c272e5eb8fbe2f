#!/usr/bin/env python3
"""Which motion weighting follows expression rather than nuisance: every weighting on every probe set, against known truth.

Renders the probes and training clips (kept for the next run), measures, prints a table, writes motion.json.

Usage: python benchmarks/motion.py OUT [--clips 60] [--train-clips 210] [--workers 2]
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from dferkit.encoders.box import BoxEncoder
from dferkit.evaluation.claims import ClipEvidence, motion_claim, truth_on_crop
from dferkit.faces import build_detector
from dferkit.motion import (
    LearnedMotion,
    fit_motion,
    motion_weights,
    proportional_weights,
    residual_differences,
    steady_faces,
)
from dferkit.reports.tables import clean_json
from dferkit.schema import FaceClip, Record
from dferkit.storage import write_json
from dferkit.synthetic import BenchmarkConfig, Nuisances, Truth, plan_clips, read_truth, render_benchmark
from dferkit.synthetic.benchmark import draw_clip, draw_identity
from dferkit.synthetic.flow import GRID
from dferkit.synthetic.probes import render_probe
from dferkit.synthetic.render import render_frames
from dferkit.tokens.features import read_clip

PROBES = ("none", "head", "camera", "light", "blink", "speech")
PROBE_SEED, ALL_SEED, TRAIN_SEED = 11, 12, 13


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """One read clip: crops, tokens of the crops and of the steadied crops, and its truth (on the frame and on the crop)."""

    faces: FaceClip
    steady: np.ndarray
    tokens: torch.Tensor
    steady_tokens: torch.Tensor
    truth: Truth
    frame_size: tuple[int, int]
    expression: torch.Tensor
    nuisance: torch.Tensor


def light_change(config: BenchmarkConfig, number: int) -> np.ndarray:
    """Nuisance of the light probe, which moves nothing: grey change per frame of the same clip with a face that stays still."""
    plan = plan_clips(config)[number]
    performance = draw_clip(config, plan, Nuisances.only("light"))
    still = np.repeat(performance.au[:1], len(performance.au), 0)
    images = render_frames(
        draw_identity(config, plan.subject),
        still,
        performance.asymmetry,
        performance.scene,
        size=config.size,
        noise_seed=plan.number,
    )
    change = np.abs(np.diff(images.astype(np.float32).mean(-1), axis=0, prepend=images[:1].astype(np.float32).mean(-1)))
    return np.stack([cv2.resize(c, (GRID, GRID), interpolation=cv2.INTER_AREA) for c in change])


def read_set(folder: Path, config: BenchmarkConfig, encoder: BoxEncoder, *, is_light: bool = False) -> list[Clip]:
    """All clips of a rendered folder in which a face was found."""
    detector = build_detector("haar")
    clips = []
    with open(folder / "clips.csv", newline="", encoding="utf-8") as rows:
        names = [row["video"] for row in csv.DictReader(rows)]
    for number, name in enumerate(names):
        clip_id = Path(name).stem
        faces, _, size = read_clip(Record(clip_id=clip_id, video=folder / name), detector)
        if faces is None:
            continue
        truth = read_truth(folder, clip_id)
        if is_light:
            change = light_change(replace(config, namespace="probe"), number)
            # Changes below one grey level may come from the coding of the picture.
            truth = replace(truth, flow_nuisance=np.where((truth.visible > 0) & (change.max() > 1), change, 0))
        steady = steady_faces(faces.images)
        tokens, steady_tokens = (t.values for t in encoder.encode([faces, replace(faces, images=steady)]))
        on_crop = [
            torch.from_numpy(truth_on_crop(m, faces.track.boxes, size, encoder.grid, encoder.num_frames)).flatten(1)
            for m in (truth.flow_expression, truth.flow_nuisance)
        ]
        clips.append(
            Clip(
                faces=faces,
                steady=steady,
                tokens=tokens.half(),
                steady_tokens=steady_tokens.half(),
                truth=truth,
                frame_size=size,
                expression=on_crop[0],
                nuisance=on_crop[1],
            )
        )
    return clips


def feature(tokens: torch.Tensor) -> torch.Tensor:
    """Naive or residual feature level, as GRACE weighs."""
    return motion_weights(F.layer_norm(tokens.float(), tokens.shape[-1:])[None])[0]


def pixel(clip: Clip) -> torch.Tensor:
    """Naive pixel level: mean absolute grey difference to the neighbouring frames."""
    grey = clip.faces.images.astype(np.float32).mean(-1)
    steps = np.stack(
        [cv2.resize(s, (8, 8), interpolation=cv2.INTER_AREA).ravel() for s in np.abs(np.diff(grey, axis=0))]
    )
    padded = np.concatenate([steps[:1], steps, steps[-1:]])
    of_frames = (padded[1:] + padded[:-1]) / 2
    return proportional_weights(torch.from_numpy(of_frames.reshape(8, 2, 64).mean(1))[None])[0]


def residual_pixel(clip: Clip) -> torch.Tensor:
    """Residual pixel level."""
    differences = residual_differences(clip.steady, grid=(8, 8), num_steps=8)
    return proportional_weights(torch.from_numpy(differences)[None])[0]


def place_alone(clips: Sequence[Clip]) -> torch.Tensor:
    """A control that reads no clip: the average position of expressions in the training clips."""
    mean = torch.stack([c.expression for c in clips]).mean((0, 1), keepdim=False)
    return (mean / mean.mean()).expand(8, 64)


def fitted(clips: Sequence[Clip], which: str, against: float) -> LearnedMotion:
    """Learned on the training people."""
    return fit_motion(
        torch.stack([getattr(c, which) for c in clips]),
        torch.stack([c.expression for c in clips]),
        torch.stack([c.nuisance for c in clips]),
        against=against,
    )


def judge(clips: Sequence[Clip], weigh: Callable[[Clip], torch.Tensor]) -> dict[str, float]:
    """The claim of ``motion_claim``, and how much the moving cells weigh (an even weighting gives 1)."""
    evidence, on_expression, on_nuisance = [], [], []
    for clip in clips:
        weights = weigh(clip)
        evidence.append(
            ClipEvidence(
                truth=clip.truth,
                motion=weights.reshape(8, 8, 8).numpy(),
                phrases=(),
                boxes=clip.faces.track.boxes,
                frame_size=clip.frame_size,
            )
        )
        for values, motion in ((on_expression, clip.expression), (on_nuisance, clip.nuisance)):
            if motion.max() > 1e-3:
                values.append(float(weights[motion >= motion.max() / 2].mean()))
    result = motion_claim(evidence)
    result["weight_on_expression"] = float(np.mean(on_expression)) if on_expression else float("nan")
    result["weight_on_nuisance"] = float(np.mean(on_nuisance)) if on_nuisance else float("nan")
    return result


def read_sets(
    folder: Path, encoder: BoxEncoder, clips: int, train_clips: int, workers: int
) -> tuple[dict[str, list[Clip]], list[Clip]]:
    """The probe sets by name, and the training clips."""
    probe, every = (BenchmarkConfig(clips=clips, seed=seed) for seed in (PROBE_SEED, ALL_SEED))
    sets: dict[str, list[Clip]] = {}
    for name in PROBES:
        render_probe(probe, folder / name, name, workers=workers)
        sets[name] = read_set(folder / name, probe, encoder, is_light=name == "light")
    render_benchmark(every, folder / "all", workers=workers)
    sets["all"] = read_set(folder / "all", every, encoder)
    training = BenchmarkConfig(clips=train_clips, seed=TRAIN_SEED)
    render_benchmark(training, folder / "train", workers=workers)
    train = read_set(folder / "train", training, encoder)
    for name in ("head", "camera", "light", "blink", "speech"):
        # Nuisances occur in a part of the clips only, and tremor is small, so these sets hold the clips with a visible one.
        strongest = {"head": 0.3}.get(name, 1e-3)
        sets[f"{name}, moving"] = [
            c
            for c in sets[name]
            if c.nuisance.mean(1).max() > strongest or (name != "head" and c.nuisance.max() > strongest)
        ]
    return sets, train


def learn(train: Sequence[Clip]) -> dict[str, tuple[LearnedMotion, str]]:
    """Learned weightings, and the tokens that each reads."""
    return {
        "learned": (fitted(train, "tokens", 0.2), "tokens"),
        "learned, expression only": (fitted(train, "tokens", 0.0), "tokens"),
        "learned, steady": (fitted(train, "steady_tokens", 0.2), "steady_tokens"),
    }


def weightings_of(
    train: Sequence[Clip], learned: dict[str, tuple[LearnedMotion, str]]
) -> dict[str, Callable[[Clip], torch.Tensor]]:
    """Every weighting by name."""
    place = place_alone(train)
    weightings: dict[str, Callable[[Clip], torch.Tensor]] = {
        "place alone (control)": lambda clip: place,
        "naive pixel": pixel,
        "residual pixel": residual_pixel,
        "naive feature": lambda clip: feature(clip.tokens),
        "residual feature": lambda clip: feature(clip.steady_tokens),
    }
    for name, (weighting, which) in learned.items():
        weightings[name] = lambda clip, w=weighting, t=which: w(getattr(clip, t)[None])[0]
    return weightings


def time_steps(clip: Clip, encoder: BoxEncoder, learned: LearnedMotion) -> dict[str, float]:
    """CPU milliseconds per clip of each step."""
    timed = {
        "steady_faces": lambda: steady_faces(clip.faces.images),
        "residual_differences": lambda: residual_differences(clip.steady, grid=(8, 8), num_steps=8),
        "box tokens": lambda: encoder.encode([clip.faces]),
        "motion_weights": lambda: feature(clip.tokens),
        "learned": lambda: learned(clip.tokens[None]),
    }
    milliseconds = {}
    for name, run in timed.items():
        run()
        start = time.process_time()
        for _ in range(10):
            run()
        milliseconds[name] = (time.process_time() - start) * 100
    return milliseconds


def print_table(sets: dict[str, list[Clip]], rows: dict[str, dict[str, dict[str, float]]]) -> None:
    print(
        "correlation with expression / with nuisance / share of the most moving cells kept; weight on expression : on nuisance"
    )
    print("| weighting | " + " | ".join(f"{s} ({len(c)})" for s, c in sets.items()) + " |")
    print("| --- |" + " --- |" * len(sets))
    for name, row in rows.items():
        cells = [
            f"{r['spearman_expression']:.2f} / {r['spearman_nuisance']:.2f} / {r['top10_kept_in_top30']:.2f}; "
            f"{r['weight_on_expression']:.1f} : {r['weight_on_nuisance']:.1f}"
            for r in row.values()
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--train-clips", type=int, default=210)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    encoder = BoxEncoder()
    sets, train = read_sets(options.out, encoder, options.clips, options.train_clips, options.workers)
    learned = learn(train)
    rows = {
        name: {s: judge(clips, weigh) for s, clips in sets.items()}
        for name, weigh in weightings_of(train, learned).items()
    }
    milliseconds = time_steps(sets["all"][0], encoder, learned["learned"][0])
    found = {
        "clips": {s: len(c) for s, c in sets.items()},
        "train": len(train),
        "weightings": rows,
        "milliseconds": milliseconds,
    }
    write_json(options.out / "motion.json", clean_json(found))
    print_table(sets, rows)
    print("CPU milliseconds per clip of 16 frames:", {name: round(value, 2) for name, value in milliseconds.items()})


if __name__ == "__main__":
    main()
