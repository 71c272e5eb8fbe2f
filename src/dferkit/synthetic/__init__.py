"""The embedded benchmark: procedural faces as real video files, with known truth."""

from dferkit.synthetic.benchmark import BenchmarkConfig, ClipPlan, describe_config, fingerprint, plan_clips
from dferkit.synthetic.motion import Nuisances, Performance, Profile, draw_performance
from dferkit.synthetic.write import Truth, read_truth, render_benchmark, write_video

__all__ = [
    "BenchmarkConfig",
    "ClipPlan",
    "Nuisances",
    "Performance",
    "Profile",
    "Truth",
    "describe_config",
    "draw_performance",
    "fingerprint",
    "plan_clips",
    "read_truth",
    "render_benchmark",
    "write_video",
]
