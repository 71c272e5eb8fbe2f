"""Data sets whose labels, people and folds are a function of the file names: CREMA-D, RAVDESS, eNTERFACE'05, AFEW."""

from __future__ import annotations

import csv
import hashlib
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from dferkit.datasets.assemble import Options, compare_with_published
from dferkit.datasets.findings import Findings
from dferkit.datasets.lists import place
from dferkit.datasets.media import Candidate, Media, choose_media, find, pictures, require_root, subfolders
from dferkit.errors import ManifestError
from dferkit.labels import LABEL_SETS, nearest_name, parse_label
from dferkit.schema import Fold, Record, Release
from dferkit.storage import VIDEO_SUFFIXES, natural_key

_FACES, _VIDEOS = "face crops", "the release's videos"

# --- CREMA-D ---------------------------------------------------------------------------------------------------------------

CREMA_D_MEDIA = (
    Candidate("face_aligned", "faces", _FACES),
    Candidate("VideoFlash", "videos", _VIDEOS),
    Candidate("VideoMP4", "videos", "videos converted to MP4"),
)
_CREMA_D = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happiness", "NEU": "neutral", "SAD": "sadness"}
# HiCMAE's and MAE-DFER's folds: 18 actors each, 19 in the last.
_CREMA_D_FIRST = (1001, 1019, 1037, 1055, 1073)
CREMA_D_BROKEN = ("1064_IEO_DIS_MD", "1064_TIE_SAD_XX", "1076_MTI_NEU_XX", "1076_MTI_SAD_XX")
"""Clips that some published scores leave out; dferkit keeps every clip that can be read."""


