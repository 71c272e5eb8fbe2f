"""One interface to clips that are video files and clips that are folders of pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from dferkit.errors import VideoError
from dferkit.schema import Frames
from dferkit.storage import VIDEO_SUFFIXES, digest_file
from dferkit.video.decode import decode_windows
from dferkit.video.frame_folder import (
    FrameFolder,
    digest_frame_folder,
    index_frame_folder,
    is_picture_name,
    read_frame_windows,
)
from dferkit.video.index import VideoIndex, index_video
from dferkit.video.sampling import Window


def index_source(path: Path | str) -> VideoIndex | FrameFolder:
    """The index of a video file or of a folder of frames.

    Raises:
        VideoError: It cannot be used.
    """
    return index_frame_folder(path) if Path(path).is_dir() else index_video(path)


def find_videos(folder: Path) -> list[Path]:
    """The videos in a folder and below it, sorted by path: files with the suffix of a video, and folders of numbered pictures.

    A folder of numbered pictures is one video, also the given folder itself. It holds at least two pictures, all with a digit in their
    names, and no video or folder in the same folder. Hidden files and folders are left out, links to folders are not followed.
    """
    found: list[Path] = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        videos = [name for name in files if name.lower().endswith(VIDEO_SUFFIXES) and not name.startswith(".")]
        found += [path for name in videos if (path := Path(place, name)).is_file()]
        pictures = [name for name in files if is_picture_name(name)]
        if not folders and not videos and len(pictures) > 1 and all(any(map(str.isdecimal, n)) for n in pictures):
            found.append(Path(place))
    return sorted(found)


def decode_source(source: VideoIndex | FrameFolder, windows: Sequence[Window]) -> Iterator[Frames]:
    """Frames of each window, in the order of the windows' start.

    Raises:
        VideoError: None of them can be decoded.
    """
    if isinstance(source, FrameFolder):
        return read_frame_windows(source, windows)
    return decode_windows(source, windows)


def digest_source(path: Path | str) -> str:
    """SHA-256 of a video's bytes, or of names and bytes of a folder's pictures; empty where nothing can be read."""
    path = Path(path)
    try:
        if path.is_dir():
            return digest_frame_folder(index_frame_folder(path))
        return digest_file(path) if path.is_file() else ""
    except (VideoError, OSError):
        return ""
