"""One cell of the grid on one task with one seed: the model, its training, its answers on the test clips."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from dferkit.checks import check_counts, check_range
from dferkit.evaluation.claims import localisation_claim, place_mass
from dferkit.mechanism.grid import ALIGNERS, NO_ALIGNMENT, UNITS, Cell
from dferkit.mechanism.render import GRID, TaskSide
from dferkit.models.grace import Grace, GraceConfig
from dferkit.models.grace_fused import FusedConfig, GraceFused
from dferkit.tokens.captioned import shuffle_texts
from dferkit.tokens.dataset import TokenDataset
from dferkit.training.loop import TrainingConfig, train_steps
from dferkit.training.score import predict_outputs

_CONTRASTIVE = 0.1  # weight of the loss, as in ``grace_contrastive``
_PLACE_SPREAD = 0.3  # in ``two_faces`` movement and place count together
_CLIPS = 400


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """Training of every cell.

    Attributes:
        steps: With 400 clips; with another number the steps grow with its root.
    """

    steps: int = 400
    batch: int = 32
    learning_rate: float = 5e-3
    weight_decay: float = 0.05
    token_noise: float = 0.15
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_counts(self, "steps")
        check_range(self, "batch", least=2)

    def training(self, clips: int, seed: int) -> TrainingConfig:
        """Settings of a training on so many clips."""
        steps = self.steps * math.sqrt(clips / _CLIPS)
        return TrainingConfig(
            epochs=max(round(steps * self.batch / clips), 1),
            batch=self.batch,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            token_noise=self.token_noise,
            token_drop=0.0,
            seed=seed,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class CellAnswers:
    """What a trained model gives for the test clips.

    Attributes:
        predicted: Class numbers. localisation: ``localisation_claim`` of the evidence for the answers; empty where no places are known.
    """

    predicted: Int[np.ndarray, " clips"]
    localisation: Mapping[str, float]


def answer_task(
    train: TaskSide, test: TaskSide, cell: Cell, seed: int, budget: Budget, start: Mapping[str, Tensor] | None = None
) -> CellAnswers:
    """Train a cell on the first clips of one side and answer the other.

    Args:
        start: Weights of a trained joint space, for a cell that starts from true maps.
    """
    learned = train.clips.take(np.arange(min(cell.clips, len(train.clips))))
    asked = test.clips
    if cell.control == "shuffled captions":
        learned, asked = _shuffled(learned, seed), _shuffled(asked, seed)
    torch.manual_seed(seed)
    model: Any = build_model(cell, learned, budget)
    if start is not None:
        model.space.start_from(fit_space(start, model))
    model = train_steps(model, learned, budget.training(len(learned), seed))
    predicted, evidence = [], []
    for output in predict_outputs(model, asked):
        answer = output.logits.argmax(1)
        predicted.append(answer)
        if output.contributions is not None and test.heat is not None:
            of_answer = output.contributions[torch.arange(len(answer)), :, :, answer].sum(1)
            evidence.append(of_answer.unflatten(1, (-1, GRID[0] * GRID[1])).sum(1).clamp_min(0))
    found = localise(torch.cat(evidence), test) if evidence and not cell.control else {}
    return CellAnswers(predicted=torch.cat(predicted).numpy(), localisation=found)


def localise(evidence: Tensor, side: TaskSide) -> dict[str, float]:
    """Where the evidence for the answers lies, beside the places that the named movement moves.

    Args:
        evidence: (clips, patches) 0 or more.
    """
    assert side.heat is not None
    placed = [
        place_mass(caption.phrases[0].action_unit, mass, heat)
        for mass, heat, caption in zip(evidence.numpy(), side.heat.numpy(), side.captions, strict=True)
    ]
    return localisation_claim([phrase for phrase in placed if phrase is not None])


def build_model(cell: Cell, data: TokenDataset, budget: Budget) -> Any:
    """The untrained model of a cell."""
    assert data.texts is not None
    shape = data.shape(text_dim=data.texts[0].values.shape[1])
    losses = {"gamma": 0.0, "class_balance": 0.0, "label_smoothing": 0.0, "dropout": budget.dropout}
    if cell.control == "text only":
        alone = {"use_visual": False, "weight_contrastive": 0.0, "weight_auxiliary": 0.0}
        return GraceFused(replace(FusedConfig.for_shape(shape), **alone, **losses))
    config: GraceConfig = GraceConfig.for_shape(
        shape,
        aligner=NO_ALIGNMENT if cell.control == "no alignment" else ALIGNERS[cell.aligner],
        text="none" if cell.control == "video only" else UNITS[cell.unit],
        motion="both" if cell.has_motion else "none",
        place_spread=_PLACE_SPREAD,
        weight_contrastive=_CONTRASTIVE if cell.start == "contrastive" else 0.0,
        **losses,
    )
    if cell.aligner == "learned mass":
        config = replace(config, visual_mass="learned", trains_mass=True)
    elif cell.start == "true maps":  # the space and its mass were trained together
        config = replace(config, visual_mass="learned")
    return Grace(config)


def _shuffled(data: TokenDataset, seed: int) -> TokenDataset:
    return replace(data, texts=shuffle_texts(data.texts or (), seed=seed))


def fit_space(weights: Mapping[str, Tensor], model: Any) -> dict[str, Tensor]:
    """Weights for several faces, which have the same places each, or for a longer video, on which the times are stretched."""
    own, fitted = model.space.state_dict(), dict(weights)
    faces = own["place"].shape[2] // weights["place"].shape[2]
    fitted["place"] = weights["place"].unflatten(2, GRID).repeat(1, 1, 1, faces, 1).flatten(2, 3)
    steps, known = own["time"].shape[1], weights["time"].shape[1]
    fitted["time"] = weights["time"][:, torch.arange(steps) * known // steps]
    return fitted
