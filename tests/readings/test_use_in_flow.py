"""Outside readings in the flow: what stands in is used, is named in every output, and costs only its own video when it is missing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tool_tables import OPENFACE_HEADER, write

from dferkit.errors import ConfigError, ManifestError
from dferkit.evaluation.peers import read_predictions
from dferkit.evaluation.prediction_file import score_pair
from dferkit.labels import BASIC
from dferkit.models.checkpoint import Checkpoint, load_checkpoint
from dferkit.pipeline import ReadingSettings, load
from dferkit.readings import ExternalTools, open_classifier, open_units
from dferkit.recipes.baselines import Baseline, parse_baselines
from dferkit.recipes.data import DataOptions
from dferkit.recipes.evaluate import EvaluationRun, evaluate
from dferkit.recipes.prediction import predict_files
from dferkit.synthetic import BenchmarkConfig, render_benchmark

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("flow")
    render_benchmark(BenchmarkConfig(clips=14, seed=5), folder, workers=1)
    return folder


@pytest.fixture(scope="module")
def videos(clips, tmp_path_factory) -> Path:
    """Two videos, ``a.mp4`` and ``b.mp4``."""
    folder = tmp_path_factory.mktemp("videos")
    for name, source in zip("ab", sorted((clips / "videos").glob("*.mp4")), strict=False):
        shutil.copy(source, folder / f"{name}.mp4")
    return folder


@pytest.fixture(scope="module")
def brows(tmp_path_factory) -> Path:
    """A folder with OpenFace's table of ``a.mp4`` alone: brows furrowed from 0.5 to 1.5 s, nothing else."""
    folder = tmp_path_factory.mktemp("au")
    rows = [
        f"{i + 1}, 0, {i / 10}, 0.9, 1, 0, 0, {4.0 if 0.5 <= i / 10 <= 1.5 else 0.0}, 0, 0, 0, 0, 0, 0, 0"
        for i in range(30)
    ]
    write(folder / "a.csv", OPENFACE_HEADER, *rows)
    return folder


def score(manifest: Path, checkpoint: Checkpoint, out: Path, baselines: tuple[Baseline, ...]) -> dict[str, Any]:
    """Figures of an evaluation with baselines beside it."""
    run = EvaluationRun(baselines=baselines, options=DataOptions(workers=1))
    found = evaluate(manifest, checkpoint, out, run, lambda *_: None)
    assert found is not None
    return dict(found.figures)


def test_units_of_a_table_make_the_caption_and_are_named(videos, brows, tmp_path):
    files = [(videos / "a.mp4", "a.mp4"), (videos / "b.mp4", "b.mp4")]
    model = load(face="haar", external=ExternalTools(units=open_units(brows, [str(path) for path, _ in files])))
    results = predict_files(model, files, settings=ReadingSettings(), out=tmp_path, with_report=True)
    first = results.answers[0]
    assert first.reading is not None
    told = {phrase.action_unit for phrase in first.reading.caption.phrases if phrase.intensity > 0}
    assert told == {"AU4"}
    assert first.reading.action_units.source == "OpenFace table a.csv"
    [lost] = [p for p in results.predictions if p.input == "b.mp4"]
    assert lost.status == "unreadable"
    assert "has no table for b.mp4; expected b.csv" in lost.message
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert "action units from OpenFace table a.csv (not measured there: AU2, AU5" in table["message"][0]
    assert table["status"][0] in ("ok", "abstain")
    assert json.loads((tmp_path / "run.json").read_text())["settings"]["action_units_from"].startswith("tables in au")
    report = (tmp_path / "report.html").read_text()
    assert "OpenFace table a.csv" in report
    assert "action units from" in report


def test_explain_speaks_of_the_same_units(videos, brows, tmp_path, monkeypatch, capsys):
    asked = (
        "explain",
        str(videos / "a.mp4"),
        "--units",
        str(brows / "a.csv"),
        "--out",
        str(tmp_path),
        "--windows",
        "1",
    )
    assert command(monkeypatch, *asked) == 0
    assert "action units from OpenFace table a.csv" in capsys.readouterr().out
    about = json.loads((tmp_path / "run.json").read_text())["settings"]
    assert about["action_units_from"] == "OpenFace table a.csv"


