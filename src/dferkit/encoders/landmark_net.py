"""The landmark network of the bundled model: landmarks in head coordinates → one token per face area and step, action units per frame, class.

It is built like the video network (``box_net``): tokens keep their positions, it reads changes from the clip's own mean as well as absolute values, and
one convolution over time. Its input has no pixels, so that light, skin, hair and camera cannot mislead it; errors of the landmarker can.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from dferkit.encoders.box_net import BoxOutput
from dferkit.facs import AU_NAMES
from dferkit.labels import BASIC

_NUM_TURN = 6  # two rows of a rotation determine the third


@dataclass(frozen=True, kw_only=True, slots=True)
class LandmarkNetConfig:
    """Size of the network.

    Attributes:
        members: Landmarks of each area.
        num_own, num_change: Principal components that are read of an area's position and of its movement: the others are mostly noise of
            the landmarker.
    """

    members: tuple[tuple[int, ...], ...]
    num_own: int = 6
    num_change: int = 10
    width: int = 96
    reduced: int = 24
    hidden: int = 192
    dropout: float = 0.3
    au_names: tuple[str, ...] = AU_NAMES
    labels: tuple[str, ...] = BASIC


class LandmarkNet(nn.Module):
    """Landmark network. ``template`` is the mean face; ``own`` and ``change`` project landmarks onto each area's components, of unit variance."""

    template: Tensor
    own: Tensor
    change: Tensor

    def __init__(self, config: LandmarkNetConfig, *, num_points: int = 478) -> None:
        super().__init__()
        self.config = config
        areas = len(config.members)
        self.register_buffer("template", torch.zeros(num_points, 3))
        self.register_buffer("own", torch.zeros(areas, config.num_own, 3 * num_points))
        self.register_buffer("change", torch.zeros(areas, config.num_change, 3 * num_points))
        # Per area: distance from the mean face, from the clip's own mean, from a known neutral face.
        inputs = config.num_own + 2 * config.num_change
        self.first = nn.Parameter(torch.randn(areas, inputs, config.width) * inputs**-0.5)
        self.second = nn.Parameter(torch.randn(areas, config.width, config.width) * config.width**-0.5)
        self.place = nn.Parameter(torch.zeros(areas, config.width))
        self.reduce = nn.Linear(config.width, config.reduced)
        self.per_frame = nn.Sequential(
            nn.Linear(config.reduced * areas + _NUM_TURN + 1, config.hidden), nn.SiLU(), nn.Dropout(config.dropout)
        )
        self.over_time = nn.Conv1d(config.hidden, config.hidden, 3, 1, 1, groups=4)
        self.action_units = nn.Linear(config.hidden, len(config.au_names))
        self.classes = nn.Sequential(
            nn.Dropout(config.dropout), nn.Linear(2 * config.hidden + 2 * len(config.au_names), len(config.labels))
        )

    def forward(
        self,
        points: Float[Tensor, "batch frames points 3"],
        turn: Float[Tensor, "batch frames 3 3"],
        neutral: Float[Tensor, "batch points 3"],
        has_neutral: Bool[Tensor, " batch"],
    ) -> BoxOutput:
        """Run the network.

        Args:
            points, turn: As ``face_shape.head_shape`` gives them.
            neutral: The person's neutral face in the same coordinates, used where ``has_neutral``.
        """
        known = has_neutral[:, None, None, None].float()
        flat, own = points.flatten(2), points.mean(1, keepdim=True).flatten(2)
        change = self._components(flat - own, self.change)
        from_neutral = self._components(flat - neutral.flatten(1)[:, None], self.change) * known
        seen = torch.cat([self._components(flat - self.template.flatten(), self.own), change, from_neutral], -1)
        tokens = F.silu(torch.einsum("btai,aiw->btaw", seen.clamp(-6, 6), self.first))
        tokens = torch.einsum("btaw,awv->btav", tokens, self.second)
        tokens = tokens + self.place
        facing = torch.cat(
            [turn[..., :2, :].flatten(2), has_neutral[:, None, None].float().expand(-1, turn.shape[1], 1)], -1
        )
        hidden = self.per_frame(torch.cat([self.reduce(F.silu(tokens)).flatten(2), facing], -1))
        hidden = hidden + F.silu(rearrange(self.over_time(rearrange(hidden, "b t d -> b d t")), "b d t -> b t d"))
        units = self.action_units(hidden)
        pooled = torch.cat([hidden.mean(1), hidden.amax(1), units.mean(1), units.amax(1)], -1)
        return BoxOutput(tokens, hidden, units, self.classes(pooled))

    @staticmethod
    def _components(
        landmarks: Float[Tensor, "batch frames values"], basis: Float[Tensor, "areas components values"]
    ) -> Float[Tensor, "batch frames areas components"]:
        areas, components, _ = basis.shape
        return (landmarks @ basis.flatten(0, 1).T).unflatten(-1, (areas, components))
