"""From probabilities to an answer or an abstention: statuses, what speaks against an answer, and how sure it then has to be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from dferkit.faces.read import LOW_COVERAGE_BELOW, WindowFaces
from dferkit.schema import ActionUnits, CoarsePrediction, FaceClip

LITTLE_EVIDENCE = "little evidence"
_FEWEST_FRAMES = 8  # different ones, below which a window is told to be short
SMALL_FACE_PIXELS, TINY_FACE_PIXELS = 40.0, 20.0
TURNED_DEGREES, PROFILE_DEGREES = 35.0, 55.0
_SHOWN = 0.2  # an action unit that gets stronger shows
_HELD_SHARE = 0.75  # an expression whose weakest frame is this share of its strongest one is held throughout
_OTHER_CLASS, _SAME_CLASS = 0.6, 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Doubt:
    """Something that speaks against trusting an answer.

    Attributes:
        reason: A few words for a table. sentence: For the user. is_final: No certainty outweighs it.
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
    """What speaks against an answer, the gravest first.

    Args:
        guide: The coarse classifier that read the described action units; None without one. label: The answer.
        yaw_degrees: Median turn of the head to a side, without sign; None where it was not measured.
        num_people: People in the window of whom only one was asked for. has_neutral: The user named a neutral clip of this person.
    """
    found = [
        _size(clip.quality.median_height_pixels),
        None if yaw_degrees is None else _turn(yaw_degrees),
        None if guide is None else _disagreement(guide, label),
        None if has_neutral or label == "neutral" else _held(units),
        None
        if num_people <= 1
        else Doubt(
            reason="several people", sentence=f"{num_people} people found; used the largest. --people all for each"
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
    """The movements that the caption tells speak for another class than the answer."""
    if label not in guide.labels:
        return None
    other, of_label = guide.top(1)[0], float(guide.probabilities[guide.labels.index(label)])
    of_other = float(guide.probabilities[guide.labels.index(other)])
    if other == label or of_other < _OTHER_CLASS or of_label > _SAME_CLASS:
        return None
    told_by = "the movements that were described speak" if guide.model.startswith("coarse") else f"{guide.model} speaks"
    return Doubt(reason="movements and class disagree", sentence=f"{told_by} for {other} ({of_other:.2f})")


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
        sentence="one expression throughout, so no calm frame to compare with; --neutral names a clip that shows this face at rest",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Thresholds:
    """Least probability of an answer, 0 to 1: without any doubt, and where something speaks against it."""

    plain: float = 0.0
    in_doubt: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What becomes of a window: its status, why no label is given (empty when one is), and a message for the user."""

    status: str
    abstain_reason: str
    message: str


def judge(
    probabilities: Float[np.ndarray, " classes"],
    doubts: tuple[Doubt, ...],
    thresholds: Thresholds,
    faces: WindowFaces,
    clip: FaceClip,
    *,
    is_truncated: bool,
) -> Verdict:
    """The gravest status that applies, with all that the user should know."""
    status, notes = _completeness(faces, clip, is_truncated=is_truncated)
    reason, told = _abstention(float(probabilities.max()), doubts, thresholds)
    notes += [told] if told else []
    notes += [doubt.sentence for doubt in doubts]
    if faces.num_people > 1 and len(faces.clips) > 1:
        notes.append(f"{faces.num_people} people found")
    return Verdict(status="abstain" if reason else status, abstain_reason=reason, message=". ".join(notes))


def _abstention(confidence: float, doubts: tuple[Doubt, ...], thresholds: Thresholds) -> tuple[str, str]:
    if confidence < thresholds.plain:
        return LITTLE_EVIDENCE, f"no class reaches {thresholds.plain:.2f}"
    if doubts and doubts[0].is_final:
        return doubts[0].reason, "no answer is given"
    if doubts and confidence < thresholds.in_doubt:
        return doubts[0].reason, f"in doubt an answer needs {thresholds.in_doubt:.2f}"
    return "", ""


def _completeness(faces: WindowFaces, clip: FaceClip, *, is_truncated: bool) -> tuple[str, list[str]]:
    num_faces, num_frames = int(clip.track.found.sum()), len(clip.timestamps)
    num_different = len(set(faces.indices.tolist()))
    status, notes = "ok", []
    if num_different < min(num_frames, _FEWEST_FRAMES):
        status = "too_short"
        notes.append(f"{num_different} frames; the model wants {num_frames}. Repeated frames were used")
    if clip.quality.coverage < LOW_COVERAGE_BELOW:
        status = "low_coverage"
        notes.append(f"face in {num_faces} of {num_frames} frames ({clip.quality.coverage:.0%}). The result is weak")
    if is_truncated or faces.report.is_truncated:
        status = "truncated"
        notes.append(
            f"the file ends early; used {faces.report.num_decoded} of {faces.report.num_requested} frames of this window"
        )
    return status, notes
