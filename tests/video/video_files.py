"""Small video files written on the spot, whose frames carry their own number in black and white bars."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

WIDTH, HEIGHT = 96, 64
_BITS = 8


def numbered_frame(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Eight bars, black or white, are the number's bits in the lower half; the upper half is red left, blue right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (220, 20, 20)
    image[: height // 2, width // 2 :] = (20, 20, 220)
    bar = width // _BITS
    for bit in range(_BITS):
        image[height // 2 :, bit * bar : (bit + 1) * bar] = 235 if number >> bit & 1 else 16
    return image


def read_number(image: np.ndarray) -> int:
    """The number painted into an upright frame."""
    height, width = image.shape[:2]
    bar = width / _BITS
    row = image[height * 3 // 4].astype(float).mean(axis=-1)
    return sum((row[int((bit + 0.5) * bar)] > 128) << bit for bit in range(_BITS))


def write_video(
    path: Path,
    images: Sequence[np.ndarray],
    *,
    fps: int = 8,
    codec: str = "libx264",
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    rotation: float | None = None,
    matrix: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    gop: int = 12,
    container: str | None = None,
    metadata: dict[str, str] | None = None,
    has_cover: bool = False,
) -> Path:
    """Write images as a video; ``pts`` in ticks of ``time_base`` for a variable rate."""
    with av.open(str(path), "w", format=container, container_options=container_options or {}) as output:
        output.metadata.update(metadata or {})
        cover = _add_cover(output) if has_cover else None
        stream = output.add_stream(codec, rate=fps, options=options or {})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.gop_size = gop
        if time_base is not None:
            stream.codec_context.time_base = time_base
        if rotation is not None:
            stream.set_display_rotation(rotation)
        if matrix is not None:
            stream.set_display_matrix(matrix)
        if cover is not None:
            _write_cover(output, cover)
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number if pts is None else pts[number]
            frame.time_base = time_base or Fraction(1, fps)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def _add_cover(output: OutputContainer) -> VideoStream:
    stream = output.add_stream("mjpeg", rate=1)
    stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuvj420p"
    stream.disposition = Disposition.attached_pic
    return stream


def _write_cover(output: OutputContainer, stream: VideoStream) -> None:
    output.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(255), format="rgb24")))
    output.mux(stream.encode())


def write_numbered(path: Path, count: int = 16, **settings: object) -> Path:
    """A video of ``count`` numbered frames."""
    return write_video(path, [numbered_frame(number) for number in range(count)], **settings)


def write_sound(path: Path, *, has_cover: bool = False) -> Path:
    """A file with a sound track, and the cover of an album on request."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=44100)
        cover = _add_cover(output) if has_cover else None
        if cover is not None:
            _write_cover(output, cover)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        frame.pts = 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path
