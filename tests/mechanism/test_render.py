"""Tasks as files: real videos, whose tokens are those of the faces in them, in the right places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from dferkit.encoders.box import BOX_FOLDER, BoxEncoder
from dferkit.faces import HaarDetector, track_faces, warp_face
from dferkit.facs import AU_NAMES
from dferkit.mechanism.grid import Cell
from dferkit.mechanism.render import GRID, TaskData, prepare_tasks, read_side
from dferkit.mechanism.tasks import QUESTIONS, TASKS, draw_video
from dferkit.mechanism.train import Budget, answer_task, build_model, fit_space, localise
from dferkit.models.joint_space import load_joint_space
from dferkit.schema import DecodeReport, Frames
from dferkit.video import clip_window, decode_source, index_source

DATA = TaskData(train_videos=12, test_videos=12)
BUDGET = Budget(steps=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mechanism")
    prepare_tasks(out, ["which_when", "two_faces"], DATA, box=BOX_FOLDER, workers=1)
    return out


def test_clips_are_captions_of_videos_first_captions_first(folder: Path) -> None:
    side = read_side(folder, TASKS["which_when"], "train", DATA)
    clips = side.clips
    videos = len(clips) // QUESTIONS
    assert len({r.clip_id for r in clips.records}) == len(clips)
    assert len({r.clip_id.rsplit("-", 1)[0] for r in clips.records[:videos]}) == videos
    assert clips.visual_in_memory().shape[1:] == (8, 16, 96)
    assert clips.grid == GRID
    for record, caption, target, texts in zip(
        clips.records, side.captions, clips.target, clips.texts or (), strict=True
    ):
        number, question = (int(part) for part in record.clip_id.split("-")[1:])
        truth = draw_video(TASKS["which_when"], "train", 0, number)[1][question]
        assert (caption, clips.labels[target]) == (truth.caption, truth.label)
        assert "".join(texts.pieces).replace(".", "") == truth.caption.text.replace(" ", "").replace(".", "")


def test_faces_stand_side_by_side_in_the_tokens(folder: Path) -> None:
    """The left half of the picture, read by itself, gives the left half of the tokens."""
    clips = read_side(folder, TASKS["two_faces"], "test", DATA).clips
    assert clips.grid == (4, 8)
    record = clips.records[0]
    source = index_source(record.video)
    (frames,) = decode_source(source, [clip_window(source.duration_seconds)])
    half = frames.images.shape[2] // 2
    box = BoxEncoder(BOX_FOLDER)
    for side, columns in ((slice(0, half), slice(0, 4)), (slice(half, None), slice(4, 8))):
        alone = Frames(
            images=np.ascontiguousarray(frames.images[:, :, side]), timestamps=frames.timestamps, indices=frames.indices,
            start_seconds=0.0, end_seconds=2.0, report=DecodeReport(num_requested=16, num_decoded=16),
        )  # fmt: skip
        (track,) = track_faces(alone, HaarDetector())
        (reading,) = box.read([warp_face(alone, track)])
        wanted = reading.tokens.values.unflatten(1, (4, 2, 4, 2)).mean((2, 4))
        found = clips.visual_in_memory()[0].float().unflatten(1, (4, 8))[:, :, columns]
        near = torch.nn.functional.cosine_similarity(wanted.flatten(), found.flatten(), dim=0)
        far = torch.nn.functional.cosine_similarity(
            wanted.flatten(),
            clips.visual_in_memory()[0].float().unflatten(1, (4, 8)).flip(2)[:, :, columns].flatten(),
            dim=0,
        )
        assert near > 0.9 > far, (near, far)


def test_what_is_there_is_kept(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    prepare_tasks(folder, ["which_when", "two_faces"], DATA, box=BOX_FOLDER, workers=1)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "cell",
    [Cell(), Cell(aligner="learned mass"), Cell(unit="sentence"), Cell(start="contrastive"), Cell(control="text only"), Cell(control="no alignment"),
     Cell(control="video only"), Cell(control="shuffled captions")],
    ids=lambda cell: cell.name,
)  # fmt: skip
def test_every_kind_of_cell_answers_every_test_clip_the_same_each_time(folder: Path, cell: Cell) -> None:
    sides = [read_side(folder, TASKS["which_when"], side, DATA) for side in ("train", "test")]
    one, again = (answer_task(sides[0], sides[1], cell, 1, BUDGET) for _ in range(2))
    assert len(one.predicted) == len(sides[1].clips)
    assert np.array_equal(one.predicted, again.predicted)
    assert bool(one.localisation) == (not cell.control)


def test_a_joint_space_of_one_face_starts_both_faces_alike(folder: Path) -> None:
    side = read_side(folder, TASKS["two_faces"], "train", DATA)
    pooled = load_joint_space(BOX_FOLDER / "joint.safetensors")
    pooled["place"] = pooled["place"].unflatten(2, (4, 2, 4, 2)).mean((3, 5)).flatten(2, 3)
    cell = Cell(start="true maps")
    model = build_model(cell, side.clips, BUDGET)
    model.space.start_from(fit_space(pooled, model))
    place = model.space.place[0, 0].unflatten(0, (4, 8))
    assert torch.equal(place[:, :4], place[:, 4:])
    assert torch.equal(place[:, :4].flatten(0, 1), pooled["place"][0, 0].float())


def test_localisation_of_the_true_map_is_the_best_there_is(folder: Path) -> None:
    side = read_side(folder, TASKS["which_when"], "test", DATA)
    assert side.heat is not None
    maps = torch.stack(
        [h[AU_NAMES.index(c.phrases[0].action_unit)] for h, c in zip(side.heat, side.captions, strict=True)]
    )
    inside = (maps >= 0.5 * maps.amax(1, keepdim=True)).float()
    exact, flat = localise(inside, side), localise(torch.ones_like(maps), side)
    assert exact["mass_inside"] == pytest.approx(1.0)
    assert flat["times_uniform"] == pytest.approx(1.0)
    assert exact["times_shuffled"] > 2


def test_shards_hold_no_more_than_tokens_and_truth(folder: Path) -> None:
    found = load_file(next((folder / "which_when" / "tokens").glob("test-0*.safetensors")))
    assert set(found) == {"visual", "heat", "kept"}


def test_without_alignment_every_phrase_reads_all_tokens_alike(folder: Path) -> None:
    side = read_side(folder, TASKS["which_when"], "test", DATA)
    model = build_model(Cell(control="no alignment"), side.clips, BUDGET).eval()
    plan = model(side.clips.batch(np.arange(4))).alignment.plan
    live = plan[0][plan[0].sum(1) > 0]
    assert torch.allclose(live, live.mean(), rtol=2e-3)


def test_the_loss_trains_a_learned_mass_and_leaves_the_shipped_one(folder: Path) -> None:
    """The gradient of the mass layer against a difference quotient, and none without the setting."""
    side = read_side(folder, TASKS["which_when"], "train", DATA)
    batch = side.clips.batch(np.arange(8))
    model = build_model(Cell(aligner="learned mass"), side.clips, Budget(dropout=0.0)).train()
    weight = model.space.mass.weight

    def loss() -> torch.Tensor:
        return model.loss(model(batch), batch.target)

    loss().backward()
    direction = torch.randn_like(weight)
    step = 1e-2 * direction / direction.norm()
    with torch.no_grad():
        weight += step
        above = loss()
        weight -= 2 * step
        below = loss()
        weight += step
    assert weight.grad is not None
    assert float((above - below) / 2) == pytest.approx(float((weight.grad * step).sum()), rel=0.05, abs=1e-6)
    held = build_model(Cell(start="true maps"), side.clips, Budget(dropout=0.0)).train()
    held.loss(held(batch), batch.target).backward()
    assert held.space.mass.weight.grad is None
