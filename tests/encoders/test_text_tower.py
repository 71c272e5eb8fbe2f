"""Words of image–text models: against transformers' own text vectors, and against its own last layer with one key."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from einops import rearrange
from small_models import END, START, build, save, save_tokenizer
from torch import Tensor

from dferkit.encoders.box import BOX_FOLDER
from dferkit.encoders.text import TextEncoder, digest_text_model
from dferkit.encoders.value_path import finish_layer, layer_values
from dferkit.errors import CheckpointError
from dferkit.models.checkpoint import load_checkpoint

KINDS = ("clip", "xclip", "siglip")
TEXTS = ("lips pressed", "Brows up, 0.8 s")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {kind: save(kind, root / kind) for kind in KINDS}


def ids_of(kind: str, text: str) -> Tensor:
    """Ids of a text, as the model was trained to read them."""
    from small_models import ALPHABET
    from tokenizers import pre_tokenizers

    signs = "".join(word for word, _ in pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text))
    ids = [ALPHABET.index(sign) for sign in signs]
    whole = [*ids, END] + [END] * (39 - len(ids)) if kind == "siglip" else [START, *ids, END]
    return torch.tensor([whole])


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_the_sentence_is_the_text_vector_of_the_model(kind: str, folders: dict[str, Path]) -> None:
    encoder, model = TextEncoder(folders[kind], batch_size=2), build(kind)
    for text, tokens in zip(TEXTS, encoder.encode(TEXTS), strict=True):
        expected = model.get_text_features(input_ids=ids_of(kind, text)).pooler_output[0]
        torch.testing.assert_close(tokens.sentence, expected, atol=1e-5, rtol=1e-5)
        assert "".join(tokens.pieces) == text
        assert tokens.values.shape == (len(text), encoder.dim)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_a_word_is_what_attention_to_itself_alone_gives(kind: str, folders: dict[str, Path]) -> None:
    model = build(kind)
    attention = model.text_model.encoder.layers[-1].self_attn
    attention.forward = lambda hidden_states, **_: (attention.out_proj(attention.v_proj(hidden_states)), None)
    project = model.text_model.head if kind == "siglip" else model.text_projection
    first = 0 if kind == "siglip" else 1
    for text, tokens in zip(TEXTS, TextEncoder(folders[kind]).encode(TEXTS), strict=True):
        hidden = model.text_model(input_ids=ids_of(kind, text)).last_hidden_state[0, first : first + len(text)]
        torch.testing.assert_close(tokens.values, project(hidden), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_end_token_gets_the_text_vector_from_the_same_functions() -> None:
    model, ids, entered = build("clip"), ids_of("clip", "lips"), []
    layer = model.text_model.encoder.layers[-1]
    layer.register_forward_pre_hook(lambda module, inputs: entered.append(inputs[0]))
    expected = model.get_text_features(input_ids=ids).pooler_output
    normed = layer.layer_norm1(entered[0])
    query, key, value = (
        rearrange(x, "b n (h d) -> b h n d", h=4)
        for x in (layer.self_attn.q_proj(normed), layer.self_attn.k_proj(normed), layer_values(layer, entered[0]))
    )
    later = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).triu(1)
    weights = (query @ key.transpose(-1, -2) / 8**0.5).masked_fill(later, -torch.inf).softmax(-1)
    finished = finish_layer(layer, entered[0], rearrange(weights @ value, "b h n d -> b n (h d)"))
    found = model.text_projection(model.text_model.final_layer_norm(finished)[:, -1])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_in_a_batch_change_nothing(kind: str, folders: dict[str, Path]) -> None:
    encoder = TextEncoder(folders[kind])
    for text, tokens in zip(TEXTS, encoder.encode(TEXTS), strict=True):
        (alone,) = encoder.encode([text])
        torch.testing.assert_close(tokens.values, alone.values, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(tokens.sentence, alone.sentence, atol=1e-5, rtol=1e-5)


def test_the_digest_is_of_weights_and_tokenizer(folders: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folders["clip"], tmp_path / "copy"))
    assert TextEncoder(copy).digest == TextEncoder(folders["clip"]).digest
    save_tokenizer(copy, has_start=False)
    assert digest_text_model(copy) != digest_text_model(folders["clip"])
    recorded = load_checkpoint(BOX_FOLDER / "grace").about["text_encoder_digest"]
    assert TextEncoder(BOX_FOLDER / "text").digest == recorded


def test_a_folder_that_is_no_text_model_is_one_sentence(folders: dict[str, Path], tmp_path: Path) -> None:
    from transformers import T5Config, T5Model, VideoMAEConfig, VideoMAEModel

    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    VideoMAEModel(VideoMAEConfig(**small, image_size=32)).save_pretrained(tmp_path / "videomae")
    T5Model(T5Config(d_model=16, d_ff=16, num_layers=1, num_heads=2, vocab_size=32, d_kv=8)).save_pretrained(
        tmp_path / "t5"
    )
    for kind in ("videomae", "t5"):
        with pytest.raises(CheckpointError, match=f"{kind}/ holds a model of type '{kind}', which is no text encoder"):
            TextEncoder(tmp_path / kind)


@pytest.mark.parametrize("kind", ["clip", "bert"])
def test_a_missing_tokenizer_is_one_sentence(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    """transformers makes an empty tokenizer for BERT, and every word would be the same unknown piece."""
    from transformers import BertConfig, BertModel

    folder = tmp_path / kind
    if kind == "clip":
        shutil.copytree(folders["clip"], folder, ignore=shutil.ignore_patterns("tokenizer.json"))
    else:
        BertModel(BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)).save_pretrained(folder)  # fmt: skip
    with pytest.raises(CheckpointError, match=f"{kind}/ has no tokenizer; copy the model's tokenizer.json"):
        TextEncoder(folder)


def test_the_tokenizer_of_a_larger_model_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders["clip"], tmp_path / "clip"))
    shutil.copy(BOX_FOLDER / "text" / "tokenizer.json", folder)
    with pytest.raises(CheckpointError, match="has 1005 pieces and the model 258"):
        TextEncoder(folder)


def test_weights_that_are_not_in_the_file_are_refused(tmp_path: Path) -> None:
    """transformers would draw them."""
    from safetensors.torch import load_file, save_file
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=258, hidden_act="relu")  # fmt: skip
    BertModel(config).save_pretrained(tmp_path / "relu")
    save_tokenizer(tmp_path / "relu")
    weights = load_file(tmp_path / "relu" / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "pooler" not in name}
    save_file(kept, tmp_path / "relu" / "model.safetensors", metadata={"format": "pt"})
    assert TextEncoder(tmp_path / "relu").dim == 16, "the pooler is not read"
    kept.pop("encoder.layer.0.output.dense.weight")
    save_file(kept, tmp_path / "relu" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lack 1 tensors, such as .*output\.dense\.weight"):
        TextEncoder(tmp_path / "relu")
