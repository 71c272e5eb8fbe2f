"""The protocol of splits: which clips are trained on, held out for the choice of the epoch, and tested."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dferkit.checks import check_range
from dferkit.errors import ConfigError, DataError, ManifestError
from dferkit.labels import check_name
from dferkit.schema import Fold, Record, Release
from dferkit.storage import natural_key

RULES = ("val", "last", "test-leaky")
"""How the epoch is chosen."""

RULE_TEXT = {
    "val": "the epoch with the best UAR on a validation block carved out of the training fold",
    "last": "the last epoch; nothing is selected",
    "test-leaky": "the epoch with the best UAR ON THE TEST FOLD: too optimistic, only to compare with published tables that were made so",
}

NOT_RECORDED = "not recorded"

_INNER_GROUPS = 10
_BLOCK = "the last clips of each class (and scene) by number"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProtocolConfig:
    """How a model is chosen and tested.

    Attributes:
        select: ``val``, ``last`` or ``test-leaky`` (see ``RULE_TEXT``).
        val_share: Share of the training clips of each class that are held out with ``val``.
        times, with_flip: Test views, see ``views.clip_views``.
        num_samples: Frames of a view.
    """

    select: str = "val"
    val_share: float = 0.1
    times: int = 1
    with_flip: bool = False
    num_samples: int = 16

    def __post_init__(self) -> None:
        check_name("selection rule", self.select, RULES)
        check_range(self, "val_share", above=0, most=0.5)


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldClips:
    """Clip ids of one fold as they are used; ``val`` is empty unless the rule needs it; ``val_kind`` describes it."""

    name: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    val_kind: str = ""


def check_disjoint(records: Sequence[Record]) -> None:
    """Refuse a subject that appears in more than one split.

    Raises:
        ManifestError: A subject is in two splits; the message names up to five.
    """
    splits: dict[str, set[str]] = {}
    for record in records:
        if record.subject and record.split:
            splits.setdefault(record.subject, set()).add(record.split)
    shared = sorted(subject for subject, found in splits.items() if len(found) > 1)
    if shared:
        raise ManifestError(
            f"{len(shared)} subjects are in more than one split, such as {', '.join(shared[:5])}; a person belongs to one split only"
        )


def choose_folds(release: Release, wanted: str) -> tuple[Fold, ...]:
    """One fold by its name, or ``all``.

    Raises:
        ConfigError: The release has no folds, or none of that name.
    """
    if not release.folds:
        raise ConfigError(
            f"{release.layout} has no fold: no clip is marked for testing; give a column split with train and test"
        )
    if wanted == "all":
        return release.folds
    chosen = tuple(fold for fold in release.folds if fold.name == wanted)
    if not chosen:
        raise ConfigError(f"no fold {wanted!r}; there are {', '.join(fold.name for fold in release.folds)}, or all")
    return chosen


def split_fold(release: Release, fold: Fold, config: ProtocolConfig) -> FoldClips:
    """Training, validation and test clips of a fold.

    Clips marked ``val`` are never trained on. They are the validation block where there are some; else it is a block of neighbours, as the
    official test folds are.

    Raises:
        DataError: The rule is ``val`` and nothing can be held out.
    """
    by_id = {record.clip_id: record for record in release.records}
    records = [by_id[clip_id] for clip_id in fold.train]
    marked = tuple(record.clip_id for record in records if record.split == "val")
    if config.select != "val":
        train = tuple(record.clip_id for record in records if record.split != "val")
        return FoldClips(name=fold.name, train=train, val=(), test=fold.test)
    val = marked or validation_block(records, share=config.val_share)
    has_people = all(record.subject for record in records)
    held = set(val)
    train = tuple(clip_id for clip_id in fold.train if clip_id not in held)
    if not val or not train:
        why = "its training clips are of one person" if has_people else "it has too few training clips"
        raise DataError(f"fold {fold.name}: no validation block can be held out, since {why}; choose --select last")
    kind = "the clips marked val" if marked else "whole people, the last in order" if has_people else _BLOCK
    return FoldClips(name=fold.name, train=train, val=tuple(val), test=fold.test, val_kind=kind)


def validation_block(records: Sequence[Record], *, share: float) -> tuple[str, ...]:
    """Clips to hold out: whole people where everybody is named, else the last clips of each class (and scene) by number.

    Neighbouring numbers come from one film. A random choice would put clips of one film on both sides and select the epoch that fits the film best;
    the official test folds are blocks of neighbours for the same reason. A class (or scene of a class) with a single clip gives none.
    """
    if all(record.subject for record in records):
        people = sorted({str(record.subject) for record in records}, key=natural_key)
        count = min(math.ceil(share * len(people)), len(people) - 1)
        held = set(people[len(people) - count :])
        return tuple(record.clip_id for record in records if record.subject in held)
    val: list[str] = []
    for members in _neighbourhoods(records).values():
        count = min(math.ceil(share * len(members)), len(members) - 1)
        val += members[len(members) - count :]
    chosen = set(val)
    return tuple(record.clip_id for record in records if record.clip_id in chosen)


def inner_groups(records: Sequence[Record]) -> np.ndarray:
    """A group of each clip for inner folds: its person, or its block of neighbours of the same class and scene.

    The guide of a clip must not have been trained on its neighbours either.
    """
    if all(record.subject for record in records):
        return np.array([str(record.subject) for record in records])
    group: dict[str, str] = {}
    for (label, scene), members in _neighbourhoods(records).items():
        for place, clip_id in enumerate(members):
            group[clip_id] = f"{label}/{scene}/{place * _INNER_GROUPS // len(members)}"
    return np.array([group[record.clip_id] for record in records])


def _neighbourhoods(records: Sequence[Record]) -> Mapping[tuple[str, str], list[str]]:
    """Clip ids in natural order, by class and scene."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for record in sorted(records, key=lambda r: natural_key(r.clip_id)):
        found[str(record.label), record.attributes.get("scene", "")].append(record.clip_id)
    return found
