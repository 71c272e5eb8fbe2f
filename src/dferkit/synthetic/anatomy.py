"""The procedural face's anatomy: chart, action-unit displacement fields, wrinkles, regions.

Chart coordinates are centimetres on the unrolled face: s to the subject's left as seen (rightwards in the picture), y upwards, origin mid-face.
Eye centres lie at (±3.1, 3.3), the mouth line at y = -3.5 with half width 2.5. Every formula here is ours.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np

from dferkit.facs import AU_NAMES

S_MIN, S_MAX, Y_MIN, Y_MAX = -11.0, 11.0, -11.5, 12.5
PIXELS_PER_CM = 10
REFERENCE_WIDTH = 7.0  # cm of chart per radian around the head
CHART_WIDTH, CHART_HEIGHT = int((S_MAX - S_MIN) * PIXELS_PER_CM), int((Y_MAX - Y_MIN) * PIXELS_PER_CM)
FIELD_STEP = 4  # displacement fields are smooth: one value every 4 chart pixels
EYE_S, EYE_Y, EYE_HALF_WIDTH = 3.1, 3.3, 1.65
MOUTH_Y, MOUTH_HALF_WIDTH = -3.5, 2.5
REGIONS = ("forehead", "brow", "glabella", "eyes", "nose", "cheeks", "mouth", "chin")

# (cx, cy, sx, sy, ds, dy, dz), mirrored: whole-skin displacement in cm at intensity 1.
_COMMON: dict[str, list[tuple[float, ...]]] = {
    "AU1": [(1.6, 5.7, 1.5, 1.3, 0.0, 0.80, 0.10)],
    "AU2": [(4.6, 5.7, 1.8, 1.4, 0.0, 0.80, 0.10)],
    "AU4": [(1.9, 5.3, 1.6, 1.2, -0.55, -0.55, 0.12)],
    "AU5": [(3.1, 4.6, 1.5, 0.8, 0.0, 0.12, 0.0)],
    "AU6": [(4.2, 0.9, 1.9, 1.5, 0.10, 0.65, 0.35)],
    "AU7": [(3.1, 2.2, 1.6, 0.7, 0.0, 0.22, 0.12)],
    "AU9": [(1.2, 1.2, 1.3, 1.6, 0.10, 0.65, 0.18), (1.6, 5.1, 1.3, 1.0, -0.20, -0.28, 0.0)],
    "AU10": [(2.5, -1.6, 1.1, 1.3, 0.15, 0.35, 0.22)],
    "AU12": [(2.7, -3.4, 1.6, 1.5, 0.75, 0.75, -0.10), (4.2, -0.7, 1.8, 1.6, 0.15, 0.40, 0.35)],
    "AU14": [(2.9, -3.5, 0.9, 0.9, 0.28, 0.08, -0.28)],
    "AU15": [(2.5, -3.7, 1.3, 1.2, 0.05, -0.75, 0.0)],
    "AU16": [(0.0, -5.2, 1.6, 0.9, 0.0, -0.12, 0.0)],
    "AU17": [(0.7, -5.7, 1.6, 1.3, 0.0, 0.60, 0.25)],
    "AU18": [(2.2, -3.5, 1.2, 1.2, -0.70, 0.0, 0.25), (0.0, -3.5, 1.5, 1.0, 0.0, 0.0, 0.35)],
    "AU20": [(2.9, -3.6, 1.5, 1.5, 0.75, -0.18, -0.12)],
    "AU22": [(2.2, -3.5, 1.2, 1.2, -0.50, 0.0, 0.30), (0.0, -3.5, 1.5, 1.1, 0.0, 0.0, 0.40)],
    "AU23": [(2.3, -3.5, 1.0, 0.9, -0.22, 0.0, 0.0)],
    "AU24": [(2.3, -3.5, 0.9, 0.9, -0.10, 0.0, -0.12)],
    "AU26": [(0.0, -8.2, 4.5, 1.8, 0.0, -0.10, 0.0)],
    "AU27": [(0.0, -8.2, 4.5, 1.8, 0.0, -0.15, 0.0), (3.2, -2.2, 1.5, 1.6, -0.25, -0.20, -0.15)],
    "AU28": [(0.0, -3.6, 2.0, 1.2, 0.0, 0.0, -0.25)],
}
# Lip flaps: (cx, cy, sx, sy, ds, dy), mirrored, on the upper or the lower flap only.
_UPPER_LIP: dict[str, list[tuple[float, ...]]] = {
    "AU9": [(1.4, -2.6, 1.1, 0.8, 0.0, 0.22)],
    "AU10": [(1.3, -2.8, 1.3, 0.8, 0.08, 0.50)],
    "AU23": [(0.0, -2.5, 2.0, 0.55, 0.0, -0.20)],
    "AU24": [(0.0, -2.5, 2.0, 0.55, 0.0, -0.34)],
    "AU28": [(0.0, -2.5, 2.0, 0.6, 0.0, -0.42)],
}
_LOWER_LIP: dict[str, list[tuple[float, ...]]] = {
    "AU16": [(0.0, -4.6, 1.7, 0.8, 0.0, -0.42)],
    "AU23": [(0.0, -4.6, 2.0, 0.55, 0.0, 0.20)],
    "AU24": [(0.0, -4.6, 2.0, 0.55, 0.0, 0.34)],
    "AU28": [(0.0, -4.6, 2.0, 0.6, 0.0, 0.42)],
}
# Openings in cm at intensity 1: (upper flap up, lower flap down).
LID_NEUTRAL = (0.54, 0.18)
_LIDS = {"AU5": (0.34, 0.06), "AU6": (0.0, -0.13), "AU7": (-0.14, -0.20), "AU9": (-0.06, -0.08), "AU43": (-0.54, -0.18)}
_LIPS = {
    "AU10": (0.10, 0.0),
    "AU16": (0.0, 0.22),
    "AU22": (0.16, 0.22),
    "AU25": (0.14, 0.26),
    "AU26": (0.04, 1.05),
    "AU27": (0.12, 1.80),
}
SPEECH_CHANNELS = ("part", "jaw", "pucker", "stretch")

NUM_AUS = len(AU_NAMES)
AU_INDEX = {name: i for i, name in enumerate(AU_NAMES)}


def chart_grid(step: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Chart coordinates (s, y) in cm at every ``step``-th chart pixel, each (rows, columns), top row first."""
    s = S_MIN + (np.arange(0, CHART_WIDTH, step, dtype=np.float32) + 0.5) / PIXELS_PER_CM
    y = Y_MAX - (np.arange(0, CHART_HEIGHT, step, dtype=np.float32) + 0.5) / PIXELS_PER_CM
    grid_s, grid_y = np.meshgrid(s, y)
    return grid_s, grid_y


