import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dferkit.errors import ConfigError, DataError
from dferkit.evaluation.selective import risk_coverage


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
    assert found.accuracy_at(0.2) == 1
    assert found.accuracy_at(0.21) == found.accuracy_at(0.6) == pytest.approx(2 / 3)
    assert found.accuracy_at(1.0) == pytest.approx(0.6)
    assert found.coverage_at(1.0) == pytest.approx(0.2)
    assert found.coverage_at(0.75) == pytest.approx(0.8)  # accuracy rises again at the third step
    assert found.coverage_at(0.6) == 1
    nothing = risk_coverage(*two_classes([0.9], [False]))
    assert nothing.coverage_at(0.5) == 0


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


def test_coverage_is_not_lost_to_rounding():
    p, true = two_classes(np.linspace(0.99, 0.6, 10), [True] * 3 + [False] * 7)
    # 0.1 + 0.2 is above 3 / 10 in floating point.
    assert risk_coverage(p, true).accuracy_at(0.1 + 0.2) == 1


def test_wrong_questions_are_refused():
    found = risk_coverage(*two_classes([0.9, 0.8], [True, False]))
    for coverage in (0.0, -1.0, 1.1):
        with pytest.raises(ConfigError, match="coverage"):
            found.accuracy_at(coverage)
    for accuracy in (-0.1, 1.1):
        with pytest.raises(ConfigError, match="accuracy"):
            found.coverage_at(accuracy)
    with pytest.raises(DataError):
        risk_coverage(np.full((2, 2), np.nan), np.array([0, 1]))
    with pytest.raises(DataError):
        risk_coverage(np.zeros((0, 2)), np.zeros(0, dtype=int))
