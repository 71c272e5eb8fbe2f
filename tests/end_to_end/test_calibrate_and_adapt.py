"""A lab's few dozen clips: calibrate a checkpoint on them, or adapt it to them."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from dferkit.encoders.box import BOX_FOLDER
from dferkit.evaluation.metrics import negative_log_likelihood
from dferkit.labels import BASIC
from dferkit.models.checkpoint import load_checkpoint

BOX = BOX_FOLDER / "grace"
KIND = load_checkpoint(BOX).name  # an adapted checkpoint has the name of the model that it started from


def write_manifest(path: Path, rows: list[dict[str, str]], columns: tuple[str, ...]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def rows(clips) -> list[dict[str, str]]:
    """Twenty-eight clips of the rendered benchmark, of fourteen people."""
    return pd.read_csv(clips / "clips.csv", dtype=str).iloc[:28].to_dict("records")


@pytest.fixture(scope="module")
def own(clips, rows) -> Iterator[Path]:
    """They as a lab has them: no split."""
    path = write_manifest(clips / "own.csv", rows, ("video", "label", "subject"))
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def calibrated(run_here, own, tmp_path_factory):
    out = tmp_path_factory.mktemp("calibrated")
    done = run_here("calibrate", "--data", own, "--out", out, "--workers", 1)
    assert done.returncode == 0, done.stderr
    return out, done


def at(p: np.ndarray, temperature: float) -> np.ndarray:
    """The box's probabilities at another temperature than its own, from probabilities alone: p^(own/T), normalised."""
    own = json.loads((BOX / "model.json").read_text())["about"]["temperature"]
    q = p ** (own / temperature)
    return q / q.sum(1, keepdims=True)


def test_calibrate_changes_how_sure_an_answer_is_and_nothing_else(run_here, clips, own, calibrated, tmp_path):
    out, done = calibrated
    figures = json.loads((out / "calibration.json").read_text())
    settings = json.loads((out / "checkpoint" / "model.json").read_text())
    before = json.loads((BOX / "model.json").read_text())
    assert settings["sha256"] == before["sha256"]
    changed = {key for key in settings["about"] if settings["about"][key] != before["about"].get(key)}
    assert changed <= {"temperature", "abstain_below", "abstain_below_in_doubt", "calibration"}
    assert settings["about"]["calibration"] == "calibrated on own.csv (28 clips, 14 people)"
    temperature = settings["about"]["temperature"]
    low, high = figures["temperature"]["ci95"]
    assert low <= temperature == figures["temperature"]["value"] <= high
    for name in ("a", "b"):
        shutil.copytree(out / "cache", tmp_path / name / "cache")
    run_here("evaluate", "--data", own, "--out", tmp_path / "a")
    run_here("evaluate", "--data", own, "--checkpoint", out / "checkpoint", "--out", tmp_path / "b")
    box, new = (pd.read_csv(tmp_path / name / "predictions.csv") for name in "ab")
    p = box[list(BASIC)].to_numpy()
    np.testing.assert_allclose(new[list(BASIC)].to_numpy(), at(p, temperature), rtol=0, atol=1e-9)
    assert set(new["calibration"]) == {settings["about"]["calibration"]}
    true = np.array([BASIC.index(label) for label in box["true_label"]])
    nll = figures["scores"]["negative_log_likelihood"]
    assert nll["before"]["value"] == pytest.approx(negative_log_likelihood(p, true), abs=1e-9)
    # A temperature fitted on the clips themselves beats the one before, and the cross-fitted one.
    inside = negative_log_likelihood(at(p, temperature), true)
    assert inside <= nll["before"]["value"] + 1e-12
    assert inside <= nll["after"]["value"] + 1e-12
    assert figures["folds"] == {"num": 5, "by": "subjects", "temperature": figures["folds"]["temperature"]}
    assert figures["bootstrap"]["draws"] == "subjects"
    assert any("fewer than 100" in warning for warning in figures["warnings"])
    assert "rows marked train or test are never used" in done.stderr
    assert figures["verdict"] in done.stdout
    assert cv2.imread(str(out / "reliability.png")) is not None


