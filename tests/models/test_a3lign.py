"""A³lign-DFER's parts by themselves, on made-up CLIP features."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dferkit.errors import ConfigError
from dferkit.models.a3lign import A3lign, A3lignConfig, A3lignReader
from dferkit.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dferkit.models.coarse import fit_coarse
from dferkit.schema import TokenBatch
from dferkit.storage import from_json

SMALL = A3lignConfig(
    dim=16, token_width=12, num_sentences=4, num_tokens=5, num_frames=6, heads=2, mlp_width=24, labels=tuple("abc")
)


def model(**changes: object) -> A3lign:
    torch.manual_seed(0)
    return A3lign(A3lignConfig(**{**asdict(SMALL), **changes})).eval()


@pytest.fixture
def frames() -> torch.Tensor:
    return torch.randn(7, 6, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def paragraphs() -> torch.Tensor:
    return torch.randn(3, 4, 16, generator=torch.Generator().manual_seed(2))


def test_the_paper_s_sizes() -> None:
    big = A3lignConfig(token_width=768, dim=768)
    assert len(big.labels) * big.num_sentences * big.num_tokens * big.token_width == pytest.approx(5.5e6, rel=0.01)
    assert (big.num_sentences, big.num_tokens, big.num_frames) == (16, 64, 16)
    assert (big.text_layers, big.image_layers, big.joint_layers, big.shared_layers) == (2, 4, 4, 2)


def test_the_first_step_compares_the_mean_of_the_frames(frames: torch.Tensor, paragraphs: torch.Tensor) -> None:
    net = model()
    with torch.no_grad():
        classes = net.text_dynamic(paragraphs)
        expected = F.cosine_similarity(frames.mean(1)[:, None], classes[None], dim=-1) / 0.01
        torch.testing.assert_close(net(frames, paragraphs, step=1), expected)
        shuffled = frames[:, torch.randperm(6)]
        torch.testing.assert_close(net(shuffled, paragraphs, step=1), expected, msg="a mean has no order")
        assert not torch.allclose(net(shuffled, paragraphs, step=2), net(frames, paragraphs, step=2), atol=1e-3)


@pytest.mark.parametrize("mode", ["shared", "concat", "none"])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_an_answer_does_not_depend_on_the_batch(
    mode: str, step: int, frames: torch.Tensor, paragraphs: torch.Tensor
) -> None:
    net = model(joint_mode=mode)
    with torch.no_grad():
        whole = net(frames, paragraphs, step=step)
        alone = torch.cat([net(one[None], paragraphs, step=step) for one in frames])
    assert whole.shape == (7, 3)
    torch.testing.assert_close(whole, alone, atol=1e-4, rtol=1e-4)


def test_the_joint_module_begins_as_the_image_encoder_does() -> None:
    net = model()
    first = [{k: v.clone() for k, v in layer.state_dict().items()} for layer in net.joint.layers]
    net.joint.start_from(net.text_dynamic, net.image_dynamic)
    for number, layer in enumerate(net.joint.layers):
        wanted = net.image_dynamic.layers[number].state_dict() if number < 2 else first[number]
        assert all(torch.equal(wanted[key], value) for key, value in layer.state_dict().items()), number
    assert torch.equal(net.joint.video.positions, net.image_dynamic.sequence.positions)
    assert torch.equal(net.joint.text.class_token, net.text_dynamic.sequence.class_token)


def test_without_further_layers_the_hand_over_keeps_the_answer(frames: torch.Tensor) -> None:
    """A joint module of two layers, both taken over from an image encoder of two layers, reads a video as that did."""
    net = model(joint_layers=2, image_layers=2)
    net.joint.start_from(net.text_dynamic, net.image_dynamic)
    with torch.no_grad():
        torch.testing.assert_close(net.video_vectors(frames, step=3), net.video_vectors(frames, step=2))


def test_together_the_video_knows_the_class(frames: torch.Tensor, paragraphs: torch.Tensor) -> None:
    net = model(joint_mode="concat")
    with torch.no_grad():
        video, classes = net.joint.pair_vectors(frames, paragraphs)
        other = paragraphs.clone()
        other[2] += torch.randn(4, 16, generator=torch.Generator().manual_seed(3))
        moved, _ = net.joint.pair_vectors(frames, other)
    assert video.shape == classes.shape == (7, 3, 16)
    torch.testing.assert_close(video[:, :2], moved[:, :2])
    assert not torch.allclose(video[:, 2], moved[:, 2], atol=1e-3)


@pytest.mark.parametrize("mode", ["shared", "concat", "none"])
def test_what_is_kept_answers_as_the_whole_model(mode: str, frames: torch.Tensor, paragraphs: torch.Tensor) -> None:
    net = model(joint_mode=mode)
    reader = A3lignReader.of(net, paragraphs)
    with torch.no_grad():
        torch.testing.assert_close(reader.scores(frames), net(frames, paragraphs), atol=1e-5, rtol=1e-5)
        called = reader(TokenBatch(visual=frames[:, :, None]))
    torch.testing.assert_close(called.logits, reader.scores(frames))
    assert not [name for name, _ in reader.named_parameters() if "mat" in name]


@pytest.mark.parametrize("mode", ["shared", "concat", "none"])
def test_a_checkpoint_of_it_answers_to_the_last_bit(
    mode: str, frames: torch.Tensor, paragraphs: torch.Tensor, tmp_path: Path
) -> None:
    reader = A3lignReader.of(model(joint_mode=mode), paragraphs)
    names = SMALL.labels
    coarse = fit_coarse(np.random.default_rng(0).standard_normal((12, 5)), np.arange(12) % len(names), labels=names)
    save_checkpoint(Checkpoint(name="a3lign", model=reader, coarse=coarse, about={"name": "a3lign"}), tmp_path)
    again = load_checkpoint(tmp_path)
    assert again.labels == names
    with torch.no_grad():
        assert torch.equal(
            again.model(TokenBatch(visual=frames[:, :, None])).logits,
            reader(TokenBatch(visual=frames[:, :, None])).logits,
        )


def test_together_a_sentence_meets_frames_that_know_its_class(frames: torch.Tensor, paragraphs: torch.Tensor) -> None:
    """Read as one sequence, the frames beside one class do not move when another class's paragraph does; apart they never do."""
    net = model(joint_mode="concat")
    other = paragraphs.clone()
    other[2] += torch.randn(4, 16, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        before, after = (A3lignReader.of(net, some).similarity_over_time(frames) for some in (paragraphs, other))
        apart = A3lignReader.of(model(joint_mode="shared"), paragraphs).similarity_over_time(frames)
    torch.testing.assert_close(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 2], after[:, 2], atol=1e-3)
    assert not torch.allclose(before, apart, atol=1e-3)


