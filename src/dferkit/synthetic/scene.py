"""Everything in a clip besides the face itself: pose, camera, light, nuisances, and how points are seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HEIGHT_IN_CM = 25.5  # a frame shows this much at scale 1


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
