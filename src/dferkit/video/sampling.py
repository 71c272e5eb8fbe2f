"""The times at which a video is sampled. Arithmetic on seconds; no file is opened."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from dferkit.errors import ConfigError

# A remainder of at most this share of a window gets no window, even where samples are so few that a segment is longer.
_NEGLIGIBLE_SHARE = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """A time span of a video and the times sampled in it.

    Attributes:
        number: 0 for the first window of the video.
        start_seconds, end_seconds: The span, on the clock of ``VideoIndex.timestamps`` (0 is the first frame).
        sample_times: Centres of equal segments of the span, rising.
    """

    number: int
    start_seconds: float
    end_seconds: float
    sample_times: Float[np.ndarray, " samples"]


def plan_windows(
    duration_seconds: float,
    *,
    window_seconds: float = 2.0,
    stride_seconds: float | None = None,
    num_samples: int = 16,
) -> list[Window]:
    """Cover a video with windows of equal length.

    Windows start at 0 and then every ``stride_seconds`` (by default ``window_seconds``). A window that would go past the end
    is moved back to end with the video. A video shorter than a window is one window. A remainder shorter than one sampling
    segment gets no window: a clip of 2.03 s is one window of 2 s, not two nearly equal ones.

    Raises:
        ConfigError: A length or the number of samples is not positive.
    """
    stride = window_seconds if stride_seconds is None else stride_seconds
    _require_positive("duration", duration_seconds)
    _require_positive("window", window_seconds)
    _require_positive("stride", stride)
    _require_samples(num_samples)
    if duration_seconds <= window_seconds:
        return [_window(0, 0.0, duration_seconds, num_samples)]
    negligible = window_seconds * min(1 / num_samples, _NEGLIGIBLE_SHARE)
    latest_start = duration_seconds - window_seconds
    starts = [0.0]
    # Multiplied, not summed, so that rounding errors do not add up over hours of video.
    while (start := len(starts) * stride) < duration_seconds - negligible:
        if starts[-1] + window_seconds > duration_seconds - negligible:
            break
        starts.append(min(start, latest_start))
    return [_window(number, start, start + window_seconds, num_samples) for number, start in enumerate(starts)]


def clip_window(duration_seconds: float, num_samples: int = 16) -> Window:
    """One window over the whole video: what a labelled clip is trained and evaluated on.

    Raises:
        ConfigError: The duration or the number of samples is not positive.
    """
    _require_positive("duration", duration_seconds)
    _require_samples(num_samples)
    return _window(0, 0.0, duration_seconds, num_samples)


def spread_window(timestamps: Float[np.ndarray, " frames"], duration_seconds: float, max_frames: int) -> Window:
    """One window over the whole clip that samples its own frames: all of them, or ``max_frames`` spread evenly.

    Args:
        timestamps: Of the clip's frames, at least one. max_frames: 0 for all.
    """
    count = len(timestamps)
    num_samples = count if max_frames < 1 else min(count, max_frames)
    chosen = ((np.arange(num_samples) + 0.5) * count / num_samples).astype(int)
    return Window(
        number=0, start_seconds=0.0, end_seconds=float(duration_seconds), sample_times=np.asarray(timestamps)[chosen]
    )


def _window(number: int, start: float, end: float, num_samples: int) -> Window:
    times = start + (end - start) * (np.arange(num_samples) + 0.5) / num_samples
    return Window(number=number, start_seconds=float(start), end_seconds=float(end), sample_times=times)


def _require_positive(what: str, seconds: float) -> None:
    if not (math.isfinite(seconds) and seconds > 0):
        raise ConfigError(f"{what} of {seconds} seconds is not usable: give a number above 0")


def _require_samples(num_samples: int) -> None:
    if num_samples < 1:
        raise ConfigError(f"{num_samples} samples per window are not usable: give at least 1")
