"""Tasks as real video files, and their tokens: rendered, decoded, faces found and cut, encoded by the bundled video network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from einops import reduce
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from dferkit.checks import check_range
from dferkit.encoders.box import BoxEncoder
from dferkit.encoders.text import TextEncoder
from dferkit.errors import DataError
from dferkit.evaluation.claims import on_crop
from dferkit.faces import HaarDetector
from dferkit.faces.read import WindowFaces, read_faces
from dferkit.mechanism.tasks import FPS, QUESTIONS, SIDES, TASKS, Task, draw_people, draw_video, person_name
from dferkit.parallel import run_parallel
from dferkit.schema import Caption, FaceClip, Record
from dferkit.storage import atomic_path
from dferkit.synthetic.flow import motion_truth
from dferkit.synthetic.render import render_frames
from dferkit.synthetic.write import write_video
from dferkit.tokens.dataset import TokenDataset
from dferkit.tokens.files import load_texts, save_texts
from dferkit.video import index_source, plan_windows

_SIZE = 112  # pixels
_VIDEOS_PER_SHARD = 24
GRID, POOLED = (4, 4), 2
"""Patches of a face as the models read them, and how many of the encoder's, per side, are averaged to one: the whole grid of models is trained on CPUs."""
_STEPS_OF_WINDOW, _STEPS_OF_LONG = 8, 4  # token steps of two seconds, in a video of one window and of several


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskData:
    """Size of every task.

    Attributes:
        train_videos, test_videos: Videos of each side. One caption of one video is a clip, so there are four times as many clips.
        seed: Another seed gives other people and other videos.
    """

    train_videos: int = 400
    test_videos: int = 150
    seed: int = 0

    def __post_init__(self) -> None:
        check_range(self, "train_videos", "test_videos", least=12)
        check_range(self, "seed", least=0)

    def videos(self, side: str) -> int:
        """Videos of one side."""
        return self.train_videos if side == "train" else self.test_videos


