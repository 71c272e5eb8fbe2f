"""Small releases in the form of the official ones: which clips they hold, and where the files of a clip go. Nothing is rendered here.

The functions of a data set that write a small release follow the release's description and share nothing with its reader but names of classes and
published counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dferkit.datasets.published import Published
from dferkit.errors import ConfigError

SHORT_FRAMES = 11
WORDS = {
    "anger": "Angry", "disgust": "Disgust", "fear": "Fear", "happiness": "Happy", "sadness": "Sad", "surprise": "Surprise", "neutral": "Neutral",
}  # fmt: skip
"""Classes as FERV39k and AFEW write them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MiniConfig:
    """A small release to write.

    Attributes:
        layout: Name of a data set that has one.
        clips_per_class: Test clips of each class and fold.
        num_frames: Frames of a clip; every tenth clip is shorter (11), as some of the real ones are.
        size: Side of the frames in pixels.
        is_full_size: As many clips as the real release, lists only.
        with_videos: Also videos, where a data set has pictures and videos.
        with_votes: Also DFEW's spreadsheet of votes (needs the extra ``data``; its bytes differ from run to run).
    """

    layout: str
    clips_per_class: int = 2
    num_frames: int = 20
    size: int = 112
    seed: int = 0
    is_full_size: bool = False
    with_videos: bool = True
    with_votes: bool = False

    def __post_init__(self) -> None:
        if self.clips_per_class < 1 or self.num_frames < SHORT_FRAMES or not 48 <= self.size <= 512 or self.size % 2:
            raise ConfigError(
                f"clips per class {self.clips_per_class}, frames {self.num_frames}, size {self.size}; "
                f"give at least 1, at least {SHORT_FRAMES}, and an even number from 48 to 512"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class MiniClip:
    """One clip of a small release.

    Attributes:
        name: Its official name: a number, ``Scene/Emotion/0001``, or the parts of a file name.
        test_of: Fold that tests it; empty where it is only trained on.
        person: Rendered person; clips of one person are never in two folds.
    """

    name: str
    label: str
    test_of: str
    person: int


@dataclass(frozen=True, kw_only=True, slots=True)
class MiniMedia:
    """Path of a clip.

    Attributes:
        kind: ``faces`` (pictures cut to the face), ``frames`` (whole pictures) or ``videos``.
        path: Of the folder of pictures, or of the video, below the release.
        picture: Name of a picture, with its number at the braces. first: Number of the first picture.
        num_frames: Write so many, spread evenly; None for all.
    """

    kind: str
    path: str
    picture: str = "{}.jpg"
    first: int = 1
    num_frames: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Mini:
    """How a small release is written.

    Attributes:
        plan: Its clips, in the order of their names.
        media: Files of a clip.
        write_lists: Writes the annotation files below a folder; None where the labels follow from names.
    """

    plan: Callable[[MiniConfig], list[MiniClip]]
    media: Callable[[MiniClip], Sequence[MiniMedia]]
    write_lists: Callable[[Path, Sequence[MiniClip], MiniConfig], None] | None = None


def numbered(labels: Sequence[str], published: Published, config: MiniConfig, *, last: int) -> list[MiniClip]:
    """Clips with numbers. Those of a class are mixed among the others, but each fold tests a stretch of them.

    Args:
        last: Greatest number of a full-size release; a small one counts from 1.
    """
    counts: Mapping[str, Mapping[str, int]] = (
        _published_counts(published)
        if config.is_full_size
        else {label: dict.fromkeys(published.folds, config.clips_per_class) for label in labels}
    )
    rng = np.random.default_rng([config.seed, 11])
    drawn = [label for label, folds in counts.items() for _ in range(sum(folds.values()))]
    rng.shuffle(drawn)
    numbers = np.arange(len(drawn)) + 1
    if config.is_full_size:
        numbers = np.sort(rng.choice(last, len(drawn), replace=False)) + 1
    queue = {label: [fold for fold, count in folds.items() for _ in range(count)] for label, folds in counts.items()}
    folds_of = [queue[label].pop(0) for label in drawn]
    people = {fold: i for i, fold in enumerate(sorted(set(folds_of)))}
    return [
        MiniClip(name=f"{number:05d}", label=label, test_of=fold, person=people[fold] + len(people) * (i % 3))
        for i, (number, label, fold) in enumerate(zip(numbers, drawn, folds_of, strict=True))
    ]


def _published_counts(published: Published) -> dict[str, dict[str, int]]:
    """Test clips by class and fold."""
    if published.test_per_class:
        return {
            label: {fold: published.test_per_class[fold][label] for fold in published.folds}
            for label in published.per_class
        }
    return _spread(published.per_class, {fold: test for fold, (_, test) in published.folds.items()})


def _spread(rows: Mapping[str, int], columns: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """A table with these sums and rows as even as they can be: equal shares, the rest to the columns that lack most."""
    table = {row: dict.fromkeys(columns, total // len(columns)) for row, total in rows.items()}
    lacking = {column: total - sum(table[row][column] for row in rows) for column, total in columns.items()}
    for row in sorted(rows, key=lambda r: -(rows[r] % len(columns))):
        for column in sorted(columns, key=lambda c: -lacking[c])[: rows[row] % len(columns)]:
            table[row][column] += 1
            lacking[column] -= 1
    return table


def one_split(
    labels: Sequence[str],
    published: Published,
    config: MiniConfig,
    names: Callable[[str, int, int, int], Iterable[tuple[str, bool]]],
) -> list[MiniClip]:
    """One training and one test side; a small release trains on four times as many clips as it tests.

    Args:
        names: (class, its number, training clips, test clips) → name of each clip, and whether it is tested.
    """
    clips = []
    for turn, label in enumerate(published.per_class if config.is_full_size else labels):
        test, train = config.clips_per_class, 4 * config.clips_per_class
        if config.is_full_size:
            test = sum(counts[label] for counts in published.test_per_class.values())
            train = published.per_class[label] - test
        clips += [
            MiniClip(name=name, label=label, test_of="official" if is_test else "", person=2 * (i % 3) + is_test)
            for i, (name, is_test) in enumerate(names(label, turn, train, test))
        ]
    return clips


def one_actor_per_fold(
    actors: Sequence[int], codes: Mapping[str, str], config: MiniConfig, name: Callable[[int, str, int], str]
) -> list[MiniClip]:
    """Each fold tests one actor, who acts every class ``clips_per_class`` times.

    Args:
        codes: Code of a class in file names → class. name: (actor, code, take) → name of the clip.
    """
    return [
        MiniClip(name=name(actor, code, take), label=label, test_of=str(fold), person=fold)
        for fold, actor in enumerate(actors, 1)
        for code, label in codes.items()
        for take in range(1, config.clips_per_class + 1)
    ]
