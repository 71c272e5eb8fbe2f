"""FERV39k: 38,935 clips of 22 scenes, one fixed split, headerless lists with one space.

Wang et al., "FERV39k: A Large-Scale Multi-Scene Dataset for Facial Expression Recognition in Videos", CVPR 2022.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from dferkit.datasets.assemble import Lists, assemble
from dferkit.datasets.data_set import DataSet, Source
from dferkit.datasets.findings import Findings
from dferkit.datasets.lists import Line, Listed, read_lines
from dferkit.datasets.media import Candidate, find
from dferkit.datasets.mini import WORDS, Mini, MiniClip, MiniConfig, MiniMedia, one_split
from dferkit.datasets.published import COUNTED, Published, by_class
from dferkit.errors import ManifestError
from dferkit.labels import BASIC, class_order, hint, parse_label
from dferkit.schema import Record, Release
from dferkit.storage import write_text

SCENES = (
    "Action", "Argue", "Business", "Conflict", "Contest", "Crime", "Crisis", "DailyLife", "ElegantArt", "Experiment", "History", "Interview",
    "Liveshow", "Medicine", "OfficialEvent", "ScholarReport", "School", "Social", "Speech", "Talkshow", "Terror", "War",
)  # fmt: skip
EMOTIONS = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
FOLD = "official"
_LISTS = {
    "train": ("4_setups/All_scenes/train_All.csv", "All_scenes/train_All.csv", "train_All.csv"),
    "test": ("4_setups/All_scenes/test_All.csv", "All_scenes/test_All.csv", "test_All.csv"),
}
MEDIA = (
    Candidate("2_ClipsforFaceCrop", "faces", "face crops of every clip"),
    Candidate("3_ClipsforScenImages", "frames", "whole frames: there is no folder of face crops"),
)
_ORDER = class_order("basic-alphabetical")
PUBLISHED = Published(
    num_clips=38935,
    per_class=by_class(_ORDER, (7393, 2300, 2111, 7327, 9748, 6916, 3140)),
    folds={FOLD: (31088, 7847)},
    test_per_class={FOLD: by_class(_ORDER, (1487, 467, 431, 1473, 1958, 1393, 638))},
    source=f"FERV39k, {COUNTED} in a public copy; SVFAP's preparation prints the same totals",
    short_clips=4070,
)


def read_ferv39k(source: Source) -> Release:
    """Read both lists.

    Raises:
        ManifestError: There is no list of FERV39k.
    """
    root, findings = source.root, source.findings
    paths = {side: find(root, names) for side, names in _LISTS.items()}
    if all(path is None for path in paths.values()):
        raise ManifestError(
            f"no list of FERV39k below {root.name}/; expected 4_setups/All_scenes/train_All.csv and test_All.csv"
        )
    for side, path in paths.items():
        if path is None:
            findings.error(
                "LIST_MISSING",
                f"4_setups/All_scenes/{side}_All.csv is missing; the split has a training and a test list",
            )
    found = [path for path in paths.values() if path is not None]
    sides = [_read_list(path, root, findings) if path is not None else [] for path in paths.values()]
    folder = source.media.folder or root / MEDIA[0].folder
    return assemble(
        source,
        {FOLD: Lists(*sides)},
        found,
        lambda line: Record(
            clip_id=line.clip_id,
            video=folder / line.clip_id,
            label=line.label,
            attributes={"scene": line.clip_id.split("/", 1)[0]},
        ),
    )


def _read_list(path: Path, root: Path, findings: Findings) -> list[Listed]:
    lines = read_lines(path, root, findings)
    if lines and "/" not in lines[0].text:
        findings.error(
            "HEADER",
            f"the first line is {lines[0].text!r}, a header; the release's lists have none. The file is from a copy with other class numbers: use the release's own lists",
            lines[0].where,
        )
        return []
    return [listed for line in lines if (listed := _read_line(line, findings)) is not None]


def _read_line(line: Line, findings: Findings) -> Listed | None:
    cells = line.text.split(" ")
    if len(cells) != 2:
        comma = " (a comma: the file is from a copy with other class numbers)" if "," in line.text else ""
        findings.error(
            "CELLS",
            f"{line.text!r}{comma}; expected a path and a class with one space, such as Action/Sad/0010 Sad",
            line.where,
        )
        return None
    path, word = cells
    if path.startswith("/") or ".." in path.split("/"):
        findings.error("PATH_ESCAPE", f"path {path!r} leaves the release; expected such as Action/Sad/0010", line.where)
        return None
    parts = path.split("/")
    if len(parts) != 3:
        findings.error(
            "CLIP_NAME", f"path {path!r}; expected scene, class and clip, such as Action/Sad/0010", line.where
        )
        return None
    scene, folder, clip = parts
    if scene not in SCENES:
        findings.error(
            "SCENE",
            f"scene {scene!r}{hint(scene, SCENES)} Known: {', '.join(SCENES)}",
            line.where,
        )
        return None
    for what, name in (("class", word), ("folder", folder)):
        if name not in EMOTIONS:
            findings.error(
                "LABEL_NAME",
                f"{what} {name!r}{hint(name, EMOTIONS)} Known: {' '.join(EMOTIONS)}",
                line.where,
            )
            return None
    if folder != word:
        findings.error("LABEL_CONFLICT", f"clip {path} is in the folder {folder}, but is listed as {word}", line.where)
        return None
    if not re.fullmatch(r"\d{4}", clip):
        findings.error("CLIP_NAME", f"clip {clip!r}; expected four digits, such as 0010", line.where)
        return None
    return Listed(path, parse_label(word), line.where)


def _plan(config: MiniConfig) -> list[MiniClip]:
    return one_split(BASIC, PUBLISHED, config, partial(_names, is_full_size=config.is_full_size))


def _names(label: str, turn: int, train: int, test: int, *, is_full_size: bool) -> Iterator[tuple[str, bool]]:
    """Names over the scenes, as even as can be; in each the last numbers are tested."""
    two = SCENES[:2]  # in turns first, so that both have test clips
    scenes = SCENES if is_full_size else two if turn % 2 else two[::-1]
    for i, scene in enumerate(scenes):
        shares = [count // len(scenes) + (i < count % len(scenes)) for count in (train, test)]
        yield from ((f"{scene}/{WORDS[label]}/{n + 1:04d}", n >= shares[0]) for n in range(sum(shares)))


def _mini_media(clip: MiniClip) -> list[MiniMedia]:
    # Archives of this release unpack to a folder of the same name.
    return [MiniMedia(kind="faces", path=f"2_ClipsforFaceCrop/2_ClipsforFaceCrop/{clip.name}", first=0)]


def _write_lists(root: Path, clips: Sequence[MiniClip], _: MiniConfig) -> None:
    for side in ("train", "test"):
        rows = [f"{clip.name} {clip.name.split('/')[1]}" for clip in clips if bool(clip.test_of) == (side == "test")]
        write_text(root / "4_setups" / "All_scenes" / f"{side}_All.csv", "\n".join(rows) + "\n")


FERV39K = DataSet(
    name="ferv39k",
    title="FERV39k",
    labels=BASIC,
    read=read_ferv39k,
    media=MEDIA,
    has_lists=True,
    published=PUBLISHED,
    mini=Mini(plan=_plan, media=_mini_media, write_lists=_write_lists),
)
