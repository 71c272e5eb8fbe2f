"""What comes out: answers window by window, as values and as pandas tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from dferkit.faces.read import WindowFaces
from dferkit.labels import BASIC
from dferkit.pipeline.head import Head
from dferkit.reports.tables import Provenance, SampledFrames, alignments_table, frame_table, prediction_table
from dferkit.schema import (
    ActionUnits,
    Caption,
    Explanation,
    FaceClip,
    ModelOutput,
    Prediction,
    TextTokens,
    VisualTokens,
)

IN_USE = {"ok", "low_coverage", "truncated", "too_short", "abstain"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What the model saw in one window of one person; ``motion`` is measured only for models that read it."""

    head: Head
    clip: FaceClip
    action_units: ActionUnits
    caption: Caption
    visual: VisualTokens
    text: TextTokens
    output: ModelOutput
    motion: torch.Tensor | None = None

    @property
    def told(self) -> Caption:
        """The text whose words the model aligned: the caption, or the paragraph that A³lign-DFER learned for its answer."""
        label = int(self.output.logits[0].argmax())
        return self.head.checkpoint.model.aligned_text(label) or self.caption


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One window's prediction with what led to it; ``reading`` is None without a face or a readable video."""

    prediction: Prediction
    faces: WindowFaces | None
    reading: Reading | None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Answers for many inputs, in their order; everything tabular is a plain pandas DataFrame."""

    answers: tuple[Answer, ...]
    provenance: Provenance
    labels: tuple[str, ...] = BASIC

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        """One per input, person and window."""
        return tuple(answer.prediction for answer in self.answers)

    @property
    def clips(self) -> pd.DataFrame:
        """The table of ``predictions.csv``."""
        return prediction_table(self.predictions, self.provenance, labels=self.labels)

    @property
    def sampled_frames(self) -> list[SampledFrames]:
        """What the table of frames is made of."""
        return [
            SampledFrames(
                prediction=a.prediction,
                timestamps=a.faces.timestamps,
                track=a.reading.clip.track if a.reading else None,
                clip_weight=a.reading.output.motion[0].mean(1).numpy()
                if a.reading
                and a.reading.output.motion is not None
                and a.reading.output.motion.shape[1] == len(a.faces.timestamps)
                else None,
                file_frames=a.faces.indices,
            )
            for a in self.answers
            if a.faces is not None
        ]

    @property
    def frames(self) -> pd.DataFrame:
        """The table of ``frames.csv``: one row per sampled frame, also those without a face."""
        return frame_table(self.sampled_frames)

    def __repr__(self) -> str:
        counts = pd.Series([p.status for p in self.predictions]).value_counts()
        return f"Batch({len(self.answers)} windows: " + ", ".join(f"{n} {status}" for status, n in counts.items()) + ")"


@dataclass(frozen=True, kw_only=True, repr=False)
class Result(Batch):
    """Answers for one input. ``label``, ``confidence`` and ``probs`` are the mean over its answered windows."""

    @property
    def probs(self) -> pd.Series:
        """Mean probability of each class; NaN without an answer."""
        answered = [p.probabilities for p in self.predictions if p.probabilities is not None and p.status in IN_USE]
        values = np.mean(answered, 0) if answered else np.full(len(self.labels), np.nan)
        return pd.Series(values, index=list(self.labels))

    @property
    def label(self) -> str | None:
        """Apparent expression, None without an answer or when every window abstained."""
        named = [p for p in self.predictions if p.label is not None]
        return str(self.probs.idxmax()) if named else None

    @property
    def confidence(self) -> float:
        """Probability of the most probable class; NaN without an answer."""
        return float(self.probs.max())

    @property
    def status(self) -> str:
        """The most serious status of its windows that still gave an answer, else the first window's."""
        found = [p.status for p in self.predictions]
        if all(s == found[0] for s in found):
            return found[0]
        answered = [s for s in ("truncated", "low_coverage", "too_short", "ok", "abstain") if s in found]
        return answered[0] if answered else found[0]

    def __repr__(self) -> str:
        if self.label is None:
            return f"Result({self.predictions[0].input}: no label, {self.status}. {self.predictions[0].message})"
        return f"Result({self.predictions[0].input}: apparent expression {self.label} {self.confidence:.2f}, {self.status}, {len(self.answers)} windows)"


@dataclass(frozen=True, kw_only=True)
class ExplanationResult:
    """Explanations of one input's windows."""

    explanations: tuple[Explanation, ...]
    result: Result
    top_k: int = 5
    about: dict[str, object] = field(default_factory=dict)

    @property
    def alignments(self) -> pd.DataFrame:
        """Word, region, time, weight: the table of ``alignments.csv``."""
        return alignments_table(self.explanations, top_k=self.top_k)

    def to_html(self, path: Path | str) -> None:
        """Write the self-contained report."""
        from dferkit.reports.html import write_clip_report

        write_clip_report(path, self.explanations, about=self.about)
