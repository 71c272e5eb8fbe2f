"""Following one clip through ``dferkit train``: the files that it passes are few, and the architecture page names them in order."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import FrameType

import pytest

import dferkit
from dferkit.recipes.data import ListedClips
from dferkit.recipes.train import train_list
from dferkit.schema import FaceClip, Record
from dferkit.synthetic import BenchmarkConfig, render_benchmark
from dferkit.tokens.dataset import TokenDataset
from dferkit.training.spec import TrainingSpec

PACKAGE = Path(dferkit.__file__).parent
PAGE = PACKAGE.parents[1] / "docs" / "explanation" / "architecture.md"
CLIP = (Record, FaceClip, TokenDataset)
MOST_FILES = 10


def holds_clip(value: object) -> bool:
    """A clip's record, its face clip, the data set that holds it, or a sequence of these."""
    first = value[0] if isinstance(value, list | tuple) and value else value
    return isinstance(first, CLIP)


@pytest.mark.usefixtures("unchecked_shapes")
def test_a_clip_passes_few_files_in_the_order_of_the_page(tmp_path: Path) -> None:
    manifest = render_benchmark(BenchmarkConfig(clips=28, seed=3), tmp_path / "clips", workers=1)
    clips = ListedClips.open(manifest, cache=tmp_path / "cache", workers=1)
    passed: list[str] = []

    def note_call(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(f"{PACKAGE}/"):
            return
        given = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        file = str(Path(code.co_filename).relative_to(PACKAGE))
        if file not in passed and any(holds_clip(frame.f_locals.get(name)) for name in given):
            passed.append(file)

    sys.setprofile(note_call)
    try:
        train_list(clips, tmp_path / "run", TrainingSpec(settings=("training.epochs=1",)), lambda *_: None)
    finally:
        sys.setprofile(None)
    assert len(passed) <= MOST_FILES, passed
    section = PAGE.read_text(encoding="utf-8").split("## One clip through training")[1].split("\n## ")[0]
    assert re.findall(r"^\d+\. `src/dferkit/([\w/]+\.py)`", section, re.MULTILINE) == passed
