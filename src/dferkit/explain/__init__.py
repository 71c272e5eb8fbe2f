"""Explanations: which words were aligned with which parts of the face, and tests of whether the model used them."""

from dferkit.explain.evidence import (
    ALIGNMENT_COLUMNS,
    MEASURED,
    OUTSIDE,
    PHRASE_COLUMNS,
    REGION_SOURCE,
    REGIONS,
    alignment_table,
    measured_regions,
    merge_pieces,
    on_grid,
    phrase_of,
    phrase_table,
    region_grid,
    region_shares,
    supporting_cells,
    transport_maps,
)
from dferkit.explain.faithfulness import deletion_test, occlusion, summarise_deletion

__all__ = [
    "ALIGNMENT_COLUMNS",
    "MEASURED",
    "OUTSIDE",
    "PHRASE_COLUMNS",
    "REGIONS",
    "REGION_SOURCE",
    "alignment_table",
    "deletion_test",
    "measured_regions",
    "merge_pieces",
    "occlusion",
    "on_grid",
    "phrase_of",
    "phrase_table",
    "region_grid",
    "region_shares",
    "summarise_deletion",
    "supporting_cells",
    "transport_maps",
]
