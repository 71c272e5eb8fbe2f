"""CLIP (the transformers class) frozen: features of frames, of texts, and of learned token embeddings in place of words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dferkit.encoders.attribution import Trace, trace_pixels
from dferkit.encoders.image_text import TOWER, load_image_text
from dferkit.encoders.model_folder import digest_weights, find_model_folder
from dferkit.encoders.protocols import VisualEncoder
from dferkit.errors import CheckpointError, ConfigError, DataError
from dferkit.schema import FaceClip, VisualTokens
from dferkit.storage import digest_file, digest_json

NUM_FRAMES = 16
KINDS = {"upsample": "clip", "interpolate": "clip-interpolate"}
"""Name of the encoder by how pictures get the size that CLIP takes."""
STATISTICS = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # OpenAI's CLIP
_SEQUENCES_AT_ONCE = 16
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")
_OPENAI_VOCABULARY = 49408


class ClipEncoder(VisualEncoder):
    """Frozen CLIP: one token per frame.

    Args of the constructor:
        source: Folder with config.json and safetensors, or a name in the user's hub cache (never downloaded).
        size: ``upsample`` (a crop of 112 pixels is enlarged to what CLIP was trained on) or ``interpolate`` (CLIP's positions
            are interpolated to the crop, which is cut to a multiple of the patch).

    Attributes:
        digest: Of all that the tokens of a clip depend on. text_digest: Of all that a text's features depend on but for the tokenizer.
        dim: Width of the common space. token_width: Of the text tower's token embeddings. max_tokens: Longest sentence, without start and end.
    """

    device = "cpu"
    has_text = True
    grid = (1, 1)
    num_frames = NUM_FRAMES

    def __init__(self, source: Path | str = "", *, size: str = "upsample") -> None:
        """Load the model.

        Raises:
            ConfigError: An unknown size rule.
            CheckpointError: The model is not there, is not CLIP, or leaves parameters unfilled.
        """
        if size not in KINDS:
            raise ConfigError(f"size is {size!r}; choose {', '.join(KINDS)}")
        source = find_model_folder(source, "clip")
        self.model = load_image_text(source, "clip")
        self.name, self.folder, self.size = f"{KINDS[size]}:{Path(source).name}", Path(source), size
        model = self.model
        text, vision = model.config.text_config, model.config.vision_config
        self.dim = self.summary_dim = model.config.projection_dim
        self.token_width, self.max_tokens = text.hidden_size, text.max_position_embeddings - 2
        self._side, self._patch = vision.image_size, vision.patch_size
        self._start, self._end = _ends(text)
        self._mean, self._std = normalisation(source)
        # All that tokens depend on; not the whole configuration, which grows with the library's version.
        image = [[getattr(vision, key) for key in TOWER], self._side, self._patch, size, self._mean.tolist(), self._std.tolist()]  # fmt: skip
        self.digest = digest_json([digest_weights(model.vision_model, model.visual_projection), image])
        words = [[getattr(text, key) for key in TOWER], self._start, self._end, float(model.logit_scale)]
        self.text_digest = digest_json([digest_weights(model.text_model, model.text_projection), words])

    def to(self, device: str) -> ClipEncoder:
        """``VisualEncoder.to``; only ``encode_ids`` and ``encode_embeddings`` take and return tensors of that device."""
        self.model.to(device)
        self.device = device
        return self

    @torch.inference_mode()
    def encode(self, clips: Sequence[FaceClip]) -> list[VisualTokens]:
        """One token per frame; clips have 16."""
        result = []
        for clip in clips:
            values = self.features(self._frames(clip))
            result.append(
                VisualTokens(
                    values=values[:, None],
                    summary=values,
                    grid=self.grid,
                    timestamps=np.asarray(clip.timestamps),
                    encoder=self.name,
                )
            )
        return result

    def trace(self, clip: FaceClip) -> Trace:
        """The same tokens with their gradient path to the pixels of each frame."""

        def forward(video: Tensor) -> tuple[Tensor, Tensor]:
            values = self.features(video[0])
            return values[:, None], values

        return trace_pixels(forward, self._frames(clip), steps=self.num_frames, grid=self.grid)

    def features(self, frames: Float[Tensor, "frames 3 height width"]) -> Float[Tensor, "frames dim"]:
        """Features of frames in [0, 1], of a size that the model takes."""
        pixels = (frames - self._mean) / self._std
        output = self.model.vision_model(
            pixel_values=pixels.to(self.device), interpolate_pos_encoding=self.size == "interpolate"
        )
        features: Tensor = self.model.visual_projection(output.pooler_output)
        return features.cpu()

    def _frames(self, clip: FaceClip) -> Float[Tensor, "frames 3 height width"]:
        if len(clip.images) != self.num_frames:
            raise DataError(f"CLIP reads clips of {self.num_frames} frames, got {len(clip.images)}")
        own = clip.images.shape[1]
        side = self._side if self.size == "upsample" else max(own // self._patch, 1) * self._patch
        return square_frames(clip.images, side)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "texts dim"]:
        """Features of texts, by the tokenizer in the model's folder.

        Raises:
            CheckpointError: The folder has no tokenizer, or another model's.
        """
        tokenizer, rows = self.open_tokenizer(), []
        for text in texts:
            ids = tokenizer(text, add_special_tokens=False, truncation=True, max_length=self.max_tokens)["input_ids"]
            rows.append(self.encode_ids(torch.tensor([ids], device=self.device)).cpu())
        return torch.cat(rows)

    def open_tokenizer(self) -> Any:
        """The tokenizer in the model's folder.

        Raises:
            CheckpointError: There is none, or another model's.
        """
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(str(self.folder), local_files_only=True)
        except Exception:  # the tokenizers library raises whatever its parser met
            tokenizer = None
        if tokenizer is None or len(tokenizer) != self.model.config.text_config.vocab_size:
            raise CheckpointError(
                f"{self.folder.name} has no usable tokenizer; copy the model's tokenizer.json into the folder of its weights"
            )
        return tokenizer

    @property
    def tokenizer_digest(self) -> str:
        """Of the tokenizer's files."""
        return digest_json({name: digest_file(path) for name, path in _files(str(self.folder), *_TOKENIZER).items()})

    def encode_ids(self, ids: Int[Tensor, "texts tokens"]) -> Float[Tensor, "texts dim"]:
        """Features of token ids, without start and end."""
        return self.encode_embeddings(self.model.text_model.embeddings.token_embedding(ids))

    def encode_embeddings(
        self, tokens: Float[Tensor, "sentences tokens width"], *, use_bfloat16: bool = False
    ) -> Float[Tensor, "sentences dim"]:
        """Text features of sentences given as token embeddings; start and end are put around them.

        Gradients reach the embeddings, never CLIP. The activations are computed twice and not kept. The feature is that of the last position,
        the end token.

        Args:
            use_bfloat16: Half the memory, and half the time where the processor supports it.

        Raises:
            ConfigError: More tokens than CLIP has positions for, or another width.
        """
        if tokens.shape[1] > self.max_tokens or tokens.shape[2] != self.token_width:
            raise ConfigError(
                f"sentences of {tokens.shape[1]} tokens of width {tokens.shape[2]}; {self.name} takes up to {self.max_tokens} of width {self.token_width}"
            )
        parts = []
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=use_bfloat16):
            for some in tokens.split(_SEQUENCES_AT_ONCE):
                found = (
                    checkpoint(self._sentences, some, use_reentrant=False)
                    if some.requires_grad and torch.is_grad_enabled()
                    else self._sentences(some)
                )
                parts.append(found)
        return torch.cat(parts).float()

    def _sentences(self, tokens: Tensor) -> Tensor:
        table = self.model.text_model.embeddings.token_embedding
        ends = table(torch.tensor([self._start, self._end], device=tokens.device))
        start, end = (one.expand(len(tokens), 1, -1) for one in ends)
        whole = torch.cat([start, tokens, end], 1)
        # The ids give only the length of the sequence: their embeddings are replaced. With the causal mask no padding to 77 is needed.
        ids = torch.full(whole.shape[:2], self._end, device=tokens.device)
        with _replace_embeddings(table, whole):
            hidden = self.model.text_model(input_ids=ids).last_hidden_state
        feature: Tensor = self.model.text_projection(hidden[:, -1])
        return feature


