"""Video file → frames: what is in it, which moments to look at, and the upright pictures of those moments."""

from dferkit.video.container import Limits
from dferkit.video.decode import decode_windows
from dferkit.video.index import VideoIndex, index_video
from dferkit.video.orientation import Orientation
from dferkit.video.sampling import Window, clip_window, plan_windows

__all__ = [
    "Limits",
    "Orientation",
    "VideoIndex",
    "Window",
    "clip_window",
    "decode_windows",
    "index_video",
    "plan_windows",
]
