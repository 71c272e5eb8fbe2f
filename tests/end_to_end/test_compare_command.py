"""``dferkit compare`` as a user runs it."""

import json

import numpy as np
import pytest

from dferkit.evaluation.compare import compare
from dferkit.evaluation.scored import ScoredClips
from dferkit.labels import BASIC, MAFW
from dferkit.reports.scored_table import write_scored
from dferkit.reports.tables import Provenance

DFEW = ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear")


def system(seed, skill, labels=BASIC):
    true = np.random.default_rng(99).integers(7, size=200)
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.ones(len(labels)), size=200)
    p[np.arange(200), true] += skill * random.random(200)
    return ScoredClips(
        labels=labels,
        clip_ids=tuple(f"{i:04d}" for i in range(200)),
        true=true,
        probabilities=p / p.sum(1, keepdims=True),
        folds=("",) * 200,
    )


@pytest.fixture
def pair(tmp_path):
    """Our predictions.csv, and a peer's text without names."""
    a, b = system(0, 0.3), system(1, 2.0)
    write_scored(tmp_path / "ours" / "predictions.csv", a, Provenance(model="x", front_end="pixels"))
    other = b.in_label_order(DFEW)
    lines = [
        f"{clip_id} {np.log(p).tolist()} {t} 0 0"
        for clip_id, p, t in zip(other.clip_ids, other.probabilities, other.true, strict=True)
    ]
    (tmp_path / "0.txt").write_text("\n".join(["1.0, 2.0", *lines]))
    return a, b


def test_ours_against_a_peer(run, pair, tmp_path):
    done = run("compare", "ours", "0.txt", "--order-b", "dfew", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = compare(*pair)
    lines = done.stdout.splitlines()
    assert f"A: UAR {expected.a.uar:.3f}" in lines[0]
    assert f"B: UAR {expected.b.uar:.3f}" in lines[1]
    assert (
        f"{expected.uar.value:+.3f} (95 % interval {expected.uar.low:+.3f} to {expected.uar.high:+.3f})" in done.stdout
    )
    assert lines[-1] == "B is better on these 200 clips, in UAR and WAR."
    assert "0.txt: values are logits and were softmaxed" in done.stderr
    written = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert written["b_minus_a"]["uar"]["value"] == pytest.approx(expected.uar.value, abs=1e-12)
    assert written["b_minus_a"]["war"]["ci95"][0] == pytest.approx(expected.war.low, abs=1e-12)
    assert written["mcnemar"]["p"] == expected.mcnemar_p
    assert written["mcnemar"]["only_b_right"] == expected.table[0, 1]
    assert (written["a"]["file"], written["b"]["file"]) == ("ours", "0.txt")
    assert written["a"]["uar"] == expected.a.uar
    page = (tmp_path / "out" / "compare.md").read_text()
    assert lines[-1] in page
    assert f"| A right | {expected.table[1, 0]} | {expected.table[1, 1]} |" in page
    assert page.count("\n| ") == 4 + 4 + 9 + 0  # scores, table of both, recall of seven classes


def test_wrong_use_is_one_sentence_and_code_2(run_here, pair, tmp_path):
    write_scored(tmp_path / "eleven.csv", system(2, 1.0, MAFW), Provenance(model="x", front_end="pixels"))
    (tmp_path / "broken.csv").write_text("clip_id,predicted_label\n0000,fearr\n")
    for arguments, code, says in (
        (["ours", "0.txt"], 2, "name the order, one of dfew"),
        (["ours", "0.txt", "--order-b", "dfwe"], 2, "did you mean 'dfew'"),
        (
            ["ours", "0.txt", "--order-b", "mafw"],
            2,
            "0.txt:2: 7 values, but the class order has 11 classes (so are 199 further lines, up to 0.txt:201)",
        ),
        (["ours", "none.csv"], 2, "none.csv: not found"),
        (["ours", "broken.csv"], 2, "broken.csv:2: unknown label 'fearr'; did you mean 'fear'"),
        (["ours"], 2, "Missing argument"),
        (["ours", "eleven.csv"], 3, "--shared-classes"),
        (["ours", "0.txt", "--order-b", "basic-alphabetical"], 3, "check the class order"),
    ):
        done = run_here("compare", *arguments, cwd=tmp_path)
        assert done.returncode == code, (arguments, done.stderr)
        assert says in done.stderr
        assert done.stdout == ""
        if "Missing" not in says:
            assert done.stderr.count("\n") == 1, done.stderr
    done = run_here("compare", "ours", "eleven.csv", "--shared-classes", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "of 200 clips" in done.stdout
