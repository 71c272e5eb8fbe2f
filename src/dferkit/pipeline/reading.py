"""Face clip → action units → caption → tokens → alignment and class scores."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from dferkit.encoders.box import BoxEncoder
from dferkit.encoders.protocols import DescribingEncoder, LandmarkReader
from dferkit.encoders.text import TextEncoder
from dferkit.errors import DataError
from dferkit.pipeline.head import Head
from dferkit.readings import ExternalReadings
from dferkit.schema import ActionUnits, Caption, FaceClip, ModelOutput, TextTokens, VisualTokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """One face clip with all that was computed from it; ``motion`` is None for models that do not read measured motion."""

    head: Head
    clip: FaceClip
    action_units: ActionUnits
    caption: Caption
    visual: VisualTokens
    text: TextTokens
    output: ModelOutput
    motion: torch.Tensor | None = None

    @property
    def aligned_text(self) -> Caption:
        """The text whose words the model aligned: the caption, or the paragraph that A³lign-DFER learned for its answer."""
        label = int(self.output.logits[0].argmax())
        return self.head.checkpoint.model.aligned_text(label) or self.caption

    @property
    def yaw_degrees(self) -> float | None:
        """Median turn of the head to a side, without sign; None where no landmarks were read."""
        if not isinstance(self.head.encoder, LandmarkReader):
            return None
        shape = self.head.encoder.shape(self.clip)
        return float(np.median(np.abs(shape.yaw_degrees[shape.seen])))


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """The networks that read face clips.

    Attributes:
        heads: The first one that can read a clip answers it. box: Describes action units where the head's encoder does not.
    """

    heads: tuple[Head, ...]
    box: BoxEncoder
    text_encoder: TextEncoder

    @property
    def front_end(self) -> str:
        """What the first head reads of a face."""
        return self.heads[0].front_end

    def head_for(self, clip: FaceClip) -> Head | None:
        """The first head that can read the clip; None where the landmarker found the face in too few frames."""
        return next((head for head in self.heads if head.can_read(clip)), None)

    def read(self, clip: FaceClip, external: ExternalReadings | None = None) -> Reading:
        """Everything up to the class scores.

        Args:
            external: What other tools measured in its video.

        Raises:
            DataError: No head can read the clip, or another tool has nothing for it.
        """
        head, external = self.head_for(clip), external or ExternalReadings()
        if head is None:
            raise DataError("the landmarker found no face in most frames of this clip, and the model reads landmarks")
        encoder = head.encoder
        describer = encoder if isinstance(encoder, DescribingEncoder) else self.box
        described = describer.read([clip])[0]
        units = external.units(clip, described.action_units)
        visual = described.tokens if encoder is describer else encoder.encode([clip])[0]
        caption = head.caption(units, external.guide(clip))
        text = self.text_encoder.encode_captions([caption])[0]
        motion = head.motion([clip])
        return Reading(
            head=head,
            clip=clip,
            action_units=units,
            caption=caption,
            visual=visual,
            text=text,
            output=head.forward([visual], text, motion),
            motion=motion,
        )

    def with_neutral(self, points: np.ndarray) -> Reader:
        """The same networks with a known face at rest (points, 3) as the zero of the landmarks."""
        heads = tuple(
            replace(head, encoder=head.encoder.with_neutral(points))
            if isinstance(head.encoder, LandmarkReader)
            else head
            for head in self.heads
        )
        return replace(self, heads=heads)
