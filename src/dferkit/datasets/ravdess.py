"""RAVDESS: seven numbers in every name; six folds of four actors."""

from __future__ import annotations

import re
from pathlib import Path

from dferkit.datasets.assemble import Options
from dferkit.datasets.by_rule import FACES, VIDEOS, clips_below, folders_with, release_by_people, stem
from dferkit.datasets.findings import Findings
from dferkit.datasets.lists import place
from dferkit.datasets.media import Candidate, Media, choose_media, require_root, subfolders
from dferkit.schema import Record, Release
from dferkit.storage import natural_key

_LABELS = ("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
_MEDIA = (Candidate("face_aligned", "faces", FACES),)


def read_ravdess(root: Path, options: Options) -> Release:
    """``Actor_01/02-01-03-…``: modality, channel, emotion, intensity, statement, repetition, actor; six folds of four actors in order.

    Speech only (channel 01). Of a clip that is there with sound (01) and without (02), the one without is taken.
    """
    require_root(root, "RAVDESS")
    media = choose_media(root, _MEDIA, options.media, or_root=True)
    folders = folders_with(media.folder or root, r"Actor_\d+")
    if media.folder is None and folders:
        media = Media(folders[0] if len(folders) == 1 else root, "videos", VIDEOS)
    findings, records, num_songs = Findings(), {}, 0
    actors = [actor for folder in folders for actor in subfolders(folder) if re.fullmatch(r"Actor_\d+", actor.name)]
    for path in (clip for actor in sorted(actors, key=lambda p: natural_key(p.name)) for clip in clips_below(actor)):
        fields = stem(path).split("-")
        if len(fields) != 7 or not all(re.fullmatch(r"\d\d", f) for f in fields) or not 1 <= int(fields[6]) <= 24:
            findings.error(
                "CLIP_NAME",
                "expected seven numbers of two digits, such as 02-01-03-01-01-01-01 with an actor from 01 to 24",
                place(path, root),
            )
            continue
        modality, channel, emotion, intensity, statement, repetition, actor_number = fields
        if channel != "01":
            num_songs += 1
            continue
        if not 1 <= int(emotion) <= 8:
            findings.error("LABEL_RANGE", f"emotion {emotion}; expected 01 to 08", place(path, root))
            continue
        if modality not in ("01", "02"):
            continue  # sound only
        if path.parent.name != f"Actor_{actor_number}":
            findings.error(
                "LABEL_CONFLICT",
                f"the name says actor {actor_number}, the folder {path.parent.name}",
                place(path, root),
            )
            continue
        clip_id = f"Actor_{actor_number}/" + "-".join(("02", *fields[1:]))
        record = Record(
            clip_id=clip_id,
            video=path,
            label=_LABELS[int(emotion) - 1],
            subject=actor_number,
            attributes={"intensity": intensity, "statement": statement, "repetition": repetition},
        )
        if modality == "02" or clip_id not in records:
            records[clip_id] = record
    if num_songs:
        findings.note("SONGS", f"{num_songs} sung clips (channel 02) were left out; the protocol has speech only")
    folds = [tuple(f"{actor:02d}" for actor in range(a, a + 4)) for a in range(1, 25, 4)]
    return release_by_people("ravdess", root, media, list(records.values()), folds, findings, options)
