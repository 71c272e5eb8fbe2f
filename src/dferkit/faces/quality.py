"""Quality measures of a face clip, with warnings."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import UInt8

from dferkit.schema import FaceQuality, FaceTrack

_SIDE = 112
_MIN_HEIGHT_PIXELS = 40
_MIN_SHARPNESS = 20.0
_DARK, _BRIGHT = 40.0, 220.0
_MAX_JITTER = 0.1
_MIN_COVERAGE = 0.5


def assess(images: UInt8[np.ndarray, "frames size size 3"], track: FaceTrack) -> FaceQuality:
    """Measure the crops of one track. All measures but ``coverage`` use frames with a face only.

    Warnings: ``W_FEW_FACE_FRAMES`` (below half), ``W_SMALL_FACE``, ``W_BLUR``, ``W_DARK``, ``W_BRIGHT``, ``W_JITTER``,
    ``W_MULTIPLE_FACES``.
    """
    found = np.flatnonzero(track.found)
    coverage = len(found) / max(1, len(track.found))
    if len(found) == 0:
        nan = float("nan")
        return FaceQuality(
            coverage=0.0,
            median_height_pixels=nan,
            sharpness=nan,
            brightness=nan,
            jitter=nan,
            warnings=("W_FEW_FACE_FRAMES",),
        )
    greys = [_grey(images[i]) for i in found]
    height = float(np.median(track.boxes[found, 3]))
    sharpness = float(np.median([cv2.Laplacian(grey, cv2.CV_64F).var() for grey in greys]))
    brightness = float(np.median([grey.mean() for grey in greys]))
    jitter = _jitter(track)
    checks = (
        ("W_FEW_FACE_FRAMES", coverage < _MIN_COVERAGE),
        ("W_SMALL_FACE", height < _MIN_HEIGHT_PIXELS),
        ("W_BLUR", sharpness < _MIN_SHARPNESS),
        ("W_DARK", brightness < _DARK),
        ("W_BRIGHT", brightness > _BRIGHT),
        ("W_JITTER", jitter > _MAX_JITTER),
        ("W_MULTIPLE_FACES", track.num_people > 1),
    )
    return FaceQuality(
        coverage=coverage,
        median_height_pixels=height,
        sharpness=sharpness,
        brightness=brightness,
        jitter=jitter,
        warnings=tuple(code for code, applies in checks if applies),
    )


def _grey(image: UInt8[np.ndarray, "size size 3"]) -> UInt8[np.ndarray, "112 112"]:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return grey if grey.shape[0] == _SIDE else cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)


def _jitter(track: FaceTrack) -> float:
    pairs = np.flatnonzero(track.found[1:] & track.found[:-1])
    if len(pairs) == 0:
        return 0.0
    centers = track.boxes[:, :2] + track.boxes[:, 2:] / 2
    moved = np.linalg.norm(centers[pairs + 1] - centers[pairs], axis=1)
    return float(np.median(moved / track.boxes[pairs, 3]))
