"""Training of the small text encoder of the bundled model, on captions of random action-unit curves.

A small BERT learns token vectors from which linear probes predict the action unit, the regions, the intensity and the
times of the phrase that a token belongs to, and a sentence vector (the mean of the token vectors) from which a probe
predicts the action units of the whole clip. It also learns to predict masked pieces.

Deviation: GRACE takes the text encoder of VideoCLIP, trained on web text; this one is trained on dferkit's own captions
only. Any transformers text model can take its place (``encoders.text``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from dferkit.captions import wording
from dferkit.captions.describe import describe, join_phrases
from dferkit.captions.sample import sample_action_units, sample_caption
from dferkit.checks import check_counts, check_range
from dferkit.encoders.text import bert_parameter_names, bert_vectors
from dferkit.errors import ConfigError
from dferkit.facs import AU_NAMES, load_facs
from dferkit.pretraining.loop import Progress, Schedule, minimise
from dferkit.pretraining.text_vocabulary import SPECIAL, build_tokenizer
from dferkit.schema import Caption
from dferkit.storage import atomic_path, write_json, write_text

_NUM_SEEDS = 3  # streams: weights, training captions, held-out captions


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPretrainingConfig:
    """Size of the encoder, and length and speed of its training.

    Attributes:
        dim, num_layers, num_heads, hidden: Of the BERT; ``hidden`` is the width inside its feed-forward layers.
        max_positions: Longest text in pieces, two special ones included.
        masked_share: Share of the pieces that is masked, in every second caption of a batch.
        num_held_out: Captions that the trained encoder is measured on.
    """

    dim: int = 128
    num_layers: int = 3
    num_heads: int = 4
    hidden: int = 256
    max_positions: int = 160
    batch: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    masked_share: float = 0.15
    num_held_out: int = 300
    steps: int = 1200
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        counts = ("dim", "num_layers", "num_heads", "hidden", "batch", "num_held_out", "steps", "threads")
        check_counts(self, *counts)
        check_range(self, "learning_rate", "weight_decay", "masked_share", least=0, below=1)
        check_range(self, "seed", least=0)
        if self.max_positions < 3:
            raise ConfigError(
                f"max_positions is {self.max_positions}; give at least 3, for a piece between two special ones"
            )
        if self.dim % self.num_heads:
            raise ConfigError(f"dim is {self.dim}; give a multiple of num_heads, which is {self.num_heads}")

    def rate(self, step: int) -> float:
        """Learning rate: a linear rise over a twentieth of the steps, times a cosine fall over all."""
        warmup = max(1, self.steps // 20)
        return self.learning_rate * (
            min(1.0, (step + 1) / warmup) * (0.5 + 0.5 * math.cos(math.pi * step / self.steps))
        )


def pretrain_text_encoder(
    folder: Path | str,
    config: TextPretrainingConfig | None = None,
    *,
    device: str = "cpu",
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Train the encoder and write it as a transformers BERT folder.

    Writes ``model.safetensors`` (half precision), ``config.json``, ``tokenizer.json`` and ``card.json`` with the
    held-out figures that are also returned. The same configuration gives the same bytes on the same machine.

    Returns:
        ``num_parameters``, ``first_loss``, ``last_loss`` (means of ten steps) and, on captions of curves
        outside the training, read by the linear probes: ``token_au_accuracy`` (action unit of a piece inside a phrase),
        ``held_out_wording_au_accuracy`` (of a whole phrase, in wordings outside the training), ``intensity_error``,
        ``onset_error_seconds``, ``stress_accuracy`` and ``sentence_au_correlation`` (Pearson, over all captions and
        units).
    """
    config = config or TextPretrainingConfig()
    threads_before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        return _pretrain(Path(folder), config, device, on_progress)
    finally:
        torch.set_num_threads(threads_before)


