"""Cross-dataset transfer: train on one data set, test on others, on the classes that both name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dferkit.datasets.protocol import NOT_RECORDED, RULE_TEXT, ProtocolConfig
from dferkit.encoders.box import BOX_FOLDER
from dferkit.encoders.text import TextEncoder
from dferkit.errors import ConfigError, DataError
from dferkit.evaluation.scored import ScoredClips
from dferkit.labels import shared_labels
from dferkit.models.checkpoint import Checkpoint, load_checkpoint
from dferkit.preparation import FaceStore
from dferkit.recipes.fold_run import Report, answer_clips, sampling_facts
from dferkit.recipes.official import OfficialRun, train_whole
from dferkit.recipes.provenance import claim_run
from dferkit.recipes.scoring import provenance_of, write_scores
from dferkit.reports.results_table import write_results
from dferkit.schema import Release
from dferkit.tokens.stored import TokenConfig, encode_store, open_tokens


def transfer(
    tests: Sequence[Path | str],
    out: Path | str,
    *,
    train: Path | str | None = None,
    checkpoint: Path | str | None = None,
    run: OfficialRun | None = None,
    settings: Sequence[str] = (),
    workers: int | None = None,
    tell: Report | None = None,
) -> dict[str, dict[str, Any]]:
    """Test a model on data sets it was not trained on.

    The model keeps the classes of its own data set. On a test set, clips of a class that the model does not know are left out and counted, and the
    probabilities are those given that the answer is a shared class. Classes are matched by name; nothing is merged.

    Args:
        tests: Stores to test on: the test clips of their folds, or all clips where they have none.
        train: Store to train on, all its clips (less a validation block, by the rule of ``run``). checkpoint: A trained model instead.

    Returns:
        Figures by name of the test store.

    Raises:
        ConfigError: Both or neither of ``train`` and ``checkpoint``; too few shared classes; a test set that is the training set.
    """
    out, report = Path(out), tell or (lambda stage, done, of, note: None)
    if (train is None) == (checkpoint is None):
        raise ConfigError("give a store to train on (--train) or a trained checkpoint (--checkpoint), one of the two")
    run = run or OfficialRun()
    if run.protocol.select == "test-leaky":
        raise ConfigError("the test set of a transfer is another data set: choose --select val or last")
    stores = {name: FaceStore.open(path) for name, path in _names(tests).items()}
    model = None if checkpoint is None else load_checkpoint(Path(checkpoint))
    source = FaceStore.open(train).release if train is not None else None
    labels = source.labels if source is not None else model.labels if model is not None else ()
    for name, store in stores.items():  # all of them, before any work
        shared_labels(labels, store.release.labels)
        about = source_of(source) if source is not None else model.about if model is not None else {}
        _check_apart(about, store.release, name)
    if model is None:
        model = train_whole(str(train), out / "training", run, settings=settings, workers=workers, tell=report)
    claim_run(out, {"weights_sha256": model.digest})
    figures: dict[str, dict[str, Any]] = {}
    for name, store in stores.items():
        figures[name] = _test(model, name, store, out / name, run.protocol, workers=workers, tell=report)
    rule = f"{model.about.get('selection', NOT_RECORDED)} on {model.about.get('layout', 'its own data')}"
    rows: Mapping[str, Mapping[str, Any]] = {
        f"{model.about['name']} → {name}": {**f, "selection": rule} for name, f in figures.items()
    }
    write_results(out, rows)
    return figures


def _names(paths: Sequence[Path | str]) -> dict[str, Path]:
    if not paths:
        raise ConfigError("give at least one store to test on (--test)")
    found = {Path(path).resolve().name: Path(path) for path in paths}
    if len(found) < len(paths):
        raise ConfigError("two test stores have the same folder name; rename one, since outputs are named after it")
    return found


def source_of(release: Release) -> dict[str, Any]:
    """What a checkpoint says of the data set it is trained on."""
    return {"layout": release.layout, "annotation_digest": release.annotation_digest}


def _check_apart(about: Mapping[str, Any], target: Release, name: str) -> None:
    """Refuse the data set of the training, also another set of labels of the same clips. A user's own folders are told apart by their annotations."""
    is_same_family = str(about.get("layout", "")).split("-")[0] == target.layout.split("-")[0] != "folder"
    if is_same_family or about.get("annotation_digest") == target.annotation_digest:
        raise ConfigError(
            f"{name}/ holds clips of the data set that the model is trained on ({about['layout']}); use dferkit train with its folds instead"
        )


def _test(
    model: Checkpoint,
    name: str,
    store: FaceStore,
    out: Path,
    protocol: ProtocolConfig,
    *,
    workers: int | None,
    tell: Report,
) -> dict[str, Any]:
    config = TokenConfig.for_protocol(protocol, encoder=str(model.about["encoder"]), motion=model.model.motion_source)
    encode_store(
        store.path, config, workers=workers, verify=False, on_progress=lambda a, b: tell(f"tokens of {name}", a, b, "")
    )
    shared = shared_labels(model.labels, store.release.labels)
    tested = [c for fold in store.release.folds for c in fold.test] or [r.clip_id for r in store.release.records]
    label_of = {record.clip_id: record.label for record in store.release.records}
    kept = [clip_id for clip_id in dict.fromkeys(tested) if label_of[clip_id] in shared]
    if not kept:
        raise DataError(f"no test clip of {name}/ has a class that the model knows ({', '.join(shared)})")
    tokens = open_tokens(store, config)
    [whole] = answer_clips(model, tokens, kept, store.release, fold="", text_encoder=TextEncoder(BOX_FOLDER / "text"))
    scored: ScoredClips = whole.restrict(shared)
    selection = model.about.get("selection")
    about = {
        "transfer": {
            "trained_on": model.about["trained_on"],
            "tested_on": f"{store.release.layout} ({name})",
            "shared_classes": list(shared),
            "left_out_clips": len(set(tested)) - len(kept),
            "left_out_classes": [label for label in store.release.labels if label not in shared],
            "selection_rule": f"{RULE_TEXT[selection]} (of {model.about['layout']})" if selection else NOT_RECORDED,
        },
        "protocol": sampling_facts(protocol, tokens.num_views(kept)),
    }
    figures = write_scores(out, scored, provenance_of(model), statuses=tokens.features.statuses, about=about)
    return {**figures, **about}
