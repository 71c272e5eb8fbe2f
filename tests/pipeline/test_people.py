"""Who is who from window to window, on boxes whose truth is known."""

from __future__ import annotations

import numpy as np

from dferkit.pipeline.people import PeopleOfVideo
from dferkit.schema import FaceClip, FaceQuality, FaceTrack


def face(start: float, x: float, *, speed: float = 0.0, lost: slice = slice(0, 0)) -> FaceClip:
    """A face of 40 pixels that starts a window of 2 s at ``x``."""
    times = start + np.arange(16) / 8
    boxes = np.stack([x + speed * (times - start), np.full(16, 50), np.full(16, 40), np.full(16, 40)], 1)
    found = np.ones(16, bool)
    found[lost] = False
    boxes[~found] = np.nan
    return FaceClip(
        images=np.zeros((16, 8, 8, 3), np.uint8),
        timestamps=times,
        track=FaceTrack(track_id=0, boxes=boxes, scores=np.ones(16), found=found, detector="haar"),
        quality=FaceQuality(coverage=1, median_height_pixels=40, sharpness=99, brightness=99, jitter=0),
        start_seconds=start,
        end_seconds=start + 2,
    )


def test_people_keep_their_numbers_when_the_order_of_sizes_changes() -> None:
    people = PeopleOfVideo()
    assert people.number([face(0, 10), face(0, 100)]) == (0, 1)
    assert people.number([face(2, 101), face(2, 12)]) == (1, 0)
    assert people.number([face(4, 14), face(4, 200), face(4, 103)]) == (0, 2, 1)


def test_a_face_that_moves_through_a_window_is_met_where_it_left() -> None:
    people = PeopleOfVideo()
    assert people.number([face(0, 0, speed=50), face(0, 200)]) == (0, 1)
    assert people.number([face(2, 0), face(2, 100)]) == (2, 0), "another face stands where the first one was"


def test_frames_without_a_face_are_passed_over() -> None:
    people = PeopleOfVideo()
    assert people.number([face(0, 10, lost=slice(12, 16))]) == (0,)
    assert people.number([face(2, 12, lost=slice(0, 3))]) == (0,)


def test_a_window_away_is_another_person() -> None:
    people = PeopleOfVideo()
    assert people.number([face(0, 10)]) == (0,)
    assert people.number([]) == ()
    assert people.number([face(4, 10)]) == (1,)


def test_two_faces_never_share_a_number() -> None:
    people = PeopleOfVideo()
    people.number([face(0, 10)])
    assert people.number([face(2, 20), face(2, 11)]) == (1, 0)
