"""Training losses (GRACE, E10): focal on the classes, contrastive between text and video, auxiliary on the visual
tokens.

The paper names the three kinds; the forms are ours. All are pure functions and return the mean over the batch.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor
from torch.nn import functional as F

from dferkit.errors import ConfigError, DataError

_LOWEST_TEMPERATURE = 0.01  # A logit scale of 100, the limit CLIP was trained with.


def weighted_focal(
    logits: Float[Tensor, "batch classes"],
    target: Int[Tensor, " batch"],
    *,
    gamma: float = 2.0,
    class_weights: Float[Tensor, " classes"] | None = None,
    label_smoothing: float = 0.0,
    shares: Float[Tensor, "batch classes"] | None = None,
) -> Float[Tensor, ""]:
    """Weighted focal loss −Σ_k q_k α_k (1 − p_k)^γ log p_k, mean over the batch (GRACE, E10).

    q is the one-hot target, or the shares of the annotators, after smoothing. With γ = 0 this is cross-entropy; unlike torch's, the weighted mean is
    over the number of clips and not over the sum of their weights, so that a clip counts the same in every batch.

    Args:
        target: Class numbers.
        class_weights: α, one per class, see ``class_weights_effective``; default 1.
        label_smoothing: Share of q spread evenly over all classes.
        shares: Soft target, each row sums to 1; ``target`` is then not used.

    Raises:
        ConfigError: ``gamma`` below 0, or ``label_smoothing`` outside [0, 1).
    """
    if not (math.isfinite(gamma) and gamma >= 0):
        raise ConfigError(f"gamma is {gamma}, but must be a finite number of 0 or more")
    if not 0 <= label_smoothing < 1:
        raise ConfigError(f"label_smoothing is {label_smoothing}, but must be at least 0 and below 1")
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    log_p = logits.log_softmax(1)
    loss = -log_p
    if gamma > 0:
        # 1 − p without cancellation; the floor keeps the power's gradient finite for gamma below 1.
        loss = loss * (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).eps) ** gamma
    if class_weights is not None:
        loss = loss * class_weights.to(loss.dtype)
    smooth = label_smoothing / logits.shape[1]
    of_target = loss.gather(1, target.long()[:, None])[:, 0] if shares is None else (loss * shares).sum(1)
    return ((1 - label_smoothing) * of_target + smooth * loss.sum(1)).mean()


def class_weights_effective(counts: Num[Tensor, " classes"], *, beta: float = 0.999) -> Float[Tensor, " classes"]:
    """Class weights (1 − β) / (1 − β^count), the inverse effective number of clips, scaled to mean 1 (float32).

    An absent class has no such weight; it gets 1, the mean, and does not change the others.

    Args:
        counts: Training clips per class.
        beta: 0 gives equal weights, towards 1 inverse frequency.

    Raises:
        ConfigError: ``beta`` outside [0, 1).
        DataError: A negative count, or no clips at all.
    """
    if not 0 <= beta < 1:
        raise ConfigError(f"beta is {beta}, but must be at least 0 and below 1")
    counts = counts.double()
    present = counts > 0
    if bool((counts < 0).any()) or not bool(present.any()):
        raise DataError("class counts must be 0 or more, with at least one class above 0")
    if beta == 0:
        return torch.ones_like(counts).float()
    weights = (1 - beta) / -torch.expm1(torch.where(present, counts, 1.0) * math.log(beta))
    return torch.where(present, weights / weights[present].mean(), 1.0).float()


def contrastive(
    text_pooled: Float[Tensor, "batch dim"],
    visual_pooled: Float[Tensor, "batch dim"],
    *,
    temperature: float | Float[Tensor, ""] = 0.07,
    same_group: Int[Tensor, " batch"] | None = None,
) -> Float[Tensor, ""]:
    """Symmetric contrastive loss ½ [CE(S / τ, Q) + CE(Sᵀ / τ, Q)], S the cosine of pooled vectors (GRACE, E10).

    Deviation: with ``same_group``, Q spreads evenly over all clips of the same group, as in supervised contrastive
    learning; otherwise clips of one class, whose captions are alike, would be pushed apart. Without it, Q is the
    identity.

    Args:
        temperature: τ; a scalar tensor when it is learned. Values below 0.01 count as 0.01, with a gradient that can only
            raise them.
        same_group: Class or caption number of each clip.

    Raises:
        ConfigError: A number not above 0.
    """
    if not isinstance(temperature, Tensor) and not (math.isfinite(temperature) and temperature > 0):
        raise ConfigError(f"temperature is {temperature}, but must be a finite number above 0")
    dtype = torch.promote_types(text_pooled.dtype, torch.float32)
    with torch.autocast(text_pooled.device.type, enabled=False):
        similarity = _unit(text_pooled.to(dtype)) @ _unit(visual_pooled.to(dtype)).T
    return _both_ways(similarity, temperature, same_group)


def token_contrastive(
    text: Float[Tensor, "batch words dim"],
    visual: Float[Tensor, "batch visual dim"],
    mask: Bool[Tensor, "batch words"],
    *,
    temperature: float | Float[Tensor, ""] = 0.07,
    sharpness: float = 0.05,
    same_group: Int[Tensor, " batch"] | None = None,
) -> Float[Tensor, ""]:
    """The same contrast between every caption and every video, by their tokens (GRACE, E10).

    The score of a caption and a video is Σ_i −a_i · s log mean_j exp(−C_ij / s), C the cosine distance: minus the entropic transport cost when the masses of the
    visual tokens are free, which has this closed form. s = 0 would be the nearest token of each word (FILIP, Yao et al. 2021).

    Args:
        mask: Which words are real. sharpness: s. temperature, same_group: As in ``contrastive``.
    """
    dtype = torch.promote_types(text.dtype, torch.float32)
    with torch.autocast(text.device.type, enabled=False):
        similarity = torch.einsum("awd,bvd->abwv", _unit(text.to(dtype)), _unit(visual.to(dtype)))
        nearest = sharpness * (similarity / sharpness).logsumexp(3)
    share = mask.to(dtype) / mask.sum(1, keepdim=True).clamp_min(1)
    return _both_ways(torch.einsum("abw,aw->ab", nearest, share), temperature, same_group)


def phrase_times(
    evidence: Float[Tensor, "batch phrases frames"],
    phrase_steps: Bool[Tensor, "batch said frames"],
    mask: Bool[Tensor, "batch phrases"],
) -> Float[Tensor, ""]:
    """Mean over phrases of −log of the share of their evidence that lies in the steps in which the caption says that they happen.

    It needs no true map, only a caption with times. Phrases without times, or that last throughout, do not count. Ours: the papers have no such loss.

    Args:
        evidence: 0 or more. mask: Which phrases are real.
    """
    count = min(evidence.shape[1], phrase_steps.shape[1])
    evidence, said = evidence[:, :count], phrase_steps[:, :count]
    counts = mask[:, :count] & said.any(2) & ~said.all(2)
    if not bool(counts.any()):
        return evidence.sum() * 0
    share = (evidence * said).sum(2)[counts] / evidence.sum(2)[counts].clamp_min(1e-12)
    return -share.clamp_min(1e-6).log().mean()


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors, dim=-1, eps=1e-6)


def _both_ways(similarity: Tensor, temperature: float | Tensor, same_group: Tensor | None) -> Tensor:
    """½ [CE(S / τ, Q) + CE(Sᵀ / τ, Q)] of ``contrastive``."""
    scale = torch.as_tensor(temperature, dtype=similarity.dtype, device=similarity.device)
    scale = _Floor.apply(scale, _LOWEST_TEMPERATURE)  # type: ignore[no-untyped-call]
    similarity = similarity / scale
    if same_group is None:
        target = torch.eye(len(similarity), dtype=similarity.dtype, device=similarity.device)
    else:
        is_same: Bool[Tensor, "batch batch"] = same_group[:, None] == same_group[None, :]
        target = is_same.to(similarity.dtype) / is_same.sum(1, keepdim=True)
    return 0.5 * (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target))


class _Floor(torch.autograd.Function):
    """The value, or the limit where it is lower.

    A plain clamp has no gradient below its limit, so a learned value that falls below it could never rise again. Here a
    gradient that raises the value passes, and one that lowers it further does not.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, limit: float) -> Tensor:
        ctx.save_for_backward(value < limit)
        return value.clamp_min(limit)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (is_below,) = ctx.saved_tensors
        return torch.where(is_below, gradient.clamp_max(0), gradient), None


def auxiliary(
    visual_logits: Float[Tensor, "batch classes"],
    target: Int[Tensor, " batch"],
    *,
    class_weights: Float[Tensor, " classes"] | None = None,
    label_smoothing: float = 0.0,
    shares: Float[Tensor, "batch classes"] | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy of a head that reads the visual tokens only (GRACE, E10).

    The paper does not define its auxiliary loss. With this one the model also answers clips without a caption. Others
    are a head on the text only, or the transport cost itself (``1 − Alignment.score``).
    """
    return weighted_focal(
        visual_logits,
        target,
        gamma=0.0,
        class_weights=class_weights,
        label_smoothing=label_smoothing,
        shares=shares,
    )
