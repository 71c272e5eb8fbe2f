"""Plain models, to compare the systems with.

Each has the interface of ``models.registry.TrainableModel``. Those with ``solve`` are fitted in closed form, the others by gradient steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dferkit.checks import check_choices, check_counts, check_range
from dferkit.errors import DataError
from dferkit.facs import load_facs
from dferkit.labels import BASIC
from dferkit.losses import class_weights_effective, weighted_focal
from dferkit.models.a3lign import A3lignConfig, DynamicEncoder
from dferkit.models.coarse import fit_coarse
from dferkit.motion import motion_weights
from dferkit.schema import Caption, ModelOutput, TokenBatch, TokenShape

_LEAST_SHARE = 1e-30  # of a class without training clips, so that its logarithm is finite


@dataclass(frozen=True, kw_only=True, slots=True)
class BaselineConfig:
    """Shape of a baseline.

    Attributes:
        visual_dim: Width of a visual token. summary_dim: Of the encoder's own vector per token step, 0 for none.
        hidden: Width of the hidden layer of ``SummaryHead``. loss: ``cross_entropy``, or ``focal`` with weights for rare classes.
        layers: Of the temporal transformer of ``ClipTemporal``. temperature: Its cosine similarities are divided by this.
    """

    FROM_DATA: ClassVar[tuple[str, ...]] = ("visual_dim", "summary_dim", "num_frames", "labels")

    visual_dim: int = 96
    summary_dim: int = 0
    num_frames: int = 8
    labels: tuple[str, ...] = BASIC
    hidden: int = 128
    dropout: float = 0.3
    loss: str = "cross_entropy"
    gamma: float = 2.0
    layers: int = 1
    temperature: float = 0.01

    def __post_init__(self) -> None:
        check_choices(self, {"loss": ("cross_entropy", "focal")})
        check_counts(self, "hidden", "layers")
        check_range(self, "dropout", least=0, below=1)
        check_range(self, "temperature", above=0)
        check_range(self, "gamma", least=0)

    @classmethod
    def for_shape(cls, shape: TokenShape) -> BaselineConfig:
        """The baseline for these tokens."""
        return cls(
            visual_dim=shape.visual_dim,
            summary_dim=shape.summary_dim,
            num_frames=shape.num_frames,
            labels=shape.labels,
        )


class Baseline(nn.Module):
    """What all baselines have in common: they align no words."""

    motion_source = "tokens"
    aligns_words = False

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__()
        self.config = config

    def scores(self, batch: TokenBatch) -> Float[Tensor, "batch classes"]:
        """Class scores."""
        raise NotImplementedError

    def forward(self, batch: TokenBatch) -> ModelOutput:
        """Class scores, and the motion weights of the tokens for the table of frames."""
        visual = _visual(batch)
        motion = None if self.training else motion_weights(F.layer_norm(visual.float(), visual.shape[-1:]))
        return ModelOutput(logits=self.scores(batch), motion=motion)

    def loss(
        self,
        output: ModelOutput,
        target: Int[Tensor, " batch"],
        class_counts: Int[Tensor, " classes"] | None = None,
        *,
        soft_target: Float[Tensor, "batch classes"] | None = None,
    ) -> Float[Tensor, ""]:
        """Cross-entropy, or the focal loss with weights for rare classes."""
        if self.config.loss == "focal":
            weights = None if class_counts is None else class_weights_effective(class_counts)
            return weighted_focal(
                output.logits, target, gamma=self.config.gamma, class_weights=weights, shares=soft_target
            )
        return F.cross_entropy(output.logits, target if soft_target is None else soft_target)

    def finish(self) -> None:
        """Nothing is left to compute after training."""

    def aligned_text(self, label: int) -> Caption | None:
        """None: a baseline aligns no words."""
        return None


class ClassPrior(Baseline):
    """How frequent each class is in training."""

    prior: Tensor

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__(config)
        self.register_buffer("prior", torch.full((len(config.labels),), 1 / len(config.labels), dtype=torch.float64))

    def solve(self, batches: Iterable[TokenBatch], clips: np.ndarray) -> None:
        """Count the classes of the clips; ``clips`` numbers the clip of each row."""
        target = torch.cat([_target(batch) for batch in batches])
        counts = torch.bincount(target[np.unique(clips, return_index=True)[1]], minlength=len(self.prior)).double()
        self.prior.copy_(counts / counts.sum())

    def scores(self, batch: TokenBatch) -> Tensor:
        """The same for every clip."""
        return self.prior.clamp_min(_LEAST_SHARE).log().expand(len(_visual(batch)), -1)


class MeanPooled(Baseline):
    """Linear model on the mean of the visual tokens, fitted by L-BFGS in float64."""

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__(config)
        width, classes = config.visual_dim, len(config.labels)
        for name, size in (("mean", (width,)), ("scale", (width,)), ("weight", (width, classes)), ("bias", (classes,))):
            self.register_buffer(name, torch.ones(size, dtype=torch.float64))

    def solve(self, batches: Iterable[TokenBatch], clips: np.ndarray) -> None:
        """Fit to all rows."""
        pairs = [(_mean(batch), _target(batch)) for batch in batches]
        pooled, target = (torch.cat(part).numpy() for part in zip(*pairs, strict=True))
        found = fit_coarse(pooled, target, labels=self.config.labels)
        for name in ("mean", "scale", "weight", "bias"):
            getattr(self, name).copy_(torch.from_numpy(getattr(found, name)))

    def scores(self, batch: TokenBatch) -> Tensor:
        """Of the standardised mean."""
        return (_mean(batch) - self.mean) / self.scale @ self.weight + self.bias


class SummaryHead(Baseline):
    """Mean and maximum over time of the encoder's own vectors (of the mean token where it has none), two layers."""

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__(config)
        width, drop = 2 * (config.summary_dim or config.visual_dim), config.dropout
        self.net = nn.Sequential(
            nn.LayerNorm(width), nn.Dropout(drop), nn.Linear(width, config.hidden), nn.GELU(),
            nn.Dropout(drop), nn.Linear(config.hidden, len(config.labels)),
        )  # fmt: skip

    def scores(self, batch: TokenBatch) -> Tensor:
        """Of mean and maximum."""
        has_summary = batch.summary is not None and batch.summary.shape[-1] > 0
        steps = batch.summary.float() if batch.summary is not None and has_summary else _visual(batch).float().mean(2)
        scores: Tensor = self.net(torch.cat([steps.mean(1), steps.amax(1)], -1))
        return scores


