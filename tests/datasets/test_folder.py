"""Manifests: what is accepted, and that every fault is reported with its line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dferkit.datasets import check_disjoint, read_manifest, read_release
from dferkit.errors import ManifestError
from dferkit.labels import MAFW
from dferkit.schema import Record


def manifest(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "clips.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_a_full_manifest(tmp_path: Path) -> None:
    path = manifest(tmp_path, "video,label,split,subject,age\na.mp4,Happy,train,p1,30\nb/c.mp4,fear,TEST,p2,40\n")
    records = read_manifest(path)
    assert records[0] == Record(
        clip_id="a.mp4",
        video=tmp_path / "a.mp4",
        label="happiness",
        split="train",
        subject="p1",
        attributes={"age": "30"},
    )
    assert records[1].split == "test"
    assert records[1].video == tmp_path / "b" / "c.mp4"
    assert records[1].attributes == {"age": "40"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_what_spreadsheets_write(tmp_path: Path, encoding: str, newline: str) -> None:
    text = newline.join(["Video , Label", '"clip, one.mp4", sad', "", "  ", "ü.mp4,anger", ""])
    assert [(r.clip_id, r.label) for r in read_manifest(manifest(tmp_path, text, encoding))] == [
        ("clip, one.mp4", "sadness"),
        ("ü.mp4", "anger"),
    ]


def test_columns_in_any_order_and_empty_optional_cells(tmp_path: Path) -> None:
    records = read_manifest(manifest(tmp_path, "subject,label,video,split\n,anger,a.mp4,\n"))
    assert (records[0].subject, records[0].split) == (None, None)


def test_videos_are_not_opened(tmp_path: Path) -> None:
    assert not read_manifest(manifest(tmp_path, "video,label\nnothere.mp4,anger\n"))[0].video.exists()


def test_all_faults_at_once_with_lines(tmp_path: Path) -> None:
    rows = ["a.mp4,hapy,train", "b.mp4,anger,tran", "../c.mp4,anger,train", ",anger,train", "d.mp4,fear,test"]
    text = "\n".join(["video,label,split", *rows, "d.mp4,anger,test", "/e.mp4,fear,test"])
    with pytest.raises(ManifestError) as caught:
        read_manifest(manifest(tmp_path, text))
    lines = str(caught.value).splitlines()
    assert [line.split(":")[1] for line in lines] == ["2", "3", "4", "5", "7", "8"]
    assert "did you mean 'happiness'" in lines[0] or "did you mean 'happy'" in lines[0]
    assert "unknown split 'tran'" in lines[1]
    assert "leaves the manifest's folder" in lines[2]
    assert "is empty" in lines[3]
    assert "listed twice, there as 'fear' and here as 'anger'" in lines[4]


def test_many_faults_are_counted(tmp_path: Path) -> None:
    rows = "".join(f"{i}.mp4,no{i}\n" for i in range(70))
    with pytest.raises(ManifestError, match="and 20 more"):
        read_manifest(manifest(tmp_path, "video,label\n" + rows))


def test_a_fault_of_many_rows_is_reported_once(tmp_path: Path) -> None:
    rows = "".join(f"{i}.mp4,{'onset' if i % 2 else 'offset'}\n" for i in range(60))
    with pytest.raises(ManifestError) as caught:
        read_manifest(manifest(tmp_path, "video,label\n" + rows))
    first, second = str(caught.value).splitlines()
    assert first.split(": ")[0].endswith(":2")
    assert first.endswith("(and 29 more rows)")
    assert "'onset'" in second


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no column 'video'"),
        (b"video,label\n", "has no rows"),
        (b"file,label\na.mp4,anger\n", "no column 'video'; found file, label"),
        (b"video\na.mp4\n", "no column 'label'"),
        (b"video,label\na.mp4,anger,x\n", "clips.csv:2: 3 cells, but the header has 2"),
        (b"video,label\n\xff\xfe,anger\n", "not UTF-8"),
        (b"v\0ideo", "NUL"),
        ("video,label\nä.mp4,anger\n".encode("utf-16"), "NUL"),
    ],
)
def test_files_that_are_no_manifest(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "clips.csv").write_bytes(data)
    with pytest.raises(ManifestError, match=message):
        read_manifest(tmp_path / "clips.csv")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="not found"):
        read_manifest(tmp_path / "clips.csv")
    with pytest.raises(ManifestError, match="not found"):
        read_manifest(tmp_path)


def test_labels_may_be_missing_for_prediction(tmp_path: Path) -> None:
    records = read_manifest(manifest(tmp_path, "video\na.mp4\n"), needs_label=False)
    assert records[0].label is None
    with pytest.raises(ManifestError, match="unknown label ''"):
        read_manifest(manifest(tmp_path, "video,label\na.mp4,\n"))


def test_other_label_sets(tmp_path: Path) -> None:
    path = manifest(tmp_path, "video,label\na.mp4,contempt\n")
    assert read_manifest(path, labels=MAFW)[0].label == "contempt"
    with pytest.raises(ManifestError, match=r"clips\.csv:2: unknown label 'contempt'"):
        read_manifest(path)


def test_quoted_line_breaks(tmp_path: Path) -> None:
    """A note with a line break in another column shifts nothing."""
    path = manifest(tmp_path, 'video,label,note\na.mp4,anger,"two\nlines"\nb.mp4,wrong,x\n')
    with pytest.raises(ManifestError, match=r"clips\.csv:4: unknown label"):
        read_manifest(path)


# Characters at which str.splitlines() breaks, and a CSV file does not.
@pytest.mark.parametrize("break_", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_only_line_ends_end_a_row(tmp_path: Path, break_: str) -> None:
    path = manifest(tmp_path, f"video,label\none{break_}two.mp4,anger\r\nb.mp4,wrong\n")
    with pytest.raises(ManifestError, match=r"^clips\.csv:3: unknown label 'wrong'"):
        read_manifest(path)
    records = read_manifest(manifest(tmp_path, f"video,label\none{break_}two.mp4,anger\n"))
    assert [record.clip_id for record in records] == [f"one{break_}two.mp4"]


def test_a_name_that_is_not_utf8_is_a_finding(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "anger")
    os.mkdir(folder)
    for name in (b"good.mp4", b"bad\xff.mp4"):
        Path(os.fsdecode(folder + b"/" + name)).touch()
    release = read_release("folder", tmp_path)
    assert [record.clip_id for record in release.records] == ["anger/good.mp4"]
    assert [(f.code, f.where) for f in release.findings if f.severity == "error"] == [
        ("CLIP_NAME", "anger/bad\\xff.mp4")
    ]


def test_one_video_in_two_spellings_is_listed_twice(tmp_path: Path) -> None:
    path = manifest(tmp_path, "video,label,split\na/b.mp4,anger,train\n./a//b.mp4,anger,test\n")
    with pytest.raises(ManifestError, match=r"^clips\.csv:3: video '\./a//b\.mp4' is listed twice; keep one row$"):
        read_manifest(path)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"more than one column 'label'"):
        read_manifest(manifest(tmp_path, "video,label, Label\na.mp4,anger,fear\n"))
    assert len(read_manifest(manifest(tmp_path, "video,label,,\na.mp4,anger,,\n"))) == 1


def test_a_person_in_two_splits_is_refused(tmp_path: Path) -> None:
    records = read_manifest(manifest(tmp_path, "video,label,split,subject\na.mp4,anger,train,p1\nb.mp4,fear,test,p1\n"))
    with pytest.raises(ManifestError, match="1 subjects are in more than one split, such as p1"):
        check_disjoint(records)
    check_disjoint(records[:1])
    check_disjoint(read_manifest(manifest(tmp_path, "video,label\na.mp4,anger\n")))
