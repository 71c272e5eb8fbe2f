"""Cross-dataset transfer: train on one data set, test on others, on the classes that both have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dferkit.datasets.protocol import NOT_RECORDED, RULE_TEXT
from dferkit.errors import ConfigError, DataError
from dferkit.labels import BASIC, shared_labels
from dferkit.models.checkpoint import Checkpoint, load_checkpoint
from dferkit.models.installed import check_fits
from dferkit.recipes.data import DataOptions, LabelledClips, ListedClips, StoreClips, for_labels, open_clips
from dferkit.recipes.folds import StoreRun, sampling_facts, token_config, train_whole
from dferkit.recipes.provenance import claim_run
from dferkit.recipes.scores import provenance_of, scored_clips, write_scores
from dferkit.recipes.train import train_list
from dferkit.reports.results_table import write_results
from dferkit.schema import ReportProgress
from dferkit.training.score import score


def transfer(
    tests: Sequence[Path | str],
    out: Path | str,
    run: StoreRun,
    *,
    train: Path | str | None = None,
    checkpoint: Checkpoint | None = None,
    options: DataOptions | None = None,
    report: ReportProgress,
) -> dict[str, dict[str, Any]]:
    """Test a model on data sets it was not trained on.

    The model keeps the classes of its own data set. On a test set, clips of a class that the model does not have are left out and counted, and the
    probabilities are those given that the answer is a shared class. Classes are matched by name; nothing is merged.

    Args:
        tests: Stores and lists (``clips.csv``) to test on: the test clips of their folds, or all clips where they have none.
        train: Store to train on, all its clips (less a validation block, by the rule of ``run``); or a list, its rows marked train. checkpoint: A trained model instead.
        options: Of lists: classes other than the seven, and the face detector.

    Returns:
        Figures by name of the test store.

    Raises:
        ConfigError: Both or neither of ``train`` and ``checkpoint``; too few shared classes; a test set that is the training set.
    """
    out = Path(out)
    if (train is None) == (checkpoint is None):
        raise ConfigError(
            "give a store or clips.csv to train on (--train) or a trained checkpoint (--checkpoint), one of the two"
        )
    if run.protocol.select == "test-leaky":
        raise ConfigError("the test set of a transfer is another data set: choose --select val or last")
    options = options or DataOptions()
    source = None if train is None else _open(Path(train), out / "training" / "cache", options)
    model = checkpoint
    origin: LabelledClips | Checkpoint | None = source or model
    assert origin is not None
    classes = tuple(dict.fromkeys((*origin.labels, *BASIC, *(options.labels or ()))))
    stores = {
        name: _present(_open(path, out / name / "cache", replace(options, labels=classes)))
        for name, path in _names(tests).items()
    }
    if (run.protocol.times > 1 or run.protocol.with_flip) and any(isinstance(s, ListedClips) for s in stores.values()):
        raise ConfigError("views are for a store, and a clips.csv has none; leave --views and --flip out")
    for name, store in stores.items():  # all of them, before any work
        shared_labels(origin.labels, store.labels)
        _check_apart(origin.about, store, name)
    if model is None:
        assert source is not None
        if isinstance(source, StoreClips):
            model = train_whole(source, out / "training", run, report)
        else:
            model = load_checkpoint(train_list(source, out / "training", run.spec, report)[0])
    check_fits(model)
    claim_run(out, {"weights_sha256": model.digest})
    figures = {name: _test(model, name, store, out / name, run, report) for name, store in stores.items()}
    rule = f"{model.about.get('selection', NOT_RECORDED)} on {model.about.get('layout', 'its own data')}"
    rows: Mapping[str, Mapping[str, Any]] = {
        f"{model.about['name']} → {name}": {**f, "selection": rule} for name, f in figures.items()
    }
    write_results(out, rows)
    return figures


def _names(paths: Sequence[Path | str]) -> dict[str, Path]:
    if not paths:
        raise ConfigError("give at least one store to test on (--test)")
    folders = [path if path.is_dir() else path.parent for path in (Path(path).resolve() for path in paths)]
    found = {folder.name: Path(path) for folder, path in zip(folders, paths, strict=True)}
    if len(found) < len(paths):
        raise ConfigError("two test sets have the same folder name; rename one, since outputs are named after it")
    return found


def _open(path: Path, cache: Path, options: DataOptions) -> LabelledClips:
    """A store with its own classes and faces, or a list with those of the options."""
    return open_clips(path, cache, DataOptions(workers=options.workers) if path.is_dir() else options)


def _present(clips: LabelledClips) -> LabelledClips:
    """A list has the classes of its rows."""
    if isinstance(clips, StoreClips):
        return clips
    found = {record.label for record in clips.records}
    return replace(clips, labels=tuple(label for label in clips.labels if label in found))


def _check_apart(about: Mapping[str, Any], target: LabelledClips, name: str) -> None:
    """Refuse the data set of the training, also another set of labels of the same clips. A user's own folders are compared by their annotations."""
    is_same_family = str(about.get("layout", "")).split("-")[0] == target.name.split("-")[0] != "folder"
    keys = [key for key in ("annotation_digest", "data_digest") if key in target.about]
    if is_same_family or any(about.get(key) == target.about[key] for key in keys):
        raise ConfigError(
            f"{name}/ holds clips of the data set that the model is trained on ({about.get('layout', target.name)}); use dferkit train with its folds instead"
        )


def _test(
    model: Checkpoint, name: str, store: LabelledClips, out: Path, run: StoreRun, report: ReportProgress
) -> dict[str, Any]:
    encoder = str(model.about["encoder"])
    config = token_config(run.protocol, encoder=encoder, motion=model.model.motion_source, device=run.spec.device)
    shared = shared_labels(model.labels, store.labels)
    tested = [c for fold in store.folds for c in fold.test] or [r.clip_id for r in store.records]
    by_id = {record.clip_id: record for record in store.records}
    kept = [by_id[clip_id] for clip_id in dict.fromkeys(tested) if by_id[clip_id].label in shared]
    if not kept:
        raise DataError(f"no test clip of {name}/ has a class that the model has ({', '.join(shared)})")
    data = for_labels(store, model.labels, kept).read(kept, config, part=name, all_views=True, report=report)
    answered = score(model, data, device=run.spec.device).of_clips()
    scored = scored_clips(kept, answered, model.labels, among=store.records).restrict(shared)
    selection = model.about.get("selection")
    about = {
        "transfer": {
            "trained_on": model.about["trained_on"],
            "tested_on": f"{store.name} ({name})",
            "shared_classes": list(shared),
            "left_out_clips": len(set(tested)) - len(kept),
            "left_out_classes": [label for label in store.labels if label not in shared],
            "selection_rule": f"{RULE_TEXT[selection]} (of {model.about.get('layout', 'its own data')})"
            if selection
            else NOT_RECORDED,
        },
        "protocol": sampling_facts(run.protocol, data.num_views()),
    }
    figures = write_scores(out, scored, provenance_of(model), statuses=data.statuses, about=about)
    return {**figures, **about}
