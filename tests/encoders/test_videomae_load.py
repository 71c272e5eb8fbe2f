"""VideoMAE from published files and from folders of transformers, against the published forward pass written out here."""

from __future__ import annotations

import argparse
import json
import math
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from made_faces import NUM_FRAMES, clip_of, head, seen
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from transformers import VideoMAEConfig, VideoMAEModel
from typer.testing import CliRunner

from dferkit.cli.main import app
from dferkit.encoders.open import open_visual_encoder
from dferkit.encoders.videomae import VideoMAEEncoder
from dferkit.encoders.videomae_load import PublishedSizes, convert_published, published_config
from dferkit.errors import CheckpointError, ConfigError
from dferkit.schema import FaceClip

Weights = dict[str, Tensor]
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def published(
    width: int = 64, depth: int = 2, heads: int = 1, *, patch: int = 16, tubelet: int = 2, is_fine_tuned: bool = False
) -> Weights:
    """Weights under the names of the published files, every one drawn, so that none can be wrong unnoticed."""
    rng = torch.Generator().manual_seed(width)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng) * 0.5 / math.sqrt(shape[-1])

    def norm(name: str) -> Weights:
        return {f"{name}.weight": 1 + draw(width), f"{name}.bias": draw(width)}

    weights = {
        "patch_embed.proj.weight": draw(width, 3, tubelet, patch, patch) / 8,
        "patch_embed.proj.bias": draw(width),
    }
    for i in range(depth):
        own = {
            "attn.q_bias": draw(width), "attn.v_bias": draw(width), "attn.qkv.weight": draw(3 * width, width),
            "attn.proj.weight": draw(width, width), "attn.proj.bias": draw(width),
            "mlp.fc1.weight": draw(4 * width, width), "mlp.fc1.bias": draw(4 * width),
            "mlp.fc2.weight": draw(width, 4 * width), "mlp.fc2.bias": draw(width),
        }  # fmt: skip
        weights |= {f"blocks.{i}.{name}": value for name, value in {**norm("norm1"), **own, **norm("norm2")}.items()}
    if is_fine_tuned:
        return {**weights, **norm("fc_norm"), "head.weight": draw(7, width), "head.bias": draw(7)}
    encoder = {f"encoder.{name}": value for name, value in {**weights, **norm("norm")}.items()}
    return {**encoder, "mask_token": draw(1, 1, 8), "encoder_to_decoder.weight": draw(8, width), "decoder.blocks.0.norm1.weight": draw(8)}  # fmt: skip


