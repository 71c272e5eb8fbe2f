"""The frozen CLIP, on a small model of the same class: against transformers' own answers."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_faces import NUM_FRAMES, clip_of, head, seen
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

from dferkit.encoders.attribution import cell_attribution
from dferkit.encoders.clip_model import ClipEncoder
from dferkit.encoders.open import open_visual_encoder
from dferkit.encoders.protocols import VisualEncoder
from dferkit.errors import CheckpointError, ConfigError, DataError
from dferkit.schema import FaceClip

START, END = 62, 63


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = CLIPConfig(
        text_config=CLIPTextConfig(
            **tower, vocab_size=64, max_position_embeddings=20, bos_token_id=START, eos_token_id=END, pad_token_id=END
        ).to_dict(),
        vision_config=CLIPVisionConfig(**tower, image_size=48, patch_size=16).to_dict(),
        projection_dim=24,
    )
    CLIPModel(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def encoder(folder: Path) -> ClipEncoder:
    return ClipEncoder(folder)


@pytest.fixture(scope="module")
def clip() -> FaceClip:
    rng = np.random.default_rng(0)
    faces = clip_of(seen(np.stack([head(rng)] * NUM_FRAMES), rng))
    return replace(faces, images=rng.integers(0, 255, (NUM_FRAMES, 48, 48, 3)).astype(np.uint8))


def test_frames_have_the_features_of_transformers(encoder: ClipEncoder, clip: FaceClip) -> None:
    assert isinstance(open_visual_encoder(f"clip:{encoder.folder}"), ClipEncoder)
    assert isinstance(encoder, VisualEncoder)
    (tokens,) = encoder.encode([clip])
    assert tokens.values.shape == (NUM_FRAMES, 1, 24)
    pixels = (torch.from_numpy(clip.images).permute(0, 3, 1, 2) / 255 - encoder._mean) / encoder._std
    with torch.no_grad():
        expected = encoder.model.get_image_features(pixel_values=pixels).pooler_output
    torch.testing.assert_close(tokens.values[:, 0], expected)


@pytest.mark.parametrize("length", [1, 7, 18])
def test_embeddings_of_words_give_the_features_of_the_words(encoder: ClipEncoder, length: int) -> None:
    """The end token's feature, wherever it stands, as transformers finds it by its id."""
    ids = torch.randint(0, START, (5, length), generator=torch.Generator().manual_seed(length))
    whole = torch.cat([torch.full((5, 1), START), ids, torch.full((5, 1), END)], 1)
    with torch.no_grad():
        expected = encoder.model.get_text_features(input_ids=whole).pooler_output
        torch.testing.assert_close(encoder.encode_ids(ids), expected)


def test_gradients_reach_the_embeddings_and_never_clip(encoder: ClipEncoder) -> None:
    before = {key: value.clone() for key, value in encoder.model.state_dict().items()}
    tokens = torch.randn(20, 6, 32, requires_grad=True)
    torch.manual_seed(0)
    weights = torch.randn(20, 24)
    (encoder.encode_embeddings(tokens) * weights).sum().backward()
    assert tokens.grad is not None
    assert tokens.grad.abs().flatten(1).sum(1).min() > 0
    assert all(p.grad is None for p in encoder.model.parameters())
    assert all(torch.equal(before[key], value) for key, value in encoder.model.state_dict().items())
    # Numerical derivative along a direction: what is computed twice is computed alike.
    direction = torch.randn_like(tokens)
    with torch.no_grad():
        ahead, behind = (
            float((encoder.encode_embeddings(tokens + sign * 1e-2 * direction) * weights).sum()) for sign in (1, -1)
        )
    assert (ahead - behind) / 2e-2 == pytest.approx(float((tokens.grad * direction).sum()), rel=0.02)


def test_a_trace_has_the_tokens_that_are_read(encoder: ClipEncoder, clip: FaceClip) -> None:
    trace, (tokens,) = encoder.trace(clip), encoder.encode([clip])
    torch.testing.assert_close(trace.tokens()[0], tokens.values)
    assert cell_attribution(trace, lambda values, summary: values.sum()).shape == (NUM_FRAMES, 1, 1)


def test_a_sentence_does_not_depend_on_its_neighbours(encoder: ClipEncoder) -> None:
    tokens = torch.randn(33, 4, 32)
    with torch.no_grad():
        together = encoder.encode_embeddings(tokens)
        alone = encoder.encode_embeddings(tokens[20:21])
    torch.testing.assert_close(together[20:21], alone)


