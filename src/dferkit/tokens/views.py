"""Which frames of a stored clip a view samples. Views of a test clip are really different, or there are fewer of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from dferkit.errors import ConfigError


@dataclass(frozen=True, slots=True)
class View:
    """One choice of frames of a clip: ``frames`` are numbers of stored frames, not falling; ``is_flipped`` mirrors left and right."""

    frames: tuple[int, ...]
    is_flipped: bool


def sample_frames(num_frames: int, num_samples: int, *, place: float = 0.5) -> Int[np.ndarray, " samples"]:
    """One frame of each of ``num_samples`` equal segments, at a place from 0 to below 1 within the segment.

    The middle (0.5) is the deterministic test sampling of the field. A clip with fewer frames than samples repeats some.

    Raises:
        ConfigError: A count below 1, or a place outside [0, 1).
    """
    if num_frames < 1 or num_samples < 1 or not 0 <= place < 1:
        raise ConfigError(f"{num_samples} samples of {num_frames} frames at place {place} are not usable")
    return ((np.arange(num_samples) + place) * num_frames / num_samples).astype(np.int64)


def clip_views(num_frames: int, num_samples: int, *, times: int = 1, with_flip: bool = False) -> list[View]:
    """Different views of a clip; the first is the middle of every segment, which training uses too (``bench`` trains on all).

    Views that show the same frames, be it one of them twice, are one view. If the clip has fewer views than requested, it returns those: 16 samples of
    16 frames are one view whatever the place in the segment. (Published "2 clips × 2 crops" protocols count such copies as views.)

    Args:
        times: Places within the segments. with_flip: Each also mirrored.
    """
    if times < 1:
        raise ConfigError(f"{times} views are not usable; give at least 1")
    places = [(0.5 + v / times) % 1 for v in range(times)]  # as far apart as can be, the middle first
    found: dict[frozenset[int], tuple[int, ...]] = {}
    for place in places:
        frames = tuple(sample_frames(num_frames, num_samples, place=place).tolist())
        found.setdefault(frozenset(frames), frames)
    flips = (False, True) if with_flip else (False,)
    return [View(frames, is_flipped) for is_flipped in flips for frames in found.values()]
