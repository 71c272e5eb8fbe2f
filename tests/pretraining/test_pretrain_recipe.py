"""The whole pretraining on small shards: every stage runs, and the card describes every front end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from dferkit.encoders.front_end import FRONT_ENDS, front_end_of
from dferkit.encoders.landmarks import LandmarkEncoder
from dferkit.errors import ConfigError
from dferkit.facs import AU_NAMES
from dferkit.labels import BASIC
from dferkit.models.checkpoint import load_checkpoint
from dferkit.models.shipped import head_folder
from dferkit.pretraining.render import SUBJECTS_PER_SHARD
from dferkit.pretraining.rendered_faces import CROP_SIZE, PROFILES, read_shards, shard_name
from dferkit.recipes.pretrain import PretrainConfig, face_sets, pretrain
from dferkit.storage import read_json
from dferkit.synthetic.benchmark import ClipPlan, draw_clip, plan_clips
from dferkit.synthetic.identity import SKIN_TONES

FRAMES, PEOPLE = 16, (0, 1, 5)  # of every shard; among them are people for every purpose
CONFIG = PretrainConfig(
    visual_steps=2, landmark_steps=30, text_steps=2, head_epochs=1,
    **{name: 384 for name in PretrainConfig.__dataclass_fields__ if name.endswith("_clips")},
)  # fmt: skip


def write_shards(folder: Path) -> None:
    """Finished shards of a clip per person, with true movements and crops of noise; the recipe keeps them and renders nothing."""
    rng, template = np.random.default_rng(0), LandmarkEncoder().template
    movements = rng.standard_normal((len(AU_NAMES), *template.shape)) * 0.03
    for name, parts in face_sets(CONFIG).items():
        for part, config in enumerate(parts):
            for number in range(-(-config.num_subjects // SUBJECTS_PER_SHARD)):
                of_person: dict[int, list[ClipPlan]] = {}
                for plan in plan_clips(config):
                    if plan.subject // SUBJECTS_PER_SHARD == number and plan.subject % SUBJECTS_PER_SHARD in PEOPLE:
                        of_person.setdefault(plan.subject, []).append(plan)
                plans = [clips[person % len(clips)] for person, clips in of_person.items()]
                au = np.stack([draw_clip(config, plan).au for plan in plans])
                points = template + np.einsum("cfa,apd->cfpd", au.astype(float), movements)
                landmarks = (points * 20 + 60).astype(np.float32)
                landmarks[:1] = np.nan  # no face was found in one clip of every shard
                heat = rng.random((len(plans), len(AU_NAMES), 8, 8))
                (folder / name).mkdir(parents=True, exist_ok=True)
                save_file(
                    {
                        "crops": rng.integers(0, 255, (len(plans), FRAMES, CROP_SIZE, CROP_SIZE, 3)).astype(np.uint8),
                        "au": au.astype(np.float16),
                        "label": np.array([BASIC.index(plan.label) for plan in plans]),
                        "subject": np.array([plan.subject for plan in plans]),
                        "tone": rng.integers(len(SKIN_TONES), size=len(plans)),
                        "profile": np.full(len(plans), PROFILES.index(config.profile)),
                        "heat": (heat / heat.max((2, 3), keepdims=True)).astype(np.float16),
                        "landmarks": landmarks,
                        "boxes": np.tile(np.array((20, 20, 80, 80), np.float32), (len(plans), FRAMES, 1)),
                    },
                    folder / name / shard_name(part, number, has_landmarks=True),
                )  # fmt: skip


def test_every_stage_runs_and_the_card_describes_every_front_end(tmp_path: Path) -> None:
    write_shards(tmp_path / "work")
    stages: list[str] = []
    box = pretrain(
        tmp_path, CONFIG, landmarker="none", workers=1, on_progress=lambda stage, *rest: stages.append(stage)
    )
    assert list(dict.fromkeys(stages)) == [
        "faces, network", "landmark network", "video network", "text encoder",
        "faces, heads", "faces, held", "faces, measure", "faces, measure_large",
        *(f"{stage}, {name}" for name in FRONT_ENDS.values() for stage in ("words and tokens", "head")),
    ]  # fmt: skip
    card = read_json(box / "card.json")
    assert set(card["front_ends"]) == set(FRONT_ENDS.values())
    held = read_shards(sorted((tmp_path / "work" / "held").iterdir()))
    assert card["clips"]["calibration"] == (held.subject % 5 == 0).sum()
    assert card["clips"]["calibration"] + card["clips"]["held"] == len(held)
    assert card["front_ends"]["box"]["no_landmarks"] == 0
    assert 0 < card["front_ends"]["landmarks"]["no_landmarks"] < 0.5
    for name in FRONT_ENDS.values():
        head = load_checkpoint(head_folder(box, front_end_of(name)))
        assert head.about["encoder"] == name
        assert 0 <= card["front_ends"][name]["held_back"]["uar"] <= 1
        assert card["front_ends"][name]["temperature"] == head.temperature
    with pytest.raises(ConfigError, match="another run"):
        pretrain(tmp_path, PretrainConfig(seed=1), landmarker="none", workers=1)


@pytest.mark.gpu
def test_every_stage_runs_on_a_gpu_and_leaves_its_results_on_the_cpu(tmp_path: Path) -> None:
    write_shards(tmp_path / "work")
    box = pretrain(tmp_path, CONFIG, landmarker="none", workers=1, device="cuda:0")
    for name in FRONT_ENDS.values():
        model = load_checkpoint(head_folder(box, front_end_of(name))).model
        assert {value.device.type for value in model.state_dict().values()} == {"cpu"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"held_clips": 10}, "held_clips is 10; give at least 384"),
        ({"start": "videomae"}, "choose none, box"),
        ({"head_epochs": 0}, "head_epochs is 0; give at least 1"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PretrainConfig(**wrong)
