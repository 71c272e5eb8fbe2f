import csv
from dataclasses import replace

import numpy as np
import pytest
from scored_examples import imagined_clips

from dferkit.errors import DataError, ManifestError
from dferkit.evaluation.peers import read_prediction_csv
from dferkit.evaluation.scored import ScoredClips
from dferkit.reports.scored_table import scored_table, write_scored
from dferkit.reports.tables import Provenance, prediction_columns, prediction_table, write_table
from dferkit.schema import Prediction

PROVENANCE = Provenance(model="grace", front_end="pixels", trained_on="rendered clips")


@pytest.mark.parametrize("has_subjects", [True, False])
def test_what_was_written_is_read_to_the_last_bit(tmp_path, has_subjects):
    clips = imagined_clips(90, has_subjects=has_subjects)
    awkward = ("=1+1", " a ", "ü, “b”", "a\nb", "'=c", "007", "nan", "NA", *clips.clip_ids[8:])
    clips = replace(clips, clip_ids=awkward, attributes={"scene": awkward, "Skin Tone": clips.attributes["scene"]})
    write_scored(tmp_path / "predictions.csv", clips, PROVENANCE)
    found = read_prediction_csv(tmp_path / "predictions.csv").scored()
    assert np.array_equal(found.probabilities, clips.probabilities, equal_nan=True)
    assert np.array_equal(found.true, clips.true)
    assert (found.labels, found.clip_ids, found.folds) == (clips.labels, clips.clip_ids, clips.folds)
    assert found.subjects == clips.subjects
    assert found.attributes == clips.attributes


def test_classes_of_any_name_and_a_tiny_probability(tmp_path):
    p = np.array([[1 / 3, 1 - 1 / 3 - 1e-300, 1e-300], [np.nan] * 3])
    clips = ScoredClips(
        labels=("x", "B", "label 3"), clip_ids=("a", "b"), true=np.array([2, 0]), probabilities=p, folds=("", "")
    )
    write_scored(tmp_path / "p.csv", clips, PROVENANCE)
    found = read_prediction_csv(tmp_path / "p.csv").scored()
    assert found.labels == clips.labels
    assert np.array_equal(found.probabilities, p, equal_nan=True)
    assert found.true.tolist() == [2, 0]


def test_columns_are_those_of_predictions_and_the_truth_at_the_end(tmp_path):
    clips = imagined_clips(20)
    table = scored_table(clips, PROVENANCE)
    assert list(table.columns) == [*prediction_columns(clips.labels), "true_label", "fold", "subject", "attr_scene"]
    write_scored(tmp_path / "p.csv", clips, PROVENANCE)
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    for row, p, true in zip(rows, clips.probabilities, clips.true, strict=True):
        assert row["true_label"] == clips.labels[true]
        if np.isnan(p[0]):
            assert (row["label"], row["confidence"], row["anger"], row["status"]) == ("", "", "", "error")
        else:
            assert row["label"] == clips.labels[p.tolist().index(max(p))]
            assert float(row["confidence"]) == max(p)
            assert [float(row[label]) for label in clips.labels] == p.tolist()


def test_what_else_is_known_of_an_answer_is_kept():
    clips = imagined_clips(2, fails_every=0)
    predictions = [
        Prediction(
            input=f"{clip_id}.mp4", clip_id=clip_id, track_id=0, window=0, start_seconds=0.0, end_seconds=1.5,
            labels=clips.labels, label="fear", probabilities=p, status="low_coverage", message="few frames",
        )
        for clip_id, p in zip(clips.clip_ids, clips.probabilities, strict=True)
    ]  # fmt: skip
    table = scored_table(clips, PROVENANCE, predictions=predictions)
    assert table["status"].tolist() == ["low_coverage"] * 2
    assert table["t_end"].tolist() == [1.5] * 2
    with pytest.raises(DataError, match="same order"):
        scored_table(clips, PROVENANCE, predictions=predictions[::-1])


def test_files_without_truth_or_with_damage_are_refused(tmp_path):
    clips = imagined_clips(5, fails_every=0)
    prediction = Prediction(
        input="a.mp4", clip_id="a", track_id=0, window=0, start_seconds=0.0, end_seconds=1.5, labels=clips.labels,
        label="fear", probabilities=clips.probabilities[0], status="ok",
    )  # fmt: skip
    write_table(tmp_path / "predict.csv", prediction_table([prediction], PROVENANCE))
    with pytest.raises(DataError, match="has no true classes"):
        read_prediction_csv(tmp_path / "predict.csv").scored()
    with pytest.raises(ManifestError, match="not found"):
        read_prediction_csv(tmp_path / "none.csv").scored()
    write_scored(tmp_path / "p.csv", clips, PROVENANCE)
    text = (tmp_path / "p.csv").read_text()
    (tmp_path / "p.csv").write_text(text.replace(repr(float(clips.probabilities[2, 3])), "?", 1))
    with pytest.raises(ManifestError, match=r"p.csv:2: '\?' is not a number"):  # rows 0 to 5 are equal
        read_prediction_csv(tmp_path / "p.csv").scored()
