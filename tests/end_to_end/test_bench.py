"""``dferkit bench``: every model in one protocol and one table, on clips and on an official store."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pandas as pd
import pytest
import torch

from dferkit.encoders.box import BOX_FOLDER, BoxEncoder
from dferkit.encoders.clip_model import ClipEncoder
from dferkit.errors import ConfigError
from dferkit.labels import BASIC
from dferkit.mini_release import MiniConfig, write_mini_release
from dferkit.models.a3lign import A3lignReader
from dferkit.models.baselines import describe_class
from dferkit.models.checkpoint import load_checkpoint
from dferkit.models.registry import MODELS, find_model
from dferkit.preparation import FaceStore
from dferkit.recipes.bench import BenchRun, run_bench
from dferkit.recipes.data import DataOptions
from dferkit.schema import Record
from dferkit.synthetic import BenchmarkConfig, render_benchmark
from dferkit.tokens.dataset import TokenDataset
from dferkit.tokens.views import clip_views
from dferkit.training.fit import fit
from dferkit.training.score import predict_probabilities
from dferkit.training.spec import TrainingSpec

Run = Callable[..., CompletedProcess[str]]
SMALL = ("grace.training.epochs=1", "a3lign.training.epochs=[1,1,1]", "a3lign.model.num_sentences=2", "a3lign.model.num_tokens=3", "baseline.training.epochs=2")  # fmt: skip
QUICK = tuple(part for setting in SMALL for part in ("--set", setting))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    render_benchmark(BenchmarkConfig(clips=60, seed=11), folder, workers=1)
    return folder


def test_a_few_models_side_by_side(run_here: Run, clips: Path, clip_folder: Path, tmp_path: Path) -> None:
    names = ["class_prior", "mean_pooled", "vision_only", "clip_zero_shot_units", "clip_temporal", "a3lign"]
    out = tmp_path / "bench"
    asked = ("bench", "--data", clips / "clips.csv", "--models", ",".join(names), "--clip", clip_folder, "--out", out, *QUICK)  # fmt: skip
    done = run_here(*asked, "--workers", 1)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(out / "results.csv")
    assert table["run"].tolist() == names
    assert (table["uar_low"] <= table["uar"]).all()
    assert (table["uar"] <= table["uar_high"]).all()
    manifest = pd.read_csv(clips / "clips.csv")
    test = manifest[manifest["split"] == "test"]
    assert set(table["num_clips"]) == {len(test)}
    # One class for all clips: the recall of that class is 1, of every other 0.
    assert table["uar"][0] == pytest.approx(1 / test["label"].nunique())
    order = json.loads((out / "bench.json").read_text())["order"]
    for name in ("class_prior", "mean_pooled", "clip_zero_shot_units"):
        assert len(set(order[name].values())) == 1, "what takes means over time cannot see their order"
    assert "A³lign" not in done.stderr
    # The same command finds everything done, and a further model joins the table.
    before = {p: p.stat().st_mtime_ns for p in out.rglob("seed-0/metrics.json")}
    again = run_here(*asked[:4], "class_prior,a3lign,a3lign_no_jas", *asked[5:])
    assert again.returncode == 0, again.stderr
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    assert pd.read_csv(out / "results.csv")["run"].tolist() == [*names, "a3lign_no_jas"]
    # One that reads no CLIP joins without --clip.
    joined = run_here("bench", "--data", clips / "clips.csv", "--models", "text_only", "--out", out, *QUICK, "--workers", 1)  # fmt: skip
    assert joined.returncode == 0, joined.stderr
    assert set(pd.read_csv(out / "results.csv")["run"]) == {*names, "a3lign_no_jas", "text_only"}
    # What was trained is kept: it reads a video, and is explained by its learned sentences.
    kept, video = out / "a3lign" / "seed-0" / "checkpoints" / "test", clips / test["video"].iloc[0]
    told = run_here("predict", video, "--checkpoint", kept, "--face", "haar", "--out", tmp_path / "predicted")
    assert told.returncode == 0, told.stderr
    answers = pd.read_csv(out / "a3lign" / "seed-0" / "predictions.csv")
    mine, row = (
        pd.read_csv(tmp_path / "predicted" / "predictions.csv").iloc[0],
        answers[answers["input"].str.endswith(video.name)].iloc[0],
    )
    np.testing.assert_allclose(mine[list(BASIC)].astype(float), row[list(BASIC)].astype(float), atol=1e-4)
    why = run_here("explain", video, "--checkpoint", kept, "--face", "haar", "--out", tmp_path / "why")
    assert why.returncode == 0, why.stderr
    assert re.search(r"without (the|any one) learned sentence the probability of", why.stdout)
    met = pd.read_csv(tmp_path / "why" / "alignments.csv")
    answer = mine[list(BASIC)].astype(float).idxmax()
    assert set(met["word"]) == {f"{answer}-1", f"{answer}-2"}
    assert set(met["region"]) <= {"face", "rest"}
    np.testing.assert_allclose(met.groupby("word")["weight"].sum(), 1, atol=1e-6)
    assert (tmp_path / "why" / "over_time.png").stat().st_size > 5000
    scored = run_here("evaluate", "--data", clips / "clips.csv", "--checkpoint", kept, "--out", tmp_path / "scored")
    assert scored.returncode == 0, scored.stderr
    uars = [
        json.loads((folder / "metrics.json").read_text())["uar"] for folder in (tmp_path / "scored", kept.parents[1])
    ]
    assert uars[0] == pytest.approx(uars[1])
    counted = out / "class_prior" / "seed-0" / "checkpoints" / "test"
    refused = run_here("train", "--data", clips / "clips.csv", "--from", counted, "--out", tmp_path / "adapted")
    assert refused.returncode == 2
    assert "class_prior has no weights to adapt with --from" in refused.stderr
    # A fold that was answered is not learned again; one of other clips is.
    metrics = kept.parents[1] / "metrics.json"
    figures = metrics.read_bytes()
    (kept.parents[1] / "order.json").unlink()
    (kept / "model.json").unlink()
    assert run_here(*asked[:4], "a3lign", *asked[5:]).returncode == 0
    assert metrics.read_bytes() == figures
    assert not (kept / "model.json").exists()
    assert not list(out.rglob("state/test/step*")), "what a training goes on from is not needed any more"
    other = run_here(*asked[:-2], "--set", "baseline.training.epochs=3")
    assert other.returncode == 2
    assert "holds another run" in other.stderr


def test_several_seeds_have_a_mean_with_an_interval(run_here: Run, clips: Path, tmp_path: Path) -> None:
    done = run_here("bench", "--data", clips / "clips.csv", "--models", "class_prior,vision_only", "--seeds", 2, "--out", tmp_path, *QUICK, "--workers", 1)  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "results.csv").set_index("run")
    for name in ("class_prior", "vision_only"):
        of_seed, mean = table.loc[[f"{name}, seed 0", f"{name}, seed 1"]], table.loc[f"{name}, mean of 2 seeds"]
        assert mean["uar"] == pytest.approx(of_seed["uar"].mean())
        assert mean["uar_low"] <= mean["uar"] <= mean["uar_high"]
        assert mean["num_clips"] == of_seed["num_clips"].iloc[0]
        assert f"| {name}, mean of 2 seeds |" in done.stdout
        assert f"| {name}, mean of 2 seeds |" in (tmp_path / "order.md").read_text()
        kept = json.loads((tmp_path / "bench.json").read_text())["models"][name]["seeds"]
        assert kept["uar_sd"] == pytest.approx(of_seed["uar"].std())


def test_classes_of_the_user_and_the_direction_of_time(run_here: Run, clip_folder: Path, tmp_path: Path) -> None:
    """The order probe has classes of its own, which the table counts; what takes means over time gives both directions one answer."""
    made = run_here("synth", tmp_path / "order", "--clips", 40, "--probe", "order")
    assert made.returncode == 0, made.stderr
    asked = ("bench", "--data", tmp_path / "order" / "clips.csv", "--labels", "onset,offset", "--models", "a3lign_no_jas,clip_temporal", "--clip", clip_folder, *QUICK, "--workers", 1)  # fmt: skip
    done = run_here(*asked, "--out", tmp_path / "bench")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "bench" / "a3lign_no_jas" / "seed-0" / "metrics.json").read_text())
    assert metrics["uar"] == pytest.approx(0.5)
    assert (tmp_path / "bench" / "clip_temporal" / "seed-0" / "metrics.json").is_file()
    wrong = run_here(*asked, "--labels", "onset,peak", "--out", tmp_path / "other")
    assert wrong.returncode == 2
    assert "offset" in wrong.stderr


def test_views_of_stored_clips(run_here: Run, clip_folder: Path, tmp_path: Path) -> None:
    """An answer is the mean over a clip's different views, each computed here from the stored faces by itself."""
    config = MiniConfig(layout="ferv39k", clips_per_class=2, num_frames=24, size=64, with_videos=False)
    write_mini_release(config, tmp_path / "release", workers=1)
    store, out = tmp_path / "store", tmp_path / "bench"
    assert run_here("prepare", "ferv39k", tmp_path / "release", "--out", store).returncode == 0
    asked = ("bench", "--data", store, "--models", "class_prior,vision_only,a3lign", "--clip", clip_folder, "--out", out, *QUICK, "--workers", 1)  # fmt: skip
    done = run_here(*asked, "--views", 2, "--flip")
    assert done.returncode == 0, done.stderr
    faces, encoder = FaceStore.open(store), ClipEncoder(clip_folder)
    [fold] = faces.release.folds
    told = {name: json.loads((out / name / "seed-0" / "metrics.json").read_text()) for name in ("class_prior", "vision_only", "a3lign")}  # fmt: skip
    looks_of = {clip_id: clip_views(faces.num_frames(clip_id), 16, times=2, with_flip=True) for clip_id in fold.test}
    short = [clip_id for clip_id, views in looks_of.items() if len(views) == 2]
    long = [clip_id for clip_id, views in looks_of.items() if len(views) == 4]
    assert min(len(short), len(long)) > 0, "eleven frames are no two views in time"
    counts = {"2": len(short), "4": len(long)}
    assert all(figures["model"]["test_clips_by_different_views"] == counts for figures in told.values())
    reader = load_checkpoint(out / "a3lign" / "seed-0" / "checkpoints" / fold.name).model
    assert isinstance(reader, A3lignReader)
    answers = pd.read_csv(out / "a3lign" / "seed-0" / "predictions.csv", dtype={"clip_id": str}).set_index("clip_id")
    for clip_id in (*short[:2], *long[:2]):
        looks = []
        for view in looks_of[clip_id]:
            clip = faces.read(clip_id, view.frames)
            images = np.ascontiguousarray(clip.images[:, :, ::-1]) if view.is_flipped else clip.images
            looks += encoder.encode([replace(clip, images=images)])
        frames = torch.stack([look.values[:, 0] for look in looks])
        assert len(torch.unique(frames, dim=0)) == len(looks_of[clip_id])
        with torch.no_grad():
            expected = reader.scores(frames).softmax(1).mean(0).numpy()
        np.testing.assert_allclose(answers.loc[clip_id, list(BASIC)].astype(float), expected, atol=1e-3)
    # Without views it is another comparison, which this folder does not take.
    refused = run_here(*asked)
    assert refused.returncode == 2
    assert "other views: 2 there, 1 here; flip: true there, false here" in refused.stderr


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--models", "a3ling"), "did you mean 'a3lign'"),
        (("--models", "a3lign"), "give its folder with --clip"),
        (("--set", "a3lign.training.epoch=3"), "did you mean 'epochs'"),
        (("--models", "a3lign", "--clip", "nowhere"), "no CLIP model"),
        (("--set", "a3lign.training.epochs=[4,3"), "cannot be read"),
        (("--set", "a3lign.training.seed=7"), "the seed is no setting"),
        (("--set", "a3lign.training.module_rate=-1"), "module_rate"),
        (("--set", "baseline.training.learning_rate=-1"), "learning_rate"),
        (("--set", "head_rate=-1"), "begins with a family of models"),
        (("--set", "grace.model.labels=[a,b]"), "labels is determined by the data"),
        (("--set", "grace.model.num_frames=4"), "num_frames is determined by the data"),
        (("--face", "haarr"), "haarr"),
        (("--models", "a3lign", "--clip", "CLIPS"), "it has no config.json"),
        (("--models", "a3lign,grace", "--set", "a3lign.training.epochs=1"), "expected a list, such as [40,30,30]"),
        (("--fold", "2"), "leave --fold out"),
        (("--labels", "onset,offset"), "onset"),
        (("--set", "a3lign.training.epochs=[4,3,2.5]"), "give three numbers"),
        (("--set", "a3lign.model.num_tokens=0"), "at least 1"),
        (("--labels", "onset,"), "two or more different names"),
        (("--labels", "onset,onset"), "two or more different names"),
        (("--clip-size", "shrink"), "choose upsample, interpolate"),
        (("--models", "class_prior", "--clip", "nowhere"), "no model of this comparison reads --clip;"),
        (("--models", "class_prior", "--clip-size", "interpolate"), "no model of this comparison reads --clip-size"),
        (
            ("--models", "a3lign,mean_pooled", "--clip", "nowhere", "--videomae", "x"),
            "no model of this comparison reads --videomae",
        ),
        (("--models", "a3lign", "--encoder", "clip:nowhere"), "no CLIP model"),
        (("--flip",), "views are for a store"),
        (("--views", "2"), "views are for a store"),
        (("--views", "0"), "--views"),
    ],
)
def test_wrong_use_is_one_sentence(
    run_here: Run, clips: Path, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    arguments = tuple(str(clips) if argument == "CLIPS" else argument for argument in arguments)
    done = run_here("bench", "--data", clips / "clips.csv", "--out", tmp_path, *arguments)
    assert done.returncode in (2, 4), done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir()), "a refused call claims nothing, so that the corrected one can follow"


