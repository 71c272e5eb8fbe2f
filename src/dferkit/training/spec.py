"""What is trained and how: a model of the registry, its tokens, and changed settings."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from dferkit.encoders.box import BOX_FOLDER
from dferkit.encoders.clip_model import KINDS
from dferkit.encoders.front_end import FRONT_ENDS, joint_space_file
from dferkit.encoders.open import BUNDLED_TEXT, OWN_TEXT, open_text_encoder
from dferkit.errors import ConfigError
from dferkit.models.checkpoint import Checkpoint
from dferkit.models.joint_space import load_joint_space
from dferkit.models.registry import ModelEntry, find_model
from dferkit.schema import TokenShape
from dferkit.training.engine import EngineConfig
from dferkit.training.loop import ADAPTATION, TrainingConfig
from dferkit.training.phases import BapConfig
from dferkit.training.settings import apply_settings


@dataclass(frozen=True, kw_only=True, slots=True)
class SolutionConfig:
    """Settings of a model in closed form: only its seed, which it does not use."""

    seed: int = 0


SPACE_EPOCHS = 20
"""Of the phase in which a joint space learns from captions, where there is none (``docs/how-to/choose-encoders.md``)."""
_TRAINING = {"steps": TrainingConfig, "stages": BapConfig, "solution": SolutionConfig}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Settings of one training; ``--set model.width=16 --set training.epochs=50`` changes fields.

    Attributes:
        space: The phase before it in which the joint space learns from the captions (``training.space``); 0 epochs leave it out.
    """

    model: Any
    training: Any
    space: TrainingConfig = field(default_factory=lambda: TrainingConfig(epochs=0))
    engine: EngineConfig = field(default_factory=EngineConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSpec:
    """One training.

    Attributes:
        model: Name in ``models.registry``. encoder, text_encoder: Of the tokens and of the captions, as ``encoders.open`` names them.
        settings: ``key=value`` changes of ``RunConfig``. seed: Of all random draws.
        start: A trained model to adapt (``train --from``). use_votes: Train on the shares of the annotators in place of one label.
        box: Folder of the bundled model.
    """

    model: str = "grace"
    encoder: str = FRONT_ENDS["pixels"]
    text_encoder: str = BUNDLED_TEXT
    settings: tuple[str, ...] = ()
    seed: int = 0
    start: Checkpoint | None = None
    use_votes: bool = False
    device: str = "cpu"
    box: Path = BOX_FOLDER

    @property
    def entry(self) -> ModelEntry:
        """Row of the registry."""
        return find_model(self.model)

    @property
    def joint_space(self) -> Mapping[str, Tensor] | None:
        """Trained weights for these tokens and words; None where there are none."""
        path = joint_space_file(self.encoder, self.box) if self.text_encoder == BUNDLED_TEXT else None
        return None if path is None else load_joint_space(path)

    @property
    def shares_space(self) -> bool:
        """The captions are read by the visual encoder's own text tower, in the space of its tokens."""
        return self.entry.has_joint_space and self.text_encoder == OWN_TEXT

    def _space(self) -> TrainingConfig:
        """The phase for the joint space: none where one is there already."""
        has_space = not self.entry.has_joint_space or self.shares_space or self.joint_space is not None
        return TrainingConfig(epochs=0 if has_space else SPACE_EPOCHS, weight_decay=0.05, seed=self.seed)

    def plan(self, shape: TokenShape | None = None) -> RunConfig:
        """Settings for these data; without them for sizes of no importance, so that a wrong setting is refused before any work.

        Raises:
            ConfigError: An unknown model or setting, a wrong value, or settings that do not go together.
        """
        entry, joint = self.entry, self.joint_space
        if self.use_votes and (self.start is not None or entry.learns != "steps"):
            what = "--from" if self.start is not None else self.model
            raise ConfigError(f"{what} trains on one label per clip, not on votes; leave out --votes")
        if entry.reads == "clip" and self.encoder.partition(":")[0] not in KINDS.values():
            raise ConfigError(f"{self.model} reads CLIP's features of frames: give --encoder clip:FOLDER")
        if self.start is not None:
            if not entry.adapts:
                raise ConfigError(f"{self.model} has no weights to adapt with --from; train it again")
            training = TrainingConfig(**{**ADAPTATION, **entry.adaptation}, seed=self.seed)
            planned = RunConfig(
                model=self.start.model.config, training=training, engine=EngineConfig(is_adaptation=True)
            )
            changed: RunConfig = apply_settings(planned, self.settings)
            if replace(changed, training=training, engine=planned.engine) != planned:
                raise ConfigError("--from keeps the model of its checkpoint; set fields of training only")
            return changed
        if shape is None and entry.reads_text:
            _check_text_encoder(self.text_encoder, self.encoder, self.box)
        known = shape or TokenShape(labels=(), has_joint_space=joint is not None)
        for setting in self.settings:
            if (key := setting.partition("=")[0].strip()) in entry.ignores:
                raise ConfigError(f"--set {key}: {self.model} does not read this setting; leave it out")
        training = _TRAINING[entry.learns](**entry.budget, seed=self.seed)
        planned = RunConfig(model=entry.config_for(known), training=training, space=self._space())
        run: RunConfig = apply_settings(planned, self.settings)
        if entry.learns != "steps" and run.engine != EngineConfig():
            raise ConfigError(f"{self.model} is not trained by the engine's steps; leave out --set engine")
        if getattr(run.training, "epochs", 1) == 0:
            raise ConfigError("epochs is 0; give at least 1")
        if self.shares_space and run.model.dim != entry.config_for(known).dim:
            raise ConfigError(
                "--set model.dim: the width is that of the space that patches and words share; leave it out, or give --text-encoder box"
            )
        if entry.has_joint_space:
            _check_joint_space(run.model, joint)
        if entry.matches_captions(run.model):
            return run
        if any(setting.startswith("space.") for setting in self.settings):
            raise ConfigError(f"--set space: {self.model} does not match captions with videos; leave it out")
        return replace(run, space=replace(run.space, epochs=0))


@functools.cache
def _check_text_encoder(text: str, encoder: str, box: Path) -> None:
    """Open it once, so that a folder that is no text model is refused before clips are read."""
    if text != BUNDLED_TEXT:
        open_text_encoder(text, encoder, box=box)


def _check_joint_space(config: Any, joint: Mapping[str, Tensor] | None) -> None:
    """Refuse settings that a trained joint space does not serve."""
    if joint is None:
        if config.visual_mass == "learned":
            raise ConfigError(
                "visual_mass is learned, but this encoder has no trained joint space; choose uniform or motion"
            )
        return
    width = joint["visual_projection.weight"].shape[0]
    if config.dim != width:
        raise ConfigError(f"dim is {config.dim}, but the joint space has width {width}; leave model.dim at {width}")
