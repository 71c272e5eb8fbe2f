"""Opening a file that may be anything: refuse what is not a plain local video before a decoder sees it.

FFmpeg opens far more than videos. A text file named ``clip.mp4`` can be a playlist that shows the frames of another
file or asks a server, so the order here is: regular file, known first bytes, one allowed container family, no protocol
but the handle we hold, known codec, bounded size.
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
from typing import BinaryIO

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from dferkit.errors import ConfigError, VideoError

CODECS = frozenset({"h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mjpeg", "gif", "prores", "flv1"})
# Decoder names that differ from the codec's: libdav1d and libvpx are the same formats by other hands.
_DECODER_CODECS = {"libdav1d": "av1", "libaom-av1": "av1", "libvpx": "vp8", "libvpx-vp9": "vp9", "flv": "flv1"}
_FAMILIES = {"mp4": "mov,mp4,m4a,3gp,3g2,mj2", "matroska": "matroska,webm", "avi": "avi", "gif": "gif", "flv": "flv"}
_LOCAL_ONLY = {"gif": "GIF", "flv": "FLV"}  # for files that the user names, not for uploads
_READABLE = "dferkit reads MP4, MOV, MKV, WebM, AVI, FLV and GIF videos"
_HEAD_BYTES = 4096
_MAX_BOXES = 100_000

# What FFmpeg and PyAV raise on a damaged file: their own errors, and these, which leak through the binding.
MEDIA_ERRORS: tuple[type[Exception], ...] = (av.FFmpegError, OSError, ValueError, ArithmeticError, MemoryError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What is refused as too large, so that a small file cannot take the machine.

    Attributes:
        max_pixels: Pixels of one frame.
        max_seconds: Length by the frames' own times, not by what the header says.
        max_frames: Frames in the file.
    """

    max_pixels: int = 3840 * 2160
    max_seconds: float = 4 * 3600.0
    max_frames: int = 2_000_000

    def __post_init__(self) -> None:
        if self.max_pixels < 1 or not self.max_seconds > 0 or self.max_frames < 1:
            raise ConfigError(f"limits must be above 0, found {self}")


def display_name(path: Path) -> str:
    """The file's name for messages: no folder, one line, always printable as UTF-8."""
    name = path.name or str(path)
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in name)


@contextlib.contextmanager
def open_video(
    path: Path, *, allow_gif_and_flv: bool, limits: Limits
) -> Iterator[tuple[InputContainer, VideoStream, bool]]:
    """Open a video and choose its picture stream.

    Yields:
        The container, the stream, and whether the file is shorter than its own structure says.

    Raises:
        VideoError: The file is not a video dferkit reads; the code says why.
    """
    name = display_name(path)
    with open_regular(path) as file:
        family = sniff(file, name)
        if family in _LOCAL_ONLY and not allow_gif_and_flv:
            raise VideoError(
                f"{name} is {_LOCAL_ONLY[family]}, which is not accepted here: give an MP4, MOV, MKV, WebM or AVI",
                code="E_CONTAINER",
            )
        is_cut = _is_cut(file, family, name)
        file.seek(0)
        try:
            # protocol_whitelist=pipe: the handle we hold is the only thing FFmpeg may read; enable_drefs=0: no
            # references to other files. `max_pixels` and `codec_whitelist` are left out because FFmpeg ignores them
            # here; both are checked below.
            container = av.open(
                file,
                mode="r",
                metadata_errors="replace",
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
    """Name of the stream's codec, whichever decoder handles it; empty where FFmpeg has none."""
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
    """Open a regular file for reading, without ever waiting for one that is not.

    Raises:
        VideoError: ``E_NOT_FOUND``, ``E_NOT_REGULAR``, ``E_UNREADABLE`` or ``E_EMPTY``.
    """
    name = display_name(path)
    try:
        # O_NONBLOCK: opening a FIFO nobody writes to would otherwise wait for ever.
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
        return ""  # every number is near to every other
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in itertools.islice(entries, 2000)]
    except (OSError, ValueError):
        return ""
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.75)
    return display_name(Path(close[0])) if close else ""


# --- what the first bytes say -----------------------------------------------------------------------------------------

_PICTURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"8BPS", "Photoshop"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"qoif", "QOI"),
    (b"\0\0\x01\0", "icon"),
)
_PICTURE_BRANDS = {b"avif": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF"}
_OTHER_VIDEOS = (
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMV"),
    (b"\0\0\x01\xba", "MPEG"),
    (b"OggS", "Ogg"),
    (b"\0\0\x01\xb3", "MPEG"),
    (b".RMF", "RealMedia"),
)
_OTHER_FILES = (
    (b"PK\x03\x04", "a ZIP archive"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"\x93NUMPY", "a NumPy array"),
)
_SOUNDS = ((b"ID3", "MP3"), (b"\xff\xfb", "MP3"), (b"fLaC", "FLAC"))
_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})


