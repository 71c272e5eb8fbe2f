"""``dferkit calibrate``: a checkpoint's temperature and abstention threshold, fitted and judged on a user's own clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dferkit.errors import ConfigError, DataError, ManifestError
from dferkit.evaluation.calibration import (
    CrossFit,
    PairedEstimate,
    at_temperature,
    bootstrap_estimate,
    compare_calibration,
    cross_fit,
    error_if_calibrated,
    fit_temperature,
)
from dferkit.evaluation.metrics import LEVEL, NUM_RESAMPLES, Estimate
from dferkit.evaluation.selective import ABSTAIN_ALWAYS, ACCURACY_IN_DOUBT, abstention_threshold
from dferkit.evaluation.summary import NUM_BINS
from dferkit.faces.status import unused_clips
from dferkit.models.checkpoint import Checkpoint, save_checkpoint
from dferkit.models.coarse import assign_folds
from dferkit.models.installed import check_fits
from dferkit.recipes.data import LabelledClips, Sides, for_labels
from dferkit.recipes.provenance import check_not_trained_on, count_clips, plural
from dferkit.reports.figures import write_reliability
from dferkit.reports.notice import CALIBRATED
from dferkit.reports.tables import clean_json, own_version
from dferkit.schema import Record, ReportProgress
from dferkit.storage import write_json
from dferkit.tokens.dataset import TokenDataset
from dferkit.tokens.features import TokenConfig, one_thread
from dferkit.training.score import score

LEAST_CLIPS = 20
FEW_CLIPS = 100
TARGET_ACCURACY = 0.8
_FOLDS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledLogits:
    """What a calibration is fitted on.

    Attributes:
        logits: (clips, classes), float64. before: Probabilities as the checkpoint gives them now.
        true: Index into ``labels``. subjects: One per clip; None where not everybody is known or there is one person only.
    """

    labels: tuple[str, ...]
    logits: np.ndarray
    before: np.ndarray
    true: np.ndarray
    subjects: np.ndarray | None

    @property
    def fold_of(self) -> np.ndarray:
        """Fold of each clip: whole people where they are known, else clips in turn."""
        if self.subjects is not None:
            return assign_folds(self.subjects, folds=_FOLDS)
        return np.arange(len(self.true)) % _FOLDS


def calibrate(
    clips: LabelledClips,
    checkpoint: Checkpoint,
    out: Path,
    *,
    target_accuracy: float = TARGET_ACCURACY,
    seed: int = 0,
    device: str = "cpu",
    report: ReportProgress,
) -> tuple[Path, dict[str, Any]]:
    """Fit temperature and abstention threshold on labelled clips; write ``checkpoint/``, ``calibration.json`` and ``reliability.png``.

    The weights stay as they are. The figures "after" come from fits that never saw the clip's person.

    Args:
        target_accuracy: Share of right answers wanted among those given, above 0, below 1.

    Returns:
        The folder of the new checkpoint, and the figures of ``calibration.json``.

    Raises:
        ConfigError: ``target_accuracy`` out of range, the checkpoint was trained on these clips or lacks one of their classes, or a store has
            several folds and none is named.
        ManifestError: All rows are marked train or test.
        CheckpointError: The checkpoint was trained on top of other parts than those installed.
        DataError: Fewer than 20 clips could be used, or they are of one class.
    """
    if not 0 < target_accuracy < 1:
        raise ConfigError(f"target-accuracy is {target_accuracy}; give a share above 0 and below 1, such as 0.8")
    clips = for_labels(clips, checkpoint.labels)
    chosen, rule = calibration_rows(clips.sides(with_block=True), clips.name)
    check_not_trained_on(checkpoint, clips, [record.clip_id for record in chosen])
    check_fits(checkpoint)
    _check_enough(chosen, len(chosen), rule)
    config = TokenConfig(encoder=str(checkpoint.about["encoder"]), motion=checkpoint.model.motion_source, device=device)
    data = clips.read(chosen, config, part="calibration", report=report)
    _check_enough(data.records, len(chosen), rule)
    people = [str(r.subject) for r in data.records] if all(r.subject for r in data.records) else None
    found = _answer(checkpoint, data, people, device)
    figures, after = measure_calibration(found, target_accuracy=target_accuracy, seed=seed)
    title = f"{clips.name} ({count_clips(len(data), people)})"
    about = {
        **checkpoint.about,
        "temperature": figures["temperature"]["value"],
        "abstain_below": figures["abstention"]["threshold"],
        "abstain_below_in_doubt": abstention_threshold(
            after, found.true, accuracy=max(target_accuracy, ACCURACY_IN_DOUBT)
        )[0],
        "calibration": f"{CALIBRATED} on {title}",
    }
    folder = save_checkpoint(replace(checkpoint, about=about), out / "checkpoint")
    figures = {
        **figures,
        "clips": {
            "manifest": clips.name,
            "rule": rule,
            "num_clips": len(data),
            "num_people": None if people is None else len(set(people)),
            "unused": unused_clips(data.statuses, (row.clip_id for row in chosen)),
            "of_class": {label: int((found.true == i).sum()) for i, label in enumerate(found.labels)},
        },
        "warnings": _warnings(found, figures, people),
        "checkpoint": {
            "name": checkpoint.about["name"],
            "weights_sha256": checkpoint.digest,
            "trained_on": checkpoint.about["trained_on"],
            "calibration_before": checkpoint.about["calibration"],
            "calibration": about["calibration"],
        },
        "version": own_version(),
    }
    write_json(out / "calibration.json", clean_json(figures))
    write_reliability(out / "reliability.png", found.before, after, found.true, title=title)
    return folder, figures


def _answer(checkpoint: Checkpoint, data: TokenDataset, people: Sequence[str] | None, device: str) -> LabelledLogits:
    with one_thread():
        answers = score(checkpoint, data, device=device)
    return LabelledLogits(
        labels=checkpoint.labels,
        logits=answers.logits.numpy(),
        before=answers.probabilities,
        true=data.target,
        subjects=np.array(people) if people is not None and len(set(people)) > 1 else None,
    )


def calibration_rows(sides: Sides, name: str) -> tuple[Sequence[Record], str]:
    """Rows to calibrate on, and one sentence that names them: those with split val, else all without a split.

    Raises:
        ManifestError: Every row is marked train or test.
    """
    val, chosen = sides.val, sides.val or sides.rest
    if not chosen:
        raise ManifestError(
            f"{name} marks every row train or test, and neither may be used to calibrate; mark some with split val"
        )
    left = len(sides.train) + len(sides.test) + (len(sides.rest) if val else 0)
    marked = (
        "with split val" if any(record.split for record in val) else f"of the validation block of fold {sides.fold}"
    )
    which = marked if val else "without a split" if left else "of the table"
    others = f"; {plural(left, 'row', 'rows')} with another split or none stayed out" if left else ""
    return chosen, f"{plural(len(chosen), 'row', 'rows')} {which}{others}; rows marked train or test are never used"


def measure_calibration(
    clips: LabelledLogits, *, target_accuracy: float = TARGET_ACCURACY, seed: int = 0
) -> tuple[dict[str, Any], np.ndarray]:
    """The figures of ``calibration.json`` that follow from the clips alone, and the probabilities "after", out of fold.

    Raises:
        DataError: Fewer than two people or clips.
    """
    groups = clips.subjects
    fitted = fit_temperature(clips.logits, clips.true)
    crossed = cross_fit(clips.logits, clips.true, clips.fold_of)
    after = crossed.probabilities
    compared = compare_calibration(clips.before, after, clips.true, groups=groups, seed=seed)
    interval = bootstrap_estimate(
        lambda rows: fit_temperature(clips.logits[rows], clips.true[rows]).value,
        len(clips.true),
        groups=groups,
        seed=seed,
    )
    figures = {
        "temperature": {**interval.as_dict(), "is_at_bound": fitted.is_at_bound},
        "scores": {name: pair.as_dict() for name, pair in compared.items()},
        "error_if_calibrated": {
            side: dict(zip(("mean", "p95"), error_if_calibrated(p, seed=seed), strict=True))
            for side, p in (("before", clips.before), ("after", after))
        },
        "abstention": _abstention(clips, fitted.value, crossed, target_accuracy, seed),
        "verdict": verdict(compared["negative_log_likelihood"], is_by_people=groups is not None),
        "after_is": f"out of fold: each clip's temperature was fitted without {'its person' if groups is not None else 'it'}",
        "folds": {
            "num": len(crossed.temperatures),
            "by": "clips" if groups is None else "subjects",
            "temperature": [t.value for t in crossed.temperatures],
        },
        "num_bins": NUM_BINS,
        "bootstrap": {
            "num_resamples": NUM_RESAMPLES,
            "level": LEVEL,
            "seed": seed,
            "draws": "clips" if groups is None else "subjects",
        },
    }
    return figures, after


def verdict(likelihood: PairedEstimate, *, is_by_people: bool) -> str:
    """What the clips show of the temperature, in one sentence; from the interval of the change of the likelihood."""
    change = likelihood.change
    numbers = f"negative log likelihood {likelihood.before.value:.3f} before, {likelihood.after.value:.3f} after; change {change.value:+.3f}, 95 % interval {change.low:+.3f} to {change.high:+.3f}"
    unseen = "people" if is_by_people else "clips"
    if change.high < 0:
        return f"On {unseen} it was not fitted on, the temperature helps ({numbers})."
    if change.low > 0:
        return f"On {unseen} it was not fitted on, the temperature makes it worse ({numbers}): keep the checkpoint as it was."
    return f"These clips do not show that the temperature helps ({numbers})."


def _check_enough(records: Sequence[Record], num_rows: int, rule: str) -> None:
    unused = f" ({num_rows - len(records)} of {num_rows} could not be used)" if len(records) < num_rows else ""
    if len(records) < LEAST_CLIPS:
        raise DataError(
            f"{plural(len(records), 'clip', 'clips')} to calibrate on{unused}; give at least {LEAST_CLIPS}, better {FEW_CLIPS} or more ({rule})"
        )
    classes = {str(record.label) for record in records}
    if len(classes) < 2:
        raise DataError(
            f"all {len(records)} clips{unused} are labelled {classes.pop()}; give clips of at least two classes"
        )


def _abstention(
    clips: LabelledLogits, temperature: float, crossed: CrossFit, target_accuracy: float, seed: int
) -> dict[str, Any]:
    """The threshold from all clips, and what thresholds fitted without a clip's person would have done to it."""
    threshold, coverage = abstention_threshold(
        at_temperature(clips.logits, temperature), clips.true, accuracy=target_accuracy
    )
    answered, of_fold = np.zeros(len(clips.true), dtype=bool), []
    fold_of = clips.fold_of
    for fold, own in zip(np.unique(fold_of), crossed.temperatures, strict=True):
        held = fold_of == fold
        rest = at_temperature(clips.logits[~held], own.value)
        found, _ = abstention_threshold(rest, clips.true[~held], accuracy=target_accuracy)
        answered[held] = crossed.probabilities[held].max(1) >= found
        of_fold.append(found)
    is_right = clips.logits.argmax(1) == clips.true

    def accuracy(rows: np.ndarray) -> float:
        kept = rows[answered[rows]]
        return float(is_right[kept].mean()) if len(kept) else float("nan")

    def estimate(statistic: Callable[[np.ndarray], float]) -> Estimate:
        return bootstrap_estimate(statistic, len(clips.true), groups=clips.subjects, seed=seed)

    return {
        "target_accuracy": target_accuracy,
        "threshold": threshold,
        "is_reached": threshold < ABSTAIN_ALWAYS,
        "coverage": coverage,
        "out_of_fold": {
            "num_answered": int(answered.sum()),
            "accuracy": estimate(accuracy).as_dict(),
            "coverage": estimate(lambda rows: float(answered[rows].mean())).as_dict(),
            "threshold": of_fold,
        },
    }


