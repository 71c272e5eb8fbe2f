from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dferkit.errors import ConfigError, NoFaceError
from dferkit.faces import CROP_MARGIN, BoxJitter, WholeFrame, assess, crop_face, track_faces, warp_face
from dferkit.schema import DecodeReport, FaceTrack, Frames


def make_frames(images: np.ndarray, fps: float = 8) -> Frames:
    count = len(images)
    return Frames(
        images=images,
        timestamps=np.arange(count) / fps,
        indices=np.arange(count),
        start_seconds=0.0,
        end_seconds=count / fps,
        report=DecodeReport(num_requested=count, num_decoded=count),
    )


def make_track(boxes: list[tuple[float, ...] | None], num_people: int = 1) -> FaceTrack:
    found = np.array([box is not None for box in boxes])
    values = np.array([box if box is not None else (np.nan,) * 4 for box in boxes], dtype=float)
    return FaceTrack(
        track_id=0,
        boxes=values,
        scores=np.full(len(boxes), np.nan),
        found=found,
        detector="test",
        num_people=num_people,
    )


def _ramp(width: int = 300, height: int = 200) -> np.ndarray:
    """Red is x / 2, green is y: the colours of a crop show its position."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x // 2, y, np.zeros_like(x)], axis=-1).astype(np.uint8)


@settings(deadline=None, max_examples=40)
@given(x=st.floats(40, 150), y=st.floats(40, 80), side=st.floats(20, 90), size=st.sampled_from([32, 64, 112]))
def test_crop_is_where_it_should_be(x: float, y: float, side: float, size: int) -> None:
    crop = crop_face(_ramp(), np.array([x, y, side, side]), size=size, margin=0.0)
    assert crop.shape == (size, size, 3)
    middle = crop[size // 4 : -size // 4, size // 4 : -size // 4].reshape(-1, 3).mean(axis=0)
    # Pixel i covers i to i + 1, so its centre is at + 0.5.
    assert middle[0] * 2 + 0.5 == pytest.approx(x + side / 2, abs=1.5)
    assert middle[1] + 0.5 == pytest.approx(y + side / 2, abs=1.2)
    # The whole crop spans the box: green grows by the box's height over it.
    rise = (float(crop[-1, size // 2, 1]) - float(crop[0, size // 2, 1])) * size / (size - 1)
    assert rise == pytest.approx(side, abs=3)


def test_margin_grows_on_each_side() -> None:
    crop = crop_face(_ramp(), np.array([100.0, 60, 80, 80]), size=128, margin=CROP_MARGIN)
    rise = (float(crop[-1, 64, 1]) - float(crop[0, 64, 1])) * 128 / 127
    assert rise == pytest.approx(80 * (1 + 2 * CROP_MARGIN), abs=3)


def test_outside_repeats_the_border() -> None:
    image = np.full((50, 50, 3), 77, np.uint8)
    assert (crop_face(image, np.array([-60.0, -60, 100, 100]), size=64) == 77).all()
    assert (crop_face(image, np.array([400.0, 400, 10, 10]), size=64) == 77).all()


def test_large_crops_are_averaged_not_skipped() -> None:
    stripes = np.zeros((448, 448, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = crop_face(stripes, np.array([0.0, 0, 448, 448]), size=112, margin=0.0)
    assert crop.min() > 100
    assert crop.max() < 155


def test_exact_copy_where_nothing_changes() -> None:
    image = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    assert np.array_equal(crop_face(image, np.array([0.0, 0, 112, 112]), size=112, margin=0.0), image)


def test_whole_frame_is_kept_whole() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    frames = make_frames(images)
    (track,) = track_faces(frames, WholeFrame())
    clip = warp_face(frames, track)
    assert np.abs(clip.images.astype(int) - images).max() <= 1
    assert track.found.all()
    assert clip.track.detector == "cropped"


def test_roll_turns_counter_clockwise() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    image[48:52, 50:] = 255  # a bar that points to the right
    crop = crop_face(image, np.array([0.0, 0, 100, 100]), size=100, margin=0.0, jitter=BoxJitter(roll_degrees=90))
    rows, columns = np.nonzero(crop[:, :, 0] > 128)
    assert rows.mean() < 30
    assert columns.mean() == pytest.approx(49.5, abs=2)


def test_jitter_shifts_and_scales_and_is_the_same_for_the_clip() -> None:
    image = _ramp()
    plain = crop_face(image, np.array([100.0, 60, 80, 80]), size=64, margin=0.0)
    moved = crop_face(image, np.array([100.0, 60, 80, 80]), size=64, margin=0.0, jitter=BoxJitter(shift_x=0.25))
    wider = crop_face(image, np.array([100.0, 60, 80, 80]), size=64, margin=0.0, jitter=BoxJitter(scale=1.5))
    assert moved[32, 32, 0] * 2.0 - plain[32, 32, 0] * 2.0 == pytest.approx(20, abs=2)
    assert int(wider[-1, 32, 1]) - int(wider[0, 32, 1]) == pytest.approx(118, abs=4)
    frames = make_frames(np.stack([image] * 4))
    jitter = BoxJitter(shift_x=0.04, shift_y=-0.02, scale=1.05, roll_degrees=3)
    clip = warp_face(frames, make_track([(100, 60, 80, 80)] * 4), jitter=jitter)
    assert (clip.images == clip.images[:1]).all()
    with pytest.raises(ConfigError):
        BoxJitter(scale=0.0)


def test_frames_without_face_repeat_the_nearest() -> None:
    images = np.stack([np.full((60, 60, 3), 10 * i, np.uint8) for i in range(6)])
    box = (10, 10, 30, 30)
    clip = warp_face(make_frames(images), make_track([None, box, None, None, None, box]))
    assert clip.images[:, 50, 50, 0].tolist() == [10, 10, 10, 10, 50, 50]
    assert clip.track.found.tolist() == [False, True, False, False, False, True]
    assert clip.quality.coverage == pytest.approx(2 / 6)
    assert "W_FEW_FACE_FRAMES" in clip.quality.warnings


def test_no_face_is_an_error() -> None:
    frames = make_frames(np.zeros((5, 60, 60, 3), np.uint8))
    with pytest.raises(NoFaceError, match="no face in 5 sampled frames"):
        warp_face(frames, make_track([None] * 5))


@pytest.mark.parametrize("settings_", [{"size": 2}, {"margin": -0.5}])
def test_unusable_settings(settings_: dict) -> None:
    frames = make_frames(np.zeros((1, 60, 60, 3), np.uint8))
    with pytest.raises(ConfigError):
        warp_face(frames, make_track([(0, 0, 9, 9)]), **settings_)


def test_quality_figures() -> None:
    rng = np.random.default_rng(0)
    sharp = rng.integers(80, 176, (4, 112, 112, 3), dtype=np.uint8)
    blurred = np.stack([cv2.GaussianBlur(image, (0, 0), 8) for image in sharp])
    still = make_track([(10, 10, 100, 100)] * 4)
    assert assess(sharp, still).warnings == ()
    assert assess(sharp, still).jitter == 0
    assert assess(sharp, still).median_height_pixels == 100
    assert assess(sharp, still).brightness == pytest.approx(127.5, abs=2)
    assert assess(blurred, still).warnings == ("W_BLUR",)
    assert "W_DARK" in assess(sharp // 8, still).warnings
    assert "W_BRIGHT" in assess(255 - sharp // 8, still).warnings
    small = make_track([(10 + 8 * i, 10, 30, 30) for i in range(4)], num_people=3)
    quality = assess(sharp, small)
    assert quality.jitter == pytest.approx(8 / 30)
    assert quality.warnings == ("W_SMALL_FACE", "W_JITTER", "W_MULTIPLE_FACES")
    assert assess(sharp, make_track([None] * 4)).coverage == 0
