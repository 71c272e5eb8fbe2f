"""Training GRACE and its variants on cached tokens: deterministic, resumable, the same for every row of a table."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dferkit.errors import ConfigError, DataError
from dferkit.losses import class_weights_effective
from dferkit.models.checkpoint import TrainedModel
from dferkit.models.grace import Grace, GraceConfig, GraceOutput
from dferkit.schema import TextTokens
from dferkit.storage import digest_arrays
from dferkit.tokens.batches import collate, epoch_batches, rate_of_cycle
from dferkit.tokens.rows import TokenRows, digest_rows, not_finite
from dferkit.training.selection import EpochSelection
from dferkit.training.state import load_notes, load_state, save_state

_MOST_BAD_STEPS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """The budget, equal for every model of a table.

    Attributes:
        token_noise: Standard deviation of Gaussian noise on the normalised visual tokens, in units of theirs.
        token_drop: Share of visual tokens replaced by the clip's mean.
    """

    epochs: int = 20
    batch: int = 32
    learning_rate: float = 7e-4
    weight_decay: float = 0.3
    warmup_share: float = 0.1
    seed: int = 0
    token_noise: float = 0.3
    token_drop: float = 0.1
    save_every_epochs: int = 10

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 2:
            raise ConfigError(f"epochs is {self.epochs} and batch {self.batch}; give at least 1 and 2")
        if not 0 < self.learning_rate < 1:
            raise ConfigError(f"learning_rate is {self.learning_rate}; give a number between 0 and 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class StartingPoint:
    """Trained weights that a training goes on from, and how strongly they hold it.

    Attributes:
        weights: All weights of the model, by name.
        pull: After every step each weight goes back by learning rate · pull of its distance to where it started (L2-SP of Li,
            Grandvalet and Davoine 2018, decoupled from the gradient as AdamW decouples its decay); 0 or more, 0 holds nothing.
    """

    weights: Mapping[str, Tensor]
    pull: float

    @torch.no_grad()
    def draw_back(self, model: Grace, learning_rate: float) -> None:
        """Move the weights towards the start."""
        for name, parameter in model.named_parameters():
            parameter.lerp_(self.weights[name], min(learning_rate * self.pull, 1.0))


def train_grace(
    model_config: GraceConfig,
    visual: Tensor | TokenRows,
    texts: Sequence[TextTokens],
    target: np.ndarray,
    *,
    summary: Tensor | None = None,
    motion: Tensor | None = None,
    shares: np.ndarray | None = None,
    config: TrainingConfig | None = None,
    selection: EpochSelection | None = None,
    joint: Mapping[str, Tensor] | None = None,
    start: StartingPoint | None = None,
    clips: np.ndarray | None = None,
    state: Path | None = None,
    on_progress: Callable[[int, int, float], None] | None = None,
) -> Grace:
    """Train one model; the last weights are returned.

    Every random draw is a function of (seed, epoch, step), so a run that was interrupted and goes on from ``state`` ends with the same bytes.

    Args:
        visual: float16 (clips, frames, patches, dim). summary: The encoder's vector per token step, if the model reads one. motion: Measured motion weights, if it reads them. target: (clips,) index into the model's labels.
        shares: (clips, classes) of the annotators, a soft target in place of ``target``.
        selection: Looks at the model after every epoch and keeps the best; it is part of the state.
        joint: Weights of the joint space to start from.
        start: Weights of the whole model to start from instead; the loss then chooses among the classes of ``target`` only, and
            the others are left as they are.
        clips: Which clip each row is a view of (``number_clips``): every epoch draws one view of each. By default every row is a clip. on_progress: Called with (epoch, epochs, mean loss).

    Raises:
        DataError: Too few clips, tokens that are not finite, or a loss that is not: ten times in a row, or for a whole epoch.
    """
    config = config or TrainingConfig()
    if start is None:
        check_joint(model_config, joint)
    if len(target) < 2:
        raise DataError(f"{len(target)} training clips; give at least 2")
    if bad_clips := not_finite(visual):
        raise DataError(
            f"the visual tokens of {len(bad_clips)} clips are not finite, the first at place {bad_clips[0]}; encode them again"
        )
    torch.manual_seed(config.seed)
    model = Grace(model_config)
    if joint is not None:
        model.space.start_from(joint)
    if start is not None:
        model.load_state_dict(start.weights)
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))
    settings = (
        _settings_of(
            model_config, config, visual, texts, target, summary, motion, shares, joint, selection, start, clips
        )
        if state
        else {}
    )
    modules: dict[str, nn.Module] = {"model": model}
    if selection:
        selection.start(model, load_notes(state) if state else {})
        assert selection.best is not None
        modules["best"] = selection.best
    first = load_state(state, modules, optimizer, settings=settings) if state else 0
    soft = None if shares is None else torch.from_numpy(np.asarray(shares)).float()
    labels = torch.from_numpy(np.asarray(target)).long()
    firsts = np.arange(len(target)) if clips is None else np.unique(clips, return_index=True)[1]
    counts = torch.bincount(labels[firsts], minlength=len(model_config.labels))
    class_weights = class_weights_effective(counts, beta=model_config.class_balance)
    shown = None if start is None else labels.unique()
    steps_per_epoch = max(len(firsts) // config.batch, 1)
    bad = 0
    for epoch in range(first, config.epochs):
        model.train()
        losses = []
        for number, batch in enumerate(
            epoch_batches(
                visual,
                texts,
                labels,
                batch=config.batch,
                seed=config.seed,
                epoch=epoch,
                summary=summary,
                motion=motion,
                shares=soft,
                clips=clips,
            )
        ):
            torch.manual_seed(config.seed * 1_000_003 + epoch * 1009 + number)
            progress = (epoch + number / steps_per_epoch) / config.epochs
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * rate_of_cycle(min(progress, 1.0), config.warmup_share)
            whole = None if batch.summary is None else _add_noise(batch.summary, (1,), config)
            output = model(
                _disturb(batch.visual, config),
                batch.text,
                batch.text_mask,
                batch.sentence,
                summary=whole,
                phrases=batch.phrases,
                motion=batch.motion,
            )
            if shown is None:
                loss = model.loss(output, batch.target, class_weights, shares=batch.shares)
            else:
                loss = model.loss(*_among(shown, output, batch.target), class_weights[shown])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            # A finite loss can have a gradient that is not: such a step would leave NaN in the weights for ever.
            if not (torch.isfinite(loss) and torch.isfinite(norm)):
                bad += 1
                if bad >= _MOST_BAD_STEPS:
                    raise DataError(
                        f"the loss was not finite {bad} times in a row in epoch {epoch}; lower the learning rate"
                    )
                continue
            bad = 0
            optimizer.step()
            if start is not None:
                start.draw_back(model, optimizer.param_groups[0]["lr"])
            losses.append(float(loss.detach()))
        if not losses:
            raise DataError(f"no step of epoch {epoch} had a finite loss; lower the learning rate")
        if selection:
            selection.look(model)
        if state and ((epoch + 1) % config.save_every_epochs == 0 or epoch + 1 == config.epochs):
            notes = selection.notes() if selection else {}
            save_state(state, modules, optimizer, step=epoch + 1, settings=settings, notes=notes)
        if on_progress:
            on_progress(epoch + 1, config.epochs, float(np.mean(losses)))
    return model.eval()


def _among(shown: Tensor, output: GraceOutput, target: Tensor) -> tuple[GraceOutput, Tensor]:
    """Answer and truth as a choice among some classes, so that no clip speaks against a class that is merely absent."""
    among = replace(output, logits=output.logits[:, shown], visual_logits=output.visual_logits[:, shown])
    return among, torch.searchsorted(shown, target)


def _settings_of(
    model_config: GraceConfig,
    config: TrainingConfig,
    visual: Tensor | TokenRows,
    texts: Sequence[TextTokens],
    target: np.ndarray,
    summary: Tensor | None,
    motion: Tensor | None,
    shares: np.ndarray | None,
    joint: Mapping[str, Tensor] | None,
    selection: EpochSelection | None,
    start: StartingPoint | None,
    clips: np.ndarray | None,
) -> dict[str, Any]:
    """What a state belongs to: another one is not continued."""
    data = {"target": np.asarray(target, np.int64)}
    for name, values in (("summary", summary), ("motion", motion)):
        if values is not None:
            data[name] = values.numpy()
    if shares is not None:
        data["shares"] = np.asarray(shares, np.float64)
    if clips is not None:
        data["clips"] = np.asarray(clips, np.int64)
    return {
        "model": model_config.as_dict(),
        "training": asdict(config),
        "clips": len(target),
        "visual": digest_rows(visual),
        "texts": digest_texts(texts),
        "data": digest_arrays(data),
        "joint": digest_arrays(_numpy(joint or {})),
        "selection": None if selection is None else selection.key,
        **({} if start is None else {"start": digest_arrays(_numpy(start.weights)), "pull": start.pull}),
    }


def _numpy(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in tensors.items()}


def digest_texts(texts: Sequence[TextTokens]) -> str:
    """SHA-256 over the words and their vectors, in order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update("\0".join(text.pieces).encode())
        digest.update(text.values.contiguous().numpy().tobytes())
    return digest.hexdigest()


