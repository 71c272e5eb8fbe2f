"""The text encoder: transformers is the oracle, batching changes nothing, spans stand where they say."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from dferkit.encoders.text import TextEncoder
from dferkit.errors import CheckpointError, DataError
from dferkit.pretraining.text_vocabulary import build_tokenizer
from dferkit.schema import TextTokens

TEXTS = (
    "Brows furrowed clearly, 0.8–1.9 s; lips pressed together slightly, 1.0–2.0 s.",
    "The face stays still.",
    "Ünïcode 中文 and crow's feet",
    "lips",
)


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=64,
    )
    model = BertModel(config)
    with torch.no_grad():  # the default initialisation is too even to tell a wrong weight from a right one
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = tmp_path_factory.mktemp("models") / "tiny-clip"
    torch.manual_seed(0)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: i for i, piece in enumerate([*alphabet, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>",
        special_tokens=[("<|startoftext|>", 256), ("<|endoftext|>", 257)],
    )
    tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    config = CLIPTextConfig(
        vocab_size=258,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=100,
        bos_token_id=256,
        eos_token_id=257,
        pad_token_id=257,
    )
    CLIPTextModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def assert_same(a: TextTokens, b: TextTokens) -> None:
    torch.testing.assert_close(a.values, b.values, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(a.sentence, b.sentence, atol=1e-5, rtol=1e-5)
    assert (a.pieces, a.spans) == (b.pieces, b.spans)


def test_bert_equals_transformers(bert_folder: Path) -> None:
    from transformers import BertModel

    encoder = TextEncoder(bert_folder)
    model = BertModel.from_pretrained(bert_folder, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(bert_folder / "tokenizer.json"))
    for text, tokens in zip(TEXTS, encoder.encode(TEXTS), strict=True):
        with torch.no_grad():
            expected = model(input_ids=torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0, 1:-1]
        torch.testing.assert_close(tokens.values, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(tokens.sentence, expected.mean(0), atol=1e-5, rtol=1e-5)
    assert (encoder.dim, encoder.max_pieces) == (32, 62)
    assert tokens.encoder == "tiny-bert"


def test_clip_equals_transformers(clip_folder: Path) -> None:
    from transformers import CLIPTextModel

    encoder = TextEncoder(clip_folder)
    model = CLIPTextModel.from_pretrained(clip_folder, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(clip_folder / "tokenizer.json"))
    for text, tokens in zip(TEXTS, encoder.encode(TEXTS), strict=True):
        with torch.no_grad():
            expected = model(input_ids=torch.tensor([tokenizer.encode(text).ids]))
        torch.testing.assert_close(tokens.values, expected.last_hidden_state[0, 1:-1], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(tokens.sentence, expected.pooler_output[0], atol=1e-5, rtol=1e-5)
    assert (encoder.dim, encoder.max_pieces) == (24, 98)


@pytest.mark.parametrize("kind", ["bert", "clip"])
def test_batching_and_order_change_nothing(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(f"{kind}_folder")
    encoder = TextEncoder(folder, batch_size=3)
    together = encoder.encode(TEXTS)
    for text, tokens in zip(TEXTS, together, strict=True):
        assert_same(tokens, encoder.encode([text])[0])
    for tokens, again in zip(together, reversed(encoder.encode(TEXTS[::-1])), strict=True):
        assert_same(tokens, again)
    assert encoder.encode([]) == []


def test_spans_and_pieces(bert_folder: Path) -> None:
    for text, tokens in zip(TEXTS, TextEncoder(bert_folder).encode(TEXTS), strict=True):
        assert len(tokens.values) == len(tokens.pieces) == len(tokens.spans) > 0
        assert tokens.pieces == tuple(text[a:b] for a, b in tokens.spans)
        covered = {i for a, b in tokens.spans for i in range(a, b)}
        assert covered == {i for i, sign in enumerate(text) if not sign.isspace()}


def test_long_texts_are_cut_with_a_warning(bert_folder: Path) -> None:
    encoder = TextEncoder(bert_folder)
    text = "lips " * 70
    with pytest.warns(
        UserWarning, match="1 of 2 texts have more pieces than the 62 .* of the longest the last 8 are left out"
    ):
        tokens, _ = encoder.encode([text, "lips"])
    assert len(tokens.pieces) == 62
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(encoder.encode(["lips " * 62])[0].pieces) == 62


def test_empty_texts_are_refused(bert_folder: Path) -> None:
    with pytest.raises(DataError, match="text 1 is empty"):
        TextEncoder(bert_folder).encode(["lips", " \n"])


def test_what_cannot_be_loaded_says_what_to_do(bert_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="pretrain_text_encoder"):
        TextEncoder(tmp_path / "absent")

    def broken(name: str) -> Path:
        return Path(shutil.copytree(bert_folder, tmp_path / name))

    pickled = broken("pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="safetensors"):
        TextEncoder(pickled)
    cut = broken("cut")
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be read"):
        TextEncoder(cut)
    deeper = broken("deeper")
    config = json.loads((deeper / "config.json").read_text())
    (deeper / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(CheckpointError, match="lacks 16 tensors"):
        TextEncoder(deeper)
    garbled = broken("garbled")
    (garbled / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        TextEncoder(garbled)
    no_json = broken("no-json")
    (no_json / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        TextEncoder(no_json)


def test_other_bert_variants_go_through_transformers(bert_folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(bert_folder, tmp_path / "relu"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    plain, relu = (TextEncoder(folder).encode(TEXTS[:1])[0] for folder in (bert_folder, other))
    assert plain.spans == relu.spans
    assert not torch.allclose(plain.values, relu.values)


def test_the_box_encoder_loads_without_transformers(bert_folder: Path) -> None:
    code = (
        "import sys; from dferkit.encoders.text import TextEncoder;"
        f"TextEncoder({str(bert_folder)!r}).encode(['lips']); sys.exit('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@settings(max_examples=60, deadline=None)
@given(text=st.text(min_size=1, max_size=40))
def test_any_text_can_be_spelled(text: str) -> None:
    encoding = build_tokenizer_once().encode(text)
    assert "[UNK]" not in encoding.tokens
    for a, b in encoding.offsets:
        assert 0 <= a <= b <= len(text)


def build_tokenizer_once(cache: list[Tokenizer] = []) -> Tokenizer:  # noqa: B006
    if not cache:
        cache.append(build_tokenizer())
    return cache[0]


def test_batch_of_random_captions_is_deterministic(bert_folder: Path) -> None:
    encoder = TextEncoder(bert_folder)
    first, second = encoder.encode(TEXTS), encoder.encode(TEXTS)
    assert all(np.array_equal(a.values.numpy(), b.values.numpy()) for a, b in zip(first, second, strict=True))