def test_clips_that_cannot_be_used_are_named(run_here: Run, tmp_path: Path) -> None:
    render_benchmark(BenchmarkConfig(clips=28, seed=13), tmp_path, workers=1)
    table = pd.read_csv(tmp_path / "clips.csv")
    gone, text = table[table["split"] == "train"].index[0], table[table["split"] == "test"].index[0]
    (tmp_path / table["video"][gone]).unlink()
    (tmp_path / table["video"][text]).write_text("no video")
    done = run_here("bench", "--data", tmp_path / "clips.csv", "--models", "class_prior", "--out", tmp_path / "out", "--workers", 1)  # fmt: skip
    assert done.returncode == 1, "a clip could not be read"
    for row in (gone, text):
        assert f"not used: {table['video'][row]}: unreadable: " in done.stderr
    rows = pd.read_csv(tmp_path / "out" / "class_prior" / "seed-0" / "predictions.csv").set_index("clip_id")
    lost = rows.loc[table["video"][text]]
    assert lost["status"] == "unreadable"
    assert len(lost["message"]) > 10
    assert (rows.drop(index=table["video"][text])["n_face_frames"] > 8).all()
    assert len(json.loads((tmp_path / "out" / "bench.json").read_text())["unused"]) == 2


def test_a_call_that_learned_nothing_holds_no_folder(run_here: Run, tmp_path: Path) -> None:
    render_benchmark(BenchmarkConfig(clips=28, seed=14), tmp_path / "clips", workers=1)
    videos = tmp_path / "clips" / "videos"
    videos.rename(tmp_path / "away")
    asked = ("bench", "--data", tmp_path / "clips" / "clips.csv", "--models", "class_prior", "--out", tmp_path / "out", "--workers", 1)  # fmt: skip
    assert run_here(*asked).returncode == 3
    (tmp_path / "away").rename(videos)
    again = run_here(*asked)
    assert again.returncode == 0, again.stderr


