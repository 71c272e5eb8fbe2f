"""The video network of the bundled model: face crops → token grid, action units per frame, class.

About 0.7 M parameters. Two choices make it learn within an hour on a laptop (measured; ``docs/explanation/box.md``): the clip's own mean
feature is subtracted early, so that features are changes from the person's usual face; and there is no global pooling, so that positions are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dferkit.errors import ConfigError
from dferkit.facs import AU_NAMES
from dferkit.labels import BASIC


@dataclass(frozen=True, kw_only=True, slots=True)
class BoxNetConfig:
    """Size of the network. ``size`` is the crop's side in pixels, a multiple of 8; the token grid has size/8 rows and columns."""

    size: int = 64
    stem: int = 24
    early: int = 48
    width: int = 96
    hidden: int = 256
    reduced: int = 16
    au_names: tuple[str, ...] = AU_NAMES
    labels: tuple[str, ...] = BASIC

    def __post_init__(self) -> None:
        if self.size % 8 or self.size < 16:
            raise ConfigError(f"size is {self.size}; give a multiple of 8, at least 16")
        for name in ("stem", "early", "width"):
            if getattr(self, name) % 8:
                raise ConfigError(f"{name} is {getattr(self, name)}; give a multiple of 8")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the token grid."""
        return self.size // 8, self.size // 8


class Block(nn.Module):
    """Two 3 × 3 convolutions with group normalisation and a skip connection."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(8, outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(8, outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.second(F.silu(self.norm1(self.first(x)))))
        return F.silu(inner + self.skip(x))


@dataclass(frozen=True, slots=True)
class BoxOutput:
    """Output of the network for a batch of clips. ``hidden`` is the input of its own heads."""

    tokens: Float[Tensor, "batch frames patches dim"]
    hidden: Float[Tensor, "batch frames hidden"]
    action_units: Float[Tensor, "batch frames aus"]
    logits: Float[Tensor, "batch classes"]

    def cpu(self) -> BoxOutput:
        """The same output on the CPU."""
        return BoxOutput(self.tokens.cpu(), self.hidden.cpu(), self.action_units.cpu(), self.logits.cpu())


class BoxNet(nn.Module):
    """Video network. Input RGB in [-0.5, 0.5], (batch, frames, 3, size, size)."""

    def __init__(self, config: BoxNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or BoxNetConfig()
        rows, columns = config.grid
        self.stem = nn.Sequential(nn.Conv2d(3, config.stem, 5, 2, 2), nn.GroupNorm(8, config.stem), nn.SiLU())
        self.early = Block(config.stem, config.early, 2)
        self.late = nn.Sequential(Block(2 * config.early, config.width, 2), Block(config.width, config.width, 1))
        self.position = nn.Parameter(torch.zeros(1, config.width, rows, columns))
        self.reduce = nn.Conv2d(config.width, config.reduced, 1)
        self.per_frame = nn.Sequential(nn.Linear(config.reduced * rows * columns, config.hidden), nn.SiLU())
        self.over_time = nn.Conv1d(config.hidden, config.hidden, 3, 1, 1, groups=4)
        self.action_units = nn.Linear(config.hidden, len(config.au_names))
        self.classes = nn.Linear(2 * config.hidden + 2 * len(config.au_names), len(config.labels))

    def forward(self, video: Float[Tensor, "batch frames 3 size size"]) -> BoxOutput:
        batch = len(video)
        maps = self.early(self.stem(rearrange(video, "b t c h w -> (b t) c h w")))
        maps = rearrange(maps, "(b t) c h w -> b t c h w", b=batch)
        # Change from the clip's own mean: without it the network learns nothing in the first minutes.
        change = maps - maps.mean(1, keepdim=True)
        maps = self.late(rearrange(torch.cat([maps, change], 2), "b t c h w -> (b t) c h w")) + self.position
        hidden = rearrange(self.per_frame(self.reduce(maps).flatten(1)), "(b t) d -> b t d", b=batch)
        hidden = hidden + F.silu(rearrange(self.over_time(rearrange(hidden, "b t d -> b d t")), "b d t -> b t d"))
        units = self.action_units(hidden)
        pooled = torch.cat([hidden.mean(1), hidden.amax(1), units.mean(1), units.amax(1)], -1)
        tokens = rearrange(maps, "(b t) d h w -> b t (h w) d", b=batch)
        return BoxOutput(tokens, hidden, units, self.classes(pooled))


def box_loss(output: BoxOutput, action_units: Float[Tensor, "batch frames aus"], labels: Tensor) -> Tensor:
    """Action units (squared error, visible ones count up to five times) and class (smoothed cross-entropy) together.

    With an absolute error the network would output zeros, because most units do not move most of the time.
    """
    weight = 1 + 4 * action_units
    regression = ((output.action_units - action_units).square() * weight).mean()
    return 12 * regression + 0.5 * F.cross_entropy(output.logits, labels, label_smoothing=0.1)