def sniff(file: BinaryIO, name: str) -> str:
    """Container family by the first bytes: ``mp4``, ``matroska``, ``avi``, ``gif`` or ``flv``.

    Raises:
        VideoError: ``E_PICTURE``, ``E_CONTAINER``, ``E_NO_VIDEO_STREAM`` or ``E_NOT_VIDEO``.
    """
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    if head[4:8] == b"ftyp" and head[8:12] in _PICTURE_BRANDS:
        raise _is_picture(name, _PICTURE_BRANDS[head[8:12]])
    if head[4:8] in _BOXES:
        return "mp4"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head.startswith(b"RIFF"):
        if head[8:12] == b"AVI ":
            return "avi"
        if head[8:12] == b"WEBP":
            raise _is_picture(name, "WebP")
        if head[8:12] == b"WAVE":
            raise _is_sound(name)
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head.startswith(b"FLV\x01"):
        return "flv"
    for magic, kind in _PICTURES:
        if head.startswith(magic):
            raise _is_picture(name, kind)
    for magic, kind in _OTHER_VIDEOS:
        if head.startswith(magic):
            raise VideoError(f"{name} is a {kind} video. {_READABLE}: convert it first", code="E_CONTAINER")
    for magic, _ in _SOUNDS:
        if head.startswith(magic):
            raise _is_sound(name)
    for magic, kind in _OTHER_FILES:
        if head.startswith(magic):
            raise VideoError(f"{name} is {kind}, not a video: give a video file", code="E_NOT_VIDEO")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith((b"#EXTM3U", b"ffconcat", b"<MPD", b"v=0", b"[playlist]")) or b"<MPD" in text[:512]:
        raise VideoError(
            f"{name} is a playlist that points to other files. {_READABLE}: give the video itself", code="E_CONTAINER"
        )
    if _is_text(head):
        raise VideoError(f"{name} is a text file, not a video: give a video file", code="E_NOT_VIDEO")
    raise VideoError(f"{name} is not a video that is known here. {_READABLE}", code="E_NOT_VIDEO")


def _is_picture(name: str, kind: str) -> VideoError:
    return VideoError(
        f"{name} is a {kind} picture, not a video. dferkit reads videos only: give a video file", code="E_PICTURE"
    )


def _is_sound(name: str) -> VideoError:
    return VideoError(f"{name} has sound but no picture: give a video of a face", code="E_NO_VIDEO_STREAM")


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        head[:-4].decode("utf-8") if len(head) == _HEAD_BYTES else head.decode("utf-8")
    except UnicodeDecodeError as error:
        # A character cut by the end of the head is no sign of binary data.
        return error.start >= len(head) - 8 > 0
    return True


# --- is the file as long as it says -----------------------------------------------------------------------------------


def _is_cut(file: BinaryIO, family: str, name: str) -> bool:
    """Whether the outermost structure runs past the end of the file. A decoder does not always notice.

    Raises:
        VideoError: ``E_TRUNCATED`` where the index of an MP4 is missing altogether, so that nothing can be read.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if family == "mp4":
        return _is_mp4_cut(file, size, name)
    if family == "avi":
        return int.from_bytes(file.read(8)[4:], "little") + 8 > size
    if family == "gif":
        file.seek(max(0, size - 16))
        return b";" not in file.read()
    if family == "flv":
        return _is_flv_cut(file, size)
    return _is_matroska_cut(file, size)


def _is_flv_cut(file: BinaryIO, size: int) -> bool:
    """The last four bytes of a whole file are the length of its last tag, whose own header agrees."""
    file.seek(max(0, size - 4))
    length = int.from_bytes(file.read(4), "big")
    file.seek(max(0, size - 4 - length))
    tag = file.read(11)
    return len(tag) < 11 or tag[0] not in (8, 9, 18) or int.from_bytes(tag[1:4], "big") + 11 != length


def _is_mp4_cut(file: BinaryIO, size: int, name: str) -> bool:
    position, has_index, is_cut = 0, False, False
    for _ in range(_MAX_BOXES):
        file.seek(position)
        header = file.read(16)
        if len(header) < 8:
            break
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length == 0:
            length = size - position
        has_index |= header[4:8] == b"moov"
        if length < 8:
            break
        position += length
        if position > size:
            is_cut = True
            break
    if not has_index:
        raise VideoError(
            f"{name} is incomplete (recording stopped early): its index is missing, so no frame can be "
            "read. Copy it again from its source",
            code="E_TRUNCATED",
        )
    return is_cut


def _is_matroska_cut(file: BinaryIO, size: int) -> bool:
    position = 0
    for _ in range(8):
        file.seek(position)
        header = file.read(12)
        if len(header) < 2 or not header[0]:
            return False
        id_length = 9 - header[0].bit_length()
        if len(header) <= id_length or not header[id_length]:
            return False
        length_bytes = 9 - header[id_length].bit_length()
        field = header[id_length : id_length + length_bytes]
        mask = (1 << (7 * length_bytes)) - 1
        length = int.from_bytes(field, "big") & mask
        if length == mask:  # a live recording: the length is not known
            return False
        position += id_length + length_bytes + length
        if position > size:
            return True
        if position == size:
            return False
    return False


def _unopened(name: str, is_cut: bool) -> VideoError:
    if is_cut:
        return VideoError(
            f"{name} is incomplete (recording stopped early) and no frame can be read. Copy it again from its source",
            code="E_TRUNCATED",
        )
    return VideoError(
        f"{name} is damaged or not a video: its structure cannot be read. {_READABLE}", code="E_NOT_VIDEO"
    )


def _choose_stream(container: InputContainer, name: str, is_cut: bool, limits: Limits) -> VideoStream:
    streams = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not streams:
        if container.streams.audio:
            raise _is_sound(name)
        if is_cut:
            raise _unopened(name, is_cut)
        raise VideoError(f"{name} has no picture: give a video of a face", code="E_NO_VIDEO_STREAM")
    stream = streams[0]
    codec = codec_name(stream)
    if codec not in CODECS:
        found = f"the codec {codec}" if codec else "a codec that is not known"
        raise VideoError(f"{name} uses {found}, which dferkit does not read: convert it to H.264", code="E_CODEC")
    check_pixels(name, stream.codec_context.width, stream.codec_context.height, limits)
    # One thread: many clips are prepared side by side, and a decoder's own threads multiply memory.
    stream.codec_context.thread_count = 1
    return stream


def _is_cover(stream: VideoStream) -> bool:
    """An album cover in a sound file is a video stream to FFmpeg."""
    return "attached_pic" in str(getattr(stream, "disposition", "")).lower()
