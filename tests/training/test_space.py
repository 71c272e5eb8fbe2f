"""A joint space learned from captions alone: words find the cells of their movement, no class is read, and the phase resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_grace import SMALL, dataset
from torch import Tensor
from torch.nn import functional as F

from dferkit.errors import ConfigError
from dferkit.models.caption_matching import CaptionMatcher
from dferkit.models.grace import Grace
from dferkit.models.word_alignment import AlignmentConfig
from dferkit.recipes.bench import BenchRun
from dferkit.schema import TextTokens
from dferkit.tokens.dataset import TokenDataset
from dferkit.training.loop import TrainingConfig
from dferkit.training.space import learn_space
from dferkit.training.spec import SPACE_EPOCHS, TrainingSpec

BUDGET = TrainingConfig(epochs=25, batch=16, learning_rate=5e-3, weight_decay=0.0, token_noise=0.1)
KINDS = 5


def planted(clips: int, seed: int) -> tuple[TokenDataset, np.ndarray, np.ndarray]:
    """Clips with two movements of five, each in a cell of its own, and their words; the kinds and the cells. Classes have nothing to do with it."""
    fixed, rng = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    seen, said = torch.randn(KINDS, SMALL.visual_dim, generator=fixed), torch.randn(KINDS, 12, generator=fixed)
    kinds, cells = (torch.rand(clips, size, generator=rng).argsort(1)[:, :2] for size in (KINDS, SMALL.num_frames * 9))
    still = torch.randn(SMALL.visual_dim, generator=fixed)
    visual = still + 0.2 * torch.randn(clips, SMALL.num_frames * 9, SMALL.visual_dim, generator=rng)
    visual[torch.arange(clips)[:, None], cells] += 2 * seen[kinds]
    words = {"pieces": ("w", "v"), "spans": ((0, 1), (2, 3)), "encoder": "test", "phrase_of_piece": (0, 1)}
    texts = [TextTokens(values=said[pair], sentence=said[pair].mean(0), **words) for pair in kinds]
    data = dataset(visual.unflatten(1, (SMALL.num_frames, 9)).half(), texts, np.arange(clips) % 7)
    return data, kinds.numpy(), cells.numpy()


def model() -> Grace:
    torch.manual_seed(3)
    return Grace(replace(SMALL, text="tokens", motion="none"))


def learned(data: TokenDataset, state: Path | None = None) -> Grace:
    of = model()
    learn_space(of, data, BUDGET, device="cpu", state=state)
    return of.eval()


def nearest(of: Grace, data: TokenDataset) -> Tensor:
    """Cells nearest to each clip's words."""
    batch = data.batch(np.arange(len(data)))
    assert batch.visual is not None
    assert batch.text is not None
    with torch.no_grad():
        visual = of.space.visual_projection(of.space.visual_norm(batch.visual) + of.space.place + of.space.time)
        return F.cosine_similarity(
            of.space.words(batch.text)[:, :, None], visual.flatten(1, 2)[:, None], dim=-1
        ).argmax(2)


def test_words_find_the_cells_of_their_movement(tmp_path: Path) -> None:
    data, *_ = planted(160, seed=1)
    other, _, cells = planted(80, seed=2)
    of = learned(data, tmp_path / "whole")
    learned_share, start_share = (float((nearest(one, other).numpy() == cells).mean()) for one in (of, model().eval()))
    assert learned_share > 0.8
    assert start_share < 0.5
    # Classes are not read, and what is finished is not done again.
    another = learned(replace(data, target=data.target[::-1].copy()))
    again = learned(data, tmp_path / "whole")
    for name, value in of.state_dict().items():
        assert torch.equal(value, another.state_dict()[name])
        assert torch.equal(value, again.state_dict()[name])
    head = {name: value for name, value in model().state_dict().items() if not name.startswith("space.")}
    assert all(torch.equal(value, of.state_dict()[name]) for name, value in head.items()), "only the space is trained"


def test_equal_captions_are_no_negatives() -> None:
    data, kinds, _ = planted(12, seed=1)
    matcher = CaptionMatcher(AlignmentConfig(visual_dim=16, text_dim=12, num_frames=4, grid=(3, 3), dim=24, text="tokens"))  # fmt: skip
    found = matcher(data.batch(np.arange(12))).caption.tolist()
    captions = [tuple(pair) for pair in kinds]
    assert found == [captions.index(caption) for caption in captions]
    assert len(set(found)) < 12, "some are equal"


def test_the_phase_is_for_tokens_and_words_without_a_common_space() -> None:
    def epochs(model: str, encoder: str, text: str, *settings: str) -> int:
        spec = TrainingSpec(model=model, encoder=encoder, settings=settings)
        return int(replace(spec, text_encoder=text).plan().space.epochs)

    assert epochs("grace", "videomae", "box") == SPACE_EPOCHS
    assert epochs("grace", "videomae", "box", "space.epochs=3") == 3
    assert epochs("grace", "box", "box") == epochs("vision_only", "videomae", "box") == 0
    assert epochs("text_only", "videomae", "box") == epochs("mean_pooled", "videomae", "box") == 0
    run = BenchRun(models=("grace", "vision_only"), encoder="videomae", settings=("grace.space.epochs=4",))
    assert [run.spec_of(name, 0).plan().space.epochs for name in run.models] == [4, 0]
    for name in ("vision_only", "text_only", "mean_pooled"):
        with pytest.raises(ConfigError, match=f"{name} does not match captions with videos"):
            epochs(name, "videomae", "box", "space.epochs=3")
