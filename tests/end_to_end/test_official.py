"""Every official layout from its release to its score: check, prepare, encode, train, evaluate, recompute."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dferkit.datasets import DATA_SETS
from dferkit.labels import BASIC
from dferkit.mini_release import MiniConfig, plant_fault, write_mini_release
from dferkit.preparation import FaceStore
from dferkit.tokens.stored import TokenConfig, encode_store, open_tokens

Run = Callable[..., "subprocess.CompletedProcess[str]"]
ROOT = Path(__file__).parents[2]
FAST = [layout for layout in DATA_SETS if layout != "mafw-compound"]
SCRIPT = ROOT / "scripts" / "recompute"


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, run: Run) -> Path:
    """A folder with releases and stores of DFEW and RAVDESS."""
    base = tmp_path_factory.mktemp("official")
    for layout in ("dfew", "ravdess"):
        write_mini_release(
            MiniConfig(layout=layout, clips_per_class=1, num_frames=14, size=64), base / f"{layout}-release", workers=2
        )
        done = run("prepare", layout, base / f"{layout}-release", "--out", base / layout, "--frames", 40)
        assert done.returncode == 0, done.stderr
    return base


def flow(run: Run, layout: str, base: Path, *, workers: int = 1) -> dict[str, object]:
    """The commands that a user gives, one after the other. Processes cost more than they bring to so few clips."""
    spread = ["--workers", workers]
    release = base / "release"
    write_mini_release(
        MiniConfig(layout=layout, clips_per_class=1, num_frames=12, size=64, with_videos=False),
        release,
        workers=workers,
    )
    checked = run("data", "check", layout, release, "--json", *spread)
    assert checked.returncode == 0, checked.stdout
    about = json.loads(checked.stdout)
    prepared = run("prepare", layout, release, "--out", base / "store", *spread)
    assert prepared.returncode == 0, prepared.stderr
    shutil.rmtree(release)  # nothing later needs the release
    fold = about["folds"][0]["name"]
    trained = run(
        "train", "grace", "--data", base / "store", "--fold", fold, "--out", base / "run", "--set", "training.epochs=2"
    )
    assert trained.returncode == 0, trained.stderr
    assert "selection val" in trained.stderr
    scored = run(
        "evaluate", "--data", base / "store", "--fold", fold, "--checkpoint", base / "run" / f"fold-{fold}" / "checkpoints" / "grace", "--out", base / "scores",
        *spread,
    )  # fmt: skip
    assert scored.returncode == 0, scored.stderr
    done = base / "run" / f"fold-{fold}"
    figures = json.loads((done / "metrics.json").read_text())
    assert (base / "run" / "metrics.json").exists() == (len(about["folds"]) == 1)
    assert (done / "results.md").exists()
    again = json.loads((base / "scores" / "metrics.json").read_text())
    assert figures["uar"] == again["uar"]
    assert figures["num_clips"] == about["folds"][0]["test"]
    for folder in (done, base / "scores"):
        done = subprocess.run([sys.executable, str(SCRIPT), str(folder)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    return figures


@pytest.mark.parametrize("layout", FAST)
def test_from_release_to_score(run: Run, run_here: Run, tmp_path: Path, layout: str) -> None:
    figures = flow(run, layout, tmp_path, workers=2) if layout == "dfew" else flow(run_here, layout, tmp_path)
    assert figures["selection"] == "val"
    if layout == "ferv39k":
        assert set(figures["groups"]["scene"]["values"]) == {"Action", "Argue"}  # type: ignore[index]
    if layout in ("ravdess", "enterface", "crema-d", "folder"):
        assert figures["bootstrap"]["draws"] == "subjects"  # type: ignore[index]


@pytest.mark.slow
def test_compound_from_release_to_score(run_here: Run, tmp_path: Path) -> None:
    assert len(flow(run_here, "mafw-compound", tmp_path)["labels"]) == 43  # type: ignore[arg-type]


def test_all_folds_and_the_leaky_rule_is_marked(run: Run, stores: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = run("train", "grace_dfew", "--data", stores / "dfew", "--out", out, "--select", "test-leaky", "--views", 2, "--flip", "--set", "training.epochs=2")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "over 5 folds" in done.stdout
    assert "ON THE TEST FOLD" in done.stderr
    for name in ("results.md", "results.tex", "results.csv"):
        assert "too good by an unknown amount" in (out / name).read_text()
    figures = json.loads((out / "metrics.json").read_text())
    assert figures["selection"] == "test-leaky"
    protocol = figures["model"]["protocol"]
    # 14 frames or 11: no second view in time, but a mirrored one.
    assert protocol["views_asked"] == 4
    assert protocol["test_clips_by_different_views"] == {"2": 35}
    assert all(side["train"] == {"listed": 28, "used": 28} for side in protocol["clips"].values())
    rows = pd.read_csv(out / "predictions.csv", dtype={"clip_id": str})
    assert rows["trained_on"].str.contains("EPOCH CHOSEN ON THE TEST CLIPS").all()
    assert sorted(rows["clip_id"]) == [f"{n:05d}" for n in range(1, 36)]
    assert rows.groupby("fold").size().tolist() == [7] * 5
    # The chosen epoch's score on the test fold is the best of all epochs: that is the leak.
    for fold in range(1, 6):
        looked = json.loads((out / f"fold-{fold}" / "selection.json").read_text())
        assert looked["epoch"] == 1 + int(np.argmax(looked["uar_by_epoch"]))


def test_transfer_between_label_sets(run_here: Run, stores: Path, tmp_path: Path) -> None:
    out = tmp_path / "transfer"
    done = run_here("transfer", "--train", stores / "dfew", "--test", stores / "ravdess", "--out", out, "--set", "training.epochs=2")  # fmt: skip
    assert done.returncode == 0, done.stderr
    about = json.loads((out / "ravdess" / "metrics.json").read_text())["model"]["transfer"]
    # RAVDESS has calm, DFEW has not: 6 of 48 clips are left out.
    assert about["left_out_classes"] == ["calm"]
    assert about["left_out_clips"] == 6
    assert len(about["shared_classes"]) == 7
    rows = pd.read_csv(out / "ravdess" / "predictions.csv")
    assert len(rows) == 42
    np.testing.assert_allclose(rows[about["shared_classes"]].sum(axis=1), 1, rtol=1e-12)
    checkpoint = out / "training" / "checkpoints" / "grace"
    again = run_here("transfer", "--checkpoint", checkpoint, "--test", stores / "ravdess", "--out", tmp_path / "again")
    assert again.returncode == 0, again.stderr
    written = [(folder / "ravdess" / "predictions.csv").read_bytes() for folder in (out, tmp_path / "again")]
    assert written[0] == written[1]
    for source in (["--train", stores / "dfew"], ["--checkpoint", checkpoint]):
        same = run_here("transfer", *source, "--test", stores / "dfew", "--out", tmp_path / "same")
        assert same.returncode == 2
        assert "clips of the data set that the model is trained on" in same.stderr
    # Trained on every clip: there is no fold of the same set to test it on.
    for fold in (["--fold", "1"], []):
        seen = run_here(
            "evaluate", "--data", stores / "dfew", "--checkpoint", checkpoint, *fold, "--out", tmp_path / "seen"
        )
        assert seen.returncode == 2
        assert "was trained on" in seen.stderr


def test_folds_one_by_one_and_then_all(run: Run, run_here: Run, stores: Path, tmp_path: Path) -> None:
    """Folds may be run apart into one folder; a checkpoint is tested on its own fold; other runs are kept out."""
    out, settings = tmp_path / "run", ["--set", "training.epochs=2"]
    for fold in ("2", "1"):
        assert (
            run_here("train", "grace", "--data", stores / "dfew", "--fold", fold, "--out", out, *settings).returncode
            == 0
        )
    assert not (out / "metrics.json").exists()
    checkpoint = out / "fold-1" / "checkpoints" / "grace"
    before = (checkpoint / "model.safetensors").read_bytes()
    # Another tool that knows the truth of half of the clips, and one of none: the rest counts as wrong.
    table = pd.read_csv(out / "fold-1" / "predictions.csv", dtype={"clip_id": str})
    known = table.iloc[::2]
    right = pd.get_dummies(known["true_label"]).reindex(columns=list(BASIC), fill_value=False).astype(float)
    right.assign(video=known["clip_id"]).to_csv(tmp_path / "half.csv", index=False)
    own = run_here(
        "evaluate", "--data", stores / "dfew", "--checkpoint", checkpoint, "--out", tmp_path / "own", "--baseline", f"half={tmp_path / 'half.csv'}"
    )  # fmt: skip
    assert own.returncode == 0, own.stderr
    beside = json.loads((tmp_path / "own" / "metrics.json").read_text())["baselines"]["half"]
    assert beside["war"] == pytest.approx(len(known) / len(table))
    assert len(pd.read_csv(tmp_path / "own" / "baselines" / "half" / "predictions.csv")) == len(table)
    scored = [json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path / "own", out / "fold-1")]
    assert list(scored[0]["model"]["protocol"]["clips"]) == ["1"]
    assert scored[0]["uar"] == scored[1]["uar"]
    for fold in ("all",):
        seen = run(
            "evaluate", "--data", stores / "dfew", "--checkpoint", checkpoint, "--fold", fold, "--out", tmp_path / "x"
        )
        assert seen.returncode == 2
        assert "the checkpoint was trained on" in seen.stderr
        assert "choose --fold 1" in seen.stderr
    for other in (["--select", "last", "--set", "model.width=4"],):
        mixed = run("train", "grace", "--data", stores / "dfew", "--out", out, *settings, *other)
        assert mixed.returncode == 2
        assert "holds another run" in mixed.stderr
    # All folds, side by side in processes: the finished ones keep their bytes.
    assert run("train", "grace", "--data", stores / "dfew", "--out", out, *settings).returncode == 0
    assert (checkpoint / "model.safetensors").read_bytes() == before
    assert json.loads((out / "metrics.json").read_text())["folds"]["num_folds"] == 5


def is_running(group: int) -> bool:
    """Any process of the group."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_interruption_ends_the_folds_at_once(stores: Path, tmp_path: Path) -> None:
    """SIGINT to the whole group, as a terminal sends it: no fold is finished first, nothing is left running, and the command says how to go on."""
    command = [sys.executable, "-m", "dferkit.cli.main", "train", "grace", "--data", str(stores / "dfew"), "--out", str(tmp_path / "run"), "--set", "training.epochs=5000", "--workers", "2"]  # fmt: skip
    # A shell's background job is deaf to SIGINT, and so would be what it starts.
    deaf = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    signal.signal(signal.SIGINT, deaf)
    try:
        deadline = time.monotonic() + 240
        while not list((tmp_path / "run").glob("fold-*/state/grace/state.json")):
            assert process.poll() is None
            assert time.monotonic() < deadline, "no epoch was finished"
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=180)  # five thousand epochs would take many more minutes
        assert process.returncode == 130
        assert "run the same command again to resume" in told
        deadline = time.monotonic() + 10
        while (is_left := is_running(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not is_left, "workers outlived their command"
    finally:
        if is_running(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_two_processes_score_once(stores: Path, run: Run, tmp_path: Path) -> None:
    """torchrun with two processes, seven test clips: an odd number, so that one is padded."""
    trained = run("train", "grace", "--data", stores / "dfew", "--fold", "1", "--out", tmp_path / "run", "--set", "training.epochs=1")  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    checkpoint = tmp_path / "run" / "fold-1" / "checkpoints" / "grace"
    arguments = [
        "evaluate",
        "--data",
        str(stores / "dfew"),
        "--fold",
        "1",
        "--checkpoint",
        str(checkpoint),
        "--workers",
        "1",
    ]
    alone = run(*arguments, "--out", tmp_path / "one")
    assert alone.returncode == 0, alone.stderr
    shutil.rmtree(stores / "dfew" / "tokens")  # the processes share the encoding too
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "dferkit.cli.main"]  # fmt: skip
    both = subprocess.run(
        [*command, *arguments, "--out", str(tmp_path / "two")], capture_output=True, text=True, timeout=300
    )
    assert both.returncode == 0, both.stderr
    assert both.stdout.count("UAR") == 1
    tables = [pd.read_csv(tmp_path / name / "predictions.csv", dtype={"clip_id": str}) for name in ("one", "two")]
    assert tables[0]["clip_id"].tolist() == tables[1]["clip_id"].tolist()
    assert len(tables[0]) == 7
    np.testing.assert_allclose(tables[0][["anger", "neutral"]], tables[1][["anger", "neutral"]], atol=1e-5)


def test_clips_without_media_count_as_failed_and_are_told(run_here: Run, stores: Path, tmp_path: Path) -> None:
    """A missing clip is an answer of none, never another clip's frames."""
    release = Path(shutil.copytree(stores / "dfew-release", tmp_path / "release"))
    plant_fault("dfew-missing-clip", release)
    assert run_here("data", "check", "dfew", release).returncode == 1
    prepared = run_here("prepare", "dfew", release, "--out", tmp_path / "store")
    assert prepared.returncode == 1
    assert "1 unreadable" in prepared.stdout
    done = run_here("train", "grace", "--data", tmp_path / "store", "--fold", "1", "--out", tmp_path / "run", "--set", "training.epochs=1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "run" / "fold-1" / "metrics.json").read_text())
    assert figures["num_failed"] == 1
    assert figures["num_clips"] == 7
    row = (
        pd.read_csv(tmp_path / "run" / "fold-1" / "predictions.csv", dtype={"clip_id": str})
        .set_index("clip_id")
        .loc["00001"]
    )
    assert row["status"] == "unreadable"
    assert pd.isna(row["label"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "grace_mafw", "--data", "STORE"], "the recipe is for mafw-single, but dfew/ holds dfew"),
        (["train", "grace", "--data", "STORE", "--fold", "9"], "no fold '9'; there are 1, 2, 3, 4, 5, or all"),
        (["train", "grace", "--data", "STORE", "--select", "best"], "unknown selection rule 'best'"),
        (["train", "grace", "--data", "STORE", "--votes", "--fold", "1"], "run dferkit prepare with --votes"),
        (["train", "grase_dfew", "--data", "STORE"], "did you mean"),
        (["evaluate", "--data", "STORE/faces"], "is no store of dferkit prepare"),
        (["transfer", "--test", "STORE", "--out", "x"], "give a store or clips.csv to train on"),
        (
            [
                "transfer",
                "--checkpoint",
                "box",
                "--test",
                "STORE",
                "--out",
                "x",
                "--seed",
                "3",
                "--set",
                "training.epochs=2",
            ],
            "--checkpoint is trained already; leave out --seed, --set",
        ),
        (
            ["transfer", "--train", "clips.csv", "--select", "val", "--test", "STORE", "--out", "x"],
            "--select val is for a store",
        ),
        (
            ["train", "videomae_focal", "--data", "STORE", "--front-end", "pixels"],
            "videomae_focal reads videomae, not the front end",
        ),
        (["train", "grace", "--data", "STORE", "--encoder", "clp:x"], "unknown encoder 'clp'; did you mean 'clip'?"),
        (["train", "grace", "--data", "STORE", "--labels", "a,b"], "--labels is for clips.csv"),
        (
            ["train", "--from", "box", "--data", "clips.csv", "--labels", "a,b"],
            "leave out the recipe, --encoder, --text-encoder and --labels",
        ),
        (["encode", "STORE", "--encoder", "nowhere"], "no VideoMAE model"),
        (["train", "grace_dfew", "--data", "clips.csv"], "needs a store"),
        (
            ["train", "grace_dfew", "--data", "STORE", "--out", "run", "--set", "training.epoch=2"],
            "did you mean 'epochs'",
        ),
        (["prepare", "dfew", "STORE-release", "--out", "STORE/store.json"], "is a file where a folder is needed"),
        (["encode", "STORE/store.json"], "is a file; a store is a folder"),
        (["train", "grace", "--data", "clips.csv", "--fold", "1", "--flip"], "--fold and --flip are for a store"),
        (["train", "grace", "--data", "STORE", "--face", "haar"], "--face is for clips.csv"),
        (["train", "--from", "box", "--data", "STORE", "--select", "val", "--flip"], "leave out --select, --flip"),
        (["train", "--from", "box", "--data", "STORE", "--votes"], "leave out --votes"),
        (["train", "--from", "box", "--data", "STORE"], "has the folds 1, 2, 3, 4, 5; give one of them with --fold"),
        (["calibrate", "--data", "STORE"], "has the folds 1, 2, 3, 4, 5; give one of them with --fold"),
        (["calibrate", "--data", "clips.csv", "--fold", "1"], "--fold is for a store"),
    ],
)
def test_wrong_use_is_one_sentence(
    run_here: Run, stores: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    done = run_here(*[a.replace("STORE", str(stores / "dfew")) for a in arguments], cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "run" / "run.json").exists()  # a refused command claims no folder


def test_tokens_are_those_of_the_faces_and_kept(stores: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(stores / "dfew", tmp_path / "dfew"))
    shutil.rmtree(store / "tokens", ignore_errors=True)
    config = TokenConfig(times=2, with_flip=True)
    folder, missing = encode_store(store, config, workers=1)
    assert missing == []
    faces = FaceStore.open(store)
    tokens = open_tokens(faces, config)
    # A second implementation: one clip at a time through the encoder, flipped by hand.
    from dferkit.encoders.box import BoxEncoder

    clip_id = faces.release.records[3].clip_id
    rows = tokens.of_clips([clip_id], all_views=True)
    assert rows.view.tolist() == [0, 1]
    clip = faces.read(clip_id, ((np.arange(16) + 0.5) * faces.num_frames(clip_id) / 16).astype(int))
    expected = BoxEncoder().read([clip])[0]
    np.testing.assert_allclose(rows.visual[0].float(), expected.tokens.values, atol=2e-2)  # fmt: skip
    np.testing.assert_allclose(rows.units[0], expected.action_units.intensity, atol=1e-5)
    lazy = open_tokens(faces, config, in_memory_bytes=0)
    assert np.array_equal(lazy.visual[:], tokens.visual)  # type: ignore[arg-type]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    times = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
    encode_store(store, config, workers=1)
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")} == times
    shard = next(folder.glob("*.safetensors"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    encode_store(store, config, workers=1)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_votes_reach_the_training(run_here: Run, tmp_path: Path) -> None:
    release = write_mini_release(
        MiniConfig(layout="dfew", clips_per_class=1, num_frames=12, size=64, with_videos=False, with_votes=True), tmp_path / "release", workers=2
    )  # fmt: skip
    assert run_here("data", "check", "dfew", release, "--votes").returncode == 0
    assert run_here("prepare", "dfew", release, "--out", tmp_path / "store", "--votes").returncode == 0
    votes = FaceStore.open(tmp_path / "store").release.records[0].votes
    assert votes is not None
    assert sum(votes) == pytest.approx(1)
    done = run_here("train", "grace_dfew", "--data", tmp_path / "store", "--votes", "--fold", "2", "--out", tmp_path / "run", "--set", "training.epochs=1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "fold-2" / "metrics.json").read_text())["model"]["soft_labels"] is True
