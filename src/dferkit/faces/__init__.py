"""Frames → face clip: detect faces, follow each person through the window, cut one square crop per frame."""

from dferkit.faces.boxfile import BoxFile
from dferkit.faces.clip import ClipFaces, read_clip_faces
from dferkit.faces.detect import Detector, HaarDetector, WholeFrame, YuNetDetector, build_detector, front_end_key
from dferkit.faces.geometry import CROP_MARGIN, nearest_found
from dferkit.faces.landmarks import FaceLandmarker, landmarker_file, measure_geometry, open_landmarker
from dferkit.faces.quality import assess
from dferkit.faces.read import Crop
from dferkit.faces.track import track_faces
from dferkit.faces.warp import BoxJitter, crop_face, warp_face

__all__ = [
    "CROP_MARGIN",
    "BoxFile",
    "BoxJitter",
    "ClipFaces",
    "Crop",
    "Detector",
    "FaceLandmarker",
    "HaarDetector",
    "WholeFrame",
    "YuNetDetector",
    "assess",
    "build_detector",
    "crop_face",
    "front_end_key",
    "landmarker_file",
    "measure_geometry",
    "nearest_found",
    "open_landmarker",
    "read_clip_faces",
    "track_faces",
    "warp_face",
]
