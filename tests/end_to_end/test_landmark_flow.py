"""The whole way with landmarks, where the extra and the task file are at hand; and what is said where they are not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dferkit.labels import BASIC
from dferkit.model_files import find_model

MEDIA = Path(os.environ.get("DFERKIT_MEDIA", "/nonexistent"))
SMILING = ("pyfeat_single_face.mp4", "ravdess_happy_01-01-03-02-02-01-01.gif")


@pytest.fixture(scope="module")
def task_file() -> Path:
    pytest.importorskip("mediapipe")
    path = find_model("face-landmarker")
    if path is None:
        pytest.skip("DFERKIT_MODELS names no folder with a face landmarker")
    return path


def test_without_a_landmarker_pixels_are_read_and_named(run_here, clips, tmp_path, monkeypatch):
    monkeypatch.delenv("DFERKIT_MODELS", raising=False)
    done = run_here("predict", clips / "videos" / "clip00000.mp4", "--out", tmp_path, "--face", "haar")
    assert done.returncode == 0
    assert pd.read_csv(tmp_path / "predictions.csv").loc[0, ["detector", "front_end"]].tolist() == ["haar", "pixels"]
    assert json.loads((tmp_path / "run.json").read_text())["settings"]["front_end"] == "pixels"


def test_what_is_said_of_wrong_landmarkers(run_here, clips, tmp_path, monkeypatch):
    monkeypatch.delenv("DFERKIT_MODELS", raising=False)
    video = clips / "videos" / "clip00000.mp4"
    missing = run_here("predict", video, "--landmarker", tmp_path / "none.task")
    assert missing.returncode == 2
    assert "dferkit models get face-landmarker" in missing.stderr
    kind = run_here("predict", video, "--landmarker", "mediapipe")
    assert kind.returncode == 2
    assert "give auto, none, or a .task file" in kind.stderr
    for chosen in (("--checkpoint", "box-landmarks"), ("--front-end", "landmarks"), ("--front-end", "both")):
        landmarks = run_here("predict", video, *chosen)
        assert landmarks.returncode == 2
        assert "no face landmarker" in landmarks.stderr
    zero = run_here("predict", video, "--neutral", video)
    assert zero.returncode == 2
    assert "this one reads pixels" in zero.stderr


@pytest.mark.parametrize("verb", ["predict", "explain"])
@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        (("--front-end", "pixel"), "did you mean 'pixels'"),
        (("--front-end", "both", "--checkpoint", "box-pixels"), "the checkpoint was trained on pixels"),
        (("--front-end", "both", "--landmarker", "none"), "reads landmarks, but the landmarker is none"),
        (("--front-end", "pixels", "--landmarker", "x.task"), "this model reads pixels"),
        (("--device", "cuda:99"), "give auto or cpu"),
        (("--device", "tpu"), "give auto, cpu, cuda or cuda:N"),
    ],
)
def test_what_is_said_of_front_ends_and_devices_that_cannot_be(run_here, clips, monkeypatch, verb, chosen, sentence):
    monkeypatch.delenv("DFERKIT_MODELS", raising=False)
    done = run_here(verb, clips / "videos" / "clip00000.mp4", *chosen)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_pixels_are_the_same_chosen_or_found(run_here, clips, tmp_path, monkeypatch):
    monkeypatch.delenv("DFERKIT_MODELS", raising=False)
    tables = []
    for number, chosen in enumerate(
        [(), ("--front-end", "auto"), ("--front-end", "pixels"), ("--checkpoint", "box-pixels", "--device", "cpu")]
    ):
        out = tmp_path / str(number)
        done = run_here("predict", clips / "videos" / "clip00002.mp4", "--face", "haar", "--out", out, *chosen)
        assert done.returncode == 0, done.stderr
        tables.append((out / "predictions.csv").read_bytes())
    assert len(set(tables)) == 1


def test_a_file_that_is_no_landmarker(task_file, run_here, clips, tmp_path):
    broken = tmp_path / "broken.task"
    broken.write_bytes(task_file.read_bytes()[:5000])
    done = run_here("predict", clips / "videos" / "clip00000.mp4", "--landmarker", broken)
    assert done.returncode == 2
    assert "is not a face landmarker" in done.stderr


@pytest.mark.parametrize(
    ("chosen", "front_end"),
    [
        (("--checkpoint", "box"), "landmarks"),
        (("--checkpoint", "box-combined"), "both"),
        (("--front-end", "both"), "both"),
        (("--front-end", "pixels"), "pixels"),
    ],
)
def test_every_front_end_answers_and_names_itself(task_file, run_here, clips, tmp_path, chosen, front_end):
    video = clips / "videos" / "clip00000.mp4"
    done = run_here("predict", video, "--out", tmp_path, "--face", "haar", *chosen, "--report")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert table.loc[0, "front_end"] == front_end
    assert table[list(BASIC)].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-3)
    assert "UNCALIBRATED on real faces" in table.loc[0, "calibration"]
    alignments = pd.read_csv(tmp_path / "alignments.csv")
    wanted = "crop fractions" if front_end == "pixels" else "landmarks"
    assert set(alignments["region_source"]) == {wanted}
    assert np.allclose(alignments.groupby(["clip_id", "word_index"])["weight"].sum(), 1, atol=1e-6)
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_same_video_same_answer(task_file, run_here, clips, tmp_path):
    tables = []
    for name in ("a", "b"):
        run_here("predict", clips / "videos" / "clip00001.mp4", "--out", tmp_path / name, "--face", "haar")
        tables.append((tmp_path / name / "predictions.csv").read_bytes())
    assert tables[0] == tables[1]


def test_a_neutral_clip_is_taken_as_the_zero(task_file, run_here, clips, tmp_path):
    manifest = pd.read_csv(clips / "clips.csv")
    subject = manifest[manifest["label"] == "neutral"].iloc[0]["subject"]
    own = manifest[manifest["subject"] == subject]
    calm, other = own[own["label"] == "neutral"].iloc[0]["video"], own[own["label"] != "neutral"].iloc[0]["video"]
    arguments = ("predict", clips / other, "--face", "haar", "--out")
    run_here(*arguments, tmp_path / "plain")
    done = run_here(*arguments, tmp_path / "zeroed", "--neutral", clips / calm)
    assert done.returncode == 0, done.stderr
    plain, zeroed = (pd.read_csv(tmp_path / name / "predictions.csv") for name in ("plain", "zeroed"))
    assert not np.allclose(plain["confidence"], zeroed["confidence"])
    assert json.loads((tmp_path / "zeroed" / "run.json").read_text())["settings"]["neutral"].endswith(Path(calm).name)
    gone = run_here(*arguments, tmp_path / "gone", "--neutral", tmp_path / "nothing.mp4")
    assert gone.returncode == 2
    assert "nothing.mp4" in gone.stdout + gone.stderr


def test_training_and_testing_on_landmarks(task_file, run_here, clips, tmp_path):
    done = run_here(
        "train", "--data", clips / "clips.csv", "--front-end", "landmarks", "--out", tmp_path / "run", "--set", "training.epochs=2"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    scored = run_here(
        "evaluate", "--data", clips / "clips.csv", "--checkpoint", tmp_path / "run" / "checkpoints" / "grace", "--out", tmp_path / "scores"
    )  # fmt: skip
    assert scored.returncode == 0, scored.stderr
    assert "uar" in json.loads((tmp_path / "scores" / "metrics.json").read_text())


@pytest.mark.skipif(not MEDIA.is_dir(), reason="DFERKIT_MEDIA is not set")
def test_real_people(task_file, run_here, tmp_path):
    """Smiling people come out happy, a calm one neutral or abstained, and the movements that are told are those that are seen."""
    from dferkit.pipeline import load

    model = load(face="haar")
    for name in SMILING:
        for answer in model.answers(MEDIA / name):
            p = answer.prediction
            assert p.status in ("ok", "abstain"), p.message
            assert p.probabilities is not None
            assert p.labels[int(p.probabilities.argmax())] == "happiness"
            assert answer.reading is not None
            assert {phrase.action_unit for phrase in answer.reading.caption.phrases} >= {"AU12"}
    for answer in model.answers(MEDIA / "openwillis_baseline.mp4"):
        assert answer.prediction.label in (None, "neutral")
    for answer in model.answers(MEDIA / "pyfeat_no_face.mp4"):
        assert answer.prediction.status == "no_face"
    model.close()
