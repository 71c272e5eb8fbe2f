"""Results: answers window by window, their summary per person, and pandas tables of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from dferkit.errors import DataError
from dferkit.faces.read import WindowFaces
from dferkit.faces.status import status_of_windows
from dferkit.labels import BASIC
from dferkit.pipeline.reading import Reading
from dferkit.reports.tables import (
    Provenance,
    SampledFrames,
    alignments_table,
    frame_table,
    phrases_table,
    prediction_table,
)
from dferkit.schema import Explanation, Prediction


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One window's prediction with what led to it.

    Attributes:
        faces, reading: None where the video, or the face, could not be read.
        person: Number of the person through the windows of the video, 0 where only the largest face is answered; None without a face.
    """

    prediction: Prediction
    faces: WindowFaces | None = None
    reading: Reading | None = None
    person: int | None = None


@dataclass(frozen=True, kw_only=True)
class Results:
    """Answers for several inputs, in their order; everything tabular is a plain pandas DataFrame."""

    answers: tuple[Answer, ...]
    provenance: Provenance
    labels: tuple[str, ...] = BASIC

    @property
    def results(self) -> tuple[Result, ...]:
        """One per input."""
        of_input: dict[str, list[Answer]] = {}
        for answer in self.answers:
            of_input.setdefault(answer.prediction.input, []).append(answer)
        return tuple(
            Result(answers=tuple(found), provenance=self.provenance, labels=self.labels) for found in of_input.values()
        )

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
        counts = Counter(p.status for p in self.predictions)
        return f"Results({len(self.answers)} rows: {', '.join(f'{n} {status}' for status, n in counts.most_common())})"


@dataclass(frozen=True, kw_only=True, slots=True)
class PersonResult:
    """One person's answer over the windows of a video: the mean over those with an answer; windows that abstained do not count.

    Attributes:
        person: Number within the video, in the order in which people appear. No identity.
        predictions: The person's windows, in the order of time.
    """

    person: int
    predictions: tuple[Prediction, ...]
    labels: tuple[str, ...]

    @property
    def probs(self) -> pd.Series:
        """Mean probability of each class; NaN without an answered window."""
        answered = [p.probabilities for p in self.predictions if p.label is not None and p.probabilities is not None]
        values = np.mean(answered, 0) if answered else np.full(len(self.labels), np.nan)
        return pd.Series(values, index=list(self.labels))

    @property
    def label(self) -> str | None:
        """Apparent expression: the class with the highest mean probability; None without an answered window."""
        return None if np.isnan(self.confidence) else str(self.probs.idxmax())

    @property
    def confidence(self) -> float:
        """Mean probability of ``label``; NaN without an answered window."""
        return float(self.probs.max())

    @property
    def status(self) -> str:
        """Of the windows as a whole (``faces.status.status_of_windows``)."""
        return status_of_windows([p.status for p in self.predictions])


@dataclass(frozen=True, kw_only=True, repr=False)
class Result(Results):
    """Answers for one input.

    ``people`` has one summary per person. ``label``, ``confidence`` and ``probs`` are those of the only person; where the video shows
    several (``people="all"``), they raise a DataError, since a mean over different people would be nobody's expression.
    """

    @property
    def people(self) -> tuple[PersonResult, ...]:
        """One summary per person whose face was found, in the order in which they appear."""
        found: dict[int, list[Prediction]] = {}
        for answer in self.answers:
            if answer.person is not None:
                found.setdefault(answer.person, []).append(answer.prediction)
        return tuple(
            PersonResult(person=person, predictions=tuple(rows), labels=self.labels)
            for person, rows in sorted(found.items())
        )

    @property
    def _person(self) -> PersonResult:
        people = self.people
        if len(people) > 1:
            raise DataError(
                f"{self.predictions[0].input} shows {len(people)} people, and each has an answer of their own; read them from result.people"
            )
        return people[0] if people else PersonResult(person=0, predictions=(), labels=self.labels)

    @property
    def probs(self) -> pd.Series:
        """Mean probability of each class over the answered windows; NaN without one.

        Raises:
            DataError: Several people.
        """
        return self._person.probs

    @property
    def label(self) -> str | None:
        """Apparent expression; None without an answered window.

        Raises:
            DataError: Several people.
        """
        return self._person.label

    @property
    def confidence(self) -> float:
        """Mean probability of ``label``; NaN without an answered window.

        Raises:
            DataError: Several people.
        """
        return self._person.confidence

    @property
    def status(self) -> str:
        """Of all windows as a whole (``faces.status.status_of_windows``)."""
        return status_of_windows([p.status for p in self.predictions])

    def __repr__(self) -> str:
        first, people = self.predictions[0], self.people
        if len(people) > 1:
            found = f"{len(people)} people: " + ", ".join(person.label or "no label" for person in people)
        elif self.label is None:
            found = f"no label. {first.message}"
        else:
            found = f"apparent expression {self.label} {self.confidence:.2f}"
        return f"Result({first.input}: {self.status}, {len(self.answers)} rows, {found})"


@dataclass(frozen=True, kw_only=True)
class ExplanationResult:
    """Explanations of one input's windows."""

    explanations: tuple[Explanation, ...]
    result: Result
    top_k: int = 5
    about: dict[str, object] = field(default_factory=dict)

    @property
    def phrases(self) -> pd.DataFrame:
        """Phrase, share of the answer, region, time: the table of ``phrases.csv``."""
        return phrases_table(self.explanations)

    @property
    def alignments(self) -> pd.DataFrame:
        """Word, region, time, weight: the table of ``alignments.csv``."""
        return alignments_table(self.explanations, top_k=self.top_k)

    def to_html(self, path: Path | str) -> None:
        """Write the self-contained report."""
        from dferkit.reports.html import write_clip_report

        write_clip_report(path, self.explanations, about=self.about)
