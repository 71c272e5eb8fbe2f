"""Published counts: copied from the document by hand once more, and held together by their sums."""

from __future__ import annotations

import pytest

from dferkit.datasets import DATA_SETS
from dferkit.datasets.ferv39k import SCENES

PUBLISHED = {name: entry.published for name, entry in DATA_SETS.items() if entry.published.num_clips}

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
        assert set(published.per_class) == set(DATA_SETS[layout].labels)
    for train, test in published.folds.values():
        assert train + test == published.num_clips
    if len(published.folds) > 1:
        assert sum(test for _, test in published.folds.values()) == published.num_clips
    for fold, counts in published.test_per_class.items():
        assert sum(counts.values()) == published.folds[fold][1]
    if len(published.test_per_class) > 1:
        for label, count in published.per_class.items():
            assert sum(counts[label] for counts in published.test_per_class.values()) == count


def test_published_numbers_of_captioned_clips_are_those_that_are_not_neutral() -> None:
    for layout, captioned in (("mafw-single", 8034), ("mafw-compound", 7858)):
        published = PUBLISHED[layout]
        assert published.num_clips - published.per_class["neutral"] == captioned


def test_scenes_and_majority_classes() -> None:
    assert len(SCENES) == 22 == len(set(SCENES))
    dfew, mafw = PUBLISHED["dfew"].per_class, PUBLISHED["mafw-single"].per_class
    assert round(max(dfew.values()) / 11697, 3) == 0.228
    assert max(dfew, key=dfew.__getitem__) == "neutral"
    assert round(max(mafw.values()) / 9172, 3) == 0.160
    assert max(mafw, key=mafw.__getitem__) == "sadness"


# Class counts, typed once more from the tables of the description.
CLASSES = {
    "dfew": "happiness 2445 sadness 1894 neutral 2669 anger 2173 surprise 1469 disgust 145 fear 902",
    "ferv39k": "anger 7393 disgust 2300 fear 2111 happiness 7327 neutral 9748 sadness 6916 surprise 3140",
    "mafw-single": "anger 1390 disgust 639 fear 625 happiness 1242 neutral 1138 sadness 1470 surprise 1072 contempt 236 anxiety 916 helplessness 262 disappointment 182",
    "afew": "happiness 212 sadness 178 neutral 206 anger 198 surprise 119 disgust 114 fear 127",
    "ravdess": "neutral 96 calm 192 happiness 192 sadness 192 anger 192 fear 192 disgust 192 surprise 192",
}
TESTS = {
    ("dfew", "1"): "happiness 489 sadness 379 neutral 534 anger 435 surprise 294 disgust 29 fear 181",
    ("dfew", "3"): "happiness 489 sadness 379 neutral 534 anger 435 surprise 294 disgust 29 fear 180",
    ("dfew", "5"): "happiness 489 sadness 378 neutral 533 anger 434 surprise 293 disgust 29 fear 180",
    ("ferv39k", "official"): "anger 1487 disgust 467 fear 431 happiness 1473 neutral 1958 sadness 1393 surprise 638",
    (
        "mafw-single",
        "1",
    ): "anger 278 disgust 128 fear 125 happiness 249 neutral 228 sadness 294 surprise 215 contempt 48 anxiety 184 helplessness 53 disappointment 37",
    (
        "mafw-single",
        "5",
    ): "anger 278 disgust 127 fear 125 happiness 248 neutral 227 sadness 294 surprise 214 contempt 47 anxiety 183 helplessness 52 disappointment 36",
    ("afew", "official"): "happiness 62 sadness 61 neutral 64 anger 63 surprise 45 disgust 40 fear 46",
    ("ravdess", "6"): "neutral 16 calm 32 happiness 32 sadness 32 anger 32 fear 32 disgust 32 surprise 32",
}


def pairs(text: str) -> dict[str, int]:
    words = text.split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=True))


@pytest.mark.parametrize("layout", CLASSES)
def test_class_counts(layout: str) -> None:
    assert dict(PUBLISHED[layout].per_class) == pairs(CLASSES[layout])


@pytest.mark.parametrize(("layout", "fold"), TESTS)
def test_class_counts_of_tests(layout: str, fold: str) -> None:
    assert dict(PUBLISHED[layout].test_per_class[fold]) == pairs(TESTS[layout, fold])


def test_compound_counts() -> None:
    counts = PUBLISHED["mafw-compound"].per_class
    assert len(counts) == 43
    assert (counts["neutral"], counts["anger_disgust"], counts["sadness_helplessness"]) == (1138, 883, 542)
    assert (counts["fear_sadness_anxiety"], counts["disgust_helplessness_disappointment"]) == (19, 12)
    assert sum("_" in label for label in counts) == 32
