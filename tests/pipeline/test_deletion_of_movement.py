"""Taking movement out of the cells of a clip, for encoders whose steps divide the frames and for those whose steps do not."""

from __future__ import annotations

import numpy as np
import pytest

from dferkit.pipeline.explanation import without_movement
from dferkit.schema import FaceClip, FaceQuality, FaceTrack

FRAMES, SIZE = 16, 24


def noise() -> FaceClip:
    images = np.random.default_rng(0).integers(0, 256, (FRAMES, SIZE, SIZE, 3)).astype(np.uint8)
    found = np.ones(FRAMES, bool)
    return FaceClip(
        images=images,
        timestamps=np.arange(FRAMES) / 8,
        track=FaceTrack(
            track_id=0, boxes=np.ones((FRAMES, 4)), scores=np.ones(FRAMES), found=found, detector="cropped"
        ),
        quality=FaceQuality(coverage=1, median_height_pixels=99, sharpness=99, brightness=99, jitter=0),
        start_seconds=0,
        end_seconds=2,
    )


@pytest.mark.parametrize("steps", [1, 3, 5, 8, 12, 16])
def test_every_step_changes_its_frames_and_no_other(steps: int) -> None:
    clip, changed = noise(), np.zeros(FRAMES, int)
    for step in range(steps):
        keep = np.ones((steps, 2, 3), bool)
        keep[step, 1, 2] = False
        after = without_movement(clip, keep).images
        differs = (after != clip.images).any(-1)
        assert not differs[:, :12].any()
        assert not differs[:, :, :16].any(), "the cell is the lower right one of two rows and three columns"
        moved = differs.any((1, 2))
        changed += moved
        # A step spans frames / steps frames, rounded to whole ones.
        assert abs(moved.sum() - FRAMES / steps) < 1
        assert (np.diff(np.flatnonzero(moved)) == 1).all()
    assert (changed == 1).all(), "each frame belongs to one step"


def test_a_deleted_cell_shows_its_mean() -> None:
    clip = noise()
    after = without_movement(clip, np.zeros((12, 1, 1), bool)).images
    assert (after == after[0]).all()
    assert np.abs(after[0].astype(float) - clip.images.mean(0)).max() <= 0.5
