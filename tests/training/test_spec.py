"""Settings of a training: what has no effect or cannot work is refused before any work."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import nn

from dferkit.errors import ConfigError
from dferkit.labels import BASIC
from dferkit.models.a3lign import A3lign
from dferkit.models.baselines import BaselineConfig, ClipTemporal
from dferkit.models.registry import MODELS
from dferkit.schema import TokenShape
from dferkit.training.spec import TrainingSpec

ENCODERS = {"clip": "clip:somewhere", "videomae": "videomae"}


def spec_of(name: str, *settings: str) -> TrainingSpec:
    """A training with these settings; no encoder is opened."""
    return TrainingSpec(model=name, encoder=ENCODERS.get(MODELS[name].reads, "box"), settings=settings)


@pytest.mark.parametrize("setting", [
    ("clip_zero_shot", "model.temperature=5"), ("clip_zero_shot_units", "model.hidden=5"), ("mean_pooled", "model.loss=focal"),
    ("mean_pooled", "model.hidden=5"), ("mean_pooled", "model.layers=2"), ("class_prior", "model.temperature=1"), ("clip_temporal", "model.hidden=5"),
    ("videomae_focal", "model.layers=3"), ("videomae_focal", "model.temperature=3"), ("a3lign_no_jas", "training.is_staged=false"),
    ("a3lign_no_jas", "model.heads=4"), ("a3lign_no_jas", "model.dropout=0.5"),
], ids=" ".join)  # fmt: skip
def test_a_setting_that_the_model_does_not_read_is_refused(setting: tuple[str, str]) -> None:
    name, change = setting
    with pytest.raises(ConfigError, match=f"{change.partition('=')[0]}: {name} does not read this setting"):
        spec_of(name, change).plan()


def test_every_setting_that_a_baseline_takes_changes_its_network_or_its_loss() -> None:
    """Dropout of the temporal transformer too; by default it has none, as it was trained so far."""
    config = BaselineConfig(visual_dim=16, hidden=8)
    changed = {"hidden": 9, "layers": 2, "temperature": 0.5, "loss": "focal", "gamma": 1.0, "dropout": 0.7}
    for name, entry in MODELS.items():
        if entry.family != "baseline":
            continue
        for field in {f.name for f in fields(BaselineConfig)} - {
            *BaselineConfig.FROM_DATA,
            "loss",
            "gamma",
            "temperature",
        }:
            plain, other = (str(entry.build(c)) for c in (config, replace(config, **{field: changed[field]})))
            assert (plain != other) == (f"model.{field}" not in entry.ignores), (name, field)
    rates = {m.p for m in ClipTemporal(spec_of("clip_temporal").plan().model).modules() if isinstance(m, nn.Dropout)}
    assert rates == {0.0}
    torch.manual_seed(0)


@pytest.mark.parametrize("change", [
    "model.temperature=.nan", "model.temperature=.inf", "model.mlp_width=0", "model.token_spread=-1", "model.heads=0", "training.epochs=[true,1,1]",
])  # fmt: skip
def test_values_of_a3lign_out_of_range_are_refused(change: str) -> None:
    with pytest.raises(ConfigError, match=change.partition("=")[0].partition(".")[2]):
        spec_of("a3lign", change).plan()


def test_what_depends_on_the_data_is_checked_when_the_data_are_known() -> None:
    """64 heads suit a CLIP with 512 values, and not one with 96."""
    spec = spec_of("a3lign", "model.heads=64")
    spec.plan()
    A3lign(spec.plan(TokenShape(labels=BASIC, visual_dim=512, token_width=64)).model)
    with pytest.raises(ConfigError, match="heads is 64, but CLIP's features have 96 values"):
        A3lign(spec.plan(TokenShape(labels=BASIC, visual_dim=96, token_width=64)).model)


@pytest.mark.parametrize("name", ["grace", "a3lign", "mean_pooled"])
def test_there_is_one_seed(name: str) -> None:
    with pytest.raises(ConfigError, match=r"training\.seed: the seed is no setting; give it with --seed"):
        spec_of(name, "training.seed=5").plan()


@pytest.mark.parametrize("name", ["grace", "mean_pooled"])
def test_a_refusal_names_a_setting_that_can_be_set(name: str) -> None:
    with pytest.raises(ConfigError, match="several fields") as refused:
        spec_of(name, "model=3").plan()
    named = str(refused.value).rpartition("such as model.")[2]
    assert named not in type(spec_of(name).plan().model).FROM_DATA


@pytest.mark.parametrize(("setting", "known"), [
    ("training.device=cpu", "seed, epochs"), ("finetune=all", "model, training"),
])  # fmt: skip
def test_an_unknown_setting_that_is_near_none_is_refused_with_the_list(setting: str, known: str) -> None:
    with pytest.raises(ConfigError) as caught:
        spec_of("grace", setting).plan()
    key = setting.partition("=")[0]
    unknown = key.rpartition(".")[2]
    assert str(caught.value).startswith(f"--set {key}: unknown key {unknown!r}. Known: ")
    assert all(name in str(caught.value) for name in known.split(", "))
