"""``dferkit demo``: the whole flow on rendered faces, from video files to scores, explanations and a report.

Every stage leaves its result on disk, so that the same command resumes; ``results.json`` holds nothing that depends on speed.
"""

from __future__ import annotations

import os
import resource
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from dferkit.datasets import read_manifest
from dferkit.encoders.box import BOX_FOLDER
from dferkit.models.installed import box_digests
from dferkit.pipeline import load
from dferkit.recipes.demo_claims import explain_clips
from dferkit.recipes.demo_data import prepare_side
from dferkit.recipes.demo_plan import Clock, DemoConfig, benchmark_of
from dferkit.recipes.demo_rows import train_rows
from dferkit.recipes.demo_scores import score
from dferkit.recipes.provenance import claim_run
from dferkit.reports.html import write_benchmark_report, write_clip_report
from dferkit.reports.tables import RunDetails, clean_json, own_version, write_tables
from dferkit.schema import ReportProgress
from dferkit.storage import write_json
from dferkit.synthetic import BenchmarkConfig, describe_config, render_benchmark


def first_answer(out: Path | str, *, seed: int = 0, face: str = "haar") -> Path:
    """The box's explained answer on one rendered video: ``DIR/first/report.html``."""
    folder = Path(out) / "first"
    manifest = render_benchmark(BenchmarkConfig(clips=4, seed=9_000 + seed, size=160), folder / "video", workers=1)
    record = next((r for r in read_manifest(manifest) if r.label != "neutral"), read_manifest(manifest)[0])
    explained = load("box", face=face).explain(record.video)
    write_clip_report(
        folder / "report.html",
        explained.explanations,
        about=explained.about,
        predictions=explained.result.predictions,
        truth={p.clip_id: str(record.label) for p in explained.result.predictions},
    )
    write_tables(
        folder,
        explained.result.predictions,
        explained.result.provenance,
        frames=explained.result.sampled_frames,
        explanations=explained.explanations,
        details=RunDetails(has_media=True),
    )
    return folder / "report.html"


def run_demo(
    out: Path | str,
    config: DemoConfig | None = None,
    *,
    workers: int | None = None,
    on_progress: ReportProgress | None = None,
) -> dict[str, Any]:
    """Run or resume the demo.

    Returns:
        The content of ``results.json``.

    Raises:
        ConfigError: The folder holds a demo with other settings.
    """
    config, out, report = config or DemoConfig(), Path(out), on_progress or (lambda stage, done, of, note: None)
    workers = workers or os.cpu_count() or 1
    claim_run(out, clean_json({**asdict(config), **box_digests(BOX_FOLDER)}), marker="demo.json")
    clock = Clock()
    sides = {}
    for profile, clips in (("posed", config.clips), ("natural", config.natural_clips)):
        sides[profile] = prepare_side(out, profile, clips, config, workers, report, clock)
    train_rows(out, config, workers, report)
    clock.end_stage("train")
    torch.set_num_threads(workers)
    results, evaluations = score(out, config, sides)
    clock.end_stage("score")
    explanations, truth = explain_clips(out, config, sides["posed"], results, report)
    clock.end_stage("explain")
    write_json(out / "results.json", clean_json(results))
    about = {
        **load("box", face="haar").about(),
        "name": "grace",
        "trained_on": "rendered faces",
        "benchmark": describe_config(benchmark_of(config, "posed")),
    }
    write_benchmark_report(
        out / "report.html", clean_json(results), evaluations, explanations, about=about, truth=truth
    )
    clock.end_stage("report")
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    write_json(
        out / "run.json",
        {
            "seconds": clock.seconds,
            "peak_memory_mib_largest_process": peak // 1024,
            "workers": workers,
            "version": own_version(),
            "config": clean_json(asdict(config)),
            "media_inside": True,
        },
    )
    return results
