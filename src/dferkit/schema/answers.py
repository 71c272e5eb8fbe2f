"""What comes out: predictions, explanations, scores."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from dferkit.schema.captions import ActionUnits, Caption
from dferkit.schema.clips import FaceClip


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """The answer for one window of one input: the apparent expression, never what a person feels.

    Attributes:
        label: Predicted class, None without an answer.
        probabilities: One per label, sums to 1; None without an answer.
        status: One of ``STATUSES``.
        message: For the user, empty when all is well.
        detector: Who found the face, such as ``haar``. front_end: What was read of it: ``pixels``, ``landmarks``, ``both``, or a foreign backbone's name.
        abstain_reason: Why no label is given although a face was seen.
    """

    input: str
    clip_id: str
    track_id: int
    window: int
    start_seconds: float
    end_seconds: float
    labels: tuple[str, ...]
    label: str | None
    probabilities: Float[np.ndarray, " classes"] | None
    status: str
    message: str = ""
    num_frames: int = 0
    num_face_frames: int = 0
    detector: str = ""
    front_end: str = ""
    abstain_reason: str = ""

    @property
    def confidence(self) -> float:
        """Probability of the most probable class; NaN without an answer."""
        return float("nan") if self.probabilities is None else float(self.probabilities.max())

    @property
    def margin(self) -> float:
        """Most probable minus second; NaN without an answer."""
        if self.probabilities is None:
            return float("nan")
        second, first = np.sort(self.probabilities)[-2:]
        return float(first - second)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeletionTest:
    """Whether the explanation shows what the answer depends on.

    Attributes:
        fractions: Shares of the visual tokens that were removed, rising from 0.
        ranked_probability: Probability of the predicted class when the highest-ranked tokens go first.
        random_probability: The same for random orders, one row per order.
        drop: Mean over fractions of (random − ranked); above 0 the explanation beats chance.
    """

    fractions: Float[np.ndarray, " steps"]
    ranked_probability: Float[np.ndarray, " steps"]
    random_probability: Float[np.ndarray, "orders steps"]
    drop: float

    @property
    def num_beaten(self) -> int:
        """Random orders that lower the probability less than the ranked one does."""
        return int((self.random_probability.mean(1) > self.ranked_probability.mean()).sum())


@dataclass(frozen=True, kw_only=True, slots=True)
class PhraseEvidence:
    """One phrase of the caption, and its share of the answer.

    Attributes:
        text: As in the caption. span: (start, end) character there.
        start_seconds, end_seconds: When its movement was measured, in seconds of the video; NaN where there is none.
        is_seen: It describes what was seen and can be named as a reason; an absent movement or the words between the phrases cannot.
        share: Exact evidence: its part of the answer's class score above the mean of the classes, so that all shares and the remainder add up to 1; below 0 it lowers
            the answer. Otherwise an estimate: how far the probability of the answer falls without it.
        evidence: Where the share comes from; sums to ``share``.
    """

    text: str
    span: tuple[int, int]
    start_seconds: float
    end_seconds: float
    is_seen: bool
    share: float
    evidence: Float[np.ndarray, "frames rows columns"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """What one answer is made of: the share of each phrase, and where and when in the face it arises.

    Attributes:
        caption: With the times of the video. phrases: In the order of the caption.
        remainder: Share of the answer that no phrase describes; None where the shares are estimates, which do not add up.
        words: Whole words of the caption, in order (pieces are merged). word_spans: (start, end) character of each word in the caption.
        transport: Mass of each word on each cell; each word's map sums to 1.
        motion: Motion weight of each cell, mean 1.
        evidence: How much the answer owes to each cell, for the deletion test; sums to 1, or all 0.
        attention: Share of each frame in the video's vector, of models that attend to frames.
        regions: Region name of each cell, row by row. region_source: ``crop fractions`` (a frontal face assumed) or ``landmarks`` (measured).
    """

    prediction: Prediction
    face_clip: FaceClip
    caption: Caption
    action_units: ActionUnits
    phrases: tuple[PhraseEvidence, ...]
    remainder: float | None
    words: tuple[str, ...]
    word_spans: tuple[tuple[int, int], ...]
    transport: Float[np.ndarray, "words frames rows columns"]
    motion: Float[np.ndarray, "frames rows columns"]
    evidence: Float[np.ndarray, "frames rows columns"]
    regions: tuple[tuple[str, ...], ...]
    method: str
    deletion: DeletionTest | None = None
    region_source: str = "crop fractions"
    attention: Float[np.ndarray, " frames"] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Scores of one model on one set of clips, all float64.

    Attributes:
        uar: Unweighted average recall: mean over the classes present of their recall.
        war: Weighted average recall: share of correct clips.
        uar_ci95, war_ci95: Percentile bootstrap interval; by subject where subjects are known.
        per_class_recall: NaN for a class without clips.
        confusion: Rows are true classes, columns predicted ones, in the order of ``labels``.
    """

    labels: tuple[str, ...]
    uar: float
    war: float
    uar_ci95: tuple[float, float]
    war_ci95: tuple[float, float]
    per_class_recall: Float[np.ndarray, " classes"]
    confusion: np.ndarray
    num_clips: int
    num_failed: int = 0
    warnings: tuple[str, ...] = field(default=())
