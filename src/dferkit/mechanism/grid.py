"""The grid: one primary cell, around it one factor at a time, aligner by unit in full, and the controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dferkit.alignment import AlignerConfig

ALIGNERS: Mapping[str, AlignerConfig] = {
    "transport": AlignerConfig(),
    "learned mass": AlignerConfig(),
    "unbalanced": AlignerConfig(visual_relaxation=0.1),
    "cosine": AlignerConfig(method="cosine"),
    "cross-attention": AlignerConfig(method="cross_attention"),
}
"""Name → settings; with ``learned mass`` the mass of each visual token is trained too."""
# At so high an ε the plan is the product of its marginals: every phrase reads all tokens alike.
NO_ALIGNMENT = AlignerConfig(epsilon=1e3)
TRANSPORTS = ("transport", "learned mass", "unbalanced")
UNITS: Mapping[str, str] = {"word": "tokens", "phrase": "phrases", "sentence": "sentence"}
STARTS = ("labels only", "contrastive", "true maps")
CONTROLS = ("no alignment", "shuffled captions", "text only", "video only")
CLIPS = (25, 100, 400, 1600)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One setting; it is trained on every task with every seed.

    Attributes:
        clips: Training clips. start: One of ``STARTS``. control: One of ``CONTROLS``, or empty.
    """

    aligner: str = "transport"
    unit: str = "phrase"
    has_motion: bool = True
    clips: int = 400
    start: str = "labels only"
    control: str = ""

    @property
    def name(self) -> str:
        """What differs from the primary cell, ``primary`` for itself."""
        parts = [
            str(getattr(self, f))
            for f in ("control", "aligner", "unit", "start")
            if getattr(self, f) != getattr(PRIMARY, f)
        ]
        parts += [] if self.has_motion else ["no motion"]
        parts += [] if self.clips == PRIMARY.clips else [f"{self.clips} clips"]
        return ", ".join(parts) or "primary"


PRIMARY = Cell()


def cells(clips: tuple[int, ...] = CLIPS) -> tuple[Cell, ...]:
    """All cells, the primary one first."""
    found = [PRIMARY]
    found += [Cell(aligner=aligner, unit=unit) for aligner in ALIGNERS for unit in UNITS]
    found += [Cell(aligner=aligner, has_motion=False) for aligner in ("transport", "cosine")]
    found += [Cell(clips=count) for count in clips]
    found += [Cell(aligner=aligner, start=start) for start in STARTS[1:] for aligner in ("transport", "cosine")]
    found += [Cell(control=control) for control in CONTROLS]
    return tuple(dict.fromkeys(found))
