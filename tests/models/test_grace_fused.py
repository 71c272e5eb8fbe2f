"""GRACE with fusion on small tokens: shapes, masks, the trap of E9, and every switch of the ablation."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch
from small_grace import SMALL_FUSED as SMALL
from small_grace import small_fused as small_model
from small_grace import tokens

from dferkit.alignment import AlignerConfig
from dferkit.errors import ConfigError, DataError
from dferkit.models.grace_fused import FusedConfig, GraceFused
from dferkit.models.registry import MODELS, variant
from dferkit.models.word_alignment import pool_phrases
from dferkit.motion import motion_weights
from dferkit.schema import TokenBatch
from dferkit.storage import from_json

FUSED = [name for name, entry in MODELS.items() if entry.config is FusedConfig]
METHODS = ("transport", "cosine", "cross_attention")


@pytest.mark.parametrize("name", FUSED)
def test_shapes(name: str) -> None:
    torch.manual_seed(0)
    model = GraceFused(variant(name, SMALL)).eval()
    output = model(TokenBatch(**tokens()))
    assert output.logits.shape == output.visual_logits.shape == (3, 7)
    assert output.motion.shape == (3, 4, 9)
    assert output.fused.shape == output.text_pooled.shape == output.visual_pooled.shape == (3, 24)
    for value in (output.logits, output.visual_logits, output.fused):
        assert torch.isfinite(value).all()
    if output.alignment is None:
        assert name == "text_only"
        return
    words = {"tokens": 6, "phrases": 6, "sentence": 1, "none": 5}[model.config.text]
    kept = 18  # half of 36 tokens
    if name == "grace_fused_adaptive":
        kept = output.alignment.plan.shape[2]
        assert kept < 36
        assert (output.alignment.visual_index >= 0).sum(1).max() == kept
    assert output.alignment.plan.shape == (3, words, kept)
    assert output.alignment.visual_index.shape == (3, kept)


@pytest.mark.parametrize("method", METHODS)
def test_rows_of_the_plan_carry_the_text_mass(method: str) -> None:
    given = tokens()
    output = small_model(aligner=AlignerConfig(method=method))(TokenBatch(**given))
    live = given["text_mask"].sum(1)
    rows = output.alignment.plan.sum(2)
    for clip in range(3):
        torch.testing.assert_close(rows[clip, : live[clip]], torch.full((int(live[clip]),), 1 / int(live[clip])))
        assert not rows[clip, live[clip] :].any()
    if method == "transport":
        torch.testing.assert_close(output.alignment.plan.sum(1), torch.full((3, 18), 1 / 18), atol=1e-4, rtol=0)


def test_phrases_are_the_means_of_their_words() -> None:
    words = torch.arange(12.0).reshape(2, 6, 1)
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[0, 0] = False  # a hidden word takes no part
    mask[1, [0, 1, 3, 4, 5]] = False  # only the word outside phrases is left: it stands for the whole
    phrases = torch.tensor([[0, 0, -1, 1, 1, 1]] * 2)
    pooled, live, share = pool_phrases(words, mask, phrases)
    assert pooled[..., 0].tolist() == [[1.0, 4.0], [8.0, 0.0]]
    assert live.tolist() == [[True, True], [True, False]]
    torch.testing.assert_close(share.sum(1), live.float())
    assert share[0, :, 1].tolist() == pytest.approx([0, 0, 0, 1 / 3, 1 / 3, 1 / 3])
    with pytest.raises(DataError, match="phrases"):
        pool_phrases(words, mask, None)


def test_a_phrase_meets_the_video_as_one_and_its_words_share_the_row() -> None:
    given = tokens()
    given["text_mask"][:] = True
    plan = small_model(text="phrases")(TokenBatch(**given)).alignment.plan
    assert not plan[:, 2].any()  # outside phrases
    torch.testing.assert_close(plan[:, 0], plan[:, 1])
    torch.testing.assert_close(plan[:, 3], plan[:, 5])
    torch.testing.assert_close(plan[:, :2].sum((1, 2)), torch.full((3,), 0.5))  # two phrases of equal mass
    # One word per phrase is the same as tokens.
    given["phrases"] = torch.arange(6).repeat(3, 1)
    as_tokens = small_model(text="tokens")(TokenBatch(**{k: v for k, v in given.items() if k != "phrases"}))
    torch.testing.assert_close(small_model(text="phrases")(TokenBatch(**given)).logits, as_tokens.logits)


def test_measured_motion_takes_the_place_of_the_models_own() -> None:
    given = tokens()
    measured = small_model(motion_source="steady")(TokenBatch(**given))
    assert torch.equal(measured.motion, given["motion"])
    own = small_model()(TokenBatch(**given))
    assert not torch.equal(own.motion, given["motion"])
    assert not torch.equal(own.logits, measured.logits)
    del given["motion"]
    with pytest.raises(DataError, match="measured motion"):
        small_model(motion_source="steady")(TokenBatch(**given))
    assert torch.equal(
        small_model(motion_source="steady", motion="none")(TokenBatch(**given)).motion, torch.ones(3, 4, 9)
    )
    with pytest.raises(ConfigError, match="choose both"):
        small_model(motion_source="pixels", motion="spatial")


def test_adaptive_selection_keeps_the_share_of_the_motion_mass() -> None:
    given = tokens()
    output = small_model(selection="mass", ratio=0.6)(TokenBatch(**given))
    motion = output.motion.flatten(1)
    for clip, index in enumerate(output.alignment.visual_index):
        held = motion[clip, index[index >= 0]].sum() / motion[clip].sum()
        assert held >= 0.6
        assert held - motion[clip, index[index >= 0]].min() / motion[clip].sum() < 0.6
        assert not output.alignment.plan[clip, :, index < 0].any()


@pytest.mark.parametrize("method", METHODS)
def test_shuffled_plan_changes_the_answer(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trap of E9: pooled linearly, aligned tokens give the same mean whatever the plan is. Here it must matter."""
    given = tokens(clips=2)
    given["text_mask"][:] = True
    # A sharp plan: then its rows differ, and a shuffle means something.
    model = small_model(aligner=AlignerConfig(method=method, epsilon=0.02, temperature=0.02))
    before = model(TokenBatch(**given))
    original = model.aligner.forward

    def shuffled(*arguments: object, **named: object) -> object:
        alignment = original(*arguments, **named)
        return replace(alignment, plan=alignment.plan.roll(1, dims=1))

    monkeypatch.setattr(model.aligner, "forward", shuffled)
    after = model(TokenBatch(**given))
    scale = before.fused.abs().mean()
    rows = before.alignment.plan
    if (rows - rows.roll(1, dims=1)).abs().sum() > 0.1:
        assert (after.fused - before.fused).abs().mean() > 0.01 * scale
    else:
        assert method == "cross_attention", "only untrained attention may be flat"
    linear = [(a.alignment.plan.sum(1)) for a in (before, after)]
    torch.testing.assert_close(*linear)  # what a linear pooling sees: no difference