def _pretrain(folder: Path, config: TextPretrainingConfig, device: str, on_progress: Progress | None) -> dict[str, Any]:
    weight_seed, caption_seed, test_seed = np.random.SeedSequence(config.seed).spawn(_NUM_SEEDS)
    generator = torch.Generator().manual_seed(int(weight_seed.generate_state(1)[0]))
    captions = np.random.default_rng(caption_seed)
    tokenizer = build_tokenizer()
    initial = _initial_weights(config, tokenizer.get_vocab_size(), generator)
    weights = {name: value.to(device).requires_grad_() for name, value in initial.items()}
    probes = _Probes(config.dim, tokenizer.get_vocab_size(), generator).to(device)

    def loss(step: int) -> Tensor:
        batch = _label_pieces([sample_caption(captions).caption for _ in range(config.batch)], tokenizer)
        ids, masked = _mask_pieces(batch, config.masked_share, SPECIAL.index("[MASK]"), generator)
        batch = batch.to(device)
        vectors = _vectors(weights, ids.to(device), batch.live, config)
        return probes.loss(vectors, batch, masked.to(device), weights["embeddings.word_embeddings.weight"])

    schedule = Schedule(steps=config.steps, rate=config.rate, weight_decay=config.weight_decay)
    losses = minimise(loss, [*weights.values(), *probes.parameters()], schedule, on_progress=on_progress)

    # The figures are those of the stored weights, in half precision.
    stored = {name: value.detach().cpu().half().contiguous() for name, value in weights.items()}
    rounded = {name: value.float() for name, value in stored.items()}
    training = {"first_loss": float(np.mean(losses[:10])), "last_loss": float(np.mean(losses[-10:]))}
    held_out = _measure(rounded, probes.cpu(), tokenizer, config, np.random.default_rng(test_seed))
    num_parameters = sum(value.numel() for value in stored.values())
    _write(folder, stored, tokenizer, config)
    write_json(
        folder / "card.json",
        {
            "what": "Text encoder for dferkit captions, trained on random action-unit captions: no video, no web text.",
            "seed": config.seed,
            "steps": config.steps,
            "batch_size": config.batch,
            "num_parameters": num_parameters,
            "facs_version": load_facs().version,
            "training": training,
            "held_out": held_out,
        },
    )
    return {"num_parameters": num_parameters, **training, **held_out}


