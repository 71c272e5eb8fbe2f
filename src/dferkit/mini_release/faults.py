"""Faults that occur in real copies of the releases, to be planted in a mini-release and found by ``dferkit data check``."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dferkit.labels import check_name

_DFEW_TRAIN = "EmoLabel_DataSplit/train(single-labeled)/set_1.csv"
_DFEW_TEST = "EmoLabel_DataSplit/test(single-labeled)/set_1.csv"
_FERV_TRAIN, _FERV_TEST = "4_setups/All_scenes/train_All.csv", "4_setups/All_scenes/test_All.csv"
_FERV_MEDIA = "2_ClipsforFaceCrop/2_ClipsforFaceCrop"
_DFEW_MEDIA = "Clip/clip_224x224"
_MAFW = "Train & Test Set/single"
_MAFW_TRAIN, _MAFW_TEST = f"{_MAFW}/no_caption/set_1/train.txt", f"{_MAFW}/no_caption/set_1/test.txt"
_MAFW_CAPTIONED = f"{_MAFW}/with_caption/set_1/train.txt"


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A fault that occurs in copies of a release.

    Attributes:
        layout: Data set in which it occurs.
        code: Code of the finding that must be made. message: Words of its message.
        plant: Changes the release below a root.
        needs: ``lists``, or ``media`` when frames must be there.
        options: Settings of the reader under which it shows, such as ``strict``.
        fails: The check fails; False for what is only noted.
    """

    layout: str
    code: str
    message: str
    plant: Callable[[Path], object]
    needs: str = "lists"
    options: tuple[str, ...] = ()
    fails: bool = True


def plant_fault(name: str, root: Path | str) -> Fault:
    """Plant a fault below ``root``.

    Raises:
        ConfigError: Unknown fault.
    """
    check_name("fault", name, FAULTS)
    FAULTS[name].plant(Path(root))
    return FAULTS[name]