def square_frames(images: UInt8[np.ndarray, "frames own own 3"], side: int) -> Float[Tensor, "frames 3 side side"]:
    """Face crops in [0, 1] at another size; small crops are enlarged."""
    interpolation = cv2.INTER_AREA if images.shape[1] >= side else cv2.INTER_CUBIC
    sized = np.stack([cv2.resize(image, (side, side), interpolation=interpolation) for image in images])
    return torch.from_numpy(sized).permute(0, 3, 1, 2).float() / 255


@contextmanager
def _replace_embeddings(table: torch.nn.Module, embeddings: Tensor) -> Iterator[None]:
    """Inside this context the embedding table returns these embeddings for any ids."""
    handle = table.register_forward_hook(lambda module, inputs, output: embeddings)
    try:
        yield
    finally:
        handle.remove()


def _ends(config: Any) -> tuple[int, int]:
    """Ids of the start and end tokens; those in OpenAI's configuration files are wrong."""
    if config.vocab_size == _OPENAI_VOCABULARY:
        return _OPENAI_VOCABULARY - 2, _OPENAI_VOCABULARY - 1
    return int(config.bos_token_id), int(config.eos_token_id)


def _files(source: str, *names: str) -> dict[str, Path]:
    """The files of a model that exist, by name."""
    from transformers.utils import cached_file

    found = {
        name: cached_file(source, name, local_files_only=True, _raise_exceptions_for_missing_entries=False)
        for name in names
    }
    return {name: Path(path) for name, path in found.items() if path is not None}


def normalisation(
    source: str, statistics: tuple[tuple[float, ...], tuple[float, ...]] = STATISTICS
) -> tuple[Float[Tensor, "3 1 1"], Float[Tensor, "3 1 1"]]:
    """Mean and spread of the channels: those that the model's folder names, or else ``statistics``, by default OpenAI's.

    Raises:
        CheckpointError: The folder names them in a way that cannot be read.
    """
    mean, std = statistics
    name = "preprocessor_config.json"
    if found := _files(source, name):
        try:
            about = json.loads(found[name].read_text(encoding="utf-8"))
            mean, std = (
                tuple(map(float, about.get(key, own))) for key, own in (("image_mean", mean), ("image_std", std))
            )
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{name} of {Path(source).name} cannot be read: {error}") from error
        if len(mean) != 3 or len(std) != 3:
            raise CheckpointError(
                f"{name} of {Path(source).name} gives {len(mean)} and {len(std)} channels; expected 3"
            )
    return torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
