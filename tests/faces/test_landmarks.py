"""The face landmarker: the messages without it, and, where the extra and the file are installed, the position of its points."""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from dferkit.errors import BackendError, ConfigError, MissingExtraError
from dferkit.faces import HaarDetector, open_landmarker, track_faces
from dferkit.faces.landmarks import FaceLandmarker, measure_geometry
from dferkit.model_files import find_model
from dferkit.preparation import FaceStore, PrepareConfig, Work, prepare_faces
from dferkit.schema import DecodeReport, Fold, Frames, Record, Release
from dferkit.video import clip_window, decode_source, index_source

MEDIA = Path(os.environ.get("DFERKIT_MEDIA", "/nonexistent"))
SMILE = MEDIA / "pyfeat_single_face.mp4"


def test_without_a_file_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DFERKIT_MODELS", str(tmp_path))
    assert open_landmarker("auto") is None
    assert open_landmarker("none") is None


def test_wrong_names_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"give auto, none, or a \.task file"):
        open_landmarker("mediapipe")
    with pytest.raises(BackendError, match="dferkit models get face-landmarker"):
        open_landmarker(str(tmp_path / "x.task"))


def test_without_mediapipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A named file asks for the extra; ``auto`` goes on without."""
    (tmp_path / "face_landmarker.task").write_bytes(b"x")
    real = builtins.__import__

    def refuse(name: str, *arguments: object, **named: object) -> object:
        if name.split(".")[0] == "mediapipe":
            raise ImportError(name)
        return real(name, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setenv("DFERKIT_MODELS", str(tmp_path))
    assert open_landmarker("auto") is None
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[landmarks\]'"):
        open_landmarker(str(tmp_path / "face_landmarker.task"))


@pytest.fixture(scope="module")
def landmarker() -> Iterator[FaceLandmarker]:
    """The real one; tests are skipped where the extra or the file is missing."""
    pytest.importorskip("mediapipe")
    path = find_model("face-landmarker")
    if path is None or not SMILE.is_file():
        pytest.skip("no landmarker file or no clip of a real face")
    with FaceLandmarker(path) as found:
        yield found


@pytest.fixture(scope="module")
def frames() -> Frames:
    if not SMILE.is_file():
        pytest.skip("no clip of a real face")
    source = index_source(SMILE)
    return next(decode_source(source, [clip_window(source.duration_seconds, 8)]))


def test_a_file_that_is_none(tmp_path: Path) -> None:
    pytest.importorskip("mediapipe")
    path = tmp_path / "x.task"
    path.write_bytes(b"no task")
    with pytest.raises(BackendError, match="not a face landmarker that MediaPipe can load"):
        FaceLandmarker(path)


def test_points_lie_on_the_face_and_the_smile_grows(landmarker: FaceLandmarker, frames: Frames) -> None:
    """A man who begins to smile: points in the box of another detector, and the smile's shape rises."""
    track = track_faces(frames, HaarDetector())[0]
    found = measure_geometry(frames, track, landmarker)
    assert found.landmarks is not None
    assert found.blend_shapes is not None
    assert found.landmarks.shape == (8, 478, 3)
    assert np.isfinite(found.landmarks).all()
    center = found.landmarks[:, :, :2].mean(1)
    box = track.boxes
    assert np.all(np.abs(center - (box[:, :2] + box[:, 2:] / 2)) < 0.35 * box[:, 2:])
    smile = found.blend_shapes[:, found.blend_shape_names.index("mouthSmileLeft")]
    assert smile[-3:].mean() > smile[:2].mean() + 0.3
    assert found.head_pose is not None
    rotation = found.head_pose[:, :3, :3]
    np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (8, 3, 3)), atol=1e-3)


def test_a_larger_picture_has_larger_coordinates(landmarker: FaceLandmarker, frames: Frames) -> None:
    """Coordinates are pixels of the frame: twice the picture, twice the numbers."""
    double = np.stack([cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC) for image in frames.images])
    large = Frames(
        images=double, timestamps=frames.timestamps, indices=frames.indices, start_seconds=0, end_seconds=frames.end_seconds, report=frames.report
    )  # fmt: skip
    found = [measure_geometry(f, track_faces(f, HaarDetector())[0], landmarker).landmarks for f in (frames, large)]
    assert found[0] is not None
    assert found[1] is not None
    width = np.ptp(found[1][:, :, 0], axis=1).mean()
    assert np.abs(found[1][..., :2] - 2 * found[0][..., :2]).mean() < 0.03 * width


def test_no_face_no_points(landmarker: FaceLandmarker) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (3, 160, 160, 3)).astype(np.uint8)
    blank = Frames(
        images=noise, timestamps=np.arange(3) / 10, indices=np.arange(3), start_seconds=0, end_seconds=0.3, report=DecodeReport(num_requested=3, num_decoded=3)
    )  # fmt: skip
    from dferkit.schema import FaceTrack

    track = FaceTrack(
        track_id=0, boxes=np.tile([30.0, 30.0, 100.0, 100.0], (3, 1)), scores=np.ones(3), found=np.array([True, False, True]), detector="x"
    )  # fmt: skip
    found = measure_geometry(blank, track, landmarker)
    assert found.landmarks is not None
    assert np.isnan(found.landmarks).all()


def test_a_store_keeps_them(landmarker: FaceLandmarker, tmp_path: Path) -> None:
    record = Record(clip_id="a", video=SMILE, label="happiness")
    release = Release(
        layout="folder", labels=("happiness",), records=(record,), folds=(Fold(name="1", train=("a",), test=()),), media=".", media_reason="", media_kind="videos", annotation_digest="",
    )  # fmt: skip
    config = PrepareConfig(face="haar", max_frames=6, landmarker=str(landmarker.path))
    prepare_faces(release, MEDIA, tmp_path / "store", config, work=Work(workers=1))
    clip = FaceStore.open(tmp_path / "store").read("a")
    assert clip.geometry is not None
    assert clip.geometry.landmarks is not None
    assert clip.geometry.landmarks.shape == (6, 478, 3)
    assert len(clip.geometry.blend_shape_names) == 52
    assert "mediapipe-face-landmarker" in (tmp_path / "store" / "store.json").read_text()
    plain = PrepareConfig(face="haar", max_frames=6, landmarker="none")
    prepare_faces(release, MEDIA, tmp_path / "plain", plain, work=Work(workers=1))
    assert FaceStore.open(tmp_path / "plain").read("a").geometry is None
