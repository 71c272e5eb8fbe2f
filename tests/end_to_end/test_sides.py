"""Which clips are trained on, measured and calibrated on, and by which classes: the same for a list and a store of the same clips."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dferkit.datasets import read_release
from dferkit.datasets.protocol import ProtocolConfig
from dferkit.encoders.box import BOX_FOLDER
from dferkit.errors import CheckpointError, ConfigError, ManifestError
from dferkit.labels import BASIC
from dferkit.models.checkpoint import load_checkpoint
from dferkit.preparation import PrepareConfig, Work, prepare_faces
from dferkit.recipes.adapt import adapt
from dferkit.recipes.bench import BenchRun, run_bench
from dferkit.recipes.calibrate import calibrate
from dferkit.recipes.data import ListedClips, StoreClips, for_labels
from dferkit.recipes.evaluate import EvaluationRun, evaluate
from dferkit.recipes.folds import StoreRun, run_store
from dferkit.recipes.provenance import check_not_trained_on
from dferkit.recipes.train import train_list
from dferkit.schema import Fold, Release
from dferkit.tokens.features import TokenConfig
from dferkit.training.score import score
from dferkit.training.spec import TrainingSpec

TURNED = tuple(reversed(BASIC))
POOLED = TrainingSpec(model="mean_pooled")
BOX = load_checkpoint(BOX_FOLDER / "grace")
START = TrainingSpec(model=BOX.name, start=BOX, settings=("training.epochs=0",))


def quiet(*_: object) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Sets:
    """Forty-two rendered clips: the list with a split and without one, and stores of them."""

    table: pd.DataFrame
    marked: Path
    whole: Path
    stores: Path
    cache: Path

    def listed(self, name: str) -> ListedClips:
        return ListedClips.open(getattr(self, name), cache=self.cache, workers=1)

    def store(self, name: str, *, fold: str = "") -> StoreClips:
        return StoreClips.open(self.stores / name, fold=fold, workers=1)

    def ids(self, side: str) -> set[str]:
        return set(self.table.loc[self.table["split"] == side, "video"])


@pytest.fixture(scope="module")
def sets(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Sets:
    root = tmp_path_factory.mktemp("sides")
    table = pd.read_csv(clips / "clips.csv", dtype=str).iloc[:42][["video", "label", "subject"]]
    people = sorted(table["subject"].unique())
    of_person = {person: ("train", "train", "val", "test")[i % 4] for i, person in enumerate(people)}
    table["split"] = table["subject"].map(of_person)
    marked, whole = clips / "marked.csv", clips / "whole.csv"
    table.to_csv(marked, index=False)
    table.drop(columns="split").to_csv(whole, index=False)
    plain = read_release("folder", whole)
    ids = [record.clip_id for record in plain.records]
    folds = tuple(
        Fold(name=str(k), train=tuple(i for n, i in enumerate(ids) if n % 2 != k - 1), test=tuple(ids[k - 1 :: 2]))
        for k in (1, 2)
    )
    releases = {
        "whole": plain,
        "marked": read_release("folder", marked),
        "turned": replace(plain, labels=TURNED, annotation_digest="1" * 64),
        "official": replace(plain, labels=TURNED, folds=folds, annotation_digest="2" * 64),
    }
    for name, release in releases.items():
        _prepare(release, clips, root, name)
    return Sets(table, marked, whole, root, root / "cache")


def _prepare(release: Release, clips: Path, root: Path, name: str) -> None:
    if name != "whole":  # the same faces, which are not cut again
        shutil.copytree(root / "whole", root / name)
    config = PrepareConfig(face="haar", landmarker="none")
    prepare_faces(release, clips, root / name, config, work=Work(workers=1))


def test_a_store_with_its_classes_in_another_order_is_calibrated_by_name(sets: Sets, tmp_path: Path) -> None:
    whole = sets.store("whole")
    data = whole.read(whole.records, TokenConfig(), part="all", report=quiet)
    of_clip = score(BOX, data).of_clips()
    rows = sets.table.set_index("video")["label"]
    likelihoods = [np.log(of_clip[clip_id][BASIC.index(label)]) for clip_id, label in rows.items()]
    _, figures = calibrate(sets.store("turned"), BOX, tmp_path, report=quiet)
    before = figures["scores"]["negative_log_likelihood"]["before"]["value"]
    assert before == pytest.approx(-np.mean(likelihoods), abs=1e-6)
    assert figures["clips"]["of_class"] == {label: int((rows == label).sum()) for label in BASIC}


def test_a_store_with_its_classes_in_another_order_is_scored_by_name(sets: Sets, tmp_path: Path) -> None:
    ids = [record.clip_id for record in sets.store("official").records]
    found = evaluate(sets.stores / "official", BOX, tmp_path, EvaluationRun(fold="1"), quiet)
    assert found is not None
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert set(table["clip_id"]) == set(ids[::2])
    true = sets.table.set_index("video").loc[table["clip_id"], "label"].to_numpy()
    assert (table["true_label"].to_numpy() == true).all()
    assert found.figures["war"] == pytest.approx((table["label"].to_numpy() == true).mean())


def test_classes_that_the_model_lacks_are_refused(sets: Sets) -> None:
    with pytest.raises(ConfigError, match="has clips of neutral, and the model has only"):
        for_labels(sets.store("whole"), BASIC[:6])
    with pytest.raises(ConfigError, match="has clips of neutral, and the model has only"):
        for_labels(sets.listed("whole"), BASIC[:6])
    turned = sets.store("turned")
    data = turned.read(turned.records[:3], TokenConfig(), part="some", report=quiet)
    with pytest.raises(CheckpointError, match="numbered by the classes"):
        score(BOX, data)


def test_a_list_and_its_store_have_the_same_sides(sets: Sets) -> None:
    for clips in (sets.listed("marked"), sets.store("marked")):
        for side in ("train", "val", "test"):
            assert {record.clip_id for record in getattr(clips.sides(), side)} == sets.ids(side)
    for clips in (sets.listed("whole"), sets.store("whole")):
        assert len(clips.sides().rest) == len(clips.sides().of("train")) == len(clips.sides().of("test")) == 42
    official = sets.store("official", fold="2").sides()
    assert (len(official.train), len(official.val), len(official.test)) == (21, 0, 21)
    held = sets.store("official", fold="2").sides(with_block=True)
    assert held.val
    assert {r.clip_id for r in (*held.train, *held.val)} == {r.clip_id for r in official.train}
    assert not {r.subject for r in held.train} & {r.subject for r in held.val}


def test_clips_marked_val_are_never_trained_on(sets: Sets, tmp_path: Path) -> None:
    num_train = len(sets.ids("train"))
    train_list(sets.listed("marked"), tmp_path / "list", POOLED, quiet)
    run_store(
        sets.stores / "marked",
        tmp_path / "store",
        StoreRun(spec=POOLED, protocol=ProtocolConfig(select="last")),
        report=quiet,
    )
    folders = [tmp_path / name / "checkpoints" / "mean_pooled" for name in ("list", "store/fold-own")]
    a, b = (load_checkpoint(folder) for folder in folders)
    assert f"({num_train} clips)" in a.about["trained_on"]
    assert f"({num_train} clips)" in b.about["trained_on"]
    run_bench(sets.stores / "marked", tmp_path / "bench", BenchRun(models=("class_prior",)), report=quiet)
    prior = load_checkpoint(tmp_path / "bench" / "class_prior" / "seed-0" / "checkpoints" / "own").about["prior"]
    shares = sets.table[sets.table["split"] == "train"]["label"].value_counts(normalize=True)
    assert prior == pytest.approx({label: shares.get(label, 0.0) for label in BASIC}, abs=1e-5)
    for name in ("store", "bench"):
        for path in (tmp_path / name).rglob("predictions.csv"):
            assert set(pd.read_csv(path)["front_end"]) == {"pixels"}
    # The val rows may be calibrated on, the train rows may not.
    clips = sets.store("marked")
    for checkpoint in (b, load_checkpoint(tmp_path / "bench" / "class_prior" / "seed-0" / "checkpoints" / "own")):
        check_not_trained_on(checkpoint, clips, sets.ids("val") | sets.ids("test"))
        with pytest.raises(ConfigError, match=f"was trained on {num_train} of these {num_train + 1} clips"):
            check_not_trained_on(checkpoint, clips, sets.ids("train") | {min(sets.ids("val"))})


def test_an_adaptation_to_a_store_keeps_its_test_clips_apart(sets: Sets, tmp_path: Path) -> None:
    folder, figures = adapt(sets.store("marked"), tmp_path / "marked", START, quiet)
    assert figures["train_clips"] == len(sets.ids("train"))
    assert [figures[side]["start"]["num_clips"] for side in ("val", "test")] == [
        len(sets.ids("val")),
        len(sets.ids("test")),
    ]
    table = pd.read_csv(tmp_path / "marked" / "predictions.csv")
    assert set(table["clip_id"]) == sets.ids("train")
    assert set(table["front_end"]) == {"pixels"}
    adapted = load_checkpoint(folder)
    found = evaluate(sets.stores / "marked", adapted, tmp_path / "scores", EvaluationRun(), quiet)
    assert found is not None
    assert found.figures["num_clips"] == len(sets.ids("test"))
    assert found.figures["uar"] == pytest.approx(figures["test"]["adapted"]["uar"])
    with pytest.raises(ConfigError, match="was trained on"):
        check_not_trained_on(adapted, sets.store("marked"), sets.ids("train"))


def test_an_adaptation_to_an_official_set_is_to_one_fold(sets: Sets, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has the folds 1, 2; give one of them with --fold"):
        adapt(sets.store("official"), tmp_path, START, quiet)
    with pytest.raises(ConfigError, match="no fold '3'"):
        sets.store("official", fold="3")
    folder, figures = adapt(sets.store("official", fold="2"), tmp_path, START, quiet)
    ids = [record.clip_id for record in sets.store("official").records]
    assert set(pd.read_csv(tmp_path / "predictions.csv")["clip_id"]) == set(ids[::2])
    of_class = sets.table.set_index("video").loc[ids[::2], "label"].value_counts()
    assert {name: n for name, n in figures["classes"].items() if n} == dict(of_class)
    assert figures["test"]["start"]["num_clips"] == 21
    found = evaluate(sets.stores / "official", load_checkpoint(folder), tmp_path / "own", EvaluationRun(), quiet)
    assert found is not None
    assert set(pd.read_csv(tmp_path / "own" / "predictions.csv")["clip_id"]) == set(ids[1::2])
    with pytest.raises(ConfigError, match="choose --fold 2"):
        evaluate(sets.stores / "official", load_checkpoint(folder), tmp_path / "1", EvaluationRun(fold="1"), quiet)


def test_a_model_is_not_scored_on_the_list_that_it_was_trained_on(sets: Sets, tmp_path: Path) -> None:
    folder, _ = train_list(sets.listed("whole"), tmp_path, POOLED, quiet)
    with pytest.raises(ConfigError, match=r"was trained on 42 of these 42 clips of whole\.csv"):
        evaluate(sets.whole, load_checkpoint(folder), tmp_path / "scores", EvaluationRun(), quiet)
    assert not (tmp_path / "scores").exists()


def test_a_folder_holds_one_training(sets: Sets, tmp_path: Path) -> None:
    folder, _ = train_list(sets.listed("whole"), tmp_path, POOLED, quiet)
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="holds another run"):
        train_list(sets.listed("marked"), tmp_path, POOLED, quiet)
    with pytest.raises(ConfigError, match="holds another run"):
        adapt(sets.listed("whole"), tmp_path, START, quiet)
    train_list(sets.listed("whole"), tmp_path, POOLED, quiet)
    assert (folder / "model.safetensors").read_bytes() == before
    assert json.loads((tmp_path / "train.json").read_text())["train_clips"] == 42


def test_clips_are_kept_by_their_names_and_an_encoder_may_have_a_long_path(
    sets: Sets, clip_folder: Path, tmp_path: Path
) -> None:
    clips = replace(sets.listed("whole"), cache=tmp_path / "cache")
    long = shutil.copytree(clip_folder, tmp_path / ("a" * 190) / ("b" * 190))
    config = TokenConfig(encoder=f"clip:{long}")
    for rows in (clips.records[:2], clips.records[2:4]):
        data = clips.read(rows, config, part="some", report=quiet)
        assert data.clip_ids == tuple(record.clip_id for record in rows)
        assert np.isfinite(data.visual_in_memory().numpy()).all()


@pytest.mark.parametrize("name", ["a3lign", "mean_pooled", "class_prior"])
def test_votes_are_refused_where_they_have_no_effect(name: str) -> None:
    spec = TrainingSpec(model=name, encoder="clip:any" if name == "a3lign" else "box", use_votes=True)
    with pytest.raises(ConfigError, match="leave out --votes"):
        spec.plan()
    with pytest.raises(ConfigError, match="leave out --votes"):
        TrainingSpec(model=BOX.name, start=BOX, use_votes=True).plan()
    assert TrainingSpec(model="grace", use_votes=True).plan()


def test_one_person_in_two_splits_is_refused_of_a_store_too(sets: Sets) -> None:
    store = sets.store("marked")
    one = tuple(replace(record, subject="p") for record in store.records)
    with pytest.raises(ManifestError, match="more than one split"):
        replace(store, records=one).sides()
