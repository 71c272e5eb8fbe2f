"""Make frames upright by the display matrix that a camera writes into the file."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from jaxtyping import UInt8

# Cameras rotate by right angles only; a matrix further than this from one (about 3 degrees) is not usable.
_SKEW_TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class Orientation:
    """One of the eight orientations of a rectangle: transpose first, then flip."""

    is_transposed: bool = False
    flips_x: bool = False
    flips_y: bool = False

    @property
    def rotation_degrees(self) -> int:
        """The rotation, counter-clockwise, 0, 90, 180 or 270; for a mirrored frame the rotation before mirroring."""
        if self.is_transposed:
            return 90 if self.flips_y else 270
        return 180 if self.flips_y else 0

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the upright image."""
        return (height, width) if self.is_transposed else (width, height)

    def apply(self, image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "new_height new_width 3"]:
        """The upright image, as a view."""
        if self.is_transposed:
            image = image.transpose(1, 0, 2)
        return image[:: -1 if self.flips_y else 1, :: -1 if self.flips_x else 1]


def read_orientation(frame: av.VideoFrame) -> tuple[Orientation, bool]:
    """Orientation of a decoded frame, and whether its matrix was usable (upright is assumed otherwise).

    ``frame.rotation`` is not enough: it is 180 degrees for a mirrored frame and -2147483648 for a singular matrix.
    """
    side_data = frame.side_data.get(SideDataType.DISPLAYMATRIX)  # type: ignore[call-overload]
    if side_data is None:
        return Orientation(), True
    raw = bytes(side_data)
    if len(raw) < 36:
        return Orientation(), False
    a, b, _, c, d, *_ = struct.unpack("=9i", raw[:36])
    return orientation_of_matrix(a, b, c, d)


def orientation_of_matrix(a: int, b: int, c: int, d: int) -> tuple[Orientation, bool]:
    """Orientation for x' = a·x + c·y, y' = b·x + d·y, and whether the matrix is one of the eight (up to scale)."""
    straight, crossed = (abs(a), abs(d)), (abs(b), abs(c))
    small, large = sorted((straight, crossed), key=sum)
    if min(large) == 0 or max(small) > _SKEW_TOLERANCE * min(large):
        return Orientation(), False
    if large is straight:
        return Orientation(False, a < 0, d < 0), True
    return Orientation(True, c < 0, b < 0), True
