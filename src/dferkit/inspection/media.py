"""The media of a release: whether every clip is there, and with how many frames. Lists folders, opens no picture."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dferkit.datasets.findings import Findings
from dferkit.datasets.lists import place
from dferkit.datasets.media import entries, pictures
from dferkit.datasets.registry import find_data_set
from dferkit.schema import Release

SAMPLED_FRAMES = 16
"""Frames that every published protocol takes of a clip."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaFacts:
    """Figures of the media of a release.

    Attributes:
        frames: Frames by clip id, for clips that are folders of frames.
        num_missing: Clips whose media are not there or empty.
        num_unlisted: Folders or files among the media that no list names.
    """

    frames: Mapping[str, int]
    num_missing: int
    num_unlisted: int

    def summary(self) -> dict[str, float | int]:
        """Least, median and most frames, and how many clips have fewer than 16; empty for videos."""
        if not self.frames:
            return {}
        counts = np.array(list(self.frames.values()))
        return {
            "min": int(counts.min()),
            "median": float(np.median(counts)),
            "max": int(counts.max()),
            "fewer_than_16": int((counts < SAMPLED_FRAMES).sum()),
        }


def check_media(
    release: Release, root: Path, findings: Findings, *, on_progress: Callable[[int, int], None] | None = None
) -> MediaFacts:
    """Look for every clip and count its frames; what is missing or odd becomes a finding."""
    frames: dict[str, int] = {}
    num_missing, jumps, formats = 0, [], []
    for number, record in enumerate(release.records):
        if on_progress and number % 500 == 0:
            on_progress(number, len(release.records))
        where = place(record.video, root)
        if not record.video.exists():
            num_missing += 1
            findings.error("CLIP_MISSING", f"clip {record.clip_id} is missing; copy it from the release", where)
        elif record.video.is_file():
            if record.video.stat().st_size == 0:
                num_missing += 1
                findings.error("CLIP_EMPTY", f"clip {record.clip_id} is an empty file; copy it again", where)
        else:
            names = pictures(record.video)
            if not names:
                num_missing += 1
                findings.error(
                    "CLIP_EMPTY", f"the folder of clip {record.clip_id} holds no picture; copy it again", where
                )
                continue
            frames[record.clip_id] = len(names)
            if len({os.path.splitext(name)[1].lower() for name in names}) > 1:
                formats.append(where)
            if _has_jump(names):
                jumps.append(where)
    if on_progress:
        on_progress(len(release.records), len(release.records))
    for where in formats:
        findings.warning(
            "FRAME_FORMATS", "pictures of more than one format in one clip: frames may be duplicated", where
        )
    if jumps:
        findings.note(
            "FRAME_GAP",
            f"frame numbers jump in {len(jumps):,} clips, such as {jumps[0]}: frames without a face were dropped, or the copy is incomplete",
        )
    facts = MediaFacts(frames=frames, num_missing=num_missing, num_unlisted=_unlisted(release, root))
    _compare_short(release, facts, findings)
    return facts


def _has_jump(names: list[str]) -> bool:
    numbers = sorted({int(found[-1]) for name in names if (found := re.findall(r"\d+", name))})
    return bool(numbers) and numbers[-1] - numbers[0] + 1 != len(numbers)


def _unlisted(release: Release, root: Path) -> int:
    """Only where all clips lie side by side: below deeper trees the lists are the tree."""
    if not find_data_set(release.layout).is_flat or not release.media:
        return 0
    return len(entries(root / release.media)) - sum(record.video.exists() for record in release.records)


def _compare_short(release: Release, facts: MediaFacts, findings: Findings) -> None:
    short = int(facts.summary().get("fewer_than_16", 0))
    if not short:
        return
    count = find_data_set(release.layout).published.short_clips
    known = f" ({count:,} in a public count of the whole release)" if count else ""
    findings.note(
        "SHORT_CLIPS",
        f"{short:,} clips have fewer than {SAMPLED_FRAMES} frames{known}; sampling repeats frames of these",
    )
