"""Annotation files → records and releases; never opens a video."""

from dferkit.datasets.data_set import DataSet, Options, Source
from dferkit.datasets.findings import require_sound
from dferkit.datasets.folder import read_manifest
from dferkit.datasets.groups import with_groups
from dferkit.datasets.protocol import check_disjoint
from dferkit.datasets.registry import DATA_SETS, find_data_set, read_release

__all__ = [
    "DATA_SETS",
    "DataSet",
    "Options",
    "Source",
    "check_disjoint",
    "find_data_set",
    "read_manifest",
    "read_release",
    "require_sound",
    "with_groups",
]
