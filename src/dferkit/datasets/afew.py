"""AFEW: a training and a validation set, one folder for each emotion."""

from __future__ import annotations

from collections.abc import Iterator

from dferkit.datasets.by_rule import VIDEOS, clips_below, release_of, stem
from dferkit.datasets.data_set import DataSet, Source
from dferkit.datasets.lists import place
from dferkit.datasets.media import Candidate, find, subfolders
from dferkit.datasets.mini import WORDS, Mini, MiniClip, MiniMedia, one_split
from dferkit.datasets.published import Published, by_class
from dferkit.errors import ManifestError
from dferkit.labels import BASIC, class_order, parse_label
from dferkit.schema import Fold, Record, Release

_MEDIA = (
    Candidate("AFEW_Face", "faces", "face frames of every clip"),
    Candidate("AFEW", "videos", VIDEOS),
)
_SIDES = {"train": ("train", "Train", "Train_AFEW"), "test": ("validation", "val", "Val", "Val_AFEW")}


def read_afew(source: Source) -> Release:
    """``AFEW_Face/{train,validation}/<Emotion>/<clip>``: tested on the validation set, since the labels of the test set are not public."""
    root, findings = source.root, source.findings
    base = source.media.folder or root
    folders = {side: find(base, names) for side, names in _SIDES.items()}
    sides: dict[str, list[str]] = {"train": [], "test": []}
    records = []
    for side, folder in folders.items():
        if folder is None:
            findings.error(
                "LIST_MISSING",
                f"no folder {' or '.join(_SIDES[side][:2])} below {place(base, root)}; AFEW has a training and a validation set",
            )
            continue
        for emotion in subfolders(folder):
            try:
                label = parse_label(emotion.name, source.labels)
            except ManifestError as error:
                findings.error("LABEL_NAME", str(error), place(emotion, root))
                continue
            for path in clips_below(emotion):
                clip_id = f"{'train' if side == 'train' else 'validation'}/{label}/{stem(path)}"
                sides[side].append(clip_id)
                records.append(Record(clip_id=clip_id, video=path, label=label))
    if not records and (not findings.items or not any(folders.values())):
        raise ManifestError(
            f"no clip of AFEW below {root.name}/; expected AFEW_Face/train/<Emotion>/<clip>/ and AFEW_Face/validation/…"
        )
    fold = Fold(name="official", train=tuple(sides["train"]), test=tuple(sides["test"]))
    return release_of(source, records, [fold])


def _names(label: str, _: int, train: int, test: int) -> Iterator[tuple[str, bool]]:
    for i in range(train + test):
        yield f"{'validation' if i >= train else 'train'}/{WORDS[label]}/{i + 1:09d}", i >= train


def _mini_media(clip: MiniClip) -> list[MiniMedia]:
    return [MiniMedia(kind="faces", path=f"AFEW_Face/{clip.name}", picture="{:03d}.jpg")]


_ORDER = class_order("dfew")
PUBLISHED = Published(
    num_clips=1154,
    per_class=by_class(_ORDER, (212, 178, 206, 198, 119, 114, 127)),
    folds={"official": (773, 381)},
    test_per_class={"official": by_class(_ORDER, (62, 61, 64, 63, 45, 40, 46))},
    source="AFEW face frames, lists of Former-DFER; the official validation set has 383 clips, of which two show no face",
)
AFEW = DataSet(
    name="afew",
    title="AFEW",
    labels=BASIC,
    read=read_afew,
    media=_MEDIA,
    is_root_media=True,
    published=PUBLISHED,
    mini=Mini(plan=lambda config: one_split(BASIC, PUBLISHED, config, _names), media=_mini_media),
)
