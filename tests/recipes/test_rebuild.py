"""Pages written again from tables: the classes are those of the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dferkit.datasets import DATA_SETS
from dferkit.errors import DataError
from dferkit.evaluation.scored import ScoredClips
from dferkit.recipes.rebuild import read_predictions, rebuild_report
from dferkit.reports.scored_table import write_scored
from dferkit.reports.tables import Provenance


@pytest.mark.parametrize(
    ("layout", "label"), [("ravdess", "calm"), ("mafw-compound", "anger_disgust"), ("dfew", "fear")]
)
def test_every_class_of_an_evaluation_is_read_back(layout: str, label: str, tmp_path: Path) -> None:
    labels = DATA_SETS[layout].labels
    probabilities = np.full(len(labels), 0.35 / (len(labels) - 1))
    probabilities[labels.index(label)] = 0.65
    clips = ScoredClips(
        labels=labels,
        clip_ids=("a", "b"),
        true=np.array([0, 1]),
        probabilities=np.stack([probabilities, np.full(len(labels), np.nan)]),
        folds=("", ""),
        subjects=None,
        attributes={"attr_like_a_class": ("x", "y")},
    )
    write_scored(tmp_path / "predictions.csv", clips, Provenance(model="grace", front_end="pixels"))
    answered, failed = read_predictions(tmp_path / "predictions.csv")
    assert answered.labels == labels
    assert answered.label == label
    assert answered.probabilities is not None
    np.testing.assert_array_equal(answered.probabilities, probabilities)
    assert failed.probabilities is None
    assert f"{label.replace('_', ' ')}" in rebuild_report(tmp_path).read_text().replace("_", " ")


def test_another_table_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "predictions.csv").write_text("input,label\na.mp4,fear\n")
    with pytest.raises(DataError, match="lacks the column 'margin'"):
        rebuild_report(tmp_path)
