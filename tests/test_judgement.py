"""Answers and abstentions: each doubt by a case made for it, each threshold at both of its sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dferkit.faces.read import WindowFaces
from dferkit.facs import AU_NAMES
from dferkit.judgement import Doubt, Thresholds, find_doubts, judge
from dferkit.labels import BASIC
from dferkit.schema import ActionUnits, CoarsePrediction, DecodeReport, FaceClip, FaceQuality, FaceTrack
from dferkit.video import Window

FRAMES = 16


def clip(*, pixels: float = 120.0, coverage: float = 1.0) -> FaceClip:
    found = np.arange(FRAMES) < round(coverage * FRAMES)
    return FaceClip(
        images=np.zeros((FRAMES, 8, 8, 3), np.uint8),
        timestamps=np.arange(FRAMES) / 8,
        track=FaceTrack(track_id=0, boxes=np.ones((FRAMES, 4)), scores=np.ones(FRAMES), found=found, front_end="haar"),
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


def test_movements_that_speak_for_another_class() -> None:
    assert doubts(clip(), guide=guide(sadness=0.7, happiness=0.05)) == ["movements and class disagree"]
    assert doubts(clip(), guide=guide(sadness=0.55, happiness=0.05)) == [], "not sure of the other class"
    assert doubts(clip(), guide=guide(sadness=0.7, happiness=0.2)) == [], "the answer is not excluded"
    assert doubts(clip(), guide=guide(happiness=0.9)) == []
    other_labels = replace(guide(sadness=0.7), labels=("a", "b", "c", "d", "e", "f", "g"))
    assert doubts(clip(), guide=other_labels) == [], "a guide with other classes cannot disagree"


def test_several_people() -> None:
    assert doubts(clip(), num_people=2) == ["several people"]


def test_what_nothing_outweighs_comes_first() -> None:
    found = find_doubts(clip(pixels=10), RISING, None, "happiness", yaw_degrees=40, num_people=3, has_neutral=False)
    assert [d.is_final for d in found] == [True, False, False]


def window(num_people: int = 1, num_clips: int = 1, *, truncated: bool = False, different: int = FRAMES) -> WindowFaces:
    return WindowFaces(
        window=Window(number=0, start_seconds=0.0, end_seconds=2.0, sample_times=np.arange(FRAMES) / 8),
        timestamps=np.arange(FRAMES) / 8,
        indices=np.minimum(np.arange(FRAMES), different - 1),
        report=DecodeReport(num_requested=FRAMES, num_decoded=FRAMES - truncated, is_truncated=truncated),
        clips=(clip(),) * num_clips,
        num_people=num_people,
        frame_size=(640, 480),
    )


def verdict(
    confidence: float, *found: Doubt, faces: WindowFaces | None = None, seen: FaceClip | None = None
) -> tuple[str, str]:
    probabilities = np.full(7, (1 - confidence) / 6)
    probabilities[3] = confidence
    limits = Thresholds(plain=0.5, in_doubt=0.8)
    got = judge(probabilities, found, limits, faces or window(), seen or clip(), is_truncated=False)
    return got.status, got.abstain_reason


SOME = Doubt(reason="turned face", sentence="the head is turned")
FINAL = Doubt(reason="tiny face", sentence="the face is tiny", is_final=True)


def test_thresholds() -> None:
    assert verdict(0.51) == ("ok", "")
    assert verdict(0.49) == ("abstain", "little evidence")
    assert verdict(0.79, SOME) == ("abstain", "turned face")
    assert verdict(0.81, SOME) == ("ok", "")
    assert verdict(0.99, FINAL) == ("abstain", "tiny face")
    assert verdict(0.49, FINAL) == ("abstain", "little evidence")


def test_statuses_and_messages() -> None:
    assert verdict(0.9, faces=window(truncated=True)) == ("truncated", "")
    assert verdict(0.9, faces=window(different=5)) == ("too_short", "")
    assert verdict(0.9, seen=clip(coverage=0.4)) == ("low_coverage", "")
    probabilities = np.full(7, 1 / 7)
    got = judge(probabilities, (SOME,), Thresholds(plain=0.5), window(3, 3), clip(), is_truncated=True)
    assert got.status == "abstain"
    for part in ("ends early", "no class reaches 0.50", "the head is turned", "3 people found"):
        assert part in got.message
