"""Pictures of a procedural face: pose, slits, shading, background, camera.

Inverse warping: every screen pixel is traced to the smooth head (exact for yaw; pitch and relief by fixed-point steps), then through the
displacement of the action units back to the resting chart, where the shaded skin is looked up. Eyelids and lips are two flaps each; a pixel
that belongs to neither flap shows the eyeball or the inside of the mouth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from dferkit.synthetic import anatomy
from dferkit.synthetic.anatomy import (
    CHART_HEIGHT,
    CHART_WIDTH,
    EYE_HALF_WIDTH,
    EYE_S,
    EYE_Y,
    FIELD_STEP,
    PIXELS_PER_CM,
    S_MIN,
    Y_MAX,
)
from dferkit.synthetic.identity import Identity

HEIGHT_IN_CM = 25.5  # a frame shows this much at scale 1
_REFERENCE_WIDTH = 7.0  # cm of chart per radian around the head


@dataclass(frozen=True, kw_only=True, slots=True)
class Occluder:
    """A thing between camera and face: an ellipse, all lengths in cm on the screen, right and up.

    Attributes:
        drift: How far it moves through the clip. angle: Degrees. colour: RGB, 0 to 1.
    """

    centre: tuple[float, float]
    drift: tuple[float, float]
    extent: tuple[float, float]
    angle: float
    colour: tuple[float, float, float]


# Fields of a scene with one row per frame.
PER_FRAME = ("pose", "camera", "blink", "speech", "gaze", "light", "exposure")


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """Everything that moves or differs besides identity and action units.

    Attributes:
        pose: (frames, 3) yaw, pitch, roll in radians; yaw > 0 turns to the picture's right, pitch > 0 looks up.
        camera: (frames, 3) shift right and up in cm and zoom (1 is neutral).
        blink: (frames,) 1 is shut. speech: (frames, channels). gaze: (frames, 2) eye turn in cm right and up.
        light: (frames, 3) unit vector towards the light. exposure: (frames,) factor.
        light_colour, ambient: RGB factors and ambient share.
        background: Seed of the background picture.
        blur: Gaussian sigma in pixels; noise: standard deviation in levels; quality: JPEG quality.
        gamma: Exponent of the tone curve. resolution: Share of the picture's pixels per side that carry detail.
    """

    pose: np.ndarray
    camera: np.ndarray
    blink: np.ndarray
    speech: np.ndarray
    gaze: np.ndarray
    light: np.ndarray
    exposure: np.ndarray
    light_colour: np.ndarray
    ambient: float
    background: int
    blur: float
    noise: float
    quality: int
    gamma: float = 0.85
    resolution: float = 1.0
    is_grey: bool = False
    occluder: Occluder | None = None


@dataclass(frozen=True, slots=True)
class _Head:
    """Per-identity arrays that the frames share."""

    normal: np.ndarray  # (height, width, 3), unit, head frame
    tangent: np.ndarray  # (height, width, 3), direction of growing s
    relief: np.ndarray  # (height, width)


def _head(identity: Identity) -> _Head:
    s, y = anatomy.chart_grid()
    t = s / _REFERENCE_WIDTH
    width, depth = identity.half_width[:, None], identity.depth[:, None]
    outward = np.stack([np.sin(t) / width, np.zeros_like(t), np.cos(t) / depth], -1)
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    position = np.stack([width * np.sin(t), y, depth * np.cos(t)], -1) + identity.relief[..., None] * outward
    along_s, along_y = np.gradient(position, axis=1), -np.gradient(position, axis=0)
    normal = np.cross(along_s, along_y)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)
    tangent = along_s / np.maximum(np.linalg.norm(along_s, axis=-1, keepdims=True), 1e-6)
    return _Head(normal.astype(np.float32), tangent.astype(np.float32), identity.relief.astype(np.float32))


def _lookup(table: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Linear interpolation of a per-row table at chart heights ``y``."""
    position = np.clip((Y_MAX - y) * PIXELS_PER_CM - 0.5, 0, CHART_HEIGHT - 1.001)
    low = position.astype(np.int32)
    share = position - low.astype(np.float32)
    return table[low] * (1 - share) + table[low + 1] * share


