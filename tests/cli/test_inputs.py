"""Which videos a command reads, and the names that its tables use for them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dferkit.cli.inputs import expand_inputs


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two sessions with a video of the same name, a folder of numbered frames and a folder of photos."""
    for name in ("s1/cam/x.mp4", "s2/cam/x.mp4", "s2/y.MOV", "frames/1.jpg", "frames/2.jpg", "photos/me.jpg", "photos/you.jpg"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*paths: str) -> list[str]:
    return [name for _, name in expand_inputs([Path(path) for path in paths])[0]]


def test_names_are_as_short_as_they_can_be(tree: Path) -> None:
    assert names("s1/cam/x.mp4", "s2/y.MOV") == ["x.mp4", "y.MOV"]
    assert names("s1/cam/x.mp4", "s2/cam/x.mp4") == ["s1/cam/x.mp4", "s2/cam/x.mp4"]
    assert names("s1/cam", "s2/cam") == ["s1/cam/x.mp4", "s2/cam/x.mp4"]
    assert names("s2", "s1/cam/x.mp4") == ["s2/cam/x.mp4", "s2/y.MOV", "x.mp4"]
    assert names("frames", "s1") == ["frames", "s1/cam/x.mp4"]


def test_the_folder_one_is_in_has_a_name(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree / "s1" / "cam")
    assert names(".") == ["cam/x.mp4"]
    assert names("..") == ["s1/cam/x.mp4"]
    assert names("x.mp4", "../../s2/cam/x.mp4") == ["s1/cam/x.mp4", "s2/cam/x.mp4"]
    monkeypatch.chdir(tree / "frames")
    assert names(".") == ["frames"]
    monkeypatch.chdir(tree / "photos")
    _, empty = expand_inputs([Path(".")])
    assert empty[0].startswith("photos/ holds no video")


def test_a_video_is_read_once(tree: Path) -> None:
    (tree / "link").symlink_to(tree / "s1")
    assert names("s1", "s1/cam/x.mp4", "s2/../s1/cam/x.mp4", str(tree / "s1"), "link/cam") == ["s1/cam/x.mp4"]
    assert names("frames", str(tree / "frames"), "s1/../frames") == ["frames"]


def test_every_name_fits_into_a_table(tree: Path) -> None:
    for name in (b"\xff.mp4", "a\u2028\n.mp4".encode()):
        Path(os.fsdecode(os.fsencode(tree / "s1") + b"/" + name)).touch()
    found = names("s1")
    assert found == ["s1/a\\u2028\\n.mp4", "s1/cam/x.mp4", "s1/\\udcff.mp4"]
    assert all(name.encode() for name in found)


def test_what_is_not_there_is_still_an_input(tree: Path) -> None:
    assert names("none.mp4", "x" * 300) == ["none.mp4", "x" * 300]


def test_many_folders_deep(tmp_path: Path) -> None:
    paths = [tmp_path / a / "same" / b / "x.mp4" for a in "ab" for b in "ab"]
    assert names(*map(str, paths)) == ["a/same/a/x.mp4", "a/same/b/x.mp4", "b/same/a/x.mp4", "b/same/b/x.mp4"]
