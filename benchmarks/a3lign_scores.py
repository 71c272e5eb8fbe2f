"""A³lign-DFER beside its own parts left out and the plain baselines, on the natural profile of the rendered benchmark and on the order probe.

    dferkit pretrain --what clip --out clip_run
    python benchmarks/a3lign_scores.py clip_run/clip runs/a3lign

Three things: every model over several seeds, on people that nobody was trained on; pairs of clips that differ only in the direction of time, where
random order must cost; and how large the paragraphs need to be. What is finished is kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from dferkit.labels import BASIC
from dferkit.models.registry import MODELS as KNOWN
from dferkit.recipes.bench import BenchRun, run_bench
from dferkit.recipes.data import DataOptions
from dferkit.storage import read_json, write_json
from dferkit.synthetic import BenchmarkConfig, render_benchmark
from dferkit.synthetic.probes import render_order_probe

MODELS = (
    "class_prior", "mean_pooled", "text_only", "vision_only", "grace", "videomae_cross_entropy", "videomae_focal", "clip_zero_shot",
    "clip_zero_shot_units", "clip_temporal", "a3lign", "a3lign_no_bap", "a3lign_no_jas",
)  # fmt: skip
SLOW = ("a3lign_concat",)  # once for each class instead of once: one seed
WORTH_COMPARING = 0.6
READS_ORDER = ("clip_temporal", "a3lign", "a3lign_no_bap", "a3lign_no_jas")
SWEEP = ((1, 16), (4, 16), (16, 4), (16, 64))  # and what the table has


def main() -> None:
    """Render, train, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", help="CLIP folder.")
    parser.add_argument("work", type=Path)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/a3lign-scores.json"))
    given = parser.parse_args()
    about = read_json(Path(given.clip) / "card.json")
    if about["probe_natural"] < WORTH_COMPARING:
        parser.error(
            f"a linear probe on this CLIP has UAR {about['probe_natural']:.3f}; below {WORTH_COMPARING} the rows mean nothing"
        )
    natural = render_benchmark(
        BenchmarkConfig(clips=given.clips, profile="natural", seed=77), given.work / "natural", workers=given.workers
    )
    pairs = render_order_probe(BenchmarkConfig(clips=2 * given.pairs, seed=78), given.work / "pairs")

    def bench(
        name: str,
        data: Path,
        models: tuple[str, ...],
        seeds: int,
        tokens: int,
        *more: str,
        labels: tuple[str, ...] | None = None,
    ) -> Path:
        out = given.work / name
        run = BenchRun(
            models=models,
            clip=given.clip,
            seeds=seeds,
            settings=(f"a3lign.model.num_tokens={tokens}", *more),
            options=DataOptions(labels=labels, workers=given.workers),
        )
        print(run_bench(data, out, run).table, flush=True)
        return out

    table = bench("table", natural, MODELS, given.seeds, given.tokens)
    bench("table", natural, SLOW, 1, given.tokens)
    order = bench("order", pairs, READS_ORDER, given.seeds, given.tokens, labels=("onset", "offset"))
    sweep = {
        f"{sentences} × {tokens}": _rows(
            bench(
                f"sweep-{sentences}-{tokens}",
                natural,
                ("a3lign",),
                1,
                tokens,
                f"a3lign.model.num_sentences={sentences}",
            )
        )["a3lign"]
        for sentences, tokens in SWEEP
    }
    sweep[f"16 × {given.tokens}"] = _rows(table, seeds=1)["a3lign"]
    settings = {
        "clips": given.clips,
        "pairs": given.pairs,
        "seeds": given.seeds,
        "tokens": given.tokens,
        "classes": list(BASIC),
    }
    write_json(
        given.out, {"settings": settings, "probe": about, "table": _rows(table), "order": _rows(order), "sweep": sweep}
    )


def _rows(out: Path, *, seeds: int | None = None) -> dict[str, dict[str, Any]]:
    """Per model: UAR of each seed, the mean of their intervals' ends, and what frames in random order and reversed change."""
    rows: dict[str, dict[str, Any]] = {}
    for name in KNOWN:
        done = sorted((out / name).glob("seed-*/metrics.json"))[:seeds]
        if not done:
            continue
        metrics, orders = [read_json(path) for path in done], [read_json(path.parent / "order.json") for path in done]
        rows[name] = {
            "uar": [m["uar"] for m in metrics],
            "interval": [float(np.mean([m["uar_ci95"][i] for m in metrics])) for i in (0, 1)],
            "random": [o["random"] - o["normal"] for o in orders],
            "reversed": [o["reversed"] - o["normal"] for o in orders],
            "num_clips": metrics[0]["num_clips"],
        }
    return rows


if __name__ == "__main__":
    main()
