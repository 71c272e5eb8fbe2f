"""``dferkit pretrain``: rebuild the box from nothing. Every stage is kept, so the same command resumes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from dferkit.encoders.box import WEIGHTS, save_box_net
from dferkit.errors import ConfigError
from dferkit.storage import read_json, write_json
from dferkit.synthetic.benchmark import BenchmarkConfig
from dferkit.training.face_shards import read_shards, render_shards
from dferkit.training.text_pretraining import pretrain_text_encoder
from dferkit.training.visual_pretraining import VisualPretrainingConfig, measure, pretrain_visual, split_subjects

Report = Callable[[str, int, int, str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainConfig:
    """Size of every stage.

    Attributes:
        clips: Rendered clips for the video network, half posed, half natural.
        head_clips: Further clips, of further people, for the heads and the card: the network has not seen them, so its tokens are
            as good there as they will be in use.
        visual_steps, text_steps: Training steps. head_epochs: Epochs of the GRACE head.
    """

    clips: int = 5760
    head_clips: int = 1920
    visual_steps: int = 13700
    text_steps: int = 1200
    head_epochs: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("clips", "head_clips"):
            if getattr(self, name) < 384:
                raise ConfigError(
                    f"{name} is {getattr(self, name)}; give at least 384, or people are too few to hold some out"
                )


def face_config(config: PretrainConfig, *, for_heads: bool) -> BenchmarkConfig:
    """Identities and draws of the pretraining faces: a namespace of their own, apart from every benchmark."""
    clips = config.head_clips if for_heads else config.clips
    return BenchmarkConfig(clips=clips, namespace="pretrain", seed=2 * config.seed + (2 if for_heads else 1))


def pretrain(
    out: Path | str,
    config: PretrainConfig | None = None,
    *,
    workers: int | None = None,
    on_progress: Report | None = None,
) -> Path:
    """Render, train and measure the box.

    Args:
        out: Gets ``box/`` (what is shipped) and ``work/`` (intermediate files, about 310 kB a clip).
        on_progress: Called with (stage, done, of, note).

    Returns:
        Path of the finished box folder.
    """
    from dferkit.recipes.box_heads import build_heads

    config, out = config or PretrainConfig(), Path(out)
    workers = workers or os.cpu_count() or 1
    _claim(out, config)
    tell = on_progress or (lambda stage, done, of, note: None)
    work, box = out / "work", out / "box"
    faces = render_shards(
        work / "faces",
        face_config(config, for_heads=False),
        workers=workers,
        on_progress=lambda a, b: tell("faces", a, b, ""),
    )
    if not (box / WEIGHTS).is_file():
        data = read_shards(faces)
        settings = VisualPretrainingConfig(steps=config.visual_steps, seed=config.seed, threads=workers)
        net = pretrain_visual(
            data, work / "visual", config=settings, on_progress=lambda a, b, note: tell("video network", a, b, note)
        )
        write_json(
            work / "visual.json",
            {
                "unseen_people": measure(net, data, split_subjects(data)[1]),
                "clips": len(data.label),
                **asdict(settings),
            },
        )
        save_box_net(net, box)
        del data
    if not (box / "text" / "model.safetensors").is_file():
        metrics = pretrain_text_encoder(
            box / "text",
            seed=config.seed,
            steps=config.text_steps,
            threads=workers,
            progress=lambda a, b, loss: tell("text encoder", a, b, f"loss {loss:.3f}"),
        )
        write_json(work / "text.json", metrics)
    heads = render_shards(
        work / "head-faces",
        face_config(config, for_heads=True),
        workers=workers,
        on_progress=lambda a, b: tell("faces for the heads", a, b, ""),
    )
    build_heads(heads, box, work, config, workers=workers, on_progress=tell)
    return box


def _claim(out: Path, config: PretrainConfig) -> None:
    marker = out / "pretrain.json"
    if marker.is_file() and read_json(marker) != asdict(config):
        raise ConfigError(
            f"{out.name}/ holds a pretraining with other settings; use them again, or give an empty folder"
        )
    write_json(marker, asdict(config))
