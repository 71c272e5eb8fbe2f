"""Train the landmark network on one half of the generator's looks and test it on both halves: does it depend on the looks?

    python benchmarks/looks.py --landmarker face_landmarker.task --work runs/looks

Every look (skin, light, camera, shape of the face, …) is in the lower half of its range in training and in the first test, and in the upper half in
the second test.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dferkit.evaluation.metrics import confusion_matrix, uar
from dferkit.faces import landmarker_file
from dferkit.labels import BASIC
from dferkit.pretraining.landmarks import LANDMARK_TRAINING, predict_shapes, pretrain_landmarks, shape_set
from dferkit.pretraining.render import render_shards
from dferkit.pretraining.rendered_faces import RenderedFaces, read_shards
from dferkit.storage import write_json
from dferkit.synthetic import BenchmarkConfig, fingerprint

SIZE = 160


def config(clips: int, seed: int, settings: str) -> BenchmarkConfig:
    return BenchmarkConfig(clips=clips, profile="varied", namespace="pretrain", seed=seed, settings=settings, size=SIZE)


def score(logits: torch.Tensor, data: RenderedFaces) -> float:
    return float(uar(confusion_matrix(data.label, logits.numpy().argmax(1), len(BASIC))))


def main() -> None:
    """Render, train, test, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1200)
    parser.add_argument("--test-clips", type=int, default=420)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--landmarker", default="auto")
    parser.add_argument("--work", type=Path, default=Path("runs/looks"))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/looks.json"))
    given = parser.parse_args()
    parts = {
        "train": config(given.clips, 2000, "low"),
        "same_half": config(given.test_clips, 2001, "low"),
        "other_half": config(given.test_clips, 2002, "high"),
    }
    landmarker = landmarker_file(given.landmarker)
    faces = {
        name: read_shards(render_shards(given.work / name, [part], landmarker=landmarker, workers=given.workers))
        for name, part in parts.items()
    }
    settings = replace(LANDMARK_TRAINING, steps=given.steps, cycles=((given.steps, 2e-3),), threads=1)
    net = pretrain_landmarks(faces["train"], given.work / "landmarks", settings)
    scores = {}
    for name in ("same_half", "other_half"):
        shapes, rows = shape_set(faces[name], net.template.numpy())
        scores[name] = score(predict_shapes(net, shapes, np.arange(len(rows))).logits, faces[name].take(rows))
    write_json(
        given.out,
        {
            "train": given.clips,
            "test": given.test_clips,
            "generator": fingerprint(),
            "networks": {"landmarks": scores},
        },
    )
    print(scores)


if __name__ == "__main__":
    main()
