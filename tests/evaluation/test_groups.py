from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scored_examples import imagined_clips

from dferkit.errors import ConfigError
from dferkit.evaluation.groups import evaluate_groups
from dferkit.evaluation.metrics import wilson_interval
from dferkit.labels import BASIC


def test_each_group_is_scored_on_its_own_clips():
    clips = imagined_clips(400, num_present=6)
    found = evaluate_groups(clips, "scene")
    of_clip = clips.attributes["scene"]
    assert [group.value for group in found.groups] == ["crisis", "rare", "school"]
    assert found.num_without_value == of_clip.count("")
    scores = {}
    for group in found.groups:
        rows = [i for i, scene in enumerate(of_clip) if scene == group.value]
        assert group.num_clips == len(rows)
        of_class = {c: [clips.predicted[i] == c for i in rows if clips.true[i] == c] for c in range(7)}
        assert group.clips_per_class.tolist() == [len(of_class[c]) for c in range(7)]
        if group.value == "rare":
            assert not group.has_enough
            assert (group.evaluation, group.recall_ci95) == (None, None)
            continue
        assert group.has_enough
        recalls = [np.mean(right) for right in of_class.values() if right]
        assert group.evaluation.uar == pytest.approx(np.mean(recalls), abs=1e-12)
        assert group.evaluation.war == pytest.approx(sum(map(sum, of_class.values())) / len(rows), abs=1e-12)
        assert group.evaluation.war_ci95[0] < group.evaluation.war < group.evaluation.war_ci95[1]
        for c, right in of_class.items():
            if right:
                expected = stats.binomtest(int(sum(right)), len(right)).proportion_ci(method="wilson")
                np.testing.assert_allclose(group.recall_ci95[c], expected, rtol=0, atol=1e-12)
            else:
                assert np.isnan(group.recall_ci95[c]).all()
                assert BASIC[c] == "neutral"
        scores[group.value] = (group.evaluation.uar, group.evaluation.war)
    gaps = np.abs(np.subtract(scores["crisis"], scores["school"]))
    assert (found.uar_gap, found.war_gap) == pytest.approx(gaps, abs=1e-12)


@pytest.mark.parametrize(("num_clips", "has_enough"), [(29, False), (30, True)])
def test_thirty_clips_are_enough(num_clips, has_enough):
    clips = imagined_clips(num_clips)
    clips = replace(clips, attributes={"tone": ("x",) * num_clips})
    found = evaluate_groups(clips, "tone")
    assert found.groups[0].has_enough is has_enough
    assert np.isnan(found.uar_gap)  # one group has no gap
    assert np.isnan(found.war_gap)


def test_an_unknown_attribute_names_the_known_ones():
    with pytest.raises(ConfigError, match="'age'; known: scene"):
        evaluate_groups(imagined_clips(10), "age")


def test_wilson_interval_equals_scipy_at_the_ends_too():
    right, total = np.array([0, 5, 3, 0, 700, 1]), np.array([5, 5, 8, 0, 1000, 1])
    found = wilson_interval(right, total)
    for k, n, interval in zip(right, total, found, strict=True):
        if n == 0:
            assert np.isnan(interval).all()
            continue
        expected = stats.binomtest(int(k), int(n)).proportion_ci(method="wilson")
        np.testing.assert_allclose(interval, expected, rtol=0, atol=1e-12)
