"""Movement of a face between frames without detection: sparse optical flow, scene cuts and similarity of patches."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

Grey = UInt8[np.ndarray, "height width"]
Box = Float[np.ndarray, " 4"]

_MAX_SIDE = 320
_PATCH = 24
_MIN_POINTS = 6
_CUT_LIKENESS = 0.35
_CUT_DIFFERENCE = 18.0


class Motion:
    """Optical flow on small grey copies of a window's frames. Boxes are in pixels of the original frames."""

    def __init__(self, images: UInt8[np.ndarray, "frames height width 3"]) -> None:
        height, width = images.shape[1:3]
        self._scale = min(1.0, _MAX_SIDE / max(height, width))
        size = (max(1, round(width * self._scale)), max(1, round(height * self._scale)))
        self._greys: list[Grey] = []
        for image in images:
            # Reduced before the conversion to grey: the other order costs three times as much on large frames.
            small = image if self._scale == 1.0 else _reduce(image, size)
            self._greys.append(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
        self.is_cut = find_cuts(self._greys)

    def carry(self, box: Box, start: int, end: int) -> Box | None:
        """The box of frame ``start`` moved to the next or previous frame ``end``; None where too few points can be followed."""
        x, y, width, height = box * self._scale
        points = _grid(x + 0.12 * width, y + 0.12 * height, 0.76 * width, 0.76 * height)
        shape = self._greys[start].shape
        inside = (points >= 0).all(axis=1) & (points[:, 0] < shape[1]) & (points[:, 1] < shape[0])
        points = points[inside]
        if len(points) < _MIN_POINTS:
            return None
        reach = int(np.clip(width / 5, 9, 21)) | 1
        moved, status, _ = cv2.calcOpticalFlowPyrLK(
            self._greys[start],
            self._greys[end],
            points[:, None],
            points[:, None].copy(),
            winSize=(reach, reach),
            maxLevel=2,
        )
        is_kept = status.ravel().astype(bool)
        if is_kept.sum() < _MIN_POINTS:
            return None
        before, after = points[is_kept], moved[is_kept, 0]
        shift = np.median(after - before, axis=0)
        grown = _growth(before, after)
        center = np.array([x + width / 2, y + height / 2])
        # The centre of the points may differ from the centre of the box, so growth moves the two apart.
        center = center + shift + (grown - 1) * (center - np.median(before, axis=0))
        side = np.array([width, height]) * grown
        return np.concatenate([center - side / 2, side]) / self._scale

    def patch(self, frame: int, box: Box) -> Float[np.ndarray, "24 24"]:
        """The face as a small normalised patch (mean 0, length 1)."""
        x, y, width, height = box * self._scale
        matrix = np.array([[width / _PATCH, 0, x], [0, height / _PATCH, y]], dtype=np.float64)
        patch = cv2.warpAffine(
            self._greys[frame],
            matrix,
            (_PATCH, _PATCH),
            borderMode=cv2.BORDER_REPLICATE,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        ).astype(np.float64)
        patch -= patch.mean()
        length = np.linalg.norm(patch)
        return patch / length if length > 1e-6 else patch


def find_cuts(greys: list[Grey]) -> Bool[np.ndarray, " frames"]:
    """True for a frame that differs much from the one before and correlates little with it."""
    thumbs = [
        cv2.GaussianBlur(cv2.resize(grey, (32, 18), interpolation=cv2.INTER_AREA), (3, 3), 0).astype(np.float64)
        for grey in greys
    ]
    is_cut = np.zeros(len(greys), dtype=bool)
    for i in range(1, len(greys)):
        before, after = thumbs[i - 1], thumbs[i]
        difference = np.abs(after - before).mean()
        a, b = before - before.mean(), after - after.mean()
        likeness = float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-9))
        is_cut[i] = difference > _CUT_DIFFERENCE and likeness < _CUT_LIKENESS
    return is_cut


def _reduce(image: UInt8[np.ndarray, "height width 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    # Skipping pixels first makes 1080p three times cheaper; the remaining pixels are averaged.
    skip = max(1, image.shape[1] // (size[0] * 3))
    return cv2.resize(np.ascontiguousarray(image[::skip, ::skip]), size, interpolation=cv2.INTER_AREA)


def _grid(x: float, y: float, width: float, height: float) -> Float[np.ndarray, "points 2"]:
    across, down = np.meshgrid(np.linspace(x, x + width, 7), np.linspace(y, y + height, 7))
    return np.stack([across.ravel(), down.ravel()], axis=1).astype(np.float32)


def _growth(before: Float[np.ndarray, "points 2"], after: Float[np.ndarray, "points 2"]) -> float:
    """Median ratio of the points' distances, kept within 15 % per frame."""
    half = len(before) // 2
    first = np.linalg.norm(before[:half] - before[-half:], axis=1)
    second = np.linalg.norm(after[:half] - after[-half:], axis=1)
    usable = first > 2
    return float(np.clip(np.median(second[usable] / first[usable]), 0.87, 1.15)) if usable.any() else 1.0