def _sample(image: np.ndarray, s: np.ndarray, y: np.ndarray, step: int = 1) -> np.ndarray:
    """Bilinear look-up of a chart image (or a coarse field, ``step`` chart pixels apart)."""
    map_x = ((s - S_MIN) * PIXELS_PER_CM - 0.5) / step
    map_y = ((Y_MAX - y) * PIXELS_PER_CM - 0.5) / step
    return cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def rotation(pose: np.ndarray) -> np.ndarray:
    """Head-to-camera rotation of one (yaw, pitch, roll)."""
    yaw, pitch, roll = pose
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return (about_z @ about_x @ about_y).astype(np.float32)


def screen_scale(size: int) -> float:
    """Pixels per centimetre at zoom 1."""
    return size / HEIGHT_IN_CM


def _trace(
    identity: Identity, head: _Head, pose: np.ndarray, camera: np.ndarray, drop: float, grid: int
) -> tuple[np.ndarray, ...]:
    """Chart coordinates of the surface seen at each pixel of a ``grid`` × ``grid`` screen.

    ``drop`` is how far the jaw has sunk, in cm: the outline below the mouth is stretched by it.

    Returns:
        s, y (cm) and signed coverage (cm inside the silhouette, negative outside).
    """
    yaw, pitch, roll = (float(v) for v in pose)
    scale = screen_scale(grid) * float(camera[2])
    axis = (np.arange(grid, dtype=np.float32) + 0.5 - grid / 2) / scale
    right, up = axis[None, :] - float(camera[0]), -axis[:, None] - float(camera[1]) + 0.6
    u = math.cos(roll) * right + math.sin(roll) * up
    v = -math.sin(roll) * right + math.cos(roll) * up
    sin_yaw, cos_yaw = math.sin(yaw), math.cos(yaw)
    y, relief, z = v.copy(), np.zeros_like(u), np.zeros_like(u)
    for step in range(4):
        # Camera height v = y cos(pitch) + z sin(pitch): pitch up moves near points up.
        y = (v - z * math.sin(pitch)) / math.cos(pitch)
        rest = y + drop * np.clip((-4.0 - y) / 4.0, 0, 1)
        width, depth = _lookup(identity.half_width, rest), _lookup(identity.depth, rest)
        a, b = (width + relief) * cos_yaw, (depth + relief) * sin_yaw
        reach = np.sqrt(a * a + b * b)
        ratio = np.clip(u / np.maximum(reach, 1e-3), -1, 1)
        t = np.arcsin(ratio) - np.arctan2(b, a)
        near = (depth + relief) * np.cos(t) * cos_yaw - (width + relief) * np.sin(t) * sin_yaw
        z = near
        if step < 3:
            relief = _sample(head.relief, t * _REFERENCE_WIDTH, y)
    coverage = np.minimum(reach - np.abs(u), np.where(y > 0, 11.3 - y, y + 9.25 + drop))
    return (t * _REFERENCE_WIDTH).astype(np.float32), y.astype(np.float32), coverage.astype(np.float32)


def _displacements(weights: np.ndarray, opening: np.ndarray, shape: np.ndarray | None) -> dict[str, np.ndarray]:
    """Displacement fields of one frame on the coarse chart: ``common`` (r, c, 3), ``upper`` and ``lower`` (r, c, 2).

    Args:
        weights: (2, AUs) per side. opening: (4,) cm. shape: (2, r, c) cm, what this face differs from the average one.
    """
    parts = anatomy.fields()
    rows, columns = parts["lid_upper"].shape
    common = np.tensordot(weights, parts["common"], axes=2)
    if shape is not None:
        common[:2] += shape
    upper = common[:2] + np.tensordot(weights, parts["upper"], axes=2)
    lower = common[:2] + np.tensordot(weights, parts["lower"], axes=2)
    upper[1] += opening[0] * parts["lid_upper"] + opening[2] * parts["lip_upper"]
    lower[1] += opening[1] * parts["lid_lower"] + opening[3] * parts["lip_lower"]
    return {
        "upper": np.ascontiguousarray(upper.reshape(2, rows, columns).transpose(1, 2, 0)),
        "lower": np.ascontiguousarray(lower.reshape(2, rows, columns).transpose(1, 2, 0)),
        "height": np.ascontiguousarray(common[2]),
    }


