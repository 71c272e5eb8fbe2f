"""Tables of predicted classes, in the exact form of each tool, against probabilities worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tool_tables import face_clip, write

from dferkit.captions import describe, refine
from dferkit.errors import ConfigError, DataError, ManifestError
from dferkit.facs import AU_NAMES
from dferkit.labels import BASIC, MAFW, RAVDESS
from dferkit.readings import ClassTables, open_classifier
from dferkit.readings.scores import as_probabilities
from dferkit.schema import ActionUnits

FER = "angry0,box0,disgust0,fear0,happy0,neutral0,sad0,surprise0"
DEEPFACE = "video,dominant_emotion,face_confidence,emotion.angry,emotion.disgust,emotion.fear,emotion.happy,emotion.sad,emotion.surprise,emotion.neutral,region.x,region.y,region.w,region.h"
EMOTIEFF = "video,frame,Anger,Contempt,Disgust,Fear,Happiness,Neutral,Sadness,Surprise"


def by_name(probabilities: np.ndarray, labels: tuple[str, ...] = BASIC) -> dict[str, float]:
    return {name: value for name, value in zip(labels, probabilities.tolist(), strict=True) if value > 1e-12}


def test_fer_mean_over_frames_with_a_face(tmp_path):
    path = write(
        tmp_path / "data.csv",
        FER,
        '0.1,"[10, 20, 30, 40]",0.0,0.0,0.7,0.2,0.0,0.0',
        ",,,,,,,",
        '0.3,"[10, 20, 30, 40]",0.0,0.0,0.1,0.6,0.0,0.0',
        ",,,,,,,",
    )
    tables = ClassTables(path)
    assert tables.name == "FER table data.csv"
    assert tables.notes == ()
    assert by_name(tables.answer("a.mp4")) == pytest.approx({"anger": 0.2, "happiness": 0.4, "neutral": 0.4})


def test_fer_first_face_columns_and_several_faces(tmp_path):
    path = write(
        tmp_path / "two.csv",
        "angry0,angry1,happy0,happy1,neutral0,neutral1,box0,box1",
        "0.5,1.0,0.5,0.0,0.0,0.0,1,1",
        ",1.0,,0.0,,0.0,,1",
    )
    # The second face has more filled rows.
    assert by_name(ClassTables(path).answer("a.mp4")) == pytest.approx({"anger": 1.0})
    path = write(tmp_path / "first.csv", "box,angry,disgust,fear,happy,sad,surprise,neutral", "1,.1,.2,.3,.1,.1,.1,.1")
    assert ClassTables(path).name == "FER table first.csv"
    np.testing.assert_allclose(ClassTables(path).answer("a.mp4"), [0.1, 0.2, 0.3, 0.1, 0.1, 0.1, 0.1])


def test_pyfeat_rows_by_video_and_window(tmp_path):
    path = write(
        tmp_path / "fex.csv",
        "FaceRectX,FaceScore,AU01,anger,disgust,fear,happiness,sadness,surprise,neutral,input,frame",
        "1,0.9,0.1,1,0,0,0,0,0,0,videos/a.mp4,0",
        "1,0.9,0.1,0,0,0,1,0,0,0,videos/a.mp4,10",
        ",,,,,,,,,,videos/a.mp4,11",
        "1,0.9,0.1,0,0,1,0,0,0,0,videos/b.mp4,0",
    )
    tables = open_classifier(path, videos=["videos/a.mp4", "videos/b.mp4"])
    assert tables.name == "py-feat table fex.csv"
    assert by_name(tables.answer("videos/a.mp4")) == pytest.approx({"anger": 0.5, "happiness": 0.5})
    assert by_name(tables.answer("b.mp4")) == pytest.approx({"fear": 1.0})
    assert tables.answer("c.mp4") is None
    clip = face_clip(np.zeros((4, 8, 8, 3), np.uint8))  # half a second
    guide = tables.for_video("videos/a.mp4", np.arange(20) / 10)(clip)
    assert by_name(guide.probabilities) == pytest.approx({"anger": 1.0})
    assert guide.model == "py-feat table fex.csv"
    assert not guide.is_out_of_fold  # nobody knows what the other classifier was trained on


def test_a_window_without_a_row_is_refused(tmp_path):
    path = write(tmp_path / "t.csv", "timestamp,anger,fear,neutral", "9.0,1,0,0")
    guide = ClassTables(path).for_video("a.mp4", np.arange(100) / 10)
    with pytest.raises(DataError, match=r"class table t\.csv: no row with a face between 0\.0 and 0\.5 s"):
        guide(face_clip(np.zeros((4, 8, 8, 3), np.uint8)))


def test_deepface_percent_and_frames_without_a_face(tmp_path):
    path = write(
        tmp_path / "deep.csv",
        DEEPFACE,
        "a.mp4,happy,0.93,10,0,0,60,0,0,30,1,2,30,40",
        "a.mp4,sad,0,0,0,0,0,100,0,0,0,0,640,480",  # no face: the whole frame was read
        "b.mp4,sad,0.8,0,0,0,0,99.99,0,0.01,1,2,30,40",
    )
    tables = ClassTables(path)
    assert tables.name == "DeepFace table deep.csv"
    assert tables.notes == ("percent were taken as probabilities",)
    assert by_name(tables.answer("a.mp4")) == pytest.approx({"anger": 0.1, "happiness": 0.6, "neutral": 0.3})
    assert by_name(tables.answer("b.mp4")) == pytest.approx({"sadness": 0.9999, "neutral": 0.0001})


def test_deepface_told_not_to_look_for_faces(tmp_path):
    path = write(tmp_path / "skip.csv", DEEPFACE, "a.mp4,happy,0,0,0,0,100,0,0,0,,,,")
    assert by_name(ClassTables(path).answer("a.mp4")) == pytest.approx({"happiness": 1.0})


def test_emotiefflib_drops_contempt_and_says_so(tmp_path):
    path = write(tmp_path / "em.csv", EMOTIEFF, "a.mp4,0,0.1,0.5,0,0,0.4,0,0,0")
    tables = ClassTables(path)
    assert tables.name == "EmotiEffLib table em.csv"
    assert tables.notes == ("contempt left out, the other classes scaled to sum to 1",)
    assert by_name(tables.answer("a.mp4")) == pytest.approx({"anger": 0.2, "happiness": 0.8})
    kept = ClassTables(path, labels=MAFW)
    assert by_name(kept.answer("a.mp4"), MAFW) == pytest.approx({"anger": 0.1, "contempt": 0.5, "happiness": 0.4})
    assert kept.notes == ("anxiety, helplessness, disappointment not predicted, taken as 0",)


def test_emotiefflib_scores_are_softmaxed_frame_by_frame(tmp_path):
    two, three = math.log(2), math.log(3)
    low = -40.0
    path = write(
        tmp_path / "em.csv",
        EMOTIEFF,
        f"a.mp4,0,{two},{low},{low},{low},{three},0,{low},{low}",  # 2 : 3 : 1
        f"a.mp4,1,{low},{low},{low},{low},{three},0,{low},{low}",  # 3 : 1
    )
    tables = ClassTables(path)
    assert tables.notes[0] == "raw scores were soft-maxed"
    found = by_name(np.round(tables.answer("a.mp4"), 9))
    assert found == pytest.approx({"anger": 1 / 6, "happiness": 5 / 8, "neutral": 5 / 24}, abs=1e-6)


def test_a_folder_tells_what_its_tables_needed(tmp_path):
    folder = tmp_path / "em"
    folder.mkdir()
    write(folder / "a.csv", EMOTIEFF, "a.mp4,0,0.1,0.5,0,0,0.4,0,0,0")
    write(folder / "b.csv", FER, "1,x,0,0,0,0,0,0")
    tables = open_classifier(folder, videos=["a.mp4", "b.mp4", "c.mp4"])
    assert tables.name == "tables in em/"
    assert by_name(tables.answer("v/a.mp4")) == pytest.approx({"anger": 0.2, "happiness": 0.8})
    assert by_name(tables.answer("v/b.mp4")) == pytest.approx({"anger": 1.0})
    assert tables.answer("v/c.mp4") is None
    assert tables.notes == ("contempt left out, the other classes scaled to sum to 1",)


def test_calm_counts_as_neutral_where_it_is_no_class(tmp_path):
    path = write(tmp_path / "t.csv", "video,angry,calm,neutral,fearful", "a,0.1,0.3,0.2,0.4")
    assert by_name(ClassTables(path).answer("a.mp4")) == pytest.approx({"anger": 0.1, "neutral": 0.5, "fear": 0.4})
    own = ClassTables(path, labels=RAVDESS).answer("a.mp4")
    assert by_name(own, RAVDESS) == pytest.approx({"anger": 0.1, "calm": 0.3, "neutral": 0.2, "fear": 0.4})


def test_a_row_of_contempt_alone_has_no_answer(tmp_path):
    path = write(tmp_path / "em.csv", EMOTIEFF, "a.mp4,0,0,1,0,0,0,0,0,0", "b.mp4,0,1,0,0,0,0,0,0,0")
    assert ClassTables(path).answer("a.mp4") is None


def test_the_file_decides_as_a_whole_what_its_numbers_are():
    shares = np.array([[0.5, 0.49], [0.2, 0.81], [np.nan, np.nan]])
    found, said = as_probabilities(shares, "t")
    np.testing.assert_allclose(found[:2].sum(1), 1)
    assert np.isnan(found[2]).all()
    assert said == ()
    with pytest.raises(DataError, match=r"sum to 0\.20 to 1\.00 are neither"):
        as_probabilities(np.array([[0.5, 0.5], [0.1, 0.1]]), "t")
    # One row looks like probabilities, the other does not: both are scores.
    found, said = as_probabilities(np.array([[0.5, 0.5], [2.0, 0.0]]), "t")
    np.testing.assert_allclose(found[1], [math.e**2 / (math.e**2 + 1), 1 / (math.e**2 + 1)])
    assert said == ("raw scores were soft-maxed",)


def test_wrong_tables_are_refused_with_one_sentence(tmp_path):
    path = write(tmp_path / "t.csv", "frame,happy,label", "0,1,x")
    with pytest.raises(ManifestError, match="is not a known kind of class table: found columns frame, happy, label"):
        ClassTables(path)
    path = write(tmp_path / "t.csv", "anger,fear,neutral", "0.5,0.5,zero")
    with pytest.raises(ManifestError, match=r"t\.csv:2: neutral is 'zero'"):
        ClassTables(path)
    with pytest.raises(ConfigError, match=r"give a \.csv table, a folder of them, or an \.onnx model"):
        open_classifier(write(tmp_path / "t.txt", "x"))
    with pytest.raises(ConfigError, match="class names are for an ONNX model"):
        open_classifier(path, path)


def test_two_videos_never_share_a_row(tmp_path):
    path = write(tmp_path / "t.csv", "video,anger,fear,neutral", "001.mp4,1,0,0")
    with pytest.raises(ManifestError, match=r"001\.mp4 matches both a/001\.mp4 and b/001\.mp4"):
        open_classifier(path, videos=["a/001.mp4", "b/001.mp4"])
    path = write(tmp_path / "t.csv", "video,anger,fear,neutral", "x/a/001.mp4,1,0,0", "x/b/001.mp4,0,1,0")
    tables = open_classifier(path, videos=["a/001.mp4", "b/001.mp4"])
    assert by_name(tables.answer("b/001.mp4")) == {"fear": 1.0}
    with pytest.raises(ManifestError, match=r"fit 001\.mp4 equally well"):
        tables.answer("001.mp4")


def test_an_outside_guide_stresses_a_caption_but_never_a_training_one(tmp_path):
    path = write(tmp_path / "t.csv", "anger,fear,neutral", "1,0,0")
    guide = ClassTables(path).for_video("a.mp4", np.arange(3.0))(face_clip(np.zeros((4, 8, 8, 3), np.uint8)))
    curve = np.zeros((16, len(AU_NAMES)))
    curve[4:12, AU_NAMES.index("AU4")] = 0.8
    units = ActionUnits(names=AU_NAMES, intensity=curve, timestamps=np.arange(16) / 8, source="truth")
    caption = refine(describe(units), guide, top_k=1)
    assert caption.guided_by is not None
    assert caption.guided_by.model == "class table t.csv"
    assert any(phrase.is_stressed and phrase.action_unit == "AU4" for phrase in caption.phrases)
    with pytest.raises(DataError, match="leak"):
        refine(describe(units), guide, for_training=True)
