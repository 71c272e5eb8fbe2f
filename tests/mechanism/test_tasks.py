"""The tasks say the truth about their videos, and neither text nor video alone gives the label away."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from dferkit.facs import AU_NAMES
from dferkit.labels import BASIC
from dferkit.mechanism.tasks import DROPOUT, POOL, QUESTIONS, TASKS, draw_people, draw_video, person_name
from dferkit.synthetic.motion import Performance

VIDEOS = range(60)


def peak_seconds(face: Performance, unit: str) -> float:
    """When a movement is strongest; it must be clear."""
    curve = face.au[:, AU_NAMES.index(unit)]
    assert curve.max() > 0.4
    return float(curve.argmax()) / 8


def units_of(caption: object) -> list[str]:
    return [phrase.action_unit for phrase in caption.phrases]  # type: ignore[attr-defined]


def test_which_when_names_the_half_in_which_the_movement_peaks() -> None:
    for number in VIDEOS:
        (face,), questions = draw_video(TASKS["which_when"], "train", 0, number)
        assert Counter(q.label for q in questions) == {"early": 2, "late": 2}
        for question in questions:
            (unit,) = units_of(question.caption)
            assert question.label == ("early" if peak_seconds(face, unit) < 1 else "late")
        moving = {AU_NAMES[i] for i in np.flatnonzero(face.au.max(0) > 0.1)}
        assert moving == {units_of(q.caption)[0] for q in questions} <= set(POOL)


def test_order_matches_when_the_first_movement_peaks_first() -> None:
    for number in VIDEOS:
        (face,), questions = draw_video(TASKS["order"], "train", 0, number)
        assert Counter(q.label for q in questions) == {"match": 2, "mismatch": 2}
        for question in questions:
            first, then = (
                next(p.action_unit for p in question.caption.phrases if p.text.endswith(times))
                for times in ("0.0–1.0 s", "1.0–2.0 s")
            )
            assert (question.label == "match") == (peak_seconds(face, first) < peak_seconds(face, then))


def test_two_faces_asks_for_the_movement_of_one_side() -> None:
    for number in VIDEOS:
        faces, questions = draw_video(TASKS["two_faces"], "train", 0, number)
        for question in questions:
            side = 0 if "left" in question.caption.text.lower() else 1
            assert AU_NAMES[int(faces[side].au.max(0).argmax())] == question.label
            assert AU_NAMES[int(faces[1 - side].au.max(0).argmax())] != question.label


def test_short_event_is_in_the_half_of_the_movement_to_watch() -> None:
    for number in VIDEOS:
        (face,), questions = draw_video(TASKS["short_event"], "train", 0, number)
        for question in questions:
            wanted = next(p.action_unit for p in question.caption.phrases if p.text.lower().startswith("watch"))
            assert question.label == ("first half" if peak_seconds(face, wanted) < 4 else "second half")
            active = (face.au[:, AU_NAMES.index(wanted)] > 0.2).sum() / 8
            assert 0.2 < active <= 1.0
        assert face.scene.speech.max() > 0.1


def test_captions_of_expressions_miss_three_in_ten_movements_and_say_no_class() -> None:
    named, shown, false = 0, 0, 0
    for number in range(150):
        (face,), questions = draw_video(TASKS["expression"], "train", 0, number)
        strong = {AU_NAMES[i] for i in np.flatnonzero((face.au > 0.35).sum(0) >= 5)} - {"AU43", "AU45"}
        for question in questions:
            assert question.label == face.label
            assert not any(word in question.caption.text.lower() for word in BASIC)
            said = set(units_of(question.caption)) - {""}
            named, shown = named + len(said & strong), shown + len(strong)
            false += bool(said - {AU_NAMES[i] for i in np.flatnonzero(face.au.max(0) >= 0.2)})
    assert named / shown == pytest.approx(1 - DROPOUT, abs=0.05)
    assert false > 50


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.text_only is not None])
def test_a_caption_alone_does_not_give_the_label(name: str) -> None:
    """Counted over many videos: knowing the caption, the commonest label is hardly more frequent than chance."""
    task, labels = TASKS[name], defaultdict(Counter)
    for number in range(900):
        for question in draw_video(task, "test", 0, number)[1]:
            labels[question.caption.text][question.label] += 1
    frequent = {text: count for text, count in labels.items() if sum(count.values()) >= 60}
    assert sum(sum(c.values()) for c in frequent.values()) > 0.5 * 900 * QUESTIONS
    shares = [max(c.values()) / sum(c.values()) - 1 / len(task.labels) for c in frequent.values()]
    assert np.mean(shares) < 0.09  # the maximum of a few counts of 60 lies a little above chance by itself


@pytest.mark.parametrize("name", TASKS)
def test_same_numbers_same_draw_and_other_people_on_the_test_side(name: str) -> None:
    task = TASKS[name]
    one, again, other = (draw_video(task, side, 0, 7) for side in ("train", "train", "test"))
    assert all(np.array_equal(a.au, b.au) for a, b in zip(one[0], again[0], strict=True))
    assert not all(np.array_equal(a.au, b.au) for a, b in zip(one[0], other[0], strict=True))
    assert person_name(task, "train", 0, 7) != person_name(task, "test", 0, 7)
    people = [draw_people(task, side, 0, 7)[0] for side in ("train", "test")]
    assert not np.array_equal(people[0].half_width, people[1].half_width)
    assert len(one[1]) == QUESTIONS
