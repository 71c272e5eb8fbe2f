import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scored_examples import imagined_clips
from sklearn import metrics as oracle

from dferkit.errors import ConfigError, DataError
from dferkit.evaluation.metrics import evaluate_predictions
from dferkit.evaluation.summary import evaluation_figures, summarize
from dferkit.labels import BASIC


def test_all_figures_against_scikit_learn():
    clips = imagined_clips(500, num_present=6)
    found = summarize(clips, attributes=["scene"])
    json.dumps(found, allow_nan=False)  # plain values only
    answered = np.flatnonzero(~np.isnan(clips.probabilities[:, 0]))
    p, true = clips.probabilities[answered], clips.true[answered]
    calibration = found["calibration"]
    assert calibration["num_clips"] == len(answered) == 470
    assert calibration["negative_log_likelihood"] == pytest.approx(oracle.log_loss(true, p, labels=range(7)), abs=1e-12)
    brier = sum(oracle.brier_score_loss(true == c, p[:, c], pos_label=True) for c in range(7))
    assert calibration["brier"] == pytest.approx(brier, abs=1e-12)
    assert (found["num_clips"], found["num_failed"]) == (500, 30)
    assert found["num_failed_by_class"] == {
        label: sum(int(clips.true[i]) == c for i in range(0, 500, 17)) for c, label in enumerate(BASIC)
    }
    assert found["per_class_recall"]["neutral"] is None
    assert found["warnings"] == ["W_CLASS_ABSENT", "W_FAILED_CLIPS", "W_NO_SUBJECTS"]
    assert found["folds"]["num_folds"] == 5
    assert found["folds"]["pooled"]["uar"] == found["uar"]
    assert sum(one["num_clips"] for one in found["folds"]["of_fold"].values()) == 500
    groups = found["groups"]["scene"]["values"]
    assert {name: group["has_enough_data"] for name, group in groups.items()} == {
        "crisis": True, "rare": False, "school": True,
    }  # fmt: skip
    assert "uar" not in groups["rare"]
    assert found["bootstrap"]["draws"] == "clips"


def test_calibration_error_of_fifteen_bins_of_equal_mass():
    clips = imagined_clips(332, fails_every=0)
    confidence = clips.probabilities.max(1)
    order = sorted(range(332), key=lambda i: confidence[i])
    # 332 = 2 bins of 23 and 13 of 22.
    edges = np.cumsum([0, 23, 23] + [22] * 13)
    total = 0.0
    for start, end in pairwise(edges):
        rows = order[start:end]
        accuracy = np.mean([clips.predicted[i] == clips.true[i] for i in rows])
        total += len(rows) / 332 * abs(accuracy - np.mean(confidence[rows]))
    found = summarize(clips)["calibration"]
    assert found["num_bins"] == 15
    assert found["expected_calibration_error"] == pytest.approx(total, abs=1e-12)


def test_one_fold_has_no_fold_figures_and_subjects_are_drawn():
    found = summarize(imagined_clips(60, num_folds=1, has_subjects=True))
    assert found["folds"] is None
    assert found["groups"] == {}
    assert found["bootstrap"]["draws"] == "subjects"


def test_a_system_that_never_answers_has_no_calibration():
    clips = imagined_clips(40)
    found = summarize(replace(clips, probabilities=np.full_like(clips.probabilities, np.nan)))
    assert (found["uar"], found["war"], found["num_failed"]) == (0, 0, 40)
    assert found["calibration"] == {
        "num_clips": 0, "num_bins": 15, "expected_calibration_error": None, "negative_log_likelihood": None,
        "brier": None, "aurc": None,
    }  # fmt: skip


def test_nothing_to_score_is_refused():
    clips = imagined_clips(10)
    with pytest.raises(DataError):
        summarize(clips.take(np.zeros(10, dtype=bool)))
    with pytest.raises(ConfigError, match="'age'"):
        summarize(clips, attributes=["age"])


def test_class_scores_alone_are_those_of_the_evaluation():
    clips = imagined_clips(80, num_present=6)
    evaluation = evaluate_predictions(BASIC, clips.true, clips.predicted)
    found = evaluation_figures(evaluation)
    assert found["labels"] == list(BASIC)
    assert found["uar"] == evaluation.uar
    assert found["confusion"] == evaluation.confusion.tolist()
    assert list(found["per_class_recall"].values())[:6] == evaluation.per_class_recall[:6].tolist()
    assert found["per_class_recall"]["neutral"] is None
    assert found["uar_ci95"] == list(evaluation.uar_ci95)
