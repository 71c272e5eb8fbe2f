"""The face landmarker's measurements of rendered clips, stored beside their truth."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from dferkit.datasets import read_manifest
from dferkit.faces import FaceLandmarker, HaarDetector, read_clip_faces
from dferkit.faces.landmarks import NUM_POINTS, NUM_SHAPES
from dferkit.labels import BASIC
from dferkit.parallel import run_parallel
from dferkit.schema import Record
from dferkit.storage import atomic_path, digest_file

_AT_ONCE = 12
_SHAPES = {"landmarks": (NUM_POINTS, 3), "blend_shapes": (NUM_SHAPES,), "head_pose": (4, 4)}


def measure_rendered(
    manifest: Path | str,
    landmarker: Path | str,
    *,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write ``landmarks/CLIP.safetensors`` for every clip of a rendered folder: ``landmarks`` (frames, 478, 3) in pixels, ``blend_shapes``
    (frames, 52) and ``head_pose`` (frames, 4, 4), NaN in frames where no face was found. Existing files of the same landmarker are kept.

    Returns:
        The folder.
    """
    manifest = Path(manifest)
    records, out = read_manifest(manifest, labels=BASIC), manifest.parent / "landmarks"
    jobs = [(records[i : i + _AT_ONCE], str(out), str(landmarker)) for i in range(0, len(records), _AT_ONCE)]
    done = 0
    for count in run_parallel(_measure, jobs, workers or os.cpu_count() or 1):
        done += count
        if on_progress:
            on_progress(done, len(records))
    return out


def _measure(job: tuple[list[Record], str, str]) -> int:
    records, out, landmarker_path = job
    cv2.setNumThreads(1)
    detector, digest = HaarDetector(), digest_file(landmarker_path)
    with FaceLandmarker(landmarker_path) as landmarker:
        for record in records:
            path = Path(out) / f"{record.video.stem}.safetensors"
            if path.is_file() and _landmarker_of(path) == digest:
                continue
            found = read_clip_faces(record, detector, landmarker=landmarker)
            geometry = None if found.clip is None else found.clip.geometry
            frames = 0 if found.indices is None else len(found.indices)
            arrays = {
                name: np.full((frames, *shape), np.nan, np.float32)
                if geometry is None
                else np.ascontiguousarray(getattr(geometry, name))
                for name, shape in _SHAPES.items()
            }
            names = () if geometry is None else geometry.blend_shape_names
            about = {"landmarker": digest, "status": found.status.status, "blend_shape_names": names}
            with atomic_path(path) as temporary:
                save_file(arrays, temporary, metadata={"about": json.dumps(about, sort_keys=True)})
    return len(records)


def _landmarker_of(path: Path) -> str:
    """Digest of the landmarker that a file was made with."""
    with safe_open(path, framework="numpy") as handle:
        return str(json.loads(handle.metadata()["about"])["landmarker"])
