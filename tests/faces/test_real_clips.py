"""Real people, where the folders with media and models are there (DFERKIT_MEDIA, DFERKIT_MODELS)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from dferkit.faces import build_detector, track_faces, warp_face
from dferkit.video import decode_windows, index_video, plan_windows

MEDIA = os.environ.get("DFERKIT_MEDIA", "")
MODELS = os.environ.get("DFERKIT_MODELS", "")

pytestmark = pytest.mark.skipif(not Path(MEDIA or "none").is_dir(), reason="DFERKIT_MEDIA is not set")

# Share of frames with a face that the clip shows, and the tolerance.
CLIPS = {
    "pyfeat_single_face.mp4": (0.9, 1.0),
    "openwillis_baseline.mp4": (0.9, 1.0),
    "ravdess_happy_01-01-03-02-02-01-01.gif": (0.9, 1.0),
    "pyfeat_no_face.mp4": (0.0, 0.1),
    "pyfeat_face_noface.mov": (0.25, 0.35),
}


@pytest.mark.parametrize("front_end", ["haar", "yunet"])
@pytest.mark.parametrize("name", CLIPS)
def test_frames_with_a_face(name: str, front_end: str) -> None:
    if front_end == "yunet" and not MODELS:
        pytest.skip("DFERKIT_MODELS is not set")
    detector = build_detector(front_end)
    index = index_video(Path(MEDIA) / name)
    found, total = 0, 0
    for frames in decode_windows(index, plan_windows(index.duration_seconds)):
        tracks = track_faces(frames, detector)
        total += len(frames.images)
        if tracks:
            found += int(tracks[0].found.sum())
            clip = warp_face(frames, tracks[0])
            assert clip.images.shape == (16, 112, 112, 3)
    low, high = CLIPS[name]
    assert low <= found / total <= high


@pytest.mark.skipif(not MODELS, reason="DFERKIT_MODELS is not set")
def test_front_ends_frame_a_face_alike() -> None:
    index = index_video(Path(MEDIA) / "pyfeat_single_face.mp4")
    frames = next(decode_windows(index, plan_windows(index.duration_seconds)))
    haar, yunet = (track_faces(frames, build_detector(name))[0].boxes for name in ("haar", "yunet"))
    side = np.median(haar[:, 2])
    assert np.abs(np.median(haar - yunet, axis=0)).max() < 0.08 * side
