from dataclasses import replace

import numpy as np
import pytest

from dferkit.errors import DataError
from dferkit.explain import (
    ALIGNMENT_COLUMNS,
    PHRASE_COLUMNS,
    REGIONS,
    alignment_table,
    merge_pieces,
    on_grid,
    phrase_table,
    region_grid,
    region_shares,
    supporting_cells,
    transport_maps,
)
from dferkit.schema import Explanation, PhraseEvidence


def test_regions_of_a_standard_crop_run_from_forehead_to_chin():
    grid = np.array(region_grid(14, 14))
    assert set(grid.ravel()) == set(REGIONS) - {"face"}
    assert region_grid(1, 1) == (("face",),), "an encoder that sees a frame as one has no regions"
    assert (grid == grid[:, ::-1]).all(), "a face is symmetric"
    assert list(dict.fromkeys(grid[:, 7])) == [
        "outside", "forehead", "glabella", "nose", "mouth", "chin",
    ]  # fmt: skip
    # Places read off real crops: brows at .33, eyes at .42, tip of the nose at .6, mouth at .72, chin at .88.
    fine = np.array(region_grid(100, 100))
    assert [fine[33, 30], fine[42, 33], fine[60, 50], fine[72, 50], fine[88, 50], fine[60, 25]] == [
        "brow", "eyes", "nose", "mouth", "chin", "cheeks",
    ]  # fmt: skip
    assert fine[50, 3] == "outside"


@pytest.mark.parametrize("side", [7, 10, 14, 16])
def test_every_usual_grid_has_every_region_of_the_face(side: int):
    found = {name for row in region_grid(side, side) for name in row}
    assert {"forehead", "brow", "eyes", "nose", "cheeks", "mouth", "chin"} <= found


def test_region_grid_refuses_an_empty_grid():
    with pytest.raises(DataError, match="at least 1"):
        region_grid(0, 4)


def test_pieces_are_merged_into_words():
    text = "Brows furrowed, 0.8–1.9 s."
    spans = [(0, 3), (3, 5), (6, 14), (14, 15), (16, 19), (19, 20), (20, 23), (24, 25), (25, 26)]
    words, word_spans, of_piece = merge_pieces(text, spans)
    assert words == ("Brows", "furrowed", "0.8–1.9", "s")
    assert [text[a:b] for a, b in word_spans] == list(words)
    assert of_piece.tolist() == [0, 0, 1, -1, 2, 2, 2, 3, -1]


def test_maps_put_the_mass_back_where_it_was_selected_from():
    grid, frames = (2, 3), 2
    # Three tokens were selected, positions 11 (frame 1, row 1, column 2), 0 and 4; one column is padding.
    index = np.array([11, 0, -1, 4])
    plan = np.array([[0.1, 0.0, 9.0, 0.1], [0.0, 0.2, 9.0, 0.0], [0.0, 0.2, 9.0, 0.4], [0.3, 0.3, 0.0, 0.3]])
    maps = on_grid(transport_maps(plan, index, frames, 6, np.array([0, 0, 1, -1]), 3), grid, None)
    assert maps.shape == (3, 2, 2, 3)
    assert maps[0, 1, 1, 2] == pytest.approx(0.25)
    assert maps[0, 0, 0, 0] == pytest.approx(0.5)
    assert maps[0, 0, 1, 1] == pytest.approx(0.25)
    assert maps[1, 0, 1, 1] == pytest.approx(2 / 3)
    assert maps.sum((1, 2, 3)).tolist() == pytest.approx([1, 1, 0]), "the third word has no pieces"


def test_maps_round_trip_any_selection(rng: np.random.Generator):
    rows, columns, frames, words = 4, 5, 3, 6
    truth = rng.gamma(1.0, 1.0, (words, frames * rows * columns))
    index = rng.permutation(truth.shape[1])[:37]
    maps = transport_maps(truth[:, index], index, frames, rows * columns, np.arange(words), words)
    expected = np.zeros_like(truth)
    expected[:, index] = truth[:, index] / truth[:, index].sum(1, keepdims=True)
    np.testing.assert_allclose(maps.reshape(words, -1), expected, atol=1e-15)