def test_padding_words_change_nothing() -> None:
    given = tokens()
    model = small_model()
    padded = dict(given)
    padded["text"] = torch.cat([given["text"], torch.full((3, 4, 12), 7.0)], 1)
    padded["text_mask"] = torch.cat([given["text_mask"], torch.zeros(3, 4, dtype=torch.bool)], 1)
    padded["phrases"] = torch.cat([given["phrases"], torch.full((3, 4), -1)], 1)
    torch.testing.assert_close(model(TokenBatch(**padded)).logits, model(TokenBatch(**given)).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "name", ["grace_fused", "grace_fused_cosine", "grace_fused_sentence", "vision_only", "text_only"]
)
def test_neighbours_in_a_batch_change_nothing(name: str) -> None:
    torch.manual_seed(0)
    model = GraceFused(variant(name, SMALL)).eval()
    given = tokens(clips=4)
    together = model(TokenBatch(**given))
    for clip in range(4):
        live = int(given["text_mask"][clip].sum())
        alone = {key: value[clip : clip + 1] for key, value in given.items()}
        alone.update({name: alone[name][:, :live] for name in ("text", "text_mask", "phrases")})
        torch.testing.assert_close(
            model(TokenBatch(**alone)).logits, together.logits[clip : clip + 1], atol=1e-3, rtol=0
        )


