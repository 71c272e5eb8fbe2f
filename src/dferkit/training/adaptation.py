"""Adapting a trained GRACE to a few dozen clips: from its weights, with a small learning rate, and held close to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from dferkit.errors import ConfigError
from dferkit.models.grace import Grace
from dferkit.schema import TextTokens
from dferkit.tokens.rows import TokenRows
from dferkit.training.loop import StartingPoint, TrainingConfig, train_grace


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptationConfig:
    """The budget of an adaptation; the defaults were measured (``docs/how-to/train-on-your-clips.md``).

    Attributes:
        epochs: Passes over the clips, 0 or more; 0 leaves the weights as they are.
        pull: How strongly the starting weights hold (``StartingPoint``), 0 or more. It takes the place of weight decay: what no clip
            speaks of goes back to where it was.
        batch, learning_rate, warmup_share, token_noise, token_drop, save_every_epochs: As in ``TrainingConfig``.
    """

    epochs: int = 10
    batch: int = 16
    learning_rate: float = 7e-4
    pull: float = 30.0
    warmup_share: float = 0.1
    seed: int = 0
    token_noise: float = 0.3
    token_drop: float = 0.1
    save_every_epochs: int = 5

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch < 2:
            raise ConfigError(f"epochs is {self.epochs} and batch {self.batch}; give at least 0 and 2")
        if not 0 < self.learning_rate < 1:
            raise ConfigError(f"learning_rate is {self.learning_rate}; give a number between 0 and 1")
        if not self.pull >= 0:
            raise ConfigError(f"pull is {self.pull}; give 0 or more")


def adapt_grace(
    start: Grace,
    visual: Tensor | TokenRows,
    texts: Sequence[TextTokens],
    target: np.ndarray,
    *,
    summary: Tensor | None = None,
    motion: Tensor | None = None,
    config: AdaptationConfig | None = None,
    state: Path | None = None,
    on_progress: Callable[[int, int, float], None] | None = None,
) -> Grace:
    """Train all of GRACE (joint space, fusion, heads) on, from the weights of ``start``, which stays as it is.

    The loss is a choice among the classes that the clips show: a class without clips is absent, not wrong, and keeps its place.
    Seeded and resumable as ``train_grace``, whose arguments these are.

    Raises:
        DataError: As ``train_grace``.
    """
    config = config or AdaptationConfig()
    if config.epochs == 0:
        return deepcopy(start).eval()
    weights = {name: value.detach().clone() for name, value in start.state_dict().items()}
    return train_grace(
        start.config,
        visual,
        texts,
        target,
        summary=summary,
        motion=motion,
        config=TrainingConfig(
            epochs=config.epochs,
            batch=config.batch,
            learning_rate=config.learning_rate,
            weight_decay=0.0,
            warmup_share=config.warmup_share,
            seed=config.seed,
            token_noise=config.token_noise,
            token_drop=config.token_drop,
            save_every_epochs=config.save_every_epochs,
        ),
        start=StartingPoint(weights=weights, pull=config.pull),
        state=state,
        on_progress=on_progress,
    )
