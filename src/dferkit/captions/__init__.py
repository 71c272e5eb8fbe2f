"""Action units → words (CATE): coarse captions of all movements, then refined ones that stress the movements of likely classes."""

from dferkit.captions.describe import describe, on_video_clock
from dferkit.captions.refine import refine

__all__ = ["describe", "on_video_clock", "refine"]
