"""Published counts: copied from the document by hand once more, and held together by their sums."""

from __future__ import annotations

import pytest

from dferkit.datasets.published import FERV39K_SCENES, PUBLISHED
from dferkit.labels import LABEL_SETS

# Total and (train, test) of every fold, typed from the published tables, not from the code.
TOTALS = {
    "dfew": (11697, "9356/2341 9356/2341 9357/2340 9358/2339 9361/2336"),
    "ferv39k": (38935, "31088/7847"),
    "mafw-single": (9172, "7333/1839 7335/1837 7339/1833 7340/1832 7341/1831"),
    "mafw-compound": (8996, "7178/1818 7187/1809 7198/1798 7208/1788 7213/1783"),
    "crema-d": (7442, "5979/1463 5972/1470 5966/1476 5966/1476 5885/1557"),
    "ravdess": (1440, " ".join(["1200/240"] * 6)),
    "enterface": (1287, "1017/270 1017/270 1020/267 1017/270 1077/210"),
    "afew": (1154, "773/381"),
}


@pytest.mark.parametrize("layout", TOTALS)
def test_totals_and_folds(layout: str) -> None:
    total, folds = TOTALS[layout]
    published = PUBLISHED[layout]
    assert published.num_clips == total
    assert [f"{a}/{b}" for a, b in published.folds.values()] == folds.split()


@pytest.mark.parametrize("layout", PUBLISHED)
def test_sums_agree(layout: str) -> None:
    """Classes add up to the set, each fold to the set, the test folds of a partition to the set, test classes to their fold."""
    published = PUBLISHED[layout]
    if published.per_class:
        assert sum(published.per_class.values()) == published.num_clips
        assert set(published.per_class) == set(LABEL_SETS[layout])
    for train, test in published.folds.values():
        assert train + test == published.num_clips
    if len(published.folds) > 1:
        assert sum(test for _, test in published.folds.values()) == published.num_clips
    for fold, counts in published.test_per_class.items():
        assert sum(counts.values()) == published.folds[fold][1]
    if len(published.test_per_class) > 1:
        for label, count in published.per_class.items():
            assert sum(counts[label] for counts in published.test_per_class.values()) == count


def test_captioned_clips_are_those_that_are_not_neutral() -> None:
    for layout, captioned in (("mafw-single", 8034), ("mafw-compound", 7858)):
        published = PUBLISHED[layout]
        assert published.num_clips - published.per_class["neutral"] == captioned
        assert {train + test for train, test in published.captioned.values()} == {captioned}


def test_scenes_and_majority_classes() -> None:
    assert len(FERV39K_SCENES) == 22 == len(set(FERV39K_SCENES))
    dfew, mafw = PUBLISHED["dfew"].per_class, PUBLISHED["mafw-single"].per_class
    assert round(max(dfew.values()) / 11697, 3) == 0.228
    assert max(dfew, key=dfew.__getitem__) == "neutral"
    assert round(max(mafw.values()) / 9172, 3) == 0.160
    assert max(mafw, key=mafw.__getitem__) == "sadness"
