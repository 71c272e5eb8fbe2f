"""Lists of clips → a release, with the checks that hold for every data set with lists."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dferkit.datasets.data_set import Source
from dferkit.datasets.findings import Findings
from dferkit.datasets.lists import Listed
from dferkit.errors import ConfigError
from dferkit.schema import Fold, Record, Release
from dferkit.storage import natural_key


@dataclass(frozen=True, slots=True)
class Lists:
    """Both lists of one fold."""

    train: Sequence[Listed]
    test: Sequence[Listed]


def assemble(
    source: Source,
    folds: Mapping[str, Lists],
    files: Iterable[Path],
    record_of: Callable[[Listed], Record],
    *,
    is_partition: bool = False,
    has_blocks: bool = False,
) -> Release:
    """One release from its lists; what is wrong with them is added to the findings of the source.

    Args:
        folds: Both lists of each fold, by its name.
        files: Annotation files that were read, for the digest.
        record_of: Makes the record of a clip from the first line that names it.
        is_partition: Every clip is tested in exactly one fold.
        has_blocks: The official test clips of a class are neighbours by number.

    Raises:
        ConfigError: ``record_of`` gives a clip another name than its list does.
    """
    findings = source.findings
    first: dict[str, Listed] = {}
    made = []
    for name, lists in folds.items():
        train, test = _unique(lists.train, first, findings), _unique(lists.test, first, findings)
        for clip_id in sorted(set(train) & set(test), key=natural_key):
            findings.error(
                "SPLIT_LEAK", f"clip {clip_id} is in the training and the test list of fold {name}", test[clip_id]
            )
        made.append(Fold(name=name, train=tuple(train), test=tuple(test)))
    if is_partition:
        _check_partition(made, findings)
    if has_blocks:
        _check_blocks(made, {clip_id: line.label for clip_id, line in first.items()}, findings)
    names = sorted(first, key=natural_key)
    records = [record_of(first[clip_id]) for clip_id in names]
    for clip_id, record in zip(names, records, strict=True):
        if record.clip_id != clip_id:
            raise ConfigError(
                f"{source.name}: record_of changed the clip name {clip_id!r} into {record.clip_id!r}; keep the name that the list gives"
            )
    return source.release(records, made, digest_lists(files))


def digest_lists(files: Iterable[Path]) -> str:
    """SHA-256 over the bytes of the annotation files, in order."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _unique(lines: Sequence[Listed], first: dict[str, Listed], findings: Findings) -> dict[str, str]:
    """Clip ids of one list with their places; ``first`` gathers the first line of every clip."""
    seen: dict[str, Listed] = {}
    for line in lines:
        earlier = seen.get(line.clip_id)
        if earlier is not None:
            labels = "" if earlier.label == line.label else f", as {earlier.label} and as {line.label}"
            findings.error(
                "LISTED_TWICE",
                f"clip {line.clip_id} is listed twice{labels}; the first is at {earlier.where}",
                line.where,
            )
            continue
        seen[line.clip_id] = line
        known = first.setdefault(line.clip_id, line)
        if known.label != line.label:
            findings.error(
                "LABEL_CONFLICT",
                f"clip {line.clip_id} is {line.label} here, but {known.label} at {known.where}",
                line.where,
            )
    return {clip_id: line.where for clip_id, line in seen.items()}


def _check_partition(folds: Sequence[Fold], findings: Findings) -> None:
    tested = Counter(clip_id for fold in folds for clip_id in fold.test)
    everyone = {clip_id for fold in folds for clip_id in (*fold.train, *fold.test)}
    often = sorted((c for c, times in tested.items() if times > 1), key=natural_key)
    never = sorted(everyone - set(tested), key=natural_key)
    if often:
        findings.error(
            "FOLD_OVERLAP",
            f"{_count(often)} in the test list of more than one fold, such as {often[0]}; the official test folds share none",
        )
    if never:
        findings.error(
            "FOLD_INCOMPLETE",
            f"{_count(never)} in no test list, such as {never[0]}; the official test folds cover every clip",
        )
    for fold in folds:
        missing = sorted(everyone - set(fold.train) - set(fold.test), key=natural_key)
        if missing:
            findings.error(
                "FOLD_MISSING_CLIPS",
                f"fold {fold.name} lists neither for training nor for testing {_count(missing, 'that other folds have')}, such as {missing[0]}",
            )


def _count(clips: Sequence[str], what: str = "") -> str:
    verb = "clip is" if len(clips) == 1 else "clips are"
    return f"{len(clips)} {'clip' if len(clips) == 1 else 'clips'} {what}" if what else f"{len(clips)} {verb}"


def _check_blocks(folds: Sequence[Fold], labels: Mapping[str, str], findings: Findings) -> None:
    """Every official fold tests neighbours: one range of clip numbers per class. Other lists do not."""
    by_class: dict[str, list[str]] = {}
    for clip_id in sorted(labels, key=natural_key):
        by_class.setdefault(labels[clip_id], []).append(clip_id)
    for fold in folds:
        test = set(fold.test)
        for label, clips in by_class.items():
            places = [i for i, clip_id in enumerate(clips) if clip_id in test]
            if places and places[-1] - places[0] + 1 != len(places):
                findings.warning(
                    "NOT_A_BLOCK",
                    f"the test clips of class {label} in fold {fold.name} are not a block of neighbouring clip numbers, as they are in every official fold; "
                    "these lists are not the official ones, and clips of one film may be on both sides",
                )
