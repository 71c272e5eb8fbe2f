"""Each frame carries its own number as black and white bars, so the picture shows which frame was decoded."""

from __future__ import annotations

import os
import resource
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from video_files import HEIGHT, WIDTH, numbered_frame, read_number, write_numbered, write_video

from dferkit.errors import VideoError
from dferkit.schema import Frames
from dferkit.video import Limits, Window, clip_window, decode_windows, index_video, plan_windows
from dferkit.video.orientation import orientation_of_matrix

KINDS = {
    "h264.mp4": {},
    "faststart.mp4": {"container_options": {"movflags": "faststart"}},
    "fragments.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=error"}},
    "prores.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "h264.mkv": {},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "vp8.webm": {"codec": "libvpx"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "h264.avi": {},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "animated.gif": {"codec": "gif", "pix_fmt": "rgb8"},
}


def _numbers(frames: Frames) -> list[int]:
    return [read_number(image) for image in frames.images]


def _one(path: Path, num_samples: int = 16) -> Frames:
    index = index_video(path)
    return next(decode_windows(index, [clip_window(index.duration_seconds, num_samples)]))


@pytest.mark.parametrize("name", KINDS)
def test_sixteen_frames_once_each(tmp_path: Path, name: str) -> None:
    path = write_numbered(tmp_path / name, **KINDS[name])
    index = index_video(path)
    assert index.num_frames == 16
    assert index.duration_seconds == pytest.approx(2.0, abs=0.011)
    assert (index.width, index.height) == (WIDTH, HEIGHT)
    assert not index.is_truncated
    assert index.warnings == ()
    (frames,) = decode_windows(index, plan_windows(index.duration_seconds))
    assert _numbers(frames) == list(range(16))
    assert frames.indices.tolist() == list(range(16))
    assert frames.timestamps == pytest.approx(np.arange(16) / 8, abs=0.011)
    assert frames.report.num_decoded == frames.report.num_requested == 16
    assert frames.report.num_damaged == 0
    # The upper half is red left and blue right: channels and directions are in order.
    assert frames.images[3, 10, 10, 0] > 150 > 100 > frames.images[3, 10, 10, 2]
    assert frames.images[3, 10, -10, 2] > 150 > 100 > frames.images[3, 10, -10, 0]


def test_fewer_frames_repeat(tmp_path: Path) -> None:
    frames = _one(write_numbered(tmp_path / "a.mp4", 4), 16)
    assert _numbers(frames) == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    assert frames.report.num_decoded == 4


@pytest.mark.parametrize("stride", [1.0, 0.5, 2.0, 7.0])
@pytest.mark.parametrize("gop", [4, 250])
def test_windows_with_and_without_seeking(tmp_path: Path, stride: float, gop: int) -> None:
    path = write_numbered(tmp_path / "a.mp4", 160, gop=gop)
    index = index_video(path)
    windows = plan_windows(index.duration_seconds, window_seconds=2, stride_seconds=stride, num_samples=5)
    seen = list(decode_windows(index, windows))
    assert len(seen) == len(windows)
    for window, frames in zip(windows, seen, strict=True):
        expected = np.floor(window.sample_times * 8 + 1e-6).astype(int).tolist()
        assert _numbers(frames) == frames.indices.tolist() == expected
        assert frames.start_seconds == window.start_seconds


