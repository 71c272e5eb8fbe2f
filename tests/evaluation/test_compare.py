from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scored_examples import imagined_clips

from dferkit.errors import DataError
from dferkit.evaluation.compare import compare, mcnemar_exact
from dferkit.evaluation.metrics import confusion_matrix, uar, war
from dferkit.labels import BASIC, MAFW


@settings(max_examples=200, deadline=None)
@given(a=st.integers(0, 400), b=st.integers(0, 400))
def test_mcnemar_equals_scipy(a, b):
    expected = 1.0 if a + b == 0 else stats.binomtest(a, a + b).pvalue
    assert mcnemar_exact(a, b) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("a", "b"), [(0, 0), (0, 1), (0, 1000), (5000, 5200), (50_000, 50_600), (48_000, 52_000)])
def test_mcnemar_stays_exact_far_out(a, b):
    expected = 1.0 if a + b == 0 else stats.binomtest(a, a + b).pvalue
    assert mcnemar_exact(a, b) == pytest.approx(expected, rel=1e-9)
    assert mcnemar_exact(a, b) == mcnemar_exact(b, a)


def test_mcnemar_refuses_negative_counts():
    with pytest.raises(DataError, match="0 or more"):
        mcnemar_exact(-1, 2)


def test_differences_are_b_minus_a_clip_by_clip():
    a, b = imagined_clips(300, seed=0, num_present=6), imagined_clips(300, seed=1, skill=1.5, num_present=6)
    found = compare(a, b)
    rights = [[p == t for p, t in zip(side.predicted.tolist(), side.true.tolist(), strict=True)] for side in (a, b)]
    for i in range(2):
        for j in range(2):
            assert found.table[i, j] == sum(x == bool(i) and y == bool(j) for x, y in zip(*rights, strict=True))
    assert found.table.sum() == found.num_clips == 300
    discordant = int(found.table[0, 1]), int(found.table[1, 0])
    assert found.mcnemar_p == pytest.approx(stats.binomtest(discordant[0], sum(discordant)).pvalue, rel=1e-10)
    recalls = [
        [np.mean([r for r, t in zip(right, a.true, strict=True) if t == c]) for c in range(6)] for right in rights
    ]
    np.testing.assert_allclose(found.recall_difference[:6], np.subtract(*recalls[::-1]), rtol=0, atol=1e-12)
    assert np.isnan(found.recall_difference[6])
    assert found.uar.value == pytest.approx(np.mean(recalls[1]) - np.mean(recalls[0]), abs=1e-12)
    assert found.war.value == pytest.approx((sum(rights[1]) - sum(rights[0])) / 300, abs=1e-12)
    assert found.clips_per_class.tolist() == [a.true.tolist().count(c) for c in range(7)]
    assert found.uar.low < found.uar.value < found.uar.high
    back = compare(b, a)
    assert (back.uar.value, back.war.value) == pytest.approx((-found.uar.value, -found.war.value), abs=1e-12)
    assert back.mcnemar_p == found.mcnemar_p


def test_intervals_equal_drawing_subjects_by_hand():
    a = imagined_clips(200, seed=0, has_subjects=True)
    b = imagined_clips(200, seed=1, skill=1.0)  # subjects are taken from the side that knows them
    found = compare(a, b)
    assert found.is_by_subject
    assert not compare(replace(a, subjects=None), b).is_by_subject
    subject, people = np.array(a.subjects), sorted(set(a.subjects))
    random, drawn = np.random.default_rng(5), []
    for _ in range(2000):
        rows = np.concatenate([np.flatnonzero(subject == s) for s in random.choice(people, len(people))])
        scores = [
            confusion_matrix(a.true[rows], np.where(x.predicted[rows] < 0, 7, x.predicted[rows]), 8) for x in (a, b)
        ]
        drawn.append([float(s(scores[1][:7]) - s(scores[0][:7])) for s in (uar, war)])
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    np.testing.assert_allclose([found.uar.low, found.uar.high], [low[0], high[0]], atol=0.015)
    np.testing.assert_allclose([found.war.low, found.war.high], [low[1], high[1]], atol=0.015)
    assert compare(b, a).is_by_subject


def test_classes_and_clips_are_matched_by_name():
    a, b = imagined_clips(150, seed=0), imagined_clips(150, seed=1, skill=1.0)
    expected = compare(a, b)
    shuffled = b.take(np.random.default_rng(0).permutation(150)).in_label_order(BASIC[::-1])
    found = compare(a, shuffled)
    assert found.labels == BASIC
    assert np.array_equal(found.table, expected.table)
    assert (found.uar, found.war, found.mcnemar_p) == (expected.uar, expected.war, expected.mcnemar_p)
    # The same numbers with the names of another order are other answers.
    wrong = replace(b, labels=BASIC[::-1])
    with pytest.raises(DataError, match=r"two true classes.*check the class orders"):
        compare(a, wrong)
    with pytest.raises(DataError, match="shared classes"):
        compare(a, imagined_clips(150, labels=MAFW))
    with pytest.raises(DataError, match="150 in the first and 149 in the second, 149 of them in both"):
        compare(a, b.take(np.arange(149)))


def test_verdicts():
    a, b = imagined_clips(400, seed=0), imagined_clips(400, seed=1)
    assert compare(a, b).verdict() == "No difference that these 400 clips can show."
    assert compare(a, a).verdict() == "No difference that these 400 clips can show."
    good = imagined_clips(400, seed=1, skill=3.0)
    assert compare(a, good).verdict() == "B is better on these 400 clips, in UAR and WAR."
    assert compare(good, a).verdict() == "A is better on these 400 clips, in UAR and WAR."
    few = np.arange(29)
    assert compare(a.take(few), good.take(few)).verdict() == "29 clips are too few to decide which is better."

    def answers(labels, true, predicted):
        clips = imagined_clips(len(true), num_folds=0, fails_every=0, labels=labels)
        return replace(clips, true=true, probabilities=np.eye(len(labels))[predicted])

    # 360 clips of x, 40 of y: A has all x right, B all y, so UAR and WAR point in different directions.
    true = np.repeat([0, 1], [360, 40])
    always_x = np.zeros(400, dtype=int)
    mostly_y = np.where((true == 0) & (np.arange(400) < 320), 0, 1)
    two = [answers(("x", "y"), true, guess) for guess in (always_x, mostly_y)]
    assert compare(*two).verdict() == "B has the higher UAR on these 400 clips; in WAR they show no difference."
    mostly_y = np.where((true == 0) & (np.arange(400) < 200), 0, 1)
    two[1] = answers(("x", "y"), true, mostly_y)
    assert compare(*two).verdict() == "B has the higher UAR, but A the higher WAR on these 400 clips."
