"""Times, size and faults of a video, read from its packets. One frame is decoded, for the orientation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from jaxtyping import Float

from dferkit.errors import VideoError
from dferkit.video.container import MEDIA_ERRORS, Limits, check_pixels, codec_name, display_name, open_video
from dferkit.video.orientation import Orientation, read_orientation

# Transfer functions of PQ and HLG, the two kinds of HDR (ITU-T H.273).
_HDR_TRANSFERS = (16, 18)
_PROBE_KEY_FRAMES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoIndex:
    """The frames of a video file, without their pictures.

    Attributes:
        timestamps: Presentation time of each frame in seconds, rising, the first is 0.
        key_times: Times at which decoding can start, on the same clock.
        offset_seconds: Time of the first frame in the file's own clock.
        duration_seconds: Last time plus the typical frame interval.
        width, height: Of the upright frame with square pixels.
        orientation: The rotation or mirroring that makes frames upright.
        container: FFmpeg's name of the container family, such as ``mov,mp4,m4a,3gp,3g2,mj2``.
        codec: Such as ``h264``.
        is_truncated: The file ends before its declared end.
        has_presentation_times: The container gives the time of each frame; AVI does not, so its frames are counted.
        is_variable_rate: A frame interval differs from the typical one by more than half of it.
        warnings: Stable codes such as ``W_TRUNCATED``, ``W_HDR``, ``W_BAD_ROTATION``.
        limits: Limits for this video, also for its decoding.
    """

    path: Path
    timestamps: Float[np.ndarray, " frames"]
    key_times: Float[np.ndarray, " keys"]
    offset_seconds: float
    duration_seconds: float
    width: int
    height: int
    orientation: Orientation
    container: str
    codec: str
    is_truncated: bool
    has_presentation_times: bool
    is_variable_rate: bool
    warnings: tuple[str, ...]
    limits: Limits

    @property
    def rotation_degrees(self) -> int:
        """Rotation that makes frames upright: 0, 90, 180 or 270, counter-clockwise."""
        return self.orientation.rotation_degrees

    @property
    def num_frames(self) -> int:
        """Frames in the file."""
        return len(self.timestamps)


@dataclass(slots=True)
class _Packets:
    """Result of demuxing; times in seconds on the file's own clock, unsorted."""

    times: list[float]
    key_times: list[float]
    key_packets: list[av.Packet]
    last_duration: float
    num_corrupt: int
    has_failed: bool


def index_video(path: Path | str, *, allow_gif_and_flv: bool = True, limits: Limits | None = None) -> VideoIndex:
    """Read a video's times and properties; takes milliseconds per minute of video.

    Args:
        path: Any path; anything but a readable video is refused with one sentence.
        allow_gif_and_flv: Accept animated GIF and Flash video (a service should not).
        limits: Limits above which the video is refused; ``Limits()`` by default.

    Raises:
        VideoError: The file cannot be used; ``code`` is listed in ``docs/reference/errors.md``.
    """
    path = Path(path)
    limits = limits or Limits()
    name = display_name(path)
    with open_video(path, allow_gif_and_flv=allow_gif_and_flv, limits=limits) as (container, stream, is_cut):
        codec = codec_name(stream)
        packets = _demux(container, stream, name, limits)
        times = np.sort(np.array(packets.times, dtype=np.float64))
        _check_times(times, codec, is_cut or packets.has_failed, name, limits)
        probe = _decode_one(stream, packets.key_packets)
        width, height = stream.codec_context.width, stream.codec_context.height
        orientation, warnings = Orientation(), []
        if probe is not None:
            width, height = probe.width, probe.height
            orientation, is_usable = read_orientation(probe)
            warnings += [] if is_usable else ["W_BAD_ROTATION"]
        check_pixels(name, width, height, limits)
        if width < 1 or height < 1:
            raise VideoError(f"{name} has no readable frame: its frame size is missing", code="E_NO_FRAMES")
        width, height = orientation.size(*_square_pixels(stream, width, height))
        if _transfer(stream, probe) in _HDR_TRANSFERS:
            warnings.append("W_HDR")
        declared_frames = stream.frames or 0
        container_name = container.format.name

    interval, is_variable_rate = _typical_interval(times, packets.last_duration)
    is_truncated = is_cut or packets.has_failed or len(times) + packets.num_corrupt < 0.9 * declared_frames
    return VideoIndex(
        path=path,
        timestamps=times - times[0],
        key_times=np.sort(np.array(packets.key_times, dtype=np.float64)) - times[0],
        offset_seconds=float(times[0]),
        duration_seconds=float(times[-1] - times[0] + interval),
        width=width,
        height=height,
        orientation=orientation,
        container=container_name,
        codec=codec,
        is_truncated=is_truncated,
        has_presentation_times=container_name != "avi",
        is_variable_rate=is_variable_rate,
        warnings=tuple((["W_TRUNCATED"] if is_truncated else []) + warnings),
        limits=limits,
    )


