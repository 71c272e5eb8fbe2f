"""The kind of a file by its first bytes: the container family of a video, or the kind of another file."""

from __future__ import annotations

from typing import BinaryIO

from dferkit.errors import VideoError

READABLE = "dferkit reads MP4, MOV, MKV, WebM, AVI, FLV and GIF videos"
_HEAD_BYTES = 4096
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
            raise has_no_picture(name)
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head.startswith(b"FLV\x01"):
        return "flv"
    for magic, kind in _PICTURES:
        if head.startswith(magic):
            raise _is_picture(name, kind)
    for magic, kind in _OTHER_VIDEOS:
        if head.startswith(magic):
            raise VideoError(f"{name} is a {kind} video. {READABLE}: convert it first", code="E_CONTAINER")
    for magic, _ in _SOUNDS:
        if head.startswith(magic):
            raise has_no_picture(name)
    for magic, kind in _OTHER_FILES:
        if head.startswith(magic):
            raise VideoError(f"{name} is {kind}, not a video: give a video file", code="E_NOT_VIDEO")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith((b"#EXTM3U", b"ffconcat", b"<MPD", b"v=0", b"[playlist]")) or b"<MPD" in text[:512]:
        raise VideoError(
            f"{name} is a playlist that points to other files. {READABLE}: give the video itself", code="E_CONTAINER"
        )
    if _is_text(head):
        raise VideoError(f"{name} is a text file, not a video: give a video file", code="E_NOT_VIDEO")
    raise VideoError(f"{name} is not a video of a known kind. {READABLE}", code="E_NOT_VIDEO")


def _is_picture(name: str, kind: str) -> VideoError:
    return VideoError(
        f"{name} is a {kind} picture, not a video: give a video file, or a folder of numbered pictures",
        code="E_PICTURE",
    )


def has_no_picture(name: str) -> VideoError:
    """The error for a file that holds sound only."""
    return VideoError(f"{name} has sound but no picture: give a video of a face", code="E_NO_VIDEO_STREAM")


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        head[:-4].decode("utf-8") if len(head) == _HEAD_BYTES else head.decode("utf-8")
    except UnicodeDecodeError as error:
        # A character that the end of the head cuts does not mean binary data.
        return error.start >= len(head) - 8 > 0
    return True
