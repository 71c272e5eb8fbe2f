"""GRACE on patches and words of one image–text model starts in that model's own space."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dferkit.alignment import AlignerConfig
from dferkit.encoders.open import open_text_encoder, open_visual_encoder
from dferkit.errors import ConfigError
from dferkit.labels import BASIC
from dferkit.models.grace import Grace, GraceConfig
from dferkit.models.grace_fused import FusedConfig, GraceFused
from dferkit.schema import TokenBatch, TokenShape
from dferkit.tokens.batches import pad_texts
from dferkit.training.spec import TrainingSpec

sys.path.insert(0, str(Path(__file__).parents[1] / "encoders"))
from made_faces import NUM_FRAMES, clip_of, head, seen
from small_models import save


@pytest.fixture(scope="module", params=["clip-patches", "siglip"])
def read(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[TokenShape, TokenBatch]:
    """Tokens of two clips and their captions, by a small model."""
    kind = request.param
    encoder = f"{kind}:{save(kind.partition('-')[0], tmp_path_factory.mktemp('models') / kind)}"
    rng, visual = np.random.default_rng(0), open_visual_encoder(encoder)
    faces = clip_of(seen(np.stack([head(rng)] * NUM_FRAMES), rng))
    clips = [replace(faces, images=rng.integers(0, 255, (NUM_FRAMES, 48, 48, 3)).astype(np.uint8)) for _ in range(2)]
    text, mask, sentence, phrases = pad_texts(open_text_encoder("same", encoder).encode(["lips up", "brows"]))
    values = torch.stack([tokens.values for tokens in visual.encode(clips)])
    shape = TokenShape(
        labels=BASIC, visual_dim=visual.dim, num_frames=8, grid=visual.grid, text_dim=text.shape[-1], shares_space=True
    )
    return shape, TokenBatch(visual=values, text=text, text_mask=mask, sentence=sentence, phrases=phrases)


def own_cosine(batch: TokenBatch) -> torch.Tensor:
    assert batch.visual is not None
    assert batch.text is not None
    return F.cosine_similarity(batch.text[:, :, None], batch.visual.flatten(1, 2)[:, None], dim=-1)


@torch.no_grad()
@pytest.mark.parametrize(("build", "config"), [(Grace, GraceConfig), (GraceFused, FusedConfig)])
def test_at_the_start_a_word_goes_to_the_patches_that_are_nearest_in_the_models_own_space(
    build: type, config: type, read: tuple[TokenShape, TokenBatch]
) -> None:
    shape, batch = read
    own, more = own_cosine(batch), {"ratio": 1.0} if build is GraceFused else {}
    for method in ("transport", "cosine"):
        settings = replace(config.for_shape(shape), text="tokens", aligner=AlignerConfig(method=method), **more)
        alignment = build(settings).eval()(batch).alignment
        log = (
            torch.zeros_like(alignment.plan)
            .scatter(2, alignment.visual_index[:, None].expand_as(alignment.plan), alignment.plan)[0]
            .log()
        )
        similarity = 0.1 * log  # both divide by 0.1
        if method == "transport":  # up to what the marginals add to rows and columns
            similarity, own_one = (
                x - x.mean(0, keepdim=True) - x.mean(1, keepdim=True) + x.mean() for x in (similarity, own[0])
            )
        else:
            similarity, own_one = (x - x.mean(1, keepdim=True) for x in (similarity, own[0]))
        torch.testing.assert_close(similarity, own_one, atol=1e-4, rtol=1e-3)
        assert own_one.std() > 0.002, "there is something to find"


def test_the_width_is_that_of_the_space(tmp_path: Path) -> None:
    folder = save("clip", tmp_path / "clip")
    spec = TrainingSpec(
        model="grace", encoder=f"clip-patches:{folder}", text_encoder="same", settings=("model.dim=32",)
    )
    with pytest.raises(ConfigError, match="the width is that of the space that patches and words share"):
        spec.plan()
    replace(spec, text_encoder="box").plan()
