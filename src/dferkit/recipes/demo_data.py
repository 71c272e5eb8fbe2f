"""The demo's clips: rendered, their faces encoded, their captions written, as files that every row reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dferkit.datasets import choose_split, read_manifest
from dferkit.encoders.box import BOX_FOLDER
from dferkit.encoders.text import TextEncoder
from dferkit.facs import AU_NAMES
from dferkit.labels import BASIC
from dferkit.recipes.demo_plan import Clock, DemoConfig, Report, benchmark_of
from dferkit.schema import Record
from dferkit.storage import write_json
from dferkit.synthetic import read_truth, render_benchmark
from dferkit.tokens.captioned import describe_all
from dferkit.tokens.dataset import (
    ClipSet,
    caption_split,
    clip_set,
    guided,
    shuffle_texts,
    shuffled_topk,
)
from dferkit.tokens.features import FeatureConfig, Features, extract_features
from dferkit.tokens.files import save_clips, save_texts


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoSide:
    """One profile's clips: the test side is what is scored."""

    folder: Path
    features: Features
    train: ClipSet
    test: ClipSet
    test_rows: np.ndarray
    test_records: tuple[Record, ...]
    num_failed: int


def prepare_side(
    out: Path, profile: str, clips: int, config: DemoConfig, workers: int, tell: Report, clock: Clock
) -> DemoSide:
    """Render, find faces, encode once, caption; the token files of every row's inputs."""
    folder = out / profile
    manifest = render_benchmark(
        benchmark_of(config, profile),
        folder / "video",
        workers=workers,
        on_progress=lambda a, b: tell(f"rendering {profile} videos", a, b, ""),
    )
    clock.lap("render")
    records = read_manifest(manifest)
    features = extract_features(
        records,
        folder / "cache",
        FeatureConfig(face="haar"),
        workers=workers,
        on_progress=lambda a, b: tell(f"faces, action units, tokens ({profile})", a, b, ""),
    )
    clock.lap("faces and tokens")
    everything = clip_set(features, BASIC)
    rows = {
        split: np.array([i for i, r in enumerate(features.records) if r.split == split]) for split in ("train", "test")
    }
    train, test = everything.take(rows["train"]), everything.take(rows["test"])
    wanted = choose_split(records, "test")
    side = DemoSide(
        folder=folder,
        features=features,
        train=train,
        test=test,
        test_rows=rows["test"],
        test_records=tuple(features.records[i] for i in rows["test"]),
        num_failed=len(wanted) - len(rows["test"]),
    )
    _write_tokens(side, profile, config)
    clock.lap("captions")
    return side


def _write_tokens(side: DemoSide, profile: str, config: DemoConfig) -> None:
    tokens = side.folder / "tokens"
    finished = tokens / "done.json"
    if finished.is_file():
        return
    encoder = TextEncoder(BOX_FOLDER / "text")
    sides = caption_split(side.train, side.test, encoder)
    sides.coarse.save(tokens / "coarse.safetensors")
    save_clips(side.train, tokens / "train.safetensors")
    save_clips(side.test, tokens / "test.safetensors")
    texts = {"box": (sides.train.tokens, sides.test.tokens)}
    if profile == "posed":
        true = [
            guided(
                describe_all(true_units(side, clips), clips.timestamps, AU_NAMES, "truth"),
                captioned,
                encoder,
                for_training=t,
            ).tokens
            for clips, captioned, t in ((side.train, sides.train, True), (side.test, sides.test, False))
        ]
        texts["true_au_captions"] = (true[0], true[1])
        texts["shuffled_captions"] = (
            tuple(shuffle_texts(sides.train.tokens, seed=config.seed)),
            tuple(shuffle_texts(sides.test.tokens, seed=config.seed)),
        )
        texts["shuffled_topk"] = tuple(
            shuffled_topk(s, encoder, seed=config.seed, for_training=t).tokens
            for s, t in ((sides.train, True), (sides.test, False))
        )  # type: ignore[assignment]
    for name, (train_texts, test_texts) in texts.items():
        save_texts(train_texts, tokens / f"{name}-train.safetensors")
        save_texts(test_texts, tokens / f"{name}-test.safetensors")
    write_json(finished, {"texts": sorted(texts), "example": sides.test.captions[0].text})


def true_units(side: DemoSide, clips: ClipSet) -> np.ndarray:
    """Rendered action-unit intensities (clips, frames, AUs)."""
    return np.stack([read_truth(side.folder / "video", Path(clip_id).stem).au for clip_id in clips.clip_ids])