def test_predict_and_explain_follow_the_calibration(run_here, clips, rows, calibrated, tmp_path):
    out, _ = calibrated
    video = clips / rows[1]["video"]
    told = {}
    for name, checkpoint in (("box", "box-pixels"), ("new", out / "checkpoint")):
        done = run_here("predict", video, "--checkpoint", checkpoint, "--face", "haar", "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
        told[name] = done.stderr
    assert "not calibrated" in told["box"]
    assert "not calibrated" not in told["new"]
    assert "confidence is calibrated on own.csv (28 clips, 14 people)" in told["new"]
    about = json.loads((out / "checkpoint" / "model.json").read_text())["about"]
    tables = {name: pd.read_csv(tmp_path / name / "predictions.csv") for name in told}
    p = tables["box"][list(BASIC)].to_numpy()
    np.testing.assert_allclose(tables["new"][list(BASIC)], at(p, about["temperature"]), rtol=0, atol=1e-5)
    confidence, named = tables["new"]["confidence"], tables["new"]["label"].notna()
    assert not named[confidence < about["abstain_below"]].any()
    assert named[confidence >= about["abstain_below_in_doubt"]].all()


def test_calibrate_takes_val_rows_and_refuses_what_is_too_little(run_here, clips, rows, tmp_path):
    columns = ("video", "label", "split", "subject")

    def refused(name: str, changed: list[dict[str, str]], code: int, sentence: str) -> None:
        path = write_manifest(clips / name, changed, columns)
        done = run_here("calibrate", "--data", path, "--out", tmp_path / name)
        path.unlink()
        assert done.returncode == code, done.stderr
        assert sentence in done.stderr
        assert not (tmp_path / name).exists()

    val = [{**row, "split": "val" if i < 12 else "train", "subject": f"p{i}"} for i, row in enumerate(rows)]
    refused("few.csv", val, 3, "12 clips to calibrate on; give at least 20")
    one = [{**row, "split": "", "label": "fear"} for row in rows]
    refused("fear.csv", one, 3, "all 28 clips are labelled fear")
    used = [{**row, "split": "test"} for row in rows]
    refused("used.csv", used, 2, "marks every row train or test")


def adapt(run_here, manifest: Path, out: Path, *more: object, cache: Path | None = None):
    if cache is not None:
        shutil.copytree(cache, out / "cache" / "train")
    return run_here("train", "--data", manifest, "--from", "box", "--out", out, "--workers", 1, *more)


@pytest.fixture(scope="module")
def adapted(run_here, own, calibrated, tmp_path_factory):
    """Adapted for one epoch; the faces and tokens of the calibration are those of the training."""
    out = tmp_path_factory.mktemp("adapted")
    done = adapt(run_here, own, out / "a", "--set", "training.epochs=1", cache=calibrated[0] / "cache")
    assert done.returncode == 0, done.stderr
    return out / "a", done


def test_adapted_answers_come_from_other_people(run_here, adapted, calibrated):
    out, done = adapted
    table = pd.read_csv(out / "predictions.csv")
    assert (table.groupby("subject")["fold"].nunique() == 1).all()
    assert table["fold"].nunique() == 5
    figures = json.loads((out / "train.json").read_text())
    assert (figures["train_clips"], figures["people"], figures["folds"]) == (28, 14, 5)
    both = figures["cross_validation"]
    assert both["difference"]["uar"]["value"] == pytest.approx(both["adapted"]["uar"] - both["start"]["uar"])
    assert both["difference"]["intervals_by"] == "subjects"
    assert figures["verdict"] in done.stdout
    # The start's answers are those that evaluate gives it.
    start = pd.read_csv(out / "start" / "predictions.csv").set_index("clip_id")
    metrics = json.loads((out / "start" / "metrics.json").read_text())
    right = (start["label"] == start["true_label"]).mean()
    assert metrics["war"] == pytest.approx(right) == pytest.approx(both["start"]["war"])
    script = Path(__file__).parents[2] / "scripts" / "recompute"
    for folder in (out, out / "start"):
        again = subprocess.run([sys.executable, str(script), str(folder)], capture_output=True, text=True, timeout=120)
        assert again.returncode == 0, again.stdout + again.stderr
    about = json.loads((out / "checkpoints" / KIND / "model.json").read_text())
    box = json.loads((BOX / "model.json").read_text())
    assert about["sha256"]["coarse.safetensors"] == box["sha256"]["coarse.safetensors"]
    assert about["sha256"]["model.safetensors"] != box["sha256"]["model.safetensors"]
    assert about["about"]["start"]["weights_sha256"] == box["sha256"]["model.safetensors"]
    assert "UNCALIBRATED" in about["about"]["calibration"]


def test_same_seed_same_bytes_and_no_epoch_no_change(run_here, own, adapted, calibrated, tmp_path):
    cache = calibrated[0] / "cache"
    done = adapt(run_here, own, tmp_path / "again", "--set", "training.epochs=1", cache=cache)
    assert done.returncode == 0, done.stderr
    model = f"checkpoints/{KIND}"
    names = (f"{model}/model.safetensors", f"{model}/model.json", "train.json", "predictions.csv")
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (adapted[0] / name).read_bytes(), name
    done = adapt(run_here, own, tmp_path / "none", "--set", "training.epochs=0", cache=cache)
    assert done.returncode == 0, done.stderr
    found = tmp_path / "none" / model / "model.safetensors"
    assert found.read_bytes() == (BOX / "model.safetensors").read_bytes()
    figures = json.loads((tmp_path / "none" / "train.json").read_text())
    assert figures["cross_validation"]["difference"]["uar"] == {"value": 0, "ci95": [0, 0]}
    assert "do not show that adapting helps" in done.stdout


def test_rows_of_another_split_are_only_measured(run_here, clips, rows, calibrated, tmp_path):
    people = sorted({row["subject"] for row in rows})
    side = {person: ("test" if i < 4 else "val" if i < 6 else "train") for i, person in enumerate(people)}
    changed = [{**row, "split": side[row["subject"]]} for row in rows]
    path = write_manifest(clips / "sides.csv", changed, ("video", "label", "split", "subject"))
    done = adapt(run_here, path, tmp_path, "--set", "training.epochs=0")
    path.unlink()
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "train.json").read_text())
    counts = {split: sum(row["split"] == split for row in changed) for split in ("train", "val", "test")}
    assert figures["train_clips"] == counts["train"]
    assert [figures[split]["adapted"]["num_clips"] for split in ("val", "test")] == [counts["val"], counts["test"]]
    answered = set(pd.read_csv(tmp_path / "predictions.csv")["clip_id"])
    assert answered == {row["video"] for row in changed if row["split"] == "train"}


