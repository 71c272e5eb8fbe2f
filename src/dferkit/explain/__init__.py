"""Why: which words met which parts of the face, and whether that is what the model used."""

from dferkit.explain.evidence import (
    ALIGNMENT_COLUMNS,
    REGION_SOURCE,
    REGIONS,
    alignment_table,
    merge_pieces,
    phrase_of,
    region_grid,
    region_shares,
    transport_maps,
)
from dferkit.explain.faithfulness import deletion_test, summarise_deletion, word_occlusion

__all__ = [
    "ALIGNMENT_COLUMNS",
    "REGIONS",
    "REGION_SOURCE",
    "alignment_table",
    "deletion_test",
    "merge_pieces",
    "phrase_of",
    "region_grid",
    "region_shares",
    "summarise_deletion",
    "transport_maps",
    "word_occlusion",
]