def _undo(field: np.ndarray, s: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Resting position of displaced points: damped fixed-point iteration of q = p - D(q)."""
    qs, qy = s, y
    for damping in (1.0, 0.8, 0.8, 0.7, 0.7):
        moved = _sample(field, qs, qy, FIELD_STEP)
        qs = qs + damping * (s - moved[..., 0] - qs)
        qy = qy + damping * (y - moved[..., 1] - qy)
    return qs, qy


def _average_place(shape: np.ndarray | None, s: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where points of this face lie on the average one: eyeballs and teeth are drawn there."""
    if shape is None:
        return s, y
    moved = _sample(np.ascontiguousarray(shape.transpose(1, 2, 0)), s, y, FIELD_STEP)
    return s - moved[..., 0], y - moved[..., 1]


def _shade(
    identity: Identity, head: _Head, weights: np.ndarray, height: np.ndarray, scene: Scene, frame: int
) -> np.ndarray:
    """Lit skin on the chart, (height, width, 3) linear-ish 0 to 1."""
    maps, owners = anatomy.creases()
    depth = weights.mean(0)[owners] * identity.crease_depth
    crease = np.tensordot(depth, maps, axes=1)
    bump = cv2.resize(height, (CHART_WIDTH, CHART_HEIGHT), interpolation=cv2.INTER_LINEAR) - 0.10 * crease
    slope_s = cv2.Sobel(bump, cv2.CV_32F, 1, 0, ksize=3, scale=PIXELS_PER_CM / 8)
    slope_y = -cv2.Sobel(bump, cv2.CV_32F, 0, 1, ksize=3, scale=PIXELS_PER_CM / 8)
    light = rotation(scene.pose[frame]).T @ scene.light[frame]
    facing = head.normal @ light.astype(np.float32)
    facing = facing - slope_s * (head.tangent @ light.astype(np.float32)) - slope_y * light[1]
    wrapped = np.clip((facing + 0.25) / 1.25, 0, 1.3)
    sky = 0.75 + 0.25 * head.normal[..., 1]
    ambient = scene.ambient * sky * identity.occlusion
    gloss = identity.gloss * np.clip(facing, 0, 1) ** 14
    lit = np.empty((CHART_HEIGHT, CHART_WIDTH, 3), np.float32)
    darkening = 1 - 0.38 * np.clip(crease, 0, 1.2)
    # Light wraps a little further in red: blood under the skin.
    for channel, extra in enumerate((0.05, 0.01, 0.0)):
        power = (wrapped + extra * (1 - wrapped)) * (1 - scene.ambient) * scene.light_colour[channel] + ambient
        lit[..., channel] = identity.albedo[..., channel] * power * darkening + gloss
    return lit


def _background(size: int, seed: int) -> np.ndarray:
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
    canvas: np.ndarray, centre: tuple[float, float], axes: tuple[float, float], angle: float, colour: np.ndarray
) -> None:
    cv2.ellipse(
        canvas,
        (round(centre[0] * 16), round(centre[1] * 16)),
        (max(round(axes[0] * 16), 1), max(round(axes[1] * 16), 1)),
        angle,
        0,
        360,
        [float(c) for c in colour],
        -1,
        cv2.LINE_AA,
        4,
    )


def _behind(canvas: np.ndarray, identity: Identity, scene: Scene, frame: int) -> None:
    """Neck, shoulders, ears and the hair's outline, drawn as flat layers that follow the head."""
    size = len(canvas)
    scale = screen_scale(size) * scene.camera[frame, 2]
    turn = rotation(scene.pose[frame])
    degrees = -np.rad2deg(float(scene.pose[frame, 2]))
    skin = identity.albedo[95:125, 60:160].reshape(-1, 3).mean(0)
    power = 0.75 * float(scene.exposure[frame])

    def project(x: float, y: float, z: float) -> tuple[float, float]:
        right, up, _ = turn @ np.array((x, y, z), np.float32)
        return size / 2 + (right + scene.camera[frame, 0]) * scale, size / 2 - (
            up + scene.camera[frame, 1] - 0.6
        ) * scale

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


