"""Captions to text tokens, by any transformers text model in a local folder. Nothing is ever downloaded."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from dferkit.encoders.box import BOX_FOLDER
from dferkit.encoders.image_text import IMAGE_TEXT
from dferkit.encoders.text_tower import TextTower
from dferkit.errors import CheckpointError, DataError
from dferkit.schema import Caption, TextTokens
from dferkit.storage import digest_file, digest_json

_TOKENIZER = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "*.model")
# Token ids and mask → token vectors and, where the model has one, a vector of its own for the whole text.
_Forward = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]


class TextEncoder:
    """A frozen text model with its tokenizer.

    BERT models (the bundled one, MiniLM and relatives) are computed here in plain torch, bit for bit as transformers' ``BertModel`` does, because
    importing that takes 3 seconds of every prediction; other models go through transformers. Of a whole CLIP, X-CLIP or SigLIP, the words are those of its text
    tower in the space of its patches (``encoders.text_tower``).

    Attributes:
        name: Name of the folder, written into ``TextTokens.encoder``.
        dim: Width of the vectors.
        max_pieces: Longest text in pieces, special tokens not counted.
        folder: Where it was read from.
    """

    def __init__(self, folder: Path | str, *, device: str = "cpu", batch_size: int = 64) -> None:
        """Load config, tokenizer and safetensors weights from ``folder``.

        Args:
            device: Where the network runs; inputs and outputs stay on the CPU.

        Raises:
            CheckpointError: The folder or a file is missing or damaged, or the weights are not safetensors.
        """
        path = Path(folder)
        config_path = path / "config.json"
        if not config_path.is_file():
            raise CheckpointError(
                f"no text model in {path} (there is no config.json); give the folder of a transformers text model with "
                "config.json, model.safetensors and tokenizer.json, or train one with pretrain_text_encoder"
            )
        if not any(path.glob("*.safetensors")):
            raise CheckpointError(
                f"the text model in {path} has no .safetensors weights; save it again with save_pretrained(), because "
                "pickled weights can run code and are not read"
            )
        try:
            config = json.loads(config_path.read_text(encoding="utf-8"))
            load = _load_bert if _is_plain_bert(path, config) else _load_transformers
            self._network, self.dim, max_positions, num_pieces = load(path, config, torch.device(device))
            self._tokenizer, self._pad_id = _load_tokenizer(path, config)
        except (OSError, ValueError, KeyError, AttributeError, SafetensorError, RuntimeError) as error:
            raise CheckpointError(
                f"the text model in {path} cannot be read: {(str(error) or type(error).__name__).splitlines()[0]}"
            ) from error
        if self._tokenizer.get_vocab_size() > num_pieces:
            raise CheckpointError(
                f"the tokenizer in {path.name}/ has {self._tokenizer.get_vocab_size()} pieces and the model {num_pieces}; copy the tokenizer of this model into the folder"
            )
        self.folder, self.name = path, path.resolve().name
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.max_pieces = max_positions - self._tokenizer.num_special_tokens_to_add(False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of weights and tokenizer (``digest_text_model``)."""
        return digest_text_model(self.folder)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> list[TextTokens]:
        """Tokens of each text, float32. Neighbours in a batch do not change each other.

        A text that is too long is cut at ``max_pieces`` with a warning; the spans show where.

        Raises:
            DataError: A text has no visible character.
        """
        for number, text in enumerate(texts):
            if not text.strip():
                raise DataError(f"text {number} is empty; a caption needs at least one word")
        # Sorted by length, so that there is little padding; the results are put back in order.
        spelled = [self._tokenizer.encode(text) for text in texts]
        encodings = [self._cut(encoding, text) for encoding, text in zip(spelled, texts, strict=True)]
        order = sorted(range(len(texts)), key=lambda i: len(encodings[i][0]))
        self._warn_of_cuts(spelled)
        answers: dict[int, TextTokens] = {}
        for first in range(0, len(order), self.batch_size):
            chosen = order[first : first + self.batch_size]
            longest = max(len(encodings[i][0]) for i in chosen)
            ids = torch.full((len(chosen), longest), self._pad_id, dtype=torch.long)
            mask = torch.zeros(len(chosen), longest, dtype=torch.bool)
            for row, i in enumerate(chosen):
                ids[row, : len(encodings[i][0])] = torch.tensor(encodings[i][0])
                mask[row, : len(encodings[i][0])] = True
            vectors, pooled = self._network(ids.to(self.device), mask.to(self.device))
            vectors, pooled = vectors.float().cpu(), None if pooled is None else pooled.float().cpu()
            for row, i in enumerate(chosen):
                _, pieces, spans, live = encodings[i]
                values = vectors[row, torch.tensor(live, dtype=torch.long)]
                answers[i] = TextTokens(
                    values=values,
                    sentence=values.mean(dim=0) if pooled is None else pooled[row],
                    pieces=pieces,
                    spans=spans,
                    encoder=self.name,
                )
        return [answers[i] for i in range(len(texts))]

    def encode_captions(self, captions: Sequence[Caption]) -> list[TextTokens]:
        """Tokens of each caption's text, with the number of the phrase that each piece belongs to."""
        answers = []
        for caption, tokens in zip(captions, self.encode([c.text for c in captions]), strict=True):
            phrase_of_piece = [-1] * len(tokens.pieces)
            for number, phrase in enumerate(caption.phrases):
                for piece in tokens.pieces_within(phrase.start_character, phrase.end_character):
                    phrase_of_piece[piece] = number
            seconds = tuple((float(p.start_seconds), float(p.end_seconds)) for p in caption.phrases)
            answers.append(replace(tokens, phrase_of_piece=tuple(phrase_of_piece), phrase_seconds=seconds))
        return answers

    def _warn_of_cuts(self, spelled: Sequence[Any]) -> None:
        excess = [encoding.special_tokens_mask.count(0) - self.max_pieces for encoding in spelled]
        if cut := [count for count in excess if count > 0]:
            warnings.warn(
                f"{len(cut)} of {len(spelled)} texts have more pieces than the {self.max_pieces} that the text model {self.name!r} reads; "
                f"of the longest the last {max(cut)} are left out",
                stacklevel=3,
            )

    def _cut(
        self, encoding: Any, text: str
    ) -> tuple[list[int], tuple[str, ...], tuple[tuple[int, int], ...], list[int]]:
        """Ids within the model's length, then pieces, spans and positions of all but the special tokens."""
        ids, special = list(encoding.ids), list(encoding.special_tokens_mask)
        kept: list[int] = []
        num_pieces = 0
        for position, is_special in enumerate(special):
            num_pieces += not is_special
            if is_special or num_pieces <= self.max_pieces:
                kept.append(position)
        live = [row for row, position in enumerate(kept) if not special[position]]
        offsets = (encoding.offsets[kept[row]] for row in live)
        spans = tuple((int(a), int(b)) for a, b in offsets)
        pieces = tuple(text[a:b] for a, b in spans)
        return [ids[position] for position in kept], pieces, spans, live


