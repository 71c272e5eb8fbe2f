"""AFEW: a training and a validation set, one folder for each emotion."""

from __future__ import annotations

from pathlib import Path

from dferkit.datasets.assemble import Options
from dferkit.datasets.by_rule import VIDEOS, clips_below, release_of, stem
from dferkit.datasets.findings import Findings
from dferkit.datasets.lists import place
from dferkit.datasets.media import Candidate, choose_media, find, require_root, subfolders
from dferkit.errors import ManifestError
from dferkit.labels import LABEL_SETS, parse_label
from dferkit.schema import Fold, Record, Release

_MEDIA = (
    Candidate("AFEW_Face", "faces", "face frames of every clip"),
    Candidate("AFEW", "videos", VIDEOS),
)
_SIDES = {"train": ("train", "Train", "Train_AFEW"), "test": ("validation", "val", "Val", "Val_AFEW")}


def read_afew(root: Path, options: Options) -> Release:
    """``AFEW_Face/{train,validation}/<Emotion>/<clip>``: tested on the validation set, since the labels of the test set are not public."""
    require_root(root, "AFEW")
    findings = Findings()
    media = choose_media(root, _MEDIA, options.media, or_root=True)
    base = media.folder or root
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
                label = parse_label(emotion.name, LABEL_SETS["afew"])
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
    return release_of("afew", root, media, records, [fold], findings, options)