def prepare_tasks(
    folder: Path,
    tasks: Sequence[str],
    data: TaskData,
    *,
    box: Path,
    workers: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Videos, tokens and captions of the tasks; what is there is kept, so the same call resumes."""
    jobs = [
        (name, side, data.seed, first, min(first + _VIDEOS_PER_SHARD, videos), str(folder), str(box))
        for name in tasks
        for side in SIDES
        for videos in [data.videos(side)]
        for first in range(0, videos, _VIDEOS_PER_SHARD)
    ]
    done, total = 0, sum(job[4] - job[3] for job in jobs)
    for count in run_parallel(_make_shard, jobs, workers, in_order=False):
        done += count
        if on_progress:
            on_progress(done, total)
    encoder = None
    for name in tasks:
        for side in SIDES:
            path = _captions_path(folder, name, side)
            if not path.is_file():
                encoder = encoder or TextEncoder(box / "text")
                numbers = range(data.videos(side))
                captions = [q.caption for i in numbers for q in draw_video(TASKS[name], side, data.seed, i)[1]]
                save_texts(encoder.encode_captions(captions), path)


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskSide:
    """Clips of one side of a task, the first captions of all videos before the second ones.

    Attributes:
        captions: Of the clips. heat: (clips, AUs, patches) how far each action unit moves what a patch shows; None where it is not kept.
    """

    clips: TokenDataset
    captions: tuple[Caption, ...]
    heat: Tensor | None


def read_side(folder: Path, task: Task, side: str, data: TaskData) -> TaskSide:
    """All clips of one side.

    Raises:
        DataError: In no video all faces were found.
    """
    videos = data.videos(side)
    texts = load_texts(_captions_path(folder, task.name, side))
    tokens, heat, kept = [], [], []
    for first in range(0, videos, _VIDEOS_PER_SHARD):
        with safe_open(_shard_path(folder, task.name, side, first), framework="pt") as handle:
            tokens.append(handle.get_tensor("visual"))
            heat.append(handle.get_tensor("heat"))
            kept += (first + handle.get_tensor("kept")).tolist()
    if not kept:
        raise DataError(f"{task.name}: the faces of no {side} video were found")
    asked = [draw_video(task, side, data.seed, i)[1] for i in kept]
    order = [(row, q) for q in range(QUESTIONS) for row in range(len(kept))]
    records = tuple(
        Record(
            clip_id=f"{side}-{kept[row]:05d}-{q}",
            video=_video_path(folder, task.name, side, kept[row]),
            label=asked[row][q].label,
            split=side,
            subject=person_name(task, side, data.seed, kept[row]),
        )
        for row, q in order
    )
    visual = torch.cat(tokens)
    steps, rows = visual.shape[1], torch.tensor([row for row, _ in order])
    clips = TokenDataset(
        records=records,
        labels=task.labels,
        target=np.array([task.labels.index(str(r.label)) for r in records]),
        groups=np.array([r.subject for r in records]),
        visual=visual[rows],
        texts=tuple(texts[kept[row] * QUESTIONS + q] for row, q in order),
        units=np.zeros((len(records), steps, 0), np.float32),
        timestamps=np.tile((np.arange(steps) + 0.5) * task.seconds / steps, (len(records), 1)),
        view=np.zeros(len(records), np.int64),
        grid=(GRID[0], GRID[1] * task.faces),
        encoder=BoxEncoder.name,
    )
    return TaskSide(
        clips=clips,
        captions=tuple(asked[row][q].caption for row, q in order),
        heat=torch.cat(heat)[rows] if task.has_places else None,
    )


def _shard_path(folder: Path, task: str, side: str, first: int) -> Path:
    return folder / task / "tokens" / f"{side}-{first:05d}.safetensors"


def _captions_path(folder: Path, task: str, side: str) -> Path:
    return folder / task / "tokens" / f"{side}-captions.safetensors"


def _video_path(folder: Path, task: str, side: str, number: int) -> Path:
    return folder / task / "videos" / f"{side}-{number:05d}.mp4"


def _make_shard(job: tuple[str, str, int, int, int, str, str]) -> int:
    """Videos and tokens of some numbers; runs in a worker."""
    name, side, seed, first, last, out, box = job
    task, folder = TASKS[name], Path(out)
    path = _shard_path(folder, name, side, first)
    if path.is_file():
        return last - first
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    detector, encoder = HaarDetector(), BoxEncoder(box)
    kept, rows, heat = [], [], []
    for number in range(first, last):
        video = _video_path(folder, name, side, number)
        if not video.is_file():
            write_video(video, _draw(task, side, seed, number), FPS)
        found = _read(task, video, detector)
        if found is not None:
            rows.append(_join([reading.tokens.values for reading in encoder.read(found)], task).half())
            heat.append(
                torch.from_numpy(_heat(task, side, seed, number, found[0])) if task.has_places else torch.zeros(0)
            )
            kept.append(number - first)
    tensors = {"visual": rows, "heat": heat}
    with atomic_path(path) as temporary:
        stacked = {name: torch.stack(values) if values else torch.zeros(0) for name, values in tensors.items()}
        save_file({**stacked, "kept": torch.tensor(kept, dtype=torch.int64)}, temporary)
    return last - first


def _draw(task: Task, side: str, seed: int, number: int) -> np.ndarray:
    """Frames of a video, faces side by side."""
    faces, _ = draw_video(task, side, seed, number)
    people = draw_people(task, side, seed, number)
    pictures = [
        render_frames(person, face.au, face.asymmetry, face.scene, size=_SIZE, noise_seed=number * task.faces + place)
        for place, (person, face) in enumerate(zip(people, faces, strict=True))
    ]
    return np.concatenate(pictures, 2)


def _read(task: Task, video: Path, detector: HaarDetector) -> list[FaceClip] | None:
    """Face clips, window by window and in each from left to right; None where a window has fewer faces than the task."""
    source = index_source(video)
    clips: list[FaceClip] = []
    people = "all" if task.faces > 1 else "largest"
    for window in read_faces(source, plan_windows(source.duration_seconds), detector, people=people):
        found = _from_left(window)[: task.faces]
        if len(found) < task.faces:
            return None
        clips += found
    return clips


def _from_left(window: WindowFaces) -> list[FaceClip]:
    return sorted(window.clips, key=lambda clip: float(np.nanmean(clip.track.boxes[:, 0])))


def _join(tokens: Sequence[Tensor], task: Task) -> Tensor:
    """Tokens of the whole video (steps, patches, dim): windows one after the other, faces side by side, patches averaged two by two."""
    windows = len(tokens) // task.faces
    faces = torch.stack(list(tokens)).unflatten(0, (windows, task.faces))
    pooled = reduce(faces, "w f t (r a c b) d -> w t r (f c) d", "mean", a=POOLED, b=POOLED, r=GRID[0])
    steps = _STEPS_OF_LONG if windows > 1 else _STEPS_OF_WINDOW
    return reduce(pooled, "w (t k) r c d -> (w t) (r c) d", "mean", t=steps)


def _heat(task: Task, side: str, seed: int, number: int, clip: FaceClip) -> np.ndarray:
    """How far each action unit moves what each cell of the crop shows (AUs, patches)."""
    faces, _ = draw_video(task, side, seed, number)
    truth = motion_truth(draw_people(task, side, seed, number)[0], faces[0], size=_SIZE).heat
    cells = on_crop(truth, np.nanmean(clip.track.boxes, 0), (_SIZE, _SIZE), GRID)
    return cells.reshape(len(cells), -1).astype(np.float32)
