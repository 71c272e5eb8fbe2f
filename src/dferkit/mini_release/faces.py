"""Rendered faces as the media of a release: pictures and videos."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from av.video.stream import VideoStream

from dferkit.datasets.mini import MiniClip
from dferkit.labels import BASIC
from dferkit.storage import atomic_path
from dferkit.synthetic.benchmark import BenchmarkConfig, draw_identity, generator
from dferkit.synthetic.motion import draw_performance
from dferkit.synthetic.render import render_frames
from dferkit.synthetic.write import write_video

_SEED = 9000  # people who are in neither the training of the bundled model nor the benchmark
_RENDER_SIZE = 128
_FACE = (slice(18, 112), slice(18, 110))  # place of the face in a rendered picture of that size
# Classes that the generator does not act show the nearest one it does, unknown ones a neutral face: the pictures are for trying things only.
_ACTED = {"contempt": "disgust", "anxiety": "fear", "helplessness": "sadness", "disappointment": "sadness"}


def render_scene(clip: MiniClip, number: int, *, num_frames: int, seed: int) -> np.ndarray:
    """uint8 RGB (frames, 128, 128, 3) of the clip's person, who shows its class."""
    config = BenchmarkConfig(clips=1, namespace="probe", seed=_SEED + seed)
    first = clip.label.split("_")[0]
    performance = draw_performance(
        first if first in BASIC else _ACTED.get(first, "neutral"),
        frames=num_frames,
        fps=8.0,
        profile="posed",
        rng=generator(config, 1, number),
    )
    identity = draw_identity(config, clip.person)
    return render_frames(
        identity,
        performance.au,
        performance.asymmetry,
        performance.scene,
        size=_RENDER_SIZE,
        supersampling=1.0,
        noise_seed=number,
    )


def face_crops(images: np.ndarray, size: int) -> list[np.ndarray]:
    """The face alone, square."""
    return [cv2.resize(image[_FACE], (size, size), interpolation=cv2.INTER_AREA) for image in images]


def write_pictures(folder: Path, images: list[np.ndarray], names: list[str]) -> None:
    """Pictures of a clip; the suffix of the name is the format."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, images, strict=True):
        cv2.imwrite(str(folder / name), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def write_clip(path: Path, images: np.ndarray, fps: float) -> None:
    """Write a video in the container and codec of its suffix."""
    if path.suffix == ".mp4":
        write_video(path, images, fps)
        return
    codec = {".flv": "flv", ".avi": "mpeg4"}[path.suffix]
    with atomic_path(path) as temporary, av.open(str(temporary), "w", options={"fflags": "+bitexact"}) as container:
        stream = cast(VideoStream, container.add_stream(codec, rate=Fraction(fps).limit_denominator(1000)))
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 800_000
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())
