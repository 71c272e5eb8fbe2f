"""Removal of head movement, camera movement and changes of light, fitted per frame on the face crops.

A turning head and a shaking camera move the whole face by one smooth field; an expression moves parts of it. The field
is fitted robustly, so that the parts with a movement of their own have little influence on it, and is removed.
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from dferkit.errors import ConfigError, DataError
from dferkit.motion.weights import mean_of_neighbours

_SMALLEST_SIDE = 32  # Optical flow over a pyramid needs this many pixels.
_FARTHEST = (
    0.25  # A fitted field that moves the picture by more than this share of its side is a failure, not a movement.
)
_STRIDE = 4  # Every fourth pixel and row is enough for a field with four numbers.
_ITERATIONS = 6
_NOISE_LEVELS = 8.0  # Grey levels added to both sides of a light ratio, so that black stays black.


def steady_faces(images: UInt8[np.ndarray, "frames size size 3"]) -> UInt8[np.ndarray, "frames size size 3"]:
    """The clip with head and camera at rest and even light: each frame is warped onto the middle one.

    Per frame: dense optical flow (DIS) from the middle frame on locally normalised grey, a similarity (shift, scale, roll)
    fitted to it on the face by iteratively reweighted least squares with Cauchy weights, the frame warped back by it, and
    its slowly varying brightness and colour set to the middle frame's. Encode the result and take differences of these
    tokens: motion weighting at feature level without the rigid part. The result is for measuring motion only; expressions
    should be read from the frames themselves.

    A similarity leaves the parallax of a turning head; richer fields (affine, homography, depth of an ellipsoid) removed
    expression too (measured; ``docs/explanation/motion.md``). Equal frames give equal frames; the middle frame stays
    as it is. Deterministic.

    Args:
        images: Face crops, RGB, 0 to 255, at least 32 pixels wide; the face fills the middle (``faces.CROP_MARGIN``).

    Raises:
        DataError: The crops are smaller than 32 pixels.
    """
    size = images.shape[1]
    if len(images) == 0 or size < _SMALLEST_SIDE:
        raise DataError(f"{len(images)} crops of {size} pixels; give at least one, of at least {_SMALLEST_SIDE} pixels")
    reference = images[len(images) // 2]
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow.setFinestScale(0)
    flow.setVariationalRefinementIterations(8)
    fixed = _normalised(reference)
    x, y = _coordinates(size)
    coarse = (slice(None, None, _STRIDE),) * 2
    trust = (_face(x, y) * _texture(fixed))[coarse]
    fields = _similarity(x, y)
    columns, rows = np.meshgrid(np.arange(size, dtype=np.float32), np.arange(size, dtype=np.float32))
    light = _slow(reference)
    steady = []
    for image in images:
        if np.array_equal(image, reference):
            steady.append(image)
            continue
        moved = flow.calc(fixed, _normalised(image), None)  # type: ignore[call-overload]
        motion = np.tensordot(_fit_field(fields, moved, trust), fields, 1).astype(np.float32)
        if np.abs(motion).max() > _FARTHEST * size:
            motion = np.zeros_like(motion)
        warped = cv2.remap(
            image, columns + motion[0], rows + motion[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        relit = warped * ((light + _NOISE_LEVELS) / (_slow(warped) + _NOISE_LEVELS))
        steady.append(np.clip(np.rint(relit), 0, 255).astype(np.uint8))
    return np.stack(steady)


def residual_differences(
    steady: UInt8[np.ndarray, "frames size size 3"], *, grid: tuple[int, int], num_steps: int
) -> Float[np.ndarray, "steps patches"]:
    """Grey levels by which each patch changes beyond one smooth field of motion and light, ≥ 0.

    Per step in time the change of grey is fitted as −∇I · u + gain and offset that vary linearly over the face, where u is a
    field of second order with ten numbers; the fit is robust, and the result is its residual. Each frame takes the mean of
    the steps to its neighbours, each token step the mean of its frames. The linear form holds for small motion only: give
    the frames of ``steady_faces``.

    Args:
        grid: Rows and columns of the token grid. num_steps: Token steps; divides the number of frames.

    Raises:
        ConfigError: The number of frames is no multiple of ``num_steps``.
    """
    if num_steps < 1 or len(steady) % num_steps:
        raise ConfigError(f"{len(steady)} frames cannot be divided into {num_steps} token steps; give a divisor")
    x, y = _coordinates(steady.shape[1])
    fields = _second_order(x, y)
    trust = _face(x, y)
    grey = [
        cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1.0) for image in steady
    ]
    steps = [_residual(a, b, fields, trust, x, y) for a, b in pairwise(grey)]
    pooled = np.array(
        [cv2.resize(step, (grid[1], grid[0]), interpolation=cv2.INTER_AREA).ravel() for step in steps], np.float32
    ).reshape(-1, grid[0] * grid[1])
    of_frames = mean_of_neighbours(torch.from_numpy(pooled), dim=0).numpy()
    return of_frames.reshape(num_steps, -1, pooled.shape[1]).mean(1)


def _residual(
    before: np.ndarray, after: np.ndarray, fields: np.ndarray, trust: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """|change of grey| that the fields and the light do not explain, (size, size)."""
    middle = (before + after) / 2
    right, down = _gradient(middle)
    causes = [field[0] * right + field[1] * down for field in fields]
    causes += [middle, x * middle, y * middle, np.ones_like(middle), x, y]
    stacked = np.stack(causes)
    coarse = (slice(None), slice(None, None, _STRIDE), slice(None, None, _STRIDE))
    change = after - before
    seen = trust[coarse[1:]].ravel()
    fitted = _fit_robustly(stacked[coarse].reshape(len(causes), -1).T, change[coarse[1:]].reshape(-1, 1), seen, 0.3)
    return np.abs(change - np.tensordot(fitted, stacked, 1)).astype(np.float32)


def _fit_field(fields: np.ndarray, moved: np.ndarray, trust: np.ndarray) -> np.ndarray:
    """Numbers of the fields that explain the flow, (fields,); ``moved`` is (size, size, 2) in pixels."""
    part = fields[:, :, ::_STRIDE, ::_STRIDE].reshape(len(fields), 2, -1)
    # One row per pixel and direction; both directions of a pixel share its weight.
    matrix = part.transpose(2, 1, 0).reshape(-1, len(fields))
    return _fit_robustly(matrix, moved[::_STRIDE, ::_STRIDE].reshape(-1, 2), trust.ravel(), 0.02)


def _fit_robustly(matrix: np.ndarray, wanted: np.ndarray, trust: np.ndarray, smallest_scale: float) -> np.ndarray:
    """Weighted least squares, reweighted by Cauchy's function of each sample's residual.

    Args:
        matrix: (samples · directions, numbers). wanted: (samples, directions). trust: (samples,) ≥ 0, fixed weight.
        smallest_scale: Residuals far below this are rounding and count in full.
    """
    directions = wanted.shape[1]
    matrix, target = matrix.astype(np.float64), wanted.astype(np.float64).ravel()
    counted = trust > 0.5 * trust.max()
    weight = trust
    for _ in range(_ITERATIONS):
        weighted = matrix * np.repeat(weight, directions)[:, None]
        normal = weighted.T @ matrix
        # In a flat picture no motion is visible: the ridge makes its numbers 0.
        ridge = 1e-6 * np.diag(normal) + 1e-9
        fitted = np.linalg.solve(normal + np.diag(ridge), weighted.T @ target)
        size = np.linalg.norm((target - matrix @ fitted).reshape(-1, directions), axis=1)
        scale = max(1.5 * float(np.median(size[counted])), smallest_scale) if counted.any() else smallest_scale
        weight = trust / (1 + (size / scale) ** 2)
    return fitted


def _coordinates(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of every pixel, -1 to 1 from edge to edge, (size, size) each."""
    axis = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    x, y = np.meshgrid(axis, axis)
    return x, y


