"""Annotation files → records; never opens a video."""

from dferkit.datasets.folder import choose_split, read_column, read_manifest
from dferkit.datasets.splits import check_disjoint

__all__ = ["check_disjoint", "choose_split", "read_column", "read_manifest"]