def published_tokens(weights: Weights, video: Tensor, heads: int) -> Tensor:
    """The forward pass of the published code before pooling: (patches, width) of a video (frames, 3, side, side) in [0, 1]."""
    w = {name.removeprefix("encoder."): value for name, value in weights.items()}
    kernel = w["patch_embed.proj.weight"]
    pixels = ((video - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)).transpose(0, 1)
    x = F.conv3d(pixels[None], kernel, w["patch_embed.proj.bias"], stride=kernel.shape[2:]).flatten(2).transpose(1, 2)
    width = x.shape[2]
    table = torch.tensor(
        [[p / 10000 ** (2 * (j // 2) / width) for j in range(width)] for p in range(x.shape[1])], dtype=torch.float64
    )
    table[:, 0::2], table[:, 1::2] = table[:, 0::2].sin(), table[:, 1::2].cos()
    x = x + table.float()

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (width,), w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-6)

    depth = sum(name.endswith("mlp.fc1.bias") for name in w)
    for i in range(depth):
        b = f"blocks.{i}"
        bias = torch.cat([w[f"{b}.attn.q_bias"], torch.zeros(width), w[f"{b}.attn.v_bias"]])
        qkv = F.linear(norm(x, f"{b}.norm1"), w[f"{b}.attn.qkv.weight"], bias)
        q, k, v = qkv.reshape(1, -1, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        attention = ((q * (width // heads) ** -0.5) @ k.transpose(-2, -1)).softmax(-1)
        mixed = (attention @ v).transpose(1, 2).reshape(1, -1, width)
        x = x + F.linear(mixed, w[f"{b}.attn.proj.weight"], w[f"{b}.attn.proj.bias"])
        hidden = F.gelu(F.linear(norm(x, f"{b}.norm2"), w[f"{b}.mlp.fc1.weight"], w[f"{b}.mlp.fc1.bias"]))
        x = x + F.linear(hidden, w[f"{b}.mlp.fc2.weight"], w[f"{b}.mlp.fc2.bias"])
    return (norm(x, "norm") if "norm.weight" in w else x)[0]


@pytest.fixture(scope="module")
def clip() -> FaceClip:
    rng = np.random.default_rng(0)
    clip = clip_of(seen(np.repeat(head(rng)[None], NUM_FRAMES, 0), rng))
    clip.images[:] = rng.integers(0, 256, clip.images.shape, np.uint8)
    return clip


def tokens_of(folder: Path, clip: FaceClip) -> tuple[VideoMAEEncoder, Tensor]:
    encoder = open_visual_encoder(f"videomae:{folder}")
    assert isinstance(encoder, VideoMAEEncoder)
    return encoder, encoder.encode([clip])[0].values


@pytest.mark.parametrize("is_fine_tuned", [False, True], ids=["pre-trained", "fine-tuned"])
def test_a_published_file_and_its_folder_give_the_tokens_of_the_published_code(
    is_fine_tuned: bool, clip: FaceClip, tmp_path: Path
) -> None:
    weights = published(128, 3, is_fine_tuned=is_fine_tuned)
    nested = {"module": weights} if is_fine_tuned else {"model": weights, "epoch": 1600}
    torch.save(nested, tmp_path / "checkpoint.pth")
    report = convert_published(tmp_path / "checkpoint.pth", tmp_path / "folder", PublishedSizes(size=32))
    encoder, found = tokens_of(tmp_path / "folder", clip)
    assert (encoder.dim, encoder.num_frames, encoder.grid) == (128, 8, (2, 2))
    expected = published_tokens(weights, encoder._frames(clip), heads=2)
    torch.testing.assert_close(found.reshape(-1, 128), expected, atol=1e-5, rtol=1e-5)
    assert set(report.filled.values()) | set(report.left_out) == set(weights), "every key is accounted for"
    assert set(report.filled) == set(encoder.model.state_dict())
    kept = json.loads((tmp_path / "folder" / "conversion.json").read_text())
    assert (kept["filled"], kept["left_out"]) == (dict(report.filled), dict(report.left_out))


@pytest.mark.slow
def test_base_in_the_published_layout_gives_the_tokens_of_the_published_code(clip: FaceClip, tmp_path: Path) -> None:
    """The true sizes of VideoMAE-B, all read from the weights."""
    weights = published(768, 12)
    torch.save({"model": weights}, tmp_path / "base.pth")
    convert_published(tmp_path / "base.pth", tmp_path / "base")
    encoder, found = tokens_of(tmp_path / "base", clip)
    assert found.shape == (8, 196, 768)
    expected = published_tokens(weights, encoder._frames(clip), heads=12)
    torch.testing.assert_close(found.reshape(-1, 768), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("width", "depth", "heads"), [(384, 12, 6), (768, 12, 12), (1024, 24, 16), (1280, 32, 16), (1408, 40, 16)]
)
def test_sizes_are_read_from_the_weights(width: int, depth: int, heads: int) -> None:
    """S, B, L, H and g."""
    shapes = {"patch_embed.proj.weight": (width, 3, 2, 14, 14), "blocks.0.mlp.fc1.weight": (4 * width, width), f"blocks.{depth - 1}.attn.q_bias": (width,)}  # fmt: skip
    config = published_config({k: torch.empty(v, device="meta") for k, v in shapes.items()}, {}, PublishedSizes(), "x")
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (width, depth, heads)
    assert (config.intermediate_size, config.patch_size, config.tubelet_size) == (4 * width, 14, 2)
    assert (config.image_size, config.num_frames, config.qv_bias, config.use_mean_pooling) == (224, 16, True, True)


def test_safetensors_with_a_wrapper_of_the_model_are_read_alike(clip: FaceClip, tmp_path: Path) -> None:
    """As VideoMAE V2 is published."""
    weights = published(is_fine_tuned=True)
    save_file({f"model.{key}": value for key, value in weights.items()}, tmp_path / "model.safetensors")
    convert_published(tmp_path / "model.safetensors", tmp_path / "folder", PublishedSizes(size=32))
    encoder, found = tokens_of(tmp_path / "folder", clip)
    expected = published_tokens(weights, encoder._frames(clip), heads=1)
    torch.testing.assert_close(found.reshape(-1, 64), expected, atol=1e-5, rtol=1e-5)


def test_settings_that_the_file_notes_are_used(tmp_path: Path) -> None:
    noted = argparse.Namespace(input_size=160, num_frames=8, num_segments=2, output_dir="runs", lr=1e-3)
    torch.save({"model": published(), "args": noted, "optimizer": {"state": {}}}, tmp_path / "own.pth")
    convert_published(tmp_path / "own.pth", tmp_path / "own")
    config = json.loads((tmp_path / "own" / "config.json").read_text())
    assert (config["image_size"], config["num_frames"], config["layer_norm_eps"]) == (160, 16, 1e-6)
    assert json.loads((tmp_path / "own" / "preprocessor_config.json").read_text())["image_mean"] == [
        0.485,
        0.456,
        0.406,
    ]


class Harmful:
    """What pickle runs when it is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("harm",)


@pytest.mark.parametrize("way", ["torch", "pickle"])
def test_nothing_is_unpickled_but_tensors(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "harmful.pth"
    content = {"model": published(), "args": Harmful()}
    if way == "torch":
        torch.save(content, file)
    else:
        file.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(CheckpointError, match=r"harmful\.pth cannot be read as a file of tensors"):
        convert_published(file, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["harmful.pth"]


CHANGES = {
    "a missing bias": (lambda w: w.pop("encoder.blocks.1.attn.q_bias"), r"1\.attention\.attention\.query\.bias would stay unfilled"),
    "a missing norm": (lambda w: w.pop("encoder.norm.bias"), r"layernorm\.bias would stay unfilled"),
    "a key of no use": (lambda w: w.update({"encoder.blocks.0.attn.rel_pos": torch.zeros(3)}), r"encoder\.blocks\.0\.attn\.rel_pos would stay unused"),
    "a key that is there twice": (lambda w: w.update({"module.norm.bias": torch.zeros(64)}), "two keys for one parameter"),
    "learned positions": (lambda w: w.update({"encoder.pos_embed": torch.zeros(1, 8, 64)}), "has learned positions"),
    "positions of another size": (lambda w: w.update({"encoder.pos_embed": torch.zeros(1, 9, 64)}), "has 9 positions, but the model has 8"),
    "no number": (lambda w: w["encoder.norm.bias"].fill_(torch.nan), r"encoder\.norm\.bias holds NaN"),
    "another shape": (lambda w: w.update({"encoder.blocks.1.mlp.fc1.bias": torch.zeros(5)}), r"shape \(5,\), but the model has \(256,\)"),
    "pictures": (lambda w: w.update({"encoder.patch_embed.proj.weight": torch.zeros(64, 3, 16, 16)}), "holds no VideoMAE: its patches have the shape"),
    "MAE-DFER": (lambda w: w.update({"encoder.blocks.0.first_attn.q.weight": torch.zeros(3)}), r"holds MAE-DFER \(it has blocks\.0\.first_attn"),
    "SVFAP": (lambda w: w.update({"encoder.temporal_downsamples.0.weight": torch.zeros(3)}), "holds SVFAP"),
    "S2D": (lambda w: w.update({"prompt_blocks.0.conv1x1.weight": torch.zeros(3)}), "holds S2D"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_silently_unfilled_or_unused(change: str, tmp_path: Path) -> None:
    weights = published()
    alter, message = CHANGES[change]
    alter(weights)
    torch.save({"model": weights}, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match=message):
        convert_published(tmp_path / "file.pth", tmp_path / "out", PublishedSizes(size=16))
    assert not (tmp_path / "out").exists()


def test_a_fixed_position_table_in_the_file_is_compared_and_left_out(tmp_path: Path) -> None:
    table = VideoMAEModel(VideoMAEConfig(hidden_size=64, num_hidden_layers=1, num_attention_heads=1, image_size=16))
    torch.save({**published(), "encoder.pos_embed": table.embeddings.position_embeddings}, tmp_path / "file.pth")
    report = convert_published(tmp_path / "file.pth", tmp_path / "out", PublishedSizes(size=16))
    assert "equal to the fixed position table" in report.left_out["encoder.pos_embed"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.save({"model": published()}, tmp_path / "file.pth")
    convert_published(tmp_path / "file.pth", tmp_path / "model", PublishedSizes(size=32))
    return tmp_path / "model"


def change_weights(folder: Path, **renamed: str) -> None:
    """Rewrite the file with every ``before`` in a key replaced by ``after``."""
    weights = load_file(folder / "model.safetensors")
    for before, after in renamed.items():
        weights = {key.replace(before.replace("__", "."), after): value for key, value in weights.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_folders_of_every_version_of_transformers_have_their_biases(folder: Path, clip: FaceClip) -> None:
    """Version 4 wrote ``q_bias`` and ``v_bias``; some of version 5 read them as zeros."""
    _, expected = tokens_of(folder, clip)
    for query, value in (("query.bias", "value.bias"), ("q_bias", "v_bias")):
        change_weights(folder, q_bias=query, query__bias=query, v_bias=value, value__bias=value)
        assert any(key.endswith(query) for key in load_file(folder / "model.safetensors"))
        _, found = tokens_of(folder, clip)
        assert torch.equal(found, expected)
    change_weights(folder, v_bias="w_bias")
    with pytest.raises(CheckpointError, match=r"value\.bias, would stay unfilled"):
        tokens_of(folder, clip)


def test_a_tubelet_of_another_size_is_refused(folder: Path, clip: FaceClip) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tubelet_size": 4}))
    with pytest.raises(CheckpointError, match=r"shape \(64, 3, 2, 16, 16\), but the model has \(64, 3, 4, 16, 16\)"):
        tokens_of(folder, clip)
    (folder / "config.json").write_text(json.dumps({**config, "num_frames": 15}))
    with pytest.raises(CheckpointError, match="15 frames in tubelets of 2"):
        tokens_of(folder, clip)


def test_each_model_has_its_own_normalisation(folder: Path, clip: FaceClip) -> None:
    before, tokens = tokens_of(folder, clip)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    after, found = tokens_of(folder, clip)
    assert after.digest != before.digest
    shifted = (before._frames(clip) - 0.5) / 0.5 * STD.view(3, 1, 1) + MEAN.view(3, 1, 1)
    torch.testing.assert_close(found, before._hidden(shifted[None])[0], atol=1e-5, rtol=1e-5)
    path.unlink()
    without, same = tokens_of(folder, clip)
    assert without.digest == before.digest
    assert torch.equal(same, tokens)


def test_the_command_lists_what_is_left_out(tmp_path: Path) -> None:
    torch.save({"module": published(is_fine_tuned=True)}, tmp_path / "own.pth")
    asked = ["models", "convert", str(tmp_path / "own.pth"), "--out", str(tmp_path / "own"), "--size", "64", "--frames", "8"]  # fmt: skip
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    text = " ".join(done.output.split())
    assert "32 parameters filled, each from a key of own.pth" in text
    assert "2 keys left out, such as head.weight: class scores of the data set that it was trained on" in text
    encoder = VideoMAEEncoder(tmp_path / "own")
    assert (encoder.size, encoder.num_frames, encoder.grid) == (64, 4, (4, 4))


def test_a_folder_that_exists_is_kept(folder: Path) -> None:
    with pytest.raises(ConfigError, match="model exists already"):
        convert_published(folder.parent / "file.pth", folder)
    torch.save(published(100, 1), folder.parent / "odd.pth")
    with pytest.raises(ConfigError, match="width 100, which no published VideoMAE has"):
        convert_published(folder.parent / "odd.pth", folder.parent / "odd", PublishedSizes(size=16))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no file .*lost\.pth"):
        convert_published(tmp_path / "lost.pth", tmp_path / "out")
