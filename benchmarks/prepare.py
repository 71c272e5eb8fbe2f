#!/usr/bin/env python3
"""What storing faces costs: frames a second and core, the share of each step, memory over the number of clips, going on again.

Renders its inputs into a temporary folder, measures, prints and writes prepare.json.

Usage: python benchmarks/prepare.py OUT [--clips 60] [--many 2000]
"""

from __future__ import annotations

import argparse
import cProfile
import os
import platform
import pstats
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

import dferkit
from dferkit.preparation import FaceStore, Preparation, PrepareConfig, Work, prepare_faces
from dferkit.schema import Record, Release
from dferkit.storage import write_json
from dferkit.synthetic import BenchmarkConfig, plan_clips, write_video
from dferkit.synthetic.benchmark import draw_clip, draw_identity
from dferkit.synthetic.render import render_frames

FRAMES = 64
# Names of the functions that do a step's work, as the profiler reports them.
STEPS = {
    "decode pictures": ("imdecode",),
    "encode pictures": ("imencode",),
    "colour order": ("cvtColor",),
    "cut": ("crop_face",),
    "quality": ("assess",),
    "hash": ("digest_frame_folder", "digest_arrays", "digest_file"),
    "decode video": ("index_video", "decode_windows"),
    "find and follow faces": ("track_faces",),
    "write": ("write_part", "merge_shard"),
}


def release_of(records: list[Record], kind: str) -> Release:
    return Release(
        layout="benchmark",
        labels=("joy",),
        records=tuple(records),
        folds=(),
        media="",
        media_reason="",
        media_kind=kind,
        annotation_digest="0" * 64,
    )


def rendered_faces(count: int, size: int) -> list[np.ndarray]:
    """Clips of ``FRAMES`` frames: rendered people with the grain of a camera, back and forth in time."""
    config = BenchmarkConfig(clips=count, size=size)
    grain = np.random.default_rng(0)
    clips = []
    for plan in plan_clips(config)[:count]:
        acted = draw_clip(config, plan)
        images = render_frames(
            draw_identity(config, plan.subject),
            acted.au,
            acted.asymmetry,
            acted.scene,
            size=size,
            noise_seed=plan.number,
        )
        order = np.abs((np.arange(FRAMES) + len(images)) % (2 * len(images)) - len(images)).clip(0, len(images) - 1)
        noise = grain.normal(0, 4, (FRAMES, size, size, 1))
        clips.append((images[order] + noise).clip(0, 255).astype(np.uint8))
    return clips


