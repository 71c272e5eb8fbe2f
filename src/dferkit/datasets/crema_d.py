"""CREMA-D: actor, sentence, emotion and level in every name; five folds of actors."""

from __future__ import annotations

import csv
import io
import itertools
import re
from pathlib import Path

from dferkit.datasets.by_rule import FACES, VIDEOS, clips_below, release_by_people, stem
from dferkit.datasets.data_set import DataSet, Source
from dferkit.datasets.findings import Findings
from dferkit.datasets.lists import place
from dferkit.datasets.media import Candidate, find
from dferkit.datasets.mini import Mini, MiniClip, MiniConfig, MiniMedia, one_actor_per_fold
from dferkit.datasets.published import Published, by_fold
from dferkit.labels import BASIC, class_order
from dferkit.schema import Record, Release

_MEDIA = (
    Candidate("face_aligned", "faces", FACES),
    Candidate("VideoFlash", "videos", VIDEOS),
    Candidate("VideoMP4", "videos", "videos converted to MP4"),
)
_LABELS = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happiness", "NEU": "neutral", "SAD": "sadness"}
# HiCMAE's and MAE-DFER's folds: 18 actors each, 19 in the last.
_FIRST_ACTORS = (1001, 1019, 1037, 1055, 1073)


def read_crema_d(source: Source) -> Release:
    """``1001_DFA_ANG_XX`` = actor, sentence, emotion, level; five folds of actors in order.

    ``VideoDemographics.csv`` adds self-reported attributes of the actors, for scores by group.
    """
    root, findings, records = source.root, source.findings, []
    about = _demographics(root, findings)
    for path in clips_below(source.media.folder or root):
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
    return release_by_people(source, records, folds)


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


def _plan(config: MiniConfig) -> list[MiniClip]:
    codes = dict(zip(("ANG", "DIS", "FEA", "HAP", "NEU", "SAD"), class_order("crema-d"), strict=True))
    sentences = ("DFA", "IEO", "ITH", "ITS", "IWL")
    return one_actor_per_fold(
        (1001, 1019, 1037, 1055, 1073),
        codes,
        config,
        lambda actor, code, take: f"{actor}_{sentences[take % 5]}_{code}_XX",
    )


CREMA_D = DataSet(
    name="crema-d",
    title="CREMA-D",
    labels=tuple(label for label in BASIC if label != "surprise"),
    read=read_crema_d,
    aliases=("cremad",),
    media=_MEDIA,
    is_root_media=True,
    published=Published(
        num_clips=7442,
        folds=by_fold((5979, 5972, 5966, 5966, 5885), (1463, 1470, 1476, 1476, 1557)),
        source="CREMA-D, file names of its repository; folds of 18 actors as in HiCMAE and MAE-DFER",
    ),
    mini=Mini(plan=_plan, media=lambda clip: [MiniMedia(kind="videos", path=f"VideoFlash/{clip.name}.flv")]),
)
