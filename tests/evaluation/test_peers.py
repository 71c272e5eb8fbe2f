import csv
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax
from scored_examples import imagined_clips

from dferkit.errors import ConfigError, DataError, ManifestError
from dferkit.evaluation.compare import compare
from dferkit.evaluation.peers import read_predictions
from dferkit.evaluation.prediction_file import score_pair
from dferkit.labels import BASIC, CLASS_ORDERS

DFEW = ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear")  # official numbers 1 to 7


def write_csv(path, header, rows):
    with path.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])
    return path


def answers(num_clips=12):
    clips = imagined_clips(num_clips + 6, num_folds=0, fails_every=0).take(np.arange(6, num_clips + 6))
    return replace(clips, attributes={})


def logits_text(values, true, *, views=1):
    """As ``final_test`` of MAE-DFER writes it: str() of a list, then label, chunk and split."""
    lines = ["75.0, 100.0"]
    for i, (row, number) in enumerate(zip(values, true, strict=True)):
        for view in range(views):
            lines.append(f"{i:05d} {np.roll(row, 0 if view == 0 else view).tolist()} {number} {view // 2} {view % 2}")
    return "\n".join(lines) + "\n"


def test_numbered_columns_follow_the_named_order(tmp_path):
    clips = answers()
    names = [BASIC[i] for i in clips.true]
    columns = [BASIC.index(label) for label in DFEW]
    rows = [
        [clip_id, *map(repr, p[columns].tolist()), DFEW.index(name)]
        for clip_id, p, name in zip(clips.clip_ids, clips.probabilities, names, strict=True)
    ]
    for header in (
        ["clip_id", *(f"p{i}" for i in range(7)), "true_label"],
        ["video", *map(str, range(7)), "label"],  # beside columns of classes, label is the truth
    ):
        path = write_csv(tmp_path / "peer.csv", header, rows)
        found = read_predictions(path, order="dfew")
        assert found.notes == ()
        scored = found.scored()
        assert scored.labels == DFEW
        assert [DFEW[i] for i in scored.true] == names
        assert np.array_equal(scored.probabilities, clips.probabilities[:, columns])
        same = read_predictions(path, order="Happy,sad,neutral,angry,surprise,disgust,fear").scored()
        assert np.array_equal(same.probabilities, scored.probabilities)
        with pytest.raises(
            ConfigError, match=r"every release numbers them differently.*dfew, basic-alphabetical, mafw"
        ):
            read_predictions(path)
        with pytest.raises(ManifestError, match="order 'mafw' has 11"):
            read_predictions(path, order="mafw")
        with pytest.raises(ConfigError, match="did you mean 'dfew'"):
            read_predictions(path, order="dfwe")


def test_named_columns_need_no_order(tmp_path):
    clips = answers()
    header = ["clip", "Happy", "p_sad", "neutral", "angry", "surprise", "disgust", "fear", "truth"]
    columns = [BASIC.index(label) for label in DFEW]
    rows = [
        [clip_id, *map(repr, p[columns].tolist()), BASIC[t].upper()]
        for clip_id, p, t in zip(clips.clip_ids, clips.probabilities, clips.true, strict=True)
    ]
    path = write_csv(tmp_path / "peer.csv", header, rows)
    scored = read_predictions(path).scored()
    assert scored.labels == DFEW
    assert np.array_equal(scored.in_label_order(BASIC).probabilities, clips.probabilities)
    assert read_predictions(path, order="dferkit-7").labels == BASIC
    with pytest.raises(ConfigError, match="leave the order out"):
        read_predictions(path, order="mafw")


def test_logits_are_softmaxed_and_it_is_said(tmp_path):
    logits = np.random.default_rng(0).normal(0, 5, (4, 7))
    rows = [[f"c{i}", *map(repr, row.tolist())] for i, row in enumerate(logits)]
    path = write_csv(tmp_path / "peer.csv", ["clip_id", *DFEW], rows)
    found = read_predictions(path)
    np.testing.assert_allclose(found.probabilities, softmax(logits, axis=1), rtol=0, atol=1e-15)
    assert found.notes == ("values are logits and were softmaxed",)
    rounded = np.round(softmax(logits, axis=1), 2)
    rows = [[f"c{i}", *row.tolist()] for i, row in enumerate(rounded)]
    found = read_predictions(write_csv(tmp_path / "rounded.csv", ["clip_id", *DFEW], rows))
    np.testing.assert_allclose(found.probabilities, rounded / rounded.sum(1, keepdims=True), rtol=0, atol=1e-15)
    assert "scaled to sum to 1" in found.notes[0]
    path = write_csv(tmp_path / "sigmoid.csv", ["clip_id", *DFEW], [["c", *[0.4] * 7]])
    with pytest.raises(ManifestError, match="neither probabilities nor logits"):
        read_predictions(path)


