"""Writing the benchmark as real video files with a manifest, the truth and a data dictionary."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from dferkit.errors import DataError
from dferkit.facs import AU_NAMES, load_facs
from dferkit.labels import BASIC
from dferkit.parallel import run_parallel
from dferkit.storage import atomic_path, digest_json, read_json, write_json, write_text
from dferkit.synthetic.anatomy import REGIONS, SPEECH_CHANNELS
from dferkit.synthetic.benchmark import BenchmarkConfig, ClipPlan, describe_config, draw_clip, draw_identity, plan_clips
from dferkit.synthetic.flow import motion_truth
from dferkit.synthetic.identity import Identity
from dferkit.synthetic.motion import Nuisances, Performance, event_intervals
from dferkit.synthetic.render import render_frames

_DICTIONARY = Path(__file__).with_name("data_dictionary.md")
MANIFEST_COLUMNS = ("video", "label", "split", "subject", "skin_tone", "is_ambiguous", "envelope")


def write_video(path: Path, images: np.ndarray, fps: float, *, is_each_alone: bool = False) -> None:
    """Encode uint8 RGB frames as H.264 in MP4; the same frames give the same bytes.

    Args:
        is_each_alone: Every frame is coded without its neighbours, so that it decodes to the same picture in any order.
    """
    with atomic_path(path) as temporary, av.open(str(temporary), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        # Macroblock trees are off: on small pictures x264's AVX-512 code for them reads memory that was never set, and
        # files differ.
        stream.options = {
            "preset": "veryfast",
            **({"qp": "14", "g": "1"} if is_each_alone else {"crf": "16"}),
            "threads": "1",
            "flags": "+bitexact",
            "x264-params": "mbtree=0",
        }
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """Ground truth of one clip, as read back from disk; shapes are in the data dictionary."""

    clip_id: str
    label: str
    is_ambiguous: bool
    soft_label: np.ndarray
    au: np.ndarray
    timestamps: np.ndarray
    blink: np.ndarray
    speech: np.ndarray
    gaze: np.ndarray
    pose: np.ndarray
    exposure: np.ndarray
    flow_expression: np.ndarray
    flow_nuisance: np.ndarray
    regions: np.ndarray
    heat: np.ndarray
    visible: np.ndarray
    events: tuple[dict[str, object], ...]
    captions: dict[str, str]


def _events(performance: Performance, times: np.ndarray) -> list[dict[str, object]]:
    units = load_facs().action_units
    return [
        {
            "action_unit": name,
            "regions": list(units[name].regions),
            "start_seconds": round(start, 4),
            "end_seconds": round(end, 4),
            "peak": round(peak, 4),
            "phrase": units[name].phrases[0],
        }
        for name, start, end, peak in event_intervals(performance.au, times)
    ]


def _write_truth(
    path: Path, plan: ClipPlan, performance: Performance, identity: Identity, config: BenchmarkConfig
) -> None:
    times = np.arange(config.num_frames) / config.fps
    motion = motion_truth(identity, performance, size=config.size)
    events = _events(performance, times)
    timed = [f"{e['phrase']}, {e['start_seconds']:.1f}–{e['end_seconds']:.1f} s" for e in events]
    meta = {
        "clip_id": plan.clip_id,
        "label": plan.label,
        "is_ambiguous": performance.is_ambiguous,
        "events": events,
        "captions": {
            "phrases": "; ".join(timed) or "the face stays still",
            "sentence": ", ".join(dict.fromkeys(str(e["phrase"]) for e in events)) or "the face stays still",
        },
        "au_names": AU_NAMES,
        "regions": REGIONS,
        "labels": BASIC,
        "speech_channels": SPEECH_CHANNELS,
    }
    scene = performance.scene
    arrays = {
        "au": performance.au,
        "soft_label": performance.soft_label.astype(np.float32),
        "timestamps": times.astype(np.float32),
        "blink": scene.blink,
        "speech": scene.speech,
        "gaze": scene.gaze,
        "pose": scene.pose,
        "exposure": scene.exposure,
        "flow_expression": motion.flow_expression,
        "flow_nuisance": motion.flow_nuisance,
        "regions": motion.regions,
        "heat": motion.heat,
        "visible": motion.visible,
    }
    with atomic_path(path) as temporary:
        save_file(
            {key: np.ascontiguousarray(value) for key, value in arrays.items()},
            temporary,
            metadata={"truth": json.dumps(meta, sort_keys=True)},
        )


def read_truth(folder: Path | str, clip_id: str) -> Truth:
    """Truth of one clip of a rendered folder.

    Raises:
        DataError: The folder has no truth for this clip.
    """
    path = Path(folder) / "truth" / f"{clip_id}.safetensors"
    if not path.is_file():
        raise DataError(f"{path.name}: no truth file; only rendered clips have one")
    with safe_open(path, framework="numpy") as handle:
        meta = json.loads(handle.metadata()["truth"])
        arrays = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
    return Truth(
        clip_id=clip_id,
        label=meta["label"],
        is_ambiguous=meta["is_ambiguous"],
        events=tuple(meta["events"]),
        captions=meta["captions"],
        **arrays,
    )


def _render_subject(job: tuple[BenchmarkConfig, str, int, list[ClipPlan], Nuisances | None]) -> list[str]:
    """Render all missing clips of one person; runs in a worker."""
    config, out, subject, plans, nuisances = job
    cv2.setNumThreads(1)
    folder = Path(out)
    identity = None
    for plan in plans:
        video, truth = folder / "videos" / f"{plan.clip_id}.mp4", folder / "truth" / f"{plan.clip_id}.safetensors"
        if video.is_file() and truth.is_file():
            continue
        identity = identity or draw_identity(config, subject)
        performance = draw_clip(config, plan, nuisances)
        frames = render_frames(
            identity, performance.au, performance.asymmetry, performance.scene, size=config.size, noise_seed=plan.number
        )
        _write_truth(truth, plan, performance, identity, config)
        write_video(video, frames, config.fps)
    return [plan.clip_id for plan in plans]


def render_benchmark(
    config: BenchmarkConfig,
    out: Path | str,
    *,
    workers: int | None = None,
    nuisances: Nuisances | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Render videos, truth, ``clips.csv``, ``data_dictionary.md`` and ``benchmark.json``.

    Finished clips are kept, so the same call resumes after an interruption. Same configuration, same bytes.

    Args:
        workers: Processes; all cores by default.
        on_progress: Called with (clips done, clips in all).

    Returns:
        Path of ``clips.csv``.

    Raises:
        DataError: The folder holds a rendering with other settings.
    """
    folder = Path(out)
    about = {
        **describe_config(config),
        "nuisances": None if nuisances is None else {n: getattr(nuisances, n) for n in nuisances.__slots__},
    }
    _claim(folder, about)
    plans = plan_clips(config)
    jobs = [
        (config, str(folder), subject, [p for p in plans if p.subject == subject], nuisances)
        for subject in range(config.num_subjects)
    ]
    done = 0
    for finished in run_parallel(_render_subject, [job for job in jobs if job[3]], workers or os.cpu_count() or 1):
        done += len(finished)
        if on_progress:
            on_progress(done, len(plans))
    manifest = folder / "clips.csv"
    write_text(manifest, _manifest(config, plans, nuisances))
    write_text(folder / "data_dictionary.md", _DICTIONARY.read_text(encoding="utf-8"))
    return manifest


