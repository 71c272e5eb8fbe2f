"""The coarse classifier against scikit-learn, and the guides that must not know the label."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from dferkit.errors import CheckpointError, DataError
from dferkit.models.coarse import CoarseClassifier, assign_folds, fit_coarse, out_of_fold, unit_statistics


def clips(count: int = 300, stats: int = 10, classes: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = np.arange(count) % classes
    centre = rng.normal(size=(classes, stats))
    return centre[target] + rng.normal(size=(count, stats)) * rng.uniform(0.5, 3, stats) + 5, target


@pytest.mark.parametrize("penalty", [0.002, 0.02, 0.2])
def test_same_answers_as_scikit_learn(penalty: float) -> None:
    x, y = clips()
    ours = fit_coarse(x, y, penalty=penalty)
    scaled = (x - x.mean(0)) / x.std(0)
    # Theirs: C times the summed loss plus half the squared weights; ours: mean loss plus penalty times the square.
    theirs = LogisticRegression(C=1 / (2 * penalty * len(y)), max_iter=5000, tol=1e-10).fit(scaled, y)
    np.testing.assert_allclose(ours.probabilities(x), theirs.predict_proba(scaled), atol=2e-4)


def test_statistics() -> None:
    intensity = np.random.default_rng(0).random((4, 16, 23)).astype(np.float32)
    found = unit_statistics(intensity)
    assert found.shape == (4, 92)
    np.testing.assert_allclose(found[2], unit_statistics(intensity[2]), rtol=1e-6)
    np.testing.assert_allclose(found[:, 23:46], intensity.max(1))
    assert (found[:, 46:69] <= found[:, :23]).all()


def test_probabilities_are_probabilities() -> None:
    x, y = clips()
    found = fit_coarse(x, y).probabilities(x * 1e6)
    np.testing.assert_allclose(found.sum(1), 1)
    assert np.isfinite(found).all()


def test_a_constant_column_is_harmless() -> None:
    x, y = clips()
    x[:, 3] = 4.0
    assert np.isfinite(fit_coarse(x, y).probabilities(x)).all()


def test_fit_is_deterministic() -> None:
    x, y = clips()
    np.testing.assert_array_equal(fit_coarse(x, y).weight, fit_coarse(x, y).weight)


def test_absent_classes_are_improbable() -> None:
    x, y = clips(classes=3)
    assert fit_coarse(x, y).probabilities(x)[:, 3:].max() < 0.2


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="two classes are needed; clips that cannot be read"):
        fit_coarse(np.zeros((5, 3)), np.zeros(5, int))


def test_folds_hold_whole_people() -> None:
    groups = np.array([f"p{i // 3}" for i in range(60)])
    folds = assign_folds(groups)
    for name in set(groups):
        assert len(set(folds[groups == name])) == 1
    assert np.bincount(folds).tolist() == [12] * 5
    assert assign_folds(np.array(["b", "a", "b"])).tolist() == [1, 0, 1]
    with pytest.raises(DataError, match="of one person"):
        assign_folds(np.array(["a", "a"]))


def test_guides_do_not_know_the_label() -> None:
    """Every person has one label, and the statistics say nothing but who it is: out of fold that is worth nothing.

    A guide that had seen its own subject would be right nearly always.
    """
    rng = np.random.default_rng(0)
    people = 70
    subject = np.repeat(np.arange(people), 6)
    target = rng.permutation(np.arange(people) % 7)[subject]
    x = rng.normal(size=(people, 60))[subject] + 0.01 * rng.normal(size=(len(subject), 60))
    groups = np.array([f"p{s:03d}" for s in subject])
    seen = (fit_coarse(x, target).probabilities(x).argmax(1) == target).mean()
    guides = out_of_fold(x, target, groups)
    honest = np.mean([g.labels.index(g.top(1)[0]) == t for g, t in zip(guides, target, strict=True)])
    assert seen > 0.9
    assert honest < 0.25


def test_guides_carry_their_proof() -> None:
    x, y = clips()
    groups = np.array([f"p{i % 30:02d}" for i in range(len(y))])
    guides = out_of_fold(x, y, groups)
    folds = assign_folds(groups)
    assert [g.fold for g in guides] == folds.tolist()
    assert all(g.is_out_of_fold and g.model == f"coarse-fold{g.fold}" for g in guides)


def test_guide_of_a_fold_ignores_the_labels_of_that_fold() -> None:
    """Wrong labels in a fold leave that fold's own guides bit for bit as they were."""
    x, y = clips()
    groups = np.array([f"p{i % 30:02d}" for i in range(len(y))])
    held = assign_folds(groups) == 2
    spoiled = np.where(held, (y + 3) % 7, y)
    before, after = out_of_fold(x, y, groups), out_of_fold(x, spoiled, groups)
    for i in np.flatnonzero(held):
        np.testing.assert_array_equal(before[i].probabilities, after[i].probabilities)


def test_top_labels() -> None:
    x, y = clips()
    guide = fit_coarse(x, y).guide(x[0], fold=-1, is_out_of_fold=True)
    assert guide.top(3)[0] == guide.labels[int(guide.probabilities.argmax())]
    assert len(set(guide.top(7))) == 7


def test_file_round_trip(tmp_path: Path) -> None:
    x, y = clips()
    model = fit_coarse(x, y, name="coarse-x")
    model.save(tmp_path / "coarse.safetensors")
    loaded = CoarseClassifier.load(tmp_path / "coarse.safetensors")
    assert (loaded.labels, loaded.name) == (model.labels, "coarse-x")
    np.testing.assert_allclose(loaded.probabilities(x), model.probabilities(x), atol=1e-5)
    with pytest.raises(CheckpointError, match="missing"):
        CoarseClassifier.load(tmp_path / "nothing.safetensors")


def test_no_warning_of_ours_on_small_data() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_coarse(*clips(count=14))
