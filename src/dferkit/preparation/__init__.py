"""A release → a store of its faces: decoded, found, cut and kept once, so that nothing later opens a video again."""

from dferkit.preparation.config import PrepareConfig
from dferkit.preparation.estimate import Estimate
from dferkit.preparation.run import Preparation, Work, estimate_preparation, prepare_faces
from dferkit.preparation.store import FaceStore

__all__ = [
    "Estimate",
    "FaceStore",
    "Preparation",
    "PrepareConfig",
    "Work",
    "estimate_preparation",
    "prepare_faces",
]