def phrase_numbers(texts: Sequence[TextTokens], width: int) -> Int[Tensor, "batch words"]:
    """Phrase of each piece, -1 for none and for padding; a text without known phrases is one phrase."""
    numbers = torch.full((len(texts), width), -1)
    for row, tokens in zip(numbers, texts, strict=True):
        row[: len(tokens.pieces)] = torch.tensor(tokens.phrase_of_piece) if tokens.phrase_of_piece else 0
    return numbers


def digest_text_model(folder: Path) -> str:
    """SHA-256 of the weights of a text model and of its tokenizer.

    With the tokenizer of the bundled model it is that of the weights alone, as checkpoints have recorded it.
    """
    weights = [digest_file(path) for path in sorted(folder.glob("*.safetensors"))]
    tokenizer = {path.name: digest_file(path) for name in _TOKENIZER for path in sorted(folder.glob(name))}
    bundled = {"tokenizer.json": digest_file(BOX_FOLDER / "text" / "tokenizer.json")}
    return weights[0] if len(weights) == 1 and tokenizer == bundled else digest_json([weights, tokenizer])


def _load_tokenizer(path: Path, config: Mapping[str, Any]) -> tuple[Tokenizer, int]:
    """A tokenizer that neither pads nor cuts, and the id to pad with."""
    if (path / "tokenizer.json").is_file():
        try:
            tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        except Exception as error:  # the tokenizers package raises bare Exception for a damaged file
            raise CheckpointError(f"tokenizer.json in {path} is damaged: {error}") from error
    elif not any(found for name in _TOKENIZER for found in path.glob(name)):
        # transformers would make a tokenizer without words, and every word would be the unknown piece.
        raise CheckpointError(
            f"{path.name}/ has no tokenizer; copy the model's tokenizer.json into the folder of its weights"
        )
    else:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, use_fast=True).backend_tokenizer
    tokenizer.no_padding()
    tokenizer.no_truncation()
    pad = config.get("pad_token_id")
    return tokenizer, 0 if pad is None else int(pad)


def _is_plain_bert(path: Path, config: Mapping[str, Any]) -> bool:
    return (
        config.get("model_type") == "bert"
        and config.get("hidden_act", "gelu") == "gelu"
        and config.get("position_embedding_type", "absolute") in (None, "absolute")
        and not config.get("is_decoder", False)
        and (path / "model.safetensors").is_file()
    )


