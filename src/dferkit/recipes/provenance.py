"""Which run a folder holds, and what a checkpoint was trained on."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dferkit.errors import ConfigError
from dferkit.models.checkpoint import Checkpoint
from dferkit.recipes.data import LabelledClips
from dferkit.storage import read_json, write_json
from dferkit.training.spec import TrainingSpec

_DIGEST_LENGTH, _MOST_SHOWN = 64, 240


def check_not_trained_on(
    checkpoint: Checkpoint,
    clips: LabelledClips,
    clip_ids: Collection[str],
    advice: str = "give other clips, or mark some with split val before training",
) -> None:
    """Refuse clips that a checkpoint was trained on: on them a model is better and more confident than on any others.

    Args:
        clip_ids: Those to be used.

    Raises:
        ConfigError: Some are among those of the training.
    """
    seen = clips.trained_ids(checkpoint.about) & set(clip_ids)
    if seen:
        raise ConfigError(
            f"the checkpoint was trained on {len(seen):,} of these {len(set(clip_ids)):,} clips of {clips.name}; {advice}"
        )


def count_clips(num_clips: int, subjects: Iterable[str] | None) -> str:
    """``42 clips, 7 people``; without subjects the clips alone."""
    people = "" if subjects is None else f", {plural(len(set(subjects)), 'person', 'people')}"
    return f"{plural(num_clips, 'clip', 'clips')}{people}"


def plural(count: int, one: str, many: str) -> str:
    """``1 person``, ``2 people``."""
    return f"{count} {one if count == 1 else many}"


def claim_training(out: Path, clips: LabelledClips, spec: TrainingSpec, training: Any) -> None:
    """``claim_run`` for one training.

    Args:
        training: Its settings, as ``spec.plan`` gives them.
    """
    identity = {
        "model": spec.model,
        "encoder": spec.encoder,
        "text_encoder": spec.text_encoder,
        "start": None if spec.start is None else spec.start.digest,
        "training": asdict(training),
        "settings": sorted(spec.settings),
        **clips.about,
    }
    claim_run(out, identity)


def claim_run(out: Path, identity: Mapping[str, Any], *, marker: str = "run.json") -> None:
    """Write down in a file which run a folder holds, or check that it is this one: results of different runs must never stand together.

    Raises:
        ConfigError: It holds another run.
    """
    refuse_other_run(out, identity, marker=marker)
    if not (out / marker).is_file():
        write_json(out / marker, dict(identity))


def refuse_other_run(out: Path, identity: Mapping[str, Any], *, marker: str = "run.json") -> None:
    """Check that a folder holds this run or none.

    Raises:
        ConfigError: It holds another run.
    """
    now: dict[str, Any] = json.loads(json.dumps(dict(identity)))
    path = out / marker
    if not path.is_file():
        return
    was = read_json(path)
    changed = [key for key in now if was.get(key) != now[key]]
    if changed:
        changes = "; ".join(_difference(key, was.get(key), now[key]) for key in changed)
        raise ConfigError(f"{out}/ holds another run (other {changes}); give the same settings, or another --out")


def _difference(key: str, was: Any, now: Any) -> str:
    """What changed, with both values where they are short enough to read."""
    values = [value if isinstance(value, str) else json.dumps(value) for value in (was, now)]
    is_digest = any(len(value) == _DIGEST_LENGTH and value.isalnum() for value in values)
    return key if is_digest or sum(map(len, values)) > _MOST_SHOWN else f"{key}: {values[0]} there, {values[1]} here"
