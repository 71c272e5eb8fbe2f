"""A network with the encoder of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dferkit.captions import describe, refine
from dferkit.encoders.landmarks import seen_share
from dferkit.encoders.protocols import VisualEncoder
from dferkit.faces.read import LOW_COVERAGE_BELOW
from dferkit.models.checkpoint import Checkpoint
from dferkit.models.coarse import unit_statistics
from dferkit.motion import measure_motion
from dferkit.schema import (
    ActionUnits,
    Caption,
    CoarsePrediction,
    FaceClip,
    ModelOutput,
    TextTokens,
    TokenBatch,
    VisualTokens,
)
from dferkit.tokens.batches import pad_texts


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """A checkpoint with the encoder of its tokens.

    Attributes:
        device: Where the network runs; what goes in and comes out is on the CPU.
    """

    checkpoint: Checkpoint
    encoder: VisualEncoder
    device: str = "cpu"

    @property
    def front_end(self) -> str:
        """What it reads of a face, for tables."""
        return str(self.checkpoint.about["front_end"])

    def can_read(self, clip: FaceClip) -> bool:
        """The clip has what the encoder needs."""
        return not self.encoder.needs_landmarks or seen_share(clip) >= LOW_COVERAGE_BELOW

    def caption(self, units: ActionUnits, guide: CoarsePrediction | None = None) -> Caption:
        """CATE: the coarse description, rewritten to stress the movements of the guide's top-k classes (by default the coarse classifier's)."""
        coarse = describe(units)
        if guide is None:  # a video that was never trained on: no fold, and nothing to leak
            guide = self.checkpoint.coarse.guide(unit_statistics(units.intensity), fold=-1, is_out_of_fold=True)
        return refine(coarse, guide, top_k=int(self.checkpoint.about["caption"]["top_k"]))

    def motion(self, clips: Sequence[FaceClip]) -> torch.Tensor | None:
        """Measured motion weights, for a model that reads them."""
        source, encoder = self.checkpoint.model.motion_source, self.encoder
        if source == "tokens":
            return None
        return measure_motion(clips, source, encoder.encode, grid=encoder.grid, num_steps=encoder.num_frames)

    def batch(self, visuals: Sequence[VisualTokens], text: TextTokens, motion: torch.Tensor | None) -> TokenBatch:
        """Versions of one clip as the network reads them, all with the same text."""
        versions = len(visuals)
        values, mask, sentence, phrases = pad_texts([text])
        # Half precision and back, as in training.
        visual = torch.stack([v.values for v in visuals]).half().float()
        summary = torch.stack([v.summary for v in visuals]).half().float()
        return TokenBatch(
            visual=visual,
            summary=summary,
            text=values.expand(versions, -1, -1),
            text_mask=mask.expand(versions, -1),
            sentence=sentence.expand(versions, -1),
            phrases=phrases.expand(versions, -1),
            motion=None if motion is None else motion.expand(versions, -1, -1),
        )

    @torch.inference_mode()
    def forward(self, visuals: Sequence[VisualTokens], text: TextTokens, motion: torch.Tensor | None) -> ModelOutput:
        """The network on several versions of a clip."""
        output: ModelOutput = self.checkpoint.model(self.batch(visuals, text, motion).to(self.device))
        return output.to("cpu")

    def probability(self, output: ModelOutput, target: int) -> np.ndarray:
        """Probability of one class in each version of a clip (versions,)."""
        return self.checkpoint.probabilities(output.logits)[:, target]
