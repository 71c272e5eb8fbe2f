"""Writing a release: official names, delimiters, encodings, line ends and nesting."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dferkit.errors import ConfigError, MissingExtraError
from dferkit.facs import load_facs
from dferkit.labels import BASIC, class_order
from dferkit.mini_release.faces import Scene, face_crops, render_scene, write_clip, write_pictures
from dferkit.mini_release.plan import Clip, plan_release
from dferkit.parallel import run_parallel
from dferkit.storage import write_text

MINI_LAYOUTS = ("dfew", "ferv39k", "mafw-single", "mafw-compound", "crema-d", "ravdess", "enterface", "afew", "folder")
_LISTED = ("dfew", "ferv39k", "mafw-single", "mafw-compound")
_SHORT_FRAMES = 11
_CHINESE = "一个人看着另一个人。"


@dataclass(frozen=True, kw_only=True, slots=True)
class MiniConfig:
    """A release to write.

    Attributes:
        layout: One of ``MINI_LAYOUTS``.
        clips_per_class: Test clips of each class and fold.
        num_frames: Frames of a clip; every tenth clip is shorter (11), as some of the real ones are.
        size: Side of the frames in pixels.
        is_full_size: As many clips as the real release, lists only.
        media: Kinds to write: ``faces`` (or ``frames``) and ``videos``; what a layout does not have is left out.
        with_votes: Also DFEW's spreadsheet of votes (needs the extra ``data``; its bytes differ from run to run).
    """

    layout: str
    clips_per_class: int = 2
    num_frames: int = 20
    size: int = 112
    seed: int = 0
    is_full_size: bool = False
    media: tuple[str, ...] = ("faces", "videos")
    with_votes: bool = False

    def __post_init__(self) -> None:
        if self.layout not in MINI_LAYOUTS:
            raise ConfigError(f"no mini-release of {self.layout!r}; choose {', '.join(MINI_LAYOUTS)}")
        if self.is_full_size and self.layout not in _LISTED:
            raise ConfigError(
                f"{self.layout} has no lists, so there is no full-size release of lists; choose {', '.join(_LISTED)}"
            )
        if self.clips_per_class < 1 or self.num_frames < _SHORT_FRAMES or not 48 <= self.size <= 512 or self.size % 2:
            raise ConfigError(
                f"clips per class {self.clips_per_class}, frames {self.num_frames}, size {self.size}; "
                f"give at least 1, at least {_SHORT_FRAMES}, and an even number from 48 to 512"
            )


def write_mini_release(
    config: MiniConfig,
    root: Path | str,
    *,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a release below ``root``, which must be empty or absent. Same configuration, same bytes (but for a spreadsheet).

    Raises:
        ConfigError: The folder holds something. MissingExtraError: Votes need an extra.
    """
    root = Path(root)
    if root.is_dir() and any(root.iterdir()):
        raise ConfigError(f"{root.name}/ is not empty; give a new folder")
    if config.with_votes and importlib.util.find_spec("openpyxl") is None:
        raise MissingExtraError("writing DFEW's annotation.xlsx", "data")
    root.mkdir(parents=True, exist_ok=True)
    layout = "afew" if config.layout == "folder" else config.layout  # the same plan, another form
    clips = plan_release(
        layout, clips_per_class=config.clips_per_class, is_full_size=config.is_full_size, seed=config.seed
    )
    if not config.is_full_size:
        jobs = [(config, str(root), number, clip) for number, clip in enumerate(clips)]
        for done, _ in enumerate(run_parallel(_write_media, jobs, workers or os.cpu_count() or 1), 1):
            if on_progress:
                on_progress(done, len(jobs))
    _LISTS.get(config.layout, lambda *_: None)(root, clips, config)
    return root


def _write_dfew(root: Path, clips: Sequence[Clip], config: MiniConfig) -> None:
    number = {label: i for i, label in enumerate(class_order("dfew"), 1)}
    base = root / "EmoLabel_DataSplit"
    for fold in "12345":
        for side, name in (("train", "train(single-labeled)"), ("test", "test(single-labeled)")):
            chosen = [clip for clip in clips if (clip.test_of == fold) == (side == "test")]
            # Both spellings of a number occur: spreadsheets drop its zeros.
            rows = [f"{clip.name if side == 'train' else int(clip.name)},{number[clip.label]}" for clip in chosen]
            write_text(base / name / f"set_{fold}.csv", "\n".join(["video_name,label", *rows]) + "\n")
    if config.with_votes:
        _write_votes(root / "Annotation" / "annotation.xlsx", clips, config)


def _write_votes(path: Path, clips: Sequence[Clip], config: MiniConfig) -> None:
    rng = np.random.default_rng([config.seed, 12])
    order = class_order("dfew")
    rows = []
    for clip in clips:
        votes = rng.multinomial(3, np.full(7, 1 / 7))
        votes[order.index(clip.label)] += 7
        rows.append([*votes.tolist(), int(clip.name), order.index(clip.label) + 1])
    rows.append([2, 2, 2, 1, 1, 1, 1, int(clips[-1].name) + 1, 0])  # a clip on which nobody agreed: in no list
    names = ("1happy", "2sad", "3neutral", "4angry", "5surprise", "6disgust", "7fear", "order", "annotation")
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=list(names)).to_excel(path, index=False)


