"""Training of the joint space of words and visual tokens, on rendered clips whose moving cells are known: the words of a movement are
aligned with the cells that it moves, at the time when it moves them.

Published systems start from encoders that were trained on images and text together. The two encoders of the bundled model were trained
separately, and a few hundred labelled clips are too few to learn a common space.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dferkit.checks import check_counts, check_range
from dferkit.errors import DataError
from dferkit.evaluation.claims import SHOWN
from dferkit.facs import AU_NAMES
from dferkit.models.grace import Grace, GraceConfig
from dferkit.pretraining.loop import Progress, Schedule, minimise
from dferkit.pretraining.rendered_tokens import RenderedTokens
from dferkit.schema import Caption, TextTokens

_HELD = 0.05  # an intensity that changes less counts as held through the clip
_LEAST_KEPT = 0.05  # share of a word's cells that must be among the kept tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class JointPretrainingConfig:
    """Length and speed of the training. ``token_noise``: standard deviation of the noise on visual tokens, in units of theirs."""

    epochs: int = 20
    batch: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    token_noise: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts(self, "epochs", "batch")
        check_range(self, "learning_rate", "weight_decay", least=0, below=1)
        check_range(self, "token_noise", "seed", least=0)


def pretrain_joint_space(
    model_config: GraceConfig,
    clips: RenderedTokens,
    captions: Sequence[Caption],
    config: JointPretrainingConfig | None = None,
    *,
    device: str = "cpu",
    on_progress: Progress | None = None,
) -> Grace:
    """Train the joint space of a new GRACE with two cross-entropies: of the plan's rows with the true cells of their words, and of the
    visual mass with the true cells of the clip.

    Args:
        clips: With captions. captions: The same captions, with their phrases.

    Returns:
        The model, on the CPU; only ``model.space`` was trained.

    Raises:
        DataError: No caption describes a movement that occurs.
    """
    config = config or JointPretrainingConfig()
    torch.manual_seed(config.seed)
    model = Grace(model_config).to(device).train()
    targets = [
        where_words_belong(caption, tokens, units, heat, model_config.num_frames)
        for caption, tokens, units, heat in zip(
            captions, clips.data.texts or (), clips.true_units, clips.heat, strict=True
        )
    ]
    usable = np.array([i for i, target in enumerate(targets) if bool(target.any())])
    if not len(usable):
        raise DataError("no caption describes a movement that occurs in its clip; train the networks for more steps")
    steps = max(len(usable) // config.batch, 1)

    def loss(step: int) -> Tensor:
        epoch, number = divmod(step, steps)
        order = np.random.default_rng([config.seed, epoch]).permutation(usable)
        chosen = order[number * config.batch :][: config.batch]
        return _loss(model, clips, [targets[i] for i in chosen], chosen, config.token_noise)

    def rate(step: int) -> float:
        epoch, number = divmod(step, steps)
        progress = (epoch + number / steps) / config.epochs
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))

    schedule = Schedule(steps=config.epochs * steps, rate=rate, weight_decay=config.weight_decay, report_every=steps)
    minimise(loss, list(model.space.parameters()), schedule, on_progress=on_progress)
    return model.cpu().eval()


def where_words_belong(
    caption: Caption, tokens: TextTokens, units: np.ndarray, heat: np.ndarray, steps: int
) -> Float[Tensor, "pieces cells"]:
    """Share of each cell (step · patches + patch) for every piece. A row sums to 1; it is 0 for pieces outside phrases and for movements
    that do not occur.

    Over the cells of a step the share is proportional to the square of the heat, over time to the intensity above the clip's lowest.

    Args:
        units: (frames, AUs) true intensities. heat: (AUs, patches). steps: Number of token steps.
    """
    target = torch.zeros(len(tokens.pieces), steps * heat.shape[1])
    for phrase in caption.phrases:
        if phrase.action_unit not in AU_NAMES or phrase.intensity <= 0:
            continue
        unit = AU_NAMES.index(phrase.action_unit)
        curve = units[:, unit].reshape(steps, -1).mean(1).astype(np.float64)
        if units[:, unit].max() < SHOWN or heat[unit].max() <= 0:
            continue
        rise = curve - curve.min() if np.ptp(curve) > _HELD else np.ones(steps)
        cells = np.outer(rise, heat[unit].astype(np.float64) ** 2).ravel()
        for piece in tokens.pieces_within(phrase.start_character, phrase.end_character):
            target[piece] = torch.from_numpy(cells / cells.sum())
    return target


def _loss(model: Grace, clips: RenderedTokens, targets: Sequence[Tensor], chosen: np.ndarray, noise: float) -> Tensor:
    batch = clips.data.batch(chosen).to(model.space.mass.weight.device)
    assert batch.visual is not None
    assert batch.text is not None
    visual = batch.visual
    visual = visual + torch.randn_like(visual) * visual.std((1, 2), keepdim=True) * noise
    wanted = torch.zeros(len(chosen), batch.text.shape[1], visual.shape[1] * visual.shape[2])
    for row, target in enumerate(targets):
        wanted[row, : len(target)] = target
    wanted = wanted.to(visual.device)
    output = model(replace(batch, visual=visual))
    assert output.alignment is not None
    plan = output.alignment.plan
    # Only kept cells can receive mass, so the true shares are limited to them and scaled to sum to 1.
    kept = wanted.gather(2, output.alignment.visual_index.clamp_min(0)[:, None].expand(-1, plan.shape[1], -1))
    share = kept.sum(2, keepdim=True)
    is_usable = share[..., 0] > _LEAST_KEPT
    rows = plan / plan.sum(2, keepdim=True).clamp_min(1e-12)
    loss = -((kept / share.clamp_min(1e-9)) * (rows + 1e-9).log()).sum(2)[is_usable].mean()
    if model.config.visual_mass == "learned":
        placed = model.space.visual_norm(visual) + model.space.place + model.space.time
        of_clip = wanted.sum(1)
        of_clip = of_clip / of_clip.sum(1, keepdim=True)
        loss = loss - (of_clip * (model.space.visual_mass(placed) + 1e-9).log()).sum(1).mean()
    return loss
