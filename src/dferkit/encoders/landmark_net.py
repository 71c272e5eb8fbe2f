"""The box's landmark network: landmarks in head coordinates → one token per face area and step, action units per frame, class.

It has the shape of the video network (``box_net``): tokens that keep where things are, the person's own zero beside the absolute, a short look over
time. Its input has no pixels, so light, skin, hair and camera cannot mislead it; what the landmarker got wrong can.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from dferkit.encoders.box_net import BoxOutput
from dferkit.facs import AU_NAMES
from dferkit.labels import BASIC

_NUM_TURN = 6  # two rows of the rotation say it all


@dataclass(frozen=True, kw_only=True, slots=True)
class LandmarkNetConfig:
    """Size of the network. ``members``: landmarks of each area."""

    members: tuple[tuple[int, ...], ...]
    width: int = 96
    reduced: int = 24
    hidden: int = 256
    au_names: tuple[str, ...] = AU_NAMES
    labels: tuple[str, ...] = BASIC

    def as_dict(self) -> dict[str, object]:
        """For a JSON file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, object]) -> LandmarkNetConfig:
        """Back from JSON."""
        known: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        known["members"] = tuple(tuple(area) for area in known["members"])
        return cls(**known)


class LandmarkNet(nn.Module):
    """Landmark network. ``template`` is the mean face; ``spread`` and ``change_spread`` scale a landmark's distance from it and its movement."""

    template: Tensor
    spread: Tensor
    change_spread: Tensor

    def __init__(self, config: LandmarkNetConfig, *, num_points: int = 478) -> None:
        super().__init__()
        self.config = config
        for name, value in (("template", 0.0), ("spread", 1.0), ("change_spread", 1.0)):
            self.register_buffer(name, torch.full((num_points, 3), value))
        # Per landmark: distance from the mean face, from the clip's own mean, from a known neutral face.
        self.areas = nn.ModuleList(
            nn.Sequential(nn.Linear(9 * len(area), config.width), nn.SiLU(), nn.Linear(config.width, config.width))
            for area in config.members
        )
        self.place = nn.Parameter(torch.zeros(len(config.members), config.width))
        self.reduce = nn.Linear(config.width, config.reduced)
        self.per_frame = nn.Sequential(
            nn.Linear(config.reduced * len(config.members) + _NUM_TURN + 1, config.hidden), nn.SiLU()
        )
        self.over_time = nn.Conv1d(config.hidden, config.hidden, 3, 1, 1, groups=4)
        self.action_units = nn.Linear(config.hidden, len(config.au_names))
        self.classes = nn.Linear(2 * config.hidden + 2 * len(config.au_names), len(config.labels))

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
        own = points.mean(1, keepdim=True)
        seen = torch.cat(
            [
                (points - self.template) / self.spread,
                (points - own) / self.change_spread,
                (points - neutral[:, None]) / self.change_spread * known,
            ],
            -1,
        ).clamp(-8, 8)
        tokens = torch.stack(
            [
                layer(seen[:, :, list(area)].flatten(2))
                for layer, area in zip(self.areas, self.config.members, strict=True)
            ],
            2,
        )
        tokens = tokens + self.place
        facing = torch.cat(
            [turn[..., :2, :].flatten(2), has_neutral[:, None, None].float().expand(-1, turn.shape[1], 1)], -1
        )
        hidden = self.per_frame(torch.cat([self.reduce(F.silu(tokens)).flatten(2), facing], -1))
        hidden = hidden + F.silu(rearrange(self.over_time(rearrange(hidden, "b t d -> b d t")), "b d t -> b t d"))
        units = self.action_units(hidden)
        pooled = torch.cat([hidden.mean(1), hidden.amax(1), units.mean(1), units.amax(1)], -1)
        return BoxOutput(tokens, hidden, units, self.classes(pooled))
