"""Joint training of words and visual tokens: its targets, and that it reaches them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from small_grace import SMALL, dataset, labelled

from dferkit.errors import CheckpointError, ConfigError, DataError
from dferkit.facs import AU_NAMES
from dferkit.models.grace import Grace
from dferkit.models.joint_space import load_joint_space, save_joint_space
from dferkit.pretraining.joint import (
    JointPretrainingConfig,
    pretrain_joint_space,
    where_words_belong,
)
from dferkit.pretraining.rendered_faces import read_shards
from dferkit.pretraining.rendered_tokens import RenderedTokens
from dferkit.schema import Caption, Phrase, TextTokens
from dferkit.training.loop import TrainingConfig, train_steps
from dferkit.training.score import predict_outputs, whole_plans
from dferkit.training.spec import TrainingSpec

SMILE, FROWN = AU_NAMES.index("AU12"), AU_NAMES.index("AU4")
UNITS = ((SMILE, 7), (FROWN, 1))  # an action unit and the only cell of a 3 × 3 grid that it moves


def caption(*units: str) -> tuple[Caption, TextTokens]:
    """One piece of three letters per unit, a comma between."""
    phrases = tuple(
        Phrase(
            text="abc", action_unit=unit, regions=(), start_seconds=0.0, end_seconds=2.0, intensity=0.8, start_character=4 * i, end_character=4 * i + 3
        )
        for i, unit in enumerate(units)
    )  # fmt: skip
    spans = tuple(span for i in range(len(units)) for span in ((4 * i, 4 * i + 3), (4 * i + 3, 4 * i + 4)))[:-1]
    values = torch.zeros(len(spans), SMALL.text_dim)
    tokens = TextTokens(
        values=values, sentence=values.mean(0), pieces=(("abc", ",") * len(units))[:-1], spans=spans, encoder="test"
    )
    return Caption(text=",".join(["abc"] * len(units)), phrases=phrases, source="template"), tokens


def heat_map() -> np.ndarray:
    heat = np.zeros((len(AU_NAMES), 9), np.float32)
    for unit, cell in UNITS:
        heat[unit, cell] = 1
    return heat


def test_a_word_belongs_where_and_when_its_unit_moves() -> None:
    units = np.zeros((8, len(AU_NAMES)), np.float32)
    units[4:6, SMILE] = 0.5
    units[6:, SMILE] = 1.0
    heat = heat_map()
    heat[SMILE, 6] = 0.5
    target = where_words_belong(*caption("AU12"), units, heat, 4).reshape(4, 9)
    # By hand: times 1 : 2 for the last two steps, cells 1 : (1/2)².
    expected = torch.zeros(4, 9)
    expected[2, [6, 7]] = torch.tensor([0.25, 1.0]) / 1.25 / 3
    expected[3, [6, 7]] = torch.tensor([0.25, 1.0]) / 1.25 * 2 / 3
    torch.testing.assert_close(target, expected)


def test_a_held_movement_belongs_to_all_times() -> None:
    units = np.full((8, len(AU_NAMES)), 0.6, np.float32)
    target = where_words_belong(*caption("AU4"), units, heat_map(), 4)
    torch.testing.assert_close(target.reshape(4, 9)[:, 1], torch.full((4,), 0.25))


def test_a_described_movement_that_does_not_occur_belongs_nowhere() -> None:
    units = np.full((8, len(AU_NAMES)), 0.1, np.float32)
    assert not where_words_belong(*caption("AU4"), units, heat_map(), 4).any()
    still, tokens = caption("")
    assert not where_words_belong(still, tokens, units + 1, heat_map(), 4).any()


def known_clips(count: int, seed: int) -> tuple[RenderedTokens, list[Caption]]:
    """Cells that move carry a direction of their unit; so do the words."""
    rng = torch.Generator().manual_seed(seed)
    directions = torch.randn(2, SMALL.visual_dim, generator=torch.Generator().manual_seed(99))
    words = torch.randn(2, SMALL.text_dim, generator=torch.Generator().manual_seed(98))
    visual = 0.3 * torch.randn(count, 4, 9, SMALL.visual_dim, generator=rng)
    units = np.zeros((count, 8, len(AU_NAMES)), np.float32)
    captions, texts = [], []
    for clip in range(count):
        when = torch.randint(0, 4, (2,), generator=rng).tolist()
        for number, (unit, cell) in enumerate(UNITS):
            units[clip, 2 * when[number] : 2 * when[number] + 2, unit] = 1
            visual[clip, when[number], cell] += 2 * directions[number]
        written, tokens = caption("AU12", "AU4")
        values = torch.stack([words[0], torch.zeros(SMALL.text_dim), words[1]])
        captions.append(written)
        texts.append(replace(tokens, values=values, sentence=values.mean(0)))
    heat = np.broadcast_to(heat_map(), (count, len(AU_NAMES), 9))
    data = dataset(visual.half(), texts, np.zeros(count, np.int64))
    return RenderedTokens(data=data, true_units=units, heat=heat, rows=np.arange(count)), captions


@pytest.mark.parametrize("mass", ["uniform", "learned"])
def test_words_learn_to_find_their_cells_on_clips_never_seen(mass: str) -> None:
    config = replace(SMALL, visual_mass=mass, text="tokens")
    settings = JointPretrainingConfig(epochs=25, batch=16, learning_rate=5e-3)
    model = pretrain_joint_space(config, *known_clips(96, 0), settings)
    unseen, captions = known_clips(16, 1)

    def inside(of: Grace) -> float:
        plans = whole_plans(predict_outputs(of, unseen.data), unseen.data.texts)
        targets = [
            where_words_belong(c, t, u, h, 4)
            for c, t, u, h in zip(captions, unseen.data.texts, unseen.true_units, unseen.heat, strict=True)
        ]
        shares = [
            float(p[w][t[w].numpy() > 0].sum() / p[w].sum())
            for p, t in zip(plans, targets, strict=True)
            for w in (0, 2)
        ]
        return float(np.mean(shares))

    torch.manual_seed(3)
    untrained = inside(Grace(config).eval())
    assert untrained < 0.15  # one cell of 36 each
    # With uniform mass no cell may receive more than 1/36, which is 1/12 of a word's third.
    assert inside(model) > (0.7 if mass == "learned" else 0.075)
    if mass == "uniform":
        assert inside(model) > 1.5 * untrained


def test_clips_whose_captions_describe_nothing_true_are_refused() -> None:
    clips, captions = known_clips(4, 0)
    with pytest.raises(DataError, match="no caption describes a movement that occurs"):
        pretrain_joint_space(SMALL, replace(clips, true_units=np.zeros_like(clips.true_units)), captions)


def test_only_the_joint_space_is_trained_and_the_same_seed_gives_the_same_bytes() -> None:
    config, settings = replace(SMALL, visual_mass="learned"), JointPretrainingConfig(epochs=1, batch=8)
    first, second = (pretrain_joint_space(config, *known_clips(16, 0), settings) for _ in range(2))
    torch.manual_seed(settings.seed)
    untouched = Grace(config).state_dict()
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
        if not name.startswith("space."):
            assert torch.equal(value, untouched[name]), name
    assert not torch.equal(first.space.mass.weight, untouched["space.mass.weight"])


def test_training_starts_from_the_saved_space(tmp_path) -> None:
    torch.manual_seed(5)
    save_joint_space(Grace(SMALL).space, tmp_path / "joint.safetensors")
    joint = load_joint_space(tmp_path / "joint.safetensors")
    slow = TrainingConfig(epochs=1, batch=14, learning_rate=1e-9, weight_decay=0.0)
    model = Grace(SMALL)
    model.space.start_from(joint)
    trained = train_steps(model, labelled(), slow)
    for name, value in joint.items():
        torch.testing.assert_close(trained.space.state_dict()[name], value.float(), atol=1e-6, rtol=0)


def test_a_space_of_another_size_or_none_is_one_sentence(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="dferkit pretrain"):
        load_joint_space(tmp_path / "joint.safetensors")
    save_joint_space(Grace(replace(SMALL, dim=16)).space, tmp_path / "joint.safetensors")
    with pytest.raises(CheckpointError, match=r"does not fit .*mass\.weight|does not fit .*projection"):
        Grace(SMALL).space.start_from(load_joint_space(tmp_path / "joint.safetensors"))


def test_a_space_with_nan_is_refused(tmp_path) -> None:
    space = Grace(SMALL).space
    with torch.no_grad():
        space.mass.weight[0, 0] = torch.nan
    save_joint_space(space, tmp_path / "joint.safetensors")
    with pytest.raises(CheckpointError, match="NaN"):
        load_joint_space(tmp_path / "joint.safetensors")


def test_shards_of_another_version_are_one_sentence(tmp_path) -> None:
    save_file({"crops": np.zeros((1, 2), np.uint8)}, tmp_path / "posed-000.safetensors")
    with pytest.raises(DataError, match=r"posed-000\.safetensors was rendered by another version .*heat"):
        read_shards([tmp_path / "posed-000.safetensors"])


def test_settings_that_the_joint_space_cannot_serve_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"leave model\.dim at 96"):
        TrainingSpec(settings=("model.dim=16",)).plan()
    with pytest.raises(ConfigError, match="choose uniform or motion"):
        TrainingSpec(encoder="videomae", settings=("model.visual_mass=learned",)).plan()
