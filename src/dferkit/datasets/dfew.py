"""DFEW: five folds of 11,697 single-labelled clips, seven classes numbered from 1.

Jiang et al., "DFEW: A Large-Scale Database for Recognizing Dynamic Facial Expressions in the Wild", ACM MM 2020.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from dferkit.datasets.assemble import Lists, assemble
from dferkit.datasets.data_set import DataSet, Source
from dferkit.datasets.findings import Findings
from dferkit.datasets.lists import Line, Listed, place, read_lines
from dferkit.datasets.media import Candidate, entries, find
from dferkit.datasets.mini import Mini, MiniClip, MiniConfig, MiniMedia, numbered
from dferkit.datasets.published import COUNTED, Published, by_class, by_fold, by_fold_and_class
from dferkit.datasets.votes import read_votes
from dferkit.errors import ManifestError
from dferkit.labels import BASIC, class_order
from dferkit.schema import Record, Release
from dferkit.storage import write_text

LAST_CLIP = 16372
"""Number of the last clip; 11,697 of them are single-labelled and have a face."""
FOLDS = ("1", "2", "3", "4", "5")
_HEADER = "video_name,label"
_ORDER = class_order("dfew")
_BY_NUMBER = dict(enumerate(_ORDER, 1))

# The release; the layout of the first public baseline; copies that keep the release's folders but rename the files.
_LISTS = (
    ("EmoLabel_DataSplit/train(single-labeled)/set_{}.csv", "EmoLabel_DataSplit/test(single-labeled)/set_{}.csv"),
    (
        "EmoLabel_DataSplit/train(single-labeled)/train_set_{}.csv",
        "EmoLabel_DataSplit/test(single-labeled)/test_set_{}.csv",
    ),
    ("label/single_trainset_{}.csv", "label/single_testset_{}.csv"),
)
_FACES = "all face frames of every clip"
MEDIA = (
    Candidate("Clip/clip_224x224", "faces", _FACES),
    Candidate("Clip/clip_256x256", "faces", _FACES),
    Candidate("Clip/jpg_256", "faces", _FACES),
    Candidate("Clip/clip_jpg_256", "faces", _FACES),
    Candidate("clip_224x224", "faces", _FACES),
    Candidate("DFEW_Frame_Face", "faces", _FACES),
    Candidate("data", "faces", "face frames of the baseline's layout"),
    Candidate("Clip/original", "videos", "original videos: there is no folder of all face frames"),
    Candidate("original", "videos", "original videos: there is no folder of all face frames"),
    Candidate("Clip/clip_224x224_16f", "faces", "16 interpolated frames a clip: there is nothing else"),
    Candidate("clip_224x224_16f", "faces", "16 interpolated frames a clip: there is nothing else"),
)
PUBLISHED = Published(
    num_clips=11697,
    per_class=by_class(_ORDER, (2445, 1894, 2669, 2173, 1469, 145, 902)),
    folds=by_fold((9356, 9356, 9357, 9358, 9361), (2341, 2341, 2340, 2339, 2336)),
    test_per_class=by_fold_and_class(
        _ORDER,
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
    source=f"DFEW, {COUNTED} in a public copy of its five folds; SVFAP's preparation prints the same totals",
    short_clips=14,
)


def read_dfew(source: Source) -> Release:
    """Read the lists of every fold, and the votes if requested.

    Raises:
        ManifestError: There is no list of DFEW.
    """
    root, media, findings, options = source.root, source.media, source.findings, source.options
    if media.folder is not None and media.folder.name.endswith("_16f") and not options.media:
        findings.warning(
            "MEDIA_16F",
            f"only {media.name(root)} is there: 16 frames a clip, interpolated in time. Sampling with a stride repeats frames, and speed is lost; "
            "get clip_224x224, or give this folder with --media to use it",
        )
    folds: dict[str, Lists] = {}
    files: list[Path] = []
    for fold in FOLDS:
        pair = _find_lists(root, fold)
        if pair is None:
            continue
        files += pair
        folds[fold] = Lists(*(_read_list(path, root, findings) for path in pair))
    if not folds:
        raise ManifestError(
            f"no list of DFEW below {root.name}/; expected EmoLabel_DataSplit/train(single-labeled)/set_1.csv to set_5.csv and the same under test(single-labeled)"
        )
    for fold in FOLDS:
        if fold not in folds:
            findings.error(
                "LIST_MISSING",
                f"the lists of fold {fold} are missing; the release has set_1.csv to set_5.csv for training and test",
            )
    there = {int(name): path for name, path in entries(media.folder).items() if name.isdecimal()}
    release = assemble(
        source,
        folds,
        files,
        lambda line: Record(clip_id=line.clip_id, video=_video(line.clip_id, there, source), label=line.label),
        is_partition=len(folds) == len(FOLDS),
        has_blocks=True,
    )
    return _with_votes(release, root, findings) if options.with_votes else release


def _find_lists(root: Path, fold: str) -> tuple[Path, Path] | None:
    for train, test in _LISTS:
        pair = find(root, [train.format(fold)]), find(root, [test.format(fold)])
        if pair[0] is not None and pair[1] is not None:
            return pair[0], pair[1]
    return None


def _video(clip_id: str, there: dict[int, Path], source: Source) -> Path:
    """Path of the clip; the release pads numbers with zeros in one folder and not in another."""
    if path := there.get(int(clip_id)):
        return path
    folder = source.media.folder or source.root / MEDIA[0].folder
    return folder / (f"{int(clip_id)}.mp4" if source.media.kind == "videos" else clip_id)


def _read_list(path: Path, root: Path, findings: Findings) -> list[Listed]:
    lines = read_lines(path, root, findings)
    if not lines:
        return []
    header = lines[0].text.replace(" ", "").lower()
    if header == _HEADER:
        lines = lines[1:]
    elif re.match(r"\d", header):
        findings.error(
            "HEADER_MISSING",
            f"the first line is {lines[0].text!r}, but the release's lists begin with {_HEADER!r}; restore it",
            lines[0].where,
        )
    else:
        findings.error(
            "HEADER",
            f"the header is {lines[0].text!r}, but the release's is {_HEADER!r}; use the release's own lists",
            lines[0].where,
        )
        return []
    rows = [row for line in lines if (row := _cells(line, findings)) is not None]
    zero = next((where for _, number, where in rows if number == 0), None)
    if zero is not None:
        findings.error(
            "LABEL_ZERO_BASED",
            f"label 0: {place(path, root)} is a copy that counts classes from 0 (as S2D's and S4D's do); the release counts from 1 (1 happy, 2 sad, 3 neutral, 4 angry, "
            "5 surprise, 6 disgust, 7 fear), so every class of this file would be read as another. Use the release's own lists",
            zero,
        )
        return []
    listed = []
    for clip_id, number, where in rows:
        if number not in _BY_NUMBER:
            findings.error("LABEL_RANGE", f"label {number} of clip {clip_id}; expected 1 to 7", where)
        else:
            listed.append(Listed(clip_id, _BY_NUMBER[number], where))
    return listed


def _cells(line: Line, findings: Findings) -> tuple[str, int, str] | None:
    cells = [cell.strip() for cell in line.text.split(",")]
    if len(cells) != 2:
        found = "spaces or tabs between them" if len(cells) == 1 else f"{len(cells)} cells"
        findings.error(
            "CELLS", f"{line.text!r} has {found}; expected two cells with a comma, such as 2522,6", line.where
        )
        return None
    name, label = cells
    if not name.isdecimal() or not 1 <= int(name) <= LAST_CLIP:
        findings.error("CLIP_NAME", f"clip {name!r}; expected a number from 1 to {LAST_CLIP}", line.where)
        return None
    if not re.fullmatch(r"-?\d+", label):
        findings.error("LABEL_NUMBER", f"label {label!r} of clip {name}; expected a number from 1 to 7", line.where)
        return None
    return f"{int(name):05d}", int(label), line.where


def _with_votes(release: Release, root: Path, findings: Findings) -> Release:
    path = find(root, ["Annotation/annotation.xlsx", "annotation.xlsx"])
    if path is None:
        findings.error(
            "VOTES_MISSING",
            "Annotation/annotation.xlsx is missing, so there are no votes; get it, or leave out --votes",
        )
        return release
    votes = read_votes(path, root, {r.clip_id: str(r.label) for r in release.records}, findings)
    return replace(release, records=tuple(replace(r, votes=votes.get(r.clip_id)) for r in release.records))


def _plan(config: MiniConfig) -> list[MiniClip]:
    return numbered(BASIC, PUBLISHED, config, last=LAST_CLIP)


def _mini_media(clip: MiniClip) -> list[MiniMedia]:
    return [
        MiniMedia(kind="faces", path=f"Clip/clip_224x224/{clip.name}", picture=f"{clip.name}_{{:05d}}.jpg"),
        MiniMedia(kind="faces", path=f"Clip/clip_224x224_16f/{clip.name}", num_frames=16),
        MiniMedia(kind="videos", path=f"Clip/original/{int(clip.name)}.mp4"),
    ]


def _write_lists(root: Path, clips: Sequence[MiniClip], config: MiniConfig) -> None:
    number = {label: i for i, label in enumerate(_ORDER, 1)}
    base = root / "EmoLabel_DataSplit"
    for fold in "12345":
        for side, name in (("train", "train(single-labeled)"), ("test", "test(single-labeled)")):
            chosen = [clip for clip in clips if (clip.test_of == fold) == (side == "test")]
            # Both spellings of a number occur: spreadsheets drop its zeros.
            rows = [f"{clip.name if side == 'train' else int(clip.name)},{number[clip.label]}" for clip in chosen]
            write_text(base / name / f"set_{fold}.csv", "\n".join(["video_name,label", *rows]) + "\n")
    if config.with_votes:
        _write_votes(root / "Annotation" / "annotation.xlsx", clips, config.seed)


def _write_votes(path: Path, clips: Sequence[MiniClip], seed: int) -> None:
    rng = np.random.default_rng([seed, 12])
    rows = []
    for clip in clips:
        votes = rng.multinomial(3, np.full(7, 1 / 7))
        votes[_ORDER.index(clip.label)] += 7
        rows.append([*votes.tolist(), int(clip.name), _ORDER.index(clip.label) + 1])
    rows.append([2, 2, 2, 1, 1, 1, 1, int(clips[-1].name) + 1, 0])  # a clip without a majority: in no list
    names = ("1happy", "2sad", "3neutral", "4angry", "5surprise", "6disgust", "7fear", "order", "annotation")
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=list(names)).to_excel(path, index=False)


DFEW = DataSet(
    name="dfew",
    title="DFEW",
    labels=BASIC,
    read=read_dfew,
    media=MEDIA,
    is_flat=True,
    has_lists=True,
    has_votes=True,
    published=PUBLISHED,
    mini=Mini(plan=_plan, media=_mini_media, write_lists=_write_lists),
)
