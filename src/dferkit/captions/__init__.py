"""Action units → words (CATE): coarse captions of all movements, then fine ones that stress what matters."""

from dferkit.captions.describe import describe
from dferkit.captions.refine import refine

__all__ = ["describe", "refine"]
