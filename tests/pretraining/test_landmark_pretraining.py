"""Training the landmark network: it learns planted movements, its batches depend on the step alone, a stopped run resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dferkit.encoders.face_shape import RIGID
from dferkit.errors import ConfigError
from dferkit.facs import AU_NAMES
from dferkit.pretraining.landmarks import (
    LANDMARK_TRAINING,
    _Batches,
    new_network,
    predict_shapes,
    pretrain_landmarks,
    shape_set,
)
from dferkit.pretraining.rendered_faces import PROFILES, RenderedFaces

FRAMES, SHOWN = 8, 4
SHORT = replace(LANDMARK_TRAINING, steps=160, cycles=((160, 3e-3),), batch=24, threads=1, save_every=80)


def planted(clips: int, seed: int) -> RenderedFaces:
    """People of different shapes whose landmarks move with four action units; class = the unit that shows."""
    rng = np.random.default_rng(seed)
    head = np.random.default_rng(99).standard_normal((478, 3)) * (1.0, 1.2, 0.5)
    head -= head[RIGID].mean(0)
    head /= np.sqrt(np.square(head[RIGID]).sum(1).mean())
    movements = np.random.default_rng(98).standard_normal((SHOWN, 478, 3)) * 0.06
    movements[:, RIGID] = 0
    label, subject = rng.integers(SHOWN, size=clips), np.arange(clips) // 2
    au = np.zeros((clips, FRAMES, len(AU_NAMES)), np.float32)
    course = np.sin(np.linspace(0, np.pi, FRAMES)) * rng.uniform(0.5, 1.0, (clips, 1))
    au[np.arange(clips), :, label] = course
    shapes = {person: rng.standard_normal((478, 3)) * 0.03 for person in np.unique(subject)}
    landmarks = (
        np.stack([head + shapes[s] for s in subject])[:, None] + course[:, :, None, None] * movements[label][:, None]
    )
    landmarks = (landmarks + rng.standard_normal(landmarks.shape) * 0.005) * 60 + 100
    return RenderedFaces(
        crops=np.zeros((clips, FRAMES, 2, 2, 3), np.uint8),
        au=au,
        label=label,
        subject=subject,
        tone=np.zeros(clips, int),
        profile=np.full(clips, PROFILES.index("posed")),
        heat=np.zeros((clips, len(AU_NAMES), 8, 8), np.float16),
        landmarks=landmarks.astype(np.float32),
        boxes=np.tile(np.array((50.0, 50, 100, 100), np.float32), (clips, FRAMES, 1)),
    )


@pytest.fixture(scope="module")
def data() -> RenderedFaces:
    return planted(360, 0)


def test_planted_movements_are_learned_for_unseen_people(data: RenderedFaces, tmp_path: Path) -> None:
    net = pretrain_landmarks(data, tmp_path / "run", SHORT)
    shapes, rows = shape_set(planted(80, 5), net.template.numpy())
    output = predict_shapes(net, shapes, np.arange(len(rows)))
    truth = planted(80, 5)
    assert (output.logits.argmax(1).numpy() == truth.label).mean() > 0.9
    predicted, wanted = output.action_units[..., :SHOWN].numpy().ravel(), truth.au[..., :SHOWN].ravel()
    assert np.corrcoef(predicted, wanted)[0, 1] > 0.85


def test_a_stopped_run_resumes_to_the_same_weights(data: RenderedFaces, tmp_path: Path) -> None:
    data = data.take(np.arange(72))
    whole = pretrain_landmarks(data, tmp_path / "whole", replace(SHORT, steps=12, save_every=6))

    class StopError(Exception):
        pass

    def stop(step: int, of: int, note: str) -> None:
        if step == 6:
            raise StopError

    settings = replace(SHORT, steps=12, save_every=6)
    with pytest.raises(StopError):
        pretrain_landmarks(data, tmp_path / "cut", settings, on_progress=stop)
    resumed = pretrain_landmarks(data, tmp_path / "cut", settings)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_batches_move_the_resting_face_and_keep_the_zero(data: RenderedFaces) -> None:
    """Points and neutral face are moved alike, and truth is that of the chosen clips."""
    train, _ = data.split_subjects()
    net = new_network(data, train)
    shapes, rows = shape_set(data, net.template.numpy())
    assert len(rows) == len(data)
    batches = _Batches(data, shapes, train, SHORT, net.template.numpy())
    first, again, other = batches.make(3), batches.make(3), batches.make(4)
    for a, b in zip(first.inputs, again.inputs, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.inputs[0], other.inputs[0])
    points, _, neutral, known = first.inputs
    assert 0.1 < float(known.float().mean()) < 0.7
    resting = points[known][:, [0, -1]].mean(1)  # the course starts and ends at rest
    assert float((resting - neutral[known]).abs().median()) < 0.02
    spread = float((resting - torch.from_numpy(shapes.points.mean((0, 1)))).abs().median())
    assert spread > 0.015, "people differ by more than the rest of the noise"


def test_clips_without_landmarks_are_left_out(data: RenderedFaces) -> None:
    blind = replace(
        data, landmarks=np.where(np.arange(len(data))[:, None, None, None] % 5 == 0, np.nan, data.landmarks)
    )
    train, _ = data.split_subjects()
    _, rows = shape_set(blind, new_network(data, train).template.numpy())
    assert (rows % 5 != 0).all()
    assert len(rows) == len(data) - -(-len(data) // 5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps is 0; give at least 1"),
        ({"save_every": 0}, "save_every is 0; give at least 1"),
        ({"warmup_share": 1.0}, "warmup_share is 1.0; give at least 0 and below 1"),
        ({"average_decay": 1.0}, "average_decay is 1.0"),
        ({"cycles": ()}, "cycles is"),
        ({"cycles": ((20, 1e-3), (10, 1e-3))}, "rising last step"),
        ({"cycles": ((20, 0.0),)}, "learning rate above 0"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(SHORT, **wrong)


def test_the_learning_rate_rises_and_falls_in_every_cycle_and_ends_with_the_training() -> None:
    config = replace(SHORT, steps=150, cycles=((100, 2e-3), (200, 1e-3), (300, 5e-4)), warmup_share=0.1)
    rates = [config.rate(step) for step in range(150)]
    assert max(rates[:100]) == pytest.approx(2e-3)
    assert rates[:100].index(max(rates[:100])) == 10
    assert max(rates[100:]) == pytest.approx(1e-3)
    assert 100 + rates[100:].index(max(rates[100:])) == 105
    assert rates[99] < 0.1 * 2e-3
    assert rates[149] < 0.1 * 1e-3