def _write_ferv39k(root: Path, clips: Sequence[Clip], config: MiniConfig) -> None:
    base = root / "4_setups" / "All_scenes"
    for side in ("train", "test"):
        rows = [f"{clip.name} {clip.name.split('/')[1]}" for clip in clips if bool(clip.test_of) == (side == "test")]
        write_text(base / f"{side}_All.csv", "\n".join(rows) + "\n")


def _write_mafw(root: Path, clips: Sequence[Clip], config: MiniConfig) -> None:
    setting = config.layout.removeprefix("mafw-")
    captions = _captions()
    for fold in "12345":
        for side in ("train", "test"):
            chosen = [clip for clip in clips if (clip.test_of == fold) == (side == "test")]
            base = root / "Train & Test Set" / setting
            plain = "".join(f"{clip.name}.mp4 {clip.label}\r\n" for clip in chosen)
            told = "".join(
                f"{clip.name}.mp4\t{clip.label}\t{_CHINESE}\t{captions[clip.label.split('_')[0]]}\r\n"
                for clip in chosen
                if clip.label != "neutral"
            )
            for kind, text, encoding in (("no_caption", plain, "ascii"), ("with_caption", told, "gb18030")):
                path = base / kind / f"set_{fold}" / f"{side}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(text.encode(encoding))


def _captions() -> dict[str, str]:
    """One English sentence a class, of movements, as the release's people wrote them."""
    units = load_facs().action_units
    shown = {
        "anger": ("AU4", "AU7"), "disgust": ("AU9", "AU10"), "fear": ("AU5", "AU20"), "happiness": ("AU6", "AU12"), "sadness": ("AU1", "AU15"),
        "surprise": ("AU2", "AU26"), "contempt": ("AU14",), "anxiety": ("AU4", "AU20"), "helplessness": ("AU1", "AU17"), "disappointment": ("AU15", "AU17"),
    }  # fmt: skip
    return {
        label: "A person looks at the other. " + " ".join(f"The {units[name].phrases[0]}." for name in names)
        for label, names in shown.items()
    }


def _write_folder(root: Path, clips: Sequence[Clip], config: MiniConfig) -> None:
    rows = [
        f"videos/{number:04d}.mp4,{clip.label},{'test' if clip.test_of else 'train'},p{clip.person:02d}"
        for number, clip in enumerate(clips)
    ]
    write_text(root / "clips.csv", "\n".join(["video,label,split,subject", *rows]) + "\n")


_LISTS: dict[str, Callable[[Path, Sequence[Clip], MiniConfig], None]] = {
    "dfew": _write_dfew,
    "ferv39k": _write_ferv39k,
    "mafw-single": _write_mafw,
    "mafw-compound": _write_mafw,
    "folder": _write_folder,
}


def _write_media(job: tuple[MiniConfig, str, int, Clip]) -> None:
    config, root_name, number, clip = job
    root, layout = Path(root_name), config.layout
    length = _SHORT_FRAMES if number % 10 == 9 else config.num_frames
    label = clip.label if clip.label in BASIC else clip.label.split("_")[0]
    images = render_scene(Scene(label=label, person=clip.person, number=number, num_frames=length, seed=config.seed))
    fps = 12.0
    if layout == "dfew":
        if "faces" in config.media:
            crops = face_crops(images, config.size)
            names = [f"{clip.name}_{i + 1:05d}.jpg" for i in range(length)]
            write_pictures(root / "Clip" / "clip_224x224" / clip.name, crops, names)
            chosen = np.linspace(0, length - 1, 16).round().astype(int)
            interpolated = [crops[i] for i in chosen]
            write_pictures(
                root / "Clip" / "clip_224x224_16f" / clip.name, interpolated, [f"{i + 1}.jpg" for i in range(16)]
            )
        if "videos" in config.media:
            write_clip(root / "Clip" / "original" / f"{int(clip.name)}.mp4", images, fps)
    elif layout == "ferv39k":
        # Archives of this release unpack to a folder of the same name.
        base = root / "2_ClipsforFaceCrop" / "2_ClipsforFaceCrop"
        write_pictures(base / clip.name, face_crops(images, config.size), [f"{i}.jpg" for i in range(length)])
    elif layout.startswith("mafw"):
        if "faces" in config.media:
            write_pictures(root / "data" / "frames" / clip.name, list(images), [f"{i + 1}.png" for i in range(length)])
        if "videos" in config.media:
            write_clip(root / "data" / "clips" / f"{clip.name}.mp4", images, fps)
    elif layout == "afew":
        base = root / "AFEW_Face" / clip.name.replace("test/", "validation/")
        write_pictures(base, face_crops(images, config.size), [f"{i + 1:03d}.jpg" for i in range(length)])
    else:
        path = {
            "crema-d": f"VideoFlash/{clip.name}.flv",
            "ravdess": f"{clip.name}.mp4",
            "enterface": f"{clip.name}.avi",
            "folder": f"videos/{number:04d}.mp4",
        }[layout]
        write_clip(root / path, images, fps)
