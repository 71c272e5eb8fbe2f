"""eNTERFACE'05: a folder for each person, emotion and sentence; five folds of people."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from dferkit.datasets.assemble import Options
from dferkit.datasets.by_rule import FACES, VIDEOS, clips_below, folders_with, release_by_people
from dferkit.datasets.findings import Findings
from dferkit.datasets.lists import place
from dferkit.datasets.media import Candidate, Media, choose_media, pictures, require_root, subfolders
from dferkit.labels import LABEL_SETS, nearest_name
from dferkit.schema import Record, Release

_MEDIA = (Candidate("face_aligned", "faces", FACES),)
_LAST_SUBJECTS = (10, 19, 28, 37, 44)
_SUBJECT = r"subject[ _](\d+)"


def read_enterface(root: Path, options: Options) -> Release:
    """``subject 1/anger/sentence 1/s1_an_1.avi`` (spaces, or ``_`` in copies); five folds of subjects in order.

    The folders tell everything: file names of the release are irregular. Subject 6 is absent in the release.
    """
    require_root(root, "eNTERFACE'05")
    media = choose_media(root, _MEDIA, options.media, or_root=True)
    folders = folders_with(media.folder or root, _SUBJECT)
    if media.folder is None and folders:
        media = Media(folders[0] if len(folders) == 1 else root, "videos", VIDEOS)
    findings, records = Findings(), []
    for subject_folder in (child for folder in folders for child in subfolders(folder)):
        subject = re.fullmatch(_SUBJECT, subject_folder.name)
        if subject is None or not 1 <= int(subject[1]) <= 44:
            findings.error("CLIP_NAME", "expected a folder such as 'subject 1', up to 44", place(subject_folder, root))
            continue
        for emotion_folder in subfolders(subject_folder):
            if emotion_folder.name not in LABEL_SETS["enterface"]:
                guess = nearest_name(emotion_folder.name, LABEL_SETS["enterface"])
                findings.error(
                    "LABEL_NAME",
                    f"emotion {emotion_folder.name!r}; did you mean {guess!r}?",
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
    return release_by_people("enterface", root, media, records, folds, findings, options)


def _enterface_clips(folder: Path, findings: Findings, root: Path) -> list[Path]:
    clips = list(clips_below(folder)) or ([folder] if pictures(folder) else [])
    if len(clips) != 1:
        findings.error(
            "CLIP_NAME", f"{len(clips)} videos in the folder of one sentence; expected 1", place(folder, root)
        )
        return []
    return clips
