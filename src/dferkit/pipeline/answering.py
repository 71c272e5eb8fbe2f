"""One window of a video → one answer per person in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from dferkit.errors import DataError
from dferkit.faces.read import CLIP_FRAMES, NO_FACE_BELOW, WindowFaces
from dferkit.faces.status import face_status, landmarks_missing, readings_missing
from dferkit.judgement import Place, Thresholds, Verdict, answer_row, find_doubts, judge
from dferkit.pipeline.people import PeopleOfVideo
from dferkit.pipeline.reading import Reader, Reading
from dferkit.pipeline.results import Answer
from dferkit.readings import ExternalReadings
from dferkit.schema import ClipStatus, FaceClip


@dataclass(frozen=True, kw_only=True, slots=True)
class OneVideo:
    """What stays the same through the windows of a video.

    Attributes:
        name: Of the input, in outputs. detector: Who finds faces. external: What other tools measured in it.
        people: Numbers the people through the windows; None where only the largest face is answered.
        has_neutral: The user named a video of this person at rest.
    """

    name: str
    detector: str
    reader: Reader
    labels: tuple[str, ...]
    external: ExternalReadings
    people: PeopleOfVideo | None
    has_neutral: bool


def answer_window(video: OneVideo, faces: WindowFaces) -> Iterator[Answer]:
    """One answer per person with a face in enough frames, or one row with the reason why there is none."""
    persons = (0,) * len(faces.clips) if video.people is None else video.people.number(faces.clips)
    usable = [(c, p) for c, p in zip(faces.clips, persons, strict=True) if c.quality.coverage >= NO_FACE_BELOW]
    if not usable:
        best = max(faces.clips, key=lambda clip: clip.quality.coverage, default=None)
        seen = face_status(faces, best, detector=video.detector, num_wanted=CLIP_FRAMES)
        row = answer_row(_place(video, faces), seen, video.labels, front_end=video.reader.front_end)
        yield Answer(prediction=row, faces=faces)
    for clip, person in usable:
        yield replace(_answer_person(video, faces, clip), person=person)


def _answer_person(video: OneVideo, faces: WindowFaces, clip: FaceClip) -> Answer:
    seen = face_status(faces, clip, detector=video.detector, num_wanted=CLIP_FRAMES)
    place = _place(video, faces, clip)
    if video.reader.head_for(clip) is None:
        row = answer_row(place, landmarks_missing(seen), video.labels, front_end=video.reader.front_end)
        return Answer(prediction=row, faces=faces)
    try:
        reading = video.reader.read(clip, video.external)
    except DataError as error:  # another tool has nothing for this window; the next one may have its rows
        failed = readings_missing(seen, str(error))
        return Answer(prediction=answer_row(place, failed, video.labels, front_end=video.reader.front_end), faces=None)
    probabilities = reading.head.checkpoint.probabilities(reading.output.logits[0])
    row = answer_row(
        place,
        seen,
        video.labels,
        probabilities,
        front_end=reading.head.front_end,
        verdict=_judge(video, faces, reading, seen, probabilities),
    )
    return Answer(prediction=row, faces=faces, reading=reading)


def _judge(
    video: OneVideo, faces: WindowFaces, reading: Reading, seen: ClipStatus, probabilities: np.ndarray
) -> Verdict:
    about, first = reading.head.checkpoint.about, video.reader.heads[0]
    reads_landmarks = reading.head.encoder.needs_landmarks
    doubts = find_doubts(
        reading.clip,
        reading.action_units,
        reading.caption.guided_by,
        video.labels[int(probabilities.argmax())],
        yaw_degrees=reading.yaw_degrees,
        num_people=faces.num_people if len(faces.clips) == 1 else 1,
        has_neutral=video.has_neutral and reads_landmarks,
    )
    plain = float(about.get("abstain_below", 0.0))
    thresholds = Thresholds(plain=plain, in_doubt=float(about.get("abstain_below_in_doubt", plain)))
    verdict = judge(probabilities, doubts, thresholds, seen)
    missed = "the landmarker found no face in most frames, so pixels alone were read"
    before = missed if first.encoder.needs_landmarks and not reads_landmarks else ""
    texts = (before, verdict.message, video.external.note)
    return replace(verdict, message=". ".join(text for text in texts if text))


def _place(video: OneVideo, faces: WindowFaces, clip: FaceClip | None = None) -> Place:
    window, track = faces.window, -1 if clip is None else clip.track.track_id
    return Place(
        input=video.name,
        clip_id=f"{video.name}#{window.number}.{track}",
        track_id=track,
        window=window.number,
        start_seconds=window.start_seconds,
    )
