"""DFEW: five folds of 11,697 single-labelled clips, seven classes numbered from 1.

Jiang et al., "DFEW: A Large-Scale Database for Recognizing Dynamic Facial Expressions in the Wild", ACM MM 2020.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from dferkit.datasets.assemble import Lists, Options, assemble
from dferkit.datasets.findings import Findings
from dferkit.datasets.lists import Line, Listed, place, read_lines
from dferkit.datasets.media import Candidate, Media, choose_media, entries, find, require_root
from dferkit.datasets.published import DFEW_LAST_CLIP
from dferkit.datasets.votes import read_votes
from dferkit.errors import ManifestError
from dferkit.labels import class_order
from dferkit.schema import Record, Release

FOLDS = ("1", "2", "3", "4", "5")
_HEADER = "video_name,label"
_BY_NUMBER = dict(enumerate(class_order("dfew"), 1))

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


def read_dfew(root: Path, options: Options) -> Release:
    """The release below ``root``.

    Raises:
        ManifestError: No such folder, or no list of DFEW in it.
    """
    require_root(root, "DFEW")
    findings = Findings()
    media = choose_media(root, MEDIA, options.media) if options.with_media else Media(None, "none", "lists only")
    if media.folder is not None and media.folder.name.endswith("_16f") and not options.media:
        findings.warning(
            "MEDIA_16F",
            f"only {media.name(root)} is there: 16 frames a clip, interpolated in time. Sampling with a stride repeats frames, and speed is lost; "
            "get clip_224x224, or name this folder with --media if you mean it",
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
                f"the lists of fold {fold} are not there; the release has set_1.csv to set_5.csv for training and test",
            )
    there = {int(name): path for name, path in entries(media.folder).items() if name.isdecimal()}
    release = assemble(
        "dfew",
        root,
        folds,
        files,
        media,
        findings,
        lambda line: Record(clip_id=line.clip_id, video=_video(line.clip_id, there, media, root), label=line.label),
        options=options,
        is_partition=len(folds) == len(FOLDS),
        has_blocks=True,
    )
    if options.with_votes:
        release = _with_votes(release, root, findings)
    return replace(release, findings=tuple(findings.items))


def _find_lists(root: Path, fold: str) -> tuple[Path, Path] | None:
    for train, test in _LISTS:
        pair = find(root, [train.format(fold)]), find(root, [test.format(fold)])
        if pair[0] is not None and pair[1] is not None:
            return pair[0], pair[1]
    return None


def _video(clip_id: str, there: dict[int, Path], media: Media, root: Path) -> Path:
    """Where the clip lies; the release pads names in one folder and not in the next."""
    if path := there.get(int(clip_id)):
        return path
    folder = media.folder or root / MEDIA[0].folder
    return folder / (f"{int(clip_id)}.mp4" if media.kind == "videos" else clip_id)


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
    if not name.isdecimal() or not 1 <= int(name) <= DFEW_LAST_CLIP:
        findings.error("CLIP_NAME", f"clip {name!r}; expected a number from 1 to {DFEW_LAST_CLIP}", line.where)
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
            "Annotation/annotation.xlsx is not there, so there are no votes; get it, or leave --votes away",
        )
        return release
    votes = read_votes(path, root, {r.clip_id: str(r.label) for r in release.records}, findings)
    return replace(release, records=tuple(replace(r, votes=votes.get(r.clip_id)) for r in release.records))
