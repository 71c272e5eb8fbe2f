"""Frames from folders of pictures: order, colours, damage, limits."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from video_files import numbered_frame, read_number

from dferkit.errors import VideoError
from dferkit.storage import natural_key
from dferkit.video import (
    Limits,
    clip_window,
    decode_source,
    digest_source,
    find_videos,
    index_frame_folder,
    index_source,
    spread_window,
)
from dferkit.video.picture import complete_picture_size


def save(path: Path, image: np.ndarray, *options: int) -> Path:
    """Write RGB; OpenCV wants BGR."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1]), list(options))
    return path


def read_all(folder: Path):
    source = index_source(folder)
    return next(iter(decode_source(source, [spread_window(source.timestamps, source.duration_seconds, 0)])))


def test_order_is_that_of_the_numbers() -> None:
    lists = [
        [f"{n}.jpg" for n in range(1, 121)],
        [f"{n:05d}.png" for n in range(1, 121)],
        [f"00007_{n:05d}.jpg" for n in range(1, 30)],
        [f"{c:05d}_{f:05d}.jpg" for c in (1, 2, 10) for f in range(12)],
        ["frame1.jpg", "frame2.JPG", "frame10.jpg"],
    ]
    for names in lists:
        mixed = random.Random(0).sample(names, len(names))
        assert sorted(mixed, key=natural_key) == names
    assert sorted(["2.jpg", "1.jpg", "01.jpg"], key=natural_key) == ["01.jpg", "1.jpg", "2.jpg"]


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "png", "bmp", "webp", "JPG"])
def test_frames_come_in_order_and_in_rgb(suffix: str, tmp_path: Path) -> None:
    for number in range(1, 13):
        save(tmp_path / f"{number}.{suffix}", numbered_frame(number))
    (tmp_path / ".hidden.jpg").write_bytes(b"x")
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "13.jpg").mkdir()
    frames = read_all(tmp_path)
    assert [read_number(image) for image in frames.images] == list(range(1, 13))
    assert frames.indices.tolist() == list(range(12))
    np.testing.assert_allclose(frames.timestamps, np.arange(12) * 0.04)
    assert frames.end_seconds == pytest.approx(0.48)
    left, right = frames.images[0, :16, :24].mean((0, 1)), frames.images[0, :16, -24:].mean((0, 1))
    assert left[0] > 180 > 80 > left[2], "red is the first channel"
    assert right[2] > 180 > 80 > right[0], "blue is the last one"
    assert frames.report.num_decoded == 12
    assert frames.report.num_damaged == 0
    assert frames.report.warnings == ()


def test_windows_take_the_frame_on_display(tmp_path: Path) -> None:
    for number in range(40):
        save(tmp_path / f"{number}.png", numbered_frame(number))
    source = index_frame_folder(tmp_path)
    frames = next(iter(decode_source(source, [clip_window(source.duration_seconds, 16)])))
    assert [read_number(i) for i in frames.images] == [int((k + 0.5) * 40 / 16) for k in range(16)]
    few = next(iter(decode_source(source, [spread_window(source.timestamps, 1.6, 4)])))
    assert [read_number(i) for i in few.images] == [5, 15, 25, 35]


