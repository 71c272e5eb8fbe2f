"""eNTERFACE'05: a folder for each person, emotion and sentence; five folds of people."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from dferkit.datasets.by_rule import FACES, clips_below, folders_with, release_by_people, with_videos_in
from dferkit.datasets.data_set import DataSet, Source
from dferkit.datasets.findings import Findings
from dferkit.datasets.lists import place
from dferkit.datasets.media import Candidate, pictures, subfolders
from dferkit.datasets.mini import Mini, MiniClip, MiniConfig, MiniMedia, one_actor_per_fold
from dferkit.datasets.published import Published, by_fold
from dferkit.labels import BASIC, class_order, hint
from dferkit.schema import Record, Release

_MEDIA = (Candidate("face_aligned", "faces", FACES),)
_LAST_SUBJECTS = (10, 19, 28, 37, 44)
_SUBJECT = r"subject[ _](\d+)"


def read_enterface(source: Source) -> Release:
    """``subject 1/anger/sentence 1/s1_an_1.avi`` (spaces, or ``_`` in copies); five folds of subjects in order.

    Only the names of folders are read: file names of the release are irregular. Subject 6 is absent in the release.
    """
    root, findings, records = source.root, source.findings, []
    folders = folders_with(source.media.folder or root, _SUBJECT)
    for subject_folder in (child for folder in folders for child in subfolders(folder)):
        subject = re.fullmatch(_SUBJECT, subject_folder.name)
        if subject is None or not 1 <= int(subject[1]) <= 44:
            findings.error("CLIP_NAME", "expected a folder such as 'subject 1', up to 44", place(subject_folder, root))
            continue
        for emotion_folder in subfolders(subject_folder):
            if emotion_folder.name not in source.labels:
                findings.error(
                    "LABEL_NAME",
                    f"emotion {emotion_folder.name!r}{hint(emotion_folder.name, source.labels)} Known: {', '.join(source.labels)}",
                    place(emotion_folder, root),
                )
                continue
            for sentence_folder in subfolders(emotion_folder):
                sentence = re.fullmatch(r"sentence[ _](\d)", sentence_folder.name)
                if sentence is None:
                    findings.error("CLIP_NAME", "expected a folder such as 'sentence 1'", place(sentence_folder, root))
                    continue
                clip_id = f"subject_{subject[1]}/{emotion_folder.name}/sentence_{sentence[1]}"
                for path in _enterface_clips(sentence_folder, findings, root):
                    records.append(
                        Record(
                            clip_id=clip_id,
                            video=path,
                            label=emotion_folder.name,
                            subject=subject[1],
                            attributes={"sentence": sentence[1]},
                        )
                    )
    starts = (1, *(last + 1 for last in _LAST_SUBJECTS))
    folds = [tuple(str(s) for s in range(a, b)) for a, b in itertools.pairwise(starts)]
    return release_by_people(with_videos_in(source, folders), records, folds)


def _enterface_clips(folder: Path, findings: Findings, root: Path) -> list[Path]:
    clips = list(clips_below(folder)) or ([folder] if pictures(folder) else [])
    if len(clips) != 1:
        findings.error(
            "CLIP_NAME", f"{len(clips)} videos in the folder of one sentence; expected 1", place(folder, root)
        )
        return []
    return clips


def _plan(config: MiniConfig) -> list[MiniClip]:
    return one_actor_per_fold(
        (1, 11, 20, 29, 38),
        {label: label for label in class_order("enterface")},
        config,
        lambda subject, emotion, take: f"subject {subject}/{emotion}/sentence {take}/s{subject}_{emotion[:2]}_{take}",
    )


ENTERFACE = DataSet(
    name="enterface",
    title="eNTERFACE'05",
    labels=BASIC[:6],
    read=read_enterface,
    media=_MEDIA,
    is_root_media=True,
    published=Published(
        num_clips=1287,
        folds=by_fold((1017, 1017, 1020, 1017, 1077), (270, 270, 267, 270, 210)),
        source="eNTERFACE'05, its naming rule: subject 6 is absent, subject 23 has 27 clips; folds as in HiCMAE and MAE-DFER",
    ),
    mini=Mini(plan=_plan, media=lambda clip: [MiniMedia(kind="videos", path=f"{clip.name}.avi")]),
)
