"""Text tokens and visual tokens → alignment: which word is aligned with which moving part of the face."""

from dferkit.alignment.align import ALIGNERS, AlignerConfig, build_aligner
from dferkit.alignment.aligner import Aligner
from dferkit.alignment.cost import cosine_cost
from dferkit.alignment.problem import TransportProblem
from dferkit.alignment.score import TransportScore, transport_score
from dferkit.alignment.transport import transport_plan

__all__ = [
    "ALIGNERS",
    "Aligner",
    "AlignerConfig",
    "TransportProblem",
    "TransportScore",
    "build_aligner",
    "cosine_cost",
    "transport_plan",
    "transport_score",
]
