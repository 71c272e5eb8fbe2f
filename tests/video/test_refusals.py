"""Every kind of file that is no video: one sentence, one code, no other exception, nothing else opened."""

from __future__ import annotations

import os
import socket
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from video_files import numbered_frame, write_numbered, write_sound, write_video

from dferkit.errors import VideoError
from dferkit.video import Limits, clip_window, decode_windows, index_video


def _bytes(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _picture(kind: str) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(cv2.imencode(f".{kind}", numbered_frame(5))[1].tobytes())


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "a")


def _without_index(path: Path) -> None:
    write_numbered(path)
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"moov") - 4])


def _renamed(suffix: str, **settings: object) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        write_numbered(path.with_suffix(suffix), **settings).rename(path)

    return write


def _socket(path: Path) -> None:
    folder = os.getcwd()
    os.chdir(path.parent)  # a socket's path is limited to 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(folder)


TABLE: list[tuple[str, str, str, Callable[[Path], object]]] = [
    ("empty.mp4", "E_EMPTY", "empty", _bytes(b"")),
    ("one_byte.mp4", "E_NOT_VIDEO", "", _bytes(b"\0")),
    ("zeros.mp4", "E_NOT_VIDEO", "", _bytes(bytes(5000))),
    ("noise.mp4", "E_NOT_VIDEO", "", _bytes(np.random.default_rng(0).bytes(5000))),
    ("text.mp4", "E_NOT_VIDEO", "text file", _bytes("Grüße\n".encode() * 1000)),
    ("page.mp4", "E_NOT_VIDEO", "text file", _bytes(b"<!DOCTYPE html><html></html>")),
    ("drawing.mp4", "E_NOT_VIDEO", "text file", _bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>")),
    ("archive.mp4", "E_NOT_VIDEO", "ZIP", _zip),
    ("paper.mp4", "E_NOT_VIDEO", "PDF", _bytes(b"%PDF-1.7\n")),
    ("photo.jpg", "E_PICTURE", "JPEG picture, not a video", _picture("jpg")),
    ("photo.mp4", "E_PICTURE", "JPEG picture, not a video", _picture("jpg")),
    ("drawing2.mp4", "E_PICTURE", "PNG picture", _picture("png")),
    ("scan.mp4", "E_PICTURE", "TIFF picture", _picture("tiff")),
    ("bitmap.mp4", "E_PICTURE", "BMP picture", _picture("bmp")),
    ("web.mp4", "E_PICTURE", "WebP picture", _picture("webp")),
    ("phone.mp4", "E_PICTURE", "HEIC picture", _bytes(b"\0\0\0\x18ftypheic" + bytes(100))),
    ("one_frame.mp4", "E_PICTURE", "single picture", lambda path: write_numbered(path, 1)),
    ("still.gif", "E_PICTURE", "still GIF", lambda path: write_numbered(path, 1, codec="gif", pix_fmt="rgb8")),
    ("sound.mp4", "E_NO_VIDEO_STREAM", "sound but no picture", write_sound),
    ("album.mp4", "E_NO_VIDEO_STREAM", "sound but no picture", lambda path: write_sound(path, has_cover=True)),
    ("song.mp4", "E_NO_VIDEO_STREAM", "sound but no picture", _bytes(b"ID3\x04" + bytes(100))),
    ("wave.mp4", "E_NO_VIDEO_STREAM", "sound but no picture", _bytes(b"RIFF\0\0\0\0WAVEfmt " + bytes(100))),
    ("no_index.mp4", "E_TRUNCATED", "incomplete", _without_index),
    ("head_only.mp4", "E_TRUNCATED", "incomplete", _bytes(b"\0\0\0\x18ftypisom" + bytes(100))),
    ("boxes.mp4", "E_TRUNCATED", "incomplete", _bytes(b"\0\0\0\x08free" * 1000)),
    ("empty_index.mp4", "E_NO_VIDEO_STREAM", "", _bytes(b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x08moov")),
    ("windows.mp4", "E_CONTAINER", "WMV", _renamed(".wmv", codec="wmv2")),
    ("list.mp4", "E_CONTAINER", "playlist", _bytes(b"#EXTM3U\n#EXTINF:2,\nneighbour.mp4\n#EXT-X-ENDLIST\n")),
    ("concat.mp4", "E_CONTAINER", "playlist", _bytes(b"ffconcat version 1.0\nfile neighbour.mp4\n")),
    ("session.mp4", "E_CONTAINER", "playlist", _bytes(b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\n")),
    ("dash.mp4", "E_CONTAINER", "playlist", _bytes(b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash'></MPD>")),
    ("lossless.mkv", "E_CODEC", "ffv1", lambda path: write_numbered(path, codec="ffv1")),
    ("folder.mp4", "E_NOT_REGULAR", "folder", lambda path: path.mkdir()),
    ("pipe.mp4", "E_NOT_REGULAR", "pipe", os.mkfifo),
    ("socket.mp4", "E_NOT_REGULAR", "socket", _socket),
    ("loop.mp4", "E_NOT_REGULAR", "link", lambda path: path.symlink_to(path)),
    ("dangling.mp4", "E_NOT_FOUND", "not found", lambda path: path.symlink_to(path.parent / "nowhere")),
    ("missing.mp4", "E_NOT_FOUND", "not found", lambda path: None),
    ("x" * 300 + ".mp4", "E_NOT_FOUND", "not found", lambda path: None),
    ("nul\0.mp4", "E_NOT_FOUND", "not found", lambda path: None),
]


@pytest.mark.parametrize(("name", "code", "words", "write"), TABLE, ids=[row[0][:20] for row in TABLE])
def test_refused(tmp_path: Path, name: str, code: str, words: str, write: Callable[[Path], object]) -> None:
    path = tmp_path / name
    write(path)
    with pytest.raises(VideoError) as caught:
        index_video(path)
    message = str(caught.value)
    assert caught.value.code == code, message
    assert words in message
    # One sentence about the file by its name, without the folder.
    assert str(tmp_path) not in message
    assert "\n" not in message
    assert message.isprintable()


def test_every_code_is_documented() -> None:
    table = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"
    text = table.read_text(encoding="utf-8")
    assert all(f"`{code}`" in text for _, code, _, _ in TABLE)


def test_a_playlist_opens_no_neighbour(tmp_path: Path) -> None:
    write_numbered(tmp_path / "neighbour.mp4")
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile neighbour.mp4\n")
    # The same hidden behind the first bytes of a video.
    (tmp_path / "masked.mp4").write_bytes(b"\0\0\0\x10ftypisom\0\0\0\0\nffconcat version 1.0\nfile neighbour.mp4\n")
    opened: list[str] = []
    is_listening = True

    def listen(event: str, arguments: tuple[object, ...]) -> None:
        if is_listening and event in ("open", "socket.connect"):
            opened.append(str(arguments[0]))

    sys.addaudithook(listen)
    for name in ("list.mp4", "masked.mp4"):
        with pytest.raises(VideoError):
            index_video(tmp_path / name)
    is_listening = False
    assert not [name for name in opened if "neighbour" in name]


def test_device() -> None:
    with pytest.raises(VideoError) as caught:
        index_video("/dev/zero")
    assert caught.value.code == "E_NOT_REGULAR"


def test_near_name_is_suggested(tmp_path: Path) -> None:
    write_numbered(tmp_path / "clips.mp4", 2)
    with pytest.raises(VideoError, match=r"^clip\.mp4: not found\. Did you mean clips\.mp4\?$"):
        index_video(tmp_path / "clip.mp4")


def test_addresses_are_not_fetched() -> None:
    with pytest.raises(VideoError, match="local files only"):
        index_video("http://127.0.0.1:9/a.mp4")


def test_gif_where_it_is_not_wanted(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.gif", 4, codec="gif", pix_fmt="rgb8")
    assert index_video(path).num_frames == 4
    with pytest.raises(VideoError) as caught:
        index_video(path, allow_gif_and_flv=False)
    assert caught.value.code == "E_CONTAINER"


def test_limits(tmp_path: Path) -> None:
    large = write_video(tmp_path / "large.mp4", [np.zeros((256, 320, 3), np.uint8)] * 3)
    long = write_numbered(tmp_path / "long.mp4", 4, pts=[0, 1, 2, 8 * 3600 * 24])
    for path, limits, code in (
        (large, Limits(max_pixels=320 * 255), "E_TOO_MANY_PIXELS"),
        (large, Limits(max_frames=2), "E_TOO_LONG"),
        (long, None, "E_TOO_LONG"),
    ):
        with pytest.raises(VideoError) as caught:
            index_video(path, limits=limits)
        assert caught.value.code == code


@pytest.mark.parametrize(
    "name", ["näme.mp4", "new\nline.mp4", "-i.mp4", "%03d.mp4", "concat:a.mp4", "a'b.mp4", "n" * 200]
)
def test_odd_names_read_like_plain_ones(tmp_path: Path, name: str) -> None:
    plain = write_numbered(tmp_path / "plain.mp4")
    odd = tmp_path / name
    odd.write_bytes(plain.read_bytes())
    one, other = index_video(plain), index_video(odd)
    first, second = (next(decode_windows(i, [clip_window(i.duration_seconds, 4)])) for i in (one, other))
    assert np.array_equal(first.images, second.images)


def test_name_that_is_no_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.mp4"))
    path.write_bytes(b"text")
    with pytest.raises(VideoError) as caught:
        index_video(path)
    assert str(caught.value).encode("utf-8")
