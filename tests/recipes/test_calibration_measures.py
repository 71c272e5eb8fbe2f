"""What a calibration says of clips whose truth is planted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dferkit.errors import DataError, ManifestError
from dferkit.evaluation.calibration import at_temperature
from dferkit.labels import BASIC
from dferkit.recipes.adapt import training_rows
from dferkit.recipes.calibrate import LabelledLogits, calibration_rows, measure_calibration
from dferkit.recipes.data import Sides
from dferkit.schema import Record


def planted(clips: int = 600, *, sharpened: float = 2.0, people: int | None = 40, seed: int = 0) -> LabelledLogits:
    """Classes drawn from the softmax of logits that are then multiplied: their temperature is ``sharpened``."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(clips, 7)) * 2
    true = (random.random((clips, 1)) > at_temperature(logits, 1).cumsum(1)).sum(1).clip(max=6)
    subjects = None if people is None else np.array([f"p{i % people:02d}" for i in range(clips)])
    logits = logits * sharpened
    return LabelledLogits(
        labels=BASIC, logits=logits, before=at_temperature(logits, 1), true=true, subjects=subjects
    )  # fmt: skip


def test_planted_overconfidence_is_found_and_mended() -> None:
    clips = planted()
    figures, after = measure_calibration(clips)
    low, high = figures["temperature"]["ci95"]
    assert low < 2.0 < high
    assert low > 1.5
    assert all(figures["scores"][name]["change"]["ci95"][1] < 0 for name in figures["scores"])
    assert figures["verdict"].startswith("On people it was not fitted on, the temperature helps")
    np.testing.assert_array_equal(after.argmax(1), clips.before.argmax(1))
    # Folds are of whole people: all clips of a person are at one temperature.
    used = [np.unique(clips.fold_of[clips.subjects == person]) for person in set(clips.subjects)]
    assert all(len(folds) == 1 for folds in used)
    assert figures["folds"]["num"] == 5
    # Honest probabilities reach the wanted accuracy, about, on people left out.
    held = figures["abstention"]["out_of_fold"]
    assert figures["abstention"]["is_reached"]
    assert held["accuracy"]["value"] == pytest.approx(0.8, abs=0.06)
    assert held["accuracy"]["ci95"][0] <= held["accuracy"]["value"] <= held["accuracy"]["ci95"][1]


def test_what_is_calibrated_already_is_not_said_to_gain() -> None:
    figures, _ = measure_calibration(planted(sharpened=1.0))
    assert "helps (" not in figures["verdict"].replace("do not show that the temperature helps (", "")
    assert figures["temperature"]["value"] == pytest.approx(1, abs=0.15)


def test_an_accuracy_out_of_reach_is_said() -> None:
    clips = planted(120)
    wrong = LabelledLogits(
        labels=BASIC,
        logits=clips.logits,
        before=clips.before,
        true=(clips.logits.argmax(1) + 1) % 7,
        subjects=None,
    )
    figures, _ = measure_calibration(wrong, target_accuracy=0.9)
    assert figures["abstention"]["threshold"] > 1, "above every confidence"
    assert not figures["abstention"]["is_reached"]
    assert figures["abstention"]["out_of_fold"]["num_answered"] == 0
    assert np.isnan(figures["abstention"]["out_of_fold"]["accuracy"]["value"])
    assert figures["folds"]["by"] == figures["bootstrap"]["draws"] == "clips"


def record(number: int, split: str | None = None, subject: str | None = None, label: str = "fear") -> Record:
    return Record(clip_id=f"{number}.mp4", video=Path(f"{number}.mp4"), label=label, split=split, subject=subject)


def test_rows_of_a_calibration() -> None:
    rows = [record(0, "train"), record(1, "val"), record(2, "test"), record(3), record(4, "val")]
    chosen, rule = calibration_rows(Sides.marked(rows), "clips.csv")
    assert [r.clip_id for r in chosen] == ["1.mp4", "4.mp4"]
    assert rule.startswith("2 rows with split val; 3 rows")
    chosen, rule = calibration_rows(Sides.marked([rows[0], rows[2], rows[3]]), "clips.csv")
    assert [r.clip_id for r in chosen] == ["3.mp4"]
    assert rule.startswith("1 row without a split; 2 rows")
    assert len(calibration_rows(Sides.marked([record(0), record(1)]), "clips.csv")[0]) == 2
    with pytest.raises(ManifestError, match="every row train or test"):
        calibration_rows(Sides.marked([rows[0], rows[2]]), "clips.csv")


def test_rows_of_an_adaptation() -> None:
    rows = [record(i, "train", f"p{i % 2}", BASIC[i % 3]) for i in range(6)]
    assert training_rows(Sides.marked([*rows, record(9, "test", "q")]), "clips.csv") == rows
    with pytest.raises(ManifestError, match="no row with split train"):
        training_rows(Sides.marked([record(0, "test", "a")]), "clips.csv")
    with pytest.raises(DataError, match="one person"):
        training_rows(Sides.marked([record(i, None, "a", BASIC[i]) for i in range(3)]), "clips.csv")
