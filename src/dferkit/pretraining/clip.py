"""A small CLIP with a convolution stem, trained on rendered faces and texts, so that models on CLIP can be tried without a download.

Within an hour on a laptop a vision transformer learns nothing about faces from a contrastive loss alone. Three additions make it learn: its patches
come from convolutions that start from the first layers of the bundled video network; its image vector predicts the action units; and the difference
of a frame's vector from the mean of its clip predicts the difference of the action units, with the person's own face as zero.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from dferkit.checks import check_counts, check_range
from dferkit.encoders.box import BOX_FOLDER, BoxEncoder
from dferkit.errors import ConfigError
from dferkit.evaluation.metrics import confusion_matrix, uar
from dferkit.facs import AU_NAMES, load_facs
from dferkit.labels import BASIC
from dferkit.models.coarse import fit_coarse, unit_statistics
from dferkit.pretraining.loop import (
    Progress,
    Resumable,
    Schedule,
    autocast,
    minimise,
    seed_step,
)
from dferkit.pretraining.rendered_faces import NETWORK_SIZE, PROFILES, RenderedFaces
from dferkit.pretraining.video import augment, network_input
from dferkit.storage import digest_arrays, read_json, write_json
from dferkit.training.loop import rate_of_cycle

_LEAST_DESCRIBED = 0.2  # a weaker movement is not described
_MOST_DESCRIBED = 4  # movements
_STILL = "a still face"
_TEXT_HEADS = 4
_MOST_SCALE = 100.0
_WARMUP_SHARE, _REPORT_EVERY = 0.05, 25


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipPretrainingConfig:
    """Size of the towers, and length and speed of the training.

    Attributes:
        width, layers, heads: Of the vision tower. text_width, text_layers: Of the text tower. dim: Of the common space.
        patch: Side in pixels, a multiple of 8. clips, frames: Clips of a step, and frames of each.
        weight_units, weight_change, weight_words: Of the three losses.
    """

    width: int = 192
    layers: int = 4
    heads: int = 4
    patch: int = 16
    text_width: int = 64
    text_layers: int = 2
    dim: int = 128
    steps: int = 9000
    clips: int = 24
    frames: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    weight_units: float = 8.0
    weight_change: float = 16.0
    weight_words: float = 0.3
    seed: int = 0
    threads: int = 1
    save_every: int = 250

    def __post_init__(self) -> None:
        if self.patch < 8 or self.patch % 8 or NETWORK_SIZE % self.patch:
            raise ConfigError(f"patch is {self.patch}; give a multiple of 8 that divides {NETWORK_SIZE}")
        check_counts(self, "layers", "heads", "text_layers", "dim", "steps", "clips", "frames", "threads", "save_every")
        check_range(self, "learning_rate", "weight_decay", least=0, below=1)
        check_range(self, "weight_units", "weight_change", "weight_words", "seed", least=0)
        for name, heads in (("width", self.heads), ("text_width", _TEXT_HEADS)):
            if getattr(self, name) < 1 or getattr(self, name) % heads:
                raise ConfigError(f"{name} is {getattr(self, name)}; give a multiple of its {heads} attention heads")


class _Student(nn.Module):
    """CLIP, and linear layers from its vectors to the truth that serve the training only."""

    def __init__(self, clip: nn.Module, config: ClipPretrainingConfig) -> None:
        super().__init__()
        self.clip = clip
        self.units = nn.Linear(config.dim, len(AU_NAMES))
        self.change = nn.Linear(config.dim, len(AU_NAMES), bias=False)


def new_clip(config: ClipPretrainingConfig, folder: Path) -> Any:
    """An untrained CLIP with the tokenizer of the box; ``folder`` gets the tokenizer's files."""
    from transformers import CLIPConfig, CLIPTextConfig, CLIPVisionConfig

    from dferkit.encoders.conv_stem import STEM_WIDTHS, StemmedClip

    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(BOX_FOLDER / "text" / "tokenizer.json", folder)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    write_json(folder / "preprocessor_config.json", {"image_mean": [0.5, 0.5, 0.5], "image_std": [1.0, 1.0, 1.0]})
    words = read_json(folder / "tokenizer.json")["model"]["vocab"]
    vision = CLIPVisionConfig(
        hidden_size=config.width, intermediate_size=2 * config.width, num_hidden_layers=config.layers, num_attention_heads=config.heads,
        image_size=NETWORK_SIZE, patch_size=config.patch,
    )  # fmt: skip
    text = CLIPTextConfig(
        hidden_size=config.text_width, intermediate_size=2 * config.text_width, num_hidden_layers=config.text_layers, num_attention_heads=_TEXT_HEADS,
        vocab_size=len(words), bos_token_id=words["[CLS]"], eos_token_id=words["[SEP]"], pad_token_id=words["[PAD]"],
    )  # fmt: skip
    torch.manual_seed(config.seed)
    clip = StemmedClip(
        CLIPConfig(
            text_config=text.to_dict(),
            vision_config=vision.to_dict() | {"conv_stem": list(STEM_WIDTHS)},
            projection_dim=config.dim,
        )
    )
    stem: Any = clip.vision_model.embeddings.patch_embedding
    stem.start_from(BoxEncoder(BOX_FOLDER).net)
    return clip