@pytest.mark.parametrize(
    ("plan", "index", "of_piece"),
    [
        (np.ones((2, 3)), [0, 1, 2], [0]),
        (np.ones((1, 3)), [0, 1, 99], [0]),
        (np.ones((1, 3)), [0, 1, 2], [4]),
        (-np.ones((1, 3)), [0, 1, 2], [0]),
    ],
)
def test_maps_refuse_what_does_not_fit(plan: np.ndarray, index: list[int], of_piece: list[int]):
    with pytest.raises((DataError, TypeError)):  # TypeError: shapes, where they are checked
        transport_maps(plan, np.array(index), 2, 4, np.array(of_piece), 1)


def test_alignment_table_has_the_documented_columns_and_sums_to_one(explanation: Explanation):
    table = alignment_table(explanation, top_k=20)
    assert tuple(table.columns) == ALIGNMENT_COLUMNS
    assert table.groupby("word_index")["weight"].sum().to_numpy() == pytest.approx(1, abs=1e-12)
    assert (table["region"] == "rest").sum() == table["word_index"].nunique()
    assert table.groupby("word_index").size().unique().tolist() == [21]


def test_alignment_rows_are_the_cells_of_the_map(explanation: Explanation):
    table = alignment_table(explanation, top_k=5)
    for row in table[table["frame"] >= 0].itertuples():
        assert row.weight == pytest.approx(explanation.transport[row.word_index, row.frame, row.row, row.col])
        assert row.motion == explanation.motion[row.frame, row.row, row.col]
        assert row.region == explanation.regions[row.row][row.col]
        assert row.timestamp == explanation.face_clip.timestamps[row.frame]
        assert row.word in explanation.caption.text
        assert row.word in row.phrase or row.phrase == ""
    ranks = table.groupby("word_index")["rank"].apply(list)
    assert all(rank == [1, 2, 3, 4, 5, 6] for rank in ranks)
    listed = table[table["region"] != "rest"]
    assert all(weights.is_monotonic_decreasing for _, weights in listed.groupby("word_index")["weight"])


def test_alignment_table_without_a_rest_when_all_cells_are_listed(explanation: Explanation):
    table = alignment_table(explanation, top_k=10**6)
    assert "rest" not in set(table["region"])
    assert table.groupby("word_index")["weight"].sum().to_numpy() == pytest.approx(1)
    with pytest.raises(DataError, match="top_k"):
        alignment_table(explanation, top_k=0)


def phrase_of_cells(share: float, cells: dict[tuple[int, int, int], float]) -> PhraseEvidence:
    evidence = np.zeros((2, 2, 2))
    for cell, value in cells.items():
        evidence[cell] = value
    return PhraseEvidence(
        text="a", span=(0, 1), start_seconds=0.0, end_seconds=1.0, is_seen=True, share=share, evidence=evidence
    )


def test_the_main_region_holds_most_of_the_share_by_hand(explanation: Explanation):
    """Cells against the sign of the share do not count: .6 lies on the mouth, .4 on the brow, the largest cell is the brow's."""
    phrases = (
        phrase_of_cells(0.8, {(0, 0, 0): 0.4, (0, 1, 0): 0.35, (1, 1, 1): 0.25, (1, 0, 0): -0.2}),
        phrase_of_cells(-0.1, {(1, 0, 1): -0.1, (0, 1, 0): 0.0}),
        phrase_of_cells(0.0, {}),
    )
    clip = replace(explanation.face_clip, timestamps=np.array([4.0, 4.5]))
    small = replace(
        explanation, phrases=phrases, remainder=0.3, regions=(("brow", "brow"), ("mouth", "mouth")), face_clip=clip
    )
    shares = region_shares(small)
    assert shares.loc[0, "mouth"] == pytest.approx(0.6)
    assert shares.loc[0, "brow"] == pytest.approx(0.4)
    assert shares.loc[1, "brow"] == 1
    assert not shares.loc[2].any()
    table = phrase_table(small)
    assert tuple(table.columns) == PHRASE_COLUMNS
    assert table["share"].tolist() == [0.8, 0.0, -0.1, 0.3]
    assert table["region"].tolist() == ["mouth", "", "brow", ""]
    assert table["region_share"].tolist()[0] == pytest.approx(0.6)
    assert table["peak_seconds"].tolist()[:3:2] == [4.0, 4.5]
    assert set(table["evidence"]) == {"exact"}
    assert len(phrase_table(replace(small, remainder=None))) == 3
    assert supporting_cells(phrases[0]).sum() == pytest.approx(1)
