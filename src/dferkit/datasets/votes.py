"""DFEW's ten votes a clip, from its spreadsheet, as soft labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from dferkit.datasets.findings import Findings
from dferkit.datasets.lists import place
from dferkit.errors import MissingExtraError
from dferkit.labels import BASIC, class_order

_VOTES = tuple(
    f"{number}{name}"
    for number, name in enumerate(("happy", "sad", "neutral", "angry", "surprise", "disgust", "fear"), 1)
)
_CLIP_NAMES, _LABEL_NAMES = ("order", "clip", "video_name"), ("annotation", "label")
_NUM_VOTES = 10


def read_votes(path: Path, root: Path, labels: Mapping[str, str], findings: Findings) -> dict[str, tuple[float, ...]]:
    """Share of the votes for each class, in the order of ``labels.BASIC``, by clip id.

    Columns are found by name (``1happy`` … ``7fear``, ``order``, ``annotation``); where the header has other names, by place: seven votes, clip,
    label. Rows belong to the clip number they name, never to a row of a list.

    Args:
        labels: Class of each clip in the lists, to be compared with the spreadsheet's.

    Raises:
        MissingExtraError: Spreadsheets need an extra.
    """
    name = place(path, root)
    try:
        table = pd.read_excel(path)
    except ImportError as error:
        raise MissingExtraError("reading annotation.xlsx", "data") from error
    except Exception as error:  # a cut spreadsheet breaks in the archive, in its XML or in the reader
        findings.error(
            "VOTES_UNREADABLE", f"the spreadsheet cannot be read ({type(error).__name__}); copy it again", name
        )
        return {}
    if table.shape[1] < 9:
        findings.error(
            "VOTES_COLUMNS", f"{table.shape[1]} columns; expected seven of votes, the clip number and the label", name
        )
        return {}
    known = {str(column).strip().lower(): column for column in table.columns}
    votes = [known.get(column, table.columns[i]) for i, column in enumerate(_VOTES)]
    clip = next((known[c] for c in _CLIP_NAMES if c in known), table.columns[7])
    label = next((known[c] for c in _LABEL_NAMES if c in known), table.columns[8])
    order = [class_order("dfew").index(name) for name in BASIC]
    found: dict[str, tuple[float, ...]] = {}
    for number, row in enumerate(table[[*votes, clip, label]].itertuples(index=False), 2):
        where = f"{name}:{number}"
        cells = pd.to_numeric(pd.Series(list(row)), errors="coerce")
        if not np.isfinite(cells).all() or (cells < 0).any():
            findings.error("VOTES_VALUE", f"a cell is empty or no number of 0 or more: {list(row)}", where)
            continue
        total, clip_id = float(cells[:7].sum()), f"{int(cells[7]):05d}"
        if total != _NUM_VOTES:
            findings.warning("VOTES_SUM", f"clip {clip_id} has {total:g} votes; every clip has {_NUM_VOTES}", where)
        if total == 0:
            continue
        single = int(cells[8])
        if clip_id in labels and single and class_order("dfew")[single - 1 : single] != (labels[clip_id],):
            findings.error(
                "VOTES_LABEL", f"clip {clip_id} has label {single} here, but is {labels[clip_id]} in the lists", where
            )
        found[clip_id] = tuple(float(cells[i]) / total for i in order)
    return found
