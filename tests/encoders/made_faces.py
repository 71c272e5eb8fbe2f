"""Landmarks of made-up heads with known movements, for tests that need no landmarker."""

from __future__ import annotations

import numpy as np

from dferkit.encoders.face_shape import MIDLINE, PAIRS, RIGID
from dferkit.schema import FaceClip, FaceGeometry, FaceQuality, FaceTrack

NUM_FRAMES = 16
# Temples, forehead: pairs of rigid points beyond those of the areas, as MediaPipe's mesh numbers them.
RIGID_PAIRS = ((127, 356), (34, 264), (21, 251), (162, 389), (93, 323), (54, 284), (67, 297), (109, 338), (103, 332))


def partners() -> np.ndarray:
    """(478,) the landmark on the other side; those in the middle of a face are their own."""
    order = np.arange(478)
    pairs = [*PAIRS, *RIGID_PAIRS]
    free = np.setdiff1d(order, [*MIDLINE, *(i for pair in pairs for i in pair)])
    for right, left in [*pairs, *zip(free[::2], free[1::2], strict=False)]:
        order[right], order[left] = left, right
    return order


def head(rng: np.random.Generator) -> np.ndarray:
    """A symmetric upright head of 478 points (478, 3), its rigid ones centred and of unit size."""
    order = partners()
    points = rng.standard_normal((478, 3)) * (1.0, 1.2, 0.5)
    points[:, 0] = (
        (np.abs(points[:, 0]) + 0.3) * np.sign(order - np.arange(478)) * -1
    )  # the right half of each pair lies at negative x
    points[list(MIDLINE), 1:] = np.linspace((-1.5, 0.0), (1.5, 0.0), len(MIDLINE))
    other = points[order] * (-1, 1, 1)
    points = np.where((np.arange(478) > order)[:, None], other, points)
    points -= points[RIGID].mean(0)
    return points / np.sqrt(np.square(points[RIGID]).sum(1).mean())


def random_turn(rng: np.random.Generator, largest: float = 0.5) -> np.ndarray:
    """A rotation (3, 3) by up to ``largest`` radians."""
    axis = rng.standard_normal(3)
    axis /= np.linalg.norm(axis)
    angle = rng.uniform(-largest, largest)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def seen(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same head wherever the camera saw it: every frame (frames, 478, 3) turned, scaled and moved on its own."""
    return np.stack([(frame @ random_turn(rng)) * rng.uniform(40, 90) + rng.uniform(100, 200, 3) for frame in points])


def clip_of(landmarks: np.ndarray) -> FaceClip:
    """A face clip around landmarks; its pictures are grey."""
    frames = len(landmarks)
    low, high = np.nanmin(landmarks[..., :2], 1), np.nanmax(landmarks[..., :2], 1)
    boxes = np.concatenate([low, high - low], 1)
    found = np.isfinite(boxes).all(1)
    return FaceClip(
        images=np.full((frames, 112, 112, 3), 128, np.uint8),
        timestamps=np.arange(frames) / 8,
        track=FaceTrack(
            track_id=0, boxes=boxes, scores=np.full(frames, np.nan), found=found, detector="test", num_people=1
        ),
        quality=FaceQuality(
            coverage=float(found.mean()), median_height_pixels=150.0, sharpness=100.0, brightness=120.0, jitter=0.0
        ),
        start_seconds=0.0,
        end_seconds=2.0,
        geometry=FaceGeometry(landmarks=landmarks.astype(np.float32)),
    )
