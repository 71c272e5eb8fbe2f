"""Explanations of a later window of a video, by untrained heads on the bundled encoders: what is shown must hold for any weights."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import torch

from dferkit.encoders.box import BOX_FOLDER
from dferkit.models.checkpoint import load_checkpoint
from dferkit.models.grace import Grace
from dferkit.models.registry import find_model
from dferkit.pipeline import Model, check_tokens_ranking
from dferkit.pipeline.results import ExplanationResult
from dferkit.reports.clip_page import clip_view, reasons
from dferkit.synthetic import BenchmarkConfig, render_benchmark, write_video

START = 4.0  # of the window that is looked at, the last of six seconds


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A still face for four seconds, then a rendered smile."""
    folder = tmp_path_factory.mktemp("video")
    render_benchmark(BenchmarkConfig(clips=14, seed=5), folder, workers=1)
    table = pd.read_csv(folder / "clips.csv")
    with av.open(str(folder / table[table["label"] == "happiness"]["video"].iloc[0])) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    write_video(folder / "late.mp4", np.stack([frames[0]] * int(START * 8) + frames), 8.0)
    return folder / "late.mp4"


def untrained(name: str) -> Model:
    """A head with random weights on the bundled encoders."""
    box = load_checkpoint(BOX_FOLDER / "grace")
    entry, known = find_model(name), box.model.config
    config = entry.config(
        visual_dim=known.visual_dim, text_dim=known.text_dim, num_frames=known.num_frames, grid=known.grid
    )
    torch.manual_seed(0)
    head = entry.build(entry.change(config)).eval()
    if isinstance(head, Grace):
        head.bias.data.normal_(std=0.1)
    return Model(replace(box, name=name, model=head), face="cropped")


@pytest.fixture(scope="module", params=["grace", "grace_words", "grace_fused"])
def model(request: pytest.FixtureRequest) -> Model:
    return untrained(request.param)


@pytest.fixture(scope="module")
def found(model: Model, video: Path) -> ExplanationResult:
    return model.explain(video, with_deletion=False)


def _times(text: str) -> list[float]:
    return [float(time) for time in re.findall(r"\d+\.\d", text)]


def test_times_are_those_of_the_video(found: ExplanationResult) -> None:
    late = found.explanations[-1]
    assert (len(found.explanations), late.prediction.start_seconds) == (3, START)
    shown = {
        "the caption": late.caption.text,
        "the phrases": " ".join(phrase.text for phrase in late.phrases),
        "the words": " ".join(late.words),
        "phrases.csv": " ".join(found.phrases.query("window == 2")["phrase"]),
        "alignments.csv": " ".join(found.alignments.query("window == 2")["word"]),
        "the page": " ".join(piece["phrase"] for piece in clip_view(late)["caption"]),
    }
    for place, text in shown.items():
        times = _times(text)
        assert times, place
        assert START <= min(times) <= max(times) <= START + 2.2, place
    for line in reasons(late):
        for time in re.findall(r"(\d+\.\d)–", line):
            assert START <= float(time) <= START + 2.2
    rows = found.phrases.query("window == 2")
    for column in ("start_seconds", "end_seconds", "peak_seconds"):
        values = rows[column].dropna()
        assert len(values)
        assert values.between(START, START + 2.2).all()
    for phrase in late.phrases:
        assert late.caption.text[slice(*phrase.span)] == phrase.text or phrase.span == (0, 0)


def test_absent_movements_have_no_time_and_are_no_reason(found: ExplanationResult) -> None:
    phrases = [phrase for one in found.explanations for phrase in one.phrases]
    absent = [phrase for phrase in phrases if re.search(r"\bnot\b", phrase.text)]
    assert absent
    for phrase in phrases:
        assert phrase.is_seen == (phrase not in absent and phrase.span != (0, 0))
    for phrase in absent:
        assert np.isnan(phrase.start_seconds)


def test_exact_shares_add_up(model: Model, found: ExplanationResult) -> None:
    for one in found.explanations:
        assert (one.remainder is not None) == isinstance(model.checkpoint.model, Grace)
        for phrase in one.phrases:
            assert phrase.evidence.sum() == pytest.approx(phrase.share, abs=1e-6)
        if one.remainder is not None:
            assert sum(phrase.share for phrase in one.phrases) + one.remainder == pytest.approx(1)


def test_without_any_evidence_nothing_is_described(video: Path) -> None:
    model = untrained("grace")
    for parameter in (model.checkpoint.model.bias, *model.checkpoint.model.asked[-1].parameters()):
        parameter.data.zero_()
    one = model.explain(video, with_deletion=False).explanations[0]
    assert one.remainder == 1
    assert all(phrase.share == 0 for phrase in one.phrases)
    assert reasons(one)[0].endswith("other phrases (0 %); absent movements (0 %); not described (100 %)")


def test_without_any_token_the_classes_themselves_are_left(video: Path) -> None:
    """With every token at the clip's mean nothing is found in the video: the answer is that of the remainder, by hand."""
    model = untrained("grace")
    reading = next(model.answers(video)).reading
    assert reading is not None
    shares = np.random.default_rng(0).random(reading.visual.values.shape[:2])
    found = check_tokens_ranking(reading, shares, fractions=(0.0, 0.05, 1.0))
    checkpoint, target = reading.head.checkpoint, int(reading.output.logits[0].argmax())
    remainder = checkpoint.model.remainder.detach().double() / checkpoint.temperature
    assert found.ranked_probability[-1] == pytest.approx(float(remainder.softmax(0)[target]), abs=1e-5)
    assert found.random_probability[:, -1] == pytest.approx(float(remainder.softmax(0)[target]), abs=1e-5)
    assert found.ranked_probability[0] == pytest.approx(reading.head.probability(reading.output, target)[0], abs=1e-5)


def test_tokens_that_rank_highest_are_removed_first(video: Path) -> None:
    """Without the tokens that add most to the score the answer falls; without those that add least it rises."""
    model = untrained("grace")
    reading = next(model.answers(video)).reading
    assert reading is not None
    assert reading.output.contributions is not None
    target = int(reading.output.logits[0].argmax())
    shares = reading.output.contributions[0, :, :, target].sum(0).numpy().reshape(reading.visual.values.shape[:2])
    found = check_tokens_ranking(reading, shares, fractions=(0.0, 0.05, 0.2))
    against = check_tokens_ranking(reading, -shares, fractions=(0.0, 0.05, 0.2))
    assert found.drop > 0 > against.drop
