"""What other tools measured of a video → action units and class probabilities in our own terms."""

from dferkit.readings.class_tables import ClassTables
from dferkit.readings.onnx_frames import OnnxConfig, OnnxFrames
from dferkit.readings.outside import NOTHING, Guide, Outside, open_classifier, open_units, read_outside
from dferkit.readings.unit_tables import UnitCurves, UnitTables

__all__ = [
    "NOTHING",
    "ClassTables",
    "Guide",
    "OnnxConfig",
    "OnnxFrames",
    "Outside",
    "UnitCurves",
    "UnitTables",
    "open_classifier",
    "open_units",
    "read_outside",
]
