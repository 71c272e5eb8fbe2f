import csv
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from scored_examples import imagined_clips

from dferkit.errors import ConfigError
from dferkit.evaluation.summary import summarize
from dferkit.reports.results_table import FOOTNOTE, latex_text, markdown_rows, results_table


@pytest.fixture(scope="module")
def runs():
    good, bad = (
        summarize(imagined_clips(200, seed=seed, num_folds=folds, fails_every=0 if seed else 17))
        for seed, folds in ((0, 5), (1, 1))
    )
    return {
        "GRACE_a & b": good,
        "peer | 100 %": {**bad, "selection": "test-leaky"},
        "last": {**bad, "selection": "last"},
    }


def test_markdown(runs):
    lines = results_table(runs).splitlines()
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[:5]]
    assert [len(row) for row in rows] == [8] * 5
    first, second = runs["GRACE_a & b"], runs["peer | 100 %"]
    assert rows[2] == [
        "GRACE_a & b", f"{first['uar']:.3f}", "{:.3f}–{:.3f}".format(*first["uar_ci95"]), f"{first['war']:.3f}",
        f"{first['folds']['uar_mean']:.3f} ± {first['folds']['uar_sd']:.3f}",
        f"{first['folds']['war_mean']:.3f} ± {first['folds']['war_sd']:.3f}", "200 (12 without answer)", "",
    ]  # fmt: skip
    assert rows[3][0] == r"peer \| 100 % †"
    assert rows[3][1] == f"{second['uar']:.3f}"
    assert rows[3][4:] == ["", "", "200", "test-leaky"]
    assert rows[4][0] == "last"
    assert lines[5:] == ["", f"† {FOOTNOTE}"]
    assert "†" not in results_table({"last": runs["last"]})


def test_csv_holds_the_numbers_in_full(runs):
    rows = list(csv.DictReader(io.StringIO(results_table({"=1+1": runs["last"], **runs}, form="csv"))))
    assert rows[0]["run"] == "'=1+1"
    for row, figures in zip(rows[1:], runs.values(), strict=True):
        assert [float(row[k]) for k in ("uar", "war", "uar_low", "uar_high", "war_low", "war_high")] == [
            figures["uar"], figures["war"], *figures["uar_ci95"], *figures["war_ci95"],
        ]  # fmt: skip
        assert (int(row["num_clips"]), int(row["num_failed"])) == (figures["num_clips"], figures["num_failed"])
    assert float(rows[1]["uar_sd"]) == runs["GRACE_a & b"]["folds"]["uar_sd"]
    assert rows[1]["num_folds"] == "5"
    assert rows[2]["uar_sd"] == rows[2]["num_folds"] == ""
    assert [row["note"] for row in rows] == ["", "", FOOTNOTE, ""]
    assert [row["run"].endswith("†") for row in rows] == [False, False, True, False]


def test_latex_is_escaped_and_has_a_footnote(runs):
    text = results_table(runs, form="latex")
    body = [line for line in text.splitlines() if line.endswith(r"\\") and not line.startswith(r"\multicolumn")]
    assert all(len(re.findall(r"(?<!\\)&", line)) == 7 for line in body)
    assert r"GRACE\_a \& b" in text
    assert r"95 \% interval" in text
    assert r"peer | 100 \% $^\dagger$" in text
    assert rf"\multicolumn{{8}}{{l}}{{\footnotesize $^\dagger$ {FOOTNOTE}}}" in text
    assert text.index(r"\toprule") < text.index(r"\midrule") < text.index(r"\bottomrule")
    assert text.count("{") == text.count("}")
    assert "†" not in text
    assert "±" not in text
    assert r"\multicolumn" not in results_table({"last": runs["last"]}, form="latex")


def test_every_sign_of_latex():
    assert latex_text("a_b^c~d\\e {f} #$%& –±\ng") == (
        r"a\_b\textasciicircum{}c\textasciitilde{}d\textbackslash{}e \{f\} \#\$\%\& --$\pm$ g"
    )


def test_markdown_cells_cannot_break_out():
    assert markdown_rows(["a"], [["x | y\n| z"], ["\\|"]]) == "| a |\n| --- |\n| x \\| y \\| z |\n| \\\\\\| |\n"


def test_unknown_form():
    with pytest.raises(ConfigError, match="markdown, csv, latex"):
        results_table({}, form="html")


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["missing.json"], 2)])
def test_the_script_for_the_readme_needs_no_results_for_its_help(arguments, code, tmp_path):
    script = Path(__file__).parents[2] / "scripts" / "results-table"
    done = subprocess.run([sys.executable, script, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert "usage: results-table" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