def test_a_class_table_guides_the_caption_and_is_named(videos, tmp_path):
    path = write(tmp_path / "fer.csv", "video,angry,disgust,fear,happy,sad,surprise,neutral", "a.mp4,0,0,1,0,0,0,0")
    guide = open_classifier(path, videos=[str(videos / "a.mp4")])
    model = load(face="haar", external=ExternalTools(guide=guide))
    result = model.predict(videos / "a.mp4")
    reading = result.answers[0].reading
    assert reading is not None
    assert reading.caption.guided_by is not None
    assert reading.caption.guided_by.model == "class table fer.csv"
    assert reading.caption.guided_by.top(1) == ("fear",)
    assert "caption guided by class table fer.csv" in result.clips["message"][0]
    assert model.about()["guide_from"] == "class table fer.csv"
    # The action units are still our own.
    assert (
        reading.action_units.source
        == load(face="haar").predict(videos / "a.mp4").answers[0].reading.action_units.source
    )  # type: ignore[union-attr]


def test_a_window_without_rows_costs_that_window_only(videos, tmp_path):
    header = OPENFACE_HEADER
    path = write(tmp_path / "short.csv", header, "1, 0, 0.0, 0.9, 1, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0")
    model = load(face="haar", external=ExternalTools(units=open_units(path, ["a.mp4"])))
    settings = ReadingSettings(window_seconds=0.5)
    status = [a.prediction.status for a in model.answers(videos / "a.mp4", settings=settings)]
    found = [a.prediction for a in model.answers(videos / "a.mp4", settings=settings)]
    assert status[0] != "unreadable"
    assert status[-1] == "unreadable"
    assert found[-1].end_seconds > found[-1].start_seconds > 0.5
    assert "no usable row between" in found[-1].message


