"""Annotation files → records and releases; never opens a video."""

from dferkit.datasets.assemble import Options
from dferkit.datasets.findings import require_sound
from dferkit.datasets.folder import read_manifest
from dferkit.datasets.groups import with_groups
from dferkit.datasets.layouts import LAYOUTS, layout_name, read_release
from dferkit.datasets.protocol import check_disjoint, choose_split

__all__ = [
    "LAYOUTS",
    "Options",
    "check_disjoint",
    "choose_split",
    "layout_name",
    "read_manifest",
    "read_release",
    "require_sound",
    "with_groups",
]
