"""Duplicates by bytes and by looks."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.fft import dctn

from dferkit.inspection import check_release
from dferkit.inspection.contents import (
    NUM_HASHES,
    digest_clip,
    hash_clip,
    near_duplicates,
    perceptual_hash,
    same_bytes,
)
from dferkit.mini_release import MiniConfig, write_mini_release
from dferkit.schema import Record


def picture(seed: int, size: int = 64) -> np.ndarray:
    """Smooth random greys."""
    noise = np.random.default_rng(seed).normal(size=(size, size)).astype(np.float32)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 6), np.empty(0), 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def write_clip(folder: Path, pictures: list[np.ndarray], quality: int = 90) -> Path:
    folder.mkdir()
    for i, grey in enumerate(pictures, 1):
        cv2.imwrite(
            str(folder / f"{i}.jpg"), cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
        )
    return folder


def test_hash_is_that_of_the_cosine_transform() -> None:
    """Against SciPy's transform, bit by bit."""
    image = picture(3)
    small = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float64)
    low = dctn(small, norm="ortho")[:8, :8].ravel()
    bits = low > np.median(low[1:])
    assert perceptual_hash(image) == int("".join("1" if bit else "0" for bit in bits), 2)


def test_looks_survive_compression_and_size_and_differ_between_pictures(tmp_path: Path) -> None:
    frames = [picture(i) for i in range(12)]
    same = write_clip(tmp_path / "a", frames)
    again = write_clip(tmp_path / "b", [cv2.resize(f, (50, 50)) for f in frames], quality=60)
    other = write_clip(tmp_path / "c", [picture(100 + i) for i in range(12)])
    hashes = {folder.name: hash_clip(folder) for folder in (same, again, other)}
    assert all(h is not None and len(h) == NUM_HASHES for h in hashes.values())
    pairs = near_duplicates({k: v for k, v in hashes.items() if v is not None}, lambda a, b: True)
    assert [(a, b) for a, b, _ in pairs] == [("a", "b")]
    assert near_duplicates({k: v for k, v in hashes.items() if v is not None}, lambda a, b: False) == []


def test_frames_are_read_in_natural_order(tmp_path: Path) -> None:
    """1, 2, …, 10: not 1, 10, 2. The digest is that of the bytes in this order."""
    folder = write_clip(tmp_path / "a", [picture(i) for i in range(12)])
    whole = hashlib.sha256(b"".join((folder / f"{i}.jpg").read_bytes() for i in range(1, 13)))
    assert digest_clip(folder) == whole.hexdigest()


def test_equal_bytes_under_other_names(tmp_path: Path) -> None:
    frames = [picture(i) for i in range(3)]
    write_clip(tmp_path / "a", frames)
    write_clip(tmp_path / "b", frames[::-1])
    write_clip(tmp_path / "c", frames)
    for i in (3, 2, 1):
        (tmp_path / "c" / f"{i}.jpg").rename(tmp_path / "c" / f"frame_{i:03d}.jpg")
    records = [Record(clip_id=name, video=tmp_path / name) for name in ("a", "b", "c", "gone")]
    assert same_bytes(records) == [("a", "c")]


def test_a_clip_that_cannot_be_read_has_no_hash(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"no video")
    (tmp_path / "empty").mkdir()
    assert hash_clip(tmp_path / "x.mp4") is None
    assert hash_clip(tmp_path / "empty") is None
    assert near_duplicates({}, lambda a, b: pytest.fail("nothing to compare")) == []


def test_a_video_that_cannot_be_decoded_is_no_clean_release(tmp_path: Path) -> None:
    """Every file is there and not empty, and yet nobody can read one of them."""
    write_mini_release(
        MiniConfig(layout="crema-d", clips_per_class=1, num_frames=12, size=64), tmp_path / "r", workers=2
    )
    assert check_release("crema-d", tmp_path / "r").is_clean
    broken = sorted((tmp_path / "r" / "VideoFlash").iterdir())[4]
    broken.write_bytes(b"FLV\x01" + bytes(300))
    found = [f for f in check_release("crema-d", tmp_path / "r").findings if f.severity == "error"]
    assert [(f.code, f.where) for f in found] == [("CLIP_UNREADABLE", f"VideoFlash/{broken.name}")]
    assert broken.name in found[0].message
