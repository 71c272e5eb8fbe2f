"""Folds, validation blocks, inner groups and views, against what can be counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dferkit.datasets.protocol import (
    ProtocolConfig,
    choose_folds,
    inner_groups,
    split_fold,
    validation_block,
)
from dferkit.errors import ConfigError, DataError
from dferkit.labels import BASIC
from dferkit.schema import Fold, Record, Release
from dferkit.tokens.views import clip_views, sample_frames


def record(number: int, label: str, **more: object) -> Record:
    return Record(clip_id=f"{number:05d}", video=Path(), label=label, **more)  # type: ignore[arg-type]


def release(records: list[Record], *folds: Fold) -> Release:
    return Release(
        layout="dfew", labels=BASIC, records=tuple(records), folds=folds, media="", media_reason="", media_kind="none", annotation_digest=""
    )  # fmt: skip


# Two classes, mixed; the list is not in the order of the numbers.
MIXED = [record(n, "anger" if n % 3 else "fear") for n in (9, 3, 1, 2, 4, 5, 6, 7, 8, 10, 11, 12)]


def test_validation_block_is_the_last_stretch_of_each_class() -> None:
    """Eight of anger (1 2 4 5 7 8 10 11) and four of fear (3 6 9 12): a quarter is two and one."""
    assert set(validation_block(MIXED, share=0.25)) == {"00010", "00011", "00012"}
    assert validation_block(MIXED, share=0.25)[0] == "00010"  # in the order of the list


@given(
    labels=st.lists(st.sampled_from(["anger", "fear", "neutral"]), min_size=2, max_size=40),
    share=st.floats(0.01, 0.5),
    numbers=st.randoms(use_true_random=False),
)
def test_validation_blocks_are_contiguous_and_leave_something(labels: list[str], share: float, numbers: object) -> None:
    records = [record(i, label) for i, label in enumerate(labels)]
    shuffled = list(records)
    numbers.shuffle(shuffled)  # type: ignore[attr-defined]
    held = set(validation_block(shuffled, share=share))
    for label in set(labels):
        clips = [r.clip_id for r in records if r.label == label]
        places = [i for i, clip_id in enumerate(clips) if clip_id in held]
        assert len(places) < len(clips)
        assert places == list(range(len(clips) - len(places), len(clips)))
        if len(clips) > 1:
            assert places
            assert len(places) >= min(share * len(clips), len(clips) - 1)


def test_scenes_have_blocks_of_their_own() -> None:
    records = [
        Record(clip_id=f"{scene}/{n:04d}", video=Path(), label="anger", attributes={"scene": scene})
        for scene in ("Action", "War")
        for n in range(1, 11)
    ]
    assert set(validation_block(records, share=0.1)) == {"Action/0010", "War/0010"}


def test_whole_people_are_held_out_where_people_are_known() -> None:
    records = [record(n, "anger" if n % 2 else "fear", subject=f"p{n % 5}") for n in range(20)]
    held = set(validation_block(records, share=0.2))
    assert held == {r.clip_id for r in records if r.subject == "p4"}
    assert set(inner_groups(records)) == {f"p{i}" for i in range(5)}


def test_inner_groups_are_stretches_of_a_class() -> None:
    records = [record(n, "anger") for n in range(30)]
    groups = inner_groups(records)
    assert len(set(groups)) == 10
    changes = [i for i in range(1, 30) if groups[i] != groups[i - 1]]
    assert changes == list(range(3, 30, 3))


def test_rules_use_the_sides_they_say() -> None:
    fold = Fold(name="1", train=tuple(r.clip_id for r in MIXED[:8]), test=tuple(r.clip_id for r in MIXED[8:]))
    whole = release(MIXED, fold)
    for rule in ("last", "test-leaky"):
        clips = split_fold(whole, fold, ProtocolConfig(select=rule))
        assert (clips.train, clips.val, clips.test) == (fold.train, (), fold.test)
    clips = split_fold(whole, fold, ProtocolConfig(select="val"))
    assert set(clips.train) | set(clips.val) == set(fold.train)
    assert not set(clips.train) & set(clips.val)
    assert clips.val
    assert clips.test == fold.test


def test_a_marked_validation_side_is_used() -> None:
    records = [record(n, "anger", split="val" if n == 2 else None) for n in range(6)]
    fold = Fold(name="own", train=("00000", "00001", "00002"), test=("00003", "00004", "00005"))
    assert split_fold(release(records, fold), fold, ProtocolConfig()).val == ("00002",)


def test_folds_by_name() -> None:
    folds = [Fold(name=str(k), train=(), test=()) for k in (1, 2)]
    whole = release(MIXED, *folds)
    assert choose_folds(whole, "all") == tuple(folds)
    assert choose_folds(whole, "2") == (folds[1],)
    with pytest.raises(ConfigError, match="there are 1, 2, or all"):
        choose_folds(whole, "3")
    with pytest.raises(ConfigError, match="no clip is marked for testing"):
        choose_folds(release(MIXED), "all")
    with pytest.raises(ConfigError, match="did you mean 'test-leaky'"):
        ProtocolConfig(select="test")
    single = [record(0, "anger"), record(1, "fear")]
    fold = Fold(name="1", train=("00000", "00001"), test=())
    with pytest.raises(DataError, match="choose --select last"):
        split_fold(release(single, fold), fold, ProtocolConfig())


def test_middle_of_every_segment() -> None:
    assert sample_frames(16, 16).tolist() == list(range(16))
    assert sample_frames(64, 16).tolist() == [4 * k + 2 for k in range(16)]
    assert sample_frames(11, 16).tolist() == [0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7, 8, 9, 9, 10]


@given(num_frames=st.integers(1, 200), times=st.integers(1, 6), with_flip=st.booleans())
def test_views_are_really_different(num_frames: int, times: int, with_flip: bool) -> None:
    views = clip_views(num_frames, 16, times=times, with_flip=with_flip)
    shown = {(frozenset(view.frames), view.is_flipped) for view in views}
    assert len(shown) == len(views) <= times * (1 + with_flip)
    if num_frames <= 16:
        assert len(views) == 1 + with_flip
    assert views[0].frames == tuple(sample_frames(num_frames, 16).tolist())
    assert not views[0].is_flipped
    for view in views:
        assert len(view.frames) == 16
        assert np.all(np.diff(view.frames) >= 0)
        assert 0 <= min(view.frames) <= max(view.frames) < num_frames
    if num_frames >= 16 * times:
        assert len(views) == times * (1 + with_flip)


def test_views_are_as_far_apart_as_can_be() -> None:
    """Of segments of four frames: the middle, then half a segment away; then the quarters between."""
    assert [view.frames[0] for view in clip_views(64, 16, times=2)] == [2, 0]
    assert [view.frames[0] for view in clip_views(64, 16, times=4)] == [2, 3, 0, 1]


def test_what_is_held_out_is_told() -> None:
    fold = Fold(name="1", train=tuple(r.clip_id for r in MIXED), test=())
    assert split_fold(release(MIXED, fold), fold, ProtocolConfig()).val_kind.startswith("the last clips of each class")
    named = [record(n, "anger", subject=f"p{n % 3}") for n in range(9)]
    fold = Fold(name="1", train=tuple(r.clip_id for r in named), test=())
    assert split_fold(release(named, fold), fold, ProtocolConfig()).val_kind.startswith("whole people")
    one = [record(n, "anger", subject="p") for n in range(9)]
    with pytest.raises(DataError, match="of one person"):
        split_fold(release(one, fold), fold, ProtocolConfig())


def test_sixteen_frames_have_one_view_in_time() -> None:
    """The case behind published "2 clips × 2 crops": all of them are the same pictures."""
    assert len(clip_views(16, 16, times=4)) == 1
    assert len(clip_views(16, 16, times=4, with_flip=True)) == 2
    assert len(clip_views(64, 16, times=4)) == 4