def _eyes(
    image: np.ndarray,
    mask: np.ndarray,
    s: np.ndarray,
    y: np.ndarray,
    scene: Scene,
    identity: Identity,
    frame: int,
    light: float,
) -> None:
    """Eyeball, iris, pupil and highlight where the lids are open."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return
    side = np.sign(s[rows, columns])
    local_s = s[rows, columns] - side * EYE_S - scene.gaze[frame, 0]
    local_y = y[rows, columns] - (EYE_Y + 0.12) - scene.gaze[frame, 1]
    radius = np.hypot(local_s, local_y)
    across = (np.abs(s[rows, columns]) - EYE_S) / EYE_HALF_WIDTH
    white = np.array((0.86, 0.83, 0.82), np.float32) * (1 - 0.35 * across**2)[:, None]
    iris = identity.iris_colour * (0.75 + 0.7 * np.clip(radius / 0.6, 0, 1) * (radius < 0.5))[:, None]
    edge = np.clip((0.62 - radius) / 0.10, 0, 1)[:, None]
    colour = white * (1 - edge) + iris * edge
    colour *= 1 - np.clip((0.27 - radius) / 0.07, 0, 1)[:, None] * 0.93
    # The upper lid shades the ball.
    colour *= np.clip(1.0 - 0.45 * np.clip((y[rows, columns] - EYE_Y - 0.05) / 0.45, 0, 1), 0.4, 1)[:, None]
    colour = colour * light
    glint = np.hypot(local_s + 0.17, local_y - 0.20) < 0.12
    colour[glint] = np.minimum(colour[glint] + 0.75, 1.0)
    image[rows, columns] = colour


def _mouth(
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


def _glasses(image: np.ndarray, identity: Identity, scene: Scene, frame: int) -> None:
    """A thin frame around both eyes for those who wear one."""
    if not identity.glasses:
        return
    size = len(image)
    scale = screen_scale(size) * scene.camera[frame, 2]
    turn = rotation(scene.pose[frame])
    depth = float(_lookup(identity.depth, np.array([EYE_Y]))[0]) + 0.4
    points = []
    for x in (-EYE_S, EYE_S, -1.3, 1.3):
        right, up, _ = turn @ np.array((x, EYE_Y - 0.1, depth - 0.05 * abs(x)), np.float32)
        points.append(
            (
                size / 2 + (right + scene.camera[frame, 0]) * scale,
                size / 2 - (up + scene.camera[frame, 1] - 0.6) * scale,
            )
        )
    degrees, width = -np.rad2deg(float(scene.pose[frame, 2])), max(round(0.22 * identity.glasses * scale), 1)
    axes = (max(round(1.95 * scale * abs(np.cos(scene.pose[frame, 0])) * 16), 1), round(1.35 * scale * 16))
    for centre in points[:2]:
        cv2.ellipse(
            image,
            (round(centre[0] * 16), round(centre[1] * 16)),
            axes,
            degrees,
            0,
            360,
            (0.08, 0.07, 0.07),
            width,
            cv2.LINE_AA,
            4,
        )
    bridge = [(round(x), round(y)) for x, y in points[2:]]
    cv2.line(image, bridge[0], bridge[1], (0.08, 0.07, 0.07), width, cv2.LINE_AA)


def side_weights(identity: Identity, au: np.ndarray, asymmetry: np.ndarray, speech: np.ndarray) -> np.ndarray:
    """Skin weights of each side of the face, (frames, 2, AUs).

    Args:
        au: (frames, AUs). asymmetry: (AUs,) share by which the two sides differ, -1 to 1. speech: (frames, channels).
    """
    skin = (au + identity.resting + anatomy.speech_as_aus(speech)) * identity.strength
    sides = np.stack([1 - np.maximum(asymmetry, 0), 1 + np.minimum(asymmetry, 0)])
    return (skin[:, None] * sides[None]).astype(np.float32)


def render_frames(
    identity: Identity,
    au: np.ndarray,
    asymmetry: np.ndarray,
    scene: Scene,
    *,
    size: int,
    supersampling: float = 1.5,
    noise_seed: int = 0,
) -> np.ndarray:
    """Render a clip.

    Args:
        au: (frames, AUs) intensity 0 to 1, in the order of ``facs.AU_NAMES``.
        asymmetry: (AUs,) left-right difference.
        size: Height and width in pixels.

    Returns:
        uint8 RGB (frames, size, size, 3).
    """
    head, big = _head(identity), round(size * supersampling / 2) * 2
    weights = side_weights(identity, au, asymmetry, scene.speech)
    resting = np.broadcast_to(identity.resting, au.shape)
    opening = anatomy.openings(au + 0.5 * resting, scene.blink, scene.speech)
    opening[:, 0] *= identity.eye_opening
    backdrop = _background(big, scene.background)
    rng = np.random.default_rng([noise_seed, 0x0153])
    frames = np.empty((len(au), size, size, 3), np.uint8)
    for i in range(len(au)):
        image = _render_one(identity, head, weights[i], opening[i], scene, i, backdrop)
        frames[i] = _camera(image, scene, i, size, rng)
    return frames


def _render_one(
    identity: Identity,
    head: _Head,
    weights: np.ndarray,
    opening: np.ndarray,
    scene: Scene,
    i: int,
    backdrop: np.ndarray,
) -> np.ndarray:
    big = len(backdrop)
    field = _displacements(weights, opening, identity.shape)
    drop = float(anatomy.jaw_drop(opening[None])[0])
    # Geometry is smooth: it is traced on a half-size grid and enlarged; the slits are decided at full size.
    s, y, coverage = _trace(identity, head, scene.pose[i], scene.camera[i], drop, big // 2)
    upper, lower = _undo(field["upper"], s, y), _undo(field["lower"], s, y)
    s, y, coverage, us, uy, ls, ly = (
        cv2.resize(a, (big, big), interpolation=cv2.INTER_LINEAR) for a in (s, y, coverage, *upper, *lower)
    )
    slit_upper = np.where(uy > 0, anatomy.eye_line(us), anatomy.mouth_line(us))
    slit_lower = np.where(ly > 0, anatomy.eye_line(ls), anatomy.mouth_line(ls))
    eye_half = y > 0
    is_upper = (uy >= slit_upper) & ((uy > 0) == eye_half)
    is_lower = (ly < slit_lower) & ((ly > 0) == eye_half)
    # Near the nose both flaps are the same skin.
    take_upper = is_upper | ((uy > 0) != eye_half)
    interior = ~take_upper & ~is_lower & (coverage > 0.3)
    qs, qy = np.where(take_upper, us, ls), np.where(take_upper, uy, ly)
    lit = _shade(identity, head, weights, field["height"], scene, i)
    skin = _sample(lit, qs, np.maximum(qy, -9.0))  # below the chin there is no skin to look up
    light = float(np.clip(0.55 + 0.45 * scene.light[i, 2], 0.3, 1.0))
    s, y = _average_place(identity.shape, s, y)
    _eyes(skin, interior & eye_half & (np.abs(np.abs(s) - EYE_S) < 1.95), s, y, scene, identity, i, light)
    _mouth(skin, interior & ~eye_half & (np.abs(s) < 3.8), s, y, opening, light)
    image = backdrop.copy()
    _behind(image, identity, scene, i)
    alpha = np.clip(coverage * screen_scale(big) + 0.5, 0, 1)[..., None]
    image += alpha * (skin * scene.exposure[i] - image)
    _glasses(image, identity, scene, i)
    _hide(image, scene, i)
    return image


def _hide(canvas: np.ndarray, scene: Scene, frame: int) -> None:
    """The thing before the face, where there is one."""
    thing = scene.occluder
    if thing is None:
        return
    size, scale, when = len(canvas), screen_scale(len(canvas)), frame / max(len(scene.pose) - 1, 1)
    right, up = (c + when * d for c, d in zip(thing.centre, thing.drift, strict=True))
    colour = np.array(thing.colour) * float(scene.exposure[frame])
    axes = (thing.extent[0] * scale, thing.extent[1] * scale)
    _ellipse(canvas, (size / 2 + right * scale, size / 2 - up * scale), axes, thing.angle, colour)


def _camera(image: np.ndarray, scene: Scene, i: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Resolution, blur, tone curve, noise and JPEG of the camera."""
    small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    if scene.resolution < 1:
        low = max(round(size * scene.resolution), 16)
        coarse = cv2.resize(small, (low, low), interpolation=cv2.INTER_AREA)
        small = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR)
    if scene.is_grey:
        small = np.repeat(small.mean(2, keepdims=True), 3, 2)
    if scene.blur > 0.05:
        small = cv2.GaussianBlur(small, (0, 0), scene.blur)
    levels = np.clip(small, 0, 1) ** scene.gamma * 255
    levels += rng.standard_normal(small.shape, dtype=np.float32) * scene.noise
    picture = np.clip(levels, 0, 255).astype(np.uint8)
    ok, data = cv2.imencode(".jpg", picture[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, int(scene.quality)))
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert ok
    assert picture is not None
    return picture[..., ::-1]
