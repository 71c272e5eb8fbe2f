from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from dferkit.errors import BackendError, ConfigError, ManifestError
from dferkit.faces import BoxFile, HaarDetector, WholeFrame, build_detector
from dferkit.faces.geometry import overlap
from dferkit.schema import FaceBox


def test_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DFERKIT_MODELS", raising=False)
    assert build_detector("auto").name == "haar"
    assert build_detector("auto", models_dir=tmp_path).name == "haar"
    assert build_detector("haar").name == "haar"
    assert isinstance(build_detector("cropped"), WholeFrame)
    with pytest.raises(ConfigError, match="Did you mean yunet"):
        build_detector("yunnet")
    with pytest.raises(ConfigError, match="not a face detector"):
        build_detector("")
    with pytest.raises(BackendError, match="DFERKIT_MODELS"):
        build_detector("yunet")


def test_damaged_model_file(tmp_path: Path) -> None:
    (tmp_path / "face_detection_yunet_2000jan.onnx").write_bytes(b"nothing")
    with pytest.raises(BackendError, match="not a YuNet model"):
        build_detector("yunet", models_dir=tmp_path)


def test_opencv_without_cascades(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "CascadeClassifier")
    with pytest.raises(BackendError, match="opencv-python-headless<5"):
        HaarDetector()


@pytest.mark.parametrize("shape", [(1, 1), (3, 700), (700, 3), (24, 24), (112, 112), (500, 800)])
def test_pictures_without_a_face(shape: tuple[int, int]) -> None:
    detector = HaarDetector()
    assert detector.detect(np.zeros((*shape, 3), np.uint8)) == []
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert detector.detect(noise) == []


def test_overlap() -> None:
    box = FaceBox(x=0, y=0, width=10, height=10)
    assert overlap(box, box) == 1
    assert overlap(box, FaceBox(x=5, y=0, width=10, height=10)) == pytest.approx(1 / 3)
    assert overlap(box, FaceBox(x=10, y=0, width=10, height=10)) == 0


def _csv(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_two_videos_of_one_name_keep_their_boxes(tmp_path: Path) -> None:
    header = "input,frame,FaceRectX,FaceRectY,FaceRectWidth,FaceRectHeight\n"
    path = _csv(tmp_path / "boxes.csv", header + "/data/s1/cam/x.mp4,0,1,1,40,40\n/data/s2/cam/x.mp4,0,2,2,50,50\n")
    for name, width in (("s1/cam/x.mp4", 40), ("s2/cam/x.mp4", 50)):
        assert [box.width for box in BoxFile(path).for_video(name).boxes_at(0, 0.0)] == [width]
    with pytest.raises(ManifestError, match=r"2 names, such as cam/x\.mp4, fit x\.mp4 equally well"):
        BoxFile(path).for_video("x.mp4")


def test_boxes_by_frame_and_video(tmp_path: Path) -> None:
    path = _csv(
        tmp_path / "boxes.csv",
        (
            "input,frame,FaceRectX,FaceRectY,FaceRectWidth,FaceRectHeight,FaceScore\n"
            "clips/a.mp4,0,10,20,30,30,0.9\n"
            "clips/a.mp4,1,,,,,\n"
            "clips/a.mp4,2,12,20,30,30,0.8\n"
            "clips/b.mp4,0,50,60,40,40,0.7\n"
        ),
    )
    boxes = BoxFile(path).for_video("elsewhere/a.mp4")
    assert boxes.boxes_at(0, 0.0) == [FaceBox(x=10, y=20, width=30, height=30, score=0.9)]
    assert boxes.boxes_at(1, 0.1) == []
    assert boxes.boxes_at(2, 0.2)[0].x == 12
    assert boxes.boxes_at(7, 0.7) == []
    assert BoxFile(path).for_video("clips/b.mp4").boxes_at(0, 0.0)[0].width == 40
    with pytest.raises(ManifestError, match=r"no row for c\.mp4"):
        BoxFile(path).for_video("c.mp4")


def test_boxes_by_time(tmp_path: Path) -> None:
    path = _csv(
        tmp_path / "boxes.csv",
        ("timestamp,FaceRectX,FaceRectY,FaceRectWidth,FaceRectHeight\n0.0,1,2,30,30\n0.5,5,2,30,30\n0.5,90,2,20,20\n"),
    )
    detector = build_detector(str(path))
    assert isinstance(detector, BoxFile)
    assert detector.for_video("any.mp4") is detector
    assert [box.x for box in detector.boxes_at(4, 0.51)] == [5, 90]
    assert detector.boxes_at(2, 0.25) == []


def test_tight_boxes_become_standard(tmp_path: Path) -> None:
    path = _csv(tmp_path / "boxes.csv", "frame,FaceRectX,FaceRectY,FaceRectWidth,FaceRectHeight\n0,100,100,70,100\n")
    (box,) = BoxFile(path).boxes_at(0, 0.0)
    assert box.width == box.height
    assert 70 < box.width < 100
    assert box.x + box.width / 2 == pytest.approx(135)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("frame,FaceRectX,FaceRectY,FaceRectWidth\n", "missing column FaceRectHeight"),
        ("FaceRectX,FaceRectY,FaceRectWidth,FaceRectHeight\n1,2,3,4\n", "frame or timestamp"),
        ("frame,FaceRectX,FaceRectY,FaceRectWidth,FaceRectHeight\n0,1,2,3,4\n1,a,2,3,4\n", r"boxes\.csv:3: FaceRectX"),
        ("", "not a CSV"),
    ],
)
def test_wrong_box_files(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        BoxFile(_csv(tmp_path / "boxes.csv", text))
    with pytest.raises(ManifestError, match="not found"):
        BoxFile(tmp_path / "none.csv")
