import math

import pytest
import torch
from torch.nn import functional as F

from dferkit.errors import ConfigError, DataError
from dferkit.losses import auxiliary, class_weights_effective, contrastive, phrase_times, weighted_focal


@pytest.fixture
def batch():
    random = torch.Generator().manual_seed(0)
    return 3 * torch.randn(6, 4, generator=random), torch.tensor([0, 1, 2, 3, 3, 0])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_focal_with_gamma_zero_is_cross_entropy(batch, smoothing, is_weighted):
    logits, target = batch
    weights = torch.tensor([0.5, 1.0, 2.0, 0.5]) if is_weighted else None
    ours = weighted_focal(logits, target, gamma=0.0, class_weights=weights, label_smoothing=smoothing)
    each = F.cross_entropy(logits, target, weights, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(ours, each.mean())
    torch.testing.assert_close(auxiliary(logits, target, class_weights=weights, label_smoothing=smoothing), each.mean())


def test_focal_matches_its_formula(batch):
    logits, target = batch
    p = logits.softmax(1)[range(6), target]
    weights = torch.tensor([0.5, 1.0, 2.0, 0.5])
    expected = (weights[target] * (1 - p) ** 2 * -p.log()).mean()
    torch.testing.assert_close(weighted_focal(logits, target, gamma=2.0, class_weights=weights), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_gradient_is_right_and_finite_at_the_extremes(gamma):
    logits = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    target = torch.tensor([1, 0, 3])
    assert torch.autograd.gradcheck(lambda x: weighted_focal(x, target, gamma=gamma, label_smoothing=0.1), (logits,))
    sure = torch.tensor([[1000.0, -1000.0], [-1000.0, 1000.0]], requires_grad=True)  # One right, one wrong.
    weighted_focal(sure, torch.tensor([0, 0]), gamma=gamma, label_smoothing=0.1).backward()
    assert sure.grad.isfinite().all()


def test_class_weights():
    counts = torch.tensor([1000, 100, 10])
    weights = class_weights_effective(counts)
    expected = torch.tensor([0.001 / (1 - 0.999**n) for n in (1000, 100, 10)])
    torch.testing.assert_close(weights, expected / expected.mean())
    torch.testing.assert_close(class_weights_effective(counts, beta=0.0), torch.ones(3))
    inverse = 1 / counts
    torch.testing.assert_close(
        class_weights_effective(counts, beta=1 - 1e-9), inverse / inverse.mean(), rtol=1e-4, atol=0
    )


def test_an_absent_class_gets_weight_one_and_changes_no_other():
    weights = class_weights_effective(torch.tensor([1000, 0, 100, 10]))
    assert weights.isfinite().all()
    assert weights[1] == 1
    torch.testing.assert_close(weights[[0, 2, 3]], class_weights_effective(torch.tensor([1000, 100, 10])))
    torch.testing.assert_close(weights.mean(), torch.tensor(1.0))


def test_contrastive_matches_a_hand_computed_case():
    text = torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    visual = torch.tensor([[2.0, 0.0], [1.0, 1.0]])
    half = 0.5**0.5
    # Similarities [[1, h], [0, h]] at temperature 1.
    rows = (math.log(math.e + math.exp(half)) - 1 + math.log(1 + math.exp(half)) - half) / 2
    columns = (math.log(math.e + 1) - 1 + math.log(2 * math.exp(half)) - half) / 2
    expected = torch.tensor((rows + columns) / 2)
    torch.testing.assert_close(contrastive(text, visual, temperature=1.0), expected)
    torch.testing.assert_close(contrastive(text, visual, temperature=1.0, same_group=torch.tensor([7, 3])), expected)


def test_clips_of_one_group_are_not_pushed_apart():
    text = F.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    text[1] = text[0]
    group = torch.tensor([5, 5, 1, 2])
    text.requires_grad_()
    visual = text.detach().clone()
    loss = contrastive(text, visual, temperature=0.1, same_group=group)
    # Identical captions of one group: the best a softmax can do is log 2 for each of the two.
    assert loss < contrastive(text, visual, temperature=0.1) + 1e-6
    similarity = text.detach() @ visual.T / 0.1
    log_p = similarity.log_softmax(1)
    by_hand = -torch.stack([log_p[0, :2].mean(), log_p[1, :2].mean(), log_p[2, 2], log_p[3, 3]]).mean()
    torch.testing.assert_close(loss, by_hand)
    everything = contrastive(text, visual, same_group=torch.zeros(4, dtype=torch.long))
    assert everything >= math.log(4) - 1e-6
    loss.backward()
    assert text.grad.isfinite().all()


def test_contrastive_temperature_can_be_learned_and_is_floored():
    text, visual = torch.randn(3, 4), torch.randn(3, 4)
    temperature = torch.tensor(0.2, requires_grad=True)
    contrastive(text, visual, temperature=temperature).backward()
    assert temperature.grad.abs() > 0
    torch.testing.assert_close(contrastive(text, visual, temperature=1e-6), contrastive(text, visual, temperature=0.01))
    assert contrastive(text[:1], visual[:1]) == 0
    # Below the floor the gradient is that of the floor: texts that do not fit their videos ask for a higher temperature.
    below = torch.tensor(0.001, requires_grad=True)
    contrastive(text, -text, temperature=below).backward()
    assert below.grad < 0, "a step against the gradient raises it"
    # Texts that fit ask for a lower one: it stays where it is, and does not drift away from the floor.
    near = torch.tensor([[1.0, 0.0], [1.0, 0.1]])
    for start, falls in ((0.001, False), (0.01, True)):
        learned = torch.tensor(start, requires_grad=True)
        contrastive(near, near, temperature=learned).backward()
        assert (learned.grad > 0) == falls
    assert contrastive(text.bfloat16(), visual.bfloat16()).dtype == torch.float32


def test_unusable_settings_are_refused(batch):
    with pytest.raises(ConfigError, match="gamma"):
        weighted_focal(*batch, gamma=-1.0)
    with pytest.raises(ConfigError, match="label_smoothing"):
        weighted_focal(*batch, label_smoothing=1.0)
    with pytest.raises(ConfigError, match="beta"):
        class_weights_effective(torch.tensor([1, 2]), beta=1.0)
    with pytest.raises(ConfigError, match="temperature"):
        contrastive(batch[0], batch[0], temperature=0.0)
    for counts in ([0, 0], [1, -1]):
        with pytest.raises(DataError, match="class counts"):
            class_weights_effective(torch.tensor(counts))


def test_phrase_times_by_hand() -> None:
    """Two phrases count: all evidence in time gives 0, a quarter of it −log ¼; phrases without times, throughout or padded give nothing."""
    evidence = torch.tensor(
        [[[2.0, 2.0, 0.0, 0.0], [3.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0], [0.0, 9.0, 0.0, 0.0]]]
    )
    said = torch.tensor(
        [
            [
                [True, True, False, False],
                [False, False, False, True],
                [True] * 4,
                [False] * 4,
                [True, False, False, False],
            ]
        ]
    )
    mask = torch.tensor([[True, True, True, True, False]])
    assert float(phrase_times(evidence, said, mask)) == pytest.approx(math.log(4) / 2)
    assert float(phrase_times(evidence, said[:, :1], mask)) == 0.0
    assert float(phrase_times(evidence, said & False, mask)) == 0.0
