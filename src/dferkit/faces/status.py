"""What became of a clip, or of one person in a window of a video. Statuses are decided here only.

Each status rules out those after it; a clip has the first that applies (``schema.STATUSES``):

| status | applies when |
| --- | --- |
| ``unreadable`` | the video, or a table that takes the place of a part of the front end, cannot be read |
| ``no_face`` | a face in less than a tenth of the sampled frames, or landmarks are needed and found in less than half of them |
| ``abstain`` | the answer is not sure enough (``judgement``) |
| ``truncated`` | the file ends before its declared end |
| ``low_coverage`` | a face in less than half of the sampled frames |
| ``too_short`` | fewer than 8 different frames, where at least 8 are wanted |
| ``ok`` | otherwise |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from dferkit.faces.read import LOW_COVERAGE_BELOW, NO_FACE_BELOW, WindowFaces
from dferkit.faces.warp import no_face_message
from dferkit.schema import ANSWERED, STATUSES, ClipStatus, FaceClip

_FEWEST_FRAMES = 8


def first_that_applies(statuses: Sequence[str]) -> str:
    """The one of several statuses that rules out the others."""
    return min(statuses, key=STATUSES.index)


def status_of_windows(statuses: Sequence[str]) -> str:
    """The status of several windows as a whole: of a person, or of a video.

    ``unreadable`` where a part could not be read. Otherwise the first in the order above of the windows with an answer; without
    any, ``abstain`` if a face was seen, else ``no_face``.
    """
    failed = [status for status in statuses if status in ("error", "unreadable")]
    answered = [status for status in statuses if status in ANSWERED]
    if failed or answered:
        return first_that_applies(failed or answered)
    return max(statuses, key=STATUSES.index)


def unused_clips(statuses: Mapping[str, ClipStatus], clip_ids: Iterable[str]) -> dict[str, str]:
    """Status and reason of each of these clips that no model can read, by clip id."""
    found = {clip_id: statuses[clip_id] for clip_id in clip_ids}
    return {
        clip_id: f"{status.status}: {status.message}" for clip_id, status in found.items() if not status.has_features
    }


def unreadable(message: str) -> ClipStatus:
    """Nothing could be decoded."""
    return ClipStatus(status="unreadable", message=message, coverage=0.0, detector="", end_seconds=0.0, num_people=0)


def face_status(faces: WindowFaces, clip: FaceClip | None, *, detector: str, num_wanted: int) -> ClipStatus:
    """What became of one person in a window.

    Args:
        clip: The person; None where no face was found.
        detector: Name of the detector. num_wanted: Different frames that are wanted of the window.
    """
    num_frames, coverage = len(faces.timestamps), 0.0 if clip is None else clip.quality.coverage
    num_different, report = len(set(faces.indices.tolist())), faces.report
    found, notes = ["ok"], []
    if num_different < min(num_wanted, _FEWEST_FRAMES):
        found.append("too_short")
        notes.append(f"only {num_different} different frames, so the result is weak")
    if coverage < LOW_COVERAGE_BELOW:
        found.append("low_coverage")
        notes.append(
            f"face in {round(coverage * num_frames)} of {num_frames} frames ({coverage:.0%}), so the result is weak"
        )
    if len(faces.clips) > 1:
        notes.append(f"{faces.num_people} people found")
    if report.is_truncated:
        found.append("truncated")
        notes.append(f"the file ends early, used {report.num_decoded} of {report.num_requested} frames")
    if coverage < NO_FACE_BELOW:
        found, notes = ["no_face"], [no_face_message(num_frames, detector)]
    status = first_that_applies(found)
    return ClipStatus(
        status=status,
        message="; ".join(notes),
        coverage=coverage,
        detector=detector,
        end_seconds=faces.window.end_seconds,
        num_people=0 if status == "no_face" else faces.num_people,
    )


def readings_missing(seen: ClipStatus, message: str) -> ClipStatus:
    """The status of a face clip for which another tool in place of a part of the front end has nothing."""
    return replace(seen, status="unreadable", message=message)


def judged_status(seen: ClipStatus, *, abstains: bool) -> str:
    """The status of an answer: what the frames and faces gave, or that it is not sure enough."""
    return first_that_applies([seen.status, "abstain"]) if abstains else seen.status


def status_of_answer(is_answered: bool) -> str:
    """The status of a scored clip of which nothing but its answer is known."""
    return "ok" if is_answered else "error"


def landmarks_missing(seen: ClipStatus) -> ClipStatus:
    """The status of a face clip that cannot be read because the landmarker found the face in too few frames."""
    message = f"the landmarker found the face in less than {LOW_COVERAGE_BELOW:.0%} of the frames, and this model needs landmarks"
    return replace(seen, status="no_face", message=message)
