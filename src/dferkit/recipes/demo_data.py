"""The demo's clips: rendered, their faces encoded, their captions written, as files that every row reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dferkit.datasets import read_manifest
from dferkit.encoders.box import BOX_FOLDER
from dferkit.encoders.text import TextEncoder
from dferkit.facs import AU_NAMES
from dferkit.recipes.demo_plan import Clock, DemoConfig, benchmark_of
from dferkit.schema import ReportProgress
from dferkit.storage import write_json
from dferkit.synthetic import read_truth, render_benchmark
from dferkit.tokens.captioned import (
    Captioned,
    caption_other_clips,
    caption_training_clips,
    describe_clips,
    fit_guide,
    refine_all,
    shuffle_guides,
    shuffle_texts,
)
from dferkit.tokens.dataset import TokenDataset
from dferkit.tokens.features import TokenConfig, extract_features
from dferkit.tokens.files import save_dataset, save_texts


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoSide:
    """One profile's clips: the test side is what is scored."""

    folder: Path
    train: TokenDataset
    test: TokenDataset
    num_failed: int


def prepare_side(
    out: Path, profile: str, clips: int, config: DemoConfig, workers: int, report: ReportProgress, clock: Clock
) -> DemoSide:
    """Render, find faces, encode once, caption; the token files of every row's inputs."""
    folder = out / profile
    manifest = render_benchmark(
        benchmark_of(config, profile),
        folder / "video",
        workers=workers,
        on_progress=lambda a, b: report(f"rendering {profile} videos", a, b, ""),
    )
    clock.end_stage("render")
    records = read_manifest(manifest)
    everything = extract_features(
        records,
        folder / "cache",
        TokenConfig(face="haar"),
        workers=workers,
        on_progress=lambda a, b: report(f"faces, action units, tokens ({profile})", a, b, ""),
    )
    clock.end_stage("faces and tokens")
    sides = {
        split: everything.take([i for i, r in enumerate(everything.records) if r.split == split])
        for split in ("train", "test")
    }
    num_wanted = sum(record.split == "test" for record in records)
    side = DemoSide(folder=folder, train=sides["train"], test=sides["test"], num_failed=num_wanted - len(sides["test"]))
    _write_tokens(side, profile, config)
    clock.end_stage("captions")
    return side


def _write_tokens(side: DemoSide, profile: str, config: DemoConfig) -> None:
    tokens = side.folder / "tokens"
    finished = tokens / "done.json"
    if finished.is_file():
        return
    encoder, coarse = TextEncoder(BOX_FOLDER / "text"), fit_guide(side.train)
    sides = caption_training_clips(side.train, encoder), caption_other_clips(side.test, coarse, encoder)
    coarse.save(tokens / "coarse.safetensors")
    save_dataset(side.train, tokens / "train.safetensors")
    save_dataset(side.test, tokens / "test.safetensors")
    texts = {"box": (sides[0].tokens, sides[1].tokens)}
    if profile == "posed":
        true = [
            refine_all(describe_clips(_with_true_units(side, data)), captioned.guides, encoder, for_training=t).tokens
            for data, captioned, t in _both(side, sides)
        ]
        texts["true_au_captions"] = (true[0], true[1])
        shuffled = [shuffle_texts(captioned.tokens, seed=config.seed) for captioned in sides]
        texts["shuffled_captions"] = (shuffled[0], shuffled[1])
        topk = [
            shuffle_guides(captioned, encoder, seed=config.seed, for_training=t).tokens
            for _, captioned, t in _both(side, sides)
        ]
        texts["shuffled_topk"] = (topk[0], topk[1])
    for name, (train_texts, test_texts) in texts.items():
        save_texts(train_texts, tokens / f"{name}-train.safetensors")
        save_texts(test_texts, tokens / f"{name}-test.safetensors")
    write_json(finished, {"texts": sorted(texts), "example": sides[1].captions[0].text})


def _both(
    side: DemoSide, captioned: tuple[Captioned, Captioned]
) -> tuple[tuple[TokenDataset, Captioned, bool], tuple[TokenDataset, Captioned, bool]]:
    """Clips, their captions, and whether they are trained on, of both sides."""
    return (side.train, captioned[0], True), (side.test, captioned[1], False)


def _with_true_units(side: DemoSide, data: TokenDataset) -> TokenDataset:
    return replace(data, units=true_units(side, data), au_names=AU_NAMES, describer="truth")


def true_units(side: DemoSide, data: TokenDataset) -> np.ndarray:
    """Rendered action-unit intensities (clips, frames, AUs)."""
    return np.stack([read_truth(side.folder / "video", Path(clip_id).stem).au for clip_id in data.clip_ids])