def pretrain_clip(
    data: RenderedFaces,
    folder: Path,
    work: Path,
    config: ClipPretrainingConfig | None = None,
    *,
    device: str = "cpu",
    on_progress: Progress | None = None,
) -> dict[str, float]:
    """Train, and write the CLIP into ``folder``; the same call resumes from ``work`` after an interruption.

    Returns:
        UAR of a linear probe on the frame features of held-out people, by profile.
    """
    config = config or ClipPretrainingConfig()
    torch.set_num_threads(config.threads)
    student = _Student(new_clip(config, folder), config).to(device)
    faces = digest_arrays({"crops": data.crops, "label": data.label, "subject": data.subject, "au": data.au})
    settings = {**asdict(config), "faces": faces}
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    train, held = data.split_subjects()

    def loss(step: int) -> Tensor:
        rng = np.random.default_rng([config.seed, step])
        seed_step(config.seed, step)
        video, units = _frames(data, rng.choice(train, config.clips, replace=False), config, rng)
        student.train()
        texts = [describe_frame(frame, rng) for frame in units.flatten(0, 1).numpy()]
        ids = _ids(texts, tokenizer).to(device)
        with autocast(device):
            return _loss(student, video.to(device), units.to(device), texts, ids, config)

    minimise(
        loss,
        list(student.parameters()),
        Schedule(
            steps=config.steps,
            rate=lambda step: config.learning_rate * rate_of_cycle(step / config.steps, _WARMUP_SHARE),
            weight_decay=config.weight_decay,
            report_every=_REPORT_EVERY,
        ),
        state=Resumable(folder=work, modules={"model": student}, settings=settings, every=config.save_every),
        after_step=lambda step: _limit_scale(student.clip),
        on_progress=on_progress,
    )
    clip: Any = student.clip.cpu().eval()
    clip.save_pretrained(folder)
    figures = probe(clip, data, train, held)
    write_json(folder / "card.json", {**settings, **figures, "clips": len(train)})
    return figures


@torch.no_grad()
def _limit_scale(clip: Any) -> None:
    """Keep the contrastive scale at 100 or less. The parameter itself is limited: a limit on its exponential would have no gradient above it."""
    clip.logit_scale.clamp_(max=math.log(_MOST_SCALE))


def _frames(
    data: RenderedFaces, chosen: np.ndarray, config: ClipPretrainingConfig, rng: np.random.Generator
) -> tuple[Float[Tensor, "clips frames 3 size size"], Float[Tensor, "clips frames aus"]]:
    """Some frames of some clips, augmented alike within a clip, in [-0.5, 0.5]."""
    videos, units = [], []
    for clip in chosen:
        some = np.sort(rng.choice(data.crops.shape[1], config.frames, replace=False))
        videos.append(torch.from_numpy(augment(data.crops[clip, some], rng)))
        units.append(torch.from_numpy(data.au[clip, some].astype(np.float32)))
    return torch.stack(videos), torch.stack(units)


