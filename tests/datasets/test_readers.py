"""Readers of the official layouts, on trees typed here by hand with known answers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dferkit.datasets import DATA_SETS, Options, read_release, require_sound, with_groups
from dferkit.datasets.assemble import Lists, assemble
from dferkit.datasets.data_set import Source
from dferkit.datasets.findings import Findings
from dferkit.datasets.lists import Listed
from dferkit.datasets.media import Media
from dferkit.errors import ConfigError, ManifestError
from dferkit.labels import BASIC, RAVDESS
from dferkit.schema import Record, Release


def put(root: Path, name: str, text: str | bytes = b"x") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def labels_of(release: Release) -> dict[str, str | None]:
    return {record.clip_id: record.label for record in release.records}


def codes(release: Release) -> set[str]:
    return {finding.code for finding in release.findings}


def dfew_lists(
    root: Path, test: str = "test(single-labeled)/set_{}.csv", train: str = "train(single-labeled)/set_{}.csv"
) -> None:
    """Ten clips: the k-th fold tests 2k-1 and 2k, of class happy and fear."""
    for fold in range(1, 6):
        sides: dict[str, list[str]] = {test: [], train: []}
        for clip in range(1, 11):
            side = test if (clip + 1) // 2 == fold else train
            sides[side].append(f"{clip:05d},{1 if clip % 2 else 7}" if fold == 1 else f"{clip},{1 if clip % 2 else 7}")
        for side, rows in sides.items():
            put(root, f"EmoLabel_DataSplit/{side.format(fold)}", "\r\n".join(["video_name,label", *rows]) + "\r\n")


def test_dfew_names_labels_and_folds(tmp_path: Path) -> None:
    dfew_lists(tmp_path)
    release = read_release("DFEW", tmp_path)
    assert labels_of(release) == {f"{c:05d}": "happiness" if c % 2 else "fear" for c in range(1, 11)}
    assert [fold.test for fold in release.folds][1] == ("00003", "00004")
    assert release.folds[0].train == tuple(f"{c:05d}" for c in range(3, 11))
    assert release.media_kind == "none"
    assert codes(release) == set()


@pytest.mark.parametrize(
    ("folders", "chosen", "kind", "video"),
    [
        (["Clip/clip_224x224_16f/00001", "Clip/original"], "Clip/original", "videos", "Clip/original/1.mp4"),
        (["Clip/clip_224x224/00001", "Clip/clip_224x224_16f/00001"], "Clip/clip_224x224", "faces", "Clip/clip_224x224/00001"),
        (["Clip/clip_224x224_16f/00001"], "Clip/clip_224x224_16f", "faces", "Clip/clip_224x224_16f/00001"),
        (["Clip/jpg_256/00001"], "Clip/jpg_256", "faces", "Clip/jpg_256/00001"),
        (["DFEW/Clip/clip_224x224/1"], "DFEW/Clip/clip_224x224", "faces", "DFEW/Clip/clip_224x224/1"),
        (["Clip/clip_224x224/clip_224x224/00001"], "Clip/clip_224x224/clip_224x224", "faces", "Clip/clip_224x224/clip_224x224/00001"),
    ],
)  # fmt: skip
def test_dfew_chooses_its_media(tmp_path: Path, folders: list[str], chosen: str, kind: str, video: str) -> None:
    """All face frames before original videos before 16 interpolated frames; padded and unpadded names; nested archives."""
    dfew_lists(tmp_path)
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    if kind == "videos":
        put(tmp_path, "Clip/original/1.mp4")
    release = read_release("dfew", tmp_path)
    assert (release.media, release.media_kind) == (chosen, kind)
    assert release.records[0].video == tmp_path / video
    assert ("MEDIA_16F" in codes(release)) == chosen.endswith("16f")


def test_dfew_takes_the_folder_that_is_asked_for(tmp_path: Path) -> None:
    dfew_lists(tmp_path)
    for name in ("clip_224x224", "clip_224x224_16f"):
        (tmp_path / "Clip" / name).mkdir(parents=True)
    release = read_release("dfew", tmp_path, Options(media="clip_224x224_16f"))
    assert release.media == "Clip/clip_224x224_16f"
    assert "MEDIA_16F" not in codes(release)
    with pytest.raises(ConfigError, match="there: Clip/clip_224x224, Clip/clip_224x224_16f"):
        read_release("dfew", tmp_path, Options(media="frames"))


def test_dfew_copies_with_other_file_names_are_read_and_counted_from_one(tmp_path: Path) -> None:
    dfew_lists(tmp_path, "test(single-labeled)/test_set_{}.csv", "train(single-labeled)/train_set_{}.csv")
    assert labels_of(read_release("dfew", tmp_path))["00002"] == "fear"


def test_dfew_votes_belong_to_the_clip_they_name(tmp_path: Path) -> None:
    """Rows stand in another order than the lists, and one clip has no single label; columns by name or by place."""
    dfew_lists(tmp_path)
    rows = [[10 - clip % 2, 0, clip % 2, 0, 0, 0, 0, clip, 1 if clip % 2 else 7] for clip in range(10, 0, -1)]
    for row in rows:
        if row[8] == 7:
            row[0], row[6] = 0, 10
    rows.append([4, 3, 3, 0, 0, 0, 0, 11, 0])
    names = ["1happy", "2sad", "3neutral", "4angry", "5surprise", "6disgust", "7fear", "order", "annotation"]
    (tmp_path / "Annotation").mkdir()
    for columns in (names, list("abcdefghi")):
        pd.DataFrame(rows, columns=columns).to_excel(tmp_path / "Annotation" / "annotation.xlsx", index=False)
        release = read_release("dfew", tmp_path, Options(with_votes=True))
        votes = {r.clip_id: dict(zip(BASIC, r.votes or (), strict=True)) for r in release.records}
        assert votes["00001"] == {**dict.fromkeys(BASIC, 0.0), "happiness": 0.9, "neutral": 0.1}
        assert votes["00002"]["fear"] == 1.0
        assert codes(release) == set()
    rows[0][8] = 3
    pd.DataFrame(rows, columns=names).to_excel(tmp_path / "Annotation" / "annotation.xlsx", index=False)
    found = read_release("dfew", tmp_path, Options(with_votes=True)).findings
    assert [(f.code, f.where) for f in found] == [("VOTES_LABEL", "Annotation/annotation.xlsx:2")]


def test_ferv39k(tmp_path: Path) -> None:
    base = tmp_path / "FERV39k" / "4_setups" / "All_scenes"
    put(base, "train_All.csv", "Action/Sad/0010 Sad\nWar/Happy/0002 Happy\n")
    put(base, "test_All.csv", "Action/Sad/0011 Sad\n")
    (tmp_path / "2_ClipsforFaceCrop" / "2_ClipsforFaceCrop" / "Action" / "Sad" / "0010").mkdir(parents=True)
    release = read_release("ferv39k", tmp_path)
    assert labels_of(release) == {
        "Action/Sad/0010": "sadness",
        "Action/Sad/0011": "sadness",
        "War/Happy/0002": "happiness",
    }
    assert release.records[0].attributes == {"scene": "Action"}
    assert release.records[0].video == tmp_path / "2_ClipsforFaceCrop/2_ClipsforFaceCrop/Action/Sad/0010"
    assert release.folds[0].test == ("Action/Sad/0011",)
    assert codes(release) == set()


def mafw_lists(root: Path, setting: str, words: dict[int, str], split: str = "Train & Test Set") -> None:
    for fold in range(1, 6):
        for side, is_test in (("test", True), ("train", False)):
            chosen = [c for c in words if ((c - 1) % 5 + 1 == fold) == is_test]
            base = f"{split}/{setting}"
            put(
                root, f"{base}/no_caption/set_{fold}/{side}.txt", "".join(f"{c:05d}.mp4 {words[c]}\r\n" for c in chosen)
            )
            told = "".join(
                f"{c:05d}.mp4\t{words[c]}\t一个人\tA café. Clip {c}.\r\n" for c in chosen if words[c] != "neutral"
            )
            put(root, f"{base}/with_caption/set_{fold}/{side}.txt", told.encode("gb18030"))


@pytest.mark.parametrize("split", ["Train & Test Set", "Train_Test_Set", "split", "anno"])
def test_mafw_single_with_captions(tmp_path: Path, split: str) -> None:
    words = dict(enumerate(["anger", "anger", "helplessness", "neutral", "contempt"] * 2, 1))
    mafw_lists(tmp_path, "single", words, split)
    put(tmp_path, "data/clips/00003.mp4")
    plain = read_release("mafw", tmp_path)
    assert plain.layout == "mafw-single"
    assert labels_of(plain) == {f"{c:05d}": word for c, word in words.items()}
    assert all(record.caption is None for record in plain.records)
    assert plain.records[2].video == tmp_path / "data" / "clips" / "00003.mp4"
    told = read_release("mafw", tmp_path, Options(with_captions=True))
    captions = {r.clip_id: r.caption for r in told.records}
    assert captions["00003"] == "A café. Clip 3."
    assert captions["00004"] is None
    assert "CAPTION_LEAK" in codes(told)
    assert told.annotation_digest != plain.annotation_digest


def test_mafw_caption_missing_for_another_class_is_an_error(tmp_path: Path) -> None:
    mafw_lists(tmp_path, "single", dict(enumerate(["anger"] * 5 + ["neutral"] * 5, 1)))
    for path in (tmp_path / "Train & Test Set/single/with_caption").rglob("*.txt"):
        kept = [line for line in path.read_bytes().splitlines(keepends=True) if not line.startswith(b"00001")]
        path.write_bytes(b"".join(kept))
    assert "CAPTION_ABSENT" in codes(read_release("mafw", tmp_path, Options(with_captions=True)))


def test_mafw_compound(tmp_path: Path) -> None:
    mafw_lists(
        tmp_path,
        "compound",
        dict(enumerate(["fear_surprise_anxiety", "anger", "neutral", "sadness", "disgust_sadness"], 1)),
    )
    release = read_release("mafw-compound", tmp_path)
    assert len(release.labels) == 43
    assert labels_of(release)["00001"] == "fear_surprise_anxiety"
    with pytest.raises(ManifestError, match="single/no_caption/set_1"):
        read_release("mafw-single", tmp_path)


def test_crema_d(tmp_path: Path) -> None:
    for name in ("1001_DFA_ANG_XX", "1018_IEO_HAP_HI", "1019_TIE_SAD_XX", "1091_WSI_NEU_XX"):
        put(tmp_path, f"VideoFlash/{name}.flv")
    put(
        tmp_path,
        "VideoDemographics.csv",
        '"ActorID","Age","Sex","Race","Ethnicity"\n"1018",30,"Female","Asian","Not Hispanic"\n',
    )
    release = read_release("crema-d", tmp_path)
    assert labels_of(release) == {
        "1001_DFA_ANG_XX": "anger",
        "1018_IEO_HAP_HI": "happiness",
        "1019_TIE_SAD_XX": "sadness",
        "1091_WSI_NEU_XX": "neutral",
    }
    assert [fold.test for fold in release.folds] == [
        ("1001_DFA_ANG_XX", "1018_IEO_HAP_HI"),
        ("1019_TIE_SAD_XX",),
        (),
        (),
        ("1091_WSI_NEU_XX",),
    ]
    record = release.records[1]
    assert record.subject == "1018"
    assert record.attributes == {
        "sentence": "IEO",
        "level": "HI",
        "sex": "Female",
        "race": "Asian",
        "ethnicity": "Not Hispanic",
    }
    put(tmp_path, "VideoFlash/1001_DFA_JOY_XX.flv")
    put(tmp_path, "VideoFlash/2001_DFA_ANG_XX.flv")
    assert codes(read_release("crema-d", tmp_path)) == {"LABEL_NAME", "CLIP_NAME"}


def test_ravdess(tmp_path: Path) -> None:
    base = "Video_Speech/Actor_05/"
    for name in (
        "01-01-02-01-01-01-05",
        "02-01-02-01-01-01-05",
        "01-01-08-02-01-01-05",
        "01-02-03-01-01-01-05",
        "03-01-03-01-01-01-05",
    ):
        put(tmp_path, f"{base}{name}.mp4")
    put(tmp_path, "Video_Speech/Actor_04/02-01-05-01-02-02-04.mp4")
    release = read_release("ravdess", tmp_path)
    assert labels_of(release) == {
        "Actor_04/02-01-05-01-02-02-04": "anger",
        "Actor_05/02-01-02-01-01-01-05": "calm",
        "Actor_05/02-01-08-02-01-01-05": "surprise",
    }
    # Of the same clip with and without sound, the one without.
    assert release.records[1].video.name == "02-01-02-01-01-01-05.mp4"
    assert len(release.folds[0].test) == 1
    assert len(release.folds[1].test) == 2
    assert codes(release) == {"SONGS"}
    put(tmp_path, f"{base}02-01-09-01-01-01-05.mp4")
    put(tmp_path, f"{base}02-01-01-01-01-01-06.mp4")
    assert codes(read_release("ravdess", tmp_path)) == {"SONGS", "LABEL_RANGE", "LABEL_CONFLICT"}


@pytest.mark.parametrize(("space", "inside"), [(" ", "enterface database/"), ("_", "")])
def test_enterface(tmp_path: Path, space: str, inside: str) -> None:
    for subject, emotion, sentence in ((1, "anger", 1), (10, "happiness", 5), (11, "fear", 2)):
        put(tmp_path, f"{inside}subject{space}{subject}/{emotion}/sentence{space}{sentence}/odd name.avi")
    release = read_release("enterface", tmp_path)
    assert list(labels_of(release)) == [
        "subject_1/anger/sentence_1",
        "subject_10/happiness/sentence_5",
        "subject_11/fear/sentence_2",
    ]
    assert [len(fold.test) for fold in release.folds] == [2, 1, 0, 0, 0]
    put(tmp_path, f"{inside}subject{space}1/anger/sentence{space}1/second.avi")
    put(tmp_path, f"{inside}subject{space}1/angr/sentence{space}1/x.avi")
    assert codes(read_release("enterface", tmp_path)) == {"CLIP_NAME", "LABEL_NAME"}


def test_afew(tmp_path: Path) -> None:
    for side, emotion in (("train", "Happy"), ("train", "Angry"), ("validation", "Sad")):
        put(tmp_path, f"AFEW_Face/{side}/{emotion}/000046280/1.jpg")
    release = read_release("afew", tmp_path)
    assert labels_of(release) == {
        "train/anger/000046280": "anger",
        "train/happiness/000046280": "happiness",
        "validation/sadness/000046280": "sadness",
    }
    assert release.folds[0].test == ("validation/sadness/000046280",)
    assert release.media_kind == "faces"
    shutil.rmtree(tmp_path / "AFEW_Face" / "validation")
    assert codes(read_release("afew", tmp_path)) == {"LIST_MISSING"}, "one side is told by name"
    for side in ("train", "validation"):
        (tmp_path / "bare" / "AFEW_Face" / side / "Angry").mkdir(parents=True)
    with pytest.raises(ManifestError, match="no clip of AFEW"):
        read_release("afew", tmp_path / "bare")


def test_folders_of_classes(tmp_path: Path) -> None:
    for name in (
        "train/Happy/2.mp4",
        "train/Happy/10.mp4",
        "test/angry/1.mp4",
        "val/sad/3.mp4",
        "train/Happy/notes.txt",
    ):
        put(tmp_path, name)
    release = read_release("folder", tmp_path)
    assert [r.clip_id for r in release.records] == [
        "test/angry/1.mp4",
        "train/Happy/2.mp4",
        "train/Happy/10.mp4",
        "val/sad/3.mp4",
    ]
    assert release.folds[0].train == ("train/Happy/2.mp4", "train/Happy/10.mp4", "val/sad/3.mp4")
    assert release.folds[0].test == ("test/angry/1.mp4",)
    assert release.labels == BASIC
    put(tmp_path, "train/hapy/1.mp4")
    assert "did you mean 'happiness'" in str(read_release("folder", tmp_path).findings[0])


def test_a_manifest_decides_the_label_set(tmp_path: Path) -> None:
    put(tmp_path, "clips.csv", "video,label,split,scene\na.mp4,calm,train,office\nb.mp4,fear,test,street\n")
    release = read_release("folder", tmp_path)
    # "calm" is an alias of neutral unless the set has it as a class: here every known class is accepted.
    assert labels_of(release) == {"a.mp4": "calm", "b.mp4": "fear"}
    assert release.labels == RAVDESS
    assert release.records[0].attributes == {"scene": "office"}
    put(tmp_path, "clips.csv", "video,label\na.mp4,angr\nb.mp4,fear\nb.mp4,anger\n")
    release = read_release("folder", tmp_path)
    assert [(f.where, f.code) for f in release.findings] == [("clips.csv:2", "MANIFEST"), ("clips.csv:4", "MANIFEST")]
    with pytest.raises(ManifestError, match="2 things are wrong with the annotations"):
        require_sound(release.findings, "folder")


@pytest.mark.parametrize("layout", DATA_SETS)
def test_nothing_there_is_one_sentence(tmp_path: Path, layout: str) -> None:
    with pytest.raises(ManifestError, match="does not exist"):
        read_release(layout, tmp_path / "gone")
    (tmp_path / "notes.txt").write_text("nothing of the kind")
    with pytest.raises(ManifestError, match=r"^[^\n]*$"):
        read_release(layout, tmp_path)


def test_natural_order() -> None:
    from dferkit.storage import natural_key

    names = ["10.jpg", "2.jpg", "1.jpg", "02.jpg", "a10b2", "a10b1", "a9"]
    assert sorted(names, key=natural_key) == ["1.jpg", "02.jpg", "2.jpg", "10.jpg", "a9", "a10b1", "a10b2"]
    shuffled = np.random.default_rng(0).permutation([f"{i}.png" for i in range(200)]).tolist()
    assert sorted(shuffled, key=natural_key) == [f"{i}.png" for i in range(200)]


def test_groups_that_a_user_knows(tmp_path: Path) -> None:
    put(tmp_path, "clips.csv", "video,label,split\na.mp4,anger,train\nb.mp4,fear,test\n")
    release = read_release("folder", tmp_path)
    groups = put(tmp_path, "groups.csv", "clip_id,glasses,age\nb.mp4,yes,\nother.mp4,no,3\n")
    told = with_groups(release, groups)
    assert [dict(r.attributes) for r in told.records] == [{}, {"glasses": "yes", "age": ""}]
    put(tmp_path, "groups.csv", "clip_id,glasses\nb.mp4,one\u2028two\n")  # no line end
    assert with_groups(release, groups).records[1].attributes == {"glasses": "one\u2028two"}
    for text, says in (
        ("clip,glasses\nb.mp4,yes\n", "expected a header with clip_id"),
        ("clip_id\nb.mp4\n", "at least one attribute"),
        ("clip_id,x\nb.mp4,1\nb.mp4,2\n", "groups.csv:3: clip 'b.mp4' is listed twice"),
        ("clip_id,x\nz.mp4,1\n", "clip ids look like 'a.mp4'"),
    ):
        put(tmp_path, "groups.csv", text)
        with pytest.raises(ManifestError, match=says):
            with_groups(release, groups)
    with pytest.raises(ManifestError, match="not found"):
        with_groups(release, tmp_path / "none.csv")


def test_archives_that_came_one_by_one(tmp_path: Path) -> None:
    for actor in ("01", "05"):
        put(tmp_path, f"Video_Speech_Actor_{actor}/Actor_{actor}/02-01-03-01-01-01-{actor}.mp4")
    release = read_release("ravdess", tmp_path)
    assert [r.subject for r in release.records] == ["01", "05"]
    assert release.media_kind == "videos"


@pytest.mark.parametrize(
    ("layout", "root", "clip"),
    [("afew", "AFEW_Face", "train/Happy/01/1.jpg"), ("crema-d", "face_aligned", "1001_DFA_ANG_XX/1.jpg"), ("crema-d", "VideoFlash", "1001_DFA_ANG_XX.flv")],
)  # fmt: skip
def test_the_root_may_be_the_media(tmp_path: Path, layout: str, root: str, clip: str) -> None:
    put(tmp_path, f"{root}/{clip}")
    (tmp_path / root / "validation" / "Sad").mkdir(parents=True)
    release = read_release(layout, tmp_path / root)
    assert release.media_kind == ("videos" if root == "VideoFlash" else "faces")
    assert len(release.records) == 1


def test_a_file_where_a_folder_belongs_is_no_media(tmp_path: Path) -> None:
    dfew_lists(tmp_path)
    put(tmp_path, "data")
    put(tmp_path, "Clip/original/1.mp4")
    assert read_release("dfew", tmp_path).media == "Clip/original"


def test_webp_frames_and_links_to_nothing(tmp_path: Path) -> None:
    put(tmp_path, "sad/a/1.webp")
    (tmp_path / "sad" / "b").symlink_to(tmp_path / "nowhere")
    release = read_release("folder", tmp_path)
    assert [r.clip_id for r in release.records] == ["sad/a", "sad/b"]


def test_tables_that_cannot_be_read_are_findings(tmp_path: Path) -> None:
    put(tmp_path, "VideoFlash/1001_DFA_ANG_XX.flv")
    put(tmp_path, "VideoDemographics.csv", "ActorID,Sex\n1001,Féminin\n".encode("latin-1"))
    assert codes(read_release("crema-d", tmp_path)) == {"DEMOGRAPHICS"}
    dfew_lists(tmp_path)
    put(tmp_path, "Annotation/annotation.xlsx", b"PK\x03\x04 cut")
    assert codes(read_release("dfew", tmp_path, Options(with_votes=True))) == {"VOTES_UNREADABLE"}
    put(tmp_path, "clips.csv", 'video,label\na.mp4,"' + "x" * 140_000)
    assert "look for a quote that is not closed" in str(read_release("folder", tmp_path).findings[0])


@pytest.mark.parametrize(
    ("layout", "option"), [("dfew", "with_captions"), ("mafw", "with_votes"), ("folder", "strict")]
)
def test_options_of_other_layouts_are_refused(tmp_path: Path, layout: str, option: str) -> None:
    with pytest.raises(ConfigError, match="leave that option out"):
        read_release(layout, tmp_path, Options(**{option: True}))


def test_a_record_keeps_the_name_of_its_line(tmp_path: Path) -> None:
    """Folds name clips by the lists, so another name in a record would be a clip without an annotation. A slash is part of a name."""
    lists = Lists([Listed("actor/1", "onset", "train:1")], [Listed("actor/2", "offset", "test:1")])
    source = Source(
        name="toy", labels=("onset", "offset"), root=tmp_path, options=Options(), media=Media(None, "none", ""), findings=Findings()
    )  # fmt: skip

    def read(change: str) -> Release:
        def record_of(line: Listed) -> Record:
            return Record(clip_id=line.clip_id.replace("/", change), video=tmp_path / line.clip_id, label=line.label)

        return assemble(source, {"1": lists}, [], record_of)

    assert labels_of(read("/")) == {"actor/1": "onset", "actor/2": "offset"}
    with pytest.raises(ConfigError, match=r"toy: record_of changed the clip name 'actor/1' into 'actor_1'; keep"):
        read("_")
