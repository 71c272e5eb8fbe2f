import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dferkit.labels import BASIC
from dferkit.reports import tables
from dferkit.schema import Explanation, Prediction

PROVENANCE = tables.Provenance(model="grace", front_end="pixels", weights_sha256="ab" * 32, trained_on="rendered clips")


def _no_face(explanation: Explanation) -> Prediction:
    return replace(
        explanation.prediction, input="videos/empty.mp4", clip_id="empty", track_id=-1, label=None, probabilities=None,
        status="no_face", message="No face in 16 frames.", num_face_frames=0,
    )  # fmt: skip


def test_predictions_have_the_documented_columns(explanation: Explanation):
    table = tables.prediction_table([explanation.prediction, _no_face(explanation)], PROVENANCE)
    assert list(table.columns) == [
        "input", "clip_id", "track_id", "window", "t_start", "t_end", "label", "confidence", "margin", *BASIC,
        "n_frames", "n_face_frames", "face_coverage", "status", "message", "model", "weights_sha256", "version",
        "detector", "front_end", "abstain_reason", "calibration", "trained_on",
    ]  # fmt: skip
    first, second = (table.iloc[i] for i in range(2))
    assert first[list(BASIC)].sum() == pytest.approx(1)
    assert first["face_coverage"] == 14 / 16
    assert second["label"] == ""
    assert second[list(BASIC)].isna().all()
    assert np.isnan(second["confidence"])


def test_frames_list_every_sample_also_without_a_face(explanation: Explanation):
    windows = [
        tables.SampledFrames(
            prediction=explanation.prediction,
            timestamps=explanation.face_clip.timestamps,
            track=explanation.face_clip.track,
            clip_weight=explanation.motion.mean((1, 2)),
        ),
        tables.SampledFrames(prediction=_no_face(explanation), timestamps=explanation.face_clip.timestamps),
    ]
    table = tables.frame_table(windows)
    assert list(table.columns) == list(tables.FRAME_COLUMNS)
    assert len(table) == 32
    assert table["success"].tolist() == [1, 1, 0, 0] + [1] * 12 + [0] * 16
    assert table["FaceRectWidth"].isna().tolist() == [not found for found in table["success"]]
    assert table["clip_weight"][:16].mean() == pytest.approx(1)
    assert table["frame"].tolist() == list(range(16)) * 2


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "＝1"])
def test_no_text_cell_is_a_formula(text: str, tmp_path: Path, explanation: Explanation):
    prediction = replace(explanation.prediction, input=text, clip_id=text, message=text)
    path = tmp_path / "predictions.csv"
    tables.write_table(path, tables.prediction_table([prediction], PROVENANCE))
    with path.open(encoding="utf-8", newline="") as handle:
        row = next(csv.DictReader(handle))
    for column in ("input", "clip_id", "message"):
        assert row[column] == "'" + text
    back = tables.read_table(path)
    assert back.loc[0, "message"] == text


def test_numbers_are_not_guarded_and_tables_read_back(tmp_path: Path, explanation: Explanation):
    prediction = replace(explanation.prediction, track_id=-1, message='a "quote", a comma\nand a line', label=None)
    table = tables.prediction_table([prediction, _no_face(explanation)], PROVENANCE)
    tables.write_table(tmp_path / "t.csv", table)
    back = tables.read_table(tmp_path / "t.csv")
    assert list(back.columns) == list(table.columns)
    assert back["track_id"].tolist() == [-1, -1]
    assert back.loc[0, "message"] == prediction.message
    assert back.loc[0, "label"] == ""
    np.testing.assert_allclose(back[list(BASIC)], table[list(BASIC)].astype(float), rtol=1e-6)
    assert b"\r" not in (tmp_path / "t.csv").read_bytes()


def test_absolute_inputs_keep_their_name_only():
    assert tables.relative_input("/somewhere/else/b.mp4") == "b.mp4"
    assert tables.relative_input(r"C:\Users\me\b.mp4") == "b.mp4"
    assert tables.relative_input(r"videos\b.mp4") == "videos/b.mp4"


def test_a_run_writes_all_tables_and_no_absolute_path(tmp_path: Path, explanation: Explanation):
    root, out = tmp_path / "given", tmp_path / "out"
    prediction = replace(explanation.prediction, input=str(root / "a.mp4"), message="a.mp4 ends before its end.")
    explanation = replace(explanation, prediction=prediction)
    written = tables.write_tables(
        out,
        [prediction, _no_face(explanation)],
        PROVENANCE,
        frames=[tables.SampledFrames(prediction=prediction, timestamps=explanation.face_clip.timestamps)],
        explanations=[explanation],
        details=tables.RunDetails(
            settings={"window": 2.0, "epsilon": np.float32(0.1), "limit": float("nan"), "models": root},
            seconds={"decode": 0.12345},
            command=f"dferkit predict {root / 'a.mp4'}",
        ),
    )
    assert {path.name for path in written} == {path.name for path in out.iterdir()}
    assert {path.name for path in written} == {
        "predictions.csv", "frames.csv", "phrases.csv", "alignments.csv", "SCHEMA.md", "run.json",
    }  # fmt: skip
    for path in written:
        assert str(tmp_path) not in path.read_text(encoding="utf-8"), path.name
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert "not what a person feels" in run["intended_use"]
    assert run["has_media"] is False
    assert run["counts"]["status"] == {"no_face": 1, "ok": 1}
    assert run["seconds"] == {"decode": 0.123}
    assert run["settings"]["limit"] is None
    assert run["command"] == "dferkit predict a.mp4"
    phrases = tables.read_table(out / "phrases.csv")
    assert phrases["share"].sum() == pytest.approx(1, abs=1e-5)
    assert phrases["phrase"].tolist()[-1] == "(not described)"
    alignments = tables.read_table(out / "alignments.csv")
    assert alignments.groupby("word_index")["weight"].sum().to_numpy() == pytest.approx(1, abs=1e-5)
    assert alignments["frame"].isin([-1, *tables.read_table(out / "frames.csv")["frame"]]).all()


def test_the_dictionary_explains_every_column(explanation: Explanation):
    text = tables.schema_text()
    columns = {*tables.prediction_columns(()), *tables.FRAME_COLUMNS, *tables.alignments_table([explanation]).columns}
    columns |= set(tables.phrases_table([explanation]).columns)
    assert [column for column in sorted(columns) if f"`{column}`" not in text] == []
    docs = Path(__file__).parents[2] / "docs" / "reference" / "tables.md"
    sections = text[text.index("## predictions.csv") :]
    assert sections in docs.read_text(encoding="utf-8")
