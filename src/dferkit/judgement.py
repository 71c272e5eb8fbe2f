"""Probabilities → an answer or an abstention: reasons for doubt, how sure an answer must then be, and the row of a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from dferkit.faces.read import CLIP_FRAMES
from dferkit.faces.status import judged_status
from dferkit.schema import ActionUnits, ClipStatus, CoarsePrediction, FaceClip, Prediction

LITTLE_EVIDENCE = "little evidence"
SMALL_FACE_PIXELS, TINY_FACE_PIXELS = 40.0, 20.0
TURNED_DEGREES, PROFILE_DEGREES = 35.0, 55.0
_SHOWN = 0.2  # least peak intensity of an action unit that counts as shown
_HELD_SHARE = 0.75  # an expression whose weakest frame is this share of its strongest one is held throughout
_OTHER_CLASS, _SAME_CLASS = 0.6, 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Doubt:
    """A reason not to trust an answer.

    Attributes:
        reason: A few words for a table. sentence: For the user. is_final: No answer is given, however probable.
    """

    reason: str
    sentence: str
    is_final: bool = False


def find_doubts(
    clip: FaceClip,
    units: ActionUnits,
    guide: CoarsePrediction | None,
    label: str,
    *,
    yaw_degrees: float | None,
    num_people: int,
    has_neutral: bool,
) -> tuple[Doubt, ...]:
    """Reasons not to trust an answer, final ones first.

    Args:
        guide: Probabilities of the coarse classifier for the described action units; None without one. label: The answer.
        yaw_degrees: Median turn of the head to a side, without sign; None where it was not measured.
        num_people: People in the window, where only the largest is answered; else 1. has_neutral: The user named a clip of this person at rest.
    """
    found = [
        _size(clip.quality.median_height_pixels),
        None if yaw_degrees is None else _turn(yaw_degrees),
        None if guide is None else _disagreement(guide, label),
        None if has_neutral or label == "neutral" else _held(units),
        None
        if num_people <= 1
        else Doubt(
            reason="several people",
            sentence=f"{num_people} people found; the largest was used, --people all answers each",
        ),
    ]
    return tuple(sorted((doubt for doubt in found if doubt), key=lambda doubt: not doubt.is_final))


def _size(pixels: float) -> Doubt | None:
    if not pixels < SMALL_FACE_PIXELS:
        return None
    is_tiny = pixels < TINY_FACE_PIXELS
    return Doubt(
        reason="tiny face" if is_tiny else "small face",
        sentence=f"the face is {pixels:.0f} pixels high",
        is_final=is_tiny,
    )


def _turn(degrees: float) -> Doubt | None:
    if degrees < TURNED_DEGREES:
        return None
    return Doubt(
        reason="turned face",
        sentence=f"the head is turned by {degrees:.0f}° to a side",
        is_final=degrees >= PROFILE_DEGREES,
    )


def _disagreement(guide: CoarsePrediction, label: str) -> Doubt | None:
    """The described movements point to another class than the answer."""
    if label not in guide.labels:
        return None
    other, of_label = guide.top(1)[0], float(guide.probabilities[guide.labels.index(label)])
    of_other = float(guide.probabilities[guide.labels.index(other)])
    if other == label or of_other < _OTHER_CLASS or of_label > _SAME_CLASS:
        return None
    source = "the described movements point" if guide.model.startswith("coarse") else f"{guide.model} points"
    return Doubt(reason="movements and class disagree", sentence=f"{source} to {other} ({of_other:.2f})")


def _held(units: ActionUnits) -> Doubt | None:
    """Without a frame in which the face is calmer, a held expression and a resting face look alike."""
    shown = units.intensity.max(0) >= _SHOWN
    if not shown.any():
        return None
    course = units.intensity[:, shown].sum(1)
    if float(np.min(course)) < _HELD_SHARE * float(np.max(course)):
        return None
    return Doubt(
        reason="no calm frame",
        sentence="one expression throughout, so there is no calm frame to compare with: give a clip of this face at rest with --neutral",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Thresholds:
    """Least probability of an answer, 0 to 1: without a doubt, and with one."""

    plain: float = 0.0
    in_doubt: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What becomes of an answer: its status, why no label is given (empty when one is), and a message for the user."""

    status: str
    abstain_reason: str
    message: str


def judge(
    probabilities: Float[np.ndarray, " classes"],
    doubts: tuple[Doubt, ...],
    thresholds: Thresholds,
    seen: ClipStatus,
) -> Verdict:
    """Answer or abstain.

    Args:
        seen: What the frames and faces gave (``faces.status``).
    """
    reason, message = _abstention(float(probabilities.max()), doubts, thresholds)
    sentences = [seen.message, message, *(doubt.sentence for doubt in doubts)]
    return Verdict(
        status=judged_status(seen, abstains=bool(reason)),
        abstain_reason=reason,
        message="; ".join(text for text in sentences if text),
    )


def _abstention(confidence: float, doubts: tuple[Doubt, ...], thresholds: Thresholds) -> tuple[str, str]:
    if confidence < thresholds.plain:
        return LITTLE_EVIDENCE, f"no class reaches {thresholds.plain:.2f}"
    if doubts and doubts[0].is_final:
        return doubts[0].reason, "no answer is given"
    if doubts and confidence < thresholds.in_doubt:
        return doubts[0].reason, f"in doubt an answer needs {thresholds.in_doubt:.2f}"
    return "", ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """What a row is about: an input, a window of it, and a person in the window (-1: nobody)."""

    input: str
    clip_id: str
    track_id: int = -1
    window: int = 0
    start_seconds: float = 0.0


def answer_row(
    place: Place,
    seen: ClipStatus,
    labels: tuple[str, ...],
    probabilities: Float[np.ndarray, " classes"] | None = None,
    *,
    front_end: str,
    verdict: Verdict | None = None,
    num_frames: int = CLIP_FRAMES,
) -> Prediction:
    """The row of one answer, or of the reason why there is none.

    Args:
        seen: What the frames and faces gave. probabilities: None without an answer.
        verdict: Where the answer was judged; it replaces the status and the message of ``seen``.
        num_frames: Frames that were sampled, where any was decoded.
    """
    status, reason, message = (
        (seen.status, "", seen.message)
        if verdict is None
        else (verdict.status, verdict.abstain_reason, verdict.message)
    )
    is_decoded = seen.detector != ""
    return Prediction(
        input=place.input,
        clip_id=place.clip_id,
        track_id=place.track_id,
        window=place.window,
        start_seconds=place.start_seconds,
        end_seconds=seen.end_seconds,
        labels=labels,
        label=None if probabilities is None or reason else labels[int(probabilities.argmax())],
        probabilities=probabilities,
        status=status,
        message=message,
        num_frames=num_frames if is_decoded else 0,
        num_face_frames=round(seen.coverage * num_frames) if is_decoded else 0,
        detector=seen.detector,
        front_end=front_end,
        abstain_reason=reason,
    )
