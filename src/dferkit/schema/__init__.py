"""The nouns of dferkit, in the order of the flow.

release, record → frames → face clip → action units, caption, tokens → alignment → prediction → explanation → evaluation

Conventions: images are uint8 RGB (height, width, 3), upright; boxes are (x, y, width, height) in pixels of the upright frame, origin at
the top left; times are presentation times in seconds; action-unit intensity is 0 to 1; "found" and masks are True for what counts.
NumPy on the data side, torch from the tokens on. All types are frozen: a step makes a new value, it never changes its input.
"""

from collections.abc import Callable

from dferkit.schema.answers import DeletionTest, Evaluation, Explanation, PhraseEvidence, Prediction
from dferkit.schema.captions import PARAGRAPH, ActionUnits, Caption, CoarsePrediction, Phrase
from dferkit.schema.clips import (
    ANSWERED,
    STATUSES,
    ClipStatus,
    DecodeReport,
    FaceBox,
    FaceClip,
    FaceGeometry,
    FaceQuality,
    FaceTrack,
    Finding,
    Fold,
    Frames,
    Record,
    Release,
)
from dferkit.schema.tokens import (
    Alignment,
    ModelOutput,
    TextTokens,
    TokenBatch,
    TokenShape,
    TransportPlan,
    VisualTokens,
)

ReportProgress = Callable[[str, int, int, str], None]
"""Called with (stage, done, of, note) while something long runs."""

__all__ = [
    "ANSWERED",
    "PARAGRAPH",
    "STATUSES",
    "ActionUnits",
    "Alignment",
    "Caption",
    "ClipStatus",
    "CoarsePrediction",
    "DecodeReport",
    "DeletionTest",
    "Evaluation",
    "Explanation",
    "FaceBox",
    "FaceClip",
    "FaceGeometry",
    "FaceQuality",
    "FaceTrack",
    "Finding",
    "Fold",
    "Frames",
    "ModelOutput",
    "Phrase",
    "PhraseEvidence",
    "Prediction",
    "Record",
    "Release",
    "ReportProgress",
    "TextTokens",
    "TokenBatch",
    "TokenShape",
    "TransportPlan",
    "VisualTokens",
]
