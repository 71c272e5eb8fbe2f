"""The phase before a training in which the joint space learns from the captions, for tokens and words that have no common space yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from dferkit.models.caption_matching import CaptionMatcher
from dferkit.models.word_alignment import AlignmentConfig
from dferkit.tokens.dataset import TokenDataset
from dferkit.training.loop import TrainingConfig, train_steps


def learn_space(
    model: Any,
    data: TokenDataset,
    config: TrainingConfig,
    *,
    device: str,
    state: Path | None = None,
    on_progress: Callable[[int, int, float], None] | None = None,
) -> None:
    """Train the joint space of a model of the family ``grace`` on the captions of the clips, in place; classes are not read.

    Args:
        state: Folder for the state from which an interrupted phase resumes. on_progress: Called with (epoch, epochs, mean loss).
    """
    same = {f.name: getattr(model.config, f.name) for f in fields(AlignmentConfig)}
    if same["text"] == "tokens":
        same["text"] = "phrases"  # words have the same projection, and all pairs of a batch need a tenth of the memory
    torch.manual_seed(config.seed)
    matcher = CaptionMatcher(AlignmentConfig(**same))
    matcher.space.load_state_dict(model.space.state_dict())
    trained = train_steps(matcher.to(device), data, config, state=state, on_progress=on_progress)
    model.space.load_state_dict(trained.space.state_dict())
