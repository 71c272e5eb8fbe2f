import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sample_explanation import make_explanation

from dferkit.errors import ConfigError, DataError
from dferkit.evaluation.claims import PhraseMass, localisation_claim, motion_claim
from dferkit.evaluation.metrics import evaluate_predictions
from dferkit.explain import alignment_table, phrase_table
from dferkit.explain.faithfulness import summarise_deletion
from dferkit.labels import BASIC
from dferkit.reports import figures, formatting, page
from dferkit.reports.claims import claim_tables
from dferkit.reports.clip_page import (
    STATUS,
    WARNINGS,
    clip_view,
    deletion_found,
    deletion_verdict,
    deletion_view,
    reasons,
    verdict_text,
)
from dferkit.reports.figures import write_explanation, write_over_time
from dferkit.reports.html import write_benchmark_report, write_clip_report
from dferkit.reports.selection import frames_to_show, main_phrases, other_parts
from dferkit.schema import DeletionTest, Evaluation, Explanation

ABOUT = {
    "model": "grace",
    "trained_on": "rendered clips",
    "calibration": "UNCALIBRATED",
    "command": "dferkit predict a",
}


class _Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.stack or self.stack[-1] not in ("script", "style"):
            self.text.append(data)


def _report(path: Path, *explanations: Explanation, **settings: object) -> str:
    write_clip_report(path, explanations, about=ABOUT, **settings)  # type: ignore[arg-type]
    return path.read_text(encoding="utf-8")


def _section(explanation: Explanation, **settings: Any) -> str:
    clip = page.templates().get_template("clip.html").module.clip
    return str(clip(clip_view(explanation, **settings), STATUS, WARNINGS))


def _evaluation() -> Evaluation:
    generator = np.random.default_rng(0)
    true = generator.integers(0, 7, 200)
    predicted = np.where(generator.random(200) < 0.7, true, generator.integers(0, 7, 200))
    return evaluate_predictions(BASIC, true, predicted)


