"""One row of a table of models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from dferkit.encoders.text import TextEncoder
from dferkit.models.build import variant
from dferkit.models.grace import Grace, GraceConfig
from dferkit.schema import TextTokens
from dferkit.tokens.dataset import ClipSet
from dferkit.training.loop import TrainingConfig, predict_probabilities, train_grace


def base_config(train: ClipSet, encoder: TextEncoder, *, has_joint: bool) -> GraceConfig:
    """GRACE for these tokens; with a trained joint space the visual mass is what that has learned."""
    return GraceConfig(
        visual_dim=train.visual.shape[-1],
        text_dim=encoder.dim,
        num_frames=train.visual.shape[1],
        summary_dim=train.summary.shape[-1],
        grid=train.grid,
        areas=len(train.areas),
        labels=train.labels,
        visual_mass="learned" if has_joint else "uniform",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One trained model and its answers on the test side."""

    name: str
    model: Grace
    probabilities: np.ndarray


def train_row(
    name: str,
    train: ClipSet,
    test: ClipSet,
    texts: Sequence[TextTokens],
    test_texts: Sequence[TextTokens],
    base: GraceConfig,
    config: TrainingConfig,
    *,
    joint: Mapping[str, Tensor] | None = None,
    state: Path | None = None,
    on_progress: Callable[[int, int, float], None] | None = None,
) -> Row:
    """Train the named variant and answer the test clips."""
    model = train_grace(
        variant(name, base),
        train.visual,
        texts,
        train.target,
        summary=train.summary,
        motion=train.motion,
        config=config,
        joint=joint,
        clips=train.clips,
        state=state,
        on_progress=on_progress,
    )
    return Row(
        name=name,
        model=model,
        probabilities=predict_probabilities(model, test.visual, test_texts, summary=test.summary, motion=test.motion),
    )