@dataclass(frozen=True, kw_only=True, slots=True)
class _LabelledPieces:
    """Captions as piece ids, and the targets of the probes for each piece."""

    ids: Tensor  # batch words
    live: Tensor  # True for text and special tokens, False for padding
    text: Tensor  # True for pieces of the text
    inside: Tensor  # True for pieces inside a phrase
    unit: Tensor  # action unit's number, len(AU_NAMES) for none
    regions: Tensor  # batch words regions, 0 or 1
    values: Tensor  # batch words 3: intensity, start and end in units of two seconds
    stressed: Tensor
    sentence: Tensor  # batch units: peak intensity, 0 where the caption does not mention the unit

    def to(self, device: str) -> _LabelledPieces:
        """The same captions on another device."""
        return _LabelledPieces(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def _label_pieces(captions: Sequence[Caption], tokenizer: Tokenizer) -> _LabelledPieces:
    region_names = load_facs().regions
    encodings = [tokenizer.encode(caption.text) for caption in captions]
    shape = (len(captions), max(len(encoding.ids) for encoding in encodings))
    ids = np.zeros(shape, dtype=np.int64)
    live, text, inside = (np.zeros(shape, dtype=bool) for _ in range(3))
    unit = np.full(shape, len(AU_NAMES), dtype=np.int64)
    regions = np.zeros((*shape, len(region_names)), dtype=np.float32)
    values = np.zeros((*shape, 3), dtype=np.float32)
    stressed = np.zeros(shape, dtype=np.float32)
    sentence = np.zeros((len(captions), len(AU_NAMES)), dtype=np.float32)
    for row, (caption, encoding) in enumerate(zip(captions, encodings, strict=True)):
        ids[row, : len(encoding.ids)] = encoding.ids
        live[row, : len(encoding.ids)] = True
        text[row, : len(encoding.ids)] = ~np.array(encoding.special_tokens_mask, dtype=bool)
        starts = np.array([start for start, _ in encoding.offsets])
        for phrase in caption.phrases:
            of_phrase = text[row, : len(starts)] & (starts >= phrase.start_character) & (starts < phrase.end_character)
            columns = np.flatnonzero(of_phrase)
            inside[row, columns] = True
            if phrase.action_unit in AU_NAMES:
                number = AU_NAMES.index(phrase.action_unit)
                unit[row, columns] = number
                sentence[row, number] = max(sentence[row, number], phrase.intensity)
            regions[row, columns] = [name in phrase.regions for name in region_names]
            values[row, columns] = (phrase.intensity, phrase.start_seconds / 2, phrase.end_seconds / 2)
            stressed[row, columns] = phrase.is_stressed
    tensor = torch.from_numpy
    return _LabelledPieces(
        ids=tensor(ids), live=tensor(live), text=tensor(text), inside=tensor(inside), unit=tensor(unit),
        regions=tensor(regions), values=tensor(values), stressed=tensor(stressed), sentence=tensor(sentence),
    )  # fmt: skip


class _Probes(nn.Module):
    """Linear layers on the token vectors (one matrix) and on their mean, which serve the training only."""

    def __init__(self, dim: int, num_pieces: int, generator: torch.Generator) -> None:
        super().__init__()
        self.num_units, self.num_regions = len(AU_NAMES), len(load_facs().regions)
        self.token = nn.Linear(dim, self.num_units + 1 + self.num_regions + 3 + 1)
        self.sentence = nn.Linear(dim, self.num_units)
        self.piece_bias = nn.Parameter(torch.zeros(num_pieces))
        for layer in (self.token, self.sentence):
            nn.init.normal_(layer.weight, std=0.02, generator=generator)
            nn.init.zeros_(layer.bias)

    def read(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits of unit, regions; values; logit of stress."""
        unit, regions, values, stressed = self.token(vectors).split(
            [self.num_units + 1, self.num_regions, 3, 1], dim=-1
        )
        return unit, regions, values, stressed[..., 0]

    def loss(self, vectors: Tensor, batch: _LabelledPieces, masked: Tensor, pieces: Tensor) -> Tensor:
        """Sum of all losses, each of the order of 1 at the start."""
        unit, regions, values, stressed = self.read(vectors[batch.inside])
        sentence = self.sentence(_sentence_vectors(vectors, batch.text))
        # A caption mentions few units; they weigh more, about as much as all others together.
        weight = 1 + 6 * batch.sentence
        total = functional.cross_entropy(unit, batch.unit[batch.inside])
        total = total + functional.binary_cross_entropy_with_logits(regions, batch.regions[batch.inside])
        total = total + 2 * functional.smooth_l1_loss(values, batch.values[batch.inside], beta=0.1)
        total = total + 0.5 * functional.binary_cross_entropy_with_logits(stressed, batch.stressed[batch.inside])
        error = functional.smooth_l1_loss(sentence, batch.sentence, beta=0.1, reduction="none")
        total = total + 2 * (weight * error).mean()
        if masked.any():
            guesses = functional.linear(vectors[masked], pieces, self.piece_bias)
            total = total + 0.5 * functional.cross_entropy(guesses, batch.ids[masked])
        return total


def _initial_weights(config: TextPretrainingConfig, num_pieces: int, generator: torch.Generator) -> dict[str, Tensor]:
    """BERT's initialisation: normal with standard deviation 0.02, norms 1, biases 0."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (num_pieces, config.dim),
        "embeddings.position_embeddings.weight": (config.max_positions, config.dim),
        "embeddings.token_type_embeddings.weight": (2, config.dim),
    }
    weights = {}
    for name in sorted(bert_parameter_names(config.num_layers)):
        if name in shapes:
            shape = shapes[name]
        elif "LayerNorm" in name or not name.endswith("weight"):
            shape = (config.hidden if "intermediate" in name else config.dim,)
        elif "intermediate" in name:
            shape = (config.hidden, config.dim)
        elif name.endswith("output.dense.weight") and "attention" not in name:
            shape = (config.dim, config.hidden)
        else:
            shape = (config.dim, config.dim)
        if name.endswith("bias"):
            value = torch.zeros(shape)
        elif "LayerNorm" in name:
            value = torch.ones(shape)
        else:
            value = torch.empty(shape).normal_(std=0.02, generator=generator)
        weights[name] = value
    return weights


def _vectors(weights: Mapping[str, Tensor], ids: Tensor, live: Tensor, config: TextPretrainingConfig) -> Tensor:
    return bert_vectors(weights, ids, live, num_layers=config.num_layers, num_heads=config.num_heads, eps=1e-12)


def _sentence_vectors(vectors: Tensor, text: Tensor) -> Tensor:
    """Mean over the pieces of the text, as in ``TextEncoder``."""
    weight = text[..., None].float()
    return (vectors * weight).sum(1) / weight.sum(1)


def _mask_pieces(
    batch: _LabelledPieces, share: float, mask_id: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    chosen = (torch.rand(batch.ids.shape, generator=generator) < share) & batch.text
    chosen[::2] = False  # the probes also need whole captions
    return torch.where(chosen, torch.full_like(batch.ids, mask_id), batch.ids), chosen


@torch.no_grad()
def _measure(
    weights: Mapping[str, Tensor],
    probes: _Probes,
    tokenizer: Tokenizer,
    config: TextPretrainingConfig,
    generator: np.random.Generator,
) -> dict[str, float]:
    def read(captions: Sequence[Caption]) -> tuple[_LabelledPieces, Tensor]:
        batch = _label_pieces(captions, tokenizer)
        return batch, _vectors(weights, batch.ids, batch.live, config)

    batch, vectors = read([sample_caption(generator).caption for _ in range(config.num_held_out)])
    unit, _, values, stressed = probes.read(vectors[batch.inside])
    truth = batch.values[batch.inside]
    sentence = probes.sentence(_sentence_vectors(vectors, batch.text))

    reworded = [_reword(describe(sample_action_units(generator))) for _ in range(config.num_held_out)]
    reworded = [caption for caption in reworded if caption.phrases[0].action_unit]
    other, vectors = read(reworded)
    scores = probes.read(vectors)[0].log_softmax(-1)
    hits = []
    for row, caption in enumerate(reworded):
        starts = np.array([start for start, _ in tokenizer.encode(caption.text).offsets])
        for phrase in caption.phrases:
            # Only the words before the times, because the times are the same in every wording.
            end = phrase.start_character + len(phrase.text.partition(", ")[0])
            columns = np.flatnonzero(
                other.text[row, : len(starts)].numpy() & (starts >= phrase.start_character) & (starts < end)
            )
            hits.append(int(scores[row, columns].sum(0).argmax()) == AU_NAMES.index(phrase.action_unit))
    return {
        "token_au_accuracy": float((unit.argmax(-1) == batch.unit[batch.inside]).double().mean()),
        "held_out_wording_au_accuracy": float(np.mean(hits)) if hits else 0.0,
        "intensity_error": float((values - truth)[:, 0].abs().mean()),
        "onset_error_seconds": float(2 * (values - truth)[:, 1].abs().mean()),
        "stress_accuracy": float(((stressed > 0) == (batch.stressed[batch.inside] > 0)).double().mean()),
        "sentence_au_correlation": float(np.corrcoef(sentence.flatten(), batch.sentence.flatten())[0, 1]),
    }


def _reword(caption: Caption) -> Caption:
    """A coarse caption in held-out wordings."""
    phrases = []
    for phrase in caption.phrases:
        if phrase.action_unit:
            strength = load_facs().intensity_word(phrase.intensity)
            head = wording.place_adverb(wording.WORDINGS[phrase.action_unit].held_out, strength or "")
            _, comma, tail = phrase.text.partition(", ")
            phrase = replace(phrase, text=head + comma + tail)
        phrases.append(phrase)
    return join_phrases(phrases, source=caption.source)


def _write(folder: Path, weights: dict[str, Tensor], tokenizer: Tokenizer, config: TextPretrainingConfig) -> None:
    """Write a folder that transformers' ``BertModel`` also reads."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "model.safetensors") as temporary:
        temporary.write_bytes(save(weights, metadata={"format": "pt"}))
    write_json(
        folder / "config.json",
        {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "hidden_size": config.dim,
            "num_hidden_layers": config.num_layers,
            "num_attention_heads": config.num_heads,
            "intermediate_size": config.hidden,
            "max_position_embeddings": config.max_positions,
            "vocab_size": tokenizer.get_vocab_size(),
            "type_vocab_size": 2,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-12,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "pad_token_id": SPECIAL.index("[PAD]"),
            "torch_dtype": "float16",
        },
    )
    # Keys are sorted because the tokenizers package guarantees no order.
    write_text(folder / "tokenizer.json", json.dumps(json.loads(tokenizer.to_str()), sort_keys=True) + "\n")
