"""Cut the face out of the frames: one square crop per frame, all of one size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from dferkit.errors import ConfigError, NoFaceError
from dferkit.faces.geometry import CROP_MARGIN, nearest_found
from dferkit.faces.quality import assess
from dferkit.schema import FaceClip, FaceTrack, Frames


@dataclass(frozen=True, kw_only=True, slots=True)
class BoxJitter:
    """A change of the crop, equal for all frames of a clip so that it adds no movement.

    Attributes:
        shift_x, shift_y: Share of the crop's side.
        scale: Above 1 the crop is larger and the face smaller.
        roll_degrees: Positive turns the face counter-clockwise.
    """

    shift_x: float = 0.0
    shift_y: float = 0.0
    scale: float = 1.0
    roll_degrees: float = 0.0

    def __post_init__(self) -> None:
        values = (self.shift_x, self.shift_y, self.scale, self.roll_degrees)
        if not all(math.isfinite(value) for value in values) or self.scale <= 0:
            raise ConfigError(f"box jitter must be finite with a scale above 0, found {self}")


def no_face_message(num_frames: int, detector: str) -> str:
    """The message for a window or clip without a face, with what to try."""
    better = "" if detector.startswith("yunet") else "try --face yunet (dferkit models get yunet), or "
    return f"no face in {num_frames} sampled frames; if there is a face, {better}give its boxes as a CSV with --face"


def warp_face(
    frames: Frames, track: FaceTrack, *, size: int = 112, margin: float = CROP_MARGIN, jitter: BoxJitter | None = None
) -> FaceClip:
    """Cut one person's face out of every frame.

    Args:
        size: Side of the crops in pixels.
        margin: Growth of the box on each side, as a share of its side; the default holds forehead and chin.
        jitter: Change of the crop.

    Returns:
        Square crops; outside the frame the border is repeated. A frame without a face gets the crop of the nearest frame with one.

    Raises:
        NoFaceError: The track has no face in any frame.
        ConfigError: ``size`` or ``margin`` is out of range.
    """
    if size < 8 or not -0.4 < margin < 4:
        raise ConfigError(f"size {size} with margin {margin} is not usable: size is at least 8, margin -0.4 to 4")
    found = np.flatnonzero(track.found)
    if len(found) == 0:
        raise NoFaceError(no_face_message(len(track.found), track.detector))
    crops = {
        int(i): crop_face(frames.images[i], track.boxes[i], size=size, margin=margin, jitter=jitter) for i in found
    }
    images = np.stack([crops[int(i)] for i in nearest_found(track.found)])
    return FaceClip(
        images=images,
        timestamps=frames.timestamps,
        track=track,
        quality=assess(images, track),
        start_seconds=frames.start_seconds,
        end_seconds=frames.end_seconds,
    )


def crop_face(
    image: UInt8[np.ndarray, "height width 3"],
    box: Float[np.ndarray, " 4"],
    *,
    size: int,
    margin: float = CROP_MARGIN,
    jitter: BoxJitter | None = None,
) -> UInt8[np.ndarray, "size size 3"]:
    """The square around one box, grown by ``margin`` on each side."""
    jitter = jitter or BoxJitter()
    x, y, width, height = (float(value) for value in box)
    crop = max(width, height) * (1 + 2 * margin)
    center_x = x + width / 2 + jitter.shift_x * crop
    center_y = y + height / 2 + jitter.shift_y * crop
    crop *= jitter.scale
    # Area interpolation exists for whole factors only, so sample at about the frame's resolution, then average.
    factor = max(1, round(crop / size))
    fine = size * factor
    step = crop / fine
    roll = math.radians(jitter.roll_degrees)
    cosine, sine = step * math.cos(roll), step * math.sin(roll)
    # Pixel centres are at +0.5, in the crop as in the frame.
    middle = (fine - 1) / 2
    matrix = np.array(
        [
            [cosine, -sine, center_x - 0.5 - (cosine - sine) * middle],
            [sine, cosine, center_y - 0.5 - (sine + cosine) * middle],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(image, matrix, (fine, fine), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return warped if factor == 1 else cv2.resize(warped, (size, size), interpolation=cv2.INTER_AREA)
