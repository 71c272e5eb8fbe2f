"""Probe sets: exactly one nuisance on, or pairs of clips that differ only in the direction of time."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from dferkit.errors import ConfigError
from dferkit.storage import write_json, write_text
from dferkit.synthetic.benchmark import (
    PROBES,
    BenchmarkConfig,
    describe_config,
    draw_clip,
    draw_identity,
    plan_clips,
    split_of,
    subject_name,
)
from dferkit.synthetic.motion import Nuisances
from dferkit.synthetic.render import render_frames
from dferkit.synthetic.write import render_benchmark, write_video


def render_probe(
    config: BenchmarkConfig,
    out: Path | str,
    name: str,
    *,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Clips with one nuisance on (``none``: not even one), by people of the probe namespace.

    Raises:
        ConfigError: Unknown probe.
    """
    if name not in PROBES:
        raise ConfigError(f"unknown probe {name!r}; choose {', '.join(PROBES)} or order")
    nuisances = Nuisances.only(None if name == "none" else name)
    return render_benchmark(
        replace(config, namespace="probe"), out, workers=workers, nuisances=nuisances, on_progress=on_progress
    )


def render_order_probe(
    config: BenchmarkConfig,
    out: Path | str,
    *,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Pairs of clips with the same frames in opposite order, labelled ``onset`` and ``offset``; ``clips.csv`` has a column ``pair``.

    Only here must shuffling the frames cost: in the benchmark the order of frames carries no label. Pictures carry no information
    about their order (no noise or compression history): both clips decode to the same pictures, each coded without its neighbours.
    """
    del workers  # pairs are few and quick
    folder = Path(out)
    probe = replace(config, namespace="probe")
    pairs = max(config.clips // 2, 1)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("video", "label", "split", "subject", "pair"))
    cv2.setNumThreads(1)
    plans = [p for p in plan_clips(replace(probe, clips=pairs * 2)) if p.label != "neutral"][:pairs]
    for number, plan in enumerate(plans):
        performance = draw_clip(probe, plan, Nuisances.only(None))
        ramp = np.clip((np.arange(probe.num_frames) + 0.5) / probe.num_frames, 0, 1)[:, None]
        au = (performance.au.max(0, keepdims=True) * (ramp * ramp * (3 - 2 * ramp))).astype(np.float32)
        identity = draw_identity(probe, plan.subject)
        frames = render_frames(
            identity, au, performance.asymmetry, performance.scene, size=probe.size, noise_seed=plan.number
        )
        for label, images in (("onset", frames), ("offset", frames[::-1])):
            name = f"videos/pair{number:04d}-{label}.mp4"
            write_video(folder / name, images, probe.fps, is_each_alone=True)
            rows.writerow((name, label, split_of(probe, plan.subject), subject_name(probe, plan.subject), number))
        if on_progress:
            on_progress(2 * (number + 1), 2 * len(plans))
    write_text(folder / "clips.csv", text.getvalue())
    write_json(folder / "benchmark.json", {**describe_config(probe), "probe": "order"})
    return folder / "clips.csv"
