"""Whether a file is as long as its headers declare, read without a decoder."""

from __future__ import annotations

import os
from typing import BinaryIO

from dferkit.errors import VideoError

_MAX_BOXES = 100_000


def is_cut_short(file: BinaryIO, family: str, name: str) -> bool:
    """Whether the outermost structure continues past the end of the file, which a decoder does not always report.

    Raises:
        VideoError: ``E_TRUNCATED`` where the index of an MP4 is missing, so that nothing can be read.
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
    """In a complete file the last four bytes are the length of the last tag, equal to the length in the tag's header."""
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
        if length == mask:  # a live recording has no known length
            return False
        position += id_length + length_bytes + length
        if position > size:
            return True
        if position == size:
            return False
    return False
