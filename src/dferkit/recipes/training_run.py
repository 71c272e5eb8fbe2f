"""``dferkit train``: one model on a user's own manifest."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dferkit.datasets import check_disjoint, choose_split, read_manifest
from dferkit.encoders.box import BOX_FOLDER
from dferkit.encoders.text import TextEncoder
from dferkit.errors import ConfigError, ManifestError
from dferkit.evaluation.summary import summarize
from dferkit.labels import BASIC
from dferkit.models.build import variant
from dferkit.models.checkpoint import Checkpoint, save_checkpoint
from dferkit.models.grace import GraceConfig
from dferkit.models.joint_space import joint_space_of
from dferkit.recipes.provenance import about_checkpoint
from dferkit.recipes.scoring import answer_features, scored_clips
from dferkit.reports.tables import clean_json
from dferkit.storage import digest_file, write_json
from dferkit.tokens.captioned import describe_all, refine_all, training_guides
from dferkit.tokens.dataset import clip_set
from dferkit.tokens.features import FeatureConfig, extract_features, one_thread
from dferkit.training.loop import TrainingConfig, check_joint, train_grace
from dferkit.training.row import base_config

Report = Callable[[str, int, int, str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """One training run; ``--set model.ratio=0.7 --set training.epochs=50`` changes fields."""

    model: GraceConfig
    training: TrainingConfig


_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", tuple: "a list"}


def apply_settings(config: Any, settings: Sequence[str]) -> Any:
    """A configuration with ``key.sub=value`` changes applied; values are read as YAML scalars.

    Raises:
        ConfigError: An unknown key (the message names the nearest), or a value of the wrong kind.
    """
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting!r}: give key=value, such as training.epochs=50")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(
                f"--set {setting!r}: the value cannot be read; write a number, a word or [a, list]"
            ) from error
        config = _set(config, key.strip().split("."), value, key)
    return config


def _written(value: Any) -> str:
    """As one writes it after ``--set``."""
    return "[" + ",".join(map(str, value)) + "]" if isinstance(value, tuple | list) else str(value)


def _set(config: Any, path: list[str], value: Any, whole: str) -> Any:
    names = [field.name for field in dataclasses.fields(config)]
    if path[0] not in names:
        near = difflib.get_close_matches(path[0], names, n=1, cutoff=0.0)[0]
        raise ConfigError(f"--set {whole}: unknown key {path[0]!r}; did you mean {near!r}? Known: {', '.join(names)}")
    old = getattr(config, path[0])
    if len(path) > 1:
        if not dataclasses.is_dataclass(old):
            raise ConfigError(f"--set {whole}: {path[0]!r} has no fields of its own")
        return replace(config, **{path[0]: _set(old, path[1:], value, whole)})
    if dataclasses.is_dataclass(old):
        raise ConfigError(
            f"--set {whole}: {path[0]!r} holds fields; name one of them, such as {whole}.{dataclasses.fields(old)[0].name}"
        )
    kind = type(old)
    if kind is float and not isinstance(value, bool):
        with contextlib.suppress(TypeError, ValueError):
            value = float(value)  # YAML takes 3e-5 for a word
    if isinstance(old, tuple) and isinstance(value, list):
        value = tuple(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(
            f"--set {whole}={_written(value)}: expected {_KINDS.get(kind, 'a ' + kind.__name__)}, such as {_written(old)}"
        )
    return replace(config, **{path[0]: value})


def train_manifest(
    manifest: Path | str,
    out: Path | str,
    *,
    model: str = "grace",
    encoder: str = "box",
    face: str = "haar",
    seed: int = 0,
    settings: Sequence[str] = (),
    workers: int | None = None,
    on_progress: Report | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Train on the train rows (all rows without a split column), measure on the val rows, write ``checkpoints/<model>/``.

    The last weights are kept; nothing is selected on any split. The same command resumes.

    Returns:
        The checkpoint's folder and the figures of ``train.json``.
    """
    out, tell = Path(out), on_progress or (lambda stage, done, of, note: None)
    records = read_manifest(manifest, labels=BASIC)
    check_disjoint(records)
    train_records = choose_split(records, "train")
    if not train_records:
        raise ManifestError(f"{Path(manifest).name} has a split column, but no row with split train")
    val_records = [] if all(r.split is None for r in records) else choose_split(records, "val")
    joint = joint_space_of(BOX_FOLDER, encoder)

    def planned(base: GraceConfig) -> RunConfig:
        run: RunConfig = apply_settings(
            RunConfig(model=variant(model, base), training=TrainingConfig(seed=seed)), settings
        )
        check_joint(run.model, joint)
        return run

    first = planned(GraceConfig())  # a wrong setting is refused before hours of reading videos
    config = FeatureConfig(face=face, encoder=encoder, motion=first.model.motion_source)
    features = extract_features(
        train_records,
        out / "cache" / "train",
        config,
        workers=workers,
        on_progress=lambda a, b: tell("faces and tokens", a, b, ""),
    )
    clips, text_encoder = clip_set(features, BASIC), TextEncoder(BOX_FOLDER / "text")
    coarse, guides = training_guides(clips.units, clips.target, clips.subjects, BASIC)
    texts = refine_all(
        describe_all(clips.units, clips.timestamps, clips.au_names, "box"), guides, text_encoder, for_training=True
    )
    run = planned(base_config(clips, text_encoder, has_joint=joint is not None))
    with one_thread():
        trained = train_grace(
            run.model,
            clips.visual,
            texts.tokens,
            clips.target,
            summary=clips.summary,
            motion=clips.motion,
            config=run.training,
            joint=joint,
            state=out / "state" / model,
            on_progress=lambda a, b, loss: tell(f"training {model}", a, b, f"loss {loss:.3f}"),
        )
    about = about_checkpoint(
        model,
        box=BOX_FOLDER,
        trained_on=f"{Path(manifest).name} ({len(clips.target)} clips) on a box trained on rendered faces",
        encoder=encoder,
        encoder_digest=features.encoder_digest,
        seed=seed,
        data_digest=digest_file(manifest),
        training=dataclasses.asdict(run.training),
    )
    checkpoint = Checkpoint(model=trained, coarse=coarse, about=about)
    folder = save_checkpoint(checkpoint, out / "checkpoints" / model)
    figures: dict[str, Any] = {
        "model": model,
        "train_clips": len(clips.target),
        "classes": {label: int(np.sum(clips.target == i)) for i, label in enumerate(BASIC)},
        "failed": len(train_records) - len(clips.target),
    }
    if val_records:
        val = extract_features(val_records, out / "cache" / "val", config, workers=workers)
        probabilities = answer_features(checkpoint, val, text_encoder)
        answered = {r.clip_id: p for r, p in zip(val.records, probabilities, strict=True)}
        figures["val"] = summarize(scored_clips(val_records, answered, BASIC))
    write_json(out / "train.json", clean_json(figures))
    return folder, figures
