"""One clip's faces as arrays and a description: what a shard holds 64 of, and a part file one.

Arrays: ``jpeg`` (all pictures one after another, uint8) with ``offsets`` (frames + 1), ``boxes`` (frames, 4), ``scores``,
``found``, ``timestamps``, ``frame_numbers``, each per frame; ``landmarks`` (frames, points, 3), ``blend_shapes``
(frames, shapes) and ``head_pose`` (frames, 4, 4) where the detector has them. A clip without a face has no arrays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dferkit.faces import ClipFaces
from dferkit.schema import ClipStatus, FaceClip, FaceGeometry, FaceQuality, FaceTrack
from dferkit.storage import atomic_path, digest_arrays, digest_json

GEOMETRY_ARRAYS = ("landmarks", "blend_shapes", "head_pose")

# What reading a file that is missing, cut or scribbled over may raise.
DAMAGE: tuple[type[Exception], ...] = (SafetensorError, OSError, KeyError, TypeError, ValueError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One clip. ``about`` is JSON: ``clip_id``, ``key``, status, quality, ``arrays`` (dtype and shape) and ``digest``."""

    about: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]

    @property
    def is_whole(self) -> bool:
        """The arrays and the description are those that were written."""
        is_listed = self.about["arrays"] == _listing(self.arrays)
        return is_listed and bool(self.about["digest"] == _digest(self.about, self.arrays))


def make_part(
    clip_id: str,
    key: str,
    found: ClipFaces,
    *,
    quality: int,
    settings: str = "",
) -> Part:
    """Encode one clip's crops.

    Args:
        key: Digest of what they were made from, with the settings. settings: Digest of the settings alone.
    """
    status, clip = found.status, found.clip
    quality_of = clip.quality if clip else None
    about: dict[str, Any] = {
        "clip_id": clip_id,
        "key": key,
        "settings": settings,
        "status": status.status,
        "message": status.message,
        "coverage": status.coverage,
        "detector": status.detector,
        "end_seconds": status.end_seconds,
        "num_people": status.num_people,
        "num_frames": 0 if clip is None else len(clip.timestamps),
        "num_face_frames": 0 if clip is None else int(clip.track.found.sum()),
        "num_damaged": found.report.num_damaged if found.report else 0,
        "frame_size": list(found.frame_size),
        "video_warnings": list(found.report.warnings) if found.report else [],
        "quality": None
        if quality_of is None
        else {
            "median_height_pixels": quality_of.median_height_pixels,
            "sharpness": quality_of.sharpness,
            "brightness": quality_of.brightness,
            "jitter": quality_of.jitter,
            "warnings": list(quality_of.warnings),
        },
    }
    arrays: dict[str, np.ndarray] = {}
    if clip is not None and found.indices is not None:
        jpeg, offsets = encode_pictures(clip.images, quality)
        arrays = {
            "jpeg": jpeg,
            "offsets": offsets,
            "boxes": clip.track.boxes.astype(np.float64),
            "scores": clip.track.scores.astype(np.float64),
            "found": clip.track.found.astype(np.bool_),
            "timestamps": clip.timestamps.astype(np.float64),
            "frame_numbers": found.indices.astype(np.int64),
        }
        for name in GEOMETRY_ARRAYS:
            values = getattr(clip.geometry, name, None)
            if values is not None:
                arrays[name] = np.ascontiguousarray(values)
        if clip.geometry is not None:
            about["blend_shape_names"] = list(clip.geometry.blend_shape_names)
    about["arrays"] = _listing(arrays)
    return Part(about={**about, "digest": _digest(about, arrays)}, arrays=arrays)


def _listing(arrays: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
    """Type and shape of each array, because the digest covers bytes only."""
    return {name: [str(value.dtype), list(value.shape)] for name, value in sorted(arrays.items())}


def _digest(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    return digest_json([{k: v for k, v in about.items() if k != "digest"}, digest_arrays(arrays)])


def encode_pictures(
    images: UInt8[np.ndarray, "frames height width 3"], quality: int
) -> tuple[UInt8[np.ndarray, " bytes"], np.ndarray]:
    """RGB pictures as baseline JPEGs one after another, and where each begins (and the last one ends)."""
    # Spelled out, so that another default of OpenCV does not change the bytes.
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_PROGRESSIVE, 0, cv2.IMWRITE_JPEG_OPTIMIZE, 0]
    encoded = [cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].ravel() for image in images]
    offsets = np.concatenate([[0], np.cumsum([len(data) for data in encoded])]).astype(np.int64)
    return np.concatenate(encoded), offsets


def decode_picture(data: UInt8[np.ndarray, " bytes"]) -> UInt8[np.ndarray, "size size 3"]:
    """One stored JPEG as RGB."""
    image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    assert image is not None, "a picture that passed its digest decodes"
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def status_of(about: Mapping[str, Any]) -> ClipStatus:
    """What became of the clip."""
    return ClipStatus(**{name: about[name] for name in ClipStatus.__slots__})


def face_clip(
    about: Mapping[str, Any], arrays: Mapping[str, np.ndarray], images: UInt8[np.ndarray, "frames size size 3"]
) -> FaceClip:
    """A face clip of decoded pictures and their rows of the per-frame arrays."""
    quality = about["quality"]
    measured = {name: arrays[name] for name in GEOMETRY_ARRAYS if name in arrays}
    names = tuple(about.get("blend_shape_names", ()))
    return FaceClip(
        images=images,
        timestamps=arrays["timestamps"],
        track=FaceTrack(
            track_id=0,
            boxes=arrays["boxes"],
            scores=arrays["scores"],
            found=arrays["found"],
            detector=about["detector"],
            num_people=about["num_people"],
        ),
        quality=FaceQuality(coverage=about["coverage"], **{**quality, "warnings": tuple(quality["warnings"])}),
        start_seconds=0.0,
        end_seconds=about["end_seconds"],
        geometry=FaceGeometry(**measured, blend_shape_names=names) if measured else None,
    )


def write_part(path: Path, part: Part) -> None:
    """Write a part file; whole or not at all, and checked by its digest when it is read."""
    for attempt in range(3):
        try:
            with atomic_path(path, is_durable=False) as temporary:
                save_tensors(temporary, dict(part.arrays), dict(part.about))
            return
        except FileNotFoundError:
            # Another process may remove the empty folder of all parts between its making and ours within it.
            if attempt == 2:
                raise


def read_part(path: Path) -> Part | None:
    """A part file; None when it is missing or damaged in any way."""
    try:
        with safe_open(path, framework="numpy") as handle:
            about = json.loads(handle.metadata()["about"])
            arrays = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
        part = Part(about=about, arrays=arrays)
        return part if part.is_whole else None
    except DAMAGE:
        return None


def save_tensors(path: Path, arrays: dict[str, np.ndarray], about: dict[str, Any]) -> None:
    """Safetensors with one metadata entry: with several, their order in the file would change from run to run."""
    save_file(arrays, path, metadata={"about": json.dumps(about, sort_keys=True, allow_nan=False)})