def check_joint(config: GraceConfig, joint: Mapping[str, Tensor] | None) -> None:
    """Refuse what would train without a word of the reason why it is poor.

    Raises:
        ConfigError: The model asks for a joint space that is not there, or for another width than that of the one given.
    """
    if joint is None:
        if config.visual_mass == "learned":
            raise ConfigError(
                "visual_mass is learned, but no trained joint space goes with this encoder; choose uniform or motion"
            )
        return
    width = joint["visual_projection.weight"].shape[0]
    if config.dim != width:
        raise ConfigError(
            f"dim is {config.dim}, but the joint space of the box has width {width}; leave model.dim at {width}"
        )


def _disturb(visual: Tensor, config: TrainingConfig) -> Tensor:
    """Noise and dropped tokens, so that a few hundred clips are not learned by heart."""
    if config.token_noise:
        visual = _add_noise(visual, (1, 2), config)
    if config.token_drop:
        dropped = torch.rand(visual.shape[:3]) < config.token_drop
        visual = torch.where(dropped[..., None], visual.mean((1, 2), keepdim=True), visual)
    return visual


def _add_noise(values: Tensor, axes: tuple[int, ...], config: TrainingConfig) -> Tensor:
    return values + torch.randn_like(values) * values.std(axes, keepdim=True) * config.token_noise


