"""Tables of action units, in the exact form of each tool, against values worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tool_tables import LIVE_LINK_HEADER, OPENFACE_HEADER, live_link_row, write

from dferkit.captions import describe
from dferkit.errors import ConfigError, DataError, ManifestError
from dferkit.facs import AU_NAMES
from dferkit.readings import UnitTables, open_units
from dferkit.readings.unit_tables import timecode_seconds

TIMES = np.array([0.0, 0.05, 0.1])


def values(units, name: str) -> list[float]:
    return units.intensity[:, units.names.index(name)].tolist()


def openface(path: Path, *rows: str) -> Path:
    return write(path, OPENFACE_HEADER, *rows)


def test_openface_is_scaled_by_five_and_drawn_between_rows(tmp_path):
    path = openface(
        tmp_path / "au.csv",
        "1, 0, 0.000, 0.98, 1, 3.2, 0.00, 2.50, 5.00, 1.0, 0, 1, 1, 0, 0",
        "2, 0, 0.100, 0.98, 1, 3.2, 1.00, 2.50, 0.00, 1.0, 0, 1, 0, 1, 0",
    )
    curves = UnitTables(path).for_video("a.mp4")
    units = curves.at(TIMES)
    assert units.names == AU_NAMES
    assert units.source == "OpenFace table au.csv"
    assert values(units, "AU1") == pytest.approx([0, 0.1, 0.2])
    assert values(units, "AU4") == pytest.approx([0.5, 0.5, 0.5])
    assert values(units, "AU12") == pytest.approx([1, 0.5, 0])
    # A presence (AU28_c) has no strength; AU45 is no expression unit.
    assert set(curves.missing) == set(AU_NAMES) - {"AU1", "AU4", "AU12"}
    assert values(units, "AU28") == [0, 0, 0]
    np.testing.assert_array_equal(units.timestamps, TIMES)
    assert describe(units).phrases


def test_failed_frames_take_the_nearest_good_one(tmp_path):
    rows = [
        "1, 0, 0.0, 0.9, 1, 0, 1.0, 0, 0, 0, 0, 0, 0, 0, 0",
        "2, 0, 0.1, 0.0, 0, 0, 5.0, 5, 5, 5, 0, 0, 0, 0, 0",
        "3, 0, 0.2, 0.0, 0, 0, 5.0, 5, 5, 5, 0, 0, 0, 0, 0",
        "4, 0, 0.3, 0.9, 1, 0, 2.0, , 0, 0, 0, 0, 0, 0, 0",  # an empty cell is a failure, too
        "5, 0, 0.4, 0.9, 1, 0, 3.0, 0, 0, 0, 0, 0, 0, 0, 0",
    ]
    units = UnitTables(openface(tmp_path / "au.csv", *rows)).for_video("a.mp4").at(np.arange(5) / 10)
    assert values(units, "AU1") == pytest.approx([0.2, 0.2, 0.2, 0.6, 0.6])
    assert np.isfinite(units.intensity).all()


def test_no_good_frame_is_one_sentence(tmp_path):
    path = openface(tmp_path / "au.csv", "1, 0, 0.0, 0.1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0")
    with pytest.raises(DataError, match="none of its 1 rows has usable values"):
        UnitTables(path).for_video("a.mp4").at(TIMES)


def test_a_window_that_was_not_measured_is_refused(tmp_path):
    path = openface(tmp_path / "au.csv", "1, 0, 0.0, 0.9, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0")
    curves = UnitTables(path).for_video("a.mp4")
    assert values(curves.at(np.array([0.4, 0.6])), "AU1") == pytest.approx([0.2, 0.2])
    with pytest.raises(DataError, match=r"no usable row between 4\.0 and 6\.0 s \(usable from 0\.0 to 0\.0 s\)"):
        curves.at(np.array([4.0, 6.0]))


def test_of_several_people_the_one_with_most_rows(tmp_path):
    rows = [
        "1, 0, 0.0, 0.9, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0",
        "1, 1, 0.0, 0.9, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0",
        "2, 1, 0.1, 0.9, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0",
    ]
    units = UnitTables(openface(tmp_path / "au.csv", *rows)).for_video("a.mp4").at(np.array([0.0, 0.1]))
    assert values(units, "AU1") == pytest.approx([0.2, 0.4])


def test_pyfeat_by_frame_number_largest_face_and_own_video(tmp_path):
    path = write(
        tmp_path / "fex.csv",
        "FaceRectX,FaceRectY,FaceRectWidth,FaceRectHeight,FaceScore,AU01,AU11,AU12,AU43,anger,happiness,input,frame",
        "10,10,50,60,0.99,0.25,0.9,1.0,0.0,0.1,0.9,videos/a.mp4,0",
        "90,10,10,12,0.99,0.99,0.9,0.1,0.0,0.1,0.9,videos/a.mp4,0",  # a smaller face in the same frame
        "10,10,50,60,0.99,0.75,0.9,0.0,0.5,0.1,0.9,videos/a.mp4,10",
        ",,,,,,,,,,,videos/a.mp4,20",
        "10,10,50,60,0.99,0.11,0.9,0.0,0.5,0.1,0.9,videos/b.mp4,0",
    )
    tables = open_units(path, ["here/a.mp4", "here/b.mp4"])
    frame_seconds = np.arange(21) / 20  # 20 frames a second
    curves = tables.for_video("here/a.mp4", frame_seconds)
    units = curves.at(np.array([0.0, 0.25, 0.5, 1.0]))
    assert units.source == "py-feat table fex.csv"
    assert values(units, "AU1") == pytest.approx([0.25, 0.5, 0.75, 0.75])
    assert values(units, "AU43") == pytest.approx([0, 0.25, 0.5, 0.5])
    assert "AU43" not in curves.missing
    assert values(tables.for_video("here/b.mp4", frame_seconds).at(TIMES), "AU1") == pytest.approx([0.11] * 3)
    with pytest.raises(ManifestError, match=r"fex\.csv: no row for c\.mp4 in column 'input'"):
        tables.for_video("c.mp4", frame_seconds)
    with pytest.raises(ManifestError, match="has a row for frame 20, but the video has 5 frames"):
        tables.for_video("a.mp4", frame_seconds[:5])


def test_arkit_sides_are_averaged_and_the_jaw_is_shared_out(tmp_path):
    path = write(
        tmp_path / "arkit.csv",
        "timestamp,browInnerUp,mouthSmileLeft,mouthSmileRight,jawOpen,mouthClose,mouthRollLower,mouthRollUpper,eyeBlinkLeft,eyeBlinkRight,jawLeft",
        "0.0,0.3,0.2,0.6,0.0,0.0,0.1,0.4,1,1,0.9",
        "0.1,0.3,0.2,0.6,0.25,0.05,0.1,0.4,1,0,0.9",
        "0.2,0.3,0.2,0.6,0.5,0.5,0.1,0.4,0,0,0.9",
        "0.3,0.3,0.2,0.6,0.75,0.0,0.1,0.4,0,0,0.9",
        "0.4,0.3,0.2,0.6,1.0,0.0,0.1,0.4,0,0,0.9",
    )
    curves = UnitTables(path).for_video("a.mp4")
    units = curves.at(np.arange(5) / 10)
    assert units.source == "ARKit table arkit.csv"
    assert values(units, "AU1") == pytest.approx([0.3] * 5)
    assert values(units, "AU12") == pytest.approx([0.4] * 5)
    assert values(units, "AU28") == pytest.approx([0.4] * 5)
    assert values(units, "AU26") == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert values(units, "AU27") == pytest.approx([0, 0, 0, 0.5, 1])
    assert values(units, "AU25") == pytest.approx([0, 0.4, 0, 1, 1])
    assert values(units, "AU43") == pytest.approx([1, 0.5, 0, 0, 0])
    assert {"AU23", "AU2", "AU4"} <= set(curves.missing)


def test_arkit_frame_numbers_from_one_and_milliseconds(tmp_path):
    header = "frame,jawOpen,mouthClose,browInnerUp"
    path = write(tmp_path / "frames.csv", header, "1,0,0,0.2", "3,0,0,0.4")
    units = UnitTables(path).for_video("a.mp4", np.arange(3) / 10).at(np.array([0.0, 0.1, 0.2]))
    assert values(units, "AU1") == pytest.approx([0.2, 0.3, 0.4])
    path = write(tmp_path / "ms.csv", header.replace("frame", "timestamp_ms"), "0,0,0,0.2", "200,0,0,0.4")
    units = UnitTables(path).for_video("a.mp4").at(np.array([0.0, 0.1, 0.2]))
    assert values(units, "AU1") == pytest.approx([0.2, 0.3, 0.4])
    path = write(tmp_path / "none.csv", header.replace("frame,", ""), "0,0,0.2")
    with pytest.raises(ManifestError, match="has no column of times"):
        UnitTables(path).for_video("a.mp4")


def test_live_link_face_counts_from_its_first_timecode(tmp_path):
    path = write(
        tmp_path / "take.csv",
        LIVE_LINK_HEADER,
        live_link_row("14:03:52:59.000", BrowInnerUp=0.2, MouthSmileLeft=1.0, JawOpen=0.5),
        live_link_row("14:03:53:29.000", BrowInnerUp=0.8, MouthSmileLeft=1.0, JawOpen=0.5),
    )
    curves = UnitTables(path).for_video("a.mov")
    assert curves.source == "Live Link Face table take.csv"
    np.testing.assert_allclose(curves.seconds, [0, 0.5])
    units = curves.at(np.array([0.0, 0.25, 0.5]))
    assert values(units, "AU1") == pytest.approx([0.2, 0.5, 0.8])
    assert values(units, "AU12") == pytest.approx([0.5] * 3)
    assert values(units, "AU26") == pytest.approx([1.0] * 3)
    assert curves.missing == ("AU23",)


def test_timecodes_know_their_rate_and_midnight():
    seen = timecode_seconds(["00:00:01:00.000", "00:00:01:29.500", "00:00:02:00.000"], "t.csv")
    np.testing.assert_allclose(seen, [0, 29.5 / 30, 1])
    np.testing.assert_allclose(timecode_seconds(["00:00:01:00", "00:00:01:30"], "t.csv"), [0, 0.5])  # 60 by default
    np.testing.assert_allclose(timecode_seconds(["23:59:59:59.0", "00:00:00:00.0"], "t.csv"), [0, 1 / 60])
    with pytest.raises(ManifestError, match=r"t\.csv: row 2: Timecode is '12\.5', expected HH:MM:SS:FF\.fff"):
        timecode_seconds(["00:00:01:00", "12.5"], "t.csv")


def test_a_folder_has_one_table_per_video(tmp_path):
    folder = tmp_path / "au"
    folder.mkdir()
    openface(folder / "a.csv", "1, 0, 0.0, 0.9, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0")
    write(folder / "b.csv", "frame,happy", "0,1")
    tables = open_units(folder, ["x/a.mp4", "x/b.mp4", "x/c.mp4"])
    assert tables.name == "tables in au/"
    assert tables.for_video("x/a.mp4").source == "OpenFace table a.csv"
    with pytest.raises(
        ManifestError, match=r"b\.csv is not a known kind of action-unit table: found columns frame, happy"
    ):
        tables.for_video("x/b.mp4")
    with pytest.raises(ManifestError, match=r"au/ has no table for c\.mp4; expected c\.csv"):
        tables.for_video("x/c.mp4")
    with pytest.raises(ManifestError, match=r"a\.csv matches both x/a\.mp4 and y/a\.mp4"):
        open_units(folder, ["x/a.mp4", "y/a.mp4"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="holds no CSV file"):
        UnitTables(tmp_path / "empty")


def test_one_table_without_videos_is_for_one_video(tmp_path):
    path = openface(tmp_path / "au.csv", "1, 0, 0.0, 0.9, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0")
    open_units(path, ["a.mp4"])
    with pytest.raises(ConfigError, match="no column that assigns its rows to the 2 videos"):
        open_units(path, ["a.mp4", "b.mp4"])


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["a,b", "1,2"], "found columns a, b; expected AU01_r, … .OpenFace"),
        (["frame,AU01", "0,x"], "au.csv:2: AU01 is 'x', expected a number"),
        (["frame,AU01", "0,3.5"], "AU01 runs from 3.5 to 3.5, expected 0 to 1; is it another tool's table"),
        (["timestamp,AU01_r", "0,-1"], "AU01_r runs from -1 to -1, expected 0 to 5"),
        (["timestamp,AU01_r", ",1"], "au.csv:2: timestamp is empty"),
        (["timestamp,AU01", "0,1,2,3"], "more cells than the header"),
        (["timestamp,AU01"], "has no rows"),
        (["timestamp,AU11", "0,1"], "none of its action units"),
    ],
)
def test_wrong_tables_are_refused_with_one_sentence(tmp_path, lines, sentence):
    path = write(tmp_path / "au.csv", *lines)
    with pytest.raises(ManifestError, match=sentence):
        UnitTables(path).for_video("a.mp4", np.arange(3.0))


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(ManifestError, match=r"no\.csv: not found"):
        UnitTables(tmp_path / "no.csv")
    (tmp_path / "bin.csv").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(ManifestError, match=r"bin\.csv is not a CSV table"):
        UnitTables(tmp_path / "bin.csv")
