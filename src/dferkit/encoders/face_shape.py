"""Landmarks in coordinates of the head: position, size and turn of the head are removed.

Landmark numbers are those of MediaPipe's face mesh with irises (478 points). Left and right are the subject's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int

from dferkit.errors import DataError
from dferkit.faces import nearest_found

# Points that hardly move in expressions: upper forehead, bridge of the nose, temples, corners of the eyes.
RIGID = np.array(
    [10, 151, 9, 8, 168, 6, 197, 195, 127, 356, 34, 264, 33, 133, 362, 263, 67, 297, 109, 338, 103, 332, 54, 284, 21, 251, 162, 389, 93, 323]
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Area:
    """A part of the face that is one token per step.

    Attributes:
        name: ``left brow``. region: Of ``facs.yaml``. anchors: Landmarks inside it; every other landmark belongs to the area of its
            nearest anchor.
    """

    name: str
    region: str
    anchors: tuple[int, ...]


AREAS = (
    Area(name="forehead", region="forehead", anchors=(10, 151, 67, 109, 338, 297, 103, 332, 69, 299, 108, 337, 104, 333)),
    Area(name="right brow", region="brow", anchors=(46, 53, 52, 65, 70, 63, 105, 66)),
    Area(name="left brow", region="brow", anchors=(276, 283, 282, 295, 300, 293, 334, 296)),
    Area(name="glabella", region="glabella", anchors=(9, 8, 107, 336, 55, 285, 168, 193, 417)),
    Area(name="right eye", region="eyes", anchors=(33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246, 468)),
    Area(name="left eye", region="eyes", anchors=(263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466, 473)),
    Area(name="nose", region="nose", anchors=(6, 197, 195, 5, 4, 1, 2, 98, 327, 64, 294, 48, 278, 115, 344, 45, 275)),
    Area(name="right cheek", region="cheeks", anchors=(50, 36, 205, 187, 123, 117, 118, 101, 207, 147, 213, 192)),
    Area(name="left cheek", region="cheeks", anchors=(280, 266, 425, 411, 352, 346, 347, 330, 427, 376, 433, 416)),
    Area(name="upper lip", region="mouth", anchors=(0, 267, 269, 37, 39, 13, 82, 81, 312, 311, 164, 167, 393)),
    Area(name="lower lip", region="mouth", anchors=(17, 84, 181, 314, 405, 14, 87, 178, 317, 402)),
    Area(name="right mouth corner", region="mouth", anchors=(61, 78, 185, 146, 57, 186, 76)),
    Area(name="left mouth corner", region="mouth", anchors=(291, 308, 409, 375, 287, 410, 306)),
    Area(name="chin", region="chin", anchors=(152, 199, 200, 175, 148, 377, 18, 176, 400, 32, 262)),
)  # fmt: skip
AREA_NAMES = tuple(area.name for area in AREAS)
# Landmarks in the middle of the face from the forehead to the chin, and pairs of (right, left).
MIDLINE = (10, 151, 9, 8, 168, 6, 197, 195, 5, 4, 1, 2, 164, 0, 17, 18, 200, 199, 175, 152)
PAIRS = tuple(
    (right, left)
    for a in AREAS
    for b in AREAS
    if a.name.startswith("right ") and b.name == a.name.replace("right", "left")
    for right, left in zip(a.anchors, b.anchors, strict=True)
)
_MIRRORED = np.array((-1.0, 1.0, 1.0))


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadShape:
    """Landmarks of a clip in head coordinates.

    Attributes:
        points: (frames, 478, 3); the rigid points have a mean distance of about 1 from their centre.
        turn: (frames, 3, 3) rotation from the frame to the head. scale: (frames,) head units per pixel. centre: (frames, 3) the rigid
            points' middle in the frame.
        seen: Frames where the landmarker found the face; the others repeat the nearest of these.
    """

    points: Float[np.ndarray, "frames points 3"]
    turn: Float[np.ndarray, "frames 3 3"]
    scale: Float[np.ndarray, " frames"]
    centre: Float[np.ndarray, "frames 3"]
    seen: Bool[np.ndarray, " frames"]

    @property
    def yaw_degrees(self) -> Float[np.ndarray, " frames"]:
        """Turn of the head to a side, -90 to 90."""
        return np.rad2deg(np.arcsin(np.clip(self.turn[:, 0, 2], -1, 1)))


def head_shape(landmarks: Float[np.ndarray, "frames points 3"], template: Float[np.ndarray, "points 3"]) -> HeadShape:
    """Best similarity (Umeyama 1991) of the rigid points onto the template, frame by frame.

    Args:
        landmarks: Pixels, NaN in frames without a face. template: The mean face, its rigid points centred.

    Raises:
        DataError: No frame has landmarks, or they are not MediaPipe's 478.
    """
    if landmarks.shape[1:] != template.shape:
        raise DataError(f"found {landmarks.shape[1]} landmarks; expected the {len(template)} of MediaPipe's face mesh")
    seen = np.isfinite(landmarks).all((1, 2))
    if not seen.any():
        raise DataError("the landmarker found no face in any frame of this clip")
    filled = landmarks[nearest_found(seen)].astype(np.float64)
    target = template[RIGID].astype(np.float64)
    source = filled[:, RIGID]
    centre = source.mean(1, keepdims=True)
    source = source - centre
    u, size, vt = np.linalg.svd(np.einsum("fni,nj->fij", source, target - target.mean(0)))
    handed = np.ones_like(size)
    handed[:, 2] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    turn = np.einsum("fij,fj,fjk->fik", u, handed, vt)
    scale = (size * handed).sum(1) / np.maximum(np.square(source).sum((1, 2)), 1e-12)
    points = np.einsum("fni,fij->fnj", filled - centre, turn) * scale[:, None, None] + target.mean(0)
    return HeadShape(
        points=points.astype(np.float32),
        turn=turn.astype(np.float32),
        scale=scale.astype(np.float32),
        centre=centre[:, 0].astype(np.float32),
        seen=seen,
    )


def to_frame(
    points: Float[np.ndarray, "frames points 3"], shape: HeadShape, template: Float[np.ndarray, "points 3"]
) -> Float[np.ndarray, "frames points 3"]:
    """Head coordinates → pixels of the frames, with the head where ``shape`` has it."""
    middle = template[RIGID].mean(0)
    turned = np.einsum("fni,fji->fnj", points - middle, shape.turn) / shape.scale[:, None, None]
    return (turned + shape.centre[:, None]).astype(np.float32)


def fit_template(clips: Float[np.ndarray, "faces points 3"], *, rounds: int = 4) -> Float[np.ndarray, "points 3"]:
    """Mean face of many (generalised Procrustes analysis): upright, symmetric, rigid points centred and of unit size."""
    faces = clips[np.isfinite(clips).all((1, 2))].astype(np.float64)
    template = _unit(_upright(_unit(faces[0])))
    for _ in range(rounds):
        template = _unit(_upright(head_shape(faces, template).points.astype(np.float64).mean(0)))
    mirrored = template[mirror_order(template)] * _MIRRORED
    return _unit((template + mirrored) / 2).astype(np.float32)


def _unit(face: np.ndarray) -> np.ndarray:
    centred = face - face[RIGID].mean(0)
    return centred / np.sqrt(np.square(centred[RIGID]).sum(1).mean())


def _upright(face: np.ndarray) -> np.ndarray:
    """Turned so that the subject's left is at positive x and the chin at positive y, as in a picture; middle plane at x = 0."""
    right, left = np.array(PAIRS).T
    across = (face[left] - face[right]).mean(0)
    across /= np.linalg.norm(across)
    down = face[list(MIDLINE[-4:])].mean(0) - face[list(MIDLINE[:4])].mean(0)
    down -= (down @ across) * across
    down /= np.linalg.norm(down)
    turned = face @ np.stack([across, down, np.cross(across, down)], 1)
    return turned - (turned[left] + turned[right]).mean(0) / 2 * (1, 0, 0)