class ClipZeroShot(Baseline):
    """Cosine similarity of the mean over time of CLIP's frame features and its features of a text per class; nothing is trained."""

    classes: Tensor
    scale: Tensor

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__(config)
        self.register_buffer("classes", torch.zeros(len(config.labels), config.visual_dim))
        self.register_buffer("scale", torch.tensor(1 / config.temperature))

    def read_classes(self, features: Float[Tensor, "classes dim"], scale: float) -> None:
        """Take CLIP's features of the texts of the classes, and its own scale of similarities."""
        self.classes.copy_(F.normalize(features, dim=-1))
        self.scale.fill_(scale)

    def solve(self, batches: Iterable[TokenBatch], clips: np.ndarray) -> None:
        """Nothing is learned from the clips."""

    def scores(self, batch: TokenBatch) -> Tensor:
        """Cosine similarities, scaled."""
        frames = _visual(batch)[:, :, 0].float()
        return F.normalize(frames.mean(1), dim=-1) @ self.classes.T * self.scale


class ClipTemporal(Baseline):
    """As in DFER-CLIP: a transformer over frozen frame features, compared with fixed descriptions of the classes."""

    classes: Tensor

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__(config)
        width = config.visual_dim
        shape = A3lignConfig(
            dim=width, labels=config.labels, num_frames=config.num_frames, mlp_width=2 * width, dropout=config.dropout
        )
        self.dynamic = DynamicEncoder(config.num_frames, config.layers, shape)
        self.register_buffer("classes", torch.zeros(len(config.labels), width))

    def read_classes(self, features: Float[Tensor, "classes dim"], scale: float) -> None:
        """Take CLIP's features of the texts of the classes."""
        self.classes.copy_(F.normalize(features, dim=-1))

    def scores(self, batch: TokenBatch) -> Tensor:
        """Cosine similarities over the temperature."""
        video = F.normalize(self.dynamic(_visual(batch)[:, :, 0].float()), dim=-1)
        return video @ self.classes.T / self.config.temperature


def name_class(label: str) -> str:
    """CLIP's usual prompt for a class."""
    return f"a photo of a face showing {label}"


def describe_class(label: str) -> str:
    """A class by the movements that it usually shows, and not by its name; by its name where the FACS tables do not have it."""
    facs = load_facs()
    rule = facs.classes.get(label)
    if rule is None:
        return f"a face showing {label}"
    titles = [facs.action_units[unit].title for unit in rule.core if unit in facs.action_units]
    return f"a face: {', '.join(titles)}" if titles else "a still face"


def _visual(batch: TokenBatch) -> Tensor:
    if batch.visual is None:
        raise DataError("this model reads visual tokens; give clips that have them")
    return batch.visual


def _target(batch: TokenBatch) -> Tensor:
    assert batch.target is not None
    return batch.target


def _mean(batch: TokenBatch) -> Tensor:
    return _visual(batch).double().mean((1, 2))
