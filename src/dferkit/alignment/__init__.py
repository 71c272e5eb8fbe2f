"""Text tokens and visual tokens → alignment: which word meets which moving part of the face."""

from dferkit.alignment.align import Aligner, AlignerConfig, build_aligner
from dferkit.alignment.cost import cosine_cost
from dferkit.alignment.score import TransportScore, transport_score
from dferkit.alignment.transport import transport_plan

__all__ = [
    "Aligner",
    "AlignerConfig",
    "TransportScore",
    "build_aligner",
    "cosine_cost",
    "transport_plan",
    "transport_score",
]
