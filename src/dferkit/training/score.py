"""A checkpoint's answers on labelled clips: the one way from tokens to probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dferkit.encoders.open import open_text_encoder
from dferkit.errors import DataError
from dferkit.models.checkpoint import Checkpoint
from dferkit.models.registry import find_model
from dferkit.schema import ModelOutput, TextTokens
from dferkit.tokens.captioned import caption_unseen, with_texts
from dferkit.tokens.dataset import AT_ONCE, TokenDataset
from dferkit.training.about import check_texts, check_tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """Class scores and probabilities (rows, classes), float64, of the rows of a data set."""

    clip_ids: tuple[str, ...]
    logits: Float[Tensor, "rows classes"]
    probabilities: Float[np.ndarray, "rows classes"]

    def of_clips(self) -> dict[str, np.ndarray]:
        """One answer (classes) per clip: the mean over its rows."""
        rows: dict[str, list[np.ndarray]] = {}
        for clip_id, answer in zip(self.clip_ids, self.probabilities, strict=True):
            rows.setdefault(clip_id, []).append(answer)
        return {clip_id: np.mean(views, axis=0) for clip_id, views in rows.items()}


def score(checkpoint: Checkpoint, data: TokenDataset, *, device: str = "cpu") -> Answers:
    """Answer every row at the checkpoint's temperature; clips without captions are captioned as the checkpoint does in use.

    Raises:
        CheckpointError: The tokens or words are of another encoder, or the classes are numbered in another way.
    """
    check_tokens(checkpoint, data)
    check_texts(checkpoint, data)
    if len(data):
        logits = predict_logits(checkpoint.model, captioned_for(checkpoint, data), device=device)
    else:
        logits = torch.zeros(0, len(checkpoint.labels), dtype=torch.float64)
    return Answers(clip_ids=data.clip_ids, logits=logits, probabilities=checkpoint.probabilities(logits))


def captioned_for(checkpoint: Checkpoint, data: TokenDataset) -> TokenDataset:
    """The clips with captions, where the model reads them and the clips have none yet."""
    if data.texts is not None or not find_model(checkpoint.name).reads_text or not len(data):
        return data
    encoder = open_text_encoder(str(checkpoint.about["text_encoder"]), str(checkpoint.about["encoder"]))
    return with_texts(data, caption_unseen(checkpoint, data, encoder))


def predict_outputs(
    model: Any, data: TokenDataset, *, batch: int = AT_ONCE, device: str = "cpu"
) -> Iterator[ModelOutput]:
    """The model's answers in batches, in order, on the CPU. Afterwards the model is back on the device that it came from."""
    home = next((value.device for value in model.state_dict().values()), device)
    model.to(device).eval()  # not in inference mode: weights that are moved there cannot be trained any more
    try:
        for some in data.batches(batch):
            with torch.inference_mode():
                output = model(some.to(device)).to("cpu")
            yield output
    finally:
        model.to(home)


def predict_logits(
    model: Any, data: TokenDataset, *, batch: int = AT_ONCE, device: str = "cpu"
) -> Float[Tensor, "rows classes"]:
    """Class scores, float64, on the CPU."""
    outputs = predict_outputs(model, data, batch=batch, device=device)
    return torch.cat([output.logits.double() for output in outputs])


def predict_probabilities(
    model: Any, data: TokenDataset, *, batch: int = AT_ONCE, device: str = "cpu"
) -> Float[np.ndarray, "rows classes"]:
    """Class probabilities, float64, of a model in training, which has no temperature."""
    return predict_logits(model, data, batch=batch, device=device).softmax(1).numpy()


def whole_plans(outputs: Iterable[ModelOutput], texts: Sequence[TextTokens]) -> list[np.ndarray]:
    """Per clip the plan over all visual tokens (pieces, steps · patches); tokens that were not kept have no mass.

    Raises:
        DataError: The model aligns no words with the video.
    """
    plans: list[np.ndarray] = []
    for output in outputs:
        if output.alignment is None or output.motion is None:
            raise DataError("this model aligns no words with the video; take one with video and text, such as grace")
        plan, index = output.alignment.plan, output.alignment.visual_index
        whole = plan.new_zeros(*plan.shape[:2], output.motion[0].numel())
        # Padding is at -1 and has no mass.
        whole.scatter_add_(2, index.clamp_min(0)[:, None].expand(-1, plan.shape[1], -1), plan)
        plans += [clip[: len(texts[len(plans) + i].pieces)].numpy() for i, clip in enumerate(whole)]
    return plans
