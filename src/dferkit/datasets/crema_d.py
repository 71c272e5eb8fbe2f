"""CREMA-D: actor, sentence, emotion and level in every name; five folds of actors."""

from __future__ import annotations

import csv
import io
import itertools
import re
from pathlib import Path

from dferkit.datasets.assemble import Options
from dferkit.datasets.by_rule import FACES, VIDEOS, clips_below, release_by_people, stem
from dferkit.datasets.findings import Findings
from dferkit.datasets.lists import place
from dferkit.datasets.media import Candidate, choose_media, find, require_root
from dferkit.schema import Record, Release

_MEDIA = (
    Candidate("face_aligned", "faces", FACES),
    Candidate("VideoFlash", "videos", VIDEOS),
    Candidate("VideoMP4", "videos", "videos converted to MP4"),
)
_LABELS = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happiness", "NEU": "neutral", "SAD": "sadness"}
# HiCMAE's and MAE-DFER's folds: 18 actors each, 19 in the last.
_FIRST_ACTORS = (1001, 1019, 1037, 1055, 1073)


def read_crema_d(root: Path, options: Options) -> Release:
    """``1001_DFA_ANG_XX`` = actor, sentence, emotion, level; five folds of actors in order.

    ``VideoDemographics.csv`` beside the videos adds what the actors said of themselves, for scores by group.
    """
    require_root(root, "CREMA-D")
    media = choose_media(root, _MEDIA, options.media, or_root=True)
    findings, records = Findings(), []
    about = _demographics(root, findings)
    for path in clips_below(media.folder or root):
        found = re.fullmatch(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_([A-Z]{1,2})", stem(path))
        if found is None or not 1001 <= int(found[1]) <= 1091:
            findings.error(
                "CLIP_NAME",
                "expected actor, sentence, emotion and level, such as 1001_DFA_ANG_XX with an actor from 1001 to 1091",
                place(path, root),
            )
            continue
        if found[3] not in _LABELS:
            findings.error("LABEL_NAME", f"emotion {found[3]!r}; known: {' '.join(_LABELS)}", place(path, root))
            continue
        attributes = {"sentence": found[2], "level": found[4], **about.get(found[1], {})}
        records.append(
            Record(clip_id=stem(path), video=path, label=_LABELS[found[3]], subject=found[1], attributes=attributes)
        )
    firsts = (*_FIRST_ACTORS, 1092)
    folds = [tuple(str(actor) for actor in range(a, b)) for a, b in itertools.pairwise(firsts)]
    return release_by_people("crema-d", root, media, records, folds, findings, options)


def _demographics(root: Path, findings: Findings) -> dict[str, dict[str, str]]:
    path = find(root, ["VideoDemographics.csv"])
    if path is None:
        return {}
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except (UnicodeDecodeError, csv.Error) as error:
        findings.error(
            "DEMOGRAPHICS",
            f"the table cannot be read as CSV in UTF-8 ({error}); copy it again, or remove it",
            place(path, root),
        )
        return {}
    wanted = ("Sex", "Race", "Ethnicity")
    return {
        row["ActorID"]: {name.lower(): row[name] for name in wanted if row.get(name)}
        for row in rows
        if row.get("ActorID")
    }