def row_lookup(table: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Linear interpolation of a per-row table at chart heights ``y``."""
    position = np.clip((Y_MAX - y) * PIXELS_PER_CM - 0.5, 0, CHART_HEIGHT - 1.001)
    low = position.astype(np.int32)
    share = position - low.astype(np.float32)
    return table[low] * (1 - share) + table[low + 1] * share


def gaussian(s: np.ndarray, y: np.ndarray, cx: float, cy: float, sx: float, sy: float) -> np.ndarray:
    """Mirrored Gaussian bump; a bump on the midline is counted once."""
    bump = np.exp(-0.5 * (((s - cx) / sx) ** 2 + ((y - cy) / sy) ** 2))
    if cx:
        bump = bump + np.exp(-0.5 * (((s + cx) / sx) ** 2 + ((y - cy) / sy) ** 2))
    return bump.astype(np.float32)


def soft_step(x: np.ndarray, width: float) -> np.ndarray:
    """0 far below zero, 1 far above, over about ``width``."""
    return 1 / (1 + np.exp(-np.clip(x / width, -30, 30)))


def _mirrored_field(s: np.ndarray, y: np.ndarray, terms: list[tuple[float, ...]], axes: int) -> np.ndarray:
    """Sum of mirrored Gaussian displacements, (side, axes, rows, columns); side 0 is s < 0, side 1 is s ≥ 0."""
    total = np.zeros((2, axes, *s.shape), np.float32)
    for cx, cy, sx, sy, *vector in terms:
        # A smooth share across the midline lets the two sides move by different amounts without a crease.
        for side, sign in ((0, -1.0), (1, 1.0)):
            if cx:
                bump = np.exp(-0.5 * (((s - sign * cx) / sx) ** 2 + ((y - cy) / sy) ** 2))
            else:
                bump = np.exp(-0.5 * ((s / sx) ** 2 + ((y - cy) / sy) ** 2)) * soft_step(sign * s, 0.6)
            for axis, amount in enumerate(vector):
                total[side, axis] += (sign * amount if axis == 0 else amount) * bump
    return total


def mouth_profile(s: np.ndarray) -> np.ndarray:
    """1 in the middle of the mouth line, 0 at and beyond its corners."""
    return np.clip(1 - (s / MOUTH_HALF_WIDTH) ** 2, 0, 1) ** 0.75


def eye_profile(s: np.ndarray) -> np.ndarray:
    """1 in the middle of each eye's slit, 0 at and beyond its corners."""
    inner = np.clip(1 - ((s - EYE_S) / EYE_HALF_WIDTH) ** 2, 0, 1) ** 0.65
    return inner + np.clip(1 - ((s + EYE_S) / EYE_HALF_WIDTH) ** 2, 0, 1) ** 0.65


def eye_line(s: np.ndarray) -> np.ndarray:
    """Height of the closed eyes' slit: the outer corners lie a little higher, the middle sags."""
    t = (np.abs(s) - EYE_S) / EYE_HALF_WIDTH
    return EYE_Y + 0.05 * t - 0.16 * np.clip(1 - t**2, 0, 1)


def mouth_line(s: np.ndarray) -> np.ndarray:
    """Height of the closed mouth's slit."""
    return MOUTH_Y + 0.08 * np.clip(1 - (s / 1.2) ** 2, 0, 1) - 0.10 * np.clip(1 - (s / MOUTH_HALF_WIDTH) ** 2, 0, 1)


@functools.cache
def fields() -> dict[str, np.ndarray]:
    """Displacement bases on the coarse chart.

    Returns:
        ``common`` (side, AU, 3, rows, columns): whole-skin (ds, dy, dz) per AU;
        ``upper``, ``lower`` (side, AU, 2, rows, columns): what the flaps add;
        ``lid_upper``, ``lid_lower``, ``lip_upper``, ``lip_lower`` (rows, columns): displacement in y per cm of opening.
    """
    s, y = chart_grid(FIELD_STEP)
    result: dict[str, np.ndarray] = {}
    for key, table, axes in (("common", _COMMON, 3), ("upper", _UPPER_LIP, 2), ("lower", _LOWER_LIP, 2)):
        result[key] = np.stack([_mirrored_field(s, y, table.get(name, []), axes) for name in AU_NAMES], axis=1)
    above_eye, above_mouth = y - eye_line(s), y - mouth_line(s)
    # Flaps fade out before the nose (y near 0), where eyes and mouth meet, so that no seam can show.
    # At the mouth line outside the corners both flaps must move alike, or the skin would tear.
    corners = 1 - (1 - np.minimum(2 * mouth_profile(s), 1)) * np.exp(-((above_mouth / 0.7) ** 2))
    result["upper"] *= corners
    result["lower"] *= corners
    eye_zone = soft_step(y - 1.2, 0.15)
    mouth_zone = soft_step(-0.9 - y, 0.15)
    lid = eye_profile(s) * eye_zone
    result["lid_upper"] = lid * np.exp(-((above_eye / 0.95) ** 2))
    result["lid_lower"] = -lid * np.exp(-((above_eye / 0.8) ** 2))
    lip, depth = mouth_profile(s), np.maximum(-above_mouth, 0)
    result["lip_upper"] = lip * mouth_zone * np.exp(-((above_mouth / 1.0) ** 2))
    # The jaw carries the lip's edge inside the corners and the whole chin below: outside the corners it starts from zero.
    near = np.exp(-((depth / 1.6) ** 2))
    chin = np.exp(-0.5 * (s / 4.2) ** 2) * np.where(above_mouth > 0, 0, 1)
    result["lip_lower"] = -mouth_zone * np.where(
        above_mouth > 0, lip * np.exp(-((above_mouth / 1.0) ** 2)), lip * near + chin * (1 - near)
    )
    return {key: np.ascontiguousarray(value, np.float32) for key, value in result.items()}


def openings(au: np.ndarray, blink: np.ndarray, speech: np.ndarray) -> np.ndarray:
    """Slit openings in cm, (frames, 4): upper lid, lower lid, upper lip, lower lip with jaw.

    Args:
        au: (frames, AUs) intensities, 0 to 1. blink: (frames,), 1 is shut. speech: (frames, channels), 0 to 1.
    """
    lids = np.tile(np.array(LID_NEUTRAL, np.float32), (len(au), 1))
    for name, (up, down) in _LIDS.items():
        lids += au[:, AU_INDEX[name], None] * np.array((up, down), np.float32)
    lids = np.maximum(lids, (0.0, 0.0)) * (1 - blink[:, None])
    lips = np.zeros((len(au), 2), np.float32)
    for name, (up, down) in _LIPS.items():
        lips += au[:, AU_INDEX[name], None] * np.array((up, down), np.float32)
    lips += speech[:, 0:1] * np.array(_LIPS["AU25"], np.float32) + speech[:, 1:2] * np.array((0.0, 0.6), np.float32)
    smile_open = (au[:, AU_INDEX["AU12"]] * np.minimum(au[:, AU_INDEX["AU25"]] * 2, 1))[:, None]
    lips += smile_open * np.array((0.22, 0.25), np.float32)
    pressed = au[:, [AU_INDEX["AU24"], AU_INDEX["AU28"]]].max(1, keepdims=True)
    return np.concatenate([lids, lips * (1 - 0.8 * pressed)], 1)


def jaw_drop(opening: np.ndarray) -> np.ndarray:
    """How far the chin's outline sinks, in cm, for openings (frames, 4)."""
    return 0.9 * np.maximum(opening[:, 3] - 0.3, 0)


def speech_as_aus(speech: np.ndarray) -> np.ndarray:
    """The skin displacement of speech, as extra AU weights (frames, AUs): small pucker and stretch."""
    extra = np.zeros((len(speech), NUM_AUS), np.float32)
    extra[:, AU_INDEX["AU18"]] = 0.5 * speech[:, 2]
    extra[:, AU_INDEX["AU20"]] = 0.35 * speech[:, 3]
    return extra


def _polyline(points: list[tuple[float, float]], width: float) -> np.ndarray:
    """Blurred crease through chart points, peak 1, drawn on both sides of the face."""
    canvas = np.zeros((CHART_HEIGHT, CHART_WIDTH), np.float32)
    for sign in (-1, 1):
        pixels = [((sign * s - S_MIN) * PIXELS_PER_CM * 8, (Y_MAX - y) * PIXELS_PER_CM * 8) for s, y in points]
        cv2.polylines(canvas, [np.round(pixels).astype(np.int32)], False, 1.0, 1, cv2.LINE_AA, shift=3)
    blurred = cv2.GaussianBlur(canvas, (0, 0), width * PIXELS_PER_CM)
    return blurred / max(float(blurred.max()), 1e-6)


_CREASES: dict[str, list[tuple[list[tuple[float, float]], float, float]]] = {
    # AU -> [(points, width in cm, depth at intensity 1)]
    "AU1": [([(0.0, 7.0), (1.4, 7.15), (2.6, 6.95)], 0.14, 0.8), ([(0.0, 7.9), (1.6, 8.05), (2.8, 7.8)], 0.14, 0.7)],
    "AU2": [([(2.4, 7.1), (4.0, 7.5), (5.4, 7.1)], 0.14, 0.7), ([(2.6, 8.0), (4.2, 8.3), (5.4, 7.9)], 0.14, 0.6)],
    "AU4": [([(0.55, 4.4), (0.6, 5.2), (0.8, 6.1)], 0.14, 1.0), ([(0.0, 4.2), (0.3, 4.25)], 0.14, 0.5)],
    "AU6": [
        ([(4.9, 3.2), (6.0, 3.7)], 0.10, 0.8),
        ([(4.9, 2.9), (6.1, 2.9)], 0.10, 0.9),
        ([(4.8, 2.6), (5.9, 2.1)], 0.10, 0.8),
        ([(1.7, 2.3), (3.1, 1.75), (4.5, 2.2)], 0.14, 0.7),
    ],
    "AU7": [([(1.8, 2.7), (3.1, 2.35), (4.4, 2.7)], 0.10, 0.7)],
    "AU9": [
        ([(0.0, 2.5), (0.9, 2.75)], 0.11, 0.9),
        ([(0.0, 3.1), (0.8, 3.4)], 0.11, 0.8),
        ([(0.9, 0.9), (1.7, 0.1), (1.9, -0.7)], 0.16, 0.9),
    ],
    "AU10": [([(1.5, -0.5), (2.3, -1.3), (2.9, -2.4)], 0.16, 1.0)],
    "AU12": [([(1.6, -0.7), (2.7, -1.6), (3.4, -2.9), (3.5, -3.8)], 0.18, 1.0)],
    "AU14": [([(2.95, -3.0), (3.1, -3.5), (3.0, -4.0)], 0.12, 1.0)],
    "AU15": [([(2.7, -3.8), (3.1, -4.6), (3.0, -5.2)], 0.15, 0.9)],
    "AU17": [
        ([(0.0, -5.1), (0.9, -5.2), (1.5, -5.6)], 0.16, 0.8),
        ([(0.4, -6.2), (1.0, -6.6)], 0.18, 0.6),
        ([(0.1, -6.9), (0.6, -7.1)], 0.16, 0.5),
    ],
    "AU20": [([(3.1, -2.9), (3.4, -3.6), (3.3, -4.4)], 0.15, 0.7)],
    "AU23": [([(0.6, -2.5), (0.9, -2.9)], 0.08, 0.4), ([(1.5, -2.6), (1.7, -3.0)], 0.08, 0.4)],
    "AU24": [([(0.3, -5.0), (1.6, -4.9)], 0.14, 0.6), ([(2.8, -3.2), (2.9, -3.8)], 0.12, 0.6)],
}


@functools.cache
def creases() -> tuple[np.ndarray, np.ndarray]:
    """Crease maps (AUs with creases, height, width) and the index of their AU."""
    names = list(_CREASES)
    maps = np.zeros((len(names), CHART_HEIGHT, CHART_WIDTH), np.float32)
    for i, name in enumerate(names):
        for points, width, depth in _CREASES[name]:
            maps[i] = np.maximum(maps[i], depth * _polyline(points, width))
    return maps, np.array([AU_INDEX[name] for name in names])


@functools.cache
def displacement_size() -> np.ndarray:
    """How far each AU at intensity 1 moves the skin, in cm, (AUs, rows, columns) on the coarse chart: the AU's heat map."""
    parts = fields()
    size = np.zeros((NUM_AUS, *parts["lid_upper"].shape), np.float32)
    for i, name in enumerate(AU_NAMES):
        skin = parts["common"][:, i].sum(0)
        size[i] = np.hypot(np.hypot(skin[0], skin[1]), 0.5 * skin[2])
        size[i] += np.abs(parts["upper"][:, i, 1].sum(0)) + np.abs(parts["lower"][:, i, 1].sum(0))
        up, down = _LIDS.get(name, (0.0, 0.0))
        size[i] += np.abs(up * parts["lid_upper"]) + np.abs(down * parts["lid_lower"])
        up, down = _LIPS.get(name, (0.0, 0.0))
        size[i] += np.abs(up * parts["lip_upper"]) + np.abs(down * parts["lip_lower"])
    return size


def region_at(s: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Index into ``REGIONS`` of each chart point, -1 outside the face."""
    a = np.abs(s)
    region = np.full(s.shape, 5)  # cheeks unless set below
    region[y > 6.6] = 0
    region[(y > 4.4) & (y <= 6.6)] = 1
    region[(y > 3.9) & (y <= 6.4) & (a < 1.0)] = 2
    region[(y > 2.1) & (y <= 4.4) & (a >= 1.2)] = 3
    region[(y > -1.9) & (y <= 3.9) & (a < 1.7) & ~((y > 2.1) & (a >= 1.2))] = 4
    region[(y <= -1.9) & (y > -5.0) & (a < 3.6)] = 6
    region[(y <= -5.0) & (a < 3.8)] = 7
    region[(a > 8.0) | (y > 11.0) | (y < -9.2)] = -1
    return region
