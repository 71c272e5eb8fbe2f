"""Summaries of answers: per person, and over the windows that were answered."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest

from dferkit.errors import ConfigError, DataError
from dferkit.labels import BASIC
from dferkit.pipeline import Answer, Model, ReadingSettings, Result, Results, load
from dferkit.reports.tables import Provenance
from dferkit.schema import Prediction
from dferkit.synthetic import BenchmarkConfig, render_benchmark, write_video

SURE, UNSURE = 0.9, 0.2


def answer(label: str, confidence: float = SURE, *, window: int = 0, person: int | None = 0, name: str = "a.mp4"):
    probabilities = np.full(len(BASIC), (1 - confidence) / 6)
    probabilities[BASIC.index(label)] = confidence
    abstains = confidence < 0.5
    return Answer(
        prediction=Prediction(
            input=name,
            clip_id=f"{name}#{window}",
            track_id=person or 0,
            window=window,
            start_seconds=2.0 * window,
            end_seconds=2.0 * window + 2,
            labels=BASIC,
            label=None if abstains else label,
            probabilities=probabilities,
            status="abstain" if abstains else "ok",
        ),
        person=person,
    )


def nobody(window: int, name: str = "a.mp4") -> Answer:
    row = Prediction(
        input=name, clip_id="", track_id=-1, window=window, start_seconds=0, end_seconds=2, labels=BASIC, label=None,
        probabilities=None, status="no_face", message="no face",
    )  # fmt: skip
    return Answer(prediction=row)


def result(*answers: Answer) -> Result:
    return Result(answers=answers, provenance=Provenance(model="grace", front_end="pixels"))


def test_windows_that_abstained_do_not_count() -> None:
    found = result(answer("fear"), answer("sadness", UNSURE, window=1), answer("sadness", UNSURE, window=2), nobody(3))
    assert (found.label, found.status) == ("fear", "ok")
    assert found.confidence == pytest.approx(SURE)
    assert found.probs["sadness"] == pytest.approx(0.1 / 6)


def test_the_mean_of_answered_windows() -> None:
    found = result(answer("fear", 0.6), answer("anger", 0.9, window=1), answer("fear", 0.9, window=2))
    assert found.label == "fear"
    assert found.confidence == pytest.approx((0.6 + 0.1 / 6 + 0.9) / 3)


def test_each_person_has_a_summary_and_the_video_has_none() -> None:
    found = result(
        answer("fear", person=0),
        answer("happiness", person=1),
        answer("fear", 0.7, window=1, person=0),
        answer("happiness", UNSURE, window=1, person=1),
        answer("anger", UNSURE, window=1, person=2),
    )
    assert [(p.person, p.label, p.status) for p in found.people] == [
        (0, "fear", "ok"),
        (1, "happiness", "ok"),
        (2, None, "abstain"),
    ]
    assert [p.confidence for p in found.people[:2]] == pytest.approx([0.8, 0.9])
    assert np.isnan(found.people[2].confidence)
    for attribute in ("label", "confidence", "probs"):
        with pytest.raises(DataError, match=r"a\.mp4 shows 3 people, .* result\.people"):
            getattr(found, attribute)
    assert "3 people: fear, happiness, no label" in repr(found)


def test_without_an_answer() -> None:
    for found, status in ((result(nobody(0)), "no_face"), (result(answer("fear", UNSURE), nobody(1)), "abstain")):
        assert found.label is None
        assert np.isnan(found.confidence)
        assert found.probs.isna().all()
        assert found.status == status
        assert "no label" in repr(found)


def test_several_inputs_have_a_result_each() -> None:
    many = Results(
        answers=(answer("fear"), nobody(1), answer("anger", name="b.mp4")),
        provenance=Provenance(model="grace", front_end="pixels"),
    )
    first, second = many.results
    assert (first.label, len(first.answers), second.label) == ("fear", 2, "anger")
    assert repr(many) == "Results(3 rows: 2 ok, 1 no_face)"


@pytest.fixture(scope="module")
def model() -> Model:
    return load(face="haar", landmarker="none")


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Two people's videos of four seconds, and one that shows both side by side: the second one larger, and the first gone at the end."""
    folder = tmp_path_factory.mktemp("sides")
    render_benchmark(BenchmarkConfig(clips=14, seed=5), folder, workers=1)
    table = pd.read_csv(folder / "clips.csv")
    people = list(dict.fromkeys(table["subject"]))[:2]
    videos = [frames_of(folder, table[table["subject"] == person]["video"].iloc[:2]) for person in people]
    names = folder / "left.mp4", folder / "right.mp4", folder / "both.mp4"
    write_video(names[0], videos[0], 8.0)
    write_video(names[1], videos[1], 8.0)
    write_video(names[2], np.concatenate(videos, 2), 8.0)
    return names


def frames_of(folder: Path, videos: pd.Series) -> np.ndarray:
    frames = []
    for video in videos:
        with av.open(str(folder / video)) as container:
            frames += [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames)


def test_two_people_are_answered_as_each_alone(model: Model, sides: tuple[Path, Path, Path]) -> None:
    both = model.predict(sides[2], people="all")
    assert isinstance(both, Result)
    assert len(both.people) == 2
    assert all(len(person.predictions) == 2 for person in both.people)
    boxes = {
        a.person: np.nanmean(a.reading.clip.track.boxes[:, 0])
        for a in both.answers
        if a.reading and a.person is not None
    }
    for person, alone in zip(sorted(boxes, key=lambda p: boxes[p]), sides[:2], strict=True):
        wanted = np.stack([p.probabilities for p in model.predict(alone).predictions])
        found = np.stack([p.probabilities for p in both.people[person].predictions])
        assert np.abs(found - wanted).max() < 0.2, "the face is cut a little differently beside another"
    assert isinstance(model.predict(sides[2]), Result)
    assert len(model.predict(sides[2]).people) == 1, "the largest face of each window"


def test_what_is_fixed_when_a_model_is_loaded_is_no_setting_of_a_call(
    model: Model, sides: tuple[Path, Path, Path]
) -> None:
    for fixed in ("face", "landmarker"):
        with pytest.raises(TypeError, match=fixed):
            ReadingSettings(**{fixed: "cropped"})
    with load(face="cropped", landmarker="none") as cropped:
        [row] = cropped.predict(sides[0], window=4.0).predictions
    assert (row.detector, row.front_end) == ("cropped", "pixels")
    assert model.predict(sides[0], window=4.0).predictions[0].detector == "haar"


def test_a_call_changes_what_it_may(model: Model, sides: tuple[Path, Path, Path]) -> None:
    assert [p.start_seconds for p in model.predict(sides[0], window=1.0, stride=2.0).predictions] == [0, 2]
    whole = list(model.answers(sides[0], settings=ReadingSettings(whole_clip=True)))
    assert len(whole) == 1
    with pytest.raises(ConfigError, match="choose largest or all"):
        model.predict(sides[0], people="both")
    with pytest.raises(ConfigError, match="this one reads pixels"):
        list(model.answers(sides[0], settings=ReadingSettings(neutral=str(sides[1]))))


def test_a_folder_of_pictures_is_a_video(model: Model, sides: tuple[Path, Path, Path], tmp_path: Path) -> None:
    import cv2

    with av.open(str(sides[0])) as container:
        for number, frame in enumerate(container.decode(video=0)):
            cv2.imwrite(str(tmp_path / f"{number}.png"), frame.to_ndarray(format="bgr24"))
    row = model.predict(tmp_path).predictions[0]
    assert row.status in ("ok", "abstain")
    shutil.rmtree(tmp_path)
    assert model.predict(tmp_path).status == "unreadable"
