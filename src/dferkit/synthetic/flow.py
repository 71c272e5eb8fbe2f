"""Exact truth of where the picture moves, and because of what, from the geometry that drew it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dferkit.synthetic import anatomy
from dferkit.synthetic.anatomy import FIELD_STEP, NUM_AUS, PIXELS_PER_CM, REFERENCE_WIDTH
from dferkit.synthetic.identity import Identity
from dferkit.synthetic.motion import Performance
from dferkit.synthetic.render import side_weights
from dferkit.synthetic.scene import HEIGHT_IN_CM, rotation

GRID = 14


@dataclass(frozen=True, kw_only=True, slots=True)
class MotionTruth:
    """Truth on a 14 × 14 grid over the frame, row by row from the top left.

    Attributes:
        flow_expression, flow_nuisance: (frames, 14, 14) mean speed of the skin in pixels since the previous frame (0 in the first).
        regions: (14, 14) index into ``anatomy.REGIONS`` at the clip's mean pose, -1 outside the face.
        heat: (AUs, 14, 14) how far each AU moves what the cell shows, largest cell 1.
        visible: (14, 14) share of the frames in which the cell shows the face.
    """

    flow_expression: np.ndarray
    flow_nuisance: np.ndarray
    regions: np.ndarray
    heat: np.ndarray
    visible: np.ndarray


def _points() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chart points of the face and their index on the coarse chart."""
    s, y = anatomy.chart_grid(FIELD_STEP)
    index = np.flatnonzero((anatomy.region_at(s, y) >= 0).ravel())
    return s.ravel()[index], y.ravel()[index], index


def _positions(
    identity: Identity, weights: np.ndarray, opening: np.ndarray, pose: np.ndarray, camera: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Screen positions of the face's points, as shares of the frame: (frames, points, 2) and visibility (frames, points)."""
    s, y, index = _points()
    parts = {key: value.reshape(*value.shape[:-2], -1)[..., index] for key, value in anatomy.fields().items()}
    above = np.where(y > 0, y >= anatomy.eye_line(s), y >= anatomy.mouth_line(s))
    flap = np.where(above, parts["upper"], parts["lower"])
    moved = np.tensordot(weights, parts["common"][:, :, :2] + flap, axes=2)
    if identity.shape is not None:
        moved += identity.shape.reshape(2, -1)[:, index]
    lid = np.where(above, parts["lid_upper"], parts["lid_lower"])
    lip = np.where(above, parts["lip_upper"], parts["lip_lower"])
    which = np.where(above, 0, 1)
    moved[:, 1] += opening[:, which] * lid + opening[:, 2 + which] * lip
    height = np.tensordot(weights, parts["common"][:, :, 2], axes=2)
    row = np.clip(((anatomy.Y_MAX - y) * PIXELS_PER_CM - 0.5).astype(int), 0, anatomy.CHART_HEIGHT - 1)
    column = np.clip(((s - anatomy.S_MIN) * PIXELS_PER_CM - 0.5).astype(int), 0, anatomy.CHART_WIDTH - 1)
    relief = identity.relief[row, column] + height
    t = (s + moved[:, 0]) / REFERENCE_WIDTH
    head = np.stack(
        [(identity.half_width[row] + relief) * np.sin(t), y + moved[:, 1], (identity.depth[row] + relief) * np.cos(t)],
        -1,
    )
    turn = np.stack([rotation(p) for p in pose])
    seen = np.einsum("fij,fpj->fpi", turn, head)
    scale = camera[:, 2, None] / HEIGHT_IN_CM
    right = 0.5 + (seen[..., 0] + camera[:, 0, None]) * scale
    down = 0.5 - (seen[..., 1] + camera[:, 1, None] - 0.6) * scale
    visible = np.cos(t + pose[:, 0, None]) > 0.2
    return np.stack([right, down], -1), visible


def _bin(cells: np.ndarray, keep: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean of ``values`` per cell of the grid; 0 where none."""
    count = np.bincount(cells[keep], minlength=GRID * GRID)
    total = np.bincount(cells[keep], weights=values[keep], minlength=GRID * GRID)
    return (total / np.maximum(count, 1)).reshape(GRID, GRID)


def motion_truth(identity: Identity, performance: Performance, *, size: int) -> MotionTruth:
    """Split the motion of a clip into expression and everything else.

    Expression is what the action units' change alone does under the frame's own pose; the rest (head, camera, blink, speech) is nuisance.
    """
    scene, au = performance.scene, performance.au

    def placed(au_of: np.ndarray, frames_of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        speech, blink = scene.speech[frames_of], scene.blink[frames_of]
        weights = side_weights(identity, au_of, performance.asymmetry, speech)
        opening = anatomy.openings(au_of + 0.5 * identity.resting, blink, speech)
        opening[:, 0] *= identity.eye_opening
        return _positions(identity, weights, opening, scene.pose[frames_of], scene.camera[frames_of])

    now = np.arange(len(au))
    before = np.maximum(now - 1, 0)
    place, visible = placed(au, now)
    earlier = place[before]
    same_pose, _ = placed(au[before], now)
    expression = np.linalg.norm(place - same_pose, axis=-1) * size
    nuisance = np.linalg.norm(same_pose - earlier, axis=-1) * size
    cell = np.clip((place * GRID).astype(int), 0, GRID - 1)
    inside = visible & ((place >= 0) & (place < 1)).all(-1)
    cells = cell[..., 1] * GRID + cell[..., 0]
    s, y, index = _points()
    regions = anatomy.region_at(s, y)
    heat_points = anatomy.displacement_size().reshape(NUM_AUS, -1)[:, index]
    votes = np.zeros((len(anatomy.REGIONS), GRID * GRID))
    for r in range(len(anatomy.REGIONS)):
        keep = inside & (regions == r)
        votes[r] = np.bincount(cells[keep], minlength=GRID * GRID)
    everywhere = np.broadcast_to(heat_points[:, None], (NUM_AUS, *inside.shape))
    heat = np.stack([_bin(cells, inside, everywhere[a]) for a in range(NUM_AUS)])
    heat /= np.maximum(heat.max((1, 2), keepdims=True), 1e-9)
    shown = np.stack([np.bincount(cells[f][inside[f]], minlength=GRID * GRID) > 0 for f in now])
    return MotionTruth(
        flow_expression=np.stack([_bin(cells[f], inside[f], expression[f]) for f in now]).astype(np.float32),
        flow_nuisance=np.stack([_bin(cells[f], inside[f], nuisance[f]) for f in now]).astype(np.float32),
        regions=np.where(votes.sum(0) > 0, votes.argmax(0), -1).reshape(GRID, GRID).astype(np.int8),
        heat=heat.astype(np.float32),
        visible=shown.mean(0).reshape(GRID, GRID).astype(np.float32),
    )
