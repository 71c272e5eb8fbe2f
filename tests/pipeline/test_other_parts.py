"""A checkpoint that was trained on top of other parts than those installed is refused by ``predict`` as by ``evaluate``."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dferkit.encoders.box import BOX_FOLDER
from dferkit.errors import CheckpointError
from dferkit.models.checkpoint import load_checkpoint
from dferkit.models.installed import check_fits
from dferkit.models.shipped import head_folder
from dferkit.pipeline import Model


@pytest.mark.parametrize(("part", "named"), [
    ("encoder_digest", "visual encoder"), ("box_digest", "box"), ("text_encoder_digest", "text encoder"),
])  # fmt: skip
def test_another_part_is_refused(part: str, named: str) -> None:
    checkpoint = load_checkpoint(head_folder(BOX_FOLDER, "pixels"))
    other = replace(checkpoint, about={**checkpoint.about, part: "0" * 64})
    for opened in (check_fits, Model):
        with pytest.raises(CheckpointError, match=f"another {named}"):
            opened(other)  # type: ignore[operator]