def _demux(container: InputContainer, stream: VideoStream, name: str, limits: Limits) -> _Packets:
    found = _Packets([], [], [], 0.0, 0, False)
    base = float(stream.time_base or 1)
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return found
        except MEDIA_ERRORS:
            # The packets before are good; a demuxer does not continue after a failure.
            found.has_failed = True
            return found
        ticks = packet.pts if packet.pts is not None else packet.dts
        if packet.size == 0 or ticks is None:
            continue
        if packet.is_keyframe and len(found.key_packets) < _PROBE_KEY_FRAMES:
            found.key_packets.append(packet)
        if packet.is_keyframe:
            found.key_times.append(ticks * base)
        # An edit list marks frames that other frames need for decoding but that are not displayed.
        if packet.is_discard:
            continue
        if packet.is_corrupt:
            found.num_corrupt += 1
            continue
        found.last_duration = (packet.duration or 0) * base
        found.times.append(ticks * base)
        if len(found.times) > limits.max_frames:
            raise VideoError(
                f"{name} has more than {limits.max_frames} frames: cut it into shorter files", code="E_TOO_LONG"
            )


def _check_times(times: Float[np.ndarray, " frames"], codec: str, is_cut: bool, name: str, limits: Limits) -> None:
    if len(times) == 0:
        if is_cut:
            raise VideoError(
                f"{name} is incomplete (recording stopped early) and holds no frame. Copy it again from its source",
                code="E_TRUNCATED",
            )
        raise VideoError(f"{name} has a picture track without frames: give another file", code="E_NO_FRAMES")
    if len(times) == 1 and not is_cut:
        kind = "still GIF" if codec == "gif" else "single"
        raise VideoError(
            f"{name} holds one {kind} picture, not a video: give a video file, or a folder of numbered pictures",
            code="E_PICTURE",
        )
    seconds = float(times[-1] - times[0])
    if not seconds <= limits.max_seconds:
        raise VideoError(
            f"{name} runs {seconds / 60:.0f} minutes, above the limit of {limits.max_seconds / 60:.0f}: "
            "cut it into shorter files",
            code="E_TOO_LONG",
        )


def _decode_one(stream: VideoStream, key_packets: list[av.Packet]) -> av.VideoFrame | None:
    """The first key frame that can be decoded, or None; the decoding pass reports that case."""
    for packet in key_packets:
        try:
            frames = stream.codec_context.decode(packet) or stream.codec_context.decode(None)
        except MEDIA_ERRORS:
            frames = []
        try:
            stream.codec_context.flush_buffers()
        except MEDIA_ERRORS:
            return None
        if frames:
            return frames[0]
    return None


def _transfer(stream: VideoStream, probe: av.VideoFrame | None) -> int:
    return int(stream.codec_context.color_trc or (probe.color_trc if probe is not None else 0) or 0)


def _square_pixels(stream: VideoStream, width: int, height: int) -> tuple[int, int]:
    """Size with square pixels; without it faces of an anamorphic recording would be too narrow."""
    ratio = float(stream.sample_aspect_ratio or 1)
    if not 0.25 <= ratio <= 4 or abs(ratio - 1) < 0.02:
        return width, height
    return max(1, round(width * ratio)), height


def _typical_interval(times: Float[np.ndarray, " frames"], last_duration: float) -> tuple[float, bool]:
    """Seconds between frames, and whether the rate is variable."""
    gaps = np.diff(times)
    moved = gaps[gaps > 0]
    if len(moved) == 0:
        return (last_duration if 0 < last_duration < 10 else 1 / 25), False
    median = float(np.median(moved))
    if np.abs(gaps - median).max() > 0.5 * median:
        return median, True
    # Containers round times (GIF to hundredths of a second), so the mean of equal steps is more exact than a single one.
    return float(gaps.mean()), False
