"""FERV39k: 38,935 clips of 22 scenes, one fixed split, headerless lists with one space.

Wang et al., "FERV39k: A Large-Scale Multi-Scene Dataset for Facial Expression Recognition in Videos", CVPR 2022.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from dferkit.datasets.assemble import Lists, Options, assemble
from dferkit.datasets.findings import Findings
from dferkit.datasets.lists import Line, Listed, read_lines
from dferkit.datasets.media import Candidate, Media, choose_media, find, require_root
from dferkit.datasets.published import FERV39K_SCENES
from dferkit.errors import ManifestError
from dferkit.labels import nearest_name, parse_label
from dferkit.schema import Record, Release

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


def read_ferv39k(root: Path, options: Options) -> Release:
    """The release below ``root``.

    Raises:
        ManifestError: No such folder, or no list of FERV39k in it.
    """
    require_root(root, "FERV39k")
    findings = Findings()
    media = choose_media(root, MEDIA, options.media) if options.with_media else Media(None, "none", "lists only")
    paths = {side: find(root, names) for side, names in _LISTS.items()}
    if all(path is None for path in paths.values()):
        raise ManifestError(
            f"no list of FERV39k below {root.name}/; expected 4_setups/All_scenes/train_All.csv and test_All.csv"
        )
    for side, path in paths.items():
        if path is None:
            findings.error(
                "LIST_MISSING",
                f"4_setups/All_scenes/{side}_All.csv is not there; the split has a training and a test list",
            )
    found = [path for path in paths.values() if path is not None]
    sides = [_read_list(path, root, findings) if path is not None else [] for path in paths.values()]
    folder = media.folder or root / MEDIA[0].folder
    release = assemble(
        "ferv39k",
        root,
        {FOLD: Lists(*sides)},
        found,
        media,
        findings,
        lambda line: Record(
            clip_id=line.clip_id,
            video=folder / line.clip_id,
            label=line.label,
            attributes={"scene": line.clip_id.split("/", 1)[0]},
        ),
        options=options,
        is_partition=False,
    )
    return replace(release, findings=tuple(findings.items))


def _read_list(path: Path, root: Path, findings: Findings) -> list[Listed]:
    lines = read_lines(path, root, findings)
    if lines and "/" not in lines[0].text:
        findings.error(
            "HEADER",
            f"the first line is {lines[0].text!r}, a header; the release's lists have none. This is a copy, and its class numbers are not the release's: use the release's own lists",
            lines[0].where,
        )
        return []
    return [listed for line in lines if (listed := _read_line(line, findings)) is not None]


def _read_line(line: Line, findings: Findings) -> Listed | None:
    cells = line.text.split(" ")
    if len(cells) != 2:
        hint = " (a comma: this is a copy, whose numbers are not the release's)" if "," in line.text else ""
        findings.error(
            "CELLS",
            f"{line.text!r}{hint}; expected a path and a class with one space, such as Action/Sad/0010 Sad",
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
    if scene not in FERV39K_SCENES:
        findings.error(
            "SCENE",
            f"scene {scene!r}; did you mean {_near(scene, FERV39K_SCENES)!r}? There are {len(FERV39K_SCENES)} scenes",
            line.where,
        )
        return None
    for what, name in (("class", word), ("folder", folder)):
        if name not in EMOTIONS:
            findings.error(
                "LABEL_NAME",
                f"{what} {name!r}; did you mean {_near(name, EMOTIONS)!r}? Known: {' '.join(EMOTIONS)}",
                line.where,
            )
            return None
    if folder != word:
        findings.error(
            "LABEL_CONFLICT", f"clip {path} lies in the folder {folder}, but is listed as {word}", line.where
        )
        return None
    if not re.fullmatch(r"\d{4}", clip):
        findings.error("CLIP_NAME", f"clip {clip!r}; expected four digits, such as 0010", line.where)
        return None
    return Listed(path, parse_label(word), line.where)


def _near(name: str, known: list[str] | tuple[str, ...]) -> str:
    by_lower = {k.lower(): k for k in known}
    return by_lower[nearest_name(name, by_lower)]
