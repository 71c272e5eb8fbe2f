"""One picture file → RGB. Its size is read from the header before a decoder allocates memory."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from dferkit.errors import VideoError
from dferkit.video.container import Limits, check_pixels, display_name, open_regular

# Far above any frame of a video within the pixel limit; a larger file is something else.
_MAX_BYTES = 256 * 2**20
# JPEG markers that begin a frame; C4, C8 and CC lie between them but begin tables and extensions.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def read_picture(path: Path, limits: Limits) -> UInt8[np.ndarray, "height width 3"] | None:
    """The upright picture in RGB, or None where the file is damaged, incomplete or not a picture.

    The orientation in the EXIF data is applied, like the display matrix of a video.

    Raises:
        VideoError: ``E_TOO_MANY_PIXELS``, from the header.
    """
    try:
        with open_regular(path) as file:
            data = file.read(_MAX_BYTES + 1)
    except (VideoError, OSError):
        return None
    size = complete_picture_size(data)
    if size is None or len(data) > _MAX_BYTES:
        return None
    check_pixels(display_name(path), *size, limits)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def complete_picture_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of a JPEG, PNG, BMP or WebP by its header; None for other files and for incomplete ones.

    Decoders fill the missing rest of an incomplete file with grey without an error, so the end of the file is checked here.
    """
    try:
        if data.startswith(b"\xff\xd8"):
            size = _jpeg_size(data)
        elif data.startswith(b"\x89PNG\r\n\x1a\n"):
            size = struct.unpack(">II", data[16:24]) if data.rfind(b"IEND") > 0 else None
        elif data.startswith(b"BM"):
            size = _bmp_size(data)
        elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            size = _webp_size(data) if len(data) >= struct.unpack("<I", data[4:8])[0] + 8 else None
        else:
            size = None
    except (struct.error, IndexError):
        return None
    return size if size is not None and min(size) > 0 else None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Follow the segments to the frame header, then to the scan, after which the end marker must come.

    A thumbnail also has an end marker, but in a segment before the scan.
    """
    size, at = None, 2
    while True:
        while data[at] == 0xFF and data[at + 1] == 0xFF:
            at += 1
        marker = data[at + 1]
        if data[at] != 0xFF:
            return None
        if marker == 0xDA:
            return size if data.find(b"\xff\xd9", at) > 0 else None
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            size = (width, height)
        at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]


def _bmp_size(data: bytes) -> tuple[int, int] | None:
    start, header, width, height, _, bits, compression = struct.unpack("<IIiiHHI", data[10:34])
    if header < 40:  # the format of OS/2, which no frame extractor writes
        return None
    stride = (abs(width) * bits + 31) // 32 * 4
    is_whole = compression not in (0, 3) or len(data) >= start + stride * abs(height)
    return (abs(width), abs(height)) if is_whole else None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        return (1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little"))
    if kind == b"VP8L":
        packed = struct.unpack("<I", data[21:25])[0]
        return (1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF))
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return (width & 0x3FFF, height & 0x3FFF)
    return None
