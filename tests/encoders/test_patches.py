"""Patch tokens of image–text models: the model's own mixture of the same values gives the model's own vector."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange
from made_faces import NUM_FRAMES, clip_of, head, seen
from small_models import build, save
from torch import Tensor

from dferkit.encoders.attribution import cell_attribution
from dferkit.encoders.open import open_visual_encoder
from dferkit.encoders.patches import KINDS, PatchEncoder
from dferkit.encoders.protocols import check_declared
from dferkit.encoders.value_path import finish_layer, finish_pooling, layer_values, pooling_values
from dferkit.errors import CheckpointError
from dferkit.schema import FaceClip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {kind: save(of.model_type, root / kind) for kind, of in KINDS.items()}


@pytest.fixture(scope="module")
def clip() -> FaceClip:
    rng = np.random.default_rng(0)
    faces = clip_of(seen(np.stack([head(rng)] * NUM_FRAMES), rng))
    return replace(faces, images=rng.integers(0, 255, (NUM_FRAMES, 48, 48, 3)).astype(np.uint8))


def attention(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """Attention weights (batch, heads, queries, keys), written out."""
    query, key = (rearrange(x, "b n (h d) -> b h n d", h=heads) for x in (query, key))
    return (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)


def mix(weights: Tensor, values: Tensor) -> Tensor:
    """Each head's values mixed by its weights."""
    return rearrange(weights @ rearrange(values, "b n (h d) -> b h n d", h=weights.shape[1]), "b h n d -> b n (h d)")


def pixels() -> Tensor:
    return torch.randn(8, 3, 48, 48, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_the_class_token_of_clip_gets_the_image_embedding_from_the_same_functions() -> None:
    model = build("clip")
    seen_by: list[Tensor] = []
    layer = model.vision_model.encoder.layers[-1]
    layer.register_forward_pre_hook(lambda module, inputs: seen_by.append(inputs[0]))
    expected = model.get_image_features(pixel_values=pixels()).pooler_output
    (hidden,) = seen_by
    normed = layer.layer_norm1(hidden)
    weights = attention(layer.self_attn.q_proj(normed), layer.self_attn.k_proj(normed), 4)
    finished = finish_layer(layer, hidden, mix(weights, layer_values(layer, hidden)))
    found = model.visual_projection(model.vision_model.post_layernorm(finished[:, 0]))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_pooling_of_siglip_gives_the_image_embedding_from_the_same_functions() -> None:
    model = build("siglip")
    output = model.get_image_features(pixel_values=pixels())
    hidden, pooling = output.last_hidden_state, model.vision_model.head
    query, key, _ = pooling.attention.in_proj_weight.chunk(3)
    query_bias, key_bias, _ = pooling.attention.in_proj_bias.chunk(3)
    probe = pooling.probe.expand(len(hidden), -1, -1)
    weights = attention(probe @ query.T + query_bias, hidden @ key.T + key_bias, 4)
    found = finish_pooling(pooling, mix(weights, pooling_values(pooling, hidden)))[:, 0]
    torch.testing.assert_close(found, output.pooler_output, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_class_token_of_xclip_gets_the_vector_of_a_frame_from_the_same_functions() -> None:
    """Of a frame, before the frames are integrated; messages of other frames are among what it reads."""
    model = build("xclip")
    inputs: list[Tensor] = []
    layer = model.vision_model.encoder.layers[-1]
    layer.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    layer.layer_norm1.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    expected = model.vision_model(pixel_values=pixels()).pooler_output
    hidden, with_message = inputs
    assert with_message.shape[1] == hidden.shape[1] + 1
    normed = layer.layer_norm1(with_message)
    weights = attention(layer.self_attn.q_proj(normed), layer.self_attn.k_proj(normed), 4)
    mixed = mix(weights, layer_values(layer, with_message))[:, :1]
    found = model.vision_model.post_layernorm(finish_layer(layer, hidden[:, :1], mixed)[:, 0])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_patch_is_what_attention_to_itself_alone_gives(kind: str, folders: dict[str, Path], clip: FaceClip) -> None:
    """Against a whole forward pass of transformers whose last attention is masked to the patch itself."""
    encoder = open_visual_encoder(f"{kind}:{folders[kind]}")
    (tokens,) = encoder.encode([clip])
    check_declared(encoder, tokens)
    assert (tokens.values.shape, tokens.grid) == ((8, 9, encoder.dim), (3, 3))
    model = build(KINDS[kind].model_type)
    frames = torch.from_numpy(clip.images).permute(0, 3, 1, 2) / 255
    chosen = [0, 2, 4, 6, 9, 11, 13, 15] if kind == "xclip" else range(16)  # X-CLIP here reads 8 frames
    normed = (frames[list(chosen)] - encoder._mean) / encoder._std
    with torch.no_grad():
        if kind == "siglip":
            hidden = model.vision_model(pixel_values=normed).last_hidden_state
            expected = torch.stack([model.vision_model.head(hidden[:, i : i + 1]) for i in range(9)], 1)
        else:
            layers = model.vision_model.encoder.layers
            # One key: the softmax is 1 whatever the query.
            layers[-1].self_attn.forward = lambda hidden_states, **_: (
                layers[-1].self_attn.out_proj(layers[-1].self_attn.v_proj(hidden_states)),
                None,
            )
            hidden = model.vision_model(pixel_values=normed).last_hidden_state
            expected = model.visual_projection(model.vision_model.post_layernorm(hidden[:, 1:]))
    expected = expected.unflatten(0, (8, -1)).mean(1)
    torch.testing.assert_close(tokens.values, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_trace_has_the_tokens_that_are_read(kind: str, folders: dict[str, Path], clip: FaceClip) -> None:
    encoder = PatchEncoder(kind, folders[kind])
    trace, (tokens,) = encoder.trace(clip), encoder.encode([clip])
    torch.testing.assert_close(trace.tokens()[0], tokens.values, atol=1e-5, rtol=1e-5)
    assert cell_attribution(trace, lambda values, summary: values.sum()).shape == (8, 3, 3)


def test_the_digest_is_of_the_image_tower(folders: dict[str, Path], tmp_path: Path) -> None:
    encoder = PatchEncoder("clip-patches", folders["clip-patches"])
    for name, parameter in (("text", "text_model.final_layer_norm.bias"), ("image", "visual_projection.weight")):
        model = build("clip")
        with torch.no_grad():
            model.get_parameter(parameter).add_(1.0)
        model.save_pretrained(tmp_path / name)
        assert (PatchEncoder("clip-patches", tmp_path / name).digest == encoder.digest) == (name == "text")


def test_another_model_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(CheckpointError, match="siglip/ holds a model of type 'siglip', not 'clip'"):
        open_visual_encoder(f"clip-patches:{folders['siglip']}")
    with pytest.raises(CheckpointError, match="no SigLIP model is named; give siglip:FOLDER"):
        open_visual_encoder("siglip:")
    with pytest.raises(CheckpointError, match="no CLIP model is named; give clip-patches:FOLDER"):
        open_visual_encoder("clip-patches")


def test_a_siglip_without_its_pooling_head_is_refused(tmp_path: Path) -> None:
    from transformers import SiglipConfig, SiglipModel

    config = build("siglip").config
    config.vision_config.vision_use_head = False
    SiglipModel(SiglipConfig(text_config=config.text_config.to_dict(), vision_config=config.vision_config.to_dict())).save_pretrained(tmp_path / "bare")  # fmt: skip
    with pytest.raises(CheckpointError, match="no pooling head"):
        PatchEncoder("siglip", tmp_path / "bare")
