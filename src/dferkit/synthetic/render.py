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
    EYE_S,
    FIELD_STEP,
    PIXELS_PER_CM,
    REFERENCE_WIDTH,
    S_MIN,
    Y_MAX,
    row_lookup,
)
from dferkit.synthetic.identity import Identity
from dferkit.synthetic.layers import (
    draw_background,
    draw_behind,
    draw_eyes,
    draw_glasses,
    draw_mouth,
    draw_occluder,
)
from dferkit.synthetic.scene import Scene, rotation, screen_scale


@dataclass(frozen=True, slots=True)
class _Head:
    """Per-identity arrays that the frames share."""

    normal: np.ndarray  # (height, width, 3), unit, head frame
    tangent: np.ndarray  # (height, width, 3), direction of growing s
    relief: np.ndarray  # (height, width)


def _head(identity: Identity) -> _Head:
    s, y = anatomy.chart_grid()
    t = s / REFERENCE_WIDTH
    width, depth = identity.half_width[:, None], identity.depth[:, None]
    outward = np.stack([np.sin(t) / width, np.zeros_like(t), np.cos(t) / depth], -1)
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    position = np.stack([width * np.sin(t), y, depth * np.cos(t)], -1) + identity.relief[..., None] * outward
    along_s, along_y = np.gradient(position, axis=1), -np.gradient(position, axis=0)
    normal = np.cross(along_s, along_y)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)
    tangent = along_s / np.maximum(np.linalg.norm(along_s, axis=-1, keepdims=True), 1e-6)
    return _Head(normal.astype(np.float32), tangent.astype(np.float32), identity.relief.astype(np.float32))


def _sample(image: np.ndarray, s: np.ndarray, y: np.ndarray, step: int = 1) -> np.ndarray:
    """Bilinear look-up of a chart image (or a coarse field, ``step`` chart pixels apart)."""
    map_x = ((s - S_MIN) * PIXELS_PER_CM - 0.5) / step
    map_y = ((Y_MAX - y) * PIXELS_PER_CM - 0.5) / step
    return cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


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
        width, depth = row_lookup(identity.half_width, rest), row_lookup(identity.depth, rest)
        a, b = (width + relief) * cos_yaw, (depth + relief) * sin_yaw
        reach = np.sqrt(a * a + b * b)
        ratio = np.clip(u / np.maximum(reach, 1e-3), -1, 1)
        t = np.arcsin(ratio) - np.arctan2(b, a)
        near = (depth + relief) * np.cos(t) * cos_yaw - (width + relief) * np.sin(t) * sin_yaw
        z = near
        if step < 3:
            relief = _sample(head.relief, t * REFERENCE_WIDTH, y)
    coverage = np.minimum(reach - np.abs(u), np.where(y > 0, 11.3 - y, y + 9.25 + drop))
    return (t * REFERENCE_WIDTH).astype(np.float32), y.astype(np.float32), coverage.astype(np.float32)


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
    backdrop = draw_background(big, scene.background)
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
    eyes = interior & eye_half & (np.abs(np.abs(s) - EYE_S) < 1.95)
    draw_eyes(skin, eyes, s, y, gaze=scene.gaze[i], iris_colour=identity.iris_colour, light=light)
    draw_mouth(skin, interior & ~eye_half & (np.abs(s) < 3.8), s, y, opening, light)
    image = backdrop.copy()
    draw_behind(image, identity, scene, i)
    alpha = np.clip(coverage * screen_scale(big) + 0.5, 0, 1)[..., None]
    image += alpha * (skin * scene.exposure[i] - image)
    draw_glasses(image, identity, scene, i)
    draw_occluder(image, scene, i)
    return image


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
