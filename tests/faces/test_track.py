"""Tracks of a painted square whose true position is known in every frame; a scripted detector returns what a test needs."""

from __future__ import annotations

import numpy as np
import pytest
from test_warp import make_frames

from dferkit.errors import ConfigError
from dferkit.faces import BoxFile, track_faces, warp_face
from dferkit.schema import FaceBox, Frames

COUNT = 16
RNG = np.random.default_rng(3)
FACE = np.repeat(RNG.integers(0, 256, (10, 10), dtype=np.uint8), 6, axis=0).repeat(6, axis=1)
OTHER = np.repeat(RNG.integers(0, 256, (8, 8), dtype=np.uint8), 5, axis=0).repeat(5, axis=1)


class Scripted:
    """Answers with the boxes of a script, and counts how often it was asked."""

    name = "scripted"

    def __init__(self, frames: Frames, script: dict[int, list[FaceBox]]) -> None:
        self._frames = frames
        self._script = script
        self.asked: list[int] = []

    def detect(self, image: np.ndarray) -> list[FaceBox]:
        frame = next(i for i, other in enumerate(self._frames.images) if other is image or np.array_equal(other, image))
        self.asked.append(frame)
        return self._script.get(frame, [])


def _scene(places: list[tuple[float, float] | None], others: list[tuple[float, float] | None] | None = None) -> Frames:
    background = np.random.default_rng(1).integers(90, 110, (180, 240), dtype=np.uint8)
    images = []
    for number in range(len(places)):
        image = background.copy()
        for patch, spots in ((FACE, places), (OTHER, others)):
            if spots is not None and spots[number] is not None:
                x, y = (round(value) for value in spots[number])
                image[y : y + len(patch), x : x + len(patch)] = patch
        image[0, 0] = number  # frames differ, so that the script can identify them
        images.append(np.repeat(image[:, :, None], 3, axis=2))
    return make_frames(np.stack(images))


def _box(place: tuple[float, float], side: float = 60, score: float = 5.0) -> FaceBox:
    return FaceBox(x=place[0], y=place[1], width=side, height=side, score=score)


def _moving(count: int = COUNT) -> list[tuple[float, float]]:
    return [(40 + 4 * i, 50 + 10 * np.sin(i / 3)) for i in range(count)]


def test_box_follows_between_detections() -> None:
    places = _moving()
    frames = _scene(places)
    detector = Scripted(frames, {i: [_box(places[i])] for i in range(COUNT)})
    (track,) = track_faces(frames, detector)
    assert sorted(set(detector.asked)) == [0, 4, 8, 12, 15]
    assert track.found.all()
    assert track.num_people == 1
    assert track.detector == "scripted"
    centers = track.boxes[:, :2] + track.boxes[:, 2:] / 2
    assert np.abs(centers[1:-1] - (np.array(places)[1:-1] + 30)).max() < 3
    assert np.isfinite(track.scores).sum() == 5
    assert warp_face(frames, track).quality.coverage == 1


def test_one_false_hit_is_no_face() -> None:
    frames = _scene([None] * COUNT)
    detector = Scripted(frames, {8: [_box((100, 60))]})
    assert track_faces(frames, detector) == []


def test_a_window_of_two_frames_needs_one_hit() -> None:
    places = _moving(2)
    frames = _scene(places)
    (track,) = track_faces(frames, Scripted(frames, {0: [_box(places[0])]}))
    assert track.found[0]


def test_face_that_comes_late() -> None:
    places = [None] * 9 + _moving()[9:]
    frames = _scene(places)
    detector = Scripted(frames, {i: [_box(place)] for i, place in enumerate(places) if place is not None})
    (track,) = track_faces(frames, detector)
    assert track.found.tolist() == [False] * 9 + [True] * 7
    assert np.isnan(track.boxes[:9]).all()


def test_a_detector_that_misses_is_carried() -> None:
    places = _moving()
    frames = _scene(places)
    hits = (0, 4, 12, 15)
    (track,) = track_faces(frames, Scripted(frames, {i: [_box(places[i])] for i in hits}))
    assert track.found.all()


