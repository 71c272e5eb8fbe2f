"""Answers and abstentions: each doubt by a case made for it, each threshold at both of its sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dferkit.faces.status import unreadable
from dferkit.facs import AU_NAMES
from dferkit.judgement import Doubt, Place, Thresholds, Verdict, answer_row, find_doubts, judge
from dferkit.labels import BASIC
from dferkit.schema import ActionUnits, ClipStatus, CoarsePrediction, FaceClip, FaceQuality, FaceTrack

FRAMES = 16


def clip(*, pixels: float = 120.0, coverage: float = 1.0) -> FaceClip:
    found = np.arange(FRAMES) < round(coverage * FRAMES)
    return FaceClip(
        images=np.zeros((FRAMES, 8, 8, 3), np.uint8),
        timestamps=np.arange(FRAMES) / 8,
        track=FaceTrack(track_id=0, boxes=np.ones((FRAMES, 4)), scores=np.ones(FRAMES), found=found, detector="haar"),
        quality=FaceQuality(
            coverage=coverage, median_height_pixels=pixels, sharpness=99.0, brightness=99.0, jitter=0.0
        ),
        start_seconds=0.0,
        end_seconds=2.0,
    )


def units(**curves: np.ndarray | float) -> ActionUnits:
    intensity = np.zeros((FRAMES, len(AU_NAMES)))
    for name, values in curves.items():
        intensity[:, AU_NAMES.index(name)] = values
    return ActionUnits(names=AU_NAMES, intensity=intensity, timestamps=np.arange(FRAMES) / 8, source="test")


RISING = units(AU12=np.linspace(0, 0.8, FRAMES))


def doubts(seen: FaceClip, found: ActionUnits = RISING, label: str = "happiness", **more: object) -> list[str]:
    given = {"yaw_degrees": 0.0, "num_people": 1, "has_neutral": False, "guide": None} | more
    guide = given.pop("guide")
    return [doubt.reason for doubt in find_doubts(seen, found, guide, label, **given)]  # type: ignore[arg-type]


def guide(**shares: float) -> CoarsePrediction:
    rest = (1 - sum(shares.values())) / (len(BASIC) - len(shares))
    return CoarsePrediction(
        labels=BASIC,
        probabilities=np.array([shares.get(label, rest) for label in BASIC]),
        model="coarse",
        fold=-1,
        is_out_of_fold=True,
    )


def test_a_plain_clip_raises_no_doubt() -> None:
    assert doubts(clip()) == []


@pytest.mark.parametrize(
    ("pixels", "wanted"), [(41, []), (39, ["small face"]), (21, ["small face"]), (19, ["tiny face"])]
)
def test_small_faces(pixels: float, wanted: list[str]) -> None:
    assert doubts(clip(pixels=pixels)) == wanted


@pytest.mark.parametrize(("yaw", "is_final"), [(34, None), (36, False), (54, False), (56, True)])
def test_turned_faces(yaw: float, is_final: bool | None) -> None:
    found = find_doubts(clip(), RISING, None, "happiness", yaw_degrees=yaw, num_people=1, has_neutral=False)
    assert [(d.reason, d.is_final) for d in found] == ([] if is_final is None else [("turned face", is_final)])


def test_a_turn_that_was_not_measured_is_no_doubt() -> None:
    assert doubts(clip(), yaw_degrees=None) == []


def test_an_expression_that_is_held_throughout() -> None:
    held = units(AU12=0.7, AU6=0.5)
    assert doubts(clip(), held) == ["no calm frame"]
    assert doubts(clip(), held, "neutral") == [], "a neutral face needs no other to be compared with"
    assert doubts(clip(), held, has_neutral=True) == [], "the user has named one"
    assert doubts(clip(), units(AU12=0.1)) == [], "nothing shows"
    calm_once = np.full(FRAMES, 0.7)
    calm_once[5] = 0.4
    assert doubts(clip(), units(AU12=calm_once)) == []


def test_movements_that_point_to_another_class() -> None:
    assert doubts(clip(), guide=guide(sadness=0.7, happiness=0.05)) == ["movements and class disagree"]
    assert doubts(clip(), guide=guide(sadness=0.55, happiness=0.05)) == [], "not sure of the other class"
    assert doubts(clip(), guide=guide(sadness=0.7, happiness=0.2)) == [], "the answer is not excluded"
    assert doubts(clip(), guide=guide(happiness=0.9)) == []
    other_labels = replace(guide(sadness=0.7), labels=("a", "b", "c", "d", "e", "f", "g"))
    assert doubts(clip(), guide=other_labels) == [], "a guide with other classes cannot disagree"


def test_several_people() -> None:
    assert doubts(clip(), num_people=2) == ["several people"]


def test_final_doubts_come_first() -> None:
    found = find_doubts(clip(pixels=10), RISING, None, "happiness", yaw_degrees=40, num_people=3, has_neutral=False)
    assert [d.is_final for d in found] == [True, False, False]


def verdict(confidence: float, *found: Doubt, seen: str = "ok") -> tuple[str, str]:
    probabilities = np.full(7, (1 - confidence) / 6)
    probabilities[3] = confidence
    got = judge(probabilities, found, Thresholds(plain=0.5, in_doubt=0.8), status(seen))
    return got.status, got.abstain_reason


def status(word: str, message: str = "") -> ClipStatus:
    return ClipStatus(status=word, message=message, coverage=0.75, detector="haar", end_seconds=2.5)


SOME = Doubt(reason="turned face", sentence="the head is turned")
FINAL = Doubt(reason="tiny face", sentence="the face is tiny", is_final=True)


def test_thresholds() -> None:
    assert verdict(0.51) == ("ok", "")
    assert verdict(0.49) == ("abstain", "little evidence")
    assert verdict(0.79, SOME) == ("abstain", "turned face")
    assert verdict(0.81, SOME) == ("ok", "")
    assert verdict(0.99, FINAL) == ("abstain", "tiny face")
    assert verdict(0.49, FINAL) == ("abstain", "little evidence")


@pytest.mark.parametrize("seen", ["truncated", "low_coverage", "too_short", "ok"])
def test_an_answer_keeps_the_status_of_its_frames_and_an_abstention_replaces_it(seen: str) -> None:
    assert verdict(0.9, seen=seen) == (seen, "")
    assert verdict(0.4, seen=seen) == ("abstain", "little evidence")


def test_a_message_has_every_reason() -> None:
    got = judge(np.full(7, 1 / 7), (SOME,), Thresholds(plain=0.5), status("truncated", "the file ends early"))
    assert got.message == "the file ends early; no class reaches 0.50; the head is turned"


def test_rows() -> None:
    place = Place(input="a.mp4", clip_id="a.mp4#3.1", track_id=1, window=3, start_seconds=0.5)
    probabilities = np.array([0.1, 0.1, 0.1, 0.4, 0.1, 0.1, 0.1])
    answered = answer_row(place, status("low_coverage", "weak"), BASIC, probabilities, front_end="pixels")
    assert (answered.label, answered.status, answered.message) == ("happiness", "low_coverage", "weak")
    assert (answered.num_frames, answered.num_face_frames) == (16, 12)
    assert (answered.detector, answered.front_end) == ("haar", "pixels")
    assert (answered.start_seconds, answered.end_seconds, answered.window, answered.track_id) == (0.5, 2.5, 3, 1)
    unsure = Verdict(status="abstain", abstain_reason="turned face", message="the head is turned")
    abstained = answer_row(place, status("ok"), BASIC, probabilities, front_end="pixels", verdict=unsure)
    assert (abstained.label, abstained.status, abstained.abstain_reason) == (None, "abstain", "turned face")
    assert abstained.confidence == 0.4
    nothing = answer_row(place, unreadable("no such file"), BASIC, front_end="pixels")
    assert (nothing.label, nothing.probabilities, nothing.num_frames, nothing.num_face_frames) == (None, None, 0, 0)
