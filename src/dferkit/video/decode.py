"""One forward pass over a video that yields the frames of each window. Memory does not grow with the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from jaxtyping import Int, UInt8

from dferkit.errors import VideoError
from dferkit.schema import DecodeReport, Frames
from dferkit.video.container import MEDIA_ERRORS, check_pixels, display_name, open_video
from dferkit.video.index import VideoIndex
from dferkit.video.sampling import Window

# A seek costs about as much as decoding a second of video, so nearer frames are reached by decoding.
_SEEK_SECONDS = 1.5
# Containers round times (Matroska to milliseconds): a sampling time at most this far before a frame belongs to that frame.
_ROUNDING_SECONDS = 0.002
_SAME_SECONDS = 1e-4

_Picture = tuple[int, float, UInt8[np.ndarray, "height width 3"]]


def decode_windows(index: VideoIndex, windows: Sequence[Window]) -> Iterator[Frames]:
    """Decode the sampled frames of each window, in the order of the windows' start.

    Each sampling time gets the frame that is displayed at that time. Frames repeat where the video has fewer frames than
    samples, and 16 samples of a clip of 16 frames are those frames. Windows may overlap; only frames that are still needed are
    kept in memory.

    Raises:
        VideoError: ``E_DECODE`` where no frame can be decoded, ``E_TOO_MANY_PIXELS`` where a frame is larger than the
            header declares, the codes of ``index_video`` where the file has changed in the meantime.
    """
    pending = sorted(windows, key=lambda window: window.start_seconds)
    if not pending:
        return
    numbers = [_frame_numbers(index, window) for window in pending]
    wanted = np.unique(np.concatenate(numbers))
    # No window from the i-th on needs a frame before needed_from[i].
    needed_from = np.minimum.accumulate([n.min() for n in reversed(numbers)])[::-1]
    with open_video(index.path, allow_gif_and_flv=True, limits=index.limits) as (container, stream, _):
        source = _FrameSource(index, container, stream)
        pictures: dict[int, _Picture] = {}
        done = 0
        for position, window in enumerate(pending):
            pictures = {number: kept for number, kept in pictures.items() if number >= needed_from[position]}
            while done < len(wanted) and wanted[done] <= numbers[position].max():
                pictures[int(wanted[done])] = source.get(int(wanted[done]))
                done += 1
            yield _assemble(index, window, [pictures[int(number)] for number in numbers[position]], source)


def _frame_numbers(index: VideoIndex, window: Window) -> Int[np.ndarray, " samples"]:
    numbers = np.searchsorted(index.timestamps, window.sample_times + _ROUNDING_SECONDS, side="right") - 1
    return np.clip(numbers, 0, index.num_frames - 1)


def _assemble(index: VideoIndex, window: Window, pictures: list[_Picture], source: _FrameSource) -> Frames:
    numbers = np.array([number for number, _, _ in pictures])
    num_damaged = source.take_num_damaged()
    warnings = list(index.warnings)
    if num_damaged:
        warnings.append("W_DECODE_ERRORS")
    if source.has_size_changed:
        warnings.append("W_SIZE_CHANGED")
    return Frames(
        images=np.stack([image for _, _, image in pictures]),
        timestamps=np.array([seconds for _, seconds, _ in pictures]),
        indices=numbers,
        start_seconds=window.start_seconds,
        end_seconds=window.end_seconds,
        report=DecodeReport(
            num_requested=len(pictures),
            num_decoded=len(np.unique(numbers)),
            num_damaged=num_damaged,
            rotation_degrees=index.rotation_degrees,
            is_truncated=index.is_truncated,
            is_variable_rate=index.is_variable_rate,
            warnings=tuple(warnings),
        ),
    )


class _FrameSource:
    """Frames in rising order of their number, from one decoder that only moves forward."""

    def __init__(self, index: VideoIndex, container: InputContainer, stream: VideoStream) -> None:
        self.has_size_changed = False
        self._index = index
        self._container = container
        self._stream = stream
        self._num_damaged = 0
        self._num_lost = 0
        self._num_decoded = 0
        self._decoded = self._decode()
        self._previous: tuple[float, av.VideoFrame] | None = None
        self._current: tuple[float, av.VideoFrame] | None = None
        self._native_size: tuple[int, int] | None = None
        self._converted: _Picture | None = None

    def take_num_damaged(self) -> int:
        """Packets damaged since the last call."""
        taken, self._num_damaged = self._num_damaged, 0
        return taken

    def get(self, number: int) -> _Picture:
        """The frame of this number, or the frame before it where it is damaged."""
        target = float(self._index.timestamps[number])
        self._seek_towards(target)
        while self._current is None or self._current[0] < target - _SAME_SECONDS:
            following = next(self._decoded, None)
            if following is None:
                break
            # Times in a damaged file may jump back; frames are returned in rising order all the same.
            if self._current is None or following[0] > self._current[0]:
                self._previous, self._current = self._current, following
        if self._current is None:
            raise VideoError(
                f"{display_name(self._index.path)} is damaged: none of its frames can be decoded. "
                "Copy it again from its source",
                code="E_DECODE",
            )
        is_past = self._current[0] > target + _SAME_SECONDS
        seconds, frame = self._previous if is_past and self._previous is not None else self._current
        return self._convert(seconds, frame)

    def _seek_towards(self, target: float) -> None:
        if not self._index.has_presentation_times:
            return
        position = self._current[0] if self._current is not None else 0.0
        keys = self._index.key_times
        key = int(np.searchsorted(keys, target + _SAME_SECONDS, side="right")) - 1
        if key < 0 or keys[key] < position + _SEEK_SECONDS:
            return
        ticks = round((keys[key] + self._index.offset_seconds) / float(self._stream.time_base or 1))
        try:
            self._container.seek(ticks, stream=self._stream, backward=True)
        except MEDIA_ERRORS:
            return  # a file without a usable index is decoded from here on
        self._decoded = self._decode()
        # Frames between the seek and its key frame are unknown. The frame from before the jump is kept only for the case
        # that no frame follows.
        self._previous = None
        self._current = (-np.inf, self._current[1]) if self._current is not None else None

    def _decode(self) -> Iterator[tuple[float, av.VideoFrame]]:
        """Time and frame, packet by packet, so that a damaged packet loses its own frame only."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except MEDIA_ERRORS:
                self._num_damaged += 1
                return
            self._num_damaged += bool(packet.is_corrupt)
            try:
                frames = self._stream.codec_context.decode(packet if packet.size else None)
            except av.error.EOFError:
                return
            except MEDIA_ERRORS:
                self._num_damaged += 1
                self._num_lost += 1
                continue
            for frame in frames:
                self._num_decoded += 1
                # The decoder fills in what it could not read. The frame before is better, if there is one.
                if frame.is_corrupt:
                    self._num_damaged += 1
                    if self._current is not None:
                        continue
                seconds = self._seconds(frame)
                if seconds is not None:
                    yield seconds, frame

    def _seconds(self, frame: av.VideoFrame) -> float | None:
        if not self._index.has_presentation_times:
            # Without times, the order in which the decoder returns frames gives their numbers.
            number = self._num_decoded + self._num_lost - 1
            return float(self._index.timestamps[min(number, self._index.num_frames - 1)])
        if frame.pts is None:
            return None
        # Not frame.time: it is NaN for the last frames, which leave the decoder after the last packet.
        return frame.pts * float(self._stream.time_base or 1) - self._index.offset_seconds

    def _convert(self, seconds: float, frame: av.VideoFrame) -> _Picture:
        if self._converted is not None and self._converted[1] == seconds:
            return self._converted
        index = self._index
        check_pixels(display_name(index.path), frame.width, frame.height, index.limits)
        self._native_size = self._native_size or (frame.width, frame.height)
        self.has_size_changed |= self._native_size != (frame.width, frame.height)
        # The size before rotation (transposing is its own inverse). It differs from the frame's own size where pixels are
        # not square or the size changes within the stream.
        width, height = index.orientation.size(index.width, index.height)
        image = index.orientation.apply(frame.to_ndarray(format="rgb24", width=width, height=height))
        number = int(np.searchsorted(index.timestamps, seconds + _SAME_SECONDS, side="right")) - 1
        self._converted = (min(max(number, 0), index.num_frames - 1), seconds, image)
        return self._converted
