"""Statuses: one table of conditions, and the same answer from every reader of clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dferkit.faces import build_detector, read_clip_faces
from dferkit.faces.read import WindowFaces
from dferkit.faces.status import face_status, first_that_applies, landmarks_missing, status_of_windows, unreadable
from dferkit.pipeline import load
from dferkit.schema import STATUSES, DecodeReport, FaceClip, FaceQuality, FaceTrack, Record
from dferkit.synthetic import write_video
from dferkit.video import Window

FRAMES = 16


def window(coverage: float, *, truncated: bool = False, different: int = FRAMES, people: int = 1) -> WindowFaces:
    found = np.arange(FRAMES) < round(coverage * FRAMES)
    clip = FaceClip(
        images=np.zeros((FRAMES, 8, 8, 3), np.uint8),
        timestamps=np.arange(FRAMES) / 8,
        track=FaceTrack(track_id=0, boxes=np.ones((FRAMES, 4)), scores=np.ones(FRAMES), found=found, detector="haar"),
        quality=FaceQuality(coverage=coverage, median_height_pixels=99, sharpness=99, brightness=99, jitter=0),
        start_seconds=0.0,
        end_seconds=2.0,
    )
    return WindowFaces(
        window=Window(number=0, start_seconds=0.0, end_seconds=2.0, sample_times=np.arange(FRAMES) / 8),
        timestamps=np.arange(FRAMES) / 8,
        indices=np.minimum(np.arange(FRAMES), different - 1),
        report=DecodeReport(num_requested=FRAMES, num_decoded=different, is_truncated=truncated),
        clips=(clip,) * people if coverage else (),
        num_people=people if coverage else 0,
        frame_size=(64, 64),
    )


@pytest.mark.parametrize(
    ("coverage", "truncated", "different", "wanted"),
    [
        (1.0, False, 16, "ok"),
        (0.5, False, 8, "ok"),
        (1.0, False, 7, "too_short"),
        (0.4375, False, 16, "low_coverage"),
        (0.4375, False, 7, "low_coverage"),
        (1.0, True, 16, "truncated"),
        (0.4375, True, 7, "truncated"),
        (0.125, True, 16, "truncated"),
        (0.0625, False, 16, "no_face"),
        (0.0625, True, 7, "no_face"),
        (0.0, False, 16, "no_face"),
        (0.0, True, 7, "no_face"),
    ],
)
def test_table_of_conditions(coverage: float, truncated: bool, different: int, wanted: str) -> None:
    faces = window(coverage, truncated=truncated, different=different)
    person = faces.clips[0] if faces.clips else None
    got = face_status(faces, person, detector="haar", num_wanted=FRAMES)
    assert got.status == wanted
    assert got.has_features == (wanted != "no_face")
    assert (got.message == "") == (wanted == "ok")
    parts = {"ends early": truncated, "face in": coverage < 0.5, "different frames": different < 8}
    if wanted != "no_face":
        assert {part: part in got.message for part in parts} == parts, "every condition that holds is in the message"


def test_short_only_where_more_frames_are_wanted() -> None:
    faces = window(1.0, different=4)
    assert face_status(faces, faces.clips[0], detector="haar", num_wanted=4).status == "ok"
    assert face_status(faces, faces.clips[0], detector="haar", num_wanted=5).status == "too_short"


def test_people_are_counted_where_each_is_answered() -> None:
    faces = window(1.0, people=3)
    assert face_status(faces, faces.clips[0], detector="haar", num_wanted=16).message == "3 people found"


def test_other_reasons() -> None:
    assert unreadable("not found").status == "unreadable"
    faces = window(1.0)
    seen = face_status(faces, faces.clips[0], detector="haar", num_wanted=16)
    assert landmarks_missing(seen).status == "no_face"
    assert not landmarks_missing(seen).has_features


def test_each_status_rules_out_those_after_it() -> None:
    assert STATUSES == ("error", "unreadable", "no_face", "abstain", "truncated", "low_coverage", "too_short", "ok")
    for i, status in enumerate(STATUSES):
        assert all(first_that_applies([other, status]) == status for other in STATUSES[i:])


@pytest.mark.parametrize(
    ("windows", "wanted"),
    [
        (["ok"], "ok"),
        (["ok", "abstain", "no_face"], "ok"),
        (["too_short", "ok"], "too_short"),
        (["low_coverage", "too_short", "ok", "no_face"], "low_coverage"),
        (["ok", "low_coverage", "truncated"], "truncated"),
        (["abstain", "no_face"], "abstain"),
        (["no_face", "no_face"], "no_face"),
        (["ok", "ok", "unreadable"], "unreadable"),
        (["no_face", "unreadable"], "unreadable"),
    ],
)
def test_status_of_several_windows(windows: list[str], wanted: str) -> None:
    assert status_of_windows(windows) == wanted
    assert status_of_windows(windows[::-1]) == wanted


def test_prediction_and_preparation_agree_on_the_same_files(tmp_path: Path) -> None:
    """Grey pictures with no face, five frames cut to a face, and text."""
    grey = np.random.default_rng(0).integers(90, 160, (5, 112, 112, 3)).astype(np.uint8)
    write_video(tmp_path / "short.mp4", grey, 8.0)
    write_video(tmp_path / "nobody.mp4", np.repeat(grey[:1], 16, 0), 8.0)
    (tmp_path / "text.mp4").write_text("no video")
    wanted = {
        ("cropped", "short.mp4"): "too_short",
        ("haar", "nobody.mp4"): "no_face",
        ("cropped", "text.mp4"): "unreadable",
    }
    for (face, name), status in wanted.items():
        record = Record(clip_id=name, video=tmp_path / name)
        for num_samples in (16, None):
            found = read_clip_faces(record, build_detector(face), num_samples=num_samples)
            assert found.status.status == status, (name, num_samples)
        with load(face=face, landmarker="none") as model:
            row = model.predict(tmp_path / name).predictions[0]
        assert row.status == status or (status == "too_short" and row.status == "abstain")
        assert status != "too_short" or found.status.message in row.message
