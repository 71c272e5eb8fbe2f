#!/usr/bin/env python3
"""Every variant of GRACE on the same rendered clips: UAR over seeds, and where the words' mass goes.

Renders its clips (kept for the next run), extracts features once, trains every variant with every seed, scores people
never trained on, and writes variants.json, which scripts/benchmark-tables puts into docs/benchmarks.md.

Usage: python benchmarks/variants.py OUT [--clips 700] [--seed 5] [--seeds 3] [--only NAME ...] [--workers 2]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from dferkit.datasets import read_manifest
from dferkit.encoders.box import BOX_FOLDER
from dferkit.encoders.text import TextEncoder
from dferkit.evaluation.claims import localisation_claim, on_crop, phrase_masses
from dferkit.evaluation.metrics import confusion_matrix, paired_difference, uar
from dferkit.labels import BASIC
from dferkit.models.registry import MODELS
from dferkit.parallel import run_parallel
from dferkit.reports.tables import clean_json
from dferkit.storage import digest_file, write_json
from dferkit.synthetic import BenchmarkConfig, read_truth, render_benchmark
from dferkit.tokens.captioned import caption_other_clips, caption_training_clips, fit_guide, with_texts
from dferkit.tokens.dataset import TokenDataset
from dferkit.tokens.features import TokenConfig, extract_features
from dferkit.training.fit import fit
from dferkit.training.score import predict_outputs, whole_plans
from dferkit.training.spec import TrainingSpec

VARIANTS = [name for name, entry in MODELS.items() if entry.family == "grace"]


def split_clips(out: Path, motion: str = "tokens") -> tuple[TokenDataset, TokenDataset]:
    """Tokens of the train and test people, from the cache."""
    data = extract_features(
        read_manifest(out / "clips.csv"), out / f"cache-{motion}", TokenConfig(face="haar", motion=motion)
    )
    train, test = (data.take([i for i, r in enumerate(data.records) if r.split == s]) for s in ("train", "test"))
    return train, test


def measure(job: tuple[str, int, str]) -> dict:
    """Train and score one variant with one seed, with one thread."""
    name, seed, folder = job
    torch.set_num_threads(1)
    out = Path(folder)
    path = out / f"rows-{digest_file(out / 'clips.csv')[:8]}" / f"{name}-{seed}.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    spec = TrainingSpec(model=name, seed=seed)
    train, test = split_clips(out, spec.plan().model.motion_source)
    encoder = TextEncoder(BOX_FOLDER / "text")
    train = with_texts(train, caption_training_clips(train, encoder))
    captioned = caption_other_clips(test, fit_guide(train), encoder)
    test = with_texts(test, captioned)
    started = time.process_time()
    model = fit(train, spec).model
    seconds = time.process_time() - started
    outputs = list(predict_outputs(model, test))
    plans = whole_plans(outputs, captioned.tokens) if outputs[0].alignment is not None else []
    phrases = []
    if plans and model.config.text in ("tokens", "phrases"):
        for i, record in enumerate(test.records):
            truth = read_truth(out, Path(record.clip_id).stem)
            width, height = test.frame_sizes[i].tolist()
            heat = on_crop(truth.heat, np.nanmean(test.boxes[i], 0), (width, height), test.grid)
            phrases += phrase_masses(
                captioned.captions[i], captioned.tokens[i], plans[i], heat.reshape(len(heat), -1), truth.au.max(0)
            )
    found = {
        "name": name,
        "seed": seed,
        "predicted": torch.cat([output.logits for output in outputs]).argmax(1).tolist(),
        "kept_tokens": float(np.mean([(plan.sum(0) > 0).sum() for plan in plans])) if plans else None,
        "localisation": localisation_claim(phrases),
        "train_seconds": seconds,
    }
    write_json(path, clean_json(found))
    return found


def summarise(rows: list[dict], test: TokenDataset) -> dict:
    """Per variant the mean UAR over seeds, and its paired difference from GRACE over people."""
    names = list(dict.fromkeys(row["name"] for row in rows))
    of = {name: sorted((r for r in rows if r["name"] == name), key=lambda r: r["seed"]) for name in names}
    result = {}
    for name in names:
        scores = [float(uar(confusion_matrix(test.target, np.array(r["predicted"]), len(BASIC)))) for r in of[name]]
        entry = {
            "uar": float(np.mean(scores)),
            "uar_of_seeds": scores,
            "kept_tokens": of[name][0]["kept_tokens"],
            "localisation": of[name][0]["localisation"],
            "train_seconds": float(np.mean([r["train_seconds"] for r in of[name]])),
        }
        if name != "grace" and "grace" in of:
            predicted = [np.concatenate([r["predicted"] for r in of[n]]) for n in (name, "grace")]
            seeds = len(of[name])
            difference, low, high = paired_difference(
                np.tile(test.target, seeds), predicted[1], predicted[0], len(BASIC),
                groups=np.tile(test.subjects, seeds), seed=0,
            )  # fmt: skip
            entry["minus_grace"] = [difference, low, high]
        result[name] = entry
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=int, default=700)
    parser.add_argument("--seed", type=int, default=5, help="of the rendered people")
    parser.add_argument("--seeds", type=int, default=3, help="training runs per variant")
    parser.add_argument("--only", nargs="*", default=VARIANTS, help="variants")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    render_benchmark(BenchmarkConfig(clips=options.clips, seed=options.seed), options.out, workers=options.workers)
    train, test = split_clips(options.out)
    jobs = [(name, seed, str(options.out)) for seed in range(options.seeds) for name in options.only]
    rows = []
    for row in run_parallel(measure, jobs, options.workers, in_order=False):
        rows.append(row)
        print(f"{len(rows)} of {len(jobs)}: {row['name']} seed {row['seed']}", flush=True)
    table = summarise(sorted(rows, key=lambda r: (VARIANTS.index(r["name"]), r["seed"])), test)
    data = {"train_clips": len(train.target), "test_clips": len(test.target), "people_seed": options.seed,
            "test_subjects": len(set(test.subjects)), "seeds": options.seeds}  # fmt: skip
    write_json(options.out / "variants.json", clean_json({"data": data, "variants": table}))


if __name__ == "__main__":
    main()