def read_crema_d(root: Path, options: Options) -> Release:
    """``1001_DFA_ANG_XX`` = actor, sentence, emotion, level; five folds of actors in order.

    ``VideoDemographics.csv`` beside the videos adds what the actors said of themselves, for scores by group.
    """
    require_root(root, "CREMA-D")
    media = choose_media(root, CREMA_D_MEDIA, options.media, or_root=True)
    findings, records = Findings(), []
    about = _demographics(root, findings)
    for path in _clips(media.folder or root):
        found = re.fullmatch(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_([A-Z]{1,2})", _stem(path))
        if found is None or not 1001 <= int(found[1]) <= 1091:
            findings.error(
                "CLIP_NAME",
                "expected actor, sentence, emotion and level, such as 1001_DFA_ANG_XX with an actor from 1001 to 1091",
                place(path, root),
            )
            continue
        if found[3] not in _CREMA_D:
            findings.error("LABEL_NAME", f"emotion {found[3]!r}; known: {' '.join(_CREMA_D)}", place(path, root))
            continue
        attributes = {"sentence": found[2], "level": found[4], **about.get(found[1], {})}
        records.append(
            Record(clip_id=_stem(path), video=path, label=_CREMA_D[found[3]], subject=found[1], attributes=attributes)
        )
    firsts = (*_CREMA_D_FIRST, 1092)
    folds = [tuple(str(actor) for actor in range(a, b)) for a, b in itertools.pairwise(firsts)]
    return _release("crema-d", root, media, records, folds, findings, options)


def _demographics(root: Path, findings: Findings) -> dict[str, dict[str, str]]:
    path = find(root, ["VideoDemographics.csv"])
    if path is None:
        return {}
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
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


# --- RAVDESS ---------------------------------------------------------------------------------------------------------------

_RAVDESS = ("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
RAVDESS_MEDIA = (Candidate("face_aligned", "faces", _FACES),)


def read_ravdess(root: Path, options: Options) -> Release:
    """``Actor_01/02-01-03-…``: modality, channel, emotion, intensity, statement, repetition, actor; six folds of four actors in order.

    Speech only (channel 01). Of a clip that is there with sound (01) and without (02), the one without is taken.
    """
    require_root(root, "RAVDESS")
    media = choose_media(root, RAVDESS_MEDIA, options.media, or_root=True)
    folders = _folders_with(media.folder or root, r"Actor_\d+")
    if media.folder is None and folders:
        media = Media(folders[0] if len(folders) == 1 else root, "videos", _VIDEOS)
    findings, records, num_songs = Findings(), {}, 0
    actors = [actor for folder in folders for actor in subfolders(folder) if re.fullmatch(r"Actor_\d+", actor.name)]
    for path in (clip for actor in sorted(actors, key=lambda p: natural_key(p.name)) for clip in _clips(actor)):
        fields = _stem(path).split("-")
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
            label=_RAVDESS[int(emotion) - 1],
            subject=actor_number,
            attributes={"intensity": intensity, "statement": statement, "repetition": repetition},
        )
        if modality == "02" or clip_id not in records:
            records[clip_id] = record
    if num_songs:
        findings.note("SONGS", f"{num_songs} sung clips (channel 02) were left out; the protocol has speech only")
    folds = [tuple(f"{actor:02d}" for actor in range(a, a + 4)) for a in range(1, 25, 4)]
    return _release("ravdess", root, media, list(records.values()), folds, findings, options)


# --- eNTERFACE'05 ----------------------------------------------------------------------------------------------------------

ENTERFACE_MEDIA = (Candidate("face_aligned", "faces", _FACES),)
_ENTERFACE_LAST = (10, 19, 28, 37, 44)
_SUBJECT = r"subject[ _](\d+)"


def read_enterface(root: Path, options: Options) -> Release:
    """``subject 1/anger/sentence 1/s1_an_1.avi`` (spaces, or ``_`` in copies); five folds of subjects in order.

    The folders tell everything: file names of the release are irregular. Subject 6 is absent in the release.
    """
    require_root(root, "eNTERFACE'05")
    media = choose_media(root, ENTERFACE_MEDIA, options.media, or_root=True)
    folders = _folders_with(media.folder or root, _SUBJECT)
    if media.folder is None and folders:
        media = Media(folders[0] if len(folders) == 1 else root, "videos", _VIDEOS)
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
    starts = (1, *(last + 1 for last in _ENTERFACE_LAST))
    folds = [tuple(str(s) for s in range(a, b)) for a, b in itertools.pairwise(starts)]
    return _release("enterface", root, media, records, folds, findings, options)


def _enterface_clips(folder: Path, findings: Findings, root: Path) -> list[Path]:
    clips = list(_clips(folder)) or ([folder] if pictures(folder) else [])
    if len(clips) != 1:
        findings.error(
            "CLIP_NAME", f"{len(clips)} videos in the folder of one sentence; expected 1", place(folder, root)
        )
        return []
    return clips


# --- AFEW ------------------------------------------------------------------------------------------------------------------

AFEW_MEDIA = (
    Candidate("AFEW_Face", "faces", "face frames of every clip"),
    Candidate("AFEW", "videos", _VIDEOS),
)
_AFEW_SIDES = {"train": ("train", "Train", "Train_AFEW"), "test": ("validation", "val", "Val", "Val_AFEW")}


def read_afew(root: Path, options: Options) -> Release:
    """``AFEW_Face/{train,validation}/<Emotion>/<clip>``: tested on the validation set, since the labels of the test set are not public."""
    require_root(root, "AFEW")
    findings = Findings()
    media = choose_media(root, AFEW_MEDIA, options.media, or_root=True)
    base = media.folder or root
    sides: dict[str, list[str]] = {"train": [], "test": []}
    records = []
    for side, names in _AFEW_SIDES.items():
        folder = find(base, names)
        if folder is None:
            findings.error(
                "LIST_MISSING",
                f"no folder {' or '.join(names[:2])} below {place(base, root)}; AFEW has a training and a validation set",
            )
            continue
        for emotion in subfolders(folder):
            try:
                label = parse_label(emotion.name, LABEL_SETS["afew"])
            except ManifestError as error:
                findings.error("LABEL_NAME", str(error), place(emotion, root))
                continue
            for path in _clips(emotion):
                clip_id = f"{'train' if side == 'train' else 'validation'}/{label}/{_stem(path)}"
                sides[side].append(clip_id)
                records.append(Record(clip_id=clip_id, video=path, label=label))
    if not records and not findings.items:
        raise ManifestError(
            f"no clip of AFEW below {root.name}/; expected AFEW_Face/train/<Emotion>/<clip>/ and AFEW_Face/validation/…"
        )
    fold = Fold(name="official", train=tuple(sides["train"]), test=tuple(sides["test"]))
    return _finish("afew", root, media, records, [fold], findings, options)


# --- what they share -------------------------------------------------------------------------------------------------------


def _release(
    layout: str,
    root: Path,
    media: Media,
    records: list[Record],
    people: Sequence[Sequence[str]],
    findings: Findings,
    options: Options,
) -> Release:
    """Folds by subject: fold k tests the k-th group of people and trains on all others."""
    if not records and not findings.items:
        raise ManifestError(
            f"no clip of {layout} below {root.name}/; dferkit data mini {layout} OUT writes a small example of its tree"
        )
    folds = []
    for number, group in enumerate(people, 1):
        members = set(group)
        folds.append(
            Fold(
                name=str(number),
                train=tuple(r.clip_id for r in records if r.subject not in members),
                test=tuple(r.clip_id for r in records if r.subject in members),
            )
        )
    return _finish(layout, root, media, records, folds, findings, options)


def _finish(
    layout: str,
    root: Path,
    media: Media,
    records: list[Record],
    folds: list[Fold],
    findings: Findings,
    options: Options,
) -> Release:
    seen: dict[str, Record] = {}
    for record in records:
        if record.clip_id in seen:
            findings.error(
                "LISTED_TWICE",
                f"clip {record.clip_id} is there twice; the first is {place(seen[record.clip_id].video, root)}",
                place(record.video, root),
            )
        seen.setdefault(record.clip_id, record)
    ordered = tuple(seen[clip_id] for clip_id in sorted(seen, key=natural_key))
    names = "\n".join(f"{r.clip_id} {r.label} {r.subject}" for r in ordered)
    release = Release(
        layout=layout,
        labels=LABEL_SETS[layout],
        records=ordered,
        folds=tuple(folds),
        media=media.name(root),
        media_reason=media.reason,
        media_kind=media.kind,
        annotation_digest=hashlib.sha256(names.encode()).hexdigest(),
    )
    if options.strict:
        compare_with_published(release, findings)
    return replace(release, findings=tuple(findings.items))


def _folders_with(base: Path, pattern: str) -> list[Path]:
    """The base itself, or those folders in it (archives may come one by one), that hold folders of this name."""
    return [
        folder
        for folder in (base, *subfolders(base))
        if any(re.fullmatch(pattern, child.name) for child in subfolders(folder))
    ]


def _clips(folder: Path) -> Iterator[Path]:
    """Video files and folders of pictures directly below, in natural order."""
    for path in sorted(folder.iterdir(), key=lambda p: natural_key(p.name)):
        if path.name.startswith("."):
            continue
        if (path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES) or (path.is_dir() and pictures(path)):
            yield path


def _stem(path: Path) -> str:
    return path.stem if path.suffix.lower() in VIDEO_SUFFIXES else path.name