def test_what_cannot_be_adapted_is_one_sentence(run_here, clips, rows, own, adapted, tmp_path):
    columns = ("video", "label", "subject")
    cases = (
        ([{**row, "subject": "p"} for row in rows], 3, "all 28 clips are of one person (p)"),
        ([{**row, "label": "anger"} for row in rows], 3, "all 28 clips are labelled anger"),
        ([{**row, "subject": "" if i else "p"} for i, row in enumerate(rows)], 2, "names no subject for 27 clips"),
    )
    for number, (changed, code, sentence) in enumerate(cases):
        path = write_manifest(clips / f"wrong{number}.csv", changed, columns)
        done = adapt(run_here, path, tmp_path / "out")
        path.unlink()
        assert done.returncode == code, done.stderr
        assert sentence in done.stderr
        assert len(done.stderr.splitlines()) == 1
    done = run_here("train", "--data", own, "--from", "bax", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "bax" in done.stderr
    done = run_here("train", "vision_only", "--data", own, "--from", "box", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "leave out the recipe" in done.stderr
    # A model is not judged on the clips that it has learned.
    own_model = adapted[0] / "checkpoints" / KIND
    for verb, option in (("train", "--from"), ("calibrate", "--checkpoint")):
        done = run_here(verb, "--data", own, option, own_model, "--out", tmp_path / "out")
        assert done.returncode == 2
        assert "was trained on 28 of these 28 clips of own.csv" in done.stderr
    other = shutil.copytree(BOX, tmp_path / "other")
    text = (other / "model.json").read_text()
    (other / "model.json").write_text(text.replace(json.loads(text)["about"]["box_digest"], "0" * 64))
    done = run_here("train", "--data", own, "--from", other, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "was trained with another visual encoder" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_other_labels_of_rendered_clips_are_learned(run_here, clips, tmp_path):
    """The lab calls surprise what the box calls happiness, and the other way round: adapting must win."""
    swap = {"happiness": "surprise", "surprise": "happiness"}
    table = pd.read_csv(clips / "clips.csv", dtype=str).to_dict("records")
    changed = [{**row, "label": swap.get(row["label"], row["label"])} for row in table]
    path = write_manifest(clips / "swapped.csv", changed, ("video", "label", "subject"))
    done = adapt(run_here, path, tmp_path)
    path.unlink()
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "train.json").read_text())
    assert figures["cross_validation"]["difference"]["uar"]["ci95"][0] > 0
    assert "adapting helps" in done.stdout
