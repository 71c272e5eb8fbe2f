import math

import numpy as np
import pytest

from dferkit.errors import DataError
from dferkit.explain import deletion_test, occlusion, summarise_deletion
from dferkit.schema import DeletionTest


def test_deletion_of_one_decisive_cell_beats_chance_as_computed_by_hand():
    # The answer hangs on one cell of ten. Ranked first, it is gone at the first step; a random order of ten has lost
    # it after removing k with probability k / 10.
    ranking = np.zeros((1, 2, 5))
    ranking[0, 1, 3] = 1.0
    test = deletion_test(
        lambda keep: np.where(keep[:, 0, 1, 3], 0.9, 0.1), ranking, fractions=(0.0, 0.1, 0.5), num_orders=4000, seed=1
    )
    assert test.ranked_probability.tolist() == [0.9, 0.1, 0.1]
    np.testing.assert_allclose(test.random_probability.mean(0), [0.9, 0.82, 0.5], atol=0.02)
    assert test.drop == pytest.approx((0 + 0.72 + 0.4) / 3, abs=0.015)


def test_drop_is_the_mean_over_fractions_of_random_minus_ranked():
    # One random order per draw, and an additive answer: everything can be recomputed from the masks that were asked.
    weights = np.linspace(0, 1, 12).reshape(1, 3, 4) / 6
    asked = []

    def probability(keep: np.ndarray) -> np.ndarray:
        asked.append(keep.copy())
        return (keep * weights).sum((1, 2, 3))

    test = deletion_test(probability, weights, fractions=(0.0, 0.25, 0.5), num_orders=3, seed=0, batch_size=2)
    masks = np.concatenate(asked)
    assert len(masks) == 1 + 4 * 2
    assert masks.sum((1, 2, 3)).tolist() == [12] + [9, 6] * 4
    answers = (masks * weights).sum((1, 2, 3))
    np.testing.assert_allclose(test.ranked_probability, [1.0, answers[1], answers[2]])
    assert answers[1] == pytest.approx(1 - (12 + 11 + 10 - 3) / 66)
    random = answers[3:].reshape(3, 2).mean(0)
    assert test.drop == pytest.approx((random - answers[1:3]).sum() / 3)


def test_a_constant_answer_has_drop_zero():
    test = deletion_test(lambda keep: np.full(len(keep), 0.4), np.random.default_rng(0).random((4, 7, 7)))
    assert test.drop == 0
    assert test.random_probability.shape == (20, 7)


def test_a_reversed_ranking_is_worse_than_chance():
    weights = np.random.default_rng(0).random((2, 4, 4))
    weights /= weights.sum()
    test = deletion_test(lambda keep: (keep * weights).sum((1, 2, 3)), -weights)
    assert test.drop < -0.05


def test_equal_ranks_go_in_a_repeatable_random_order():
    weights = np.zeros((1, 10, 10))
    weights[0, :5] = 1 / 50  # all that matters lies in the upper half

    def probability(keep: np.ndarray) -> np.ndarray:
        return (keep * weights).sum((1, 2, 3))

    flat = np.ones((1, 10, 10))
    tests = [deletion_test(probability, flat, seed=7) for _ in range(2)]
    assert tests[0].ranked_probability.tolist() == tests[1].ranked_probability.tolist()
    assert abs(tests[0].drop) < 0.05, "a flat ranking is no better than chance"


@pytest.mark.parametrize("fractions", [(0.1, 0.2), (0.0, 0.5, 0.5), (0.0,), (0.0, 1.2)])
def test_fractions_rise_from_zero(fractions: tuple[float, ...]):
    with pytest.raises(DataError, match="fractions"):
        deletion_test(lambda keep: np.ones(len(keep)), np.ones((1, 2, 2)), fractions=fractions)


def test_answers_are_checked():
    with pytest.raises(DataError, match="not probabilities"):
        deletion_test(lambda keep: np.full(len(keep), 3.0), np.ones((1, 2, 2)))
    with pytest.raises(DataError, match="shape"):
        deletion_test(lambda keep: np.ones(1), np.ones((1, 2, 2)))
    with pytest.raises(DataError, match="NaN"):
        deletion_test(lambda keep: np.ones(len(keep)), np.full((1, 2, 2), np.nan))


def test_occlusion_of_an_additive_answer_is_its_weights():
    owed = np.array([0.2, -0.1, 0.0, 0.4])
    weights = occlusion(lambda keep: 0.3 + keep @ owed, 4)
    np.testing.assert_allclose(weights, owed, atol=1e-12)
    assert occlusion(lambda keep: np.full(len(keep), 0.5), 3).tolist() == [0, 0, 0]
    assert occlusion(lambda keep: np.ones(len(keep)), 0).shape == (0,)


def _test_with(drop: float) -> DeletionTest:
    return DeletionTest(
        fractions=np.array([0.0, 0.5]),
        ranked_probability=np.array([0.9, 0.5]),
        random_probability=np.array([[0.9, 0.5 + 2 * drop]]),
        drop=drop,
    )


def test_summary_has_the_exact_sign_test():
    summary = summarise_deletion([_test_with(drop) for drop in [0.1] * 9 + [-0.1]])
    assert summary["sign_test_p"] == pytest.approx(2 * (1 + 10) / 2**10)
    assert summary["mean_drop"] == pytest.approx(0.08)
    assert summary["share_above_chance"] == 0.9
    assert summary["low"] <= 0.08 <= summary["high"]
    assert summary["random"] == pytest.approx([0.9, 0.66])


def test_summary_of_no_effect_and_of_nothing():
    summary = summarise_deletion([_test_with(0.0)] * 5)
    assert (summary["mean_drop"], summary["low"], summary["high"], summary["sign_test_p"]) == (0, 0, 0, 1)
    assert summarise_deletion([]) == {"num_clips": 0}
    assert math.isclose(summarise_deletion([_test_with(0.2)])["sign_test_p"], 1.0)
