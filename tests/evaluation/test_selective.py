import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dferkit.errors import DataError
from dferkit.evaluation.selective import abstention_threshold, risk_coverage


def two_classes(confidence, is_right):
    """Clips of two classes with these confidences (above one half), right or wrong."""
    confidence, true = np.array(confidence), np.where(is_right, 0, 1)
    return np.stack([confidence, 1 - confidence], 1), true


def test_curve_by_hand():
    p, true = two_classes([0.9, 0.8, 0.8, 0.6, 0.7], [True, True, False, False, True])
    found = risk_coverage(p, true)
    np.testing.assert_allclose(found.threshold, [0.9, 0.8, 0.7, 0.6], atol=1e-15)
    np.testing.assert_allclose(found.coverage, [0.2, 0.6, 0.8, 1.0], atol=1e-15)
    np.testing.assert_allclose(found.risk, [0, 1 / 3, 1 / 4, 2 / 5], atol=1e-15)
    assert found.area == pytest.approx((0 + 1 / 3 + 1 / 3 + 1 / 4 + 2 / 5) / 5, abs=1e-15)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(51, 60), st.booleans()), min_size=1, max_size=40))
def test_area_equals_brute_force_and_no_order_of_ties_matters(rows):
    percent, is_right = zip(*rows, strict=True)
    p, true = two_classes(np.array(percent) / 100, is_right)
    brute = []
    for own in percent:
        answered = [right for other, right in rows if other >= own]
        brute.append(answered.count(False) / len(answered))
    assert risk_coverage(p, true).area == pytest.approx(sum(brute) / len(brute), abs=1e-12)
    order = np.random.default_rng(0).permutation(len(rows))
    assert risk_coverage(p[order], true[order]).area == pytest.approx(sum(brute) / len(brute), abs=1e-12)


def test_the_threshold_is_the_smallest_that_is_right_often_enough():
    p, true = two_classes([0.905, 0.805, 0.705, 0.605], [True, True, True, False])
    assert abstention_threshold(p, true, accuracy=0.8) == (0.61, 0.75)
    assert abstention_threshold(p, true, accuracy=0.75) == (0.15, 1.0)


def test_the_threshold_may_lie_close_to_certainty():
    p, true = two_classes([0.965, 0.965, 0.945, 0.945], [True, True, False, False])
    assert abstention_threshold(p, true, accuracy=0.9) == (0.95, 0.5)


def test_an_accuracy_that_is_never_reached_abstains_always():
    """Sure and wrong: a threshold below these confidences would answer nearly every clip."""
    p, true = two_classes([0.99, 0.98, 1.0], [False, False, False])
    threshold, coverage = abstention_threshold(p, true, accuracy=0.8)
    assert threshold > p.max()
    assert coverage == 0


def test_wrong_questions_are_refused():
    with pytest.raises(DataError):
        risk_coverage(np.full((2, 2), np.nan), np.array([0, 1]))
    with pytest.raises(DataError):
        risk_coverage(np.zeros((0, 2)), np.zeros(0, dtype=int))
