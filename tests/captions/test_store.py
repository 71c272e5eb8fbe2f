"""Captions come back from disk exactly; damaged files are named by line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from dferkit.captions.prompts import (
    PROMPTS,
    TEMPLATE_VERSION,
    Prompt,
    candidates_line,
    cue_line,
    find_prompt,
    refine_request,
)
from dferkit.captions.sample import sample_caption
from dferkit.captions.store import StoredCaption, read_captions, write_captions
from dferkit.errors import ConfigError, DataError
from dferkit.facs import find_forbidden_words
from dferkit.labels import BASIC
from dferkit.schema import Caption, CoarsePrediction


def stored(seed: int, **changes: object) -> StoredCaption:
    caption = sample_caption(np.random.default_rng(seed)).caption
    return dataclasses.replace(StoredCaption(clip_id=f"clip/{seed}", caption=caption), **changes)  # type: ignore[arg-type]


def same(a: StoredCaption, b: StoredCaption) -> bool:
    """Equality with arrays compared by type and bytes."""
    guides = [x.caption.guided_by for x in (a, b)]
    bare = [dataclasses.replace(x, caption=dataclasses.replace(x.caption, guided_by=None)) for x in (a, b)]
    if guides[0] is None or guides[1] is None:
        return guides == [None, None] and bare[0] == bare[1]
    arrays = [g.probabilities for g in guides if g is not None]
    rest = [dataclasses.replace(g, probabilities=np.zeros(0)) for g in guides if g is not None]
    fields = [(g.labels, g.model, g.fold, g.is_out_of_fold) for g in rest]
    return (
        arrays[0].dtype == arrays[1].dtype
        and arrays[0].tobytes() == arrays[1].tobytes()
        and fields[0] == fields[1]
        and bare[0] == bare[1]
    )


def test_exact_round_trip(tmp_path: Path) -> None:
    captions = [stored(seed) for seed in range(30)]
    captions[0] = stored(0, version="refine-caption-1", units_source="truth", settings={"top_k": 3, "seed": 1})
    guide = CoarsePrediction(
        labels=BASIC, probabilities=np.full(7, 1 / 7, dtype=np.float32), model="net ü", fold=2, is_out_of_fold=False
    )
    captions.append(
        StoredCaption(
            clip_id="free", caption=Caption(text="Line\u2028two\n“three”", phrases=(), source="user", guided_by=guide)
        )
    )
    path = tmp_path / "captions.jsonl"
    write_captions(path, captions)
    back = read_captions(path)
    assert list(back) == [c.clip_id for c in captions]
    assert all(same(back[c.clip_id], c) for c in captions)
    assert any(c.caption.guided_by is not None for c in captions[:-1])
    before = path.read_bytes()
    write_captions(path, back.values())
    assert path.read_bytes() == before


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    write_captions(path, [stored(1)])
    before = path.read_bytes()
    with pytest.raises(DataError, match="two captions"):
        write_captions(path, [stored(2), stored(2)])
    with pytest.raises(DataError, match="cannot be stored"):
        write_captions(path, [stored(2, settings={"x": float("nan")})])
    moved = stored(3)
    phrase = dataclasses.replace(moved.caption.phrases[0], end_character=1)
    moved = dataclasses.replace(moved, caption=dataclasses.replace(moved.caption, phrases=(phrase,)))
    with pytest.raises(DataError, match="where its place says"):
        write_captions(path, [moved])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["captions.jsonl"]


@pytest.mark.parametrize("damage", ["{not json", '{"format": 1}', '{"format": 99}', "[]"])
def test_damaged_lines_are_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "captions.jsonl"
    write_captions(path, [stored(1)])
    path.write_text(path.read_text() + damage + "\n")
    with pytest.raises(DataError, match=r"captions\.jsonl:2: not a stored caption"):
        read_captions(path)


def test_repeated_clips_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    with pytest.raises(DataError, match="no caption file"):
        read_captions(path)
    write_captions(path, [stored(1)])
    path.write_text(path.read_text() * 2)
    with pytest.raises(DataError, match=":2: clip 'clip/1' already"):
        read_captions(path)


def test_spans_outside_the_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    write_captions(path, [stored(1)])
    path.write_text(path.read_text().replace('"span": [0, ', '"span": [-5, '))
    with pytest.raises(DataError, match="phrase at"):
        read_captions(path)


def test_prompts_are_named_and_filled() -> None:
    assert TEMPLATE_VERSION
    for name, prompt in PROMPTS.items():
        assert prompt.name == name
        assert prompt.identifier == f"{name}-{prompt.version}"
    # The captioner and the stored rewriting without names must not put class words into a model's mouth.
    assert find_forbidden_words(find_prompt("describe-video").text) == ()
    with pytest.raises(ConfigError, match="refine-caption"):
        find_prompt("refine-captoin")
    with pytest.raises(ConfigError, match="needs the fields"):
        Prompt(name="x", version=1, text="{a}", fields=("a",)).fill({})


def test_refine_request() -> None:
    caption = sample_caption(np.random.default_rng(3), refined_share=0.0).caption
    guide = CoarsePrediction(
        labels=("fear", "surprise", "pain"),
        probabilities=np.array([0.614, 0.2, 0.186]),
        model="net",
        fold=0,
        is_out_of_fold=True,
    )
    assert candidates_line(guide, top_k=2) == "Likely: fear (0.61), surprise (0.20)."
    assert cue_line("pain") == "pain: nothing is known of its movements"
    assert cue_line("sadness").startswith("sadness: usual: brow lowerer, lip corner depressor; sometimes: inner brow")
    assert cue_line("helplessness").startswith("helplessness (weak evidence)")
    text = refine_request(caption, guide)
    assert caption.text in text
    assert "at most 50 words" in text
    assert "surprise: usual" in text
    assert "{" not in text
