"""A checkpoint's answers and scores on labelled clips."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dferkit.datasets import choose_split, read_manifest
from dferkit.encoders.box import BOX_FOLDER
from dferkit.encoders.text import TextEncoder
from dferkit.errors import CheckpointError, ManifestError
from dferkit.evaluation.metrics import evaluate_predictions
from dferkit.models.checkpoint import Checkpoint
from dferkit.reports.tables import Provenance, clean_json, own_version, prediction_table, write_table
from dferkit.schema import ClipStatus, Evaluation, Prediction, Record
from dferkit.storage import write_json
from dferkit.training.captioned import describe_all, refine_all, test_guides
from dferkit.training.features import FeatureConfig, Features, extract_features
from dferkit.training.loop import predict_probabilities


def provenance_of(checkpoint: Checkpoint) -> Provenance:
    """What every table says of the model."""
    about = checkpoint.about
    return Provenance(
        model=str(about["name"]),
        weights_sha256=checkpoint.digest,
        calibration=str(about["calibration"]),
        trained_on=str(about["trained_on"]),
    )


def answer_features(checkpoint: Checkpoint, features: Features, encoder: TextEncoder) -> np.ndarray:
    """Class probabilities (clips, classes) of cached clips, captions included."""
    if features.encoder_digest != checkpoint.about["encoder_digest"]:
        raise CheckpointError(
            "the checkpoint was trained on another visual encoder's tokens; extract the features with its own encoder"
        )
    coarse = describe_all(features.units, features.timestamps, features.au_names, "box")
    side = refine_all(
        coarse,
        test_guides(checkpoint.coarse, features.units),
        encoder,
        for_training=False,
        top_k=int(checkpoint.about["caption"]["top_k"]),
    )
    return predict_probabilities(
        checkpoint.model, features.visual, side.tokens, summary=features.summary, motion=features.motion
    )


def clip_predictions(
    records: list[Record],
    statuses: dict[str, ClipStatus],
    answered: dict[str, np.ndarray],
    labels: tuple[str, ...],
    *,
    num_frames: int = 16,
) -> list[Prediction]:
    """One row per record, in order; clips without an answer keep their reason."""
    rows = []
    for record in records:
        status = statuses[record.clip_id]
        probabilities = answered.get(record.clip_id)
        rows.append(
            Prediction(
                input=record.clip_id,
                clip_id=record.clip_id,
                track_id=-1 if probabilities is None else 0,
                window=0,
                start_seconds=0.0,
                end_seconds=status.end_seconds,
                labels=labels,
                label=None if probabilities is None else labels[int(probabilities.argmax())],
                probabilities=probabilities,
                status=status.status,
                message=status.message,
                num_frames=num_frames if status.front_end else 0,
                num_face_frames=round(status.coverage * num_frames),
                front_end=status.front_end,
            )
        )
    return rows


def score(
    records: list[Record], answered: dict[str, np.ndarray], labels: tuple[str, ...], *, seed: int = 0
) -> Evaluation:
    """UAR, WAR and the rest; a clip without an answer counts as wrong."""
    true = np.array([labels.index(str(r.label)) for r in records])
    missing = np.full(len(labels), np.nan)
    probabilities = np.stack([answered.get(r.clip_id, missing) for r in records])
    named = [r.subject for r in records if r.subject]
    subjects = named if len(named) == len(records) else None
    return evaluate_predictions(labels, true, probabilities, subjects=subjects, seed=seed)


def evaluation_json(evaluation: Evaluation) -> dict[str, Any]:
    """For ``metrics.json`` and ``results.json``."""
    recall = {
        label: None if np.isnan(value) else float(value)
        for label, value in zip(evaluation.labels, evaluation.per_class_recall, strict=True)
    }
    return {
        "labels": list(evaluation.labels),
        "uar": evaluation.uar,
        "war": evaluation.war,
        "uar_ci95": list(evaluation.uar_ci95),
        "war_ci95": list(evaluation.war_ci95),
        "per_class_recall": recall,
        "confusion": np.asarray(evaluation.confusion).tolist(),
        "num_clips": evaluation.num_clips,
        "num_failed": evaluation.num_failed,
        "warnings": list(evaluation.warnings),
    }


def evaluate_manifest(
    manifest: Path | str,
    checkpoint: Checkpoint,
    out: Path | str,
    *,
    face: str = "haar",
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Evaluation, list[Prediction]]:
    """Score a checkpoint on the test rows of a manifest (all rows without a split column); write ``metrics.json`` and ``predictions.csv``.

    Raises:
        ManifestError: The manifest is wrong or has no test row.
        DataError: None of the videos could be used.
    """
    out = Path(out)
    records = choose_split(read_manifest(manifest, labels=checkpoint.labels), "test")
    if not records:
        raise ManifestError(
            f"{Path(manifest).name} has a split column, but no row with split test; give one, or leave the column out"
        )
    features = extract_features(
        records,
        out / "cache",
        FeatureConfig(
            face=face, encoder=str(checkpoint.about["encoder"]), motion=checkpoint.model.config.motion_source
        ),
        workers=workers,
        on_progress=on_progress,
    )
    probabilities = answer_features(checkpoint, features, TextEncoder(BOX_FOLDER / "text"))
    answered = {record.clip_id: row for record, row in zip(features.records, probabilities, strict=True)}
    predictions = clip_predictions(records, features.statuses, answered, checkpoint.labels)
    evaluation = score(records, answered, checkpoint.labels)
    write_table(
        out / "predictions.csv", prediction_table(predictions, provenance_of(checkpoint), labels=checkpoint.labels)
    )
    provenance = {
        "model": checkpoint.about["name"],
        "weights_sha256": checkpoint.digest,
        "trained_on": checkpoint.about["trained_on"],
        "calibration": checkpoint.about["calibration"],
        "version": own_version(),
        "face": face,
    }
    write_json(out / "metrics.json", clean_json({**evaluation_json(evaluation), "model": provenance}))
    return evaluation, predictions