def _lines(root: Path, name: str, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Change the lines of a file; their ends stay what they are."""
    path = root / name
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


def _replace_line(name: str, number: int, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda root: _lines(
        root, name, lambda lines: [change(line) if i == number - 1 else line for i, line in enumerate(lines)]
    )


def _insert(name: str, number: int, line: bytes) -> Callable[[Path], object]:
    return lambda root: _lines(root, name, lambda lines: [*lines[: number - 1], line, *lines[number - 1 :]])


def _drop(name: str, number: int) -> Callable[[Path], object]:
    return lambda root: _lines(root, name, lambda lines: [*lines[: number - 1], *lines[number:]])


def _repeat(name: str, number: int) -> Callable[[Path], object]:
    """Add a line again at the end."""
    return lambda root: _lines(root, name, lambda lines: [*lines, lines[number - 1]])


def _copy_line(source: str, number: int, target: str) -> Callable[[Path], object]:
    return lambda root: _lines(
        root, target, lambda lines: [*lines, (root / source).read_bytes().splitlines(keepends=True)[number - 1]]
    )


def _bytes(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes(change((root / name).read_bytes()))


def _remove(name: str) -> Callable[[Path], object]:
    def plant(root: Path) -> None:
        path = root / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

    return plant


def _other_label(line: bytes) -> bytes:
    """The same clip of DFEW under the next class."""
    clip, label = line.strip().split(b",")
    return clip + b"," + str(int(label) % 7 + 1).encode() + b"\n"


def _count_from_zero(root: Path) -> None:
    """Every list as redistributed copies have it: classes from 0."""
    for path in sorted((root / "EmoLabel_DataSplit").rglob("*.csv")):
        header, *rows = path.read_text().splitlines()
        shifted = [f"{clip},{int(label) - 1}" for clip, label in (row.split(",") for row in rows)]
        path.write_text("\n".join([header, *shifted]) + "\n")


def _draw_folds_anew(root: Path) -> None:
    """Folds by clip number modulo five: as large as the official ones, but of neighbours on both sides."""
    base = root / "EmoLabel_DataSplit"
    header, rows = "video_name,label", set()
    for path in sorted((base / "test(single-labeled)").glob("*.csv")):
        rows |= {tuple(row.split(",")) for row in path.read_text().splitlines()[1:]}
    ordered = sorted(rows, key=lambda row: (int(row[1]), int(row[0])))
    for fold in range(5):
        for side, is_test in (("train(single-labeled)", False), ("test(single-labeled)", True)):
            chosen = [",".join(row) for i, row in enumerate(ordered) if (i % 5 == fold) == is_test]
            (base / side / f"set_{fold + 1}.csv").write_text("\n".join([header, *chosen]) + "\n")


def _swap_first_clips(root: Path) -> None:
    """One clip is in the test list of folds 1 and 2, another in none."""
    first, second = (root / f"EmoLabel_DataSplit/test(single-labeled)/set_{k}.csv" for k in (1, 2))
    line = first.read_text().splitlines()[1]
    lines = second.read_text().splitlines()
    lines[1] = line
    second.write_text("\n".join(lines) + "\n")


def _first_clip(root: Path, media: str) -> Path:
    return sorted(path for path in (root / media).rglob("*") if path.is_dir() and any(path.glob("*.jpg")))[0]


def _missing_clip(media: str) -> Callable[[Path], object]:
    return lambda root: shutil.rmtree(_first_clip(root, media))


def _empty_clip(media: str) -> Callable[[Path], object]:
    def plant(root: Path) -> None:
        for path in _first_clip(root, media).iterdir():
            path.unlink()

    return plant


def _gap(media: str) -> Callable[[Path], object]:
    return lambda root: sorted(_first_clip(root, media).iterdir())[4].unlink()


def _two_formats(media: str) -> Callable[[Path], object]:
    def plant(root: Path) -> None:
        picture = sorted(_first_clip(root, media).iterdir())[0]
        cv2.imwrite(str(picture.with_suffix(".png")), np.asarray(cv2.imread(str(picture))))

    return plant


def _only_16f(root: Path) -> None:
    shutil.rmtree(root / _DFEW_MEDIA)
    if (root / "Clip" / "original").is_dir():
        shutil.rmtree(root / "Clip" / "original")


def _copied_clip(root: Path) -> None:
    """A test clip of fold 1 holds the bytes of a training clip."""
    clips = [
        f"{int((root / name).read_text().splitlines()[1].split(',')[0]):05d}" for name in (_DFEW_TRAIN, _DFEW_TEST)
    ]
    source, target = (root / _DFEW_MEDIA / clip for clip in clips)
    shutil.rmtree(target)
    target.mkdir()
    for number, picture in enumerate(sorted(source.iterdir()), 1):
        shutil.copyfile(picture, target / f"{clips[1]}_{number:05d}.jpg")


def _encoded_again(root: Path) -> None:
    """The same, but saved again: other bytes, the same pictures."""
    _copied_clip(root)
    clip = f"{int((root / _DFEW_TEST).read_text().splitlines()[1].split(',')[0]):05d}"
    for picture in sorted((root / _DFEW_MEDIA / clip).iterdir()):
        cv2.imwrite(str(picture), np.asarray(cv2.imread(str(picture))), [cv2.IMWRITE_JPEG_QUALITY, 70])


def _redistributed_ferv(root: Path) -> None:
    """Header, commas and invented numbers, as in public copies."""
    for name in (_FERV_TRAIN, _FERV_TEST):
        rows = [line.split(" ")[0] for line in (root / name).read_text().splitlines()]
        (root / name).write_text("\n".join(["path,id", *(f"{row},3" for row in rows)]) + "\n")


_D, _F, _M = "dfew", "ferv39k", "mafw-single"
FAULTS: Mapping[str, Fault] = {
    # DFEW
    "dfew-counted-from-zero": Fault(layout=_D, code="LABEL_ZERO_BASED", message="counts classes from 0", plant=_count_from_zero),
    "dfew-label-8": Fault(layout=_D, code="LABEL_RANGE", message="label 8 of clip", plant=_replace_line(_DFEW_TRAIN, 4, lambda l: l.split(b",")[0] + b",8\n")),
    "dfew-label-word": Fault(layout=_D, code="LABEL_NUMBER", message="label 'happy'", plant=_replace_line(_DFEW_TRAIN, 4, lambda l: l.split(b",")[0] + b",happy\n")),
    "dfew-no-header": Fault(layout=_D, code="HEADER_MISSING", message="begin with 'video_name,label'", plant=_drop(_DFEW_TRAIN, 1)),
    "dfew-other-header": Fault(layout=_D, code="HEADER", message="the header is 'path,id'", plant=_replace_line(_DFEW_TRAIN, 1, lambda _: b"path,id\n")),
    "dfew-semicolon": Fault(layout=_D, code="CELLS", message="two cells with a comma", plant=_replace_line(_DFEW_TRAIN, 3, lambda l: l.replace(b",", b";"))),
    "dfew-clip-20000": Fault(layout=_D, code="CLIP_NAME", message="clip '20000'; expected a number from 1 to 16372", plant=_insert(_DFEW_TRAIN, 5, b"20000,3\n")),
    "dfew-listed-twice": Fault(layout=_D, code="LISTED_TWICE", message="is listed twice", plant=_repeat(_DFEW_TRAIN, 3)),
    "dfew-two-labels": Fault(layout=_D, code="LABEL_CONFLICT", message="here, but", plant=_replace_line(_DFEW_TEST, 2, _other_label)),
    "dfew-leak": Fault(layout=_D, code="SPLIT_LEAK", message="in the training and the test list of fold 1", plant=_copy_line(_DFEW_TEST, 2, _DFEW_TRAIN)),
    "dfew-fold-overlap": Fault(layout=_D, code="FOLD_OVERLAP", message="test list of more than one fold", plant=_swap_first_clips),
    "dfew-fold-incomplete": Fault(layout=_D, code="FOLD_INCOMPLETE", message="in no test list", plant=_drop(_DFEW_TEST, 3)),
    "dfew-train-clip-lost": Fault(layout=_D, code="FOLD_MISSING_CLIPS", message="fold 1 lists neither for training nor for testing 1 clip", plant=_drop(_DFEW_TRAIN, 3)),
    "dfew-folds-drawn-anew": Fault(layout=_D, code="NOT_A_BLOCK", message="these lists are not the official ones", plant=_draw_folds_anew),
    "dfew-list-missing": Fault(layout=_D, code="LIST_MISSING", message="the lists of fold 1 are missing", plant=_remove(_DFEW_TEST)),
    "dfew-empty-list": Fault(layout=_D, code="EMPTY_LIST", message="the list is empty", plant=_bytes(_DFEW_TEST, lambda _: b"")),
    "dfew-nul": Fault(layout=_D, code="NUL_BYTE", message="a NUL byte", plant=_bytes(_DFEW_TRAIN, lambda data: data[:40] + b"\0" + data[40:])),
    "dfew-utf16": Fault(layout=_D, code="ENCODING", message="the file is UTF-16", plant=_bytes(_DFEW_TRAIN, lambda data: data.decode().encode("utf-16"))),
    "dfew-count": Fault(layout=_D, code="COUNT", message="clips that were published", plant=_drop(_DFEW_TEST, 4), options=("strict",)),
    "dfew-no-votes": Fault(layout=_D, code="VOTES_MISSING", message="annotation.xlsx is missing", plant=lambda root: shutil.rmtree(root / "Annotation", ignore_errors=True), options=("with_votes",)),
    "dfew-missing-clip": Fault(layout=_D, code="CLIP_MISSING", message="is missing", plant=_missing_clip(_DFEW_MEDIA), needs="media"),
    "dfew-empty-clip": Fault(layout=_D, code="CLIP_EMPTY", message="holds no picture", plant=_empty_clip(_DFEW_MEDIA), needs="media"),
    "dfew-frame-gap": Fault(layout=_D, code="FRAME_GAP", message="frame numbers jump", plant=_gap(_DFEW_MEDIA), needs="media", fails=False),
    "dfew-two-formats": Fault(layout=_D, code="FRAME_FORMATS", message="pictures of more than one format", plant=_two_formats(_DFEW_MEDIA), needs="media"),
    "dfew-only-16f": Fault(layout=_D, code="MEDIA_16F", message="16 frames a clip, interpolated in time", plant=_only_16f, needs="media"),
    "dfew-copied-clip": Fault(layout=_D, code="SAME_BYTES", message="the same bytes", plant=_copied_clip, needs="media"),
    "dfew-encoded-again": Fault(layout=_D, code="NEAR_DUPLICATE", message="look the same", plant=_encoded_again, needs="media"),
    "dfew-bom": Fault(layout=_D, code="BOM", message="byte-order mark", plant=_bytes(_DFEW_TRAIN, lambda data: b"\xef\xbb\xbf" + data), fails=False),
    # FERV39k
    "ferv39k-redistributed": Fault(layout=_F, code="HEADER", message="the release's lists have none", plant=_redistributed_ferv),
    "ferv39k-comma": Fault(layout=_F, code="CELLS", message="a comma", plant=_replace_line(_FERV_TRAIN, 2, lambda l: l.replace(b" ", b","))),
    "ferv39k-unknown-class": Fault(layout=_F, code="LABEL_NAME", message="did you mean 'Happy'", plant=_replace_line(_FERV_TRAIN, 2, lambda l: l.split(b" ")[0] + b" Hapy\n")),
    "ferv39k-unknown-scene": Fault(layout=_F, code="SCENE", message="scene 'Acton'; did you mean 'Action'", plant=_replace_line(_FERV_TRAIN, 2, lambda l: l.replace(b"Action", b"Acton"))),
    "ferv39k-other-folder": Fault(layout=_F, code="LABEL_CONFLICT", message="is in the folder", plant=_replace_line(_FERV_TRAIN, 2, lambda l: l.split(b" ")[0] + b" Surprise\n")),
    "ferv39k-three-digits": Fault(layout=_F, code="CLIP_NAME", message="expected four digits", plant=_insert(_FERV_TRAIN, 2, b"Action/Sad/010 Sad\n")),
    "ferv39k-escape": Fault(layout=_F, code="PATH_ESCAPE", message="leaves the release", plant=_insert(_FERV_TRAIN, 2, b"../../etc/0001 Sad\n")),
    "ferv39k-leak": Fault(layout=_F, code="SPLIT_LEAK", message="in the training and the test list", plant=_copy_line(_FERV_TEST, 1, _FERV_TRAIN)),
    "ferv39k-no-test-list": Fault(layout=_F, code="LIST_MISSING", message="test_All.csv is missing", plant=_remove(_FERV_TEST)),
    "ferv39k-first-line-lost": Fault(layout=_F, code="COUNT", message="training", plant=_drop(_FERV_TRAIN, 1), options=("strict",)),
    "ferv39k-missing-clip": Fault(layout=_F, code="CLIP_MISSING", message="is missing", plant=_missing_clip(_FERV_MEDIA), needs="media"),
    "ferv39k-bom": Fault(layout=_F, code="BOM", message="byte-order mark", plant=_bytes(_FERV_TRAIN, lambda data: b"\xef\xbb\xbf" + data), fails=False),
    # MAFW
    "mafw-utf8-captions": Fault(layout=_M, code="ENCODING", message="the file is UTF-8, but the release's is gb18030", plant=_bytes(_MAFW_CAPTIONED, lambda data: data.decode("gb18030").encode()), options=("with_captions",)),
    "mafw-three-cells": Fault(layout=_M, code="CELLS", message="3 cells; expected video, class, Chinese and English", plant=_replace_line(_MAFW_CAPTIONED, 2, lambda l: b"\t".join(l.split(b"\t")[:3]) + b"\r\n"), options=("with_captions",)),
    "mafw-empty-caption": Fault(layout=_M, code="CAPTION_EMPTY", message="is empty", plant=_replace_line(_MAFW_CAPTIONED, 2, lambda l: b"\t".join([*l.split(b"\t")[:3], b" \r\n"])), options=("with_captions",)),
    "mafw-tab": Fault(layout=_M, code="CELLS", message="a tab belongs to the lists with captions", plant=_replace_line(_MAFW_TRAIN, 2, lambda l: l.replace(b" ", b"\t"))),
    "mafw-number": Fault(layout=_M, code="LABEL_NUMBER", message="three orders of numbers are in use", plant=_replace_line(_MAFW_TRAIN, 2, lambda l: l.split(b" ")[0] + b" 4\r\n")),
    "mafw-unknown-class": Fault(layout=_M, code="LABEL_NAME", message="did you mean 'helplessness'", plant=_replace_line(_MAFW_TRAIN, 2, lambda l: l.split(b" ")[0] + b" helplesness\r\n")),
    "mafw-no-suffix": Fault(layout=_M, code="CLIP_NAME", message="five digits and .mp4", plant=_replace_line(_MAFW_TRAIN, 2, lambda l: l.replace(b".mp4", b""))),
    "mafw-fold-gone": Fault(layout=_M, code="LIST_MISSING", message="set_5 is missing or incomplete", plant=_remove(f"{_MAFW}/no_caption/set_5")),
    "mafw-leak": Fault(layout=_M, code="SPLIT_LEAK", message="in the training and the test list of fold 1", plant=_copy_line(_MAFW_TEST, 1, _MAFW_TRAIN)),
    "mafw-not-text": Fault(layout=_M, code="ENCODING", message="is not utf-8", plant=_replace_line(_MAFW_TRAIN, 3, lambda l: b"\xff\xfa" + l)),
}  # fmt: skip
"""Faults by name. A test holds the sentence that ``data check`` prints for each."""