def test_only_the_predicted_class_is_one_hot_and_it_is_said(tmp_path):
    rows = [["a", "happy", "sadness"], ["b", "-1", "fear"], ["c", "Anger", "anger"], ["d", "", "fear"]]
    found = read_predictions(write_csv(tmp_path / "p.csv", ["id", "pred", "label"], rows))
    assert found.labels == BASIC
    assert [None if np.isnan(p[0]) else BASIC[p.argmax()] for p in found.probabilities] == [
        "happiness",
        None,
        "anger",
        None,
    ]
    assert np.nansum(found.probabilities, axis=1).tolist() == [1, 0, 1, 0]
    assert [BASIC[i] for i in found.true] == ["sadness", "fear", "anger", "fear"]
    assert "scores of probabilities are meaningless" in found.notes[0]
    numbered = write_csv(tmp_path / "n.csv", ["id", "pred", "label"], [["a", 0, 1], ["b", 6, 6]])
    found = read_predictions(numbered, order="dfew")
    assert [DFEW[p.argmax()] for p in found.probabilities] == ["happiness", "fear"]
    assert [DFEW[i] for i in found.true] == ["sadness", "fear"]
    with pytest.raises(ConfigError, match="name the order"):
        read_predictions(numbered)
    contempt = read_predictions(write_csv(tmp_path / "m.csv", ["id", "pred"], [["a", "contempt"]]))
    assert contempt.labels == CLASS_ORDERS["dferkit-11"]
    assert not contempt.has_truth


def test_a_label_alone_is_not_guessed(tmp_path):
    with pytest.raises(ManifestError, match="true_label or predicted_label"):
        read_predictions(write_csv(tmp_path / "p.csv", ["id", "label"], [["a", "fear"]]))


def test_every_wrong_row_is_named(tmp_path):
    ok = ["0.5", "0.5", "0", "0", "0", "0", "0"]
    rows = [
        ["a", *ok, "fear"],
        ["b", "x", *ok[1:], "fear"],
        ["c", *ok, "fearr"],
        ["d", "inf", *ok[1:], "fear"],
        ["e", "", *ok[1:], "fear"],
        ["f", *[""] * 7, "fear"],  # no answer: fine
    ]
    path = write_csv(tmp_path / "p.csv", ["clip_id", *BASIC, "true_label"], rows)
    with pytest.raises(ManifestError) as caught:
        read_predictions(path)
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == ["p.csv:3", "p.csv:4", "p.csv:5", "p.csv:6"]
    assert "'x' is not a number" in lines[0]
    assert "did you mean 'fear'" in lines[1]
    assert "not finite" in lines[2]
    for number in (7, 12):
        path = write_csv(tmp_path / "n.csv", ["clip_id", "pred"], [["a", 6], ["b", number]])
        with pytest.raises(ManifestError, match=rf"n.csv:3: class {number}, but classes run from 0 to 6"):
            read_predictions(path, order="dfew")
    (tmp_path / "w.csv").write_text("clip_id,pred\na,fear\nb\n")
    with pytest.raises(ManifestError, match=r"w.csv:3: 1 cells, but the header has 2"):
        read_predictions(tmp_path / "w.csv")


def test_files_that_are_none_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.npy").write_text("")
    (tmp_path / "latin.csv").write_bytes("clip_id,pred\nü,fear\n".encode("latin-1"))
    (tmp_path / "head.csv").write_text("clip_id,pred\n")
    (tmp_path / "clip.csv").write_text("what,pred\na,fear\n")
    (tmp_path / "class.csv").write_text("clip_id,size\na,3\n")
    (tmp_path / "twice.csv").write_text("clip_id,joy,happy\na,0.5,0.5\n")
    for name, says in (
        ("none.csv", "not found"), ("none", "not found"), ("empty", "neither"), ("x.npy", ".csv file"), ("latin.csv", "UTF-8"),
        ("head.csv", "no rows"), ("clip.csv", "no column for the clip"), ("class.csv", "no column per class"), ("twice.csv", "two columns"),
    ):  # fmt: skip
        with pytest.raises(ManifestError, match=says):
            read_predictions(tmp_path / name)


