"""A small CLIP with a convolution stem, trained on rendered faces and words, so that systems on CLIP can be tried without a download.

A vision transformer learns nothing of faces from a contrastive loss alone within an hour of a laptop. Three more things make it learn: its patches
come from convolutions that start as the box's network begins, its image vector predicts the action units, and the difference of two frames of a
clip predicts how they changed (the person's own face is the zero).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
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

from dferkit.encoders.box import BOX_FOLDER, BoxEncoder
from dferkit.errors import ConfigError
from dferkit.facs import AU_NAMES, load_facs
from dferkit.models.coarse import fit_coarse, unit_statistics
from dferkit.pretraining.face_shards import NETWORK_SIZE, PROFILES, FaceShard
from dferkit.pretraining.network_loop import has_fast_bfloat16, split_subjects
from dferkit.pretraining.video import augment, network_input
from dferkit.storage import digest_arrays, read_json, write_json
from dferkit.training.loop import rate_of_cycle
from dferkit.training.state import load_state, save_state

_TOLD = 0.2  # a weaker movement is not put into words
_MOST_TOLD = 4
_STILL = "a still face"
_STEPS_APART = 1_000_003


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipPretrainingConfig:
    """Size of the towers, and how long.

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
        for name in ("steps", "clips", "frames", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; give at least 1")


class _Student(nn.Module):
    """CLIP and what is thrown away after training: linear layers from its vectors to the truth."""

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
        hidden_size=config.text_width, intermediate_size=2 * config.text_width, num_hidden_layers=config.text_layers, num_attention_heads=4,
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
    data: FaceShard,
    folder: Path,
    work: Path,
    config: ClipPretrainingConfig | None = None,
    *,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, float]:
    """Train, and write the CLIP into ``folder``; the same call goes on from ``work`` after an interruption.

    Returns:
        UAR of a linear probe on the frame features of people held out, by profile.
    """
    config = config or ClipPretrainingConfig()
    torch.set_num_threads(config.threads)
    model = _Student(new_clip(config, folder), config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    known = digest_arrays({"crops": data.crops, "label": data.label, "subject": data.subject, "au": data.au})
    settings = {**asdict(config), "faces": known}
    step = load_state(work, {"model": model}, optimizer, settings=settings)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    train, held = split_subjects(data)
    use_bfloat16, losses = has_fast_bfloat16(), []
    while step < config.steps:
        rng = np.random.default_rng([config.seed, step])
        torch.manual_seed(config.seed * _STEPS_APART + step)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * rate_of_cycle(step / config.steps, 0.05)
        video, units = _frames(data, rng.choice(train, config.clips, replace=False), config, rng)
        model.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=use_bfloat16):
            loss = _loss(model, video, units, tokenizer, config, rng)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        step += 1
        if step % config.save_every == 0 or step == config.steps:
            save_state(work, {"model": model}, optimizer, step=step, settings=settings)
        if on_progress and step % 25 == 0:
            on_progress(step, config.steps, f"loss {np.mean(losses[-25:]):.3f}")
    clip: Any = model.clip.eval()
    clip.save_pretrained(folder)
    figures = probe(clip, data, train, held)
    write_json(folder / "card.json", {**settings, **figures, "clips": len(train)})
    return figures


def _frames(
    data: FaceShard, chosen: np.ndarray, config: ClipPretrainingConfig, rng: np.random.Generator
) -> tuple[Float[Tensor, "clips frames 3 size size"], Float[Tensor, "clips frames aus"]]:
    """Some frames of some clips, augmented alike within a clip, in [-0.5, 0.5]."""
    videos, units = [], []
    for clip in chosen:
        some = np.sort(rng.choice(data.crops.shape[1], config.frames, replace=False))
        videos.append(torch.from_numpy(augment(data.crops[clip, some], rng)))
        units.append(torch.from_numpy(data.au[clip, some].astype(np.float32)))
    return torch.stack(videos), torch.stack(units)


def _loss(
    model: _Student,
    video: Tensor,
    units: Tensor,
    tokenizer: Tokenizer,
    config: ClipPretrainingConfig,
    rng: np.random.Generator,
) -> Tensor:
    clip: Any = model.clip
    frames = rearrange(video, "b t c h w -> (b t) c h w")
    seen = clip.vision_model(pixel_values=frames)
    vectors = rearrange(clip.visual_projection(seen.pooler_output).float(), "(b t) d -> b t d", b=len(video))
    weight = 1 + 4 * units
    direct = ((model.units(vectors) - units).square() * weight).mean()
    change, truth = vectors - vectors.mean(1, keepdim=True), units - units.mean(1, keepdim=True)
    moved = ((model.change(change) - truth).square() * weight).mean()
    texts = [tell(frame, rng) for frame in units.flatten(0, 1).numpy()]
    told = clip.text_projection(clip.text_model(input_ids=_ids(texts, tokenizer)).pooler_output).float()
    matched = _contrast(vectors.flatten(0, 1), told, texts, clip.logit_scale.exp().clamp(max=100.0))
    return config.weight_units * direct + config.weight_change * moved + config.weight_words * matched


def tell(units: Float[np.ndarray, " aus"], rng: np.random.Generator) -> str:
    """One frame in words: its strongest movements, each in one of the wordings of the FACS tables."""
    facs, order = load_facs(), np.argsort(-units)
    shown = [AU_NAMES[i] for i in order[:_MOST_TOLD] if units[i] >= _TOLD]
    if not shown:
        return _STILL
    return "a face: " + ", ".join(str(rng.choice(facs.action_units[name].phrases)) for name in shown)


def _ids(texts: list[str], tokenizer: Tokenizer) -> Int[Tensor, "texts tokens"]:
    """Token ids with start and end; the rest is filled with the padding's id, which causal attention does not see."""
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    longest, pad = max(map(len, encoded)), tokenizer.token_to_id("[PAD]")
    return torch.tensor([ids + [pad] * (longest - len(ids)) for ids in encoded])


def _contrast(images: Tensor, words: Tensor, texts: list[str], scale: Tensor) -> Tensor:
    """Both ways; frames told in the same words are not told apart."""
    numbers = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    own = torch.tensor([numbers[text] for text in texts])
    same = (own[:, None] == own).float()
    logits = scale * F.normalize(images, dim=-1) @ F.normalize(words, dim=-1).T
    share = same / same.sum(1, keepdim=True)
    return -0.5 * ((share * logits.log_softmax(1)).sum(1).mean() + (share * logits.T.log_softmax(1)).sum(1).mean())


def probe(clip: Any, data: FaceShard, train: np.ndarray, held: np.ndarray) -> dict[str, float]:
    """UAR of a linear model on mean, maximum, minimum and spread over time of the frame features, minus the clip's own mean."""
    from dferkit.evaluation.metrics import confusion_matrix, uar
    from dferkit.labels import BASIC

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
        mine = data.of_profile(name)
        fit, test = train[mine[train]][:1500], held[mine[held]]
        if len(fit) and len(test):
            model = fit_coarse(statistics(features(fit)), data.label[fit])
            said = model.probabilities(statistics(features(test))).argmax(1)
            result[f"probe_{name}"] = float(uar(confusion_matrix(data.label[test], said, len(BASIC))))
    return result
