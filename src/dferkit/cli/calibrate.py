"""``dferkit calibrate``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dferkit.cli.inputs import refuse_options
from dferkit.cli.options import (
    CheckpointOption,
    DataOption,
    DeviceOption,
    FaceOption,
    FrontEndOption,
    WorkersOption,
    open_checkpoint,
)
from dferkit.cli.progress import Stages, note
from dferkit.cli.scores import end_with

_NAMES = {
    "negative_log_likelihood": "negative log likelihood",
    "brier": "Brier score",
    "expected_calibration_error": "calibration error",
}


def calibrate(
    data: DataOption,
    checkpoint: CheckpointOption = "box",
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for checkpoint/, calibration.json and reliability.png.")
    ] = Path("runs/calibrate"),
    front_end: FrontEndOption = None,
    face: FaceOption = None,
    fold: Annotated[
        str | None, typer.Option("--fold", help="For stores only: the official fold whose validation clips are used.")
    ] = None,
    target_accuracy: Annotated[
        float, typer.Option("--target-accuracy", help="Share of right answers wanted among those that are given.")
    ] = 0.8,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the intervals.")] = 0,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
) -> None:
    """Fit the temperature and the abstention threshold of a checkpoint on your own labelled clips.

    Rows with split val are used, or all rows where there is no split; rows marked train or test never. Of an official fold, the validation
    block that dferkit train holds out is used. The weights do not change. The
    temperature corrects the confidence; below the threshold the model abstains. Both are tested on people that they were not fitted on.

    Exit code: 0 when every clip was read, 1 when some could not be read, 2 for wrong usage, 3 when too few clips are left.
    """
    refuse_options(data, of_store={"--fold": fold}, of_manifest={"--face": face})
    from dferkit.devices import choose_device
    from dferkit.recipes.calibrate import calibrate as run_calibration
    from dferkit.recipes.data import DataOptions, open_clips

    loaded = open_checkpoint(checkpoint, front_end, data)
    options = DataOptions(face=face, fold=fold or "", workers=workers)
    with Stages() as report:
        clips = open_clips(data, out / "cache", options, model_labels=loaded.labels)
        folder, figures = run_calibration(
            clips, loaded, out, target_accuracy=target_accuracy, seed=seed, device=choose_device(device), report=report
        )
    _say(figures)
    typer.echo(f"{figures['checkpoint']['calibration']}: {folder}")
    end_with(figures["clips"]["unused"], out / "calibration.json")


def _say(figures: Mapping[str, Any]) -> None:
    note(figures["clips"]["rule"])
    typer.echo(f"temperature {_interval(figures['temperature'])}")
    for key, name in _NAMES.items():
        of = figures["scores"][key]
        typer.echo(
            f"{name}: before {_interval(of['before'])}, after {_interval(of['after'])}, change {_interval(of['change'], '+.3f')}"
        )
    perfect = figures["error_if_calibrated"]["after"]
    typer.echo(
        f"  as few clips would show an error of {perfect['mean']:.3f} (up to {perfect['p95']:.3f}) if every confidence were true"
    )
    abstention = figures["abstention"]
    held = abstention["out_of_fold"]
    right = f"{_interval(held['accuracy'])} of them right" if held["num_answered"] else "none of them answered"
    if abstention["is_reached"]:
        typer.echo(
            f"abstains below {abstention['threshold']:.2f}; out of fold {_interval(held['coverage'])} of the clips get an answer, {right} (wanted {abstention['target_accuracy']:.2f})"
        )
    else:
        typer.echo(f"abstains on every clip: no threshold gives {abstention['target_accuracy']:.0%} right answers")
    typer.echo(figures["verdict"])
    for warning in figures["warnings"]:
        note(f"warning: {warning}")


def _interval(estimate: Mapping[str, Any], form: str = ".3f") -> str:
    low, high = estimate["ci95"]
    return f"{estimate['value']:{form}} ({low:{form}} to {high:{form}})"
