"""What the authors and users of the official releases have published: clips, classes, folds. ``--strict`` compares with it.

Only counts are here. The data sets forbid passing on their lists, so no clip of theirs is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from dferkit.labels import class_order

_COUNTED = "counted from the release's own lists"


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """Counts of one layout.

    Attributes:
        per_class: Clips of each class over the whole set; empty where nobody published them.
        folds: (train, test) clips by name of the fold.
        test_per_class: The same by class, for the test side of each fold; a class not told is left out.
        captioned: Clips with a human caption, train and test by fold; empty where there are none.
        short_clips: Clips with fewer than 16 frames, by frames folder; None where unknown.
        source: Who says so.
    """

    num_clips: int
    per_class: Mapping[str, int]
    folds: Mapping[str, tuple[int, int]]
    test_per_class: Mapping[str, Mapping[str, int]]
    source: str
    captioned: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    short_clips: int | None = None


def _by_class(order: Sequence[str], counts: Sequence[int]) -> Mapping[str, int]:
    return MappingProxyType(dict(zip(order, counts, strict=True)))


def _folds(train: Sequence[int], test: Sequence[int]) -> Mapping[str, tuple[int, int]]:
    return MappingProxyType({str(k + 1): pair for k, pair in enumerate(zip(train, test, strict=True))})


def _tests(order: Sequence[str], columns: Sequence[Sequence[int]]) -> Mapping[str, Mapping[str, int]]:
    """From one row per class, of five folds each (a single number stands for all five)."""
    rows = [tuple(row) if len(row) == 5 else tuple(row) * 5 for row in columns]
    return MappingProxyType({str(k + 1): _by_class(order, [row[k] for row in rows]) for k in range(5)})


_D, _M = class_order("dfew"), class_order("mafw")

_COMPOUND_COUNTS = (
    "neutral 1138, happiness 1075, anger_disgust 883, sadness 610, sadness_helplessness 542, surprise 497, anger 425, anxiety 408, "
    "fear_surprise 392, disgust 310, surprise_anxiety 232, fear_anxiety 218, disgust_contempt 208, happiness_surprise 206, "
    "sadness_anxiety 185, fear 180, anxiety_helplessness 156, helplessness 143, disgust_anxiety 131, contempt 111, "
    "helplessness_disappointment 98, fear_sadness 96, anger_sadness 90, sadness_anxiety_helplessness 76, "
    "anxiety_helplessness_disappointment 59, anger_anxiety 54, happiness_contempt 52, fear_surprise_anxiety 45, disappointment 41, "
    "disgust_helplessness 39, disgust_surprise 37, anger_disgust_anxiety 36, anger_surprise 33, sadness_disappointment 32, "
    "sadness_surprise 26, sadness_helplessness_disappointment 22, fear_sadness_anxiety 19, disgust_anxiety_helplessness 19, "
    "anger_disgust_contempt 18, disgust_sadness 17, anger_helplessness 13, disgust_disappointment 12, disgust_helplessness_disappointment 12"
)

DFEW_LAST_CLIP = 16372
"""Number of the last clip of DFEW; 11,697 of them are single-labelled and have a face."""

FERV39K_SCENES = [
    "Action",
    "Argue",
    "Business",
    "Conflict",
    "Contest",
    "Crime",
    "Crisis",
    "DailyLife",
    "ElegantArt",
    "Experiment",
    "History",
    "Interview",
    "Liveshow",
    "Medicine",
    "OfficialEvent",
    "ScholarReport",
    "School",
    "Social",
    "Speech",
    "Talkshow",
    "Terror",
    "War",
]

PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        "dfew": Published(
            num_clips=11697,
            per_class=_by_class(_D, (2445, 1894, 2669, 2173, 1469, 145, 902)),
            folds=_folds((9356, 9356, 9357, 9358, 9361), (2341, 2341, 2340, 2339, 2336)),
            test_per_class=_tests(
                _D,
                (
                    (489,),
                    (379, 379, 379, 379, 378),
                    (534, 534, 534, 534, 533),
                    (435, 435, 435, 434, 434),
                    (294, 294, 294, 294, 293),
                    (29,),
                    (181, 181, 180, 180, 180),
                ),
            ),
            source=f"DFEW, {_COUNTED} in a public copy of its five folds; SVFAP's preparation prints the same totals",
            short_clips=14,
        ),
        "ferv39k": Published(
            num_clips=38935,
            per_class=_by_class(
                ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
                (7393, 2300, 2111, 7327, 9748, 6916, 3140),
            ),
            folds=MappingProxyType({"official": (31088, 7847)}),
            test_per_class=MappingProxyType(
                {
                    "official": _by_class(
                        ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
                        (1487, 467, 431, 1473, 1958, 1393, 638),
                    )
                }
            ),
            source=f"FERV39k, {_COUNTED} in a public copy; SVFAP's preparation prints the same totals",
            short_clips=4070,
        ),
        "mafw-single": Published(
            num_clips=9172,
            per_class=_by_class(_M, (1390, 639, 625, 1242, 1138, 1470, 1072, 236, 916, 262, 182)),
            folds=_folds((7333, 7335, 7339, 7340, 7341), (1839, 1837, 1833, 1832, 1831)),
            test_per_class=_tests(
                _M,
                (
                    (278,),
                    (128, 128, 128, 128, 127),
                    (125,),
                    (249, 249, 248, 248, 248),
                    (228, 228, 228, 227, 227),
                    (294,),
                    (215, 215, 214, 214, 214),
                    (48, 47, 47, 47, 47),
                    (184, 183, 183, 183, 183),
                    (53, 53, 52, 52, 52),
                    (37, 37, 36, 36, 36),
                ),
            ),
            captioned=_folds((6423, 6425, 6429, 6429, 6430), (1611, 1609, 1605, 1605, 1604)),
            source=f"MAFW, {_COUNTED}; agrees with a user's inventory of its spreadsheets",
            short_clips=8,
        ),
        "mafw-compound": Published(
            num_clips=8996,
            per_class=MappingProxyType({name: int(n) for name, n in (c.split() for c in _COMPOUND_COUNTS.split(", "))}),
            folds=_folds((7178, 7187, 7198, 7208, 7213), (1818, 1809, 1798, 1788, 1783)),
            test_per_class=MappingProxyType({}),
            captioned=_folds((6268, 6277, 6288, 6297, 6302), (1590, 1581, 1570, 1561, 1556)),
            source=f"MAFW compound, {_COUNTED}; 11 single and 32 joint classes",
        ),
        "crema-d": Published(
            num_clips=7442,
            per_class=MappingProxyType({}),
            folds=_folds((5979, 5972, 5966, 5966, 5885), (1463, 1470, 1476, 1476, 1557)),
            test_per_class=MappingProxyType({}),
            source="CREMA-D, file names of its repository; folds of 18 actors as in HiCMAE and MAE-DFER",
        ),
        "ravdess": Published(
            num_clips=1440,
            per_class=_by_class(class_order("ravdess"), (96, *(192,) * 7)),
            folds=_folds((1200,) * 6, (240,) * 6),
            test_per_class=MappingProxyType(
                {str(k + 1): _by_class(class_order("ravdess"), (16, *(32,) * 7)) for k in range(6)}
            ),
            source="RAVDESS, its naming rule: 24 actors, speech; folds of 4 actors as in HiCMAE and MAE-DFER",
        ),
        "enterface": Published(
            num_clips=1287,
            per_class=MappingProxyType({}),
            folds=_folds((1017, 1017, 1020, 1017, 1077), (270, 270, 267, 270, 210)),
            test_per_class=MappingProxyType({}),
            source="eNTERFACE'05, its naming rule: subject 6 is absent, subject 23 has 27 clips; folds as in HiCMAE and MAE-DFER",
        ),
        "afew": Published(
            num_clips=1154,
            per_class=_by_class(_D, (212, 178, 206, 198, 119, 114, 127)),
            folds=MappingProxyType({"official": (773, 381)}),
            test_per_class=MappingProxyType({"official": _by_class(_D, (62, 61, 64, 63, 45, 40, 46))}),
            source="AFEW face frames, lists of Former-DFER; the official validation set has 383 clips, of which two show no face",
        ),
    }
)
