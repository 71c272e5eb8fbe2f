"""A procedural person: head shape, skin, hair and resting face, drawn once per identity.

Nothing here depends on the expression class, and no attribute is ever predicted from a face: skin tone is known only because we drew it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from dferkit.synthetic.anatomy import (
    CHART_HEIGHT,
    CHART_WIDTH,
    EYE_HALF_WIDTH,
    EYE_S,
    EYE_Y,
    MOUTH_HALF_WIDTH,
    PIXELS_PER_CM,
    S_MIN,
    Y_MAX,
    chart_grid,
    eye_line,
    gaussian,
    mouth_line,
    mouth_profile,
    soft_step,
)

# RGB of six skin tones from light to dark, named so that recall can be reported per tone.
SKIN_TONES = {
    "tone1": (238, 205, 184),
    "tone2": (224, 178, 148),
    "tone3": (201, 150, 115),
    "tone4": (166, 113, 80),
    "tone5": (134, 90, 64),
    "tone6": (98, 65, 48),
}
_HAIR_COLOURS = (
    (28, 22, 20),
    (58, 38, 26),
    (96, 64, 38),
    (140, 100, 58),
    (188, 152, 96),
    (120, 52, 28),
    (150, 148, 146),
)
_IRIS_COLOURS = ((62, 40, 24), (86, 58, 34), (96, 92, 50), (84, 110, 128), (70, 100, 84))
CHIN_Y, CROWN_Y, WIDEST_Y = -9.3, 11.6, 1.8


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """What the renderer needs of one person.

    Attributes:
        subject: Name, unique within its namespace.
        skin_tone: Key of ``SKIN_TONES``.
        half_width, depth: Head cross-section per chart row, in cm.
        albedo: (height, width, 3) reflectance 0 to 1 of skin, lips, brows, scalp hair.
        relief: (height, width) height over the smooth head, in cm.
        occlusion: (height, width) ambient light that arrives, 0 to 1.
        resting: Extra AU weights of the resting face, so that neutral differs between people; not part of the truth.
        strength: How far this person's skin moves per AU (1 is average).
        glasses: 0 for none, else how thick their frame is (1 is .22 cm).
        shape: (2, rows, columns) displacement (ds, dy) in cm of this face from the average one, on the coarse chart; None is the average.
    """

    subject: str
    skin_tone: str
    half_width: np.ndarray
    depth: np.ndarray
    albedo: np.ndarray
    relief: np.ndarray
    occlusion: np.ndarray
    hair_colour: np.ndarray
    iris_colour: np.ndarray
    has_long_hair: bool
    crease_depth: float
    resting: np.ndarray
    strength: np.ndarray
    eye_opening: float
    gloss: float
    glasses: float
    shape: np.ndarray | None = None


def _profile(y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Half width and depth of the head at heights ``y``: superellipses with a jaw taper."""
    width, depth = rng.uniform(6.5, 7.5), rng.uniform(8.4, 9.4)
    taper, jaw_power = rng.uniform(0.20, 0.38), rng.uniform(2.4, 3.4)
    up = np.clip((y - WIDEST_Y) / (CROWN_Y - WIDEST_Y), 0, 1)
    down = np.clip((WIDEST_Y - y) / (WIDEST_Y - CHIN_Y), 0, 1)
    shape = np.where(
        y > WIDEST_Y, (1 - up**2.5) ** (1 / 2.5), (1 - down**jaw_power) ** (1 / jaw_power) * (1 - taper * down**1.4)
    )
    inside = (y > CHIN_Y) & (y < CROWN_Y)
    half_width = np.where(inside, np.maximum(width * shape, 0.05), 0.05)
    shape_depth = np.where(y > WIDEST_Y, (1 - up**2.4) ** (1 / 2.4), (1 - down**4.0) ** (1 / 4.0) * (1 - 0.12 * down))
    return half_width.astype(np.float32), np.where(inside, np.maximum(depth * shape_depth, 0.05), 0.05).astype(
        np.float32
    )


