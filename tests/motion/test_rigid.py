"""A head that moves is held still, and what the expression moves stays."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dferkit.errors import ConfigError, DataError
from dferkit.motion import proportional_weights, residual_differences, steady_faces

SIZE, FRAMES = 96, 8


def picture(seed: int = 0) -> np.ndarray:
    """A textured picture, smooth enough to be followed."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.random((SIZE, SIZE, 3)).astype(np.float32), (0, 0), 2.5)
    return np.clip((noise - noise.min()) / np.ptp(noise) * 200 + 25, 0, 255)


def moved(image: np.ndarray, shift: tuple[float, float], degrees: float = 0.0, scale: float = 1.0) -> np.ndarray:
    matrix = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), degrees, scale)
    matrix[:, 2] += shift
    return cv2.warpAffine(image, matrix, (SIZE, SIZE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def clip(frames: list[np.ndarray]) -> np.ndarray:
    return np.clip(np.rint(np.stack(frames)), 0, 255).astype(np.uint8)


def change(images: np.ndarray) -> np.ndarray:
    """Mean absolute difference from the middle frame, per frame, away from the border."""
    inner = images[:, 12:-12, 12:-12].astype(np.float32)
    return np.abs(inner - inner[len(inner) // 2]).mean((1, 2, 3))


def test_equal_frames_stay_as_they_are():
    images = clip([picture()] * FRAMES)
    assert np.array_equal(steady_faces(images), images)
    assert (residual_differences(images, grid=(8, 8), num_steps=4) < 1e-3).all()


def test_shift_roll_and_scale_are_taken_out():
    base = picture()
    steps = np.linspace(-1, 1, FRAMES)
    images = clip([moved(base, (3 * s, -2 * s), 3 * s, 1 + 0.03 * s) for s in steps])
    before, after = change(images), change(steady_faces(images))
    assert after[[0, -1]].max() < 0.35 * before[[0, -1]].min()


def test_light_is_taken_out():
    images = clip([picture() * gain for gain in np.linspace(0.75, 1.15, FRAMES)])
    assert change(steady_faces(images)).max() < 0.2 * change(images).max()


def local(amount: float) -> np.ndarray:
    """The picture with a round part near the mouth shifted."""
    base = picture()
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    bump = amount * np.exp(-((x - 48) ** 2 + (y - 70) ** 2) / (2 * 7**2))
    return cv2.remap(base.astype(np.float32), x, (y + bump).astype(np.float32), cv2.INTER_CUBIC)


def test_what_moves_alone_stays_and_stands_out():
    wave = 3 * np.sin(np.linspace(0, 2 * np.pi, FRAMES))
    steps = np.linspace(-1, 1, FRAMES)
    images = clip([moved(local(a), (2.5 * s, 1.5 * s)) for a, s in zip(wave, steps, strict=True)])
    steady = steady_faces(images)
    residual = residual_differences(steady, grid=(8, 8), num_steps=4).mean(0).reshape(8, 8)
    # The bump lies at column 4 of 8 and rows 5 to 6.
    row, column = np.unravel_index(residual.argmax(), residual.shape)
    assert row in (4, 5, 6)
    assert column in (3, 4)
    near = residual[4:7, 3:5].mean()
    far = residual[1:3, 1:7].mean()
    assert near > 2.5 * far
    raw = np.abs(np.diff(images.astype(np.float32).mean(-1), axis=0)).mean(0)
    cells = cv2.resize(raw, (8, 8), interpolation=cv2.INTER_AREA)
    assert cells[4:7, 3:5].mean() / cells[1:3, 1:7].mean() < near / far


def test_wrong_inputs_are_one_sentence():
    with pytest.raises(DataError, match="at least 32 pixels"):
        steady_faces(np.zeros((4, 16, 16, 3), np.uint8))
    with pytest.raises(ConfigError, match="divisor"):
        residual_differences(np.zeros((5, 64, 64, 3), np.uint8), grid=(8, 8), num_steps=2)


@pytest.mark.usefixtures("unchecked_shapes")
def test_proportional_weights_by_hand():
    import torch

    motion = torch.tensor([[[1.0, 3.0], [0.0, 0.0]]])
    assert proportional_weights(motion).tolist() == [[[1.0, 3.0], [0.0, 0.0]]]
    assert proportional_weights(motion, mode="spatial").tolist() == [[[0.5, 1.5], [1.0, 1.0]]]
    assert proportional_weights(motion, mode="temporal").tolist() == [[[2.0, 2.0], [0.0, 0.0]]]
    assert proportional_weights(torch.zeros(1, 2, 2)).tolist() == [[[1.0, 1.0], [1.0, 1.0]]]
    with pytest.raises(ConfigError):
        proportional_weights(motion, mode="sideways")
    with pytest.raises(DataError):
        proportional_weights(-motion)