def _loss(
    student: _Student,
    video: Tensor,
    units: Tensor,
    texts: list[str],
    ids: Tensor,
    config: ClipPretrainingConfig,
) -> Tensor:
    clip: Any = student.clip
    frames = rearrange(video, "b t c h w -> (b t) c h w")
    seen = clip.vision_model(pixel_values=frames)
    vectors = rearrange(clip.visual_projection(seen.pooler_output).float(), "(b t) d -> b t d", b=len(video))
    weight = 1 + 4 * units
    direct = ((student.units(vectors) - units).square() * weight).mean()
    change, truth = vectors - vectors.mean(1, keepdim=True), units - units.mean(1, keepdim=True)
    moved = ((student.change(change) - truth).square() * weight).mean()
    words = clip.text_projection(clip.text_model(input_ids=ids).pooler_output).float()
    matched = _contrast(vectors.flatten(0, 1), words, texts, clip.logit_scale.exp())
    return config.weight_units * direct + config.weight_change * moved + config.weight_words * matched


def describe_frame(units: Float[np.ndarray, " aus"], rng: np.random.Generator) -> str:
    """The strongest movements of a frame, each in one of the wordings of the FACS tables."""
    facs, order = load_facs(), np.argsort(-units)
    described = [AU_NAMES[i] for i in order[:_MOST_DESCRIBED] if units[i] >= _LEAST_DESCRIBED]
    if not described:
        return _STILL
    return "a face: " + ", ".join(str(rng.choice(facs.action_units[name].phrases)) for name in described)


def _ids(texts: list[str], tokenizer: Tokenizer) -> Int[Tensor, "texts tokens"]:
    """Token ids with start and end; the rest is padding, which causal attention does not reach."""
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    longest, pad = max(map(len, encoded)), tokenizer.token_to_id("[PAD]")
    return torch.tensor([ids + [pad] * (longest - len(ids)) for ids in encoded])


def _contrast(images: Tensor, words: Tensor, texts: list[str], scale: Tensor) -> Tensor:
    """Contrastive loss in both directions; frames with the same text count as one, and each gets an equal share of its target."""
    numbers = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    own = torch.tensor([numbers[text] for text in texts], device=images.device)
    same = (own[:, None] == own).float()
    logits = scale * F.normalize(images, dim=-1) @ F.normalize(words, dim=-1).T
    share = same / same.sum(1, keepdim=True)
    return -0.5 * ((share * logits.log_softmax(1)).sum(1).mean() + (share * logits.T.log_softmax(1)).sum(1).mean())


def probe(clip: Any, data: RenderedFaces, train: np.ndarray, held: np.ndarray) -> dict[str, float]:
    """UAR of a linear model on mean, maximum, minimum and spread over time of the frame features, minus the clip's own mean."""

    @torch.no_grad()
    def features(chosen: np.ndarray) -> np.ndarray:
        rows = []
        for clips in np.array_split(chosen, max(len(chosen) // 32, 1)):
            video = network_input(data.crops[clips])
            seen = clip.visual_projection(clip.vision_model(pixel_values=video.flatten(0, 1)).pooler_output)
            rows.append(seen.unflatten(0, video.shape[:2]).float().numpy())
        return np.concatenate(rows).astype(np.float64)

    def statistics(values: np.ndarray) -> np.ndarray:
        return np.concatenate([unit_statistics(values - values.mean(1, keepdims=True)), values.mean(1)], -1)

    result = {}
    for name in PROFILES:
        is_chosen = data.of_profile(name)
        fit, test = train[is_chosen[train]][:1500], held[is_chosen[held]]
        if len(fit) and len(test):
            model = fit_coarse(statistics(features(fit)), data.label[fit])
            answer = model.probabilities(statistics(features(test))).argmax(1)
            result[f"probe_{name}"] = float(uar(confusion_matrix(data.label[test], answer, len(BASIC))))
    return result
