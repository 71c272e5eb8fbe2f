"""GRACE with exact evidence: the shares add up to the answer, nothing goes around them, and what is not the clip's mean counts."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch
from small_grace import SMALL, labelled_clips, small_model, tokens

from dferkit.alignment import AlignerConfig
from dferkit.errors import ConfigError, DataError
from dferkit.models.grace import Grace, GraceConfig
from dferkit.models.registry import MODELS, variant
from dferkit.schema import TokenBatch
from dferkit.storage import from_json
from dferkit.tokens.batches import pad_texts

EXACT = [name for name, entry in MODELS.items() if entry.config is GraceConfig]


@pytest.mark.parametrize("name", EXACT)
def test_contributions_add_up_to_the_logits(name: str) -> None:
    torch.manual_seed(0)
    model = Grace(variant(name, SMALL)).eval()
    with torch.no_grad():
        model.bias.normal_()
    output = model(TokenBatch(**tokens()))
    total = output.contributions.double().sum((1, 2)) + (model.bias - model.bias.mean())
    torch.testing.assert_close(total, output.logits.double(), atol=1e-5, rtol=0)
    assert output.contributions.abs().max() > 1e-3
    assert output.alignment.visual_index.shape == (3, 36)  # all tokens take part


def test_a_share_is_gate_times_plan_times_product() -> None:
    """One share computed by hand from the weights, phrase by phrase and token by token."""
    given, model = tokens(clips=1), small_model(aligner=AlignerConfig(method="cosine"), motion="none")
    output = model(TokenBatch(**given))
    words = model.space.text_projection(model.space.text_norm(given["text"]))[0]
    units = torch.stack([words[:2].mean(0), words[3:].mean(0)])
    assert output.contributions.shape[1] == 2
    normed = model.space.visual_norm(given["visual"][0]).reshape(36, -1)
    placed = normed + (model.space.place + model.space.time).reshape(36, -1)
    distance = 1 - torch.nn.functional.cosine_similarity(
        units[:, None], model.space.visual_projection(placed)[None], dim=-1
    )
    plan = (-distance / model.config.aligner.temperature).softmax(1)
    gate = torch.nn.functional.softplus(model.gate(units))[:, 0]
    gate = gate / gate.sum() * 2**0.5
    asked = model.asked(units).reshape(2, 7, model.config.width)
    asked = asked - asked.mean(1, keepdim=True)
    found = (normed - normed.mean(0)) @ model.found.weight.T
    found = found * (1 + model.found_place[None] + model.found_time).reshape(36, -1)
    for i, j, c in ((0, 0, 0), (1, 35, 6), (0, 17, 3)):
        by_hand = gate[i] * plan[i, j] * (asked[i, c] * found[j]).sum()
        torch.testing.assert_close(output.contributions[0, i, j, c], by_hand, atol=1e-5, rtol=1e-3)


def test_shares_and_remainder_are_against_the_mean_of_the_classes() -> None:
    model = small_model()
    output = model(TokenBatch(**tokens()))
    assert output.contributions.sum(3).abs().max() < 1e-5
    assert output.logits.sum(1).abs().max() < 1e-4


def test_a_vector_added_to_every_class_changes_nothing() -> None:
    model = small_model()
    before = model(TokenBatch(**tokens()))
    with torch.no_grad():
        model.asked[-1].bias.add_(torch.randn(model.config.width).repeat(7))
        model.bias.add_(3.0)
    after = model(TokenBatch(**tokens()))
    torch.testing.assert_close(before.contributions, after.contributions, atol=1e-5, rtol=0)
    torch.testing.assert_close(before.logits, after.logits, atol=1e-5, rtol=0)


def test_without_anything_to_find_only_the_remainder_is_left() -> None:
    """A clip whose tokens are all alike holds no evidence, whatever the caption is: text cannot answer alone."""
    model, given = small_model(), tokens()
    given["visual"] = given["visual"][:, :1, :1].expand(-1, 4, 9, -1)
    remainder = model.bias - model.bias.mean()
    for other in (given, {**given, "text": given["text"].flip(2) * 3}):
        output = model(TokenBatch(**other))
        torch.testing.assert_close(output.logits, remainder.expand(3, -1), atol=1e-5, rtol=0)


def test_the_encoders_own_summary_does_not_reach_the_answer() -> None:
    model, given = small_model(), tokens()
    with_summary = model(TokenBatch(**given, summary=torch.randn(3, 4, 5)))
    torch.testing.assert_close(with_summary.logits, model(TokenBatch(**given)).logits, atol=0, rtol=0)


def test_training_and_evaluation_give_the_same_probabilities() -> None:
    model, given = small_model(dropout=0.0), tokens()
    answer = model(TokenBatch(**given)).logits
    output = model.train()(TokenBatch(**given))
    assert output.contributions is None
    torch.testing.assert_close(output.logits.softmax(1), answer.softmax(1), atol=1e-5, rtol=0)


@torch.no_grad()
def test_removing_the_tokens_with_the_evidence_lowers_the_answer_most() -> None:
    model, given = small_model(), tokens(clips=20)
    model.bias.zero_()
    output = model(TokenBatch(**given))
    label, clips = output.logits.argmax(1), torch.arange(20)
    of_token = output.contributions.sum(1)[clips, :, label]
    answers = {}
    for name, order in (("most", of_token), ("least", -of_token)):
        keep = torch.ones(20, 36, dtype=torch.bool).scatter_(1, order.topk(6, 1).indices, False)
        answers[name] = model(TokenBatch(**given, visual_keep=keep.view(20, 4, 9))).logits[clips, label]
    assert (answers["most"] < output.logits[clips, label]).float().mean() >= 0.85
    assert (answers["most"] < answers["least"]).float().mean() >= 0.85


def test_caption_without_phrases_is_one_phrase() -> None:
    model, given = small_model(), tokens()
    given["phrases"][:] = -1
    assert model(TokenBatch(**given)).contributions.shape[1] == 1
    del given["phrases"]
    with pytest.raises(DataError, match="phrases"):
        model(TokenBatch(**given))


def test_padding_and_neighbours_change_nothing() -> None:
    given, model = tokens(clips=4), small_model()
    together = model(TokenBatch(**given))
    padded = {
        **given,
        "text": torch.cat([given["text"], torch.full((4, 4, 12), 7.0)], 1),
        "text_mask": torch.cat([given["text_mask"], torch.zeros(4, 4, dtype=torch.bool)], 1),
        "phrases": torch.cat([given["phrases"], torch.full((4, 4), -1)], 1),
    }
    torch.testing.assert_close(model(TokenBatch(**padded)).logits, together.logits, atol=1e-4, rtol=0)
    for clip in range(4):
        live = int(given["text_mask"][clip].sum())
        alone = {key: value[clip : clip + 1] for key, value in given.items()}
        alone.update({name: alone[name][:, :live] for name in ("text", "text_mask", "phrases")})
        logits = model(TokenBatch(**alone)).logits
        torch.testing.assert_close(logits, together.logits[clip : clip + 1], atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", EXACT)
def test_every_variant_trains_a_step(name: str) -> None:
    torch.manual_seed(0)
    model = Grace(replace(variant(name, SMALL), dropout=0.0))
    given, target = tokens(clips=7), torch.arange(7)
    loss = model.loss(model(TokenBatch(**given)), target)
    loss.backward()
    for part in ("asked", "found", "found_place", "found_time", "space.text_projection", "bias"):
        of_part = [p.grad for key, p in model.named_parameters() if key == part or key.startswith(part + ".")]
        assert any(g is not None and bool(g.abs().sum() > 0) for g in of_part), part
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)
    torch.optim.SGD(model.parameters(), lr=0.01).step()
    assert model.loss(model(TokenBatch(**given)), target).item() < loss.item()


def test_variants_have_the_same_layers() -> None:
    counts = {name: sum(p.numel() for p in Grace(variant(name, SMALL)).parameters()) for name in EXACT}
    assert len({count for name, count in counts.items() if name != "grace_cross_attention"}) == 1


def test_it_learns_from_labels_alone() -> None:
    visual, texts, target = labelled_clips(clips=70)
    torch.manual_seed(0)
    model = Grace(replace(SMALL, dropout=0.0))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    text, mask, sentence, phrases = pad_texts(texts)
    batch = TokenBatch(visual=visual.float(), text=text, text_mask=mask, sentence=sentence, phrases=phrases)
    labels = torch.from_numpy(target)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(model(batch), labels).backward()
        optimizer.step()
    assert (model.eval()(batch).logits.argmax(1) == labels).float().mean() >= 0.85


@pytest.mark.usefixtures("unchecked_shapes")
def test_wrong_settings() -> None:
    with pytest.raises(ConfigError, match="width is 0"):
        replace(SMALL, width=0)
    with pytest.raises(ConfigError, match="tokens, phrases, sentence, none"):
        replace(SMALL, text="words")


def test_config_survives_json() -> None:
    config = replace(SMALL, aligner=AlignerConfig(method="cosine"), width=3)
    assert from_json(GraceConfig, json.loads(json.dumps(asdict(config)))) == config


def test_the_loss_of_times_moves_evidence_into_the_times_of_the_phrases() -> None:
    """Trained on nothing but the times, more of the evidence lies in them; the classes are then those of chance."""
    given = tokens(clips=3)
    steps = torch.zeros(3, 2, SMALL.num_frames, dtype=torch.bool)
    steps[:, 0, 0], steps[:, 1, 3] = True, True
    batch, target = TokenBatch(**given, phrase_steps=steps), torch.tensor([0, 1, 2])
    torch.manual_seed(0)
    model = Grace(replace(SMALL, weight_times=1.0, weight_focal=0.0, dropout=0.0)).train()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for _ in range(40):
        loss = model.loss(model(batch), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    shares = model.eval()(batch).contributions.detach()[torch.arange(3), :, :, target].abs()
    of_steps = shares.unflatten(2, (SMALL.num_frames, -1)).sum(3)
    of_steps = of_steps / of_steps.sum(2, keepdim=True)
    assert float(of_steps[:2, 0, 0].mean()) > 0.6  # without the loss about a quarter
    assert float(of_steps[:2, 1, 3].mean()) > 0.6


def test_times_are_compared_with_phrases_only() -> None:
    with pytest.raises(ConfigError, match="weight_times"):
        replace(SMALL, weight_times=0.1, text="sentence")