def test_views_are_softmaxed_then_averaged_as_in_their_merge(tmp_path):
    random = np.random.default_rng(0)
    logits, true = random.normal(0, 2, (5, 7)).astype(np.float32), [3, 0, 6, 2, 2]
    text = logits_text(logits, true, views=4)
    first, *lines = text.splitlines()
    # Two processes, the last line of the first padded into the second and answered otherwise: the first counts.
    (tmp_path / "0.txt").write_text("\n".join([first, *lines[:11]]) + "\n")
    (tmp_path / "1.txt").write_text("\n".join([first, lines[10].replace("[", "[1"), *lines[11:]]) + "\n")
    found = read_predictions(tmp_path, order="dfew")
    expected = np.stack([softmax([np.roll(row, k).tolist() for k in range(4)], axis=1).mean(0) for row in logits])
    np.testing.assert_allclose(found.probabilities, expected, rtol=0, atol=1e-14)
    assert found.clip_ids == tuple(f"{i:05d}" for i in range(5))
    assert found.true.tolist() == true
    assert found.labels == DFEW
    assert found.notes == ("values are logits and were softmaxed", "probabilities are the mean over 4 views of a clip")
    with pytest.raises(ConfigError, match="name the order"):
        read_predictions(tmp_path)


def test_probabilities_in_such_a_file_are_kept(tmp_path):
    clips = answers()
    path = tmp_path / "out.txt"
    path.write_text(logits_text(clips.probabilities, clips.true))
    found = read_predictions(path, order="dferkit-7")
    assert np.array_equal(found.probabilities, clips.probabilities)
    assert found.notes == ()
    # Logits may all lie between 0 and 1; here that is no doubt, since the format holds logits.
    path.write_text(logits_text(np.full((1, 7), 0.5), [0]))
    np.testing.assert_allclose(read_predictions(path, order="dfew").probabilities, 1 / 7)


def test_every_wrong_line_is_named(tmp_path):
    good = "a [1.0, 2, 3, 4, 5, 6, 7] 3 0 0"
    lines = [
        "0.5, 1.0", good, "b [1, 2] 3 0 0", "c [1, 2, 3, 4, 5, 6, 7] 7 0 0", "d 3 0 0", "e [1, 2, 3, 4, 5, 6, x] 3 0 0",
        "a [1, 2, 3, 4, 5, 6, 7] 4 0 1", "f [1, 2, 3, 4, 5, 6, nan] 3 0 0", "", "path with [brackets] [1, 2, 3, 4, 5, 6, 7] 3 0 0",
    ]  # fmt: skip
    path = tmp_path / "out.txt"
    path.write_text("\n".join(lines))
    with pytest.raises(ManifestError) as caught:
        read_predictions(path, order="dfew")
    found = [line.split(": ", 1) for line in str(caught.value).splitlines()]
    assert [where for where, _ in found] == [f"out.txt:{i}" for i in (3, 4, 5, 6, 7, 8)]
    says = ["2 values", "class 7", "expected clip", "'x' is not a number", "class 4 here and 3 before", "not finite"]
    assert all(word in text for word, (_, text) in zip(says, found, strict=True))
    path.write_text("\n".join([lines[0], lines[-1]]))
    assert read_predictions(path, order="dfew").clip_ids == ("path with [brackets]",)
    path.write_text(good + "\n" + good)
    with pytest.raises(ManifestError, match=r"out.txt:1: expected a line of figures"):
        read_predictions(path, order="dfew")
    path.write_text("0.5, 1.0\n")
    with pytest.raises(ManifestError, match="no clips"):
        read_predictions(path, order="dfew")


def peer_file(path, clips, *, order=DFEW, truth=True, clip_ids=None):
    columns = [BASIC.index(label) for label in order]
    rows = [
        [name, *map(repr, p[columns].tolist()), *([order.index(BASIC[t])] if truth else [])]
        for name, p, t in zip(clip_ids or clips.clip_ids, clips.probabilities, clips.true, strict=True)
    ]
    return write_csv(path, ["clip_id", *map(str, range(7)), *(["true"] if truth else [])], rows)