def test_far_window_is_sought(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mkv", 200, gop=8)
    index = index_video(path)
    late = Window(number=0, start_seconds=20.0, end_seconds=22.0, sample_times=np.array([20.06, 21.93]))
    early = Window(number=1, start_seconds=0.0, end_seconds=1.0, sample_times=np.array([0.06]))
    first, second = decode_windows(index, [late, early])
    assert _numbers(first) == [0]
    assert _numbers(second) == [160, 175]
    assert len(index.key_times) >= 25
    assert list(decode_windows(index, [])) == []


def test_variable_rate_is_sampled_by_time(tmp_path: Path) -> None:
    # Dense for one second, then one frame a second.
    ticks = [*range(0, 1000, 50), *range(1000, 6000, 1000)]
    path = write_numbered(tmp_path / "a.mkv", len(ticks), pts=ticks, time_base=Fraction(1, 1000), fps=20)
    index = index_video(path)
    assert index.is_variable_rate
    assert index.timestamps == pytest.approx(np.array(ticks) / 1000, abs=0.002)
    window = Window(number=0, start_seconds=0, end_seconds=6, sample_times=np.array([0.12, 0.99, 1.5, 2.6, 4.999, 5.5]))
    assert _numbers(next(decode_windows(index, [window]))) == [2, 19, 20, 21, 24, 24]


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotated_equals_upright(tmp_path: Path, degrees: int) -> None:
    upright = numbered_frame(5)
    stored = np.ascontiguousarray(np.rot90(upright, -degrees // 90))
    path = write_video(tmp_path / "a.mp4", [stored] * 4, rotation=degrees)
    index = index_video(path)
    frames = _one(path, 4)
    assert (index.width, index.height) == (WIDTH, HEIGHT)
    assert index.rotation_degrees == frames.report.rotation_degrees == degrees
    assert np.abs(frames.images[0].astype(int) - upright).mean() < 12
    # OpenCV reads the display matrix by code of its own.
    other = cv2.VideoCapture(str(path)).read()[1][:, :, ::-1]
    assert np.abs(frames.images[0].astype(int) - other).mean() < 4


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        # x' = a x + c y, y' = b x + d y, written row by row as a b 0, c d 0, 0 0 1.
        ((-1, 0, 0, 1), np.fliplr),
        ((1, 0, 0, -1), np.flipud),
        ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
    ],
)
def test_mirrored(tmp_path: Path, matrix: tuple[int, ...], expected: object) -> None:
    a, b, c, d = (value * 65536 for value in matrix)
    stored = numbered_frame(5)
    path = write_video(tmp_path / "a.mp4", [stored] * 4, matrix=[a, b, 0, c, d, 0, 0, 0, 1 << 30])
    image = _one(path, 4).images[0]
    assert np.abs(image.astype(int) - expected(stored)).mean() < 12


@pytest.mark.parametrize("matrix", [(0, 0, 0, 0), (1, 1, 1, 1), (46341, 46341, -46341, 46341), (65536, 0, 65536, 0)])
def test_senseless_matrix_is_upright(tmp_path: Path, matrix: tuple[int, ...]) -> None:
    a, b, c, d = matrix
    assert orientation_of_matrix(a, b, c, d)[1] is False
    path = write_video(tmp_path / "a.mp4", [numbered_frame(9)] * 4, matrix=[a, b, 0, c, d, 0, 0, 0, 1 << 30])
    frames = _one(path, 2)
    assert _numbers(frames) == [9, 9]
    assert "W_BAD_ROTATION" in frames.report.warnings


def test_cut_file_gives_what_is_there(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", 120, gop=10, container_options={"movflags": "faststart"})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    index = index_video(path)
    assert index.is_truncated
    assert "W_TRUNCATED" in index.warnings
    assert 2 < index.duration_seconds < 14
    for frames in decode_windows(index, plan_windows(index.duration_seconds)):
        assert frames.report.is_truncated
        # By time, not by index: of the frames around the cut those needed first are stored first.
        assert frames.timestamps * 8 == pytest.approx(_numbers(frames), abs=0.01)


def test_cut_inside_a_trailing_index_is_noticed(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[:-20])
    index = index_video(path)
    assert index.is_truncated
    assert _numbers(_one(path)) == list(range(16))


@pytest.mark.parametrize(
    "name",
    ["a.webm", "a.avi", "a.gif"],
)
def test_other_cut_containers(tmp_path: Path, name: str) -> None:
    kind = {"a.webm": "vp9.webm", "a.avi": "mpeg4.avi", "a.gif": "animated.gif"}[name]
    path = write_numbered(tmp_path / name, 60, **KINDS[kind])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 8 // 10])
    index = index_video(path)
    assert "W_TRUNCATED" in index.warnings
    assert index.num_frames < 60
    assert _numbers(_one(path, 3))[0] < 20


def test_damaged_packets_are_counted_and_the_rest_used(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", 64, gop=4, options={"bf": "0"})
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 4
    middle = start + (content.index(b"moov") - start) // 2
    content[middle : middle + 400] = b"\xff" * 400
    path.write_bytes(content)
    index = index_video(path)
    frames = _one(path, 64)
    wrong = np.array(_numbers(frames)) != np.arange(64)
    assert frames.report.num_damaged > 0
    assert "W_DECODE_ERRORS" in frames.report.warnings
    assert index.num_frames == 64
    assert wrong.mean() < 0.3


def test_nothing_to_decode(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", 8)
    content = bytearray(path.read_bytes())
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    content[start:end] = b"\xff" * (end - start)
    path.write_bytes(content)
    with pytest.raises(VideoError) as caught:
        _one(path)
    assert caught.value.code == "E_DECODE"


def test_frames_larger_than_the_header_says(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", 8)
    index = index_video(path, limits=Limits(max_pixels=WIDTH * HEIGHT))
    write_video(path, [np.zeros((HEIGHT * 2, WIDTH * 2, 3), np.uint8)] * 8)
    with pytest.raises(VideoError) as caught:
        next(decode_windows(index, [clip_window(1.0, 2)]))
    assert caught.value.code == "E_TOO_MANY_PIXELS"


def test_anamorphic_frames_get_square_pixels(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", 4, options={"x264-params": "sar=2/1"})
    index = index_video(path)
    assert (index.width, index.height) == (2 * WIDTH, HEIGHT)
    assert _one(path, 2).images.shape == (2, HEIGHT, 2 * WIDTH, 3)


def test_hdr_gives_a_warning(tmp_path: Path) -> None:
    path = write_numbered(
        tmp_path / "a.mp4",
        4,
        codec="libx265",
        pix_fmt="yuv420p10le",
        options={"x265-params": "log-level=error:transfer=smpte2084:colorprim=bt2020:colormatrix=bt2020nc"},
    )
    assert "W_HDR" in index_video(path).warnings


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [np.full((480, 640, 3), i % 200, np.uint8) for i in range(240)])
    index = index_video(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for frames in decode_windows(index, plan_windows(index.duration_seconds, num_samples=8)):
        assert frames.images.shape == (8, 480, 640, 3)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    # All 15 windows together would be 110 MB, one is 7 MB.
    assert grown < 60_000


def test_mutants_are_refused_or_read(tmp_path: Path) -> None:
    """Flip bytes of small files: the answer is frames or a VideoError, never another exception."""
    seed = int(os.environ.get("DFERKIT_SEED", "20240"))
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    outcomes: dict[str, int] = {}
    for name in ("h264.mp4", "faststart.mp4", "vp8.webm", "mpeg4.avi", "animated.gif"):
        content = np.frombuffer(write_numbered(tmp_path / name, 8, **KINDS[name]).read_bytes(), np.uint8)
        path = tmp_path / f"mutant_{name}"
        for _ in range(80):
            mutant = content.copy()
            # Half of the flips go to the first 1000 bytes, where the structure is.
            reach = len(mutant) if rng.random() < 0.5 else min(1000, len(mutant))
            places = rng.integers(0, reach, rng.integers(1, 12))
            mutant[places] = rng.integers(0, 256, len(places), dtype=np.uint8)
            if rng.random() < 0.2:
                mutant = mutant[: rng.integers(1, len(mutant))]
            path.write_bytes(mutant.tobytes())
            try:
                index = index_video(path, limits=Limits(max_pixels=1_000_000))
                frames = next(decode_windows(index, [clip_window(index.duration_seconds, 4)]))
                assert frames.images.shape == (4, index.height, index.width, 3)
                assert np.all(np.diff(frames.timestamps) >= 0)
                outcome = "read"
            except VideoError as error:
                outcome = error.code
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert outcomes["read"] > 50
    assert sum(outcomes.values()) == 400


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_titles_that_are_no_utf8(tmp_path: Path, name: str) -> None:
    title = "titel-of-the-clip"
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    path = write_numbered(tmp_path / name, codec=codec, metadata={"title": title})
    content = path.read_bytes()
    assert title.encode() in content
    path.write_bytes(content.replace(title.encode(), "tïtel-öf-the-clip".encode("latin-1")))
    assert _numbers(_one(path)) == list(range(16))


def test_a_thumbnail_is_not_the_video(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", has_cover=True)
    with av.open(str(path)) as file:
        assert len(file.streams.video) == 2
    assert _numbers(_one(path)) == list(range(16))
