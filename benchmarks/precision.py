"""VideoMAE-B in float32, bfloat16 and int8: CPU seconds a clip, and how far the tokens are from those in float32.

    python benchmarks/precision.py                       # random weights of VideoMAE-B's sizes, three minutes
    python benchmarks/precision.py --model FOLDER

One thread, process CPU time. The two parts of a layer that take most of its time are measured by themselves as well.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import VideoMAEConfig, VideoMAEModel

from dferkit.datasets import read_manifest
from dferkit.encoders.open import open_visual_encoder
from dferkit.encoders.videomae import PRECISIONS
from dferkit.faces import build_detector
from dferkit.schema import FaceClip
from dferkit.storage import write_json
from dferkit.synthetic import BenchmarkConfig, render_benchmark
from dferkit.tokens.features import read_clip


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=None, help="VideoMAE folder.")
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/precision.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        clips = faces(Path(temporary) / "clips", given.clips)
        folder = given.model or Path(temporary) / "videomae-b"
        if given.model is None:
            torch.manual_seed(0)
            VideoMAEModel(VideoMAEConfig()).save_pretrained(folder)
        rows, exact = {}, None
        for precision, name in PRECISIONS.items():
            encoder = open_visual_encoder(f"{name}:{folder}")
            seconds, tokens = timed(lambda encoder=encoder: torch.stack([t.values for t in encoder.encode(clips)]), 1)
            exact = tokens if exact is None else exact
            error = float((tokens - exact).norm() / exact.norm())
            rows[precision] = {"seconds_a_clip": seconds / len(clips), "token_error": error}
            print(precision, rows[precision], flush=True)
    machine = {"processor": processor(), "instructions": instructions(), "torch": torch.__version__}
    write_json(given.out, {"precisions": rows, "parts": parts(), "clips": given.clips, **machine})


def faces(folder: Path, count: int) -> list[FaceClip]:
    """Face clips of rendered videos."""
    manifest = render_benchmark(BenchmarkConfig(clips=count, seed=3), folder, workers=1)
    detector = build_detector("haar")
    found = [read_clip(record, detector)[0] for record in read_manifest(manifest)]
    return [clip for clip in found if clip is not None]


def timed(run: Callable[[], torch.Tensor], times: int) -> tuple[float, torch.Tensor]:
    """CPU seconds of one call, after one that warms up, and what it gave."""
    run()
    start = time.process_time()
    for _ in range(times):
        result = run()
    return (time.process_time() - start) / times, result


@torch.inference_mode()
def parts() -> dict[str, float]:
    """How many times faster bfloat16 is in a linear layer and in the attention, at the sizes of VideoMAE-B."""
    x, weight = torch.randn(2 * 1568, 768), torch.randn(3072, 768)
    heads = torch.randn(2, 12, 1568, 64)
    attention = torch.nn.functional.scaled_dot_product_attention
    rounded, weight_rounded, heads_rounded = x.bfloat16(), weight.bfloat16(), heads.bfloat16()
    return {
        "linear": timed(lambda: x @ weight.T, 5)[0] / timed(lambda: rounded @ weight_rounded.T, 5)[0],
        "attention": timed(lambda: attention(heads, heads, heads), 3)[0]
        / timed(lambda: attention(heads_rounded, heads_rounded, heads_rounded), 3)[0],
    }


def processor() -> str:
    """Name of the processor."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").is_file() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def instructions() -> list[str]:
    """Those of the processor for bfloat16 and int8."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").is_file() else ""
    return [name for name in ("avx512_bf16", "amx_bf16", "avx512_vnni", "amx_int8") if name in text.split()]


if __name__ == "__main__":
    main()
