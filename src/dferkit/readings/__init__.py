"""What other tools measured in a video → action units and class probabilities as dferkit has them."""

from dferkit.readings.class_tables import ClassTables
from dferkit.readings.external import ExternalReadings, ExternalTools, Guide, open_classifier, open_units
from dferkit.readings.onnx_frames import OnnxConfig, OnnxFrames
from dferkit.readings.unit_tables import UnitCurves, UnitTables

__all__ = [
    "ClassTables",
    "ExternalReadings",
    "ExternalTools",
    "Guide",
    "OnnxConfig",
    "OnnxFrames",
    "UnitCurves",
    "UnitTables",
    "open_classifier",
    "open_units",
]
