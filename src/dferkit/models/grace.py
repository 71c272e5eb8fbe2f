"""GRACE (arXiv 2507.11892) with exact evidence: the class scores are a sum of what each phrase finds in each visual token.

    score_c = b_c + Σ_i Σ_j g_i P_ij ⟨U_c(t_i), V_j(v_j − v̄)⟩

t_i are phrases, v_j visual tokens, v̄ their mean over the clip, P the transport plan with rows that sum to 1, g_i the gate of a phrase. U and b sum to 0
over the classes: adding the same vector to every class would change each share and no probability. Nothing of video or text reaches the scores beside this sum.

Deviation: the paper fuses words, aligned tokens and a vector of the video in one network (``models.grace_fused``); there the video's own vector answers alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dferkit.checks import check_counts, check_range
from dferkit.errors import ConfigError
from dferkit.losses import phrase_times, token_contrastive
from dferkit.models.word_alignment import LEAST_MASS, AlignedModel, AlignmentConfig
from dferkit.schema import ModelOutput, TokenBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class GraceConfig(AlignmentConfig):
    """Switches of GRACE; every ablation is a value here or in ``AlignmentConfig``.

    Attributes:
        width: Of U and V: how many things a phrase can look for in a token, 1 or more.
        place_spread: Standard deviation of the places' factors in V at the start. With 0 all places start alike, which suits few clips; what depends on
            movement and place together then gets little gradient.
        weight_times: Of the loss between the times of a phrase and those of its evidence; only with phrases.
        trains_mass: The loss trains the layer of a learned ``visual_mass`` too.
    """

    width: int = 8
    place_spread: float = 0.0
    weight_times: float = 0.0
    trains_mass: bool = False

    def __post_init__(self) -> None:
        # Not super(): a dataclass with slots is another class than the one that the method was compiled in.
        AlignmentConfig.__post_init__(self)
        check_counts(self, "width")
        check_range(self, "place_spread", "weight_times", least=0)
        if self.weight_times and self.text != "phrases":
            raise ConfigError(
                f"weight_times compares phrases with the video; text is {self.text}: choose phrases, or weight_times 0"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class GraceOutput(ModelOutput):
    """Answer of GRACE for a batch, with what its contrastive loss compares.

    Attributes:
        units: Phrases in the common width. unit_mask: Which of them are real. visual: Visual tokens in the common width.
        evidence: Size of the evidence for each class in each token step, in training with ``weight_times``. phrase_steps: Of the batch.
    """

    units: Float[Tensor, "batch phrases dim"]
    unit_mask: Bool[Tensor, "batch phrases"]
    visual: Float[Tensor, "batch visual dim"]
    evidence: Float[Tensor, "batch phrases frames classes"] | None = None
    phrase_steps: Bool[Tensor, "batch said frames"] | None = None

    def among(self, classes: Int[Tensor, " shown"]) -> GraceOutput:
        """The answer as a choice among some classes."""
        evidence = None if self.evidence is None else self.evidence[..., classes]
        return replace(self, logits=self.logits[:, classes], evidence=evidence)


class Grace(AlignedModel):
    """The network on cached tokens."""

    config: GraceConfig

    def __init__(self, config: GraceConfig | None = None) -> None:
        config = config or GraceConfig()
        super().__init__(config)
        dim, classes, width = config.dim, len(config.labels), config.width
        patches = config.grid[0] * config.grid[1] + config.areas
        self.asked = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Dropout(config.dropout),
            nn.Linear(dim, dim),
            nn.GELU(),
            nn.Linear(dim, classes * width),
        )
        self.found = nn.Linear(config.visual_dim, width, bias=False)
        spread = config.place_spread
        self.found_place = nn.Parameter(spread * torch.randn(patches, width) if spread else torch.zeros(patches, width))
        self.found_time = nn.Parameter(torch.zeros(config.num_frames, 1, width))
        self.drop = nn.Dropout(config.dropout)
        self.gate = nn.Linear(dim, 1)
        self.bias = nn.Parameter(torch.zeros(classes))
        self.temperature = nn.Parameter(torch.tensor(0.1))

    @property
    def remainder(self) -> Float[Tensor, " classes"]:
        """b: what each class scores without any evidence; sums to 0."""
        return self.bias - self.bias.mean()

    def forward(self, batch: TokenBatch) -> GraceOutput:
        """Run GRACE on visual tokens and captions; ``phrases`` and ``motion`` are read where the configuration asks for them.

        ``contributions`` are given in evaluation mode: they and ``remainder`` add up to the logits.

        Raises:
            DataError: The batch lacks something that the configuration asks for.
        """
        tokens = self._tokens(batch)
        motion = self._motion(tokens, batch.motion)
        normed = self.space.visual_norm(tokens)
        place = self.space.place + self.space.time
        units, mask, share_of_phrase = self._units(batch)
        visual = self._project(normed, motion)
        mass = self._mass(normed + place, motion)
        if mass is not None:
            mass = (mass if self.config.trains_mass else mass.detach()).clamp_min(LEAST_MASS)
        index = torch.arange(visual.shape[1], device=visual.device).expand(len(visual), -1)
        alignment = self.aligner(
            units,
            visual,
            text_mask=mask,
            visual_mask=torch.ones_like(index, dtype=torch.bool),
            visual_mass=mass,
            visual_index=index,
        )
        weights = alignment.plan / alignment.plan.sum(2, keepdim=True).clamp_min(1e-12) * self._gate(units, mask)
        asked = self.asked(units).unflatten(-1, (len(self.config.labels), self.config.width))
        centred = asked - asked.mean(2, keepdim=True)
        found = self._found(normed)
        evidence = None
        if self.training and self.config.weight_times:
            sizes = (torch.einsum("bwch,bmh->bwmc", centred, found) * weights[..., None]).abs()
            evidence = reduce(sizes, "b w (t p) c -> b w t c", "sum", t=self.config.num_frames)
        if self.training:  # Not centred: that changes no probability, and a class without clips gets no gradient.
            contributions = None
            logits = torch.einsum("bwch,bwh->bc", asked, torch.bmm(weights, found)) + self.bias
        else:
            # The plan is held fixed, so that a gradient carries these shares, and nothing else, on to the encoder's inputs.
            contributions = torch.einsum("bwch,bmh->bwmc", centred, found) * weights.detach()[..., None]
            logits = contributions.sum((1, 2)) + self.remainder
        if share_of_phrase is not None:  # each word has an equal part of its phrase's row
            alignment = replace(alignment, plan=torch.bmm(share_of_phrase, alignment.plan))
        return GraceOutput(
            logits=logits,
            alignment=alignment,
            motion=motion,
            contributions=contributions,
            units=units,
            unit_mask=mask,
            visual=visual,
            evidence=evidence,
            phrase_steps=batch.phrase_steps,
        )

    def _gate(self, units: Tensor, mask: Tensor) -> Tensor:
        """Positive weight of each phrase, (batch, phrases, 1): its share of the gates times the root of their number."""
        gate = F.softplus(self.gate(units))[..., 0] * mask
        gate = gate / gate.sum(1, keepdim=True).clamp_min(1e-6) * mask.sum(1, keepdim=True) ** 0.5
        return gate[..., None]

    def _found(self, normed: Tensor) -> Tensor:
        """V: (batch, visual, width), 0 for a token that is the clip's mean; weighted by place and time, which alone find nothing."""
        found = self.found(normed - normed.mean((1, 2), keepdim=True))
        found = found * (1 + self.found_place + self.found_time)
        return self.drop(rearrange(found, "b t p h -> b (t p) h"))  # type: ignore[no-any-return]

    def loss(
        self,
        output: GraceOutput,
        target: Int[Tensor, " batch"],
        class_counts: Int[Tensor, " classes"] | None = None,
        *,
        soft_target: Float[Tensor, "batch classes"] | None = None,
    ) -> Float[Tensor, ""]:
        """λ1 weighted focal + λ2 contrastive (E10) + ``weight_times`` · ``losses.phrase_times``; the soft target takes the place of ``target`` in the first.

        Args:
            class_counts: Training clips per class; without them all classes weigh the same.
        """
        total = self.class_loss(output.logits, target, class_counts, soft_target)
        if self.config.weight_contrastive and self.config.text != "none":
            total = total + self.config.weight_contrastive * token_contrastive(
                output.units, output.visual, output.unit_mask, temperature=self.temperature, same_group=target
            )
        if output.evidence is not None and output.phrase_steps is not None:
            of_target = output.evidence[torch.arange(len(target), device=target.device), :, :, target]
            total = total + self.config.weight_times * phrase_times(of_target, output.phrase_steps, output.unit_mask)
        return total
