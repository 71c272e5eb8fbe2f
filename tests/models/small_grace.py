"""A small GRACE and tokens for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dferkit.labels import BASIC
from dferkit.models.grace import Grace, GraceConfig
from dferkit.models.grace_fused import FusedConfig, GraceFused
from dferkit.schema import Record, TextTokens
from dferkit.tokens.dataset import TokenDataset, subjects_of

SMALL = GraceConfig(visual_dim=16, text_dim=12, num_frames=4, grid=(3, 3), dim=24, num_queries=5)
SMALL_FUSED = FusedConfig(visual_dim=16, text_dim=12, num_frames=4, grid=(3, 3), dim=24, num_queries=5)


def small_model(seed: int = 0, **changes: object) -> Grace:
    """GRACE in evaluation mode with reproducible weights."""
    torch.manual_seed(seed)
    model = Grace(replace(SMALL, **changes))
    with torch.no_grad():  # as after training: place and time count
        model.found_place.normal_(std=0.3)
        model.found_time.normal_(std=0.3)
        model.bias.normal_()
    return model.eval()


def small_fused(seed: int = 0, **changes: object) -> GraceFused:
    """GRACE with fusion in evaluation mode with reproducible weights."""
    torch.manual_seed(seed)
    return GraceFused(replace(SMALL_FUSED, **changes)).eval()


def tokens(clips: int = 3, words: int = 6, seed: int = 0) -> dict[str, Tensor]:
    """Fields of a ``TokenBatch``: the first clip has all words, the next ones fewer."""
    rng = torch.Generator().manual_seed(seed)
    mask = torch.ones(clips, words, dtype=torch.bool)
    for clip in range(1, clips):
        mask[clip, words - min(clip, words - 1) :] = False
    motion = torch.rand(clips, SMALL.num_frames, 9, generator=torch.Generator().manual_seed(seed + 1)) + 0.1
    return {
        "motion": motion / motion.mean((1, 2), keepdim=True),
        "visual": torch.randn(clips, SMALL.num_frames, 9, SMALL.visual_dim, generator=rng),
        "text": torch.randn(clips, words, SMALL.text_dim, generator=rng) * mask[..., None],
        "text_mask": mask,
        "sentence": torch.randn(clips, SMALL.text_dim, generator=rng),
        "phrases": torch.tensor([0, 0, -1, 1, 1, 1])[torch.arange(words) % 6].repeat(clips, 1),
    }


def labelled_clips(clips: int = 42, seed: int = 0) -> tuple[Tensor, list[TextTokens], np.ndarray]:
    """Clips whose class can be learned from the video and from the words: one direction per class in both."""
    rng = torch.Generator().manual_seed(seed)
    target = np.arange(clips) % len(BASIC)
    of_class = torch.randn(len(BASIC), SMALL.visual_dim, generator=rng), torch.randn(len(BASIC), 12, generator=rng)
    visual = torch.randn(clips, SMALL.num_frames, 9, SMALL.visual_dim, generator=rng) * 0.5
    visual[:, 1:] += of_class[0][target][:, None, None]
    texts = []
    for clip in range(clips):
        count = 3 + clip % 4
        values = torch.randn(count, 12, generator=rng) * 0.5 + of_class[1][target[clip]]
        pieces = tuple(f"w{i}" for i in range(count))
        spans = tuple((3 * i, 3 * i + 2) for i in range(count))
        texts.append(TextTokens(values=values, sentence=values.mean(0), pieces=pieces, spans=spans, encoder="test"))
    return visual.half(), texts, target


def dataset(
    visual: Tensor, texts: Sequence[TextTokens], target: np.ndarray, clips: np.ndarray | None = None
) -> TokenDataset:
    """A data set of these rows; ``clips`` numbers the clip that each row is a view of."""
    count = len(target)
    numbers = np.arange(count) if clips is None else clips
    records = tuple(
        Record(clip_id=f"clip {number}", video=Path(), label=BASIC[label], subject=f"person {number % 6}")
        for number, label in zip(numbers, target, strict=True)
    )
    units = np.random.default_rng(0).random((count, 8, 3)) * 0.1
    units[np.arange(count), :, np.asarray(target) % 3] += np.asarray(target)[:, None] / 10
    return TokenDataset(
        records=records,
        labels=BASIC,
        target=np.asarray(target, dtype=np.int64),
        groups=subjects_of(records),
        visual=visual,
        texts=tuple(texts),
        units=units.astype(np.float32),
        timestamps=np.tile(np.arange(8) / 8, (count, 1)),
        view=np.zeros(count, np.int64),
        grid=(3, 3),
    )


def labelled(clips: int = 42, seed: int = 0) -> TokenDataset:
    """``labelled_clips`` as a data set."""
    return dataset(*labelled_clips(clips, seed))