def _warnings(clips: LabelledLogits, figures: Mapping[str, Any], people: Sequence[str] | None) -> list[str]:
    """One sentence for everything that makes the figures weaker than they look."""
    found, num_clips = [], len(clips.true)
    if num_clips < FEW_CLIPS:
        found.append(
            f"{num_clips} clips are fewer than {FEW_CLIPS}: temperature and threshold are rough, and the intervals themselves are too narrow"
        )
    if people is None:
        found.append(
            "not every clip names its subject: folds and intervals are by clip, which looks too good when people appear more than once"
        )
    elif len(set(people)) == 1:
        found.append("all clips are of one person: these figures hold for no one else")
    absent = [label for i, label in enumerate(clips.labels) if not (clips.true == i).any()]
    if absent:
        found.append(f"no clip shows {', '.join(absent)}: the confidence in these classes is not tested")
    if figures["temperature"]["is_at_bound"]:
        found.append(
            f"the temperature stands at the end of its range ({figures['temperature']['value']:g}): these clips do not determine it"
        )
    if not figures["abstention"]["is_reached"]:
        wanted = figures["abstention"]["target_accuracy"]
        found.append(
            f"no threshold gives {wanted:.0%} right answers on these clips: the calibrated checkpoint abstains on every clip; give a lower --target-accuracy, or more clips"
        )
    return found
