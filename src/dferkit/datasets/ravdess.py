"""RAVDESS: seven numbers in every name; six folds of four actors."""

from __future__ import annotations

import re

from dferkit.datasets.by_rule import FACES, clips_below, folders_with, release_by_people, stem, with_videos_in
from dferkit.datasets.data_set import DataSet, Source
from dferkit.datasets.lists import place
from dferkit.datasets.media import Candidate, subfolders
from dferkit.datasets.mini import Mini, MiniClip, MiniConfig, MiniMedia, one_actor_per_fold
from dferkit.datasets.published import Published, by_class, by_fold
from dferkit.labels import RAVDESS as LABELS
from dferkit.labels import class_order
from dferkit.schema import Record, Release
from dferkit.storage import natural_key

_ORDER = class_order("ravdess")
_MEDIA = (Candidate("face_aligned", "faces", FACES),)


def read_ravdess(source: Source) -> Release:
    """``Actor_01/02-01-03-…``: modality, channel, emotion, intensity, statement, repetition, actor; six folds of four actors in order.

    Speech only (channel 01). Of a clip that is there with sound (01) and without (02), the one without is taken.
    """
    root, findings = source.root, source.findings
    folders = folders_with(source.media.folder or root, r"Actor_\d+")
    records: dict[str, Record] = {}
    num_songs = 0
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
                f"the name has actor {actor_number}, but the folder is {path.parent.name}",
                place(path, root),
            )
            continue
        clip_id = f"Actor_{actor_number}/" + "-".join(("02", *fields[1:]))
        record = Record(
            clip_id=clip_id,
            video=path,
            label=_ORDER[int(emotion) - 1],
            subject=actor_number,
            attributes={"intensity": intensity, "statement": statement, "repetition": repetition},
        )
        if modality == "02" or clip_id not in records:
            records[clip_id] = record
    if num_songs:
        findings.note("SONGS", f"{num_songs} sung clips (channel 02) were left out; the protocol has speech only")
    folds = [tuple(f"{actor:02d}" for actor in range(a, a + 4)) for a in range(1, 25, 4)]
    return release_by_people(with_videos_in(source, folders), list(records.values()), folds)


def _plan(config: MiniConfig) -> list[MiniClip]:
    return one_actor_per_fold(
        (1, 5, 9, 13, 17, 21),
        dict(zip((f"{n:02d}" for n in range(1, 9)), _ORDER, strict=True)),
        config,
        lambda actor, code, take: f"Actor_{actor:02d}/02-01-{code}-01-{1 + take % 2:02d}-{take:02d}-{actor:02d}",
    )


RAVDESS = DataSet(
    name="ravdess",
    title="RAVDESS",
    labels=LABELS,
    read=read_ravdess,
    media=_MEDIA,
    is_root_media=True,
    published=Published(
        num_clips=1440,
        per_class=by_class(_ORDER, (96, *(192,) * 7)),
        folds=by_fold((1200,) * 6, (240,) * 6),
        test_per_class={str(k): by_class(_ORDER, (16, *(32,) * 7)) for k in range(1, 7)},
        source="RAVDESS, its naming rule: 24 actors, speech; folds of 4 actors as in HiCMAE and MAE-DFER",
    ),
    mini=Mini(plan=_plan, media=lambda clip: [MiniMedia(kind="videos", path=f"{clip.name}.mp4")]),
)
