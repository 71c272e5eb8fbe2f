"""Scores with and without mirrored views of every clip: ``bench`` on a store with and without ``--flip``, over several seeds.

    dferkit pretrain --what clip --out clip_run
    python benchmarks/mirrored_views.py clip_run/clip runs/mirrored

The natural clips of ``a3lign_scores.py``, with their faces in a store. What is finished is kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dferkit.datasets import read_release
from dferkit.preparation import PrepareConfig, Work, prepare_faces
from dferkit.recipes.bench import BenchRun, run_bench
from dferkit.recipes.data import DataOptions
from dferkit.storage import read_json, write_json
from dferkit.synthetic import BenchmarkConfig, render_benchmark

MODELS = ("vision_only", "grace", "clip_temporal", "a3lign")


def main() -> None:
    """Render, prepare, train, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", help="CLIP folder.")
    parser.add_argument("work", type=Path)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/mirrored-views.json"))
    given = parser.parse_args()
    natural = render_benchmark(
        BenchmarkConfig(clips=given.clips, profile="natural", seed=77), given.work / "natural", workers=given.workers
    )
    store = given.work / "store"
    settings = PrepareConfig(face="haar", landmarker="none")
    prepare_faces(
        read_release("folder", natural.parent), natural.parent, store, settings, work=Work(workers=given.workers)
    )
    uars: dict[str, dict[str, list[float]]] = {name: {} for name in MODELS}
    for with_flip in (False, True):
        out = given.work / ("mirrored" if with_flip else "plain")
        run = BenchRun(
            models=MODELS,
            clip=given.clip,
            seeds=given.seeds,
            with_flip=with_flip,
            settings=(f"a3lign.model.num_tokens={given.tokens}",),
            options=DataOptions(workers=given.workers),
        )
        print(run_bench(store, out, run).table, flush=True)
        for name in MODELS:
            uars[name]["mirrored" if with_flip else "plain"] = [
                read_json(out / name / f"seed-{seed}" / "metrics.json")["uar"] for seed in range(given.seeds)
            ]
    write_json(given.out, {"clips": given.clips, "seeds": given.seeds, "tokens": given.tokens, "uar": uars})


if __name__ == "__main__":
    main()