def _claim(folder: Path, about: dict[str, object]) -> None:
    """Mark the folder as a rendering with these settings, or refuse when it holds another."""
    marker = folder / "benchmark.json"
    if marker.is_file():
        found = read_json(marker)
        if digest_json(found) != digest_json(json.loads(json.dumps(about))):
            raise DataError(
                f"{folder.name}/ holds a rendering with other settings; give an empty folder, or the settings in {marker.name}"
            )
        return
    if (folder / "clips.csv").exists():
        raise DataError(
            f"{folder.name}/ already holds a clips.csv that was not rendered by dferkit; give an empty folder"
        )
    write_json(marker, about)


def _manifest(config: BenchmarkConfig, plans: list[ClipPlan], nuisances: Nuisances | None) -> str:
    tones = {subject: draw_identity(config, subject) for subject in sorted({p.subject for p in plans})}
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(MANIFEST_COLUMNS)
    for plan in plans:
        performance, identity = draw_clip(config, plan, nuisances), tones[plan.subject]
        rows.writerow(
            [
                f"videos/{plan.clip_id}.mp4",
                plan.label,
                plan.split,
                identity.subject,
                identity.skin_tone,
                str(performance.is_ambiguous).lower(),
                performance.envelope,
            ]
        )
    return text.getvalue()