def _load_bert(path: Path, config: Mapping[str, Any], device: torch.device) -> tuple[_Forward, int, int, int]:
    weights = {
        name.removeprefix("bert."): value.to(device, torch.float32)
        for name, value in load_file(path / "model.safetensors").items()
    }
    num_layers, num_heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
    eps = float(config.get("layer_norm_eps", 1e-12))
    dim, max_positions = int(config["hidden_size"]), int(config["max_position_embeddings"])
    missing = bert_parameter_names(num_layers) - weights.keys()
    if missing:
        raise CheckpointError(f"model.safetensors in {path} lacks {len(missing)} tensors, such as {min(missing)}")

    def forward(ids: Tensor, mask: Tensor) -> tuple[Tensor, None]:
        return bert_vectors(weights, ids, mask, num_layers=num_layers, num_heads=num_heads, eps=eps), None

    return forward, dim, max_positions, len(weights["embeddings.word_embeddings.weight"])


def bert_parameter_names(num_layers: int) -> set[str]:
    """Names of the tensors that ``bert_vectors`` reads, those of transformers' ``BertModel`` without its pooler."""
    names = {f"embeddings.{kind}_embeddings.weight" for kind in ("word", "position", "token_type")}
    modules = ["embeddings.LayerNorm"]
    for layer in range(num_layers):
        parts = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"]
        parts += ["attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"]
        modules += [f"encoder.layer.{layer}.{part}" for part in parts]
    return names | {f"{module}.{kind}" for module in modules for kind in ("weight", "bias")}


def bert_vectors(
    weights: Mapping[str, Tensor],
    ids: Int[Tensor, "batch words"],
    mask: Bool[Tensor, "batch words"],
    *,
    num_layers: int,
    num_heads: int,
    eps: float,
) -> Float[Tensor, "batch words dim"]:
    """BERT (Devlin et al. 2018, arXiv 1810.04805) without dropout: the last layer's token vectors.

    Args:
        weights: Tensors by the names of transformers' ``BertModel``; gradients flow into them.
        mask: True for tokens that count.
    """

    def linear(x: Tensor, name: str) -> Tensor:
        return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps)

    x = functional.embedding(ids, weights["embeddings.word_embeddings.weight"])
    x = x + weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
    x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    batch, words, dim = x.shape
    for number in range(num_layers):
        layer = f"encoder.layer.{number}"
        query, key, value = (
            linear(x, f"{layer}.attention.self.{part}").view(batch, words, num_heads, dim // num_heads).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        mixed = mixed.transpose(1, 2).reshape(batch, words, dim)
        x = norm(x + linear(mixed, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
        wide = functional.gelu(linear(x, f"{layer}.intermediate.dense"))
        x = norm(x + linear(wide, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return x


def _load_transformers(path: Path, config: Mapping[str, Any], device: torch.device) -> tuple[_Forward, int, int, int]:
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    about: Any = transformers.AutoConfig.from_pretrained(path, local_files_only=True)
    of_text: Any = about.get_text_config()
    num_pieces = getattr(of_text, "vocab_size", None)
    if about.model_type in IMAGE_TEXT:
        tower = TextTower(path, about.model_type, device)
        return tower, tower.dim, tower.max_positions, of_text.vocab_size
    if num_pieces is None or about.is_encoder_decoder or of_text is not about:
        raise CheckpointError(
            f"{path.name}/ holds a model of type {about.model_type!r}, which is no text encoder; give the folder of one, such as MiniLM, BERT or CLIP"
        )
    is_clip = about.model_type == "clip_text_model"
    kind: Any = transformers.CLIPTextModel if is_clip else transformers.AutoModel
    model, report = kind.from_pretrained(
        path, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
    )
    # transformers would give these random values without an error; a pooler is not read.
    if missing := sorted(name for name in report["missing_keys"] if "pooler" not in name):
        raise CheckpointError(f"the weights in {path} lack {len(missing)} tensors, such as {missing[0]}")
    model = model.to(device).eval().requires_grad_(False)
    max_positions = int(getattr(model.config, "max_position_embeddings", 512))
    if model.config.model_type in ("roberta", "xlm-roberta", "camembert"):
        max_positions -= int(model.config.pad_token_id) + 1  # their positions start after that of the padding

    def forward(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        output = model(input_ids=ids, attention_mask=mask.long())
        # CLIP's vector of a text is that of its closing token; other models' is the mean.
        return output.last_hidden_state, output.pooler_output if is_clip else None

    return forward, int(model.config.hidden_size), max_positions, num_pieces