SWITCHES: dict[str, FusedConfig] = {
    **{name: variant(name, SMALL) for name in FUSED},
    "plan_held_constant": replace(SMALL, aligner=AlignerConfig(is_plan_differentiable=False)),
    "motion_mass": replace(SMALL, visual_mass="motion"),
    "learned_mass": replace(SMALL, visual_mass="learned"),
    "all_tokens": replace(SMALL, ratio=1.0),
    "few_tokens": replace(SMALL, ratio=0.1),
}


@pytest.mark.parametrize("name", SWITCHES)
def test_every_switch_trains_a_step(name: str) -> None:
    """Gradient reaches what the variant uses, and one step lowers the loss."""
    torch.manual_seed(0)
    config = replace(SWITCHES[name], dropout=0.0)
    model = GraceFused(config)
    given, target = tokens(clips=7), torch.arange(7)
    loss = model.loss(model(TokenBatch(**given)), target)
    loss.backward()
    used = {
        "space.visual_projection": config.use_visual,
        "space.text_projection": config.text != "none",
        "queries": config.text == "none",
        "strength": config.use_visual and config.motion != "none",
    }
    for part, is_used in used.items():
        of_part = [p.grad for key, p in model.named_parameters() if key == part or key.startswith(part + ".")]
        has_gradient = any(g is not None and bool(g.abs().sum() > 0) for g in of_part)
        assert has_gradient == is_used, part
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    optimizer.step()
    assert model.loss(model(TokenBatch(**given)), target).item() < loss.item()


def test_every_row_of_the_table_has_the_same_layers() -> None:
    """Equal capacity: only what stands in for missing words differs."""
    counts = {name: sum(p.numel() for p in GraceFused(variant(name, SMALL)).parameters()) for name in FUSED}
    same = {name: count for name, count in counts.items() if name != "vision_only"}
    assert len(set(same.values())) == 1
    assert counts["vision_only"] - counts["grace_fused"] == SMALL.num_queries * SMALL.dim


def test_text_is_used_and_not_used() -> None:
    given = tokens()
    other = {**given, "text": given["text"].flip(2), "sentence": given["sentence"].flip(1)}
    assert not torch.allclose(
        small_model()(TokenBatch(**given)).logits, small_model()(TokenBatch(**other)).logits, atol=1e-3
    )
    vision = small_model(text="none")
    torch.testing.assert_close(vision(TokenBatch(**given)).logits, vision(TokenBatch(**other)).logits)
    words = small_model(use_visual=False)
    torch.testing.assert_close(
        words(TokenBatch(**given)).logits, words(TokenBatch(**{**given, "visual": given["visual"].flip(3)})).logits
    )


def test_sentence_sees_no_tokens() -> None:
    model = small_model(text="sentence")
    given = tokens()
    torch.testing.assert_close(
        model(TokenBatch(**given)).logits, model(TokenBatch(**{**given, "text": given["text"].flip(1)})).logits
    )


def test_motion_none_is_one_everywhere() -> None:
    assert bool((small_model(motion="none")(TokenBatch(**tokens())).motion == 1).all())


@pytest.mark.parametrize("mode", ["both", "spatial", "temporal"])
def test_a_still_clip_has_no_motion(mode: str) -> None:
    given = tokens()
    given["visual"] = given["visual"][:, :1].expand(-1, 4, -1, -1)
    still = small_model(motion=mode, ratio=1.0)(TokenBatch(**given))
    assert bool((still.motion == 1).all())
    torch.testing.assert_close(still.logits, small_model(motion="none", ratio=1.0)(TokenBatch(**given)).logits)


