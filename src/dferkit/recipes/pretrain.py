"""``dferkit pretrain``: train the bundled model again, or a small CLIP. The result of every stage is kept, so the same command resumes."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dferkit.checks import check_choices, check_counts, check_range
from dferkit.encoders.box import BOX_FOLDER, WEIGHTS, BoxEncoder
from dferkit.encoders.landmarks import WEIGHTS as LANDMARK_WEIGHTS
from dferkit.encoders.network_files import save_network
from dferkit.pretraining.clip import ClipPretrainingConfig, pretrain_clip
from dferkit.pretraining.heads import HeadConfig
from dferkit.pretraining.landmarks import LANDMARK_TRAINING, pretrain_landmarks
from dferkit.pretraining.loop import Progress
from dferkit.pretraining.network import NetworkTrainingConfig
from dferkit.pretraining.render import render_shards
from dferkit.pretraining.rendered_faces import RenderedFaces, read_shards
from dferkit.pretraining.text import TextPretrainingConfig, pretrain_text_encoder
from dferkit.pretraining.video import FINE_TUNING, VISUAL_TRAINING, pretrain_visual
from dferkit.recipes.box_heads import HeadFaces, build_heads
from dferkit.recipes.provenance import claim_run
from dferkit.schema import ReportProgress
from dferkit.storage import write_json
from dferkit.synthetic import BenchmarkConfig, Profile

DEFAULT_STEPS: dict[str, int] = {"none": VISUAL_TRAINING.steps, "box": FINE_TUNING.steps}
_LARGE = 208  # pixels: a landmarker needs larger faces than the video network does
_FEWEST = 384  # clips; with fewer, people are too few to hold some out


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainConfig:
    """Size of every stage. Large clips have frames of 208 pixels, all others of 112, as in the benchmark.

    Attributes:
        varied_clips, large_clips: Rendered clips of the training profile for both networks.
        benchmark_clips: Further clips of the benchmark's profiles for both networks, half posed, half natural.
        head_varied_clips, head_large_clips, head_benchmark_clips: Clips of other people for the heads. The networks were not trained on them,
            so the heads are trained on tokens of the quality that they get in use.
        held_clips, held_large_clips: Clips with looks that no training clip has; a fifth is for calibration, the others for measuring.
        measure_clips: Clips of the benchmark itself for measuring, half posed, half natural; the same number again is large.
        start: Initial weights of the video network: ``none`` for random ones, ``box`` for those of the installed model.
        visual_steps, landmark_steps, text_steps: Training steps. head_epochs: Epochs of the GRACE heads.
    """

    varied_clips: int = 2880
    large_clips: int = 2400
    benchmark_clips: int = 4000
    head_varied_clips: int = 960
    head_large_clips: int = 480
    head_benchmark_clips: int = 3000
    held_clips: int = 2640
    held_large_clips: int = 960
    measure_clips: int = 720
    start: str = "none"
    visual_steps: int = VISUAL_TRAINING.steps
    landmark_steps: int = LANDMARK_TRAINING.steps
    text_steps: int = 1200
    head_epochs: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        check_range(self, *(name for name in self.__slots__ if name.endswith("_clips")), least=_FEWEST)
        check_choices(self, {"start": DEFAULT_STEPS})
        check_counts(self, "visual_steps", "landmark_steps", "text_steps", "head_epochs")
        check_range(self, "seed", least=0)


def face_sets(config: PretrainConfig) -> dict[str, tuple[BenchmarkConfig, ...]]:
    """The clips to render for each purpose. Training faces have their own namespace, apart from every benchmark."""
    first = 1000 + 100 * config.seed

    def varied(clips: int, number: int, settings: str = "seen", size: int = 112) -> BenchmarkConfig:
        return BenchmarkConfig(
            clips=clips, profile="varied", namespace="pretrain", seed=first + number, settings=settings, size=size
        )

    def benchmark(clips: int, *seeds: int, size: int = 112, namespace: str = "pretrain") -> tuple[BenchmarkConfig, ...]:
        profiles: tuple[Profile, ...] = ("posed", "natural")
        return tuple(
            BenchmarkConfig(clips=clips // 2, profile=profile, namespace=namespace, seed=first + seed, size=size)
            for profile, seed in zip(profiles, seeds, strict=True)
        )

    return {
        "network": (
            varied(config.varied_clips, 10),
            *benchmark(config.benchmark_clips, 11, 12),
            varied(config.large_clips, 13, size=_LARGE),
        ),
        "heads": (
            varied(config.head_varied_clips, 20),
            *benchmark(config.head_benchmark_clips, 21, 22),
            varied(config.head_large_clips, 23, size=_LARGE),
        ),
        "held": (
            varied(config.held_clips, 30, "held_back"),
            varied(config.held_large_clips, 31, "held_back", _LARGE),
        ),
        "measure": benchmark(config.measure_clips, 40, 40, namespace="benchmark"),
        "measure_large": benchmark(config.measure_clips, 40, 40, size=_LARGE, namespace="benchmark"),
    }


def pretrain(
    out: Path | str,
    config: PretrainConfig | None = None,
    *,
    landmarker: Path | str,
    workers: int | None = None,
    device: str = "cpu",
    on_progress: ReportProgress | None = None,
) -> Path:
    """Render, train and measure the bundled model.

    Args:
        out: Gets ``box/`` (the files to ship) and ``work/`` (intermediate files, about 420 kB a clip).
        landmarker: Task file of the face landmarker.
        on_progress: Called with (stage, done, of, note).

    Returns:
        Path of the finished folder ``box/``.

    Raises:
        ConfigError: The folder holds a pretraining with other settings.
    """
    config, out = config or PretrainConfig(), Path(out)
    workers = workers or os.cpu_count() or 1
    claim_run(out, asdict(config), marker="pretrain.json")
    report = on_progress or _ignore
    work, box = out / "work", out / "box"

    def rendered(name: str) -> RenderedFaces:
        progress = _stage(report, f"faces, {name}")
        paths = render_shards(
            work / name,
            face_sets(config)[name],
            landmarker=landmarker,
            workers=workers,
            on_progress=lambda done, of: progress(done, of, ""),
        )
        return read_shards(paths)

    if not ((box / WEIGHTS).is_file() and (box / LANDMARK_WEIGHTS).is_file()):
        _train_networks(rendered("network"), out, config, workers, device, report)
    if not (box / "text" / "model.safetensors").is_file():
        text = TextPretrainingConfig(seed=config.seed, steps=config.text_steps, threads=workers)
        metrics = pretrain_text_encoder(box / "text", text, device=device, on_progress=_stage(report, "text encoder"))
        write_json(work / "text.json", metrics)
    faces = HeadFaces(
        train=rendered("heads"),
        held=rendered("held"),
        measure=rendered("measure"),
        measure_large=rendered("measure_large"),
    )
    heads = HeadConfig(epochs=config.head_epochs, seed=config.seed)
    build_heads(faces, box, work, heads, device=device, on_progress=report)
    return box


def pretrain_small_clip(
    out: Path | str,
    config: PretrainConfig | None = None,
    clip: ClipPretrainingConfig | None = None,
    *,
    workers: int | None = None,
    device: str = "cpu",
    on_progress: ReportProgress | None = None,
) -> tuple[Path, dict[str, float]]:
    """Render the faces that the bundled networks are trained on (without landmarks) and train a small CLIP on them.

    Returns:
        ``clip/`` in the folder, and the UAR of a linear probe on its frame features by profile.
    """
    config, out = config or PretrainConfig(), Path(out)
    claim_run(out, asdict(config), marker="pretrain_clip.json")
    report = on_progress or _ignore
    paths = render_shards(
        out / "work" / "clip_faces",
        face_sets(config)["network"],
        landmarker=None,
        workers=workers or os.cpu_count() or 1,
        on_progress=lambda done, of: report("faces, network", done, of, ""),
    )
    figures = pretrain_clip(
        read_shards(paths),
        out / "clip",
        out / "work" / "clip",
        clip,
        device=device,
        on_progress=_stage(report, "small CLIP"),
    )
    return out / "clip", figures


def _ignore(stage: str, done: int, of: int, note: str) -> None:
    """No report."""


def _stage(report: ReportProgress, stage: str) -> Progress:
    """Reports of one stage."""
    return lambda done, of, note: report(stage, done, of, note)


def _train_networks(
    data: RenderedFaces, out: Path, config: PretrainConfig, workers: int, device: str, report: ReportProgress
) -> None:
    work, box = out / "work", out / "box"
    visual = VISUAL_TRAINING if config.start == "none" else FINE_TUNING
    visual = replace(visual, steps=config.visual_steps, seed=config.seed, threads=workers)
    landmarks = replace(LANDMARK_TRAINING, steps=config.landmark_steps, seed=config.seed, threads=workers)
    if not (box / LANDMARK_WEIGHTS).is_file():
        net = pretrain_landmarks(
            data, work / "landmarks", landmarks, device=device, on_progress=_stage(report, "landmark network")
        )
        save_network(net, box / LANDMARK_WEIGHTS)
        _record(work, "landmarks", landmarks, len(data))
    if not (box / WEIGHTS).is_file():
        start = None if config.start == "none" else BoxEncoder(BOX_FOLDER).net
        video = pretrain_visual(
            data, work / "visual", visual, start=start, device=device, on_progress=_stage(report, "video network")
        )
        save_network(video, box / WEIGHTS)
        _record(work, "visual", visual, len(data), start=config.start)


def _record(work: Path, name: str, config: NetworkTrainingConfig, clips: int, **more: str) -> None:
    """Write the settings of a network's training, which the card repeats."""
    write_json(work / f"{name}.json", {"clips": clips, **asdict(config), **more})
