"""How large the demo is, which rows its tables have, and how long its stages take."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from dferkit.checks import check_range
from dferkit.synthetic import BenchmarkConfig
from dferkit.training.loop import TrainingConfig

TABLE = ("grace", "grace_fused", "grace_cosine", "grace_sentence", "grace_no_motion", "vision_only", "text_only")
CONTROLS = ("true_au_captions", "shuffled_captions", "shuffled_topk")
NATURAL_TABLE = ("grace", "grace_fused", "vision_only")


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoConfig:
    """Size of the demo.

    Attributes:
        clips, natural_clips: Rendered clips of each profile; half of the people train, a tenth validate, the rest test.
        deletion_clips: Test clips whose explanation is checked by deletion. shown_clips: Clips explained in the report.
    """

    clips: int = 700
    natural_clips: int = 420
    seed: int = 0
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig())
    deletion_clips: int = 40
    shown_clips: int = 4

    def __post_init__(self) -> None:
        check_range(self, "clips", "natural_clips", least=140)  # with fewer, classes are too few to score


def benchmark_of(config: DemoConfig, profile: str) -> BenchmarkConfig:
    """The rendered clips of a profile, ``posed`` or ``natural``."""
    clips = config.clips if profile == "posed" else config.natural_clips
    return BenchmarkConfig(clips=clips, profile=profile, seed=config.seed)  # type: ignore[arg-type]


class Clock:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def end_stage(self, name: str) -> None:
        """The stage of this name ends now."""
        now = time.monotonic()
        self.seconds[name] = round(self.seconds.get(name, 0.0) + now - self._last, 2)
        self._last = now
