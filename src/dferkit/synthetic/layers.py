"""What is drawn around, in and before the skin of a face: background, hair, shoulders, eyes, mouth, glasses, an occluder."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from dferkit.synthetic.anatomy import EYE_HALF_WIDTH, EYE_S, EYE_Y, row_lookup
from dferkit.synthetic.identity import Identity
from dferkit.synthetic.scene import Scene, rotation, screen_scale

_FRAME_COLOUR = (0.08, 0.07, 0.07)


def _view(
    scene: Scene, frame: int, size: int
) -> tuple[Callable[[float, float, float], tuple[float, float]], float, float]:
    """Projection of head points (cm) to pixels, pixels per centimetre, and the head's roll in degrees."""
    scale, turn = screen_scale(size) * scene.camera[frame, 2], rotation(scene.pose[frame])

    def project(x: float, y: float, z: float) -> tuple[float, float]:
        right, up, _ = turn @ np.array((x, y, z), np.float32)
        return size / 2 + (right + scene.camera[frame, 0]) * scale, size / 2 - (
            up + scene.camera[frame, 1] - 0.6
        ) * scale

    return project, scale, -np.rad2deg(float(scene.pose[frame, 2]))


def draw_background(size: int, seed: int) -> np.ndarray:
    """Soft random backdrop, 0 to 1."""
    rng = np.random.default_rng([seed, 0xBAC])
    grey = rng.uniform(0.1, 0.85)
    base = (grey + rng.uniform(-0.12, 0.12, 3)).astype(np.float32)
    picture = np.broadcast_to(base, (size, size, 3)).copy()
    for cells in (3, 6, 14):
        noise = (
            rng.standard_normal((cells, cells, 1)).astype(np.float32) * 0.08
            + rng.standard_normal((cells, cells, 3)).astype(np.float32) * 0.025
        )
        picture += cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
    for _ in range(rng.integers(0, 4)):
        corner = rng.integers(-size // 4, size, 2)
        far = corner + rng.integers(size // 8, size // 2, 2)
        cv2.rectangle(
            picture, corner.tolist(), far.tolist(), (rng.uniform(0.1, 0.85) + rng.uniform(-0.1, 0.1, 3)).tolist(), -1
        )
    return np.clip(cv2.GaussianBlur(picture, (0, 0), size / 60), 0, 1)


def _ellipse(
    canvas: np.ndarray,
    centre: tuple[float, float],
    axes: tuple[float, float],
    angle: float,
    colour: Sequence[float] | np.ndarray,
    thickness: int = -1,
) -> None:
    """Outline of an ellipse, filled where no thickness is given; lengths in pixels."""
    cv2.ellipse(
        canvas,
        (round(centre[0] * 16), round(centre[1] * 16)),
        (max(round(axes[0] * 16), 1), max(round(axes[1] * 16), 1)),
        angle,
        0,
        360,
        [float(c) for c in colour],
        thickness,
        cv2.LINE_AA,
        4,
    )


def draw_behind(canvas: np.ndarray, identity: Identity, scene: Scene, frame: int) -> None:
    """Neck, shoulders, ears and the hair's outline, drawn as flat layers that follow the head."""
    project, scale, degrees = _view(scene, frame, len(canvas))
    skin = identity.albedo[95:125, 60:160].reshape(-1, 3).mean(0)
    power = 0.75 * float(scene.exposure[frame])

    width = float(identity.half_width.max())
    hair = identity.hair_colour * power
    if identity.has_long_hair:
        _ellipse(canvas, project(0, -1.0, -2.0), ((width + 1.9) * scale, 12.6 * scale), degrees, hair * 0.85)
    neck_x, neck_y = project(0, -9.5, -3.0)
    cloth = np.random.default_rng([scene.background, 7]).uniform(0.05, 0.8, 3)
    _ellipse(canvas, (neck_x, neck_y + 9.0 * scale), (15.0 * scale, 6.8 * scale), 0, cloth * power)
    _ellipse(canvas, (neck_x, neck_y + 1.5 * scale), (4.6 * scale, 6.0 * scale), 0, skin * power * 0.72)
    for side in (-1, 1):
        ear = project(side * (width + 0.15), 1.2, -0.8)
        if not identity.has_long_hair:
            _ellipse(canvas, ear, (1.1 * scale, 2.3 * scale), degrees + side * 8, skin * power * 0.85)
    _ellipse(canvas, project(0, 4.4, -1.5), ((width + 0.75) * scale, 8.6 * scale), degrees, hair * 0.8)


def draw_eyes(
    image: np.ndarray,
    mask: np.ndarray,
    s: np.ndarray,
    y: np.ndarray,
    *,
    gaze: np.ndarray,
    iris_colour: np.ndarray,
    light: float,
) -> None:
    """Eyeball, iris, pupil and highlight where the lids are open."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return
    side = np.sign(s[rows, columns])
    local_s = s[rows, columns] - side * EYE_S - gaze[0]
    local_y = y[rows, columns] - (EYE_Y + 0.12) - gaze[1]
    radius = np.hypot(local_s, local_y)
    across = (np.abs(s[rows, columns]) - EYE_S) / EYE_HALF_WIDTH
    white = np.array((0.86, 0.83, 0.82), np.float32) * (1 - 0.35 * across**2)[:, None]
    iris = iris_colour * (0.75 + 0.7 * np.clip(radius / 0.6, 0, 1) * (radius < 0.5))[:, None]
    edge = np.clip((0.62 - radius) / 0.10, 0, 1)[:, None]
    colour = white * (1 - edge) + iris * edge
    colour *= 1 - np.clip((0.27 - radius) / 0.07, 0, 1)[:, None] * 0.93
    # The upper lid shades the ball.
    colour *= np.clip(1.0 - 0.45 * np.clip((y[rows, columns] - EYE_Y - 0.05) / 0.45, 0, 1), 0.4, 1)[:, None]
    colour = colour * light
    glint = np.hypot(local_s + 0.17, local_y - 0.20) < 0.12
    colour[glint] = np.minimum(colour[glint] + 0.75, 1.0)
    image[rows, columns] = colour


def draw_mouth(
    image: np.ndarray, mask: np.ndarray, s: np.ndarray, y: np.ndarray, opening: np.ndarray, light: float
) -> None:
    """Dark cavity, upper and lower teeth, tongue where the lips are open."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return
    ps, py = s[rows, columns], y[rows, columns]
    colour = np.tile(np.array((0.20, 0.06, 0.06), np.float32), (len(ps), 1))
    tongue = np.clip((-3.95 - 0.75 * opening[3] - py) / 0.25, 0, 1) * np.clip((1.7 - np.abs(ps)) / 0.4, 0, 1)
    colour += tongue[:, None] * (np.array((0.55, 0.22, 0.22)) - colour) * 0.8
    gaps = 1 - 0.22 * (np.abs(((np.abs(ps) / 0.62) % 1.0) - 0.5) > 0.44)
    white = np.array((0.84, 0.81, 0.74), np.float32)
    upper = np.clip((py + 4.02) / 0.08, 0, 1) * np.clip((2.1 - np.abs(ps)) / 0.3, 0, 1)
    lower = (
        np.clip((-3.80 - 0.92 * opening[3] + 0.55 - py) / 0.08, 0, 1) * np.clip((1.6 - np.abs(ps)) / 0.3, 0, 1) * 0.8
    )
    lower *= py < -3.5 - 0.92 * opening[3] + 0.30
    # Hardly parted lips show a dark line, not teeth.
    visible = np.clip((opening[2] + opening[3] - 0.1) / 0.3, 0, 1)
    upper, lower = upper * visible, lower * visible
    colour += upper[:, None] * (white * gaps[:, None] - colour)
    colour += (lower * (1 - upper))[:, None] * (white * 0.85 * gaps[:, None] - colour)
    shadow = np.clip(1.05 - 0.22 * np.abs(ps), 0.4, 1)
    image[rows, columns] = colour * shadow[:, None] * light


def draw_glasses(image: np.ndarray, identity: Identity, scene: Scene, frame: int) -> None:
    """A thin frame around both eyes for those who wear one."""
    if not identity.glasses:
        return
    project, scale, degrees = _view(scene, frame, len(image))
    depth = float(row_lookup(identity.depth, np.array([EYE_Y]))[0]) + 0.4
    points = [project(x, EYE_Y - 0.1, depth - 0.05 * abs(x)) for x in (-EYE_S, EYE_S, -1.3, 1.3)]
    width = max(round(0.22 * identity.glasses * scale), 1)
    axes = (1.95 * scale * abs(np.cos(scene.pose[frame, 0])), 1.35 * scale)
    for centre in points[:2]:
        _ellipse(image, centre, axes, degrees, _FRAME_COLOUR, width)
    bridge = [(round(x), round(y)) for x, y in points[2:]]
    cv2.line(image, bridge[0], bridge[1], _FRAME_COLOUR, width, cv2.LINE_AA)


def draw_occluder(canvas: np.ndarray, scene: Scene, frame: int) -> None:
    """The thing in front of the face, where there is one."""
    thing = scene.occluder
    if thing is None:
        return
    size, scale, when = len(canvas), screen_scale(len(canvas)), frame / max(len(scene.pose) - 1, 1)
    right, up = (c + when * d for c, d in zip(thing.centre, thing.drift, strict=True))
    colour = np.array(thing.colour) * float(scene.exposure[frame])
    axes = (thing.extent[0] * scale, thing.extent[1] * scale)
    _ellipse(canvas, (size / 2 + right * scale, size / 2 - up * scale), axes, thing.angle, colour)
