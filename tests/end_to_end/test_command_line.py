"""What a user meets: verbs, tables, sentences, exit codes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd
import pytest

from dferkit.labels import BASIC

VERBS = (
    "demo",
    "synth",
    "pretrain",
    "train",
    "evaluate",
    "calibrate",
    "compare",
    "predict",
    "explain",
    "report",
    "doctor",
)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help_text(run, verb):
    done = run(verb, "--help")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) > 8


def test_unknown_option_is_wrong_usage(run):
    assert run("predict", "--nonsense").returncode == 2


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, clips) -> Path:
    """A folder of good and bad files."""
    folder = tmp_path_factory.mktemp("inputs")
    good = clips / "videos" / "clip00001.mp4"
    shutil.copy(good, folder / "good.mp4")
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("this is no video\n" * 50)
    cv2.imwrite(str(folder / "picture.jpg"), np.zeros((64, 64, 3), np.uint8))
    data = good.read_bytes()
    (folder / "no_index.mp4").write_bytes(data[: len(data) // 3])
    with av.open(str(folder / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    grey = np.full((16, 112, 112, 3), 128, np.uint8)
    from dferkit.synthetic import write_video

    write_video(folder / "nobody.mp4", grey, 8.0)
    return folder


def test_predict_gives_one_row_per_input_and_the_right_sentence(run, inputs, tmp_path):
    names = [
        "good.mp4",
        "empty.mp4",
        "text.mp4",
        "picture.jpg",
        "no_index.mp4",
        "sound.mp4",
        "nobody.mp4",
        "missing.mp4",
    ]
    done = run("predict", *[inputs / n for n in names], "--out", tmp_path / "out", "--face", "haar")
    assert done.returncode == 1
    table = pd.read_csv(tmp_path / "out" / "predictions.csv").set_index("input")
    assert list(table.index) == names
    status = table["status"].to_dict()
    assert status["nobody.mp4"] == "no_face"
    assert all(
        status[n] == "unreadable"
        for n in ("empty.mp4", "text.mp4", "picture.jpg", "no_index.mp4", "sound.mp4", "missing.mp4")
    )
    assert status["good.mp4"] in ("ok", "abstain")
    assert table.loc["nobody.mp4", list(BASIC)].isna().all()
    assert pd.isna(table.loc["nobody.mp4", "label"])
    good = table.loc["good.mp4"]
    assert good[list(BASIC)].sum() == pytest.approx(1, abs=1e-5)
    assert "rendered" in good["trained_on"]
    assert "UNCALIBRATED" in good["calibration"]
    assert "sound but no picture" in table.loc["sound.mp4", "message"]
    assert "JPEG" in table.loc["picture.jpg", "message"]
    assert "not found" in table.loc["missing.mp4", "message"]
    frames = pd.read_csv(tmp_path / "out" / "frames.csv")
    assert (frames[frames.input == "good.mp4"]["success"] == 1).all()
    assert len(frames[frames.input == "good.mp4"]) == 16
    assert (frames[frames.input == "nobody.mp4"]["success"] == 0).all()
    alignments = pd.read_csv(tmp_path / "out" / "alignments.csv")
    sums = alignments.groupby(["clip_id", "word_index"])["weight"].sum()
    assert np.allclose(sums, 1, atol=1e-4)
    assert json.loads((tmp_path / "out" / "run.json").read_text())
    assert not (tmp_path / "out" / "report.html").exists()


def test_nothing_readable_is_exit_code_3(run, inputs):
    done = run("predict", inputs / "text.mp4", inputs / "empty.mp4", inputs / "picture.jpg")
    assert done.returncode == 3
    assert "Faces found by" not in done.stderr, "nothing was read"
    assert "3 files: 3 unreadable" in done.stderr
    assert "or a folder of numbered pictures" in " ".join(done.stdout.split())


def test_same_names_and_nothing_readable_is_exit_code_3(run_here, tmp_path):
    for name in ("s1/cam/x.mp4", "s2/cam/x.mp4"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("no video")
    assert run_here("predict", "s1/cam/x.mp4", "s2/cam/x.mp4", cwd=tmp_path).returncode == 3
    done = run_here("predict", ".", "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 3
    assert list(pd.read_csv(tmp_path / "out" / "predictions.csv")["input"]) == [
        f"{tmp_path.name}/{session}/cam/x.mp4" for session in ("s1", "s2")
    ]


def test_a_folder_of_numbered_pictures_is_a_video(run_here, inputs, tmp_path):
    frames = tmp_path / "clips" / "clip12"
    frames.mkdir(parents=True)
    shutil.copy(inputs / "good.mp4", tmp_path / "clips")
    with av.open(str(inputs / "good.mp4")) as video:
        for number, frame in enumerate(video.decode(video=0), 1):
            cv2.imwrite(str(frames / f"{number}.png"), frame.to_ndarray(format="bgr24"))
    done = run_here("predict", tmp_path / "clips", "--face", "haar", "--landmarker", "none", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "out" / "predictions.csv").set_index("input")
    assert list(table.index) == ["clips/clip12", "clips/good.mp4"]
    assert table["t_end"].tolist() == [pytest.approx(16 / 25), 2.0]  # pictures are taken for 25 a second
    # The same frames: the crops are equal, only times differ.
    read = pd.read_csv(tmp_path / "out" / "frames.csv").groupby("input")
    boxes = ["FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight"]
    np.testing.assert_allclose(*(read.get_group(name)[boxes] for name in table.index), atol=1.0)
    done = run_here("explain", frames, "--out", tmp_path / "why")
    assert done.returncode == 0, done.stderr
    assert pd.read_csv(tmp_path / "why" / "predictions.csv")["input"].tolist() == ["clip12"]


def test_quiet_still_names_what_could_not_be_read(run, inputs):
    done = run("predict", inputs / "good.mp4", inputs / "text.mp4", "--quiet")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("text.mp4: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_without_videos_is_one_sentence(run, tmp_path):
    done = run("predict", tmp_path)
    assert done.returncode == 3
    assert "holds no video" in done.stderr
    assert done.stdout == ""


def test_only_answers_is_exit_code_0_also_without_a_face(run, inputs, tmp_path):
    done = run("predict", inputs / "nobody.mp4", "--face", "haar")
    assert done.returncode == 0
    assert "if there is a face, try --face yunet (dferkit models get yunet)" in " ".join(done.stdout.split())
    done = run("explain", inputs / "nobody.mp4", "--face", "haar", "--out", tmp_path / "why")
    assert done.returncode == 0
    assert "no face in 16 sampled frames" in done.stdout
    assert "there is nothing to explain" in done.stdout
    assert not (tmp_path / "why").exists()
    assert run("explain", inputs / "text.mp4", "--out", tmp_path / "why").returncode == 3


def test_windows_are_counted_where_a_file_has_several(run, inputs):
    done = run("predict", inputs / "good.mp4", "--face", "haar", "--window", "1")
    assert "1 file: " in done.stderr
    assert "; 2 windows: " in done.stderr


def test_unknown_checkpoint_and_detector_are_wrong_usage(run, inputs):
    done = run("predict", inputs / "good.mp4", "--checkpoint", "bax")
    assert done.returncode == 2
    assert "box" in done.stderr
    done = run("predict", inputs / "good.mp4", "--face", "harr")
    assert done.returncode == 2
    assert "haar" in done.stderr


def test_a_report_without_a_folder_is_refused(run, inputs):
    done = run("predict", inputs / "good.mp4", "--report")
    assert done.returncode == 2
    assert "give --out DIR" in done.stderr


def test_evaluate_refuses_unknown_labels_with_the_nearest_name(run, clips, tmp_path):
    text = (clips / "clips.csv").read_text().replace(",happiness,", ",hapiness,")
    broken = clips / "broken.csv"
    broken.write_text(text)
    done = run("evaluate", "--data", broken, "--out", tmp_path)
    broken.unlink()
    assert done.returncode == 2
    assert "did you mean 'happiness'" in done.stderr
    assert "broken.csv:" in done.stderr


def test_a_person_in_two_splits_is_refused(run, clips, tmp_path):
    rows = (clips / "clips.csv").read_text().splitlines()
    first = rows[1].split(",")
    first[2] = "test" if first[2] == "train" else "train"
    leak = clips / "leak.csv"
    leak.write_text("\n".join([rows[0], ",".join(first), *rows[2:]]))
    done = run("train", "grace", "--data", leak, "--out", tmp_path)
    leak.unlink()
    assert done.returncode == 2
    assert "more than one split" in done.stderr


def test_train_evaluate_predict_explain_report(run, clips, tmp_path):
    manifest = clips / "clips.csv"
    done = run(
        "train",
        "grace",
        "--data",
        manifest,
        "--out",
        tmp_path / "run",
        "--set",
        "training.epochs=4",
        "--set",
        "training.batch=16",
    )
    assert done.returncode == 0, done.stderr
    checkpoint = tmp_path / "run" / "checkpoints" / "grace"
    done = run("evaluate", "--data", manifest, "--checkpoint", checkpoint, "--out", tmp_path / "scores")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert {"labels", "uar", "war", "per_class_recall", "confusion", "num_clips", "num_failed"} <= set(metrics)
    table = pd.read_csv(tmp_path / "scores" / "predictions.csv")
    truth = pd.read_csv(manifest).set_index("video")["label"]
    tests = pd.read_csv(manifest).query("split == 'test'")
    assert sorted(table["input"]) == sorted(tests["video"])
    # Every score can be recomputed from the stored predictions.
    right = table["label"].to_numpy() == truth[table["input"]].to_numpy()
    assert metrics["war"] == pytest.approx(right.mean(), abs=1e-12)
    recalls = [right[truth[table["input"]].to_numpy() == label].mean() for label in BASIC]
    assert metrics["uar"] == pytest.approx(np.mean(recalls), abs=1e-12)
    script = Path(__file__).parents[2] / "scripts" / "recompute"
    again = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "scores")], capture_output=True, text=True, timeout=120
    )
    assert again.returncode == 0, again.stdout + again.stderr
    done = run("compare", tmp_path / "scores", tmp_path / "scores")
    assert done.returncode == 0, done.stderr
    assert "McNemar's exact p = 1.000" in done.stdout
    # One clip answers alike in both verbs: both look at its 16 frames.
    one = tests["video"].iloc[0]
    run("predict", clips / one, "--checkpoint", checkpoint, "--face", "haar", "--out", tmp_path / "one")
    alone = pd.read_csv(tmp_path / "one" / "predictions.csv").iloc[0]
    assert np.allclose(
        alone[list(BASIC)].astype(float), table.set_index("input").loc[one, list(BASIC)].astype(float), atol=2e-3
    )
    done = run("explain", clips / one, "--checkpoint", checkpoint, "--out", tmp_path / "why")
    assert done.returncode == 0, done.stderr
    about = json.loads((tmp_path / "why" / "run.json").read_text())
    assert about["settings"]["window_seconds"] == 2.0
    assert about["seconds"]["explain"] > 0
    assert (tmp_path / "why" / "report.html").stat().st_size > 20_000
    assert cv2.imread(str(tmp_path / "why" / "explanation.png")) is not None
    done = run("report", tmp_path / "one")
    assert done.returncode == 0, done.stderr


def test_settings_are_refused_before_any_video_is_read(run, clips, tmp_path):
    for setting in ("model.dim=48", "training.epoch=3"):
        done = run("train", "grace", "--data", clips / "clips.csv", "--out", tmp_path, "--set", setting)
        assert done.returncode == 2
        assert "faces and tokens" not in done.stderr
    assert not (tmp_path / "cache").exists()


def test_unknown_setting_names_the_nearest(run, clips, tmp_path):
    done = run("train", "grace", "--data", clips / "clips.csv", "--out", tmp_path, "--set", "training.epoch=3")
    assert done.returncode == 2
    assert "epochs" in done.stderr


def test_same_training_gives_the_same_bytes_and_videomae_runs(run, clips, tmp_path):
    for name in ("a", "b"):
        done = run(
            "train",
            "grace",
            "--data",
            clips / "clips.csv",
            "--out",
            tmp_path / name,
            "--encoder",
            "videomae",
            "--set",
            "training.epochs=1",
        )
        assert done.returncode == 0, done.stderr
    files = [(tmp_path / n / "checkpoints" / "grace" / "model.safetensors").read_bytes() for n in ("a", "b")]
    assert files[0] == files[1]


def test_quick_demo_explains_one_clip(run, tmp_path):
    done = run("demo", "--out", tmp_path, "--quick")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "first" / "report.html").read_text()
    assert "apparent expression" in page.lower()
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_predict_from_an_installed_wheel(inputs, tmp_path):
    """The built wheel holds the box: nothing is trained, nothing is fetched."""
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", tmp_path, root], check=True, timeout=300
    )
    wheel = next(tmp_path.glob("dferkit-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        box = [i for i in archive.infolist() if "/data/box/" in i.filename]
        assert sum(i.file_size for i in box) <= 8_000_000
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "-q", "--target", tmp_path / "site", wheel],
        check=True,
        timeout=300,
    )
    code = (
        "import sys, socket; sys.path.insert(0, sys.argv[1])\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = refuse\n"
        "import dferkit; assert dferkit.__file__.startswith(sys.argv[1])\n"
        "r = dferkit.load(face='haar').predict(sys.argv[2]); print(r.status, r.probs.sum())"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, tmp_path / "site", inputs / "good.mp4"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] in ("ok", "abstain")


def test_training_names_clips_that_cannot_be_read(run, clips, tmp_path):
    """With the reason, on the screen and in train.json; where one class is left, the reason for that is given."""
    rows = pd.read_csv(clips / "clips.csv", dtype=str).drop_duplicates("label").iloc[:3][["video", "label"]]
    rows["video"] = [*rows["video"][:2], "gone.mp4"]
    table = clips / "with_a_missing_one.csv"
    try:
        rows.to_csv(table, index=False)
        done = run("train", "class_prior", "--data", table, "--out", tmp_path / "run", "--workers", 1)
        assert done.returncode == 1, done.stderr
        assert "2 clips, 1 clip could not be used" in done.stdout
        assert "not used: gone.mp4: unreadable: gone.mp4: not found" in done.stderr
        unused = json.loads((tmp_path / "run" / "train.json").read_text())["unused"]
        assert list(unused) == ["gone.mp4"]
        rows.iloc[1:].to_csv(table, index=False)
        done = run("train", "class_prior", "--data", table, "--out", tmp_path / "one", "--workers", 1)
        assert done.returncode == 3
        assert "clips that cannot be read or show no face are left out" in done.stderr
    finally:
        table.unlink()
