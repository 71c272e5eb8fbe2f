"""Frames from a folder of pictures, in the order of the numbers in their names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from dferkit.errors import VideoError
from dferkit.schema import DecodeReport, Frames
from dferkit.storage import PICTURE_SUFFIXES, natural_key
from dferkit.video.container import Limits, display_name
from dferkit.video.picture import read_picture
from dferkit.video.sampling import Window

# Deviation: official releases give frames as numbered pictures without times. The nominal rate is 25 a second: speeds and
# onset times of such clips are in these units, not in true seconds.
NOMINAL_RATE = 25.0


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameFolder:
    """The pictures of a folder, not opened; for a video file this is ``VideoIndex``.

    Attributes:
        names: File names in natural order.
        limits: Limits above which a picture is refused.
    """

    path: Path
    names: tuple[str, ...]
    limits: Limits
    is_truncated: bool = False

    @property
    def num_frames(self) -> int:
        """Pictures in the folder."""
        return len(self.names)

    @property
    def timestamps(self) -> Float[np.ndarray, " frames"]:
        """Nominal times, 25 frames a second, the first is 0."""
        return np.arange(len(self.names)) / NOMINAL_RATE

    @property
    def duration_seconds(self) -> float:
        """Nominal length."""
        return len(self.names) / NOMINAL_RATE


def index_frame_folder(path: Path | str, *, limits: Limits | None = None) -> FrameFolder:
    """List the pictures of a folder. Hidden files and files of other kinds (Thumbs.db) are ignored.

    Raises:
        VideoError: ``E_NOT_FOUND``, ``E_UNREADABLE``, ``E_NO_FRAMES``, ``E_TOO_LONG``.
    """
    path, limits = Path(path), limits or Limits()
    name = display_name(path)
    try:
        with os.scandir(path) as entries:
            names = [e.name for e in entries if is_picture_name(e.name) and e.is_file()]
    except FileNotFoundError as error:
        raise VideoError(f"{name}: not found", code="E_NOT_FOUND") from error
    except OSError as error:
        raise VideoError(f"{name} cannot be opened ({error.strerror}): check it", code="E_UNREADABLE") from error
    if not names:
        raise VideoError(
            f"{name}/ holds no picture ({', '.join(PICTURE_SUFFIXES)}): give a video file, or a folder of one video's frames",
            code="E_NO_FRAMES",
        )
    if len(names) > limits.max_frames:
        raise VideoError(f"{name}/ holds more than {limits.max_frames} frames: split it", code="E_TOO_LONG")
    return FrameFolder(path=path, names=tuple(sorted(names, key=natural_key)), limits=limits)


def is_picture_name(name: str) -> bool:
    """A visible file with the suffix of a picture."""
    return not name.startswith(".") and name.lower().endswith(PICTURE_SUFFIXES)


def digest_frame_folder(folder: FrameFolder) -> str:
    """SHA-256 over names and bytes of the pictures, in order."""
    digest = hashlib.sha256()
    for name in folder.names:
        try:
            data = (folder.path / name).read_bytes()
        except OSError:
            data = b""
        digest.update(f"{name}\0{len(data)}\0".encode(errors="surrogateescape"))
        digest.update(data)
    return digest.hexdigest()


def read_frame_windows(folder: FrameFolder, windows: Sequence[Window]) -> Iterator[Frames]:
    """The sampled pictures of each window, in the order of the windows' start, like ``decode_windows``.

    A damaged picture is counted and replaced by the one before (by the one after, where there is none before). Pictures
    of another size than the first are scaled to its size.

    Raises:
        VideoError: ``E_DECODE`` where no picture can be read, ``E_TOO_MANY_PIXELS``.
    """
    for window in sorted(windows, key=lambda w: w.start_seconds):
        times = window.sample_times + 0.5e-6  # a sampling time on a frame must not fall before it by rounding
        wanted = np.clip(np.floor(times * NOMINAL_RATE).astype(int), 0, folder.num_frames - 1)
        yield _read_window(folder, window, wanted)


def _read_window(folder: FrameFolder, window: Window, wanted: Int[np.ndarray, " samples"]) -> Frames:
    source = _Pictures(folder)
    shown = [source.on_display(int(number)) for number in wanted]
    readable = [number for number in shown if number is not None]
    if not readable:
        raise VideoError(
            f"{display_name(folder.path)}/ is damaged: none of its pictures can be read. Copy it again from its source",
            code="E_DECODE",
        )
    numbers = np.array([readable[0] if number is None else number for number in shown])
    height, width = source.images[int(numbers[0])].shape[:2]
    has_changed = len({source.images[n].shape for n in readable}) > 1
    images = np.stack([_fit(source.images[int(n)], width, height) for n in numbers])
    codes = [("W_DECODE_ERRORS", bool(source.damaged)), ("W_SIZE_CHANGED", has_changed)]
    return Frames(
        images=images,
        timestamps=folder.timestamps[numbers],
        indices=numbers,
        start_seconds=window.start_seconds,
        end_seconds=window.end_seconds,
        report=DecodeReport(
            num_requested=len(numbers),
            num_decoded=len(np.unique(numbers)),
            num_damaged=len(source.damaged),
            warnings=tuple(code for code, applies in codes if applies),
        ),
    )


def _fit(image: UInt8[np.ndarray, "height width 3"], width: int, height: int) -> UInt8[np.ndarray, "height width 3"]:
    if image.shape[:2] == (height, width):
        return image
    is_smaller = image.shape[0] < height or image.shape[1] < width
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR if is_smaller else cv2.INTER_AREA)


class _Pictures:
    """Pictures of one window; each file is opened once."""

    def __init__(self, folder: FrameFolder) -> None:
        self.images: dict[int, UInt8[np.ndarray, "height width 3"]] = {}
        self.damaged: set[int] = set()
        self._folder = folder

    def on_display(self, number: int) -> int | None:
        """This number, or the number of the nearest readable picture before it; None where there is none."""
        while number >= 0 and number not in self.images:
            if number not in self.damaged:
                image = read_picture(self._folder.path / self._folder.names[number], self._folder.limits)
                if image is not None:
                    self.images[number] = image
                    break
                self.damaged.add(number)
            number -= 1
        return number if number >= 0 else None