def test_a_report_loads_nothing_and_allows_only_itself(tmp_path: Path, explanation: Explanation):
    text = _report(tmp_path / "r.html", explanation)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text.split("</style>", 1)[0])
    parsed = _Elements(text)
    assert parsed.stack == [], "every element is closed"
    for tag, attributes in parsed.found:
        assert tag not in ("link", "iframe", "object", "base", "form")
        for name, value in attributes.items():
            assert name != "style", "the policy refuses style attributes"
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href"):
                assert value is not None
                assert value.startswith("data:image/jpeg;base64,")
    policy = next(a["content"] for t, a in parsed.found if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    for element in ("style", "script"):
        content = re.findall(rf"<{element}>(.*?)</{element}>", text, re.S)
        assert len(content) == 1
        assert base64.b64encode(hashlib.sha256(content[0].encode()).digest()).decode() in policy


def test_hostile_names_stay_text(tmp_path: Path, explanation: Explanation):
    evil = '<script>alert(1)</script>"><img src=x onerror=alert(2)>.mp4'
    prediction = replace(explanation.prediction, input=evil, message=evil)
    caption = replace(explanation.caption, source=evil)
    phrases = (replace(explanation.phrases[0], text=evil), *explanation.phrases[1:])
    hostile = replace(explanation, prediction=prediction, caption=caption, phrases=phrases)
    text = _report(tmp_path / "r.html", hostile, predictions=[prediction, replace(prediction, window=1)], title=evil)
    parsed = _Elements(text)
    assert text.count("<script>") == 1
    assert not any(attributes.get("src") == "x" for _, attributes in parsed.found)
    assert any(evil in piece for piece in parsed.text)


def test_a_report_says_apparent_and_never_feels(tmp_path: Path, explanation: Explanation):
    text = " ".join(_Elements(_report(tmp_path / "r.html", explanation)).text)
    assert re.search(r"Apparent expression:\s+anger|Apparent expression:\s+\w+", text)
    assert "second:" in text
    assert "not calibrated" in text
    assert "is not what a person feels" in text
    assert "hiring" in text
    assert explanation.prediction.label is not None
    assert verdict_text(explanation.prediction).startswith(
        f"Apparent expression: {explanation.prediction.label} (81 %)"
    )


def test_the_table_has_the_numbers_of_alignments_csv(tmp_path: Path, explanation: Explanation):
    text = _report(tmp_path / "r.html", explanation)
    listed = alignment_table(explanation, 20)
    listed = listed[(listed["rank"] <= 5) & (listed["frame"] >= 0)]
    shown = set(re.findall(r'data-value="([^"]+)"', text))
    for column in ("weight", "motion", "timestamp"):
        assert {f"{value:.7g}" for value in listed[column]} <= shown


def test_the_maps_in_the_page_are_those_of_the_explanation(tmp_path: Path, explanation: Explanation):
    text = _report(tmp_path / "r.html", explanation)
    block = re.search(r'<script type="application/json" class="maps">(.*?)</script>', text, re.S)
    assert block
    data = json.loads(block[1])
    shape = (len(explanation.phrases), data["frames"], data["rows"], data["columns"])
    maps = np.frombuffer(base64.b64decode(data["maps"]), np.uint8).reshape(shape) / 255.0
    maps = maps * np.array(data["peaks"])[:, None, None, None]
    for shown, phrase in zip(maps, explanation.phrases, strict=True):
        expected = phrase.evidence / phrase.share  # every cell of the sample has the sign of its phrase
        assert np.abs(shown - expected).max() <= expected.max() / 255
    assert data["phrases"] == [phrase.text for phrase in explanation.phrases]
    assert explanation.phrases[data["start"]].share == max(phrase.share for phrase in explanation.phrases)
    assert [data["regions"][i] for i in data["grid"]] == [name for row in explanation.regions for name in row]


@pytest.mark.parametrize("faces", ["blur", "boxes"])
def test_hidden_faces_leave_no_detail(faces: str):
    explanation = make_explanation(3, is_rendered=False)
    for section in (_section(explanation, faces=faces), _section(explanation)):
        pictures = [base64.b64decode(data) for data in re.findall(r"base64,([^\"]+)", section)]
        assert len(pictures) == 16
    shown = len(_section(explanation))
    assert len(_section(explanation, faces=faces)) < 0.6 * shown, "noise that is hidden needs few bytes"
    other = replace(explanation, face_clip=replace(explanation.face_clip, images=255 - explanation.face_clip.images))
    if faces == "boxes":
        assert _section(other, faces=faces) == _section(explanation, faces=faces), "no pixel gets through"


def test_unknown_ways_to_show_faces_are_refused(explanation: Explanation):
    with pytest.raises(ConfigError, match="show, blur, boxes"):
        _section(explanation, faces="cartoon")


def test_answers_without_a_face_are_listed(tmp_path: Path, explanation: Explanation):
    missing = replace(
        explanation.prediction, input="empty.mp4", track_id=-1, label=None, probabilities=None, status="no_face"
    )
    text = _report(tmp_path / "r.html", explanation, predictions=[explanation.prediction, missing])
    assert "no face was found" in text
    abstained = replace(explanation.prediction, label=None, status="abstain", abstain_reason="the two best are close")
    assert verdict_text(abstained).startswith("No label: the two best are close. Most probable: ")
    assert verdict_text(missing) == "No answer: no face was found."


def test_windows_of_one_person_give_a_time_line(explanation: Explanation):
    windows = [
        replace(explanation.prediction, window=i, start_seconds=2.0 * i, end_seconds=2.0 * i + 2) for i in range(3)
    ]
    assert "Probabilities over time" in _section(explanation, windows=windows)
    assert "Probabilities over time" not in _section(explanation, windows=windows[:1])


def test_a_report_of_many_clips_shrinks_and_then_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    explanations = [make_explanation(i, is_rendered=False) for i in range(2)]
    write_clip_report(tmp_path / "a.html", explanations, about=ABOUT)
    size = (tmp_path / "a.html").stat().st_size
    assert size < 5_000_000
    monkeypatch.setattr(page, "MAX_BYTES", size - 1000)
    monkeypatch.setattr("dferkit.reports.html.MAX_BYTES", size - 1000)
    write_clip_report(tmp_path / "b.html", explanations, about=ABOUT)
    assert (tmp_path / "b.html").stat().st_size < size - 1000
    monkeypatch.setattr(page, "MAX_BYTES", 10_000)
    with pytest.raises(DataError, match="at most 5 MB"):
        write_clip_report(tmp_path / "c.html", explanations, about=ABOUT)
    assert not (tmp_path / "c.html").exists()


def test_the_benchmark_report_shows_the_given_numbers_only(tmp_path: Path, explanation: Explanation):
    results = {
        "models": {"grace": {"uar": 0.7123, "war": 0.7341, "uar_ci95": [0.65, 0.77], "num_parameters": 1234567}},
        "ceiling": {"uar": 0.8765},
        "controls": {"shuffled_captions": {"uar": 0.2219}},
        "claims": {"motion": {"expression": 0.4321, "nuisance": 0.1234}, "deletion": {"mean_drop": 0.0541}},
        "comparisons": {"grace_minus_cosine": {"difference": -0.0312, "low": -0.0711, "high": 0.0098}},
        "profiles": {"posed": {"uar": 0.7123}, "natural": {"uar": 0.4567}},
        "uar_by_skin_tone": {"tone 1": {"uar": 0.6161}},
        "something_new": {"<b>": {"deep": {"value": 0.3333, "list": [1, 2, 3]}}},
    }
    path = tmp_path / "report.html"
    write_benchmark_report(path, results, {"grace": _evaluation()}, [explanation], about=ABOUT)
    parsed = _Elements(path.read_text(encoding="utf-8"))
    text = " ".join(parsed.text)
    for shown in ("0.712", "0.734", "0.650 to 0.770", "1,234,567", "0.876", "0.222", "0.432", "0.123", "0.054",
                  "−0.031", "−0.071 to +0.010", "0.457", "0.333", "1, 2, 3", "<b>", "0.616"):  # fmt: skip
        assert shown in text, shown
    assert parsed.stack == []
    assert "Recall per rendered skin tone" in text
    assert "Are phrases aligned with the part of the face that they name?" not in text, "no numbers were given for it"


def test_claims_are_labelled_and_counts_have_no_decimals(tmp_path: Path):
    claims = {
        "motion": motion_claim([]) | {"num_clips": 286.0, "top10_kept_in_top30": 0.5938},
        "localisation": localisation_claim([]) | {"num_phrases": 954.0, "times_shuffled": 3.571},
        "deletion": summarise_deletion([])
        | {"low": 0.0984, "high": 0.1536, "fractions": [0.0, 0.1], "extra_key": 0.25},
    }
    write_benchmark_report(tmp_path / "r.html", {"claims": claims}, {}, about=ABOUT)
    text = " ".join(_Elements((tmp_path / "r.html").read_text(encoding="utf-8")).text)
    for shown in (
        "strongest movements among the highest weights",
        "0.594",
        "286",
        "954",
        "share of cells removed",
        "extra key",
    ):
        assert shown in text, shown
    for raw in ("num clips", "286.000", "954.000", "top10", "times shuffled", "fractions"):
        assert raw not in text, raw


def test_every_figure_of_the_claims_has_a_label():
    rng = np.random.default_rng(0)
    test = DeletionTest(
        fractions=np.array([0.0, 1.0]),
        ranked_probability=np.array([0.9, 0.2]),
        random_probability=rng.random((3, 2)),
        drop=0.1,
    )
    mass = [
        PhraseMass(action_unit=unit, mass=np.full(4, 0.25), moved=np.arange(4) == i)
        for i, unit in enumerate(("AU01", "AU12"))
    ]
    found = {
        "motion": motion_claim([]),
        "localisation": localisation_claim(mass),
        "deletion": summarise_deletion([test]),
    }
    for claim, (name, known) in zip(claim_tables(found), found.items(), strict=True):
        assert len(claim["rows"]) == len(known)
        assert all(reading for _, _, reading in claim["rows"]), name


@pytest.mark.parametrize("results", [{}, {"models": {}}, {"ceiling": None}, {"claims": {"motion": 0.3}}])
def test_the_benchmark_report_leaves_out_what_is_missing(tmp_path: Path, results: dict):
    write_benchmark_report(tmp_path / "r.html", results, {}, about={})
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "nan" not in text.lower().split("<footer")[0].split("<main>")[1]
    assert "None" not in text


def test_a_clip_with_one_frame_and_no_words_can_be_shown(tmp_path: Path, explanation: Explanation):
    clip = explanation.face_clip
    track = replace(clip.track, boxes=clip.track.boxes[:1], scores=clip.track.scores[:1], found=np.zeros(1, dtype=bool))
    bare = replace(
        explanation,
        face_clip=replace(clip, images=clip.images[:1], timestamps=clip.timestamps[:1], track=track),
        caption=replace(explanation.caption, text="", phrases=()),
        action_units=replace(explanation.action_units, names=(), intensity=np.zeros((1, 0)), timestamps=np.zeros(1)),
        phrases=(),
        words=(),
        word_spans=(),
        transport=np.zeros((0, 1, 14, 14)),
        motion=np.ones((1, 14, 14)),
        evidence=np.zeros((1, 14, 14)),
        deletion=None,
    )
    text = _report(tmp_path / "r.html", bare)
    assert "Deletion test of the explanation" not in text
    assert len(alignment_table(bare)) == 0
    write_explanation(tmp_path / "e.png", bare)
    write_over_time(tmp_path / "o.png", bare)


@pytest.mark.parametrize(
    ("ranked", "words"),
    [
        (0.2, "The answer rests on this evidence."),
        (0.32, "no more than in some random order: this explanation does not show what the answer rests on"),
        (0.49, "less than 0.05: this explanation does not show what the answer rests on"),
        (0.9, "less than 0.05: this explanation does not show what the answer rests on"),
    ],
)
def test_the_verdict_of_a_deletion_test_follows_its_curves(ranked: float, words: str):
    random = np.stack([np.full(20, 0.9), np.linspace(0.3, 0.7, 20)], axis=1)
    curve = np.array([0.9, ranked])
    test = DeletionTest(
        fractions=np.array([0.0, 0.3]),
        ranked_probability=curve,
        random_probability=random,
        drop=float((random - curve).mean()),
    )
    view = deletion_view(test, "anger", cells="patches")
    assert view is not None
    assert words in view["verdict"]
    for shown in (
        "probability of anger goes from 90 % to " + formatting.percent(ranked),
        "to 50 % (mean of 20 orders)",
    ):
        assert shown in view["found"]
    assert deletion_view(None, "anger", cells="patches") is None


def test_numbers_read_well():
    assert [formatting.percent(p) for p in (0.0, 0.004, 0.814, 0.999, 1.0, float("nan"), -0.034, -0.001)] == [
        "0 %", "<1 %", "81 %", ">99 %", "100 %", "–", "−3 %", "0 %",
    ]  # fmt: skip
    assert [formatting.number(v) for v in (0.81234, -0.5, 0.00001, float("nan"), 12, 1234567, True)] == [
        "0.812", "−0.500", "1e−05", "–", "12", "1,234,567", "yes",
    ]  # fmt: skip


def test_a_tiny_difference_is_named():
    test = DeletionTest(
        fractions=np.array([0.0, 0.3]),
        ranked_probability=np.array([0.2, 0.198]),
        random_probability=np.full((10, 2), 0.2),
        drop=0.001,
    )
    assert test.num_beaten == 10
    assert "lowers it by 0.001 more than random ones do, and by more than each of the 10" in deletion_found(
        test, "fear"
    )
    assert "does not show" in deletion_verdict(test)


def _with_shares(explanation: Explanation, *shares: float, remainder: float | None = 0.0) -> Explanation:
    """The first phrases of an explanation with these shares, each in one cell of the frame with its number."""
    phrases = []
    for number, share in enumerate(shares):
        one = np.zeros_like(explanation.phrases[0].evidence)
        one[number, 9, 7] = share
        phrases.append(replace(explanation.phrases[number % len(explanation.phrases)], share=share, evidence=one))
    return replace(explanation, phrases=tuple(phrases), remainder=remainder)


def test_what_was_not_seen_is_never_named_as_a_reason(explanation: Explanation):
    found = _with_shares(explanation, 0.3, 0.6, 0.02, -0.02, remainder=0.1)
    absent = replace(found.phrases[1], text="cheeks not raised", is_seen=False)
    found = replace(found, phrases=(found.phrases[0], absent, *found.phrases[2:]))
    assert main_phrases(found) == [0], "the absent movement has the largest share; 0.02 is small beside 0.3"
    parts = dict(other_parts(found, [0]))
    assert parts == pytest.approx({"absent movements": 0.6, "other phrases": 0.0, "not described": 0.1})
    top = _section(found).split("<h3>")[0]
    assert "cheeks not raised" not in top
    assert "absent movements (60\u00a0%)" in top
    assert "cheeks not raised" not in "".join(reasons(found))


def test_the_top_of_the_page_is_a_whole_sum(explanation: Explanation):
    found = _with_shares(explanation, 0.7, 0.5, -0.35, remainder=0.15)
    top = _section(found).split("<h3>")[0]
    assert str(found.prediction.label) in top.split("made of")[0]
    shares = [int(text.replace("−", "-")) for text in re.findall(r"\((−?\d+)\u00a0%\)", top.split("made of")[1])]
    assert shares == [70, 50, -35, 15]
    assert sum(shares) == 100
    assert "has a share with a minus (−)" in _section(found)
    assert reasons(found)[0].endswith("other phrases (−35 %); not described (15 %)")


def test_estimates_are_called_so(explanation: Explanation):
    found = _with_shares(explanation, 0.25, -0.1, remainder=None)
    assert reasons(found)[0].startswith(f"without the phrase the probability of {found.prediction.label} falls by (est")
    top = _section(found).split("<h3>")[0]
    assert "(estimates)" in top
    assert "0.250" in top
    assert "made of" not in top
    nothing = _with_shares(explanation, -0.1, remainder=None)
    assert reasons(nothing)[0].endswith("does not fall")
    assert "does not fall" in _section(nothing).split("<h3>")[0]


def test_an_explanation_without_a_label_is_about_the_most_probable_class(explanation: Explanation):
    abstained = replace(explanation.prediction, label=None, status="abstain", abstain_reason="the two best are close")
    text = _section(replace(explanation, prediction=abstained))
    assert f"The score of {explanation.prediction.label} is made of" in text
    assert f"the probability of {explanation.prediction.label} goes from" in text


def test_one_rule_for_the_main_region(tmp_path: Path, explanation: Explanation):
    """Script, table on the page and ``phrases.csv`` name the region with most of the share, also where one cell of another region has the largest part."""
    spread = np.zeros_like(explanation.phrases[0].evidence)
    rows, columns = np.nonzero(np.asarray(explanation.regions) == "mouth")
    spread[4, rows, columns] = 0.6 / len(rows)
    row, column = np.argwhere(np.asarray(explanation.regions) == "glabella")[0]
    spread[9, row, column] = 0.4
    found = replace(explanation, phrases=(replace(explanation.phrases[0], share=1.0, evidence=spread),), remainder=0.0)
    seconds = explanation.face_clip.timestamps[4]
    named = phrase_table(found).iloc[0]
    assert (named["region"], named["peak_seconds"]) == ("mouth", seconds)
    assert named["region_share"] == pytest.approx(0.6)
    text = _report(tmp_path / "r.html", found)
    block = re.search(r'<script type="application/json" class="maps">(.*?)</script>', text, re.S)
    assert block
    assert json.loads(block[1])["places"] == [["mouth", pytest.approx(0.6), pytest.approx(seconds)]]
    assert "<td>mouth</td>" in text
    assert "<td>glabella</td>" not in text.split("<details>")[0]


def test_words_of_one_phrase_are_listed_once(explanation: Explanation):
    first = explanation.phrases[0]
    inside = [i for i, (start, _) in enumerate(explanation.word_spans) if first.span[0] <= start < first.span[1]]
    assert len(inside) > 1
    maps = explanation.transport.copy()
    maps[inside] = maps[inside[0]]
    listed = clip_view(replace(explanation, transport=maps))["listed"]
    assert [row["text"] for row in listed if row["word_index"] in inside] == [first.text] * 5
    others = {row["text"] for row in listed if row["word_index"] not in inside}
    assert others
    assert others <= {word for i, word in enumerate(explanation.words) if i not in inside}


def test_every_picture_has_a_legend(tmp_path: Path, explanation: Explanation, monkeypatch: pytest.MonkeyPatch):
    drawn: list[Any] = []
    monkeypatch.setattr(figures, "_save", lambda figure, path: drawn.append(figure))
    write_explanation(tmp_path / "a.png", explanation)
    write_over_time(tmp_path / "b.png", explanation)
    write_over_time(tmp_path / "c.png", replace(explanation, remainder=None))
    strip, *over_time = drawn
    (legend,) = strip.legends
    texts = [legend.get_title().get_text(), *(text.get_text() for text in legend.get_texts())]
    assert len(texts) == 4
    assert "Times are those of the video" in texts[0]
    for figure, unit in zip(over_time, ("share of the score", "fall of the probability"), strict=True):
        phrases, curves, bar = figure.axes
        assert [text.get_text() for text in curves.get_legend().get_texts()] == ["motion", "evidence"]
        assert curves.get_xlabel() == "seconds of the video"
        assert unit in bar.get_ylabel()
        assert "orange raises, purple lowers" in bar.get_ylabel()
        assert len(phrases.get_yticklabels()) == len(explanation.phrases)
    generator = np.random.default_rng(0)
    shares = generator.dirichlet(np.ones(7), 40)
    figures.write_reliability(tmp_path / "d.png", shares, shares, generator.integers(0, 7, 40))
    named = [text.get_text() for text in drawn[-1].axes[0].get_legend().get_texts()]
    assert sorted(named) == ["a bin of clips, with its 95 % interval", "confidence = share right"]
    page_text = _section(explanation)
    for picture in ("Each box of the strip is a frame", "100 % is the strongest", "random order, mean; band"):
        assert picture in page_text
    windows = [
        replace(explanation.prediction, window=i, start_seconds=2.0 * i, end_seconds=2.0 * i + 2) for i in (0, 1)
    ]
    assert "Each row has a height of 0 to 100" in _section(explanation, windows=windows)


def test_the_heaviest_frames_are_shown(explanation: Explanation):
    frames = len(explanation.face_clip.timestamps)
    assert frames >= 6
    one = np.zeros((frames, 1, 1))
    one[1] = 1.0
    evidence = np.zeros((frames, 1, 1))
    evidence[frames - 3] = 1.0
    phrases = tuple(replace(phrase, evidence=phrase.share * one) for phrase in explanation.phrases)
    peaked = replace(explanation, phrases=phrases, motion=np.ones((frames, 1, 1)), evidence=evidence)
    for count in (2, 3, 4):
        shown = frames_to_show(peaked, [0, 1], count)
        assert {1, frames - 3} <= set(shown)
        assert len(shown) == len(set(shown)) == count
        assert shown == sorted(shown)
    assert frames_to_show(peaked, [0, 1], 1) == [frames - 3]
    assert frames_to_show(peaked, [0], 99) == list(range(frames))
    flat = replace(peaked, evidence=0 * evidence)
    assert frames_to_show(flat, [], 2) == [0, frames - 1]


def _with_one_cell_a_frame(explanation: Explanation) -> Explanation:
    frames = len(explanation.face_clip.timestamps)
    even = np.full((frames, 1, 1), 1 / frames)
    return replace(
        explanation,
        phrases=tuple(replace(phrase, evidence=phrase.share * even) for phrase in explanation.phrases),
        transport=np.broadcast_to(even, (len(explanation.words), frames, 1, 1)),
        motion=np.ones((frames, 1, 1)),
        evidence=even,
        regions=(("face",),),
    )


def test_the_page_of_a_model_with_one_token_a_frame_names_frames(tmp_path: Path, explanation: Explanation):
    whole = _with_one_cell_a_frame(explanation)
    text = " ".join(_Elements(_report(tmp_path / "r.html", whole)).text)
    assert "patch" not in text
    assert "Phrases, times" in text
    assert "regions and times" not in text
    assert "patches" in " ".join(_Elements(_report(tmp_path / "p.html", explanation)).text)


def test_figures_are_png_files(tmp_path: Path, explanation: Explanation):
    write_explanation(tmp_path / "explanation.png", explanation, faces="blur", num_phrases=2, num_frames=3)
    write_over_time(tmp_path / "over_time.png", explanation)
    for name in ("explanation.png", "over_time.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError):
        write_explanation(tmp_path / "x.png", explanation, faces="none")


def _every_section(path: Path, explanation: Explanation, text: str) -> tuple[str, str]:
    """Both pages with everything that they can show, ``text`` wherever a text can stand."""
    prediction = replace(explanation.prediction, input=text, message=text, status="low_coverage")
    units = replace(explanation.action_units, names=(text, *explanation.action_units.names[1:]), source=text)
    units = replace(units, intensity=np.ones_like(units.intensity))
    quality = replace(explanation.face_clip.quality, warnings=("W_BLUR", text))
    hostile = replace(
        explanation,
        prediction=prediction,
        face_clip=replace(explanation.face_clip, quality=quality),
        action_units=units,
        caption=replace(explanation.caption, source=text),
        phrases=(replace(explanation.phrases[0], text=text), *explanation.phrases[1:]),
        words=(text, *explanation.words[1:]),
        method=text,
    )
    whole = replace(_with_one_cell_a_frame(hostile), remainder=None)
    abstained = replace(prediction, window=1, label=None, status="abstain", abstain_reason=text)
    missing = replace(prediction, window=2, label=None, probabilities=None, status=text)
    about = {**ABOUT, "command": text, text: text, "versions": {text: text}, "deep": {text: {text: [text]}}}
    write_clip_report(
        path / "clips.html",
        [hostile, whole, replace(hostile, prediction=abstained)],
        about=about,
        predictions=[prediction, abstained, missing],
        truth={prediction.clip_id: text},
        title=text,
    )
    known = {"difference": 0.1, "low": -0.1, "high": 0.2}
    results = {
        "models": {"grace": {"uar": 0.7, "war": 0.7, "uar_ci95": [0.6, 0.8], "num_parameters": 3}, text: {"uar": text}},
        "ceiling": 0.9,
        "comparisons": {text: known, f"{text} 2": {text: text}},
        "controls": {text: {text: text}},
        "claims": {text: text, "motion": {text: text}},
        "profiles": {text: {text: {text: text}}},
        "uar_by_skin_tone": {text: {text: text}},
        text: {text: text},
    }
    evaluation = replace(_evaluation(), labels=(text, *BASIC[1:]))
    write_benchmark_report(path / "b.html", results, {"grace": evaluation}, [hostile], about=about)
    return tuple((path / name).read_text(encoding="utf-8") for name in ("clips.html", "b.html"))  # type: ignore[return-value]


@pytest.mark.parametrize(
    "evil", ["<script>alert(1)</script>", "\"><img src='x' onerror=alert(2)>", "{{ 7 * 191 }}</script>"]
)
def test_text_from_outside_stays_text_in_every_template(tmp_path: Path, explanation: Explanation, evil: str):
    harmless = _every_section(tmp_path, explanation, "harmless")
    for text, plain in zip(_every_section(tmp_path, explanation, evil), harmless, strict=True):
        parsed, expected = _Elements(text), _Elements(plain)
        assert parsed.stack == []
        assert [(tag, set(a)) for tag, a in parsed.found] == [(tag, set(a)) for tag, a in expected.found]
        shown = " ".join(parsed.text)
        assert shown.count(evil) == " ".join(expected.text).count("harmless") > 20
        assert "1337" not in shown
        for block in re.findall(r'<script type="application/json" class="maps">(.*?)</script>', text, re.S):
            assert json.loads(block)["phrases"][0] == evil


def test_every_template_file_is_used(tmp_path: Path, explanation: Explanation):
    page.templates.cache_clear()
    _every_section(tmp_path, explanation, "a")
    folder = Path(page.__file__).parent / "templates"
    cache = page.templates().cache
    assert cache is not None
    assert sorted(name for _, name in cache) == sorted(file.name for file in folder.iterdir())
