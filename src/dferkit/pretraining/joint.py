"""Joint training of words and patches where the truth is known: the words of a movement go to the cells that it moves, while it moves.

The published systems start from encoders that were trained on images and text together. The box's two encoders were trained apart, and a few
hundred labelled clips do not teach them a common space; rendered clips, whose moving cells are known, do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dferkit.evaluation.claims import SHOWN
from dferkit.facs import AU_NAMES
from dferkit.models.grace import Grace, GraceConfig
from dferkit.schema import Caption, TextTokens
from dferkit.tokens.dataset import TokenDataset

_STILL = 0.05  # an intensity that changes less is held through the clip


@dataclass(frozen=True, kw_only=True, slots=True)
class JointPretrainingConfig:
    """How long and how fast. ``token_noise``: standard deviation of the noise on visual tokens, in units of theirs."""

    epochs: int = 20
    batch: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    token_noise: float = 0.2
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownClips:
    """Clips with the truth about their movements.

    Attributes:
        data: Tokens and captions. captions: The descriptions themselves.
        units: (clips, frames, AUs) true intensities. heat: (clips, AUs, patches) how far each unit moves each cell, 0 to 1.
    """

    data: TokenDataset
    captions: Sequence[Caption]
    units: np.ndarray
    heat: np.ndarray


def where_words_belong(
    caption: Caption, tokens: TextTokens, units: np.ndarray, heat: np.ndarray, steps: int
) -> Float[Tensor, "pieces cells"]:
    """Share of each cell (step · patches + patch) for every piece; all 0 for pieces outside phrases, or whose movement does not show.

    In space it follows the square of the heat, in time how far the intensity is above the clip's lowest.
    """
    target = torch.zeros(len(tokens.pieces), steps * heat.shape[1])
    for phrase in caption.phrases:
        if phrase.action_unit not in AU_NAMES or phrase.intensity <= 0:
            continue
        unit = AU_NAMES.index(phrase.action_unit)
        curve = units[:, unit].reshape(steps, -1).mean(1).astype(np.float64)
        if units[:, unit].max() < SHOWN or heat[unit].max() <= 0:
            continue
        rise = curve - curve.min() if np.ptp(curve) > _STILL else np.ones(steps)
        cells = np.outer(rise, heat[unit].astype(np.float64) ** 2).ravel()
        for piece in tokens.pieces_within(phrase.start_character, phrase.end_character):
            target[piece] = torch.from_numpy(cells / cells.sum())
    return target


def pretrain_joint_space(
    config: GraceConfig,
    clips: KnownClips,
    settings: JointPretrainingConfig | None = None,
    *,
    on_progress: Callable[[int, int, float], None] | None = None,
) -> Grace:
    """Train the joint space of a new GRACE by the cross-entropy between the plan's rows and the truth, and of its visual mass.

    Returns:
        The model; only ``model.space`` was trained.
    """
    settings = settings or JointPretrainingConfig()
    torch.manual_seed(settings.seed)
    model = Grace(config)
    model.train()
    parameters = list(model.space.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    targets = [
        where_words_belong(caption, tokens, units, heat, config.num_frames)
        for caption, tokens, units, heat in zip(
            clips.captions, clips.data.texts or (), clips.units, clips.heat, strict=True
        )
    ]
    told = np.array([i for i, target in enumerate(targets) if bool(target.any())])
    steps = max(len(told) // settings.batch, 1)
    for epoch in range(settings.epochs):
        order = np.random.default_rng([settings.seed, epoch]).permutation(told)
        losses = []
        for step in range(steps):
            chosen = order[step * settings.batch :][: settings.batch]
            progress = (epoch + step / steps) / settings.epochs
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
            loss = _loss(model, clips, targets, chosen, settings.token_noise)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
        if on_progress:
            on_progress(epoch + 1, settings.epochs, float(np.mean(losses)))
    return model.eval()


def _loss(model: Grace, clips: KnownClips, targets: Sequence[Tensor], chosen: np.ndarray, noise: float) -> Tensor:
    batch = clips.data.batch(chosen)
    assert batch.visual is not None
    assert batch.text is not None
    visual = batch.visual
    visual = visual + torch.randn_like(visual) * visual.std((1, 2), keepdim=True) * noise
    wanted = torch.zeros(len(chosen), batch.text.shape[1], visual.shape[1] * visual.shape[2])
    for row, i in enumerate(chosen):
        wanted[row, : len(targets[i])] = targets[i]
    output = model(replace(batch, visual=visual))
    assert output.alignment is not None
    plan = output.alignment.plan
    # Only kept cells can receive mass: the truth is cut to them and scaled up again.
    kept = wanted.gather(2, output.alignment.visual_index.clamp_min(0)[:, None].expand(-1, plan.shape[1], -1))
    share = kept.sum(2, keepdim=True)
    is_told = share[..., 0] > 0.05
    rows = plan / plan.sum(2, keepdim=True).clamp_min(1e-12)
    loss = -((kept / share.clamp_min(1e-9)) * (rows + 1e-9).log()).sum(2)[is_told].mean()
    if model.config.visual_mass == "learned":
        placed = model.space.visual_norm(visual) + model.space.place + model.space.time
        of_clip = wanted.sum(1)
        of_clip = of_clip / of_clip.sum(1, keepdim=True)
        loss = loss - (of_clip * (model.space.visual_mass(placed) + 1e-9).log()).sum(1).mean()
    return loss
