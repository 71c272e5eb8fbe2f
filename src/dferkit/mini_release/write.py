"""Writing a small release: rendered media in the places, and lists in the form, that its data set describes."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dferkit.datasets import DATA_SETS, find_data_set
from dferkit.datasets.mini import SHORT_FRAMES, MiniClip, MiniConfig, MiniMedia
from dferkit.errors import ConfigError, MissingExtraError
from dferkit.mini_release.faces import face_crops, render_scene, write_clip, write_pictures
from dferkit.parallel import run_parallel

_FPS = 12.0


def write_mini_release(
    config: MiniConfig,
    root: Path | str,
    *,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a release below ``root``, which must be empty or absent. Same configuration, same bytes (but for a spreadsheet).

    Raises:
        ConfigError: The folder holds something, or the data set has no such release. MissingExtraError: Votes need an extra.
    """
    root, entry = Path(root), find_data_set(config.layout)
    if entry.mini is None:
        raise ConfigError(
            f"{entry.name} has no small release; choose {', '.join(name for name, e in DATA_SETS.items() if e.mini)}"
        )
    if config.is_full_size and not entry.has_lists:
        raise ConfigError(
            f"{entry.name} has no lists, so there is no full-size release of lists; choose {', '.join(name for name, e in DATA_SETS.items() if e.has_lists)}"
        )
    if root.is_dir() and any(root.iterdir()):
        raise ConfigError(f"{root.name}/ is not empty; give a new folder")
    if config.with_votes and importlib.util.find_spec("openpyxl") is None:
        raise MissingExtraError("writing DFEW's annotation.xlsx", "data")
    root.mkdir(parents=True, exist_ok=True)
    clips = entry.mini.plan(config)
    if not config.is_full_size:
        jobs = [(config, root, number, clip, entry.mini.media(clip)) for number, clip in enumerate(clips)]
        for done, _ in enumerate(run_parallel(_write_media, jobs, workers or os.cpu_count() or 1), 1):
            if on_progress:
                on_progress(done, len(jobs))
    if entry.mini.write_lists:
        entry.mini.write_lists(root, clips, config)
    return root


def _write_media(job: tuple[MiniConfig, Path, int, MiniClip, Sequence[MiniMedia]]) -> None:
    config, root, number, clip, media = job
    length = SHORT_FRAMES if number % 10 == 9 else config.num_frames
    images = render_scene(clip, number, num_frames=length, seed=config.seed)
    has_pictures = any(place.kind != "videos" for place in media)
    for place in media:
        if place.kind == "videos":
            if config.with_videos or not has_pictures:
                write_clip(root / place.path, images, _FPS)
            continue
        count = place.num_frames or length
        chosen = images[np.linspace(0, length - 1, count).round().astype(int)]
        pictures = face_crops(chosen, config.size) if place.kind == "faces" else list(chosen)
        write_pictures(root / place.path, pictures, [place.picture.format(place.first + i) for i in range(count)])