def _relief(s: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Heights of nose, sockets, brow ridge, lips, chin and cheeks, each with a random size."""

    def amount(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    nose_width = amount(0.85, 1.25)
    relief = amount(0.7, 1.1) * gaussian(s, y, 0.0, 1.6, 0.65 * nose_width, 1.9)
    relief += amount(1.3, 1.9) * gaussian(s, y, 0.0, -0.85, 0.80 * nose_width, 0.95)
    relief += amount(0.45, 0.75) * gaussian(s, y, 1.15 * nose_width, -1.1, 0.5, 0.5)
    relief -= amount(0.50, 0.85) * gaussian(s, y, 2.9, 3.6, 1.5, 1.0)
    relief += 0.40 * gaussian(s, y, EYE_S, EYE_Y, 1.15, 0.75)
    relief += amount(0.20, 0.50) * gaussian(s, y, 2.6, 5.0, 2.0, 0.8)
    relief += amount(0.25, 0.45) * gaussian(s, y, 0.0, -3.05, 1.5, 0.42)
    relief += amount(0.30, 0.55) * gaussian(s, y, 0.0, -4.05, 1.25, 0.45)
    relief -= amount(0.20, 0.35) * gaussian(s, y, 0.0, -5.1, 1.4, 0.5)
    relief -= 0.22 * gaussian(s, y, MOUTH_HALF_WIDTH + 0.1, -3.5, 0.45, 0.45)
    relief += amount(0.40, 0.90) * gaussian(s, y, 0.0, -6.8, 1.7, 1.1)
    relief += amount(0.25, 0.60) * gaussian(s, y, 4.2, -0.2, 1.8, 1.7)
    relief -= amount(0.00, 0.30) * gaussian(s, y, 4.6, -4.2, 1.5, 1.8)
    return relief


def _smooth_noise(rng: np.random.Generator, cell: float) -> np.ndarray:
    """Unit-variance noise with features of ``cell`` cm on the chart."""
    rows, columns = max(int(CHART_HEIGHT / PIXELS_PER_CM / cell), 2), max(int(CHART_WIDTH / PIXELS_PER_CM / cell), 2)
    return cv2.resize(
        rng.standard_normal((rows, columns)).astype(np.float32),
        (CHART_WIDTH, CHART_HEIGHT),
        interpolation=cv2.INTER_CUBIC,
    )


def _to_pixels(s: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Chart pixels with 3 fractional bits, for OpenCV's ``shift``."""
    return np.round(np.stack([(s - S_MIN) * PIXELS_PER_CM, (Y_MAX - y) * PIXELS_PER_CM], -1) * 8).astype(np.int32)


def _strokes(
    rng: np.random.Generator, roots: np.ndarray, angles: np.ndarray, lengths: np.ndarray, width_blur: float
) -> np.ndarray:
    """Coverage 0 to 1 of short hair strokes that start at ``roots`` (n, 2) in cm."""
    canvas = np.zeros((CHART_HEIGHT, CHART_WIDTH), np.float32)
    tips = roots + np.stack([np.cos(angles), np.sin(angles)], -1) * lengths[:, None]
    start, stop = _to_pixels(roots[:, 0], roots[:, 1]), _to_pixels(tips[:, 0], tips[:, 1])
    shades = rng.uniform(0.6, 1.0, len(roots))
    for a, b, shade in zip(start, stop, shades, strict=True):
        cv2.line(canvas, a.tolist(), b.tolist(), float(shade), 1, cv2.LINE_AA, shift=3)
    return np.clip(cv2.GaussianBlur(canvas, (0, 0), width_blur), 0, 1)


def _brows(rng: np.random.Generator) -> np.ndarray:
    """Coverage of both eyebrows, about 260 strokes a side."""
    height, arch, thickness = rng.uniform(4.85, 5.35), rng.uniform(0.15, 0.55), rng.uniform(0.22, 0.48)
    inner, outer, tilt = rng.uniform(1.0, 1.35), rng.uniform(4.7, 5.3), rng.uniform(-0.25, 0.30)
    total = np.zeros((CHART_HEIGHT, CHART_WIDTH), np.float32)
    for sign in (-1.0, 1.0):
        t = rng.uniform(0, 1, 260)
        thick = thickness * (1 - 0.65 * t**2)
        s = inner + (outer - inner) * t
        y = (
            height
            + tilt * (t - 0.5)
            + arch * np.sin(np.pi * np.clip(t * 0.95, 0, 1))
            - 0.25 * t**3
            + rng.uniform(-0.5, 0.5, 260) * thick
        )
        angles = np.deg2rad(np.where(t < 0.25, 65, 20) - 25 * t + rng.normal(0, 9, 260))
        angles = np.where(sign > 0, angles, np.pi - angles)
        total = np.maximum(total, _strokes(rng, np.stack([sign * s, y], -1), angles, rng.uniform(0.35, 0.6, 260), 0.7))
    return np.clip(total * rng.uniform(1.2, 2.2), 0, 1)


def facial_hair(s: np.ndarray, y: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Coverage of facial hair at full density: ``stubble``, ``moustache``, ``full`` or ``chin``."""
    moustache = gaussian(s, y, 0.9, -2.35, 1.1, 0.38)
    jaw = soft_step(-4.6 - 0.12 * s**2 + 1.4 * np.exp(-((np.abs(s) - 5) ** 2)) - y, 0.35)
    jaw *= 1 - 0.75 * gaussian(s, y, 0.0, -4.8, 0.9, 0.5)
    if kind == "chin":
        jaw *= np.exp(-((s / 2.6) ** 4))
    grain = 0.75 + 0.25 * np.clip(_smooth_noise(rng, 0.15), -1, 1)
    cover = np.clip(moustache * 0.9, 0, 1) if kind == "moustache" else np.clip(np.maximum(moustache, jaw), 0, 1)
    return cover * grain


def _beard(s: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Coverage of facial hair: none for most, stubble, moustache or full beard for some."""
    kind = rng.choice(4, p=(0.62, 0.20, 0.09, 0.09))
    cover = facial_hair(s, y, ("none", "stubble", "moustache", "full")[kind], rng)
    return cover * (0.0, rng.uniform(0.12, 0.35), rng.uniform(0.5, 0.85), rng.uniform(0.5, 0.85))[kind]


def _albedo(
    s: np.ndarray, y: np.ndarray, rng: np.random.Generator, tone: str, hair: np.ndarray, long_hair: bool
) -> np.ndarray:
    """Reflectance of the whole chart."""
    base = np.array(SKIN_TONES[tone], np.float32) / 255 * rng.uniform(0.93, 1.05) + rng.normal(0, 0.012, 3)
    skin = np.broadcast_to(base.astype(np.float32), (*s.shape, 3)).copy()
    texture = 0.018 * _smooth_noise(rng, 2.5) + 0.014 * _smooth_noise(rng, 0.7) + 0.014 * _smooth_noise(rng, 0.2)
    skin *= (1 + texture)[..., None]
    blush = rng.uniform(0.02, 0.12) * (gaussian(s, y, 4.0, -0.2, 1.5, 1.3) + 0.7 * gaussian(s, y, 0.0, -0.8, 0.8, 0.8))
    skin *= 1 - blush[..., None] * np.array((0.0, 0.55, 0.45), np.float32)
    skin *= 1 - (rng.uniform(0.04, 0.20) * gaussian(s, y, 3.0, 2.2, 1.3, 0.55))[..., None] * np.array(
        (0.8, 1.0, 0.9), np.float32
    )
    # Lips: thickness profiles above and below the mouth line.
    above, profile = y - mouth_line(s), mouth_profile(s * 0.97)
    upper = rng.uniform(0.45, 0.80) * profile**0.9 * (1 - 0.22 * np.exp(-((s / 0.35) ** 2)))
    lower = rng.uniform(0.60, 1.00) * profile
    cover = soft_step(np.where(above > 0, upper - above, lower + above), 0.06) * (np.abs(s) < MOUTH_HALF_WIDTH)
    lip_colour = base * np.array((0.88, 0.60, 0.60)) * rng.uniform(0.85, 1.05) + np.array((0.05, 0.0, 0.01))
    strength = rng.uniform(0.55, 0.95)
    skin += (cover * strength)[..., None] * (lip_colour.astype(np.float32) - skin)
    # The edges of the slits: lashes, and the dark line between the lips.
    near_mouth = np.exp(-((above / 0.07) ** 2)) * (mouth_profile(s) > 0.02)
    skin *= 1 - 0.55 * near_mouth[..., None]
    above_eye = y - eye_line(s)
    on_lid = np.clip(1.15 - ((np.abs(s) - EYE_S) / EYE_HALF_WIDTH) ** 2, 0, 0.3) / 0.3
    lash = on_lid * (
        np.exp(-(((above_eye - 0.06) / 0.10) ** 2)) * rng.uniform(0.6, 0.95)
        + 0.35 * np.exp(-(((above_eye + 0.06) / 0.07) ** 2))
    )
    skin *= 1 - np.clip(lash, 0, 0.92)[..., None]
    fold = np.exp(-(((above_eye - rng.uniform(0.42, 0.6)) / 0.09) ** 2)) * on_lid * rng.uniform(0.1, 0.4)
    skin *= 1 - fold[..., None]
    skin *= 1 - 0.45 * np.clip(gaussian(s, y, 0.62, -1.62, 0.26, 0.16), 0, 1)[..., None]  # nostrils
    brow_colour = hair * rng.uniform(0.6, 1.0)
    skin += _brows(rng)[..., None] * (brow_colour - skin) * rng.uniform(0.65, 0.95)
    skin += _beard(s, y, rng)[..., None] * (hair * 0.8 - skin)
    hairline = rng.uniform(8.2, 9.4) - 0.055 * s**2 + 0.25 * np.sin(s * rng.uniform(0.6, 1.4) + rng.uniform(0, 6))
    temple = rng.uniform(6.6, 7.6)
    scalp = soft_step(y - hairline, 0.25)
    sides = soft_step(np.abs(s) - temple - (0 if long_hair else 0.5), 0.25) * (y > (-9 if long_hair else 1.5))
    bald = rng.random() < 0.08
    strands = 1 + 0.28 * cv2.GaussianBlur(_smooth_noise(rng, 0.12), (0, 0), sigmaX=0.8, sigmaY=6)
    cover = np.clip(np.maximum(scalp, sides), 0, 1) * (0.12 if bald else 1.0)
    skin += cover[..., None] * (hair * strands[..., None] - skin)
    return np.clip(skin, 0.01, 1).astype(np.float32)


def make_identity(subject: str, rng: np.random.Generator, *, skin_tone: str | None = None) -> Identity:
    """Draw one person from a generator; the same generator state gives the same person. A given tone takes the drawn one's place."""
    s, y = chart_grid()
    drawn = list(SKIN_TONES)[rng.integers(len(SKIN_TONES))]
    tone = skin_tone or drawn
    dark = list(SKIN_TONES).index(tone) >= 3
    hair = np.array(_HAIR_COLOURS[rng.integers(2 if dark else len(_HAIR_COLOURS))], np.float32) / 255
    long_hair = bool(rng.random() < 0.4)
    half_width, depth = _profile(y[:, 0], rng)
    relief = _relief(s, y, rng)
    cavity = cv2.GaussianBlur(relief, (0, 0), 9) - relief
    resting = np.zeros(23, np.float32)
    # A resting brow, lip line or lid is a person's own: small constant offsets, never in the truth.
    for index in rng.choice(23, 4, replace=False):
        resting[index] = rng.uniform(0.0, 0.16)
    return Identity(
        subject=subject,
        skin_tone=tone,
        half_width=half_width,
        depth=depth,
        albedo=_albedo(s, y, rng, tone, hair, long_hair),
        relief=relief,
        occlusion=np.clip(1 - 0.55 * np.clip(cavity, 0, 0.8), 0.4, 1).astype(np.float32),
        hair_colour=hair,
        iris_colour=np.array(_IRIS_COLOURS[rng.integers(2 if dark else len(_IRIS_COLOURS))], np.float32) / 255,
        has_long_hair=long_hair,
        crease_depth=float(rng.uniform(0.5, 1.3)),
        resting=resting,
        strength=rng.uniform(0.8, 1.2, 23).astype(np.float32),
        eye_opening=float(rng.uniform(0.80, 1.15)),
        gloss=float(rng.uniform(0.02, 0.14)),
        glasses=float(rng.random() < 0.10),
    )
