"""``dferkit train`` on a ``clips.csv``: one model of the registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dferkit.errors import ManifestError
from dferkit.evaluation.summary import summarize
from dferkit.faces.status import unused_clips
from dferkit.recipes.data import ListedClips
from dferkit.recipes.provenance import claim_training
from dferkit.recipes.scores import scored_clips
from dferkit.reports.tables import clean_json
from dferkit.schema import ReportProgress
from dferkit.storage import write_json
from dferkit.tokens.features import TokenConfig, one_thread
from dferkit.training.fit import fit
from dferkit.training.score import score
from dferkit.training.spec import TrainingSpec


def train_list(
    clips: ListedClips, out: Path, spec: TrainingSpec, report: ReportProgress
) -> tuple[Path, dict[str, Any]]:
    """Train on the train rows (all rows without a split column), measure on the val rows, write ``checkpoints/<model>/``.

    The last weights are kept; nothing is selected on any split. The same command resumes.

    Returns:
        The checkpoint's folder and the figures of ``train.json``.

    Raises:
        ManifestError: No row is marked train. ConfigError: A wrong setting. DataError: Too few clips could be used.
    """
    sides = clips.sides()
    rows, val_rows = sides.of("train"), sides.val
    if not rows:
        raise ManifestError(f"{clips.name} has a split column, but no row with split train")
    planned = spec.plan()  # a wrong setting is refused before hours of reading videos
    claim_training(out, clips, spec, planned.training)
    motion = getattr(planned.model, "motion_source", "tokens")
    config = TokenConfig(encoder=spec.encoder, motion=motion, device=spec.device)
    data = clips.read(rows, config, part="train", report=report)
    with one_thread():
        fitted = fit(data, spec, state=out / "state" / spec.model, on_progress=report)
        folder = out / "checkpoints" / spec.model
        checkpoint = fitted.save(
            folder,
            f"{clips.name} ({len(data)} clips) on a bundled model trained on rendered faces",
            selection="last",
            **clips.about,
        )
    figures: dict[str, Any] = {
        "model": spec.model,
        "train_clips": len(data),
        "classes": {label: int(np.sum(data.target == i)) for i, label in enumerate(clips.labels)},
        "unused": unused_clips(data.statuses, (row.clip_id for row in rows)),
    }
    if val_rows:
        val = clips.read(val_rows, config, part="val", report=report)
        answered = score(checkpoint, val, device=spec.device).of_clips()
        figures["val"] = summarize(scored_clips(val_rows, answered, clips.labels))
    write_json(out / "train.json", clean_json(figures))
    return folder, figures
