"""Looks: what may differ between rendered people and recordings, each as one number from 0 to 1.

A number is a place in the look's range, so that whole stretches of every range can be held back: a model is tested on looks, and not only on people, that
it was never trained on.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

Settings = Literal["any", "seen", "held_back", "low", "high"]
SETTINGS: tuple[str, ...] = get_args(Settings)

PERSON_LOOKS = (
    "skin_tone", "skin_light", "skin_hue", "eye_spacing", "eye_height", "brow_height", "brow_tilt", "nose_length", "nose_width", "mouth_height",
    "mouth_width", "lip_fullness", "jaw_width", "chin_length", "asymmetry", "facial_hair", "lips_painted", "lids_painted", "spots", "glasses",
    "resting", "eye_opening", "wrinkles", "gloss",
)  # fmt: skip
SCENE_LOOKS = (
    "yaw", "pitch", "roll", "turn", "zoom", "shift", "light_side", "light_height", "light_colour", "ambient", "exposure", "contrast", "blur", "noise",
    "quality", "resolution", "occlusion", "talking", "loudness", "stutter", "grey",
)  # fmt: skip
LOOKS = PERSON_LOOKS + SCENE_LOOKS
_BAND = 0.15  # share of each range that is held back
_SHARE_HELD = 0.35  # of the looks of a clip with held-back settings


def held_band(look: str) -> tuple[float, float]:
    """The stretch of a look's range that is left out of training; its place differs from look to look."""
    start = (LOOKS.index(look) * 0.6180339887498949 + 0.3) % (1 - _BAND)
    return start, start + _BAND


class Looks:
    """Draws looks under the settings; every look is drawn once, in a fixed order, whichever looks are used later.

    Args:
        settings: ``any``: whole ranges. ``seen``: without the held-back stretches. ``held_back``: about a third of the looks from
            their held-back stretch. ``low``, ``high``: the lower or the upper half of every range.
    """

    def __init__(self, settings: str, names: tuple[str, ...], rng: np.random.Generator) -> None:
        self._values = {name: self._draw(name, settings, float(rng.random()), float(rng.random())) for name in names}

    @staticmethod
    def _draw(name: str, settings: str, u: float, coin: float) -> float:
        start, stop = held_band(name)
        match settings:
            case "low":
                return u / 2
            case "high":
                return 0.5 + u / 2
            case "any":
                return u
            case "held_back" if coin < _SHARE_HELD:
                return start + u * (stop - start)
        shifted = u * (1 - _BAND)
        return shifted if shifted < start else shifted + _BAND

    def place(self, name: str) -> float:
        """Place in the look's range, 0 to 1."""
        return self._values[name]

    def between(self, name: str, low: float, high: float) -> float:
        """Value at the look's place in a range."""
        return low + (high - low) * self._values[name]

    def beyond(self, name: str, start: float) -> float:
        """0 up to the place ``start``, then rising to 1 at the end: for what most do not have."""
        return max(self._values[name] - start, 0.0) / (1 - start)