def _face(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """1 on the ellipse that the face fills in a standard crop, 0 outside: the background moves on its own."""
    return ((x / 0.8) ** 2 + (y / 0.95) ** 2 < 1).astype(np.float32)


def _similarity(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Fields of shift, scale and roll, (4, 2, size, size)."""
    one, none = np.ones_like(x), np.zeros_like(x)
    return np.stack([np.stack(field) for field in ((one, none), (none, one), (x, y), (-y, x))])


def _second_order(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Fields of a moving curved surface: affine, the two of a homography, and the two a bulge adds, (10, 2, size, size)."""
    none = np.zeros_like(x)
    more = [(x, -y), (y, x), (x * x, x * y), (x * y, y * y), (y * y, none), (none, x * x)]
    return np.concatenate([_similarity(x, y), np.stack([np.stack(field) for field in more])])


def _gradient(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grey levels per pixel to the right and down."""
    return cv2.Sobel(grey, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(grey, cv2.CV_32F, 0, 1) / 8


def _texture(grey: np.ndarray) -> np.ndarray:
    """0 (flat: flow is a guess) to 1 (textured: flow is measured)."""
    right, down = _gradient(grey.astype(np.float32))
    energy = cv2.GaussianBlur(right**2 + down**2, (0, 0), 2)
    return energy / (energy + 50)


def _normalised(image: np.ndarray) -> np.ndarray:
    """Grey with equal mean and contrast in every neighbourhood, so that light is no motion; uint8."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    sigma = 0.08 * len(grey)
    centred = grey - cv2.GaussianBlur(grey, (0, 0), sigma)
    contrast = np.sqrt(cv2.GaussianBlur(centred**2, (0, 0), sigma) + 25)
    return np.clip(128 + 45 * centred / contrast, 0, 255).astype(np.uint8)


def _slow(image: np.ndarray) -> np.ndarray:
    """Brightness and colour that vary over the width of a cheek, (size, size, 3) float32."""
    size = len(image)
    small = cv2.resize(image.astype(np.float32), (28, 28), interpolation=cv2.INTER_AREA)
    return cv2.resize(cv2.GaussianBlur(small, (0, 0), 3.5), (size, size), interpolation=cv2.INTER_LINEAR)
