"""The small text encoder: its vocabulary, its learning and what it leaves behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dferkit.captions.sample import sample_caption
from dferkit.encoders.text import TextEncoder
from dferkit.errors import ConfigError
from dferkit.pretraining.text import (
    TextPretrainingConfig,
    _reword,
    pretrain_text_encoder,
)
from dferkit.pretraining.text_vocabulary import build_tokenizer, domain_words
from dferkit.storage import read_json

SMALL = TextPretrainingConfig(dim=32, num_layers=1, num_heads=2, hidden=64, batch=16, num_held_out=40)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("text")
    return folder, pretrain_text_encoder(folder, replace(SMALL, seed=3, steps=150))


def test_loss_falls_and_probes_learn(trained: tuple[Path, dict[str, float]]) -> None:
    _, metrics = trained
    assert metrics["last_loss"] < 0.8 * metrics["first_loss"]
    assert metrics["token_au_accuracy"] > 0.3  # 23 units: chance is below .1
    assert metrics["sentence_au_correlation"] > 0.3


def test_artefacts_load(trained: tuple[Path, dict[str, float]]) -> None:
    folder, metrics = trained
    encoder = TextEncoder(folder)
    assert (encoder.dim, encoder.max_pieces) == (32, 158)
    (tokens,) = encoder.encode(["Brows furrowed clearly, 0.8–1.9 s."])
    assert tokens.pieces == ("Brows", "furrowed", "clearly", ",", "0.8", "–", "1.9", "s", ".")
    card = read_json(folder / "card.json")
    assert card["held_out"]["token_au_accuracy"] == metrics["token_au_accuracy"]
    assert card["num_parameters"] == metrics["num_parameters"]
    assert sorted(p.name for p in folder.iterdir()) == [
        "card.json",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]


def test_transformers_reads_the_folder(trained: tuple[Path, dict[str, float]]) -> None:
    from transformers import BertModel

    folder, _ = trained
    model, report = BertModel.from_pretrained(
        folder, dtype=torch.float32, add_pooling_layer=False, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    text = "Lips parted, 0.1–1.0 s."
    ids = torch.tensor([build_tokenizer().encode(text).ids])
    with torch.no_grad():
        expected = model.eval()(input_ids=ids).last_hidden_state[0, 1:-1]
    torch.testing.assert_close(TextEncoder(folder).encode([text])[0].values, expected, atol=1e-5, rtol=1e-5)


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    short = replace(SMALL, seed=1, steps=3)
    pretrain_text_encoder(tmp_path / "a", short, on_progress=lambda step, steps, note: seen.append((step, steps)))
    pretrain_text_encoder(tmp_path / "b", short)
    pretrain_text_encoder(tmp_path / "c", replace(short, seed=2))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    for name in ("model.safetensors", "config.json", "tokenizer.json", "card.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a/model.safetensors").read_bytes() != (tmp_path / "c/model.safetensors").read_bytes()


def test_threads_are_given_back(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    pretrain_text_encoder(tmp_path, replace(SMALL, steps=1, threads=before + 1))
    assert torch.get_num_threads() == before


def test_every_caption_word_is_one_piece() -> None:
    tokenizer = build_tokenizer()
    assert tokenizer.get_vocab_size() < 1100
    for word in domain_words():
        assert len(tokenizer.encode(word, add_special_tokens=False).ids) == 1, word
    generator = np.random.default_rng(5)
    num_pieces = []
    for _ in range(200):
        caption = sample_caption(generator).caption
        encoding = tokenizer.encode(caption.text)
        num_pieces.append(len(encoding.ids))
        assert not any(piece.startswith("##") for piece in encoding.tokens), caption.text
    assert np.percentile(num_pieces, 90) <= 66
    assert max(num_pieces) <= 100


def test_reworded_captions_keep_their_times() -> None:
    generator = np.random.default_rng(2)
    for _ in range(50):
        caption = sample_caption(generator, refined_share=0.0, synonym_share=0.0).caption
        other = _reword(caption)
        for old, new in zip(caption.phrases, other.phrases, strict=True):
            assert old.text.partition(", ")[1:] == new.text.partition(", ")[1:]
            assert other.text[new.start_character : new.end_character] == new.text


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps is 0; give at least 1"),
        ({"threads": 0}, "threads is 0; give at least 1"),
        ({"num_heads": 3}, "multiple of num_heads"),
        ({"masked_share": 1.0}, "masked_share is 1.0"),
        ({"max_positions": 2}, "max_positions is 2"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TextPretrainingConfig(**wrong)