def test_without_motion_the_kept_tokens_lie_evenly_over_the_clip() -> None:
    torch.manual_seed(0)
    model = GraceFused(variant("grace_fused_no_motion", replace(SMALL, num_frames=8, grid=(8, 8)))).eval()
    given = tokens(clips=1)
    given["visual"], given["motion"] = torch.randn(1, 8, 64, 16), torch.ones(1, 8, 64)
    index = model(TokenBatch(**given)).alignment.visual_index[0]
    assert len(set(index.tolist())) == 256, "as many as grace_fused keeps"
    assert torch.bincount(index // 64, minlength=8).sub(32).abs().max() <= 2, "of every frame"
    assert torch.bincount(index % 64, minlength=64).sub(4).abs().max() <= 1, "of every place"


def test_motion_weights_see_what_moved() -> None:
    given = tokens(clips=1)
    given["visual"] = given["visual"][:, :1].repeat(1, 4, 1, 1)
    given["visual"][0, 2, 4] *= -1
    motion = small_model()(TokenBatch(**given)).motion
    assert int(motion.flatten().argmax()) == 2 * 9 + 4
    assert float(motion.mean()) == pytest.approx(1.0, abs=1e-3) or motion_weights(given["visual"]).mean() > 0
    kept = small_model()(TokenBatch(**given)).alignment.visual_index
    assert 2 * 9 + 4 in kept[0].tolist()


def test_training_cannot_bend_the_motion_weights() -> None:
    """They come from the frozen tokens alone: the same before and after any change of the parameters."""
    given, model = tokens(), small_model()
    before = model(TokenBatch(**given)).motion
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    torch.testing.assert_close(model(TokenBatch(**given)).motion, before, atol=0, rtol=0)


@pytest.mark.parametrize("name", FUSED)
def test_keeping_everything_is_no_mask(name: str) -> None:
    torch.manual_seed(0)
    model = GraceFused(variant(name, SMALL)).eval()
    given = tokens()
    everything = torch.ones(3, 4, 9, dtype=torch.bool)
    torch.testing.assert_close(
        model(TokenBatch(**given, visual_keep=everything)).logits, model(TokenBatch(**given)).logits, atol=1e-5, rtol=0
    )


def test_deleted_tokens_have_no_say() -> None:
    """What stands at a deleted place changes the answer only through the clip's mean."""
    given, model = tokens(clips=1), small_model()
    keep = torch.ones(1, 4, 9, dtype=torch.bool)
    keep[0, 1, 2] = keep[0, 2, 5] = False
    other = given["visual"].clone()
    other[0, 1, 2], other[0, 2, 5] = given["visual"][0, 2, 5], given["visual"][0, 1, 2]
    same = model(TokenBatch(**{**given, "visual": other}, visual_keep=keep))
    first = model(TokenBatch(**given, visual_keep=keep))
    torch.testing.assert_close(same.logits, first.logits, atol=1e-5, rtol=0)
    index = first.alignment.visual_index[0].tolist()
    assert not {1 * 9 + 2, 2 * 9 + 5} & set(index)


def test_deleting_everything_still_answers() -> None:
    output = small_model()(TokenBatch(**tokens(), visual_keep=torch.zeros(3, 4, 9, dtype=torch.bool)))
    assert torch.isfinite(output.logits).all()


def test_loss_terms_can_be_switched_off() -> None:
    given, target = tokens(clips=7), torch.arange(7)
    output = small_model()(TokenBatch(**given))
    full = small_model().loss(output, target)
    focal = GraceFused(replace(SMALL, weight_contrastive=0.0, weight_auxiliary=0.0)).loss(output, target)
    assert 0 < focal.item() < full.item()
    counts = torch.tensor([1, 2, 5, 10, 20, 50, 100])
    assert float(small_model().loss(output, target, counts).detach()) != full.item()


def test_half_precision_tokens_are_raised() -> None:
    given = tokens()
    half = {key: value.half() if value.is_floating_point() else value for key, value in given.items()}
    torch.testing.assert_close(
        small_model()(TokenBatch(**half)).logits, small_model()(TokenBatch(**given)).logits, atol=0.05, rtol=0
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": "words"}, "tokens, phrases, sentence, none"),
        ({"motion": "all"}, "both, spatial, temporal, none"),
        ({"ratio": 0.0}, "ratio"),
        ({"ratio": 1.5}, "ratio"),
        ({"motion_strength": 1.0}, "motion_strength"),
        ({"dropout": 1.5}, "dropout is 1.5"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"gamma": -1.0}, "gamma is -1.0"),
        ({"weight_auxiliary": float("nan")}, "weight_auxiliary is nan"),
        ({"num_queries": 0}, "num_queries is 0"),
        ({"text": "none", "use_visual": False}, "needs text or video"),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_wrong_settings(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(SMALL, **change)


def test_unknown_variant_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'grace_cosine'"):
        variant("grace_cosin", SMALL)


def test_config_survives_json() -> None:
    import json

    config = replace(SMALL, aligner=AlignerConfig(method="cosine"), text="sentence")
    assert from_json(FusedConfig, json.loads(json.dumps(asdict(config)))) == config