@pytest.mark.parametrize("damage", ["text", "empty", "cut", "cut_early"])
@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp"])
def test_a_damaged_picture_shows_the_one_before(damage: str, suffix: str, tmp_path: Path) -> None:
    for number in range(1, 7):
        save(tmp_path / f"{number}.{suffix}", numbered_frame(number))
    for number in (3, 4):
        path = tmp_path / f"{number}.{suffix}"
        data = path.read_bytes()
        path.write_bytes(
            {"text": b"none", "empty": b"", "cut": data[: len(data) * 2 // 3], "cut_early": data[:20]}[damage]
        )
    frames = read_all(tmp_path)
    assert [read_number(i) for i in frames.images] == [1, 2, 2, 2, 5, 6]
    assert frames.indices.tolist() == [0, 1, 1, 1, 4, 5]
    assert frames.report.num_damaged == 2
    assert frames.report.num_decoded == 4
    assert frames.report.warnings == ("W_DECODE_ERRORS",)


def test_a_damaged_first_picture_shows_the_next(tmp_path: Path) -> None:
    for number in range(1, 4):
        save(tmp_path / f"{number}.jpg", numbered_frame(number))
    (tmp_path / "1.jpg").write_bytes(b"")
    frames = read_all(tmp_path)
    assert [read_number(i) for i in frames.images] == [2, 2, 3]
    assert np.all(np.diff(frames.timestamps) >= 0)


def test_the_picture_before_need_not_be_sampled(tmp_path: Path) -> None:
    for number in range(20):
        save(tmp_path / f"{number}.jpg", numbered_frame(number))
    (tmp_path / "15.jpg").write_bytes(b"")
    source = index_frame_folder(tmp_path)
    frames = next(iter(decode_source(source, [spread_window(source.timestamps, 0.8, 2)])))
    assert [read_number(i) for i in frames.images] == [5, 14]


@pytest.mark.parametrize(
    ("names", "code"), [([], "E_NO_FRAMES"), (["a.txt", ".b.jpg"], "E_NO_FRAMES"), (["1.jpg", "2.png"], "E_DECODE")]
)
def test_folders_without_a_readable_picture(names: list[str], code: str, tmp_path: Path) -> None:
    folder = tmp_path / "00012"
    folder.mkdir()
    for name in names:
        (folder / name).write_text("no picture")
    with pytest.raises(VideoError, match=r"^00012/") as caught:
        read_all(folder)
    assert caught.value.code == code
    assert str(tmp_path) not in str(caught.value)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(VideoError) as caught:
        index_frame_folder(tmp_path / "none")
    assert caught.value.code == "E_NOT_FOUND"
    assert digest_source(tmp_path / "none") == ""


def test_sizes_that_change(tmp_path: Path) -> None:
    save(tmp_path / "1.png", numbered_frame(1))
    save(tmp_path / "2.png", numbered_frame(2, 192, 128))
    save(tmp_path / "3.png", numbered_frame(3, 48, 32))
    frames = read_all(tmp_path)
    assert frames.images.shape == (3, 64, 96, 3)
    assert [read_number(i) for i in frames.images] == [1, 2, 3]
    assert frames.report.warnings == ("W_SIZE_CHANGED",)


def huge_png(width: int, height: int) -> bytes:
    """Header of a huge picture without pixels, for which no memory may be allocated."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b"")
    )


def test_too_many_pixels_are_refused_by_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "1.png").write_bytes(huge_png(100_000, 100_000))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("the decoder saw it"))
    with pytest.raises(VideoError, match="100000x100000") as caught:
        read_all(tmp_path)
    assert caught.value.code == "E_TOO_MANY_PIXELS"


def test_too_many_frames(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / f"{number}.png", numbered_frame(number))
    with pytest.raises(VideoError) as caught:
        index_frame_folder(tmp_path, limits=Limits(max_frames=3))
    assert caught.value.code == "E_TOO_LONG"


def test_a_camera_mark_turns_the_picture(tmp_path: Path) -> None:
    """EXIF orientation 6: stored on its side, shown turned by 90 degrees clockwise."""
    upright = numbered_frame(5)
    path = save(tmp_path / "1.jpg", np.rot90(upright))
    plain = path.read_bytes()
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x0112, 3, 1, 6) + b"\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    path.write_bytes(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:])
    frames = read_all(tmp_path)
    assert frames.images.shape == (1, 64, 96, 3)
    assert np.abs(frames.images[0].astype(int) - upright).mean() < 6


@pytest.mark.parametrize("options", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 1)])
def test_sizes_by_the_header(options: tuple[int, ...], tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (37, 53, 3), np.uint8)
    assert complete_picture_size(save(tmp_path / "a.jpg", image, *options).read_bytes()) == (53, 37)
    for suffix in ("png", "bmp", "webp"):
        assert complete_picture_size(save(tmp_path / f"a.{suffix}", image).read_bytes()) == (53, 37)
    lossless = save(tmp_path / "b.webp", image, cv2.IMWRITE_WEBP_QUALITY, 101).read_bytes()
    assert complete_picture_size(lossless) == (53, 37)
    assert complete_picture_size(b"GIF89a" + bytes(40)) is None


def test_no_bytes_make_the_header_reader_fail(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (24, 24, 3), np.uint8)
    for suffix in ("jpg", "png", "bmp", "webp"):
        good = save(tmp_path / f"a.{suffix}", image).read_bytes()
        for _ in range(300):
            data = bytearray(good[: rng.integers(0, len(good) + 1)])
            for at in rng.integers(0, max(1, len(data)), 3):
                if data:
                    data[at] = rng.integers(0, 256)
            size = complete_picture_size(bytes(data))
            assert size is None or min(size) > 0


def test_a_digest_sees_names_and_bytes(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", numbered_frame(number))
    first = digest_source(tmp_path)
    assert first == digest_source(tmp_path)
    path = tmp_path / "1.png"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    second = digest_source(tmp_path)
    path.rename(tmp_path / "10.png")
    assert len({first, second, digest_source(tmp_path)}) == 3


@pytest.mark.parametrize(
    ("files", "videos"),
    [
        (["1.jpg", "2.jpg", "notes.txt", "Thumbs.db", ".hidden/1.mp4", "._3.mp4"], [""]),
        (["frame_01.PNG", "frame_02.png"], [""]),
        (["1.jpg"], []),  # a single picture is no video
        (["me.jpg", "you.jpg"], []),
        (["1.jpg", "2.jpg", "cover.jpg"], []),
        (["1.jpg", "2.jpg", "a.mp4"], ["a.mp4"]),  # photos beside a video
        (["1.jpg", "2.jpg", "clip/1.jpg", "clip/2.jpg"], ["clip"]),
        (["b/1.jpg", "b/2.jpg", "a/x/1.bmp", "a/x/2.bmp", "c.mp4", "c/.1.jpg"], ["a/x", "b", "c.mp4"]),
        ([], []),
    ],
)
def test_videos_in_a_folder(files: list[str], videos: list[str], tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_videos(tmp_path) == [tmp_path / name for name in videos]
