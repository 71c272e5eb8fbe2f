"""How videos are read: what each call may choose."""

from __future__ import annotations

from dataclasses import dataclass

from dferkit.errors import ConfigError
from dferkit.faces.read import CLIP_FRAMES
from dferkit.faces.track import PEOPLE
from dferkit.video import Window, clip_window, plan_windows


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadingSettings:
    """What a call may choose; detector, landmarker and front end are fixed when the model is loaded.

    Attributes:
        window_seconds, stride_seconds: Windows of the time line, in seconds; stride None means no overlap. whole_clip: One window over the whole video.
        people: ``largest`` or ``all``. neutral: A video of the same person at rest, the zero of the landmarks.

    Raises:
        ConfigError: A value out of its range, or a neutral video with several people.
    """

    window_seconds: float = 2.0
    stride_seconds: float | None = None
    whole_clip: bool = False
    people: str = "largest"
    neutral: str | None = None

    def __post_init__(self) -> None:
        if not 0.1 <= self.window_seconds <= 600:
            raise ConfigError(f"window is {self.window_seconds} s; give 0.1 to 600")
        if self.stride_seconds is not None and not 0.05 <= self.stride_seconds <= 600:
            raise ConfigError(f"stride is {self.stride_seconds} s; give 0.05 to 600")
        if self.people not in PEOPLE:
            raise ConfigError(f"people is {self.people!r}; choose {' or '.join(PEOPLE)}")
        if self.neutral is not None and self.people == "all":
            raise ConfigError("a neutral clip shows one person's face at rest; use people largest with it")

    def windows(self, duration_seconds: float) -> list[Window]:
        """The windows of a video."""
        if self.whole_clip:
            return [clip_window(duration_seconds, CLIP_FRAMES)]
        return plan_windows(
            duration_seconds,
            window_seconds=self.window_seconds,
            stride_seconds=self.stride_seconds,
            num_samples=CLIP_FRAMES,
        )
