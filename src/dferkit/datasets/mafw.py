"""MAFW: eleven single classes (9,172 clips) or 43 compound ones (8,996), five folds, captions in Chinese and English.

Liu et al., "MAFW: A Large-scale, Multi-modal, Compound Affective Database for Dynamic Facial Expression Recognition in the Wild", ACM MM 2022.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from dferkit.datasets.assemble import Lists, assemble
from dferkit.datasets.data_set import DataSet, Source
from dferkit.datasets.findings import Findings
from dferkit.datasets.lists import Line, Listed, read_lines
from dferkit.datasets.media import Candidate, entries, find
from dferkit.datasets.mini import Mini, MiniClip, MiniConfig, MiniMedia, numbered
from dferkit.datasets.published import COUNTED, Published, by_class, by_fold, by_fold_and_class
from dferkit.errors import ManifestError
from dferkit.facs import load_facs
from dferkit.labels import MAFW, MAFW_COMPOUND, class_order, hint
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
_LAST_CLIP = 10045
_ORDER = class_order("mafw")
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
SINGLE = Published(
    num_clips=9172,
    per_class=by_class(_ORDER, (1390, 639, 625, 1242, 1138, 1470, 1072, 236, 916, 262, 182)),
    folds=by_fold((7333, 7335, 7339, 7340, 7341), (1839, 1837, 1833, 1832, 1831)),
    test_per_class=by_fold_and_class(
        _ORDER,
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
    source=f"MAFW, {COUNTED}; agrees with a user's inventory of its spreadsheets",
    short_clips=8,
)
COMPOUND = Published(
    num_clips=8996,
    per_class={name: int(count) for name, count in (pair.split() for pair in _COMPOUND_COUNTS.split(", "))},
    folds=by_fold((7178, 7187, 7198, 7208, 7213), (1818, 1809, 1798, 1788, 1783)),
    source=f"MAFW compound, {COUNTED}; 11 single and 32 joint classes",
)


def read_mafw(source: Source, *, setting: str) -> Release:
    """Read the lists of every fold; ``setting`` is ``single`` or ``compound``.

    Folds come from ``no_caption``, which has all clips. ``with_caption`` lacks every neutral clip, so that the presence of a caption reveals the class: it is
    read for the captions only, and only if they are requested.

    Raises:
        ManifestError: There is no list of MAFW.
    """
    root, findings = source.root, source.findings
    folds, files = _read_folds(source, setting, "no_caption")
    if not folds:
        raise ManifestError(
            f"no list of MAFW below {root.name}/; expected 'Train & Test Set/{setting}/no_caption/set_1/train.txt' and test.txt to set_5"
        )
    for fold in FOLDS:
        if fold not in folds:
            findings.error(
                "LIST_MISSING",
                f"{setting}/no_caption/set_{fold} is missing or incomplete; the release has set_1 to set_5 with train.txt and test.txt",
            )
    captions: dict[str, str] = {}
    if source.options.with_captions:
        captioned, more = _read_folds(source, setting, "with_caption")
        captions, files = _join_captions(folds, captioned, findings), files + more
    there = entries(source.media.folder)
    return assemble(
        source,
        folds,
        files,
        lambda line: Record(
            clip_id=line.clip_id,
            video=_video(line.clip_id, there, source),
            label=line.label,
            caption=captions.get(line.clip_id),
        ),
        is_partition=len(folds) == len(FOLDS),
        has_blocks=True,
    )


def _read_folds(source: Source, setting: str, kind: str) -> tuple[dict[str, Lists], list[Path]]:
    folds, files = {}, []
    for fold in FOLDS:
        pair = [
            find(source.root, [f"{split}/{setting}/{kind}/set_{fold}/{side}.txt" for split in _SPLITS])
            for side in ("train", "test")
        ]
        there = [path for path in pair if path is not None]
        if len(there) < 2:
            continue
        files += there
        folds[fold] = Lists(*(_read_list(path, source, kind) for path in there))
    return folds, files


def _read_list(path: Path, source: Source, kind: str) -> list[Listed]:
    has_captions, findings = kind == "with_caption", source.findings
    lines = read_lines(path, source.root, findings, encoding=_CAPTION_ENCODING if has_captions else "utf-8")
    read = _read_captioned if has_captions else _read_plain
    return [listed for line in lines if (listed := read(line, source.labels, findings)) is not None]


def _read_plain(line: Line, labels: Sequence[str], findings: Findings) -> Listed | None:
    cells = line.text.split(" ")
    if len(cells) != 2:
        hint = "; a tab belongs to the lists with captions" if "\t" in line.text else ""
        findings.error(
            "CELLS",
            f"{line.text!r}{hint}; expected a video and a class with one space, such as 00025.mp4 anger",
            line.where,
        )
        return None
    return _listed(cells[0], cells[1], line, labels, findings)


def _read_captioned(line: Line, labels: Sequence[str], findings: Findings) -> Listed | None:
    cells = line.text.split("\t")
    if len(cells) != 4:
        findings.error("CELLS", f"{len(cells)} cells; expected video, class, Chinese and English with tabs", line.where)
        return None
    if not cells[3].strip():
        findings.error(
            "CAPTION_EMPTY", f"the English caption of {cells[0]} is empty; in the release none is empty", line.where
        )
        return None
    listed = _listed(cells[0], cells[1], line, labels, findings)
    return None if listed is None else replace(listed, caption=cells[3].strip())


def _listed(name: str, word: str, line: Line, labels: Sequence[str], findings: Findings) -> Listed | None:
    if not re.fullmatch(r"\d{5}\.mp4", name):
        findings.error(
            "CLIP_NAME", f"video {name!r}; expected five digits and {_SUFFIX}, such as 00025.mp4", line.where
        )
        return None
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
            f"class {word!r}{hint(word, labels)} Known: {', '.join(labels)}",
            line.where,
        )
        return None
    return Listed(name.removesuffix(_SUFFIX), word, line.where)


def _join_captions(folds: Mapping[str, Lists], captioned: Mapping[str, Lists], findings: Findings) -> dict[str, str]:
    """English captions by clip, checked against the lists without captions."""
    if not captioned:
        findings.error(
            "CAPTIONS_MISSING",
            "with_caption is missing, so there are no captions; get it, or leave out --with-captions",
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
            f"{len(without):,} clips have no human caption, and all are neutral: the presence of a caption reveals the class. Human captions are never read at test time",
        )
    elif without:
        first = next(clip_id for clip_id in without if known[clip_id] != "neutral")
        findings.error(
            "CAPTION_ABSENT",
            f"clip {first} ({known[first]}) has no caption; in the release only neutral clips have none",
        )
    return captions


def _video(clip_id: str, there: Mapping[str, Path], source: Source) -> Path:
    for name in (clip_id, str(int(clip_id))):
        if name in there:
            return there[name]
    folder = source.media.folder or source.root / MEDIA[1].folder
    return folder / (f"{clip_id}{_SUFFIX}" if source.media.kind == "videos" else clip_id)


def _mini_media(clip: MiniClip) -> list[MiniMedia]:
    return [
        MiniMedia(kind="frames", path=f"data/frames/{clip.name}", picture="{}.png"),
        MiniMedia(kind="videos", path=f"data/clips/{clip.name}.mp4"),
    ]


def _write_lists(root: Path, clips: Sequence[MiniClip], _: MiniConfig, *, setting: str) -> None:
    captions = _captions()
    for fold in "12345":
        for side in ("train", "test"):
            chosen = [clip for clip in clips if (clip.test_of == fold) == (side == "test")]
            plain = "".join(f"{clip.name}.mp4 {clip.label}\r\n" for clip in chosen)
            captioned = "".join(
                f"{clip.name}.mp4\t{clip.label}\t一个人看着另一个人。\t{captions[clip.label.split('_')[0]]}\r\n"
                for clip in chosen
                if clip.label != "neutral"
            )
            for kind, text, encoding in (("no_caption", plain, "ascii"), ("with_caption", captioned, "gb18030")):
                path = root / "Train & Test Set" / setting / kind / f"set_{fold}" / f"{side}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(text.encode(encoding))


def _captions() -> dict[str, str]:
    """One English sentence for each class, of movements, as the people of the release wrote them."""
    units = load_facs().action_units
    shown = {
        "anger": ("AU4", "AU7"), "disgust": ("AU9", "AU10"), "fear": ("AU5", "AU20"), "happiness": ("AU6", "AU12"), "sadness": ("AU1", "AU15"),
        "surprise": ("AU2", "AU26"), "contempt": ("AU14",), "anxiety": ("AU4", "AU20"), "helplessness": ("AU1", "AU17"), "disappointment": ("AU15", "AU17"),
    }  # fmt: skip
    return {
        label: "A person looks at the other. " + " ".join(f"The {units[name].phrases[0]}." for name in names)
        for label, names in shown.items()
    }


def _mafw(setting: str, labels: tuple[str, ...], published: Published, *aliases: str) -> DataSet:
    return DataSet(
        name=f"mafw-{setting}",
        title="MAFW",
        labels=labels,
        read=partial(read_mafw, setting=setting),
        aliases=aliases,
        media=MEDIA,
        is_flat=True,
        has_lists=True,
        has_captions=True,
        published=published,
        mini=Mini(
            plan=lambda config: numbered(labels, published, config, last=_LAST_CLIP),
            media=_mini_media,
            write_lists=partial(_write_lists, setting=setting),
        ),
    )


MAFW_SINGLE = _mafw("single", MAFW, SINGLE, "mafw", "mafw11")
MAFW_43 = _mafw("compound", MAFW_COMPOUND, COMPOUND, "mafw43")
