"""Classes of the user, and a ``clips.csv`` as training and as test set of a transfer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pandas as pd
import pytest

Run = Callable[..., "CompletedProcess[str]"]


def order_probe(run_here: Run, folder: Path, seed: int) -> Path:
    """Clips of the classes onset and offset."""
    made = run_here("synth", folder, "--clips", 24, "--probe", "order", "--seed", seed)
    assert made.returncode == 0, made.stderr
    return folder / "clips.csv"


def test_a_model_of_own_classes_is_trained_and_moved_to_another_list(run_here: Run, tmp_path: Path) -> None:
    first, second = (order_probe(run_here, tmp_path / name, seed) for seed, name in enumerate(("first", "second")))
    table = pd.read_csv(second)
    rest = table.index[table["split"] == "test"][0]
    table.assign(label=table["label"].where(table.index != rest, "neutral")).to_csv(second, index=False)
    asked = ("--labels", "onset,offset", "--workers", 1)
    trained = run_here("train", "mean_pooled", "--data", first, "--out", tmp_path / "train", *asked)
    assert trained.returncode == 0, trained.stderr
    settings = json.loads((tmp_path / "train" / "checkpoints" / "mean_pooled" / "model.json").read_text())
    assert settings["config"]["labels"] == ["onset", "offset"]

    moved = run_here("transfer", "--train", first, "--recipe", "mean_pooled", "--test", second, "--out", tmp_path / "moved", *asked)  # fmt: skip
    assert moved.returncode == 0, moved.stderr
    about = json.loads((tmp_path / "moved" / "second" / "metrics.json").read_text())["model"]["transfer"]
    assert about["shared_classes"] == ["onset", "offset"]
    assert (about["left_out_classes"], about["left_out_clips"]) == (["neutral"], 1)
    rows = pd.read_csv(tmp_path / "moved" / "second" / "predictions.csv")
    assert len(rows) == (table["split"] == "test").sum() - 1

    checkpoint = tmp_path / "moved" / "training" / "checkpoints" / "mean_pooled"
    again = run_here("transfer", "--checkpoint", checkpoint, "--test", second, "--out", tmp_path / "again", "--workers", 1)  # fmt: skip
    assert again.returncode == 0, again.stderr
    written = [(tmp_path / name / "second" / "predictions.csv").read_bytes() for name in ("moved", "again")]
    assert written[0] == written[1]
    same = run_here("transfer", "--checkpoint", checkpoint, "--test", first, "--out", tmp_path / "same")
    assert same.returncode == 2
    assert "clips of the data set that the model is trained on" in same.stderr


@pytest.mark.parametrize("name", ["box", "box-pixels"])
def test_the_bundled_model_is_tested_on_a_list(name: str, run_here: Run, clips: Path, tmp_path: Path) -> None:
    done = run_here(
        "transfer", "--checkpoint", name, "--test", clips / "clips.csv", "--out", tmp_path / "out", "--workers", 1
    )
    assert done.returncode == 0, done.stderr
    assert "clips: " in done.stdout
