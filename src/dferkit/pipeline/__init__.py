"""The whole flow: a path → a prediction → an explanation.

video → frames → faces → action units → caption and tokens → alignment → prediction → explanation

``model`` walks it, ``head`` is the network in it, ``explanation`` asks the network again, ``results`` are the values that come out.
"""

from dferkit.pipeline.explanation import check_ranking, evidence_map, explain_answer
from dferkit.pipeline.model import Model, Settings
from dferkit.pipeline.opening import load
from dferkit.pipeline.results import Answer, Batch, ExplanationResult, Reading, Result

__all__ = [
    "Answer",
    "Batch",
    "ExplanationResult",
    "Model",
    "Reading",
    "Result",
    "Settings",
    "check_ranking",
    "evidence_map",
    "explain_answer",
    "load",
]