def test_truth_names_and_folds_come_from_the_other_file(tmp_path):
    clips = imagined_clips(50, has_subjects=True, fails_every=0)
    paths = [f"/data/faces/{name}.mp4" for name in clips.clip_ids]
    path = peer_file(tmp_path / "peer.csv", clips, truth=False, clip_ids=paths)
    found = read_predictions(path, order="dfew")
    with pytest.raises(DataError, match="has no true classes"):
        found.scored()
    scored = found.scored(clips.take(np.arange(50)[::-1]))
    assert (scored.clip_ids, scored.folds, scored.subjects) == (clips.clip_ids, clips.folds, clips.subjects)
    assert scored.attributes == clips.attributes
    assert [DFEW[i] for i in scored.true] == [BASIC[i] for i in clips.true]
    with pytest.raises(DataError, match=r"1 of 50 clips of peer.csv are not in the other file with 49 clips"):
        found.scored(clips.take(np.arange(49)))


def test_a_wrong_class_order_shows_in_the_truth(tmp_path):
    clips = imagined_clips(50, fails_every=0)
    path = peer_file(tmp_path / "peer.csv", clips)
    assert read_predictions(path, order="dfew").scored(clips).clip_ids == clips.clip_ids
    with pytest.raises(DataError, match=r"another true class.*check the class order"):
        read_predictions(path, order="basic-alphabetical").scored(clips)


def test_pairs_of_files(tmp_path):
    a, b = imagined_clips(80, fails_every=0), imagined_clips(80, seed=1, skill=1.0, fails_every=0)
    expected = compare(a, b)
    with_truth = read_predictions(peer_file(tmp_path / "a.csv", a), order="dfew")
    without = read_predictions(peer_file(tmp_path / "b.csv", b, truth=False), order="dfew")
    for first, second in ((with_truth, without), (without, with_truth)):
        found = compare(*score_pair(first, second))
        sign = 1 if first is with_truth else -1
        assert found.uar.value == pytest.approx(sign * expected.uar.value, abs=1e-12)
        assert found.war.value == pytest.approx(sign * expected.war.value, abs=1e-12)
    with pytest.raises(DataError, match="has no true classes"):
        score_pair(without, without)


@pytest.mark.parametrize("truth", [True, False])
def test_pairs_on_shared_classes(tmp_path, truth):
    """A knows seven classes, B five of them and contempt."""
    a = imagined_clips(140, fails_every=0)
    five = ("happiness", "neutral", "anger", "fear", "sadness", "contempt")
    rows = []
    for i in range(140):
        name = BASIC[a.true[i]]
        if name in five:
            values = [0.1] * 6
            values[five.index(name) if i % 3 else 5] += 0.4
            rows.append([a.clip_ids[i], *values, *([name] if truth else [])])
    if truth:
        rows.append(["a clip of contempt", *[0.1] * 5, 0.5, "contempt"])
    path = write_csv(tmp_path / "b.csv", ["clip_id", *five, *(["true_label"] if truth else [])], rows)
    files = read_predictions(peer_file(tmp_path / "a.csv", a), order="dfew"), read_predictions(path)
    with pytest.raises(DataError):
        compare(*score_pair(*files))
    found = compare(*score_pair(*files, on_shared_classes=True))
    assert set(found.labels) == set(five) - {"contempt"}
    wanted = [i for i in range(140) if BASIC[a.true[i]] in five]
    assert found.num_clips == len(wanted)
    columns = [BASIC.index(label) for label in found.labels]
    right = [columns[a.probabilities[i][columns].argmax()] == a.true[i] for i in wanted]
    assert found.a.war == pytest.approx(np.mean(right), abs=1e-12)
    # With contempt taken out, B's mistakes are ties of five; the first of them is happiness or the first label.
    is_right_b = [bool(i % 3) or BASIC[a.true[i]] == found.labels[0] for i in wanted]
    assert found.b.war == pytest.approx(np.mean(is_right_b), abs=1e-12)


def test_only_line_ends_end_a_view(tmp_path):
    (tmp_path / "0.txt").write_text("75.0\na\u2028b [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0] 3 0 0\r\n", newline="")
    assert read_predictions(tmp_path / "0.txt", order="dfew").clip_ids == ("a\u2028b",)