def test_baselines_are_scored_on_the_same_clips(clips, tmp_path):
    manifest = pd.read_csv(clips / "clips.csv")
    test = manifest[manifest["split"] == "test"] if "split" in manifest else manifest
    names, truth = test["video"].tolist(), test["label"].tolist()
    right = pd.DataFrame(np.eye(7)[[BASIC.index(label) for label in truth]], columns=list(BASIC))
    right.insert(0, "video", names)
    right.to_csv(tmp_path / "right.csv", index=False)
    # All say neutral, in percent, and the first clip has no row.
    flat = pd.DataFrame({"video": names[1:], "angry": 10.0, "happy": 20.0, "neutral": 70.0})
    flat.to_csv(tmp_path / "flat.csv", index=False)
    baselines = parse_baselines([f"right={tmp_path / 'right.csv'}", f"flat={tmp_path / 'flat.csv'}"])
    checkpoint = load_checkpoint(ROOT / "src" / "dferkit" / "data" / "box" / "grace")
    out = tmp_path / "scores"
    figures = score(clips / "clips.csv", checkpoint, out, baselines)
    stored = json.loads((out / "metrics.json").read_text())
    assert stored["baselines"].keys() == {"right", "flat"}
    assert stored["num_clips"] == stored["baselines"]["right"]["num_clips"] == len(names)
    one = stored["baselines"]["right"]
    assert (one["uar"], one["war"], one["num_failed"], one["war_ci95"]) == (1.0, 1.0, 0, [1.0, 1.0])
    assert one["source"] == "class table right.csv"
    flat_row = figures["baselines"]["flat"]
    neutral = [label == "neutral" for label in truth]
    assert flat_row["num_failed"] == 1
    assert flat_row["war"] == pytest.approx(sum(neutral[1:]) / len(truth))
    assert flat_row["uar"] == pytest.approx(sum(neutral[1:]) / max(sum(neutral), 1) / len(set(truth)))
    assert "percent were taken as probabilities" in flat_row["notes"]
    # Every figure of every row follows from the table beside it.
    for folder in (out, out / "baselines" / "right", out / "baselines" / "flat"):
        done = subprocess.run(
            [sys.executable, ROOT / "scripts" / "recompute", folder], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert pd.read_csv(out / "baselines" / "flat" / "predictions.csv")["model"][0] == "class table flat.csv"
    # ``dferkit compare`` takes the two folders.
    own, other = score_pair(read_predictions(out), read_predictions(out / "baselines" / "right"))
    assert own.clip_ids == other.clip_ids
    assert (other.predicted == other.true).all()


def test_baselines_on_the_command_line():
    found = parse_baselines(["fer=a/fer.csv", "net=m.onnx,names.txt"])
    assert found == (
        Baseline(name="fer", path=Path("a/fer.csv")),
        Baseline(name="net", path=Path("m.onnx"), class_names=Path("names.txt")),
    )
    for text in ("fer.csv", "=a.csv", "a/b=c.csv", "fer="):
        with pytest.raises(ConfigError, match=r"expected NAME=table\.csv"):
            parse_baselines([text])
    with pytest.raises(ConfigError, match="two baselines are called"):
        parse_baselines(["a=x.csv", "A=y.csv"])


def test_a_baseline_that_cannot_be_read_is_told_before_any_work(clips, tmp_path):
    checkpoint = load_checkpoint(ROOT / "src" / "dferkit" / "data" / "box" / "grace")
    with pytest.raises(ManifestError, match=r"none\.csv: not found"):
        score(clips / "clips.csv", checkpoint, tmp_path / "out", (Baseline(name="x", path=tmp_path / "none.csv"),))
    assert not (tmp_path / "out").exists()


def test_a_model_in_onnx_guides_and_is_a_baseline(clips, videos, tmp_path):
    from test_onnx_frames import build

    model_path = build(tmp_path / "m.onnx", with_softmax=True)
    listed = write(tmp_path / "names.txt", "happy", "sad", "neutral")
    guide = open_classifier(model_path, listed)
    result = load(face="haar", external=ExternalTools(guide=guide)).predict(videos / "a.mp4")
    guided = result.answers[0].reading.caption.guided_by  # type: ignore[union-attr]
    assert guided is not None
    assert guided.model == guide.name
    assert guided.probabilities.sum() == pytest.approx(1)
    checkpoint = load_checkpoint(ROOT / "src" / "dferkit" / "data" / "box" / "grace")
    baseline = Baseline(name="net", path=model_path, class_names=listed)
    figures = score(clips / "clips.csv", checkpoint, tmp_path / "out", (baseline,))
    row = figures["baselines"]["net"]
    assert row["num_clips"] == figures["num_clips"]
    assert row["num_failed"] == figures["num_failed"]
    assert row["source"] == guide.name


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Exit code of the command line, in this process."""
    from dferkit.cli.main import main

    monkeypatch.setattr(sys, "argv", ["dferkit", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_predict_and_evaluate_take_them(clips, videos, brows, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "240")
    assert command(monkeypatch, "predict", videos, "--units", brows, "--face", "haar", "--out", tmp_path / "out") == 1
    told = capsys.readouterr()
    assert "has no table for b.mp4" in told.out
    assert "action units from tables in " in told.err
    assert set(pd.read_csv(tmp_path / "out" / "predictions.csv")["input"].str[-5:]) == {"a.mp4", "b.mp4"}
    manifest = pd.read_csv(clips / "clips.csv")
    table = pd.DataFrame({"video": manifest["video"], "angry": 0.5, "happy": 0.5, "neutral": 0.0})
    table.to_csv(tmp_path / "t.csv", index=False)
    out = tmp_path / "scores"
    arguments = ("evaluate", "--data", clips / "clips.csv", "--out", out, "--workers", 1)
    assert command(monkeypatch, *arguments, "--baseline", f"half={tmp_path / 't.csv'}") == 0
    told = capsys.readouterr()
    assert "baseline half: UAR 0." in told.out
    assert "class table t.csv. disgust, fear, sadness, surprise not predicted, taken as 0" in told.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("predict", "{videos}", "--units", "{brows}/a.csv"), "no column that assigns its rows to the 2 videos"),
        (("predict", "{videos}/a.mp4", "--units", "{brows}/a.csv", "--people", "all"), "a table describes one person"),
        (("predict", "{videos}/a.mp4", "--guide-labels", "x.txt"), "give --guide MODEL.onnx"),
        (("predict", "{videos}/a.mp4", "--guide", "x.onnx"), "give a file of its class names"),
        (("predict", "{videos}/a.mp4", "--guide", "{brows}/a.csv"), "is not a known kind of class table"),
        (("explain", "{videos}/a.mp4", "--guide-labels", "x.txt"), "give --guide MODEL.onnx"),
        (("evaluate", "--data", "{clips}/clips.csv", "--baseline", "b.csv"), "expected NAME=table.csv"),
    ],
)
def test_wrong_use_is_one_sentence(clips, videos, brows, monkeypatch, capsys, arguments, sentence):
    filled = [text.format(videos=videos, brows=brows, clips=clips) for text in arguments]
    assert command(monkeypatch, *filled) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert str(videos.parent) not in told
