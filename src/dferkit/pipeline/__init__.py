"""The whole flow: a path → a prediction → an explanation.

video → frames → faces → action units → caption and tokens → alignment → prediction → explanation

Read ``model`` (a path), ``answering`` (a window), ``reading`` (a face clip) and ``head`` (a network) in this order; then
``results``, and ``explanation``, which runs the network again on changed clips.
"""

from dferkit.pipeline.explanation import check_ranking, check_tokens_ranking, evidence_map, explain_answer
from dferkit.pipeline.loading import load
from dferkit.pipeline.model import Model
from dferkit.pipeline.reading import Reading
from dferkit.pipeline.results import Answer, ExplanationResult, PersonResult, Result, Results
from dferkit.pipeline.settings import ReadingSettings

__all__ = [
    "Answer",
    "ExplanationResult",
    "Model",
    "PersonResult",
    "Reading",
    "ReadingSettings",
    "Result",
    "Results",
    "check_ranking",
    "check_tokens_ranking",
    "evidence_map",
    "explain_answer",
    "load",
]
