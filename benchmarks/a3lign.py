"""Speed of training A³lign-DFER with cached features and without: seconds per step of BAP.

    python benchmarks/a3lign.py --clip runs/clip/clip

Without caches every batch runs the frames through CLIP's image tower, and step 2 the paragraphs through its text tower too. Random pictures: time does
not depend on what they show.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional as F

from dferkit.encoders.clip_model import ClipEncoder
from dferkit.models.a3lign import A3lign, A3lignConfig
from dferkit.storage import write_json
from dferkit.training.phases import paragraphs_of, trainable

CLASSES = tuple("abcdefg")


def main() -> None:
    """Time every step, compare the losses, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip", required=True, help="CLIP folder, or a name in the hub cache.")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=3)
    parser.add_argument("--sentences", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/a3lign.json"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    clip = ClipEncoder(given.clip)
    side = clip.model.config.vision_config.image_size
    config = A3lignConfig(
        dim=clip.dim, token_width=clip.token_width, labels=CLASSES, num_sentences=given.sentences,
        num_tokens=min(given.tokens, clip.max_tokens), mlp_width=2 * clip.dim,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand((given.batches, given.batch, 16, 3, side, side), generator=generator)
    target = torch.randint(len(CLASSES), (given.batches, given.batch), generator=generator)

    @torch.no_grad()
    def encode(batch: torch.Tensor) -> torch.Tensor:
        return clip.features(batch.flatten(0, 1)).unflatten(0, batch.shape[:2])

    cached = [encode(batch) for batch in pictures]

    def train(step: int, *, is_cached: bool, use_bfloat16: bool = False) -> tuple[float, list[float]]:
        """Seconds a batch, and the losses."""
        torch.manual_seed(0)
        model = A3lign(config).train()
        tower = partial(clip.encode_embeddings, use_bfloat16=use_bfloat16)
        parts = trainable(model, step)
        optimizer = torch.optim.SGD([p for part in parts.values() for p in part], lr=1e-2, momentum=0.9)
        with torch.no_grad():
            fixed = paragraphs_of(model, tower)
        started, losses = time.perf_counter(), []
        for i in range(given.batches):
            frames = cached[i] if is_cached else encode(pictures[i])
            with torch.set_grad_enabled(bool(parts["tokens"])):
                paragraphs = fixed if is_cached and not parts["tokens"] else paragraphs_of(model, tower)
            loss = F.cross_entropy(model(frames, paragraphs, step=step), target[i])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        return (time.perf_counter() - started) / given.batches, losses

    rows: dict[str, dict[str, float]] = {}
    for step in (1, 2, 3):
        (fast, with_caches), (slow, without), (half, rounded) = (
            train(step, is_cached=True),
            train(step, is_cached=False),
            train(step, is_cached=True, use_bfloat16=True),
        )
        rows[f"step {step}"] = {
            "seconds_cached": fast,
            "seconds_uncached": slow,
            "times_faster": slow / fast,
            "largest_loss_difference": max(abs(a - b) for a, b in zip(with_caches, without, strict=True)),
            "seconds_bfloat16": half,
            "largest_loss_difference_bfloat16": max(abs(a - b) for a, b in zip(with_caches, rounded, strict=True)),
        }
        print(
            f"step {step}: {fast:.3f} s a batch with caches, {slow:.3f} s without, {half:.3f} s with caches in bfloat16"
        )
    about = {
        key: str(value) if isinstance(value, Path) else value for key, value in vars(given).items() if key != "out"
    }
    about["clip"] = Path(given.clip).name
    write_json(given.out, {"settings": about, "rows": rows})


if __name__ == "__main__":
    main()