def face_folders(root: Path, clips: list[np.ndarray], count: int) -> Release:
    records = []
    for number in range(count):
        folder = root / f"{number:05d}"
        folder.mkdir(parents=True)
        for frame, image in enumerate(clips[number % len(clips)]):
            shifted = np.roll(image, number // len(clips), axis=1)
            cv2.imwrite(str(folder / f"{frame + 1}.jpg"), shifted[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        records.append(Record(clip_id=folder.name, video=folder, label="joy"))
    return release_of(records, "faces")


def scene_videos(root: Path, clips: list[np.ndarray], count: int) -> Release:
    """640 × 360 videos of 25 frames a second, the face a third of the width."""
    root.mkdir(parents=True)
    y, x = np.mgrid[0:360, 0:640]
    wall = np.stack([90 + 40 * np.sin(x / 37), 100 + 30 * np.cos(y / 23), 110 + 0.05 * x], -1).astype(np.uint8)
    records = []
    for number in range(count):
        frames = np.tile(wall, (FRAMES, 1, 1, 1))
        left = 60 + 30 * (number % 10)
        frames[:, 68:292, left : left + 224] = clips[number % len(clips)]
        path = root / f"{number:05d}.mp4"
        write_video(path, frames, 25.0)
        records.append(Record(clip_id=path.stem, video=path, label="joy"))
    return release_of(records, "videos")


def timed(release: Release, root: Path, out: Path, config: PrepareConfig) -> dict[str, float]:
    started, begun = time.perf_counter(), time.process_time()
    done = prepare_faces(release, root, out, config, work=Work(workers=1))
    cpu, wall = time.process_time() - begun, time.perf_counter() - started
    again, begun = time.perf_counter(), time.process_time()
    prepare_faces(release, root, out, config, work=Work(workers=1))
    return {
        **speed(done, cpu, wall),
        "again_seconds": time.perf_counter() - again,
        "again_share": (time.process_time() - begun) / cpu,
    }


def speed(done: Preparation, cpu: float, wall: float) -> dict[str, float]:
    return {
        "clips": done.num_clips,
        "frames": done.num_frames,
        "found": done.statuses.get("ok", 0),
        "frames_per_cpu_second": done.num_frames / cpu,
        "frames_per_second": done.num_frames / wall,
        "bytes_per_frame": done.num_bytes / max(1, done.num_frames),
    }


def shares(release: Release, root: Path, out: Path, config: PrepareConfig) -> dict[str, float]:
    """Share of each step in one process's time."""
    profile = cProfile.Profile()
    profile.runcall(prepare_faces, release, root, out, config, workers=1)
    stats = pstats.Stats(profile)
    total = stats.total_tt  # type: ignore[attr-defined]
    found = {}
    for step, names in STEPS.items():
        rows = [row for (_, _, name), row in stats.stats.items() if name.strip("<>").split(" ")[-1] in names]  # type: ignore[attr-defined]
        found[step] = sum(row[3] for row in rows) / total
    return found


def reading(store: FaceStore) -> dict[str, float]:
    """Sixteen of sixty-four frames of every clip, as training reads them: first time, then with the digests checked."""
    found = {}
    for name in ("first_frames_per_second", "frames_per_second"):
        started, count = time.process_time(), 0
        for record in store.release.records:
            count += len(store.read(record.clip_id, frames=np.arange(2, FRAMES, 4)).images)
        found[name] = count / (time.process_time() - started)
    return found


def peak_memory(clips: int, folder: Path) -> float:
    """Highest sum of resident memory (shared pages counted once) of a command and its workers, in MiB."""
    child = subprocess.Popen([sys.executable, __file__, "--tiny", str(clips), "--folder", str(folder)])
    peak = 0.0
    while child.poll() is None:
        peak = max(peak, sum(_pss(process) for process in _family(child.pid)))
        time.sleep(0.02)
    if child.returncode:
        raise SystemExit("the run whose memory was measured failed")
    return peak / 1024


def _family(root: int) -> list[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
    family, grown = {root}, True
    while grown:
        more = {child for child, parent in parents.items() if parent in family} - family
        family, grown = family | more, bool(more)
    return sorted(family)


def _pss(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def run_tiny(clips: int, folder: Path) -> None:
    """Store tiny clips: what grows with their number would show here."""
    rng = np.random.default_rng(0)
    records = []
    for number in range(clips):
        clip = folder / "clips" / f"{number:05d}"
        clip.mkdir(parents=True)
        for frame in range(4):
            cv2.imwrite(str(clip / f"{frame}.png"), rng.integers(0, 255, (32, 32, 3), np.uint8))
        records.append(Record(clip_id=clip.name, video=clip, label="joy"))
    prepare_faces(release_of(records, "faces"), folder, folder / "store", PrepareConfig(size=32), work=Work(workers=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", default=Path("."))
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--many", type=int, default=2000)
    parser.add_argument("--tiny", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tiny:
        run_tiny(options.tiny, options.folder)
        return
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = rendered_faces(8, 224)
        cropped = face_folders(folder / "faces", clips, options.clips)
        videos = scene_videos(folder / "videos", clips, max(4, options.clips // 3))
        result = {
            "cut faces, 224 × 224 JPEG": timed(cropped, folder, folder / "a", PrepareConfig()),
            "videos, 640 × 360, faces found by haar": timed(videos, folder, folder / "b", PrepareConfig(face="haar")),
        }
        steps = {
            "cut faces, 224 × 224 JPEG": shares(cropped, folder, folder / "c", PrepareConfig()),
            "videos, 640 × 360, faces found by haar": shares(videos, folder, folder / "d", PrepareConfig(face="haar")),
        }
        read = reading(FaceStore.open(folder / "a"))
        few = options.many // 10
        memory = {str(count): peak_memory(count, folder / f"tiny{count}") for count in (few, options.many)}
    found = {
        "speed": result,
        "steps": steps,
        "reading": read,
        "memory_mib": memory,
        "memory_ratio": memory[str(options.many)] / memory[str(few)],
        "versions": {"dferkit": dferkit.__version__, "opencv": cv2.__version__},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    write_json(options.out / "prepare.json", found)
    for key, value in found.items():
        print(key, value)


if __name__ == "__main__":
    main()