@torch.inference_mode()
def predict_outputs(
    model: TrainedModel,
    visual: Tensor | TokenRows,
    texts: Sequence[TextTokens],
    *,
    summary: Tensor | None = None,
    motion: Tensor | None = None,
    batch: int = 32,
) -> Iterator[GraceOutput]:
    """The model's answers in batches, in order."""
    model.eval()
    for first in range(0, len(texts), batch):
        chosen = texts[first : first + batch]
        place = slice(first, first + batch)
        whole, moving = (None if part is None else part[place] for part in (summary, motion))
        nothing = torch.zeros(len(chosen), dtype=torch.long)
        data = collate(visual[place], chosen, nothing, summary=whole, motion=moving)
        yield model(
            data.visual,
            data.text,
            data.text_mask,
            data.sentence,
            summary=data.summary,
            phrases=data.phrases,
            motion=data.motion,
        )


def predict_logits(
    model: TrainedModel,
    visual: Tensor | TokenRows,
    texts: Sequence[TextTokens],
    *,
    summary: Tensor | None = None,
    motion: Tensor | None = None,
    batch: int = 32,
) -> Tensor:
    """Class scores (clips, classes), float64; ``Checkpoint.probabilities`` turns them into probabilities."""
    outputs = predict_outputs(model, visual, texts, summary=summary, motion=motion, batch=batch)
    return torch.cat([output.logits.double() for output in outputs])


def predict_probabilities(
    model: TrainedModel,
    visual: Tensor | TokenRows,
    texts: Sequence[TextTokens],
    *,
    summary: Tensor | None = None,
    motion: Tensor | None = None,
    batch: int = 32,
) -> np.ndarray:
    """Class probabilities (clips, classes), float64, of a model in training, which has no temperature."""
    return predict_logits(model, visual, texts, summary=summary, motion=motion, batch=batch).softmax(1).numpy()


def predict_plans(
    model: Grace,
    visual: Tensor,
    texts: Sequence[TextTokens],
    *,
    summary: Tensor | None = None,
    motion: Tensor | None = None,
) -> list[np.ndarray]:
    """Per clip the plan over all visual tokens (pieces, steps · patches); tokens that were not kept have no mass.

    Raises:
        DataError: The model aligns no words with the video.
    """
    return whole_plans(predict_outputs(model, visual, texts, summary=summary, motion=motion), texts)


def whole_plans(outputs: Iterable[GraceOutput], texts: Sequence[TextTokens]) -> list[np.ndarray]:
    """``predict_plans`` from answers that are there already."""
    plans: list[np.ndarray] = []
    for output in outputs:
        if output.alignment is None:
            raise DataError("this model aligns no words with the video; take one with video and text, such as grace")
        plan, index = output.alignment.plan, output.alignment.visual_index
        whole = plan.new_zeros(*plan.shape[:2], output.motion[0].numel())
        # Padding stands at -1 and carries no mass.
        whole.scatter_add_(2, index.clamp_min(0)[:, None].expand(-1, plan.shape[1], -1), plan)
        plans += [clip[: len(texts[len(plans) + i].pieces)].numpy() for i, clip in enumerate(whole)]
    return plans
