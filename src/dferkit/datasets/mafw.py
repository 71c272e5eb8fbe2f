"""MAFW: eleven single classes (9,172 clips) or 43 compound ones (8,996), five folds, captions in Chinese and English.

Liu et al., "MAFW: A Large-scale, Multi-modal, Compound Affective Database for Dynamic Facial Expression Recognition in the Wild", ACM MM 2022.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from dferkit.datasets.assemble import Lists, Options, assemble
from dferkit.datasets.findings import Findings
from dferkit.datasets.lists import Line, Listed, read_lines
from dferkit.datasets.media import Candidate, Media, choose_media, entries, find, require_root
from dferkit.errors import ManifestError
from dferkit.labels import LABEL_SETS, nearest_name
from dferkit.schema import Record, Release

FOLDS = ("1", "2", "3", "4", "5")
_SPLITS = ("Train & Test Set", "Train&Test Set", "Train_Test_Set", "Train_&_Test_Set", "split", "anno")
_CAPTION_ENCODING = "gb18030"
_SUFFIX = ".mp4"
MEDIA = (
    Candidate("data/faces", "faces", "face crops"),
    Candidate("data/frames", "frames", "the release's frames"),
    Candidate("data/clips", "videos", "the release's videos: there are no frames"),
    Candidate("frames", "frames", "the release's frames"),
    Candidate("clips", "videos", "the release's videos: there are no frames"),
)


def read_mafw(root: Path, options: Options, *, setting: str) -> Release:
    """The release below ``root``; ``setting`` is ``single`` or ``compound``.

    Folds come from ``no_caption``, which has all clips. ``with_caption`` lacks every neutral clip, so that having a caption tells the class: it is
    read for the captions only, and only when they are asked for.

    Raises:
        ManifestError: No such folder, or no list of MAFW in it.
    """
    require_root(root, "MAFW")
    layout, findings = f"mafw-{setting}", Findings()
    media = choose_media(root, MEDIA, options.media) if options.with_media else Media(None, "none", "lists only")
    folds, files = _read_folds(root, setting, "no_caption", findings)
    if not folds:
        raise ManifestError(
            f"no list of MAFW below {root.name}/; expected 'Train & Test Set/{setting}/no_caption/set_1/train.txt' and test.txt to set_5"
        )
    for fold in FOLDS:
        if fold not in folds:
            findings.error(
                "LIST_MISSING",
                f"{setting}/no_caption/set_{fold} is not there or not whole; the release has set_1 to set_5 with train.txt and test.txt",
            )
    captions: dict[str, str] = {}
    if options.with_captions:
        captioned, more = _read_folds(root, setting, "with_caption", findings)
        captions, files = _join_captions(folds, captioned, findings), files + more
    there = entries(media.folder)
    release = assemble(
        layout,
        root,
        folds,
        files,
        media,
        findings,
        lambda line: Record(
            clip_id=line.clip_id,
            video=_video(line.clip_id, there, media, root),
            label=line.label,
            caption=captions.get(line.clip_id),
        ),
        options=options,
        is_partition=len(folds) == len(FOLDS),
        has_blocks=True,
    )
    return replace(release, findings=tuple(findings.items))


def _read_folds(root: Path, setting: str, kind: str, findings: Findings) -> tuple[dict[str, Lists], list[Path]]:
    folds, files = {}, []
    for fold in FOLDS:
        pair = [
            find(root, [f"{split}/{setting}/{kind}/set_{fold}/{side}.txt" for split in _SPLITS])
            for side in ("train", "test")
        ]
        there = [path for path in pair if path is not None]
        if len(there) < 2:
            continue
        files += there
        folds[fold] = Lists(*(_read_list(path, root, f"mafw-{setting}", kind, findings) for path in there))
    return folds, files


def _read_list(path: Path, root: Path, layout: str, kind: str, findings: Findings) -> list[Listed]:
    has_captions = kind == "with_caption"
    lines = read_lines(path, root, findings, encoding=_CAPTION_ENCODING if has_captions else "utf-8")
    read = _read_captioned if has_captions else _read_plain
    return [listed for line in lines if (listed := read(line, layout, findings)) is not None]


def _read_plain(line: Line, layout: str, findings: Findings) -> Listed | None:
    cells = line.text.split(" ")
    if len(cells) != 2:
        hint = "; a tab belongs to the lists with captions" if "\t" in line.text else ""
        findings.error(
            "CELLS",
            f"{line.text!r}{hint}; expected a video and a class with one space, such as 00025.mp4 anger",
            line.where,
        )
        return None
    return _listed(cells[0], cells[1], line, layout, findings)


def _read_captioned(line: Line, layout: str, findings: Findings) -> Listed | None:
    cells = line.text.split("\t")
    if len(cells) != 4:
        findings.error("CELLS", f"{len(cells)} cells; expected video, class, Chinese and English with tabs", line.where)
        return None
    if not cells[3].strip():
        findings.error(
            "CAPTION_EMPTY", f"the English caption of {cells[0]} is empty; the release has none that is", line.where
        )
        return None
    listed = _listed(cells[0], cells[1], line, layout, findings)
    return None if listed is None else replace(listed, caption=cells[3].strip())


def _listed(name: str, word: str, line: Line, layout: str, findings: Findings) -> Listed | None:
    if not re.fullmatch(r"\d{5}\.mp4", name):
        findings.error(
            "CLIP_NAME", f"video {name!r}; expected five digits and {_SUFFIX}, such as 00025.mp4", line.where
        )
        return None
    labels = LABEL_SETS[layout]
    if word.isdecimal():
        findings.error(
            "LABEL_NUMBER",
            f"class {word!r} is a number; the release's lists have words, and three orders of numbers are in use. Use the release's own lists",
            line.where,
        )
        return None
    if word not in labels:
        findings.error(
            "LABEL_NAME",
            f"class {word!r}; did you mean {nearest_name(word, labels)!r}? The set has {len(labels)} classes",
            line.where,
        )
        return None
    return Listed(name.removesuffix(_SUFFIX), word, line.where)


def _join_captions(folds: Mapping[str, Lists], captioned: Mapping[str, Lists], findings: Findings) -> dict[str, str]:
    """English captions by clip, checked against the lists without captions."""
    if not captioned:
        findings.error(
            "CAPTIONS_MISSING", "with_caption is not there, so there are no captions; get it, or leave --captions away"
        )
        return {}
    known = {line.clip_id: line.label for lists in folds.values() for line in (*lists.train, *lists.test)}
    captions: dict[str, str] = {}
    for lists in captioned.values():
        for line in (*lists.train, *lists.test):
            if line.clip_id not in known:
                findings.error(
                    "CAPTION_UNKNOWN",
                    f"clip {line.clip_id} has a caption, but is in no list without captions",
                    line.where,
                )
            elif known[line.clip_id] != line.label:
                findings.error(
                    "LABEL_CONFLICT",
                    f"clip {line.clip_id} is {line.label} here, but {known[line.clip_id]} in no_caption",
                    line.where,
                )
            captions.setdefault(line.clip_id, str(line.caption))
    without = [clip_id for clip_id in known if clip_id not in captions]
    if without and all(known[clip_id] == "neutral" for clip_id in without):
        findings.note(
            "CAPTION_LEAK",
            f"{len(without):,} clips have no human caption, and all are neutral: having one tells the class. Human captions are never read at test time",
        )
    elif without:
        first = next(clip_id for clip_id in without if known[clip_id] != "neutral")
        findings.error(
            "CAPTION_ABSENT",
            f"clip {first} ({known[first]}) has no caption; in the release only neutral clips have none",
        )
    return captions


def _video(clip_id: str, there: Mapping[str, Path], media: Media, root: Path) -> Path:
    for name in (clip_id, str(int(clip_id))):
        if name in there:
            return there[name]
    folder = media.folder or root / MEDIA[1].folder
    return folder / (f"{clip_id}{_SUFFIX}" if media.kind == "videos" else clip_id)
