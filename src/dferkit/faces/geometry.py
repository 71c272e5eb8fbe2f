"""The standard face box, which every detector returns, so that crops do not depend on the detector."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int

from dferkit.schema import FaceBox

# A standard box is a square from the middle of the forehead to just under the lower lip, like the boxes of OpenCV's Haar
# cascade. Grown by this share of its side on each side, it holds brows and chin and little hair, which leaves more pixels for
# the mouth.
CROP_MARGIN = 0.07

# From a tight box (hair line to chin, ear to ear: YuNet, RetinaFace, py-feat) to a standard one: medians over frames of
# real clips in which both detectors found the face.
_TIGHT_SIDE = 1.04
_TIGHT_SHIFT_Y = -0.035


def standard_from_tight(box: FaceBox) -> FaceBox:
    """The standard box for a tight box of the same face."""
    side = _TIGHT_SIDE * (box.width * box.height) ** 0.5
    center_x = box.x + box.width / 2
    center_y = box.y + box.height / 2 + _TIGHT_SHIFT_Y * box.height
    return replace(box, x=center_x - side / 2, y=center_y - side / 2, width=side, height=side)


def nearest_found(found: Bool[np.ndarray, " frames"]) -> Int[np.ndarray, " frames"]:
    """For each frame the number of the nearest found frame, the earlier one of two. At least one must be found."""
    there = np.flatnonzero(found)
    return there[np.abs(np.arange(len(found))[:, None] - there).argmin(1)]


def overlap(a: FaceBox, b: FaceBox) -> float:
    """Intersection over union, 0 to 1."""
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (a.width * a.height + b.width * b.height - shared)