def test_nothing_is_carried_across_a_cut() -> None:
    places = _moving(8)
    frames = _scene([*places, *[None] * 8])
    images = frames.images.copy()
    y, x = np.mgrid[:180, :240]
    images[8:] = ((x + y) % 256)[None, :, :, None]
    frames = make_frames(images)
    images[:, 0, 0] = np.arange(16)[:, None]
    detector = Scripted(frames, {i: [_box(places[i])] for i in range(8)})
    (track,) = track_faces(frames, detector)
    assert track.found.tolist() == [True] * 8 + [False] * 8


def test_two_people_largest_first() -> None:
    places = _moving()
    others: list[tuple[float, float] | None] = [(190 - 4 * i, 130) for i in range(COUNT)]
    frames = _scene(places, others)
    script = {i: [_box(others[i], 40), _box(places[i])] for i in range(COUNT)}
    tracks = track_faces(frames, Scripted(frames, script), people="all")
    assert [track.num_people for track in tracks] == [2, 2]
    assert [track.track_id for track in tracks] == [0, 1]
    assert np.median(tracks[0].boxes[:, 2]) == pytest.approx(60, abs=3)
    assert np.median(tracks[1].boxes[:, 2]) == pytest.approx(40, abs=3)
    # They pass each other without changing places.
    assert np.abs(tracks[1].boxes[2:-2, 0] - np.array(others)[2:-2, 0]).max() < 5
    (largest,) = track_faces(frames, Scripted(frames, script))
    assert largest.num_people == 2
    assert np.array_equal(largest.boxes, tracks[0].boxes)


def test_trembling_detector_is_calmed() -> None:
    rng = np.random.default_rng(0)
    frames = _scene([(80.0, 60.0)] * COUNT)
    script = {i: [_box((80 + rng.normal(0, 3), 60 + rng.normal(0, 3)), 60 + rng.normal(0, 4))] for i in range(COUNT)}
    (track,) = track_faces(frames, Scripted(frames, script), every=1)
    raw = np.array([[script[i][0].x, script[i][0].width] for i in range(COUNT)])
    assert np.abs(np.diff(track.boxes[:, 0])).mean() < 0.6 * np.abs(np.diff(raw[:, 0])).mean()
    assert track.boxes[:, 2].std() < 0.5 * raw[:, 1].std()


def test_repeated_frames_are_looked_at_once() -> None:
    places = [(80.0, 60.0)] * 4
    frames = _scene(places)
    repeated = make_frames(np.repeat(frames.images, 4, axis=0))
    object.__setattr__(repeated, "indices", np.repeat(np.arange(4), 4))
    detector = Scripted(repeated, {i: [_box(places[0])] for i in range(16)})
    (track,) = track_faces(repeated, detector, every=1)
    assert track.found.all()
    assert len(detector.asked) == 4


def test_boxes_from_a_file(tmp_path) -> None:
    places = _moving()
    rows = "".join(f"{i},{x},{y},60,60\n" for i, (x, y) in enumerate(places) if i != 5)
    (tmp_path / "b.csv").write_text("frame,FaceRectX,FaceRectY,FaceRectWidth,FaceRectHeight\n" + rows)
    (track,) = track_faces(_scene(places), BoxFile(tmp_path / "b.csv"))
    assert track.found.all()
    assert track.detector == "boxes"


def test_one_frame() -> None:
    frames = _scene([(80.0, 60.0)])
    (track,) = track_faces(frames, Scripted(frames, {0: [_box((80, 60))]}))
    assert track.boxes[0] == pytest.approx([80, 60, 60, 60])


@pytest.mark.parametrize("wrong", [{"every": 0}, {"people": "smallest"}])
def test_unusable_settings(wrong: dict) -> None:
    frames = _scene([None])
    with pytest.raises(ConfigError):
        track_faces(frames, Scripted(frames, {}), **wrong)
