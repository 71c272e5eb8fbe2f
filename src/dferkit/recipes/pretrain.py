"""``dferkit pretrain``: rebuild the box from nothing. Every stage is kept, so the same command resumes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dferkit.encoders.box import BOX_FOLDER, WEIGHTS, BoxEncoder, save_box_net
from dferkit.encoders.landmarks import WEIGHTS as LANDMARK_WEIGHTS
from dferkit.encoders.landmarks import save_landmark_net
from dferkit.errors import ConfigError
from dferkit.storage import read_json, write_json
from dferkit.synthetic import BenchmarkConfig, Profile
from dferkit.training.face_shards import FaceShard, join_shards, read_shards, render_shards
from dferkit.training.landmark_pretraining import LANDMARK_TRAINING, pretrain_landmarks
from dferkit.training.network_loop import NetworkTrainingConfig
from dferkit.training.text_pretraining import pretrain_text_encoder
from dferkit.training.visual_pretraining import FINE_TUNING, VISUAL_TRAINING, pretrain_visual

Report = Callable[[str, int, int, str], None]
DEFAULT_STEPS = {"none": VISUAL_TRAINING.steps, "box": FINE_TUNING.steps}
_LARGE = 208  # pixels: a landmarker needs larger faces than the video network does


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainConfig:
    """Size of every stage.

    Attributes:
        clips: Rendered clips for both networks: three fifths of the training profile, one fifth of each of the benchmark's.
        large_clips: Clips of the training profile with large faces, for the landmark network only.
        head_clips: Further clips, of further people, for the heads: the networks have not seen them, so their tokens are
            as good there as they will be in use. large_head_clips: The same with large faces.
        held_clips: Clips with looks that no training clip has; a fifth calibrates, the others measure.
        measure_clips: Clips of the benchmark itself, half posed, half natural, that measure.
        start: ``none``: the video network begins with random weights; ``box``: with those of the installed box.
        visual_steps, landmark_steps, text_steps: Training steps. head_epochs: Epochs of the GRACE heads.
    """

    clips: int = 4800
    large_clips: int = 2400
    head_clips: int = 1728
    large_head_clips: int = 480
    held_clips: int = 2640
    measure_clips: int = 720
    start: str = "none"
    visual_steps: int = VISUAL_TRAINING.steps
    landmark_steps: int = LANDMARK_TRAINING.steps
    text_steps: int = 1200
    head_epochs: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "clips",
            "large_clips",
            "head_clips",
            "large_head_clips",
            "held_clips",
            "measure_clips",
        ):
            if getattr(self, name) < 384:
                raise ConfigError(
                    f"{name} is {getattr(self, name)}; give at least 384, or people are too few to hold some out"
                )
        if self.start not in ("none", "box"):
            raise ConfigError(f"start is {self.start!r}; choose none or box")


def face_sets(config: PretrainConfig) -> dict[str, tuple[BenchmarkConfig, ...]]:
    """What is rendered for each purpose. Training faces have a namespace of their own, apart from every benchmark."""
    first = 1000 + 100 * config.seed

    def faces(clips: int, profile: Profile, number: int, settings: str = "any", size: int = 112) -> BenchmarkConfig:
        return BenchmarkConfig(
            clips=clips, profile=profile, namespace="pretrain", seed=first + number, settings=settings, size=size
        )

    fifth, ninth = config.clips // 5, config.head_clips // 9
    half = config.measure_clips // 2
    return {
        "network": (
            faces(3 * fifth, "varied", 10, "seen"),
            faces(fifth, "posed", 11),
            faces(fifth, "natural", 12),
        ),
        "large": (faces(config.large_clips, "varied", 13, "seen", _LARGE),),
        "heads": (
            faces(5 * ninth, "varied", 20, "seen"),
            faces(2 * ninth, "posed", 21),
            faces(2 * ninth, "natural", 22),
            faces(config.large_head_clips, "varied", 23, "seen", _LARGE),
        ),
        "held": (faces(config.held_clips, "varied", 30, "held_back"),),
        "measure": (
            BenchmarkConfig(clips=half, profile="posed", seed=first + 40),
            BenchmarkConfig(clips=half, profile="natural", seed=first + 40),
        ),
    }


def pretrain(
    out: Path | str,
    config: PretrainConfig | None = None,
    *,
    landmarker: Path | str,
    workers: int | None = None,
    on_progress: Report | None = None,
) -> Path:
    """Render, train and measure the box.

    Args:
        out: Gets ``box/`` (what is shipped) and ``work/`` (intermediate files, about 420 kB a clip).
        landmarker: Task file of the face landmarker.
        on_progress: Called with (stage, done, of, note).

    Returns:
        Path of the finished box folder.
    """
    from dferkit.recipes.box_heads import HeadFaces, build_heads

    config, out = config or PretrainConfig(), Path(out)
    workers = workers or os.cpu_count() or 1
    _claim(out, config)
    tell = on_progress or (lambda stage, done, of, note: None)
    work, box = out / "work", out / "box"

    def rendered(name: str) -> FaceShard:
        return read_shards(
            render_shards(
                work / name,
                face_sets(config)[name],
                landmarker=landmarker,
                workers=workers,
                on_progress=lambda a, b: tell(f"faces, {name}", a, b, ""),
            )
        )

    if not ((box / WEIGHTS).is_file() and (box / LANDMARK_WEIGHTS).is_file()):
        _train_networks(rendered("network"), lambda: rendered("large"), box, work, config, workers, tell)
    if not (box / "text" / "model.safetensors").is_file():
        metrics = pretrain_text_encoder(
            box / "text",
            seed=config.seed,
            steps=config.text_steps,
            threads=workers,
            progress=lambda a, b, loss: tell("text encoder", a, b, f"loss {loss:.3f}"),
        )
        write_json(work / "text.json", metrics)
    faces = HeadFaces(train=rendered("heads"), held=rendered("held"), measure=rendered("measure"))
    build_heads(faces, box, work, config, on_progress=tell)
    return box


def _train_networks(
    data: FaceShard,
    large: Callable[[], FaceShard],
    box: Path,
    work: Path,
    config: PretrainConfig,
    workers: int,
    tell: Report,
) -> None:
    def said(stage: str) -> Callable[[int, int, str], None]:
        return lambda a, b, note: tell(stage, a, b, note)

    visual = VISUAL_TRAINING if config.start == "none" else FINE_TUNING
    visual = replace(visual, steps=config.visual_steps, seed=config.seed, threads=workers)
    landmarks = replace(LANDMARK_TRAINING, steps=config.landmark_steps, seed=config.seed, threads=workers)
    if not (box / LANDMARK_WEIGHTS).is_file():
        faces = join_shards([data, large()])
        net = pretrain_landmarks(faces, work / "landmarks", config=landmarks, on_progress=said("landmark network"))
        save_landmark_net(net, box)
        _note(work, "landmarks", landmarks, len(faces.label))
    if not (box / WEIGHTS).is_file():
        start = BoxEncoder(BOX_FOLDER).net if config.start == "box" else None
        video = pretrain_visual(data, work / "visual", config=visual, start=start, on_progress=said("video network"))
        save_box_net(video, box)
        _note(work, "visual", visual, len(data.label), start=config.start)


def _note(work: Path, name: str, settings: NetworkTrainingConfig, clips: int, **more: str) -> None:
    write_json(work / f"{name}.json", {"clips": clips, **asdict(settings), **more})


def _claim(out: Path, config: PretrainConfig) -> None:
    marker = out / "pretrain.json"
    if marker.is_file() and read_json(marker) != asdict(config):
        raise ConfigError(
            f"{out.name}/ holds a pretraining with other settings; use them again, or give an empty folder"
        )
    write_json(marker, asdict(config))