def test_half_precision_is_close(encoder: ClipEncoder) -> None:
    tokens = torch.randn(4, 6, 32)
    with torch.no_grad():
        full, half = encoder.encode_embeddings(tokens), encoder.encode_embeddings(tokens, use_bfloat16=True)
    assert half.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(full, half).min() > 0.995


@pytest.mark.parametrize(
    ("name", "text"),
    [("preprocessor_config.json", '{"image_mean": 3}'), ("preprocessor_config.json", '{"image_mean": [0.5]}'), ("preprocessor_config.json", "[]"), ("config.json", "[1]"), ("config.json", "{")],
)  # fmt: skip
def test_a_damaged_folder_is_one_sentence(folder: Path, tmp_path: Path, name: str, text: str) -> None:
    shutil.copytree(folder, tmp_path / "clip")
    (tmp_path / "clip" / name).write_text(text)
    with pytest.raises(CheckpointError):
        ClipEncoder(tmp_path / "clip")


def test_other_sizes_are_enlarged_or_the_places_interpolated(folder: Path, clip: FaceClip) -> None:
    small = replace(clip, images=clip.images[:, :40, :40])
    enlarged, interpolated = ClipEncoder(folder), ClipEncoder(folder, size="interpolate")
    assert enlarged._frames(small).shape == (NUM_FRAMES, 3, 48, 48)
    assert interpolated._frames(small).shape == (NUM_FRAMES, 3, 32, 32), "two patches of 16"
    assert torch.isfinite(interpolated.encode([small])[0].values).all()
    torch.testing.assert_close(interpolated.encode([clip])[0].values, enlarged.encode([clip])[0].values)


def test_what_clip_cannot_read_is_refused(folder: Path, encoder: ClipEncoder, clip: FaceClip, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="up to 18"):
        encoder.encode_embeddings(torch.zeros(2, 19, 32))
    with pytest.raises(ConfigError, match="width 32"):
        encoder.encode_embeddings(torch.zeros(2, 4, 31))
    with pytest.raises(ConfigError, match="choose upsample, interpolate"):
        ClipEncoder(folder, size="crop")
    with pytest.raises(CheckpointError, match="none named nothing in DFERKIT_MODELS"):
        ClipEncoder(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="no CLIP model at somebody/something"):
        ClipEncoder("somebody/something")
    shutil.copytree(folder, tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:300])
    with pytest.raises(CheckpointError, match=r"the CLIP model in cut/ is damaged or incomplete"):
        ClipEncoder(tmp_path / "cut")
    (tmp_path / "cut" / "config.json").write_text('{"model_type": "videomae"}')
    with pytest.raises(CheckpointError, match="of type 'videomae', not 'clip'"):
        ClipEncoder(tmp_path / "cut")
    with pytest.raises(DataError, match="16 frames"):
        encoder.encode([replace(clip, images=clip.images[:3])])
    with pytest.raises(CheckpointError, match="no usable tokenizer"):
        encoder.encode_texts(["a face"])


def test_all_that_an_answer_depends_on_is_in_the_digest(folder: Path, encoder: ClipEncoder, tmp_path: Path) -> None:
    """Kept tokens are found by it: other weights, another activation, other colours, another size rule are another encoder."""

    def changed(name: str, file: str, text: str) -> str:
        copy = tmp_path / name
        shutil.copytree(folder, copy)
        (copy / file).write_text(text)
        return ClipEncoder(copy).digest

    config = (folder / "config.json").read_text()
    assert '"quick_gelu"' in config
    digests = [
        encoder.digest,
        ClipEncoder(folder, size="interpolate").digest,
        changed("colours", "preprocessor_config.json", '{"image_mean": [0.5, 0.5, 0.5]}'),
        changed("activation", "config.json", config.replace('"quick_gelu"', '"gelu"')),
    ]
    assert len(set(digests)) == len(digests)
    assert changed("note", "notes.txt", "nothing that matters") == encoder.digest
    # Words have digests of their own: tokens of pictures outlive another tokenizer.
    assert changed("words", "tokenizer.json", "{}") == encoder.digest
    assert ClipEncoder(tmp_path / "words").tokenizer_digest != encoder.tokenizer_digest
    assert ClipEncoder(tmp_path / "activation").text_digest != encoder.text_digest
    assert ClipEncoder(tmp_path / "colours").text_digest == encoder.text_digest
    with pytest.raises(CheckpointError, match="no usable tokenizer"):
        ClipEncoder(tmp_path / "words").encode_texts(["a face"])


def test_openai_files_name_wrong_ends() -> None:
    from dferkit.encoders.clip_model import _ends

    assert _ends(CLIPTextConfig(vocab_size=49408, bos_token_id=0, eos_token_id=2)) == (49406, 49407)