def members(template: Float[np.ndarray, "points 3"]) -> tuple[tuple[int, ...], ...]:
    """Landmarks of each area: those nearer to one of its anchors than to any other area's, on the mean face."""
    distance = np.stack(
        [np.linalg.norm(template[:, None] - template[list(area.anchors)], axis=-1).min(1) for area in AREAS]
    )
    owner = distance.argmin(0)
    return tuple(tuple(int(i) for i in np.flatnonzero(owner == number)) for number in range(len(AREAS)))


def mirror_order(template: Float[np.ndarray, "points 3"]) -> Int[np.ndarray, " points"]:
    """The landmark at the position of each one in a mirrored picture: the one-to-one assignment nearest to the mirrored positions.

    Args:
        template: An upright face with its middle plane at x = 0.
    """
    mirrored = template * _MIRRORED
    from scipy.optimize import linear_sum_assignment  # for pretraining only; the extra landmarks installs it

    _, order = linear_sum_assignment(np.linalg.norm(mirrored[:, None] - template, axis=-1))
    return np.asarray(order)


def outlines(
    points: Float[np.ndarray, "frames points 2"],
    of_area: tuple[tuple[int, ...], ...],
    grid: tuple[int, int],
    *,
    samples: int = 4,
) -> Float[np.ndarray, "frames areas cells"]:
    """How much of each cell of a face crop every area covers: its landmarks' convex hull, rasterised.

    Args:
        points: Landmarks as shares of the crop's side, 0 to 1 inside. grid: Rows and columns.

    Returns:
        Shares of each area over the cells; each sums to 1. An area outside the crop is given to the nearest cell.
    """
    rows, columns = grid
    covered = np.zeros((len(points), len(of_area), rows, columns), np.float32)
    for frame, face in enumerate(points):
        for number, landmarks in enumerate(of_area):
            canvas = np.zeros((rows * samples, columns * samples), np.uint8)
            corners = face[list(landmarks)] * (columns * samples, rows * samples)
            hull = cv2.convexHull(np.round(corners).astype(np.int32))
            cv2.fillConvexPoly(canvas, hull, 1)
            cells = canvas.reshape(rows, samples, columns, samples).sum((1, 3)).astype(np.float32)
            if not cells.any():
                middle = np.clip(face[list(landmarks)].mean(0) * (columns, rows), 0, (columns - 1, rows - 1)).astype(
                    int
                )
                cells[middle[1], middle[0]] = 1
            covered[frame, number] = cells / cells.sum()
    return covered.reshape(len(points), len(of_area), -1)
