"""Open a file of unknown content: anything but a plain local video is refused before a decoder reads it.

FFmpeg opens far more than videos. A text file named ``clip.mp4`` can be a playlist that shows frames of another file or
connects to a server. The checks are, in this order: regular file, known first bytes, one allowed container family, no protocol
but the open file handle, known codec, bounded size.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import itertools
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from dferkit.errors import ConfigError, VideoError
from dferkit.video.cut_short import is_cut_short
from dferkit.video.first_bytes import READABLE, has_no_picture, sniff

CODECS = frozenset({"h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mjpeg", "gif", "prores", "flv1"})
# Decoders whose names differ from their codec's.
_DECODER_CODECS = {"libdav1d": "av1", "libaom-av1": "av1", "libvpx": "vp8", "libvpx-vp9": "vp9", "flv": "flv1"}
_FAMILIES = {"mp4": "mov,mp4,m4a,3gp,3g2,mj2", "matroska": "matroska,webm", "avi": "avi", "gif": "gif", "flv": "flv"}
_LOCAL_ONLY = {"gif": "GIF", "flv": "FLV"}  # for files that the user names, not for uploads

# Titles that are not UTF-8: PyAV before 19 refuses the whole file unless it is given this argument, PyAV 19 no longer takes
# it. Their text is never read here, so none of it can reach an output.
_METADATA: dict[str, Any] = {"metadata_errors": "replace"} if hasattr(InputContainer, "metadata_errors") else {}

# What FFmpeg and PyAV raise on a damaged file: their own errors, and these of Python.
MEDIA_ERRORS: tuple[type[Exception], ...] = (av.FFmpegError, OSError, ValueError, ArithmeticError, MemoryError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Limits above which a video is refused, so that a small file cannot use up the machine's memory.

    Attributes:
        max_pixels: Pixels of one frame.
        max_seconds: Length by the times of the frames, not by the header.
        max_frames: Frames in the file.
    """

    max_pixels: int = 3840 * 2160
    max_seconds: float = 4 * 3600.0
    max_frames: int = 2_000_000

    def __post_init__(self) -> None:
        if self.max_pixels < 1 or not self.max_seconds > 0 or self.max_frames < 1:
            raise ConfigError(f"limits must be above 0, found {self}")


def display_name(path: Path) -> str:
    """The file's name for messages: without its folder, printable."""
    return printable(path.name or str(path))


def printable(text: str) -> str:
    """One line that every output can hold: what is not printable, such as bytes that are not UTF-8, is written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


@contextlib.contextmanager
def open_video(
    path: Path, *, allow_gif_and_flv: bool, limits: Limits
) -> Iterator[tuple[InputContainer, VideoStream, bool]]:
    """Open a video and choose its picture stream.

    Yields:
        The container, the stream, and whether the file is shorter than its headers declare.

    Raises:
        VideoError: The file is not a video that dferkit reads; ``code`` gives the reason.
    """
    name = display_name(path)
    with open_regular(path) as file:
        family = sniff(file, name)
        if family in _LOCAL_ONLY and not allow_gif_and_flv:
            raise VideoError(
                f"{name} is {_LOCAL_ONLY[family]}, which is not accepted here: give an MP4, MOV, MKV, WebM or AVI",
                code="E_CONTAINER",
            )
        is_cut = is_cut_short(file, family, name)
        file.seek(0)
        try:
            # protocol_whitelist=pipe: FFmpeg may read the open file handle only. enable_drefs=0: no references to other
            # files. FFmpeg ignores `max_pixels` and `codec_whitelist` here, so both are checked below.
            container = av.open(
                file,
                mode="r",
                **_METADATA,
                options={
                    "protocol_whitelist": "pipe",
                    "format_whitelist": _FAMILIES[family],
                    "enable_drefs": "0",
                    "probesize": "5000000",
                    "analyzeduration": "5000000",
                    "max_streams": "16",
                },
            )
        except MEDIA_ERRORS as error:
            raise _unopened(name, is_cut) from error
        with container:
            yield container, _choose_stream(container, name, is_cut, limits), is_cut


def codec_name(stream: VideoStream) -> str:
    """Name of the stream's codec, independent of the decoder; empty where FFmpeg has none."""
    if stream.codec_context is None:
        return ""
    return _DECODER_CODECS.get(stream.codec_context.name, stream.codec_context.name)


