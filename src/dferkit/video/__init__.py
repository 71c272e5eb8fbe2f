"""Video file or folder of pictures → frames: index the file, choose the sampling times, decode upright pictures."""

from dferkit.video.container import Limits, display_name, printable
from dferkit.video.decode import decode_windows
from dferkit.video.frame_folder import FrameFolder, index_frame_folder
from dferkit.video.index import VideoIndex, index_video
from dferkit.video.match import match_video, path_end
from dferkit.video.orientation import Orientation
from dferkit.video.sampling import Window, clip_window, plan_windows, spread_window
from dferkit.video.source import decode_source, digest_source, find_videos, index_source

__all__ = [
    "FrameFolder",
    "Limits",
    "Orientation",
    "VideoIndex",
    "Window",
    "clip_window",
    "decode_source",
    "decode_windows",
    "digest_source",
    "display_name",
    "find_videos",
    "index_frame_folder",
    "index_source",
    "index_video",
    "match_video",
    "path_end",
    "plan_windows",
    "printable",
    "spread_window",
]
