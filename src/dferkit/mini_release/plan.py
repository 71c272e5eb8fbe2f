"""Which clips a release lists, in which folds. Full size follows the published counts, small size a few clips of every class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dferkit.datasets.published import DFEW_LAST_CLIP, FERV39K_SCENES, PUBLISHED
from dferkit.labels import LABEL_SETS, class_order

_MAFW_LAST_CLIP = 10045
_ACTORS = {
    "crema-d": (1001, 1019, 1037, 1055, 1073),
    "ravdess": (1, 5, 9, 13, 17, 21),
    "enterface": (1, 11, 20, 29, 38),
}
"""One actor of each fold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """One clip of a release.

    Attributes:
        name: Its official name: a number, ``Scene/Emotion/0001``, or the parts of a file name.
        test_of: Fold that tests it; empty where it is only trained on.
        person: Rendered person; clips of one person never stand in two folds.
    """

    name: str
    label: str
    test_of: str
    person: int


def plan_release(layout: str, *, clips_per_class: int, is_full_size: bool, seed: int) -> list[Clip]:
    """All clips of a release, in the order of their names.

    Args:
        clips_per_class: Test clips of each class and fold (small size).
    """
    if layout in _ACTORS:
        return _by_actor(layout, clips_per_class)
    counts = (
        _published_counts(layout)
        if is_full_size
        else {label: dict.fromkeys(PUBLISHED[layout].folds, clips_per_class) for label in LABEL_SETS[layout]}
    )
    if layout in ("ferv39k", "afew"):
        return _one_split(layout, counts, is_full_size)
    last = {"dfew": DFEW_LAST_CLIP}.get(layout, _MAFW_LAST_CLIP)
    return _numbered(counts, last if is_full_size else 0, np.random.default_rng([seed, 11]))


def _published_counts(layout: str) -> dict[str, dict[str, int]]:
    """Test clips by class and fold."""
    published = PUBLISHED[layout]
    if published.test_per_class:
        return {
            label: {fold: published.test_per_class[fold][label] for fold in published.folds}
            for label in published.per_class
        }
    return spread(published.per_class, {fold: test for fold, (_, test) in published.folds.items()})


def spread(rows: Mapping[str, int], columns: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """A table with these sums and rows as even as they can be: equal shares, the rest to the columns that lack most."""
    table = {row: dict.fromkeys(columns, total // len(columns)) for row, total in rows.items()}
    lacking = {column: total - sum(table[row][column] for row in rows) for column, total in columns.items()}
    for row in sorted(rows, key=lambda r: -(rows[r] % len(columns))):
        for column in sorted(columns, key=lambda c: -lacking[c])[: rows[row] % len(columns)]:
            table[row][column] += 1
            lacking[column] -= 1
    return table


def _numbered(counts: Mapping[str, Mapping[str, int]], last: int, rng: np.random.Generator) -> list[Clip]:
    """Clips with numbers. Those of a class are mixed among the others, but each fold tests a stretch of them."""
    labels = [label for label, folds in counts.items() for _ in range(sum(folds.values()))]
    rng.shuffle(labels)
    numbers = np.sort(rng.choice(last, len(labels), replace=False)) + 1 if last else np.arange(len(labels)) + 1
    queue = {label: [fold for fold, count in folds.items() for _ in range(count)] for label, folds in counts.items()}
    folds_of = [queue[label].pop(0) for label in labels]
    people = {fold: i for i, fold in enumerate(sorted(set(folds_of)))}
    return [
        Clip(name=f"{number:05d}", label=label, test_of=fold, person=people[fold] + len(people) * (i % 3))
        for i, (number, label, fold) in enumerate(zip(numbers, labels, folds_of, strict=True))
    ]


def _one_split(layout: str, counts: Mapping[str, Mapping[str, int]], is_full_size: bool) -> list[Clip]:
    """FERV39k and AFEW: one fold, training and test; small size trains on four times as many as it tests."""
    word = {
        "anger": "Angry", "disgust": "Disgust", "fear": "Fear", "happiness": "Happy", "sadness": "Sad", "surprise": "Surprise", "neutral": "Neutral",
    }  # fmt: skip
    clips, published = [], PUBLISHED[layout]
    for turn, (label, folds) in enumerate(counts.items()):
        test = sum(folds.values())
        train = published.per_class[label] - test if is_full_size else 4 * test
        if layout == "afew":
            names = [
                (f"{'test' if i >= train else 'train'}/{word[label]}/{i + 1:09d}", i >= train)
                for i in range(train + test)
            ]
        else:
            two = FERV39K_SCENES[:2]  # in turns first, so that both have test clips
            scenes = FERV39K_SCENES if is_full_size else two if turn % 2 else two[::-1]
            names = list(_scene_names(word[label], train, test, scenes))
        clips += [
            Clip(name=name, label=label, test_of="official" if is_test else "", person=2 * (i % 3) + is_test)
            for i, (name, is_test) in enumerate(names)
        ]
    return clips


def _scene_names(emotion: str, train: int, test: int, scenes: Sequence[str]) -> list[tuple[str, bool]]:
    """Names over the scenes, as even as can be; in each the last numbers are tested."""
    names = []
    for i, scene in enumerate(scenes):
        shares = [count // len(scenes) + (i < count % len(scenes)) for count in (train, test)]
        names += [(f"{scene}/{emotion}/{n + 1:04d}", n >= shares[0]) for n in range(sum(shares))]
    return names


def _by_actor(layout: str, clips_per_class: int) -> list[Clip]:
    """One actor a fold, every class ``clips_per_class`` times."""
    codes = {
        "crema-d": ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD"),
        "ravdess": tuple(f"{n:02d}" for n in range(1, 9)),
        "enterface": class_order("enterface"),
    }[layout]
    sentences = ("DFA", "IEO", "ITH", "ITS", "IWL")
    clips = []
    for fold, actor in enumerate(_ACTORS[layout], 1):
        for code, label in zip(codes, class_order(layout), strict=True):
            for take in range(1, clips_per_class + 1):
                name = {
                    "crema-d": f"{actor}_{sentences[take % 5]}_{code}_XX",
                    "ravdess": f"Actor_{actor:02d}/02-01-{code}-01-{1 + take % 2:02d}-{take:02d}-{actor:02d}",
                    "enterface": f"subject {actor}/{code}/sentence {take}/s{actor}_{code[:2]}_{take}",
                }[layout]
                clips.append(Clip(name=name, label=label, test_of=str(fold), person=fold))
    return clips
