import pytest
import torch

from dferkit.errors import ConfigError, DataError
from dferkit.evaluation.metrics import spearman
from dferkit.motion import LearnedMotion, fit_motion


def moving(seed: int, clips: int = 24) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens whose first channels swing with the expression, the next with a nuisance of its own; and both motions."""
    random = torch.Generator().manual_seed(seed)
    expression, nuisance = (torch.rand(clips, 8, 9, generator=random) ** 4 for _ in range(2))
    tokens = torch.randn(clips, 1, 9, 12, generator=random).expand(clips, 8, 9, 12).clone()
    sign = torch.tensor([1.0, -1.0]).repeat(4)[:, None]
    tokens[..., 0] += sign * expression
    tokens[..., 1] += 3 * sign * nuisance
    return tokens, expression, nuisance


def test_it_follows_expression_and_not_what_moves_more():
    weighting = fit_motion(*moving(0))
    tokens, expression, nuisance = moving(1)
    weights = weighting(tokens)
    of = [spearman(weights.flatten().numpy(), motion.flatten().numpy()) for motion in (expression, nuisance)]
    assert of[0] > 0.3
    assert of[1] < 0.1
    torch.testing.assert_close(weights.mean((1, 2)), torch.ones(len(weights)))
    assert (weights > 0).all()


def test_a_static_clip_gives_exactly_one_and_neighbours_change_nothing():
    weighting = fit_motion(*moving(0))
    tokens = moving(2, 3)[0]
    static = tokens[:1, :1].expand(1, 8, 9, 12)
    assert torch.equal(weighting(static), torch.ones(1, 8, 9))
    torch.testing.assert_close(weighting(tokens)[1:2], weighting(tokens[1:2]))
    assert torch.equal(weighting(tokens[:, :1]), torch.ones(3, 1, 9))


def test_ridge_regression_equals_the_solution_of_the_stacked_system():
    """Without standardisation the same fit comes from lstsq on rows extended by √(ridge · n) times each spread."""
    tokens, expression, nuisance = moving(3, 6)
    weighting = fit_motion(tokens, expression, nuisance, against=0.5, ridge=0.1)
    standard = torch.nn.functional.layer_norm(tokens, (12,)).double()
    step = standard.diff(dim=1).abs()
    change = torch.stack([step[:, 0], *((step[:, t - 1] + step[:, t]) / 2 for t in range(1, 7)), step[:, 6]], 1)
    place = torch.eye(9).double().expand(6, 8, 9, 9)
    rows = torch.cat([change, change.mean(2, keepdim=True).expand_as(change), place], -1).flatten(0, 2)
    wanted = ((expression + 0.01).double().log() - 0.5 * (nuisance + 0.05).double().log()).flatten()
    spread = rows.std(0)
    penalty = torch.diag(spread * (0.1 * len(rows)) ** 0.5)
    stacked = torch.cat([rows - rows.mean(0), penalty]), torch.cat([wanted - wanted.mean(), torch.zeros(len(spread))])
    exact = torch.linalg.lstsq(*stacked).solution.float()
    found = torch.cat([weighting.of_patch, weighting.of_frame, weighting.of_place])
    torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-4)


def test_wrong_inputs_are_one_sentence():
    tokens, expression, nuisance = moving(0, 3)
    with pytest.raises(DataError, match="fit one for this encoder"):
        LearnedMotion(8, 9)(tokens)
    with pytest.raises(DataError, match="expression"):
        fit_motion(tokens, -expression, nuisance)
    for setting in ({"against": -1.0}, {"ridge": 0.0}):
        with pytest.raises(ConfigError):
            fit_motion(tokens, expression, nuisance, **setting)
