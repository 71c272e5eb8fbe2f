"""Action units → words (CATE): what moved, then what of it matters."""

from dferkit.captions.describe import describe
from dferkit.captions.refine import refine

__all__ = ["describe", "refine"]
