"""What describes a clip: action units, coarse classes, captions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, kw_only=True, slots=True)
class ActionUnits:
    """Action-unit intensity through a clip.

    Attributes:
        names: FACS names such as ``AU12``, one per column.
        intensity: 0 (absent) to 1 (maximum).
        source: Who measured: ``truth`` or the model's name.
    """

    names: tuple[str, ...]
    intensity: Float[np.ndarray, "frames aus"]
    timestamps: Float[np.ndarray, " frames"]
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CoarsePrediction:
    """Class probabilities that guide a caption, with the proof that they do not leak the label.

    Attributes:
        fold: Number of the inner fold the clip was held out in; -1 for clips outside the training set.
        is_out_of_fold: The model never saw this clip. Must be True for training clips.
    """

    labels: tuple[str, ...]
    probabilities: Float[np.ndarray, " classes"]
    model: str
    fold: int
    is_out_of_fold: bool

    def top(self, k: int) -> tuple[str, ...]:
        """The ``k`` most probable labels, most probable first."""
        return tuple(self.labels[i] for i in np.argsort(-self.probabilities, kind="stable")[:k])


@dataclass(frozen=True, kw_only=True, slots=True)
class Phrase:
    """One visible movement in words.

    Attributes:
        text: The words as they stand in the caption.
        action_unit: FACS name such as ``AU4``; empty for a phrase of no single one (a still face).
        regions: Face regions it concerns, names of ``facs.yaml``.
        intensity: Peak intensity, 0 to 1.
        start_character, end_character: Its position in the caption's text.
        is_stressed: The rewriter stressed it because it belongs to a top-k class.
    """

    text: str
    action_unit: str
    regions: tuple[str, ...]
    start_seconds: float
    end_seconds: float
    intensity: float
    start_character: int
    end_character: int
    is_stressed: bool = False

    @property
    def is_absent(self) -> bool:
        """It names a movement that was not seen, such as ``cheeks not raised``."""
        return bool(self.action_unit) and self.intensity == 0


PARAGRAPH = "learned paragraph"  # source of a caption of learned sentences, which hold no words


@dataclass(frozen=True, kw_only=True, slots=True)
class Caption:
    """A description of what moved. ``source`` is ``template``, ``user``, a language model's name or ``PARAGRAPH``."""

    text: str
    phrases: tuple[Phrase, ...]
    source: str
    guided_by: CoarsePrediction | None = None
