import pytest
import torch

from dferkit.alignment import ALIGNERS, AlignerConfig, build_aligner, cosine_cost
from dferkit.errors import ConfigError, DataError

METHODS = list(ALIGNERS)


@pytest.fixture
def tokens():
    random = torch.Generator().manual_seed(0)
    return torch.randn(2, 5, 8, generator=random), torch.randn(2, 7, 8, generator=random)


def aligner(method, **options):
    torch.manual_seed(0)
    return build_aligner(AlignerConfig(method=method, **options), 8)


def masks():
    text_mask, visual_mask = torch.ones(2, 5, dtype=torch.bool), torch.ones(2, 7, dtype=torch.bool)
    text_mask[0, 3:], visual_mask[0, 5:] = False, False
    return text_mask, visual_mask


@pytest.mark.parametrize("method", METHODS)
def test_rows_sum_to_the_text_mass_and_masks_are_exact(method, tokens):
    text, visual = tokens
    text_mask, visual_mask = masks()
    text[0, 3:], visual[0, 5:] = torch.nan, torch.nan
    text.requires_grad_()
    index = torch.arange(7).flip(0).expand(2, 7) + 100
    found = aligner(method)(text, visual, text_mask=text_mask, visual_mask=visual_mask, visual_index=index)
    assert found.method == method
    expected = text_mask / text_mask.sum(1, keepdim=True)
    torch.testing.assert_close(found.plan.sum(2), expected, atol=1e-6, rtol=0)
    assert (found.plan >= 0).all()
    assert (found.plan[0, 3:] == 0).all()
    assert (found.plan[0, :, 5:] == 0).all()
    assert found.visual_index.tolist() == [[106, 105, 104, 103, 102, -1, -1], [106, 105, 104, 103, 102, 101, 100]]
    assert (found.marginal_error is None) == (method != "transport")
    (found.plan.square().sum() + found.score.sum()).backward()
    assert text.grad.isfinite().all()
    assert (text.grad[0, 3:] == 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_padding_changes_nothing(method, tokens):
    text, visual = tokens
    text_mask, visual_mask = masks()
    align = aligner(method)
    mass = torch.rand(2, 7) + 0.1
    padded = align(text, visual, text_mask=text_mask, visual_mask=visual_mask, visual_mass=mass)
    compact = align(text[:1, :3], visual[:1, :5], visual_mass=mass[:1, :5])
    torch.testing.assert_close(padded.plan[:1, :3, :5], compact.plan, atol=1e-6, rtol=0)
    torch.testing.assert_close(padded.score[:1], compact.score)


@pytest.mark.parametrize("method", METHODS)
def test_score_is_the_expected_similarity(method, tokens):
    text, visual = tokens
    found = aligner(method)(text, visual)
    torch.testing.assert_close(found.score, (found.plan * (1 - cosine_cost(text, visual))).sum((1, 2)))


@pytest.mark.parametrize("method", METHODS)
def test_the_plan_can_be_held_constant(method, tokens):
    text, visual = tokens
    text.requires_grad_()
    found = aligner(method, is_plan_differentiable=False)(text, visual)
    assert not found.plan.requires_grad
    found.score.sum().backward()
    assert text.grad.abs().sum() > 0


@pytest.mark.parametrize("method", METHODS)
def test_visual_mass_draws_the_plan(method, tokens):
    mass = torch.ones(2, 7)
    mass[:, 2] = 50.0
    found = aligner(method)(*tokens, visual_mass=mass)
    even = aligner(method)(*tokens)
    assert (found.plan[:, :, 2].sum(1) > even.plan[:, :, 2].sum(1)).all()
    assert (even.visual_index == torch.arange(7)).all()
    if method == "transport":
        torch.testing.assert_close(found.plan.sum(1), mass / mass.sum(1, keepdim=True), atol=1e-5, rtol=0)


def test_relaxed_transport_leaves_far_visual_tokens_out(tokens):
    text, visual = tokens
    visual[:, 4] = -text.sum(1)  # No word is near.
    hard, relaxed = aligner("transport")(text, visual), aligner("transport", visual_relaxation=0.05)(text, visual)
    torch.testing.assert_close(relaxed.plan.sum(2), torch.full((2, 5), 0.2))
    assert (relaxed.plan[:, :, 4].sum(1) < 0.3 * hard.plan[:, :, 4].sum(1)).all()


def test_cosine_matches_its_formula(tokens):
    text, visual = tokens
    found = aligner("cosine", temperature=0.2)(text, visual)
    expected = ((1 - cosine_cost(text, visual)) / 0.2).softmax(2) / 5
    torch.testing.assert_close(found.plan, expected)


def test_cross_attention_learns_its_projections(tokens):
    align = aligner("cross_attention", attention_dim=3)
    assert align.query.weight.shape == (3, 8)
    align(*tokens).plan.square().sum().backward()
    assert align.query.weight.grad.abs().sum() > 0
    assert align.key.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("method", METHODS)
def test_unusable_data_are_refused(method, tokens):
    with pytest.raises(DataError, match="no words"):
        aligner(method)(*tokens, text_mask=torch.zeros(2, 5, dtype=torch.bool))
    with pytest.raises(DataError, match="visual_mass"):
        aligner(method)(*tokens, visual_mass=torch.zeros(2, 7))


@pytest.mark.parametrize(
    "option",
    [
        {"method": "nearest"},
        {"epsilon": -1.0},
        {"temperature": 0.0},
        {"tolerance": 0.0},
        {"max_iterations": 0},
        {"visual_relaxation": -0.1},
        {"attention_dim": -1},
    ],
)
def test_settings_out_of_range_are_refused(option):
    with pytest.raises(ConfigError, match=next(iter(option))):
        AlignerConfig(**option)
