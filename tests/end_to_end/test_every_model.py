"""The matrix: every model of the registry × (``clips.csv``, store) × train, evaluate, calibrate, predict, explain, adapt, transfer.

One model of every kind runs by default; all of them run with ``pytest -m slow tests/end_to_end/test_every_model.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dferkit.datasets import read_release
from dferkit.datasets.protocol import ProtocolConfig
from dferkit.errors import ConfigError
from dferkit.labels import BASIC
from dferkit.models.checkpoint import load_checkpoint
from dferkit.models.grace import Grace
from dferkit.models.registry import MODELS, find_model
from dferkit.pipeline import load
from dferkit.preparation import PrepareConfig, Work, prepare_faces
from dferkit.recipes.adapt import adapt
from dferkit.recipes.calibrate import calibrate
from dferkit.recipes.data import ListedClips, StoreClips
from dferkit.recipes.evaluate import EvaluationRun, evaluate
from dferkit.recipes.folds import StoreRun, run_store
from dferkit.recipes.train import train_list
from dferkit.recipes.transfer import transfer
from dferkit.schema import Explanation
from dferkit.synthetic import BenchmarkConfig, render_benchmark
from dferkit.training.spec import TrainingSpec

ONE_OF_EACH_KIND = {
    "class_prior", "mean_pooled", "vision_only", "grace", "grace_fused", "grace_steady_motion", "videomae_focal", "clip_zero_shot", "clip_temporal",
    "a3lign", "a3lign_concat",
}  # fmt: skip
WITHOUT_WORDS = {
    "class_prior", "mean_pooled", "text_only", "vision_only", "grace_sentence", "videomae_cross_entropy", "videomae_focal", "clip_zero_shot",
    "clip_zero_shot_units", "clip_temporal",
}  # fmt: skip
QUICK = {
    "steps": ("training.epochs=1",),
    "stages": ("training.epochs=[1,1,1]", "model.num_sentences=2", "model.num_tokens=3"),
    "solution": (),
}


@dataclass(frozen=True)
class Sets:
    """Rendered clips with a training and a test side, and others without a split, each as a list and as a store."""

    split: Path
    whole: Path
    split_store: Path
    whole_store: Path
    caches: Path


def quiet(*_: object) -> None:
    """Progress that nobody watches."""


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Sets:
    root = tmp_path_factory.mktemp("sets")
    split = render_benchmark(BenchmarkConfig(clips=28, seed=21), root / "split", workers=1)
    whole = render_benchmark(BenchmarkConfig(clips=28, seed=22), root / "whole", workers=1)
    table = pd.read_csv(whole).drop(columns="split")
    people = {name: f"p{number % 3}" for number, name in enumerate(sorted(table["subject"].unique()))}
    table.assign(subject=table["subject"].map(people)).to_csv(whole, index=False)
    for name in ("split", "whole"):
        release = read_release("folder", root / name)
        prepare_faces(
            release,
            root / name,
            root / f"{name}-store",
            PrepareConfig(face="haar", landmarker="none"),
            work=Work(workers=1),
        )
    return Sets(split, whole, root / "split-store", root / "whole-store", root / "caches")


def marked() -> list[object]:
    """Every model; those of a kind that has another representative are slow."""
    return [name if name in ONE_OF_EACH_KIND else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]


def check_shares(explanation: Explanation, *, is_exact: bool) -> None:
    """Exact shares add up to the answer, and each lies in its cells; estimates claim neither."""
    shares = [phrase.share for phrase in explanation.phrases]
    assert np.isfinite(shares).all()
    for phrase in explanation.phrases:
        assert phrase.evidence.sum() == pytest.approx(phrase.share, abs=1e-5)
    assert (explanation.remainder is not None) == is_exact
    if explanation.remainder is not None:
        assert sum(shares) + explanation.remainder == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", ["list", "store"])
@pytest.mark.parametrize("name", marked())
def test_a_model_does_all_that_it_can(name: str, kind: str, sets: Sets, clip_folder: Path, tmp_path: Path) -> None:
    entry = find_model(name)
    encoder = {"clip": f"clip:{clip_folder}", "videomae": "videomae"}.get(entry.reads, "box")
    spec = TrainingSpec(model=name, encoder=encoder, settings=QUICK[entry.learns])
    folder = trained(spec, kind, sets, tmp_path / "train")
    checkpoint = load_checkpoint(folder)
    assert (checkpoint.name, checkpoint.about["name"]) == (name, name)

    data = sets.split if kind == "list" else sets.split_store
    found = evaluate(data, checkpoint, tmp_path / "scores", EvaluationRun(), quiet)
    assert found is not None
    assert 0 <= found.figures["uar"] <= 1
    table = pd.read_csv(tmp_path / "scores" / "predictions.csv")
    np.testing.assert_allclose(table[list(BASIC)].dropna().sum(axis=1), 1, atol=1e-4)

    whole = opened(kind, sets.whole, sets.whole_store, sets.caches / "whole")
    calibrated, figures = calibrate(whole, checkpoint, tmp_path / "calibrated", report=quiet)
    assert math.isfinite(figures["temperature"]["value"])
    assert load_checkpoint(calibrated).about["calibration"].startswith("calibrated on")

    manifest = pd.read_csv(sets.split)
    row = manifest[manifest["split"] == "test"].iloc[0]
    with load(folder, face="haar") as model:
        result = model.predict(sets.split.parent / row["video"])
        assert result.status in ("ok", "abstain")
        if kind == "list":  # the same frames of the same file: the two ways to an answer agree
            mine = table[table["input"] == row["video"]][list(BASIC)].to_numpy(float)[0]
            np.testing.assert_allclose(result.probs.to_numpy(float), mine, atol=2e-3)
        assert model.can_explain == (name not in WITHOUT_WORDS)
        if model.can_explain:
            explained = model.explain(sets.split.parent / row["video"], with_deletion=False)
            assert len(explained.alignments) > 0
            check_shares(explained.explanations[0], is_exact=entry.build is Grace)
        else:
            with pytest.raises(ConfigError, match="aligns no words"):  # before the video is read
                model.explain("missing.mp4", with_deletion=False)

    start = TrainingSpec(
        model=name, encoder=encoder, start=checkpoint, settings=("training.epochs=1",) if entry.adapts else ()
    )
    if entry.adapts:
        adapted, figures = adapt(whole, tmp_path / "adapted", start, quiet)
        assert figures["verdict"]
        assert load_checkpoint(adapted).name == name
    else:
        with pytest.raises(ConfigError, match="no weights to adapt with --from"):
            adapt(whole, tmp_path / "adapted", start, quiet)

    other = sets.whole if kind == "list" else sets.whole_store
    moved = transfer([other], tmp_path / "transfer", StoreRun(), checkpoint=checkpoint, report=quiet)
    assert [figures["num_clips"] for figures in moved.values()] == [28]


def trained(spec: TrainingSpec, kind: str, sets: Sets, out: Path) -> Path:
    """The checkpoint of a training on one kind of data."""
    if kind == "list":
        clips = ListedClips.open(sets.split, cache=sets.caches / "split", workers=1)
        return train_list(clips, out, spec, quiet)[0]
    run = StoreRun(spec=spec, protocol=ProtocolConfig(select="last"))
    run_store(sets.split_store, out, run, workers=1, report=quiet)
    return next(out.glob("fold-*")) / "checkpoints" / spec.model


def opened(kind: str, manifest: Path, store: Path, cache: Path) -> ListedClips | StoreClips:
    """The clips without a split."""
    if kind == "store":
        return StoreClips.open(store, workers=1)
    return ListedClips.open(manifest, cache=cache, workers=1)