def check_pixels(name: str, width: int, height: int, limits: Limits) -> None:
    """Refuse frames above the limit.

    Raises:
        VideoError: ``E_TOO_MANY_PIXELS``.
    """
    if width * height > limits.max_pixels:
        raise VideoError(
            f"{name} has frames of {width}x{height} pixels, above the limit of {limits.max_pixels / 1e6:.1f} million: "
            "make a smaller copy",
            code="E_TOO_MANY_PIXELS",
        )


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading; a pipe or device is refused without waiting for it.

    Raises:
        VideoError: ``E_NOT_FOUND``, ``E_NOT_REGULAR``, ``E_UNREADABLE`` or ``E_EMPTY``.
    """
    name = display_name(path)
    try:
        # O_NONBLOCK: opening a FIFO without a writer would otherwise never return.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise _not_opened(path, name, error) from error
    try:
        _require_regular(os.fstat(descriptor), name)
    except VideoError:
        os.close(descriptor)
        raise
    with os.fdopen(descriptor, "rb") as file:
        yield file


def _require_regular(status: os.stat_result, name: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise VideoError(f"{name} is a folder, not a video: give a video file", code="E_NOT_REGULAR")
    if not stat.S_ISREG(status.st_mode):
        raise VideoError(
            f"{name} is a pipe or device, not a file: save the video to a file first", code="E_NOT_REGULAR"
        )
    if status.st_size == 0:
        raise VideoError(f"{name} is empty (0 bytes): copy it again from its source", code="E_EMPTY")


def _not_opened(path: Path, name: str, error: OSError | ValueError) -> VideoError:
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.EACCES, errno.EPERM, errno.EIO):
        return VideoError(
            f"{name} cannot be opened ({os.strerror(number)}): check its permissions", code="E_UNREADABLE"
        )
    if number == errno.ELOOP:
        return VideoError(f"{name} is a link that leads to itself: give the video file", code="E_NOT_REGULAR")
    if number == errno.ENXIO:
        return VideoError(
            f"{name} is a socket or device, not a file: save the video to a file first", code="E_NOT_REGULAR"
        )
    if path.parts and path.parts[0].endswith(":") and len(path.parts[0]) > 2:
        return VideoError(
            f"{name} looks like an address: dferkit reads local files only, download it first", code="E_NOT_FOUND"
        )
    nearest = _nearest_file(path)
    hint = f" Did you mean {nearest}?" if nearest else ""
    return VideoError(f"{name}: not found.{hint}", code="E_NOT_FOUND")


def _nearest_file(path: Path) -> str:
    if path.stem.isdecimal():
        return ""  # numbers always resemble each other, so no suggestion would help
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in itertools.islice(entries, 2000)]
    except (OSError, ValueError):
        return ""
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.75)
    return display_name(Path(close[0])) if close else ""


def _unopened(name: str, is_cut: bool) -> VideoError:
    if is_cut:
        return VideoError(
            f"{name} is incomplete (recording stopped early) and no frame can be read. Copy it again from its source",
            code="E_TRUNCATED",
        )
    return VideoError(f"{name} is damaged or not a video: its structure cannot be read. {READABLE}", code="E_NOT_VIDEO")


def _choose_stream(container: InputContainer, name: str, is_cut: bool, limits: Limits) -> VideoStream:
    # FFmpeg gives the cover of a sound file, or the thumbnail of a video, as a video stream.
    streams = [s for s in container.streams.video if Disposition.attached_pic not in s.disposition]
    if not streams:
        if container.streams.audio:
            raise has_no_picture(name)
        if is_cut:
            raise _unopened(name, is_cut)
        raise VideoError(f"{name} has no picture: give a video of a face", code="E_NO_VIDEO_STREAM")
    stream = streams[0]
    codec = codec_name(stream)
    if codec not in CODECS:
        found = f"the codec {codec}" if codec else "an unknown codec"
        raise VideoError(f"{name} uses {found}, which dferkit does not read: convert it to H.264", code="E_CODEC")
    check_pixels(name, stream.codec_context.width, stream.codec_context.height, limits)
    # One thread: many clips are prepared in parallel, and decoder threads would multiply the memory.
    stream.codec_context.thread_count = 1
    return stream
