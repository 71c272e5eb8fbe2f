from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scored_examples import imagined_clips
from sklearn import metrics as oracle

from dferkit.errors import ConfigError, DataError
from dferkit.evaluation.scored import evaluate_clips, join
from dferkit.labels import BASIC, MAFW


def same(a, b):
    return (
        (a.labels, a.clip_ids, a.folds, a.subjects, dict(a.attributes))
        == (b.labels, b.clip_ids, b.folds, b.subjects, dict(b.attributes))
        and np.array_equal(a.true, b.true)
        and np.array_equal(a.probabilities, b.probabilities, equal_nan=True)
    )


def test_predicted_is_the_most_probable_class_and_minus_one_without_answer():
    clips = imagined_clips(60)
    for row, number in zip(clips.probabilities, clips.predicted, strict=True):
        assert number == (-1 if np.isnan(row[0]) else row.tolist().index(max(row)))


def test_scores_equal_scikit_learn_with_failures_and_an_absent_class():
    clips = imagined_clips(300, num_present=6)
    found = evaluate_clips(clips)
    # To scikit-learn a clip without an answer is one of a further class that nobody truly has.
    predicted = np.where(clips.predicted < 0, 7, clips.predicted)
    recall = oracle.recall_score(clips.true, predicted, labels=range(6), average=None, zero_division=0)
    np.testing.assert_allclose(found.per_class_recall[:6], recall, rtol=0, atol=1e-12)
    assert np.isnan(found.per_class_recall[6])
    assert found.uar == pytest.approx(recall.mean(), abs=1e-12)
    assert found.war == pytest.approx(oracle.accuracy_score(clips.true, predicted), abs=1e-12)
    assert np.array_equal(found.confusion, oracle.confusion_matrix(clips.true, predicted, labels=range(8))[:7, :7])
    assert found.num_failed == np.isnan(clips.probabilities[:, 0]).sum() == 18


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.integers(0, 39), min_size=1, max_size=80), cut=st.integers(0, 80))
def test_joining_parts_with_repeats_gives_each_clip_once(rows, cut):
    clips = imagined_clips(40, has_subjects=True)
    parts = [clips.take(np.array(part, dtype=int)) for part in (rows[:cut], rows[cut:])]
    assert same(join(parts), clips.take(np.array(list(dict.fromkeys(rows)))))


def test_contradictions_are_named_and_small_differences_are_not_contradictions():
    clips = imagined_clips(10, num_folds=2, fails_every=0)
    shaken = clips.probabilities + np.array([1e-8, -1e-8, 0, 0, 0, 0, 0])
    assert same(join([clips, replace(clips, probabilities=shaken)]), clips)
    with pytest.raises(DataError, match=r"clip 00000' of fold fd1 .*contradict"):
        join([clips, replace(clips, probabilities=np.roll(clips.probabilities, 1, axis=1))])
    with pytest.raises(DataError, match="contradict"):
        join([clips, replace(clips, true=(clips.true + 1) % 7)])
    with pytest.raises(DataError, match="contradict"):
        join([clips, replace(clips, attributes={"scene": ("x",) * 10})])
    nothing = np.full_like(clips.probabilities, np.nan)
    with pytest.raises(DataError, match="contradict"):
        join([clips, replace(clips, probabilities=nothing)])
    # The same clip in another fold is another row.
    assert len(join([clips, replace(clips, folds=("other",) * 10)]).clip_ids) == 20


def test_parts_that_do_not_fit_are_refused():
    clips = imagined_clips(10)
    with pytest.raises(DataError, match="nothing to join"):
        join([])
    with pytest.raises(DataError, match="number their classes"):
        join([clips, clips.in_label_order(BASIC[::-1])])
    with pytest.raises(DataError, match="columns"):
        join([clips, replace(clips, attributes={})])
    with pytest.raises(DataError, match="columns"):
        join([clips, replace(clips, subjects=("s",) * 10)])


def test_rows_that_repeat_are_not_scored():
    clips = imagined_clips(10)
    with pytest.raises(DataError, match="1 clips occur more than once"):
        evaluate_clips(clips.take(np.array([0, 1, 2, 1])))


def test_order_of_another_system():
    clips = imagined_clips(30)
    shuffled = clips.take(np.random.default_rng(0).permutation(30))
    assert not same(shuffled, clips)
    assert same(shuffled.in_order_of(clips), clips)
    with pytest.raises(DataError, match=r"28 in the first and 27 in the second, 25 of them in both"):
        clips.take(np.arange(27)).in_order_of(clips.take(np.r_[0:25, 27:30]))
    # A name in two folds is matched within its fold.
    twice = join([clips, replace(clips, folds=("x",) * 30, probabilities=clips.probabilities[:, ::-1])])
    assert same(twice.take(np.arange(60)[::-1]).in_order_of(twice), twice)


def test_classes_are_reordered_by_name():
    clips = imagined_clips(50)
    order = ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear")
    other = clips.in_label_order(order)
    assert [order[i] for i in other.true] == [BASIC[i] for i in clips.true]
    for a, b in zip(clips.probabilities, other.probabilities, strict=True):
        assert str(dict(sorted(zip(BASIC, a, strict=True)))) == str(dict(sorted(zip(order, b, strict=True))))
    assert same(other.in_label_order(BASIC), clips)
    assert evaluate_clips(other).uar == pytest.approx(evaluate_clips(clips).uar, abs=1e-12)
    with pytest.raises(DataError, match="shared classes"):
        clips.in_label_order(MAFW)


def test_restricting_leaves_clips_of_the_wanted_classes_with_conditional_probabilities():
    clips = imagined_clips(50)
    wanted = ("neutral", "anger", "fear")
    kept = clips.restrict(wanted)
    rows = [i for i in range(50) if BASIC[clips.true[i]] in wanted]
    assert kept.clip_ids == tuple(clips.clip_ids[i] for i in rows)
    assert [wanted[i] for i in kept.true] == [BASIC[clips.true[i]] for i in rows]
    for i, row in zip(rows, kept.probabilities, strict=True):
        chosen = clips.probabilities[i][[6, 0, 2]]
        np.testing.assert_allclose(row, chosen / chosen.sum(), rtol=1e-12)
    with pytest.raises(ConfigError, match="contempt"):
        clips.restrict(("anger", "contempt"))


def test_wrong_columns_are_refused():
    clips = imagined_clips(5, fails_every=0)
    negative = np.tile([1.5, -0.5, 0, 0, 0, 0, 0], (5, 1))
    half = np.where(np.eye(5, 7) > 0, np.nan, clips.probabilities)
    for change, says in (
        ({"labels": ("a",) * 7}, "different names"),
        ({"true": np.array([0, 1, 2, 3, 7])}, "clip 00004' has true class 7"),
        ({"true": np.array([0, 1, 2, 3, -1])}, "true class -1"),
        ({"folds": ("",) * 4}, "folds has 4 values for 5"),
        ({"subjects": ("a", "", "b", "c", "d")}, "clip 00001' has no subject"),
        ({"attributes": {"scene": ("a",)}}, "scene has 1"),
        ({"probabilities": negative}, "0 or more and sum to 1"),
        ({"probabilities": clips.probabilities * 2}, "0 or more and sum to 1"),
        ({"probabilities": half}, "all be NaN"),
        ({"probabilities": clips.probabilities[:, :6]}, "shape"),
    ):
        with pytest.raises(DataError, match=says):
            replace(clips, **change)