@pytest.mark.parametrize("mode", ["shared", "concat", "none"])
def test_sentences_meet_frames(mode: str, frames: torch.Tensor, paragraphs: torch.Tensor) -> None:
    plain = A3lignReader.of(model(joint_mode="none"), paragraphs).similarity_over_time(frames)
    expected = F.cosine_similarity(frames[:, None, None], paragraphs[None, :, :, None], dim=-1)
    torch.testing.assert_close(plain, expected)
    reader = A3lignReader.of(model(joint_mode=mode), paragraphs)
    with torch.no_grad():
        found = reader.similarity_over_time(frames)
        output = reader(TokenBatch(visual=frames[:, :, None]))
    assert found.shape == (7, 3, 4, 6)
    assert float(found.abs().max()) <= 1 + 1e-5
    assert output.alignment is not None
    plan = output.alignment.plan
    assert plan.shape == (7, 4, 6)
    torch.testing.assert_close(plan.sum(2), torch.full((7, 4), 0.25))
    # The frame that a sentence is nearest to has the largest share.
    best = found[torch.arange(7), output.logits.argmax(1)].argmax(2)
    assert torch.equal(plan.argmax(2), best)


@pytest.mark.parametrize("mode", ["shared", "concat", "none"])
def test_attention_to_frames(mode: str, frames: torch.Tensor, paragraphs: torch.Tensor) -> None:
    """Against queries and keys multiplied by hand, in the layer that a hook finds last."""
    net = model(joint_mode=mode, heads=1)
    reader = A3lignReader.of(net, paragraphs)
    with torch.no_grad():
        output = reader(TokenBatch(visual=frames[:, :, None]))
    found = output.frame_attention
    assert found is not None
    assert found.shape == (7, 6)
    if mode == "none":
        torch.testing.assert_close(found, torch.full((7, 6), 1 / 6))
        return
    assert reader.joint is not None
    last, seen = reader.joint.layers[-1], []
    handle = last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        reader.scores(frames)
    handle.remove()
    hidden = seen[0]  # the videos, or every video beside every paragraph
    if mode == "concat":
        hidden = hidden.unflatten(0, (7, 3))[torch.arange(7), output.logits.argmax(1)]
    known = F.layer_norm(hidden, (16,), last.norm1.weight, last.norm1.bias)
    weight, bias = last.self_attn.in_proj_weight, last.self_attn.in_proj_bias
    query, key = known[:, 0] @ weight[:16].T + bias[:16], known @ weight[16:32].T + bias[16:32]
    expected = (torch.einsum("bd,bld->bl", query, key) / 16**0.5).softmax(-1)
    torch.testing.assert_close(found, expected[:, 1:7].detach())
    assert (found.sum(1) < 1).all()


@pytest.mark.parametrize("mode", ["shared", "concat", "none"])
def test_leaving_sentences_out(mode: str, frames: torch.Tensor, paragraphs: torch.Tensor) -> None:
    """With all sentences kept nothing changes; with one left out the class scores as if the paragraph held its mean there; other classes stay."""
    net = model(joint_mode=mode)
    reader = A3lignReader.of(net, paragraphs)
    keep = torch.tensor([[True] * 4, [True, False, True, True]])
    changed = paragraphs.clone()
    changed[1, 1] = paragraphs[1].mean(0)
    with torch.no_grad():
        found = reader.without_sentences(frames[:1], 1, keep)
        torch.testing.assert_close(found[0], reader.scores(frames[:1])[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found[1, 1], net(frames[:1], changed)[0, 1], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found[1, [0, 2]], found[0, [0, 2]])


@pytest.mark.parametrize(
    ("changes", "text"),
    [({"joint_mode": "both"}, "choose shared"), ({"heads": 3}, "divisor"), ({"heads": 0}, "heads"), ({"shared_layers": 5}, "0 to 4"), ({"temperature": 0.0}, "above 0")],
)  # fmt: skip
def test_settings_that_make_no_model_are_refused(changes: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        model(**changes)


def test_settings_survive_a_file() -> None:
    import json

    assert from_json(A3lignConfig, json.loads(json.dumps(asdict(SMALL)))) == SMALL