def test_a_kept_checkpoint_finds_its_clip_by_name(
    run_here: Run, clips: Path, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named in full, and once moved, below DFERKIT_MODELS."""
    place = tmp_path / "here" / "my_clip"
    shutil.copytree(clip_folder, place)
    monkeypatch.chdir(tmp_path / "here")
    asked = ("bench", "--data", clips / "clips.csv", "--models", "a3lign_no_jas", "--clip", "my_clip", "--out", tmp_path / "out", *QUICK, "--workers", 1)  # fmt: skip
    assert run_here(*asked).returncode == 0
    kept = tmp_path / "out" / "a3lign_no_jas" / "seed-0" / "checkpoints" / "test"
    video = next((clips / "videos").glob("*.mp4"))
    look = ("predict", video, "--checkpoint", kept, "--face", "haar")
    monkeypatch.chdir(tmp_path)
    assert run_here(*look).returncode == 0
    place.rename(tmp_path / "my_clip")
    lost = run_here(*look)
    assert lost.returncode == 2
    assert "none named my_clip in DFERKIT_MODELS" in lost.stderr
    monkeypatch.setenv("DFERKIT_MODELS", str(tmp_path))
    found = run_here(*look)
    assert found.returncode == 0, found.stderr


def test_clip_is_named_as_train_names_it(run_here: Run, clips: Path, clip_folder: Path, tmp_path: Path) -> None:
    """``--encoder clip:FOLDER``, also for models that read CLIP."""
    written = []
    for way in (("--encoder", f"clip:{clip_folder}"), ("--clip", clip_folder)):
        out = tmp_path / way[0].strip("-")
        done = run_here("bench", "--data", clips / "clips.csv", "--models", "clip_temporal", *way, *QUICK, "--out", out, "--workers", 1)  # fmt: skip
        assert done.returncode == 0, done.stderr
        written.append((out / "clip_temporal" / "seed-0" / "predictions.csv").read_bytes())
    assert written[0] == written[1]


def test_a_table_of_the_cpu_holds_no_rows_of_another_device(clips: Path, tmp_path: Path) -> None:
    run = BenchRun(models=("class_prior",), options=DataOptions(workers=1))
    run_bench(clips / "clips.csv", tmp_path, run)
    with pytest.raises(ConfigError, match="other device: cpu there, meta here"):
        run_bench(clips / "clips.csv", tmp_path, replace(run, device="meta"))


def test_one_folder_compares_on_one_clip_and_one_set(run_here: Run, clip_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(clip_folder, tmp_path / "other_clip")
    (tmp_path / "other_clip" / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5]}')
    render_benchmark(BenchmarkConfig(clips=28, seed=12), tmp_path / "clips", workers=1)
    out, data = tmp_path / "bench", tmp_path / "clips" / "clips.csv"
    asked = ("bench", "--data", data, "--out", out, *QUICK, "--workers", 1)
    first = run_here(*asked, "--models", "clip_zero_shot", "--clip", clip_folder)
    assert first.returncode == 0, first.stderr
    for other in (("--clip", tmp_path / "other_clip"), ("--clip", clip_folder, "--clip-size", "interpolate")):
        refused = run_here(*asked, "--models", "clip_temporal", *other)
        assert refused.returncode == 2
        assert "clip_zero_shot in bench/ reads another clip" in refused.stderr
    about = json.loads((out / "bench.json").read_text())["models"]
    assert about["clip_zero_shot"]["encoder"] == f"clip:{clip_folder}"
    (tmp_path / "other_clip" / "tokenizer.json").unlink()
    mute = run_here("bench", "--data", data, "--out", tmp_path / "mute", "--models", "class_prior,clip_zero_shot", "--clip", tmp_path / "other_clip", *QUICK)  # fmt: skip
    assert mute.returncode == 2
    assert "no usable tokenizer" in mute.stderr
    assert not (tmp_path / "mute").exists(), "told before anything is encoded"
    video = next((tmp_path / "clips" / "videos").glob("*.mp4"))
    video.write_bytes(video.read_bytes() + b"\0")
    refused = run_here(*asked, "--models", "class_prior")
    assert refused.returncode == 2
    assert "other data" in refused.stderr


def clips_in_views() -> TokenDataset:
    """Random tokens of six clips; the first, of the rarer class, in three views that look alike."""
    rng, box = torch.Generator().manual_seed(0), BoxEncoder(BOX_FOLDER)
    rows, labels = torch.tensor([0, 0, 0, 1, 2, 3, 4, 5]), ("anger", "happiness")
    target = np.array([0, 0, 1, 1, 1, 1])[rows]
    records = tuple(
        Record(clip_id=f"clip {i}", video=Path(), label=labels[t], subject=f"p{i}")
        for i, t in zip(rows.tolist(), target, strict=True)
    )
    return TokenDataset(
        records=records,
        labels=labels,
        target=target,
        groups=np.array([str(record.subject) for record in records]),
        visual=torch.randn(6, box.num_frames, 64, box.dim, generator=rng)[rows].half(),
        summary=torch.randn(6, box.num_frames, box.summary_dim, generator=rng)[rows].half(),
        units=torch.rand(6, 16, len(box.au_names), generator=rng)[rows].numpy(),
        timestamps=np.tile(np.arange(16) / 25, (len(rows), 1)),
        view=np.array([0, 1, 2, 0, 0, 0, 0, 0]),
        au_names=box.au_names,
        grid=box.grid,
    )


@pytest.mark.parametrize("name", ["class_prior", "vision_only", "a3lign", "clip_temporal", "videomae_focal"])
def test_views_that_look_alike_change_no_answer(name: str, clip_folder: Path) -> None:
    """Every training takes rows of one clip as views of it."""
    views, encoder, batch = clips_in_views(), "box", ("training.batch=4",)
    entry = find_model(name)
    epochs = {"steps": ("training.epochs=2", *batch), "stages": ("training.epochs=[1,1,1]", *batch), "solution": ()}
    sizes = ("model.num_sentences=2", "model.num_tokens=3") if entry.family == "a3lign" else ()
    if entry.reads == "clip":
        encoder, width = f"clip:{clip_folder}", ClipEncoder(clip_folder).dim
        views = replace(views, visual=views.visual[:, :, :1, :width], summary=views.summary[..., :width])
    plain = views.take(views.first_rows)
    spec = TrainingSpec(model=name, encoder=encoder, settings=(*epochs[entry.learns], *sizes))
    fitted = [fit(some, spec) for some in (plain, views)]
    answers = [predict_probabilities(one.model, replace(plain, texts=fitted[0].data.texts)) for one in fitted]
    np.testing.assert_array_equal(answers[0], answers[1])
    if name == "class_prior":
        np.testing.assert_allclose(answers[0][0], [1 / 3, 2 / 3])


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["dfew", "ferv39k", "mafw-single"])
def test_all_models_on_a_mini_release_of_each_set(
    run_here: Run, clip_folder: Path, tmp_path: Path, layout: str
) -> None:
    config = MiniConfig(layout=layout, clips_per_class=2, num_frames=12, size=64, with_videos=False)
    write_mini_release(config, tmp_path / "release", workers=2)
    store, out = tmp_path / "store", tmp_path / "bench"
    assert run_here("prepare", layout, tmp_path / "release", "--out", store).returncode == 0
    done = run_here("bench", "--data", store, "--models", "all", "--clip", clip_folder, "--out", out, *QUICK)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(out / "results.csv")
    assert table["run"].tolist() == list(MODELS)
    assert np.isfinite(table["uar"]).all()


def test_descriptions_do_not_name_the_class() -> None:
    for label in ("anger", "fear", "happiness", "sadness", "surprise", "disgust"):
        assert label not in describe_class(label)
        assert len(describe_class(label)) > 30
    assert describe_class("neutral") == "a still face"
    assert "lip corner puller" not in describe_class("sadness"), "what speaks against a class does not describe it"
