"""Explanations: which words were aligned with which parts of the face, and tests of whether the model used them."""

from dferkit.explain.evidence import (
    ALIGNMENT_COLUMNS,
    MEASURED,
    OUTSIDE,
    REGION_SOURCE,
    REGIONS,
    alignment_table,
    measured_regions,
    merge_pieces,
    on_grid,
    phrase_of,
    region_grid,
    region_shares,
    transport_maps,
)
from dferkit.explain.faithfulness import deletion_test, summarise_deletion, word_occlusion

__all__ = [
    "ALIGNMENT_COLUMNS",
    "MEASURED",
    "OUTSIDE",
    "REGIONS",
    "REGION_SOURCE",
    "alignment_table",
    "deletion_test",
    "measured_regions",
    "merge_pieces",
    "on_grid",
    "phrase_of",
    "region_grid",
    "region_shares",
    "summarise_deletion",
    "transport_maps",
    "word_occlusion",
]
