"""Words in the common space of an image–text model: the text towers of CLIP, X-CLIP and SigLIP (the transformers classes)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from dferkit.encoders.image_text import load_image_text
from dferkit.encoders.value_path import finish_layer, layer_values


class TextTower:
    """A frozen text tower: a vector per piece, each through the last attention alone (``encoders.value_path``), and the model's own vector of the text.

    Attributes:
        dim: Width of the common space. max_positions: Longest text, with start and end.
    """

    def __init__(self, folder: Path, model_type: str, device: torch.device) -> None:
        """Load the tower; the image tower is left out.

        Raises:
            CheckpointError: The model is damaged or leaves parameters unfilled.
        """
        model = load_image_text(str(folder), model_type)
        config: Any = model.config.text_config
        self.tower, self.max_positions = model.text_model.to(device), int(config.max_position_embeddings)
        self.is_padded = (
            model_type == "siglip"
        )  # it was trained on texts of full length, and its vector is that of the last position
        self.projection = self.tower.head if self.is_padded else model.text_projection.to(device)
        self.dim, self._pad = self.projection.out_features, int(config.pad_token_id)
        self._entered: list[Tensor] = []
        self._last = self.tower.encoder.layers[-1]
        self._last.register_forward_pre_hook(lambda module, inputs: self._entered.append(inputs[0]))

    def __call__(
        self, ids: Int[Tensor, "texts positions"], mask: Bool[Tensor, "texts positions"]
    ) -> tuple[Float[Tensor, "texts positions dim"], Float[Tensor, "texts dim"]]:
        """Vectors of all positions, and of the texts. ``mask``: True for what is text, up to the end token."""
        length = ids.shape[1]
        if self.is_padded:
            ids = F.pad(ids.masked_fill(~mask, self._pad), (0, self.max_positions - length), value=self._pad)
            found = self.tower(input_ids=ids)
            sentence = found.pooler_output
        else:
            found = self.tower(input_ids=ids, attention_mask=mask.long())
            rows = torch.arange(len(ids), device=ids.device)
            sentence = self.projection(found.last_hidden_state[rows, mask.sum(1) - 1])
        entered = self._entered.pop()[:, :length]
        alone = finish_layer(self._last, entered, layer_values(self._last, entered))
        return self.projection(self.tower.final_layer_norm(alone)), sentence
