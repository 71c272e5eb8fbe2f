"""Training of one front end's head: guide and captions, joint space, GRACE, and on other clips its temperature and thresholds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from dferkit.checks import check_counts, check_range
from dferkit.encoders.front_end import joint_space_file
from dferkit.encoders.text import TextEncoder
from dferkit.evaluation.calibration import at_temperature, fit_temperature
from dferkit.evaluation.selective import ACCURACY_IN_DOUBT, abstention_threshold
from dferkit.models.checkpoint import Checkpoint
from dferkit.models.grace import GraceConfig
from dferkit.models.joint_space import save_joint_space
from dferkit.pretraining.joint import JointPretrainingConfig, pretrain_joint_space
from dferkit.pretraining.rendered_tokens import RenderedTokens
from dferkit.schema import ReportProgress
from dferkit.synthetic.benchmark import fingerprint
from dferkit.tokens.captioned import caption_other_clips, caption_training_clips, with_texts
from dferkit.tokens.dataset import TokenDataset
from dferkit.training.fit import Fitted, fit
from dferkit.training.score import predict_logits
from dferkit.training.spec import TrainingSpec

TRAINED_ON = "rendered faces (dferkit generator, version 1 and its training profile); no real person"
# Without patches the areas are few and alike, so that words need longer to learn theirs.
_JOINT_EPOCHS, _AREA_EPOCHS = 20, 40


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadConfig:
    """Epochs of GRACE, and the seed of the joint space and of GRACE."""

    epochs: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts(self, "epochs")
        check_range(self, "seed", least=0)


def train_head(
    encoder: str,
    train: RenderedTokens,
    calibration: TokenDataset,
    box: Path,
    config: HeadConfig,
    *,
    device: str = "cpu",
    on_progress: ReportProgress,
) -> Checkpoint:
    """Train the joint space, which is written into ``box``, and the head, and calibrate the head.

    Args:
        encoder: Name of the visual encoder of the tokens. calibration: Clips that no part was trained on.
    """
    text_encoder = TextEncoder(box / "text")
    captioned = caption_training_clips(train.data, text_encoder)
    data = with_texts(train.data, captioned)
    aligned = pretrain_joint_space(
        GraceConfig.for_shape(data.shape(text_dim=text_encoder.dim, has_joint_space=True)),
        replace(train, data=data),
        captioned.captions,
        JointPretrainingConfig(seed=config.seed, epochs=_JOINT_EPOCHS if any(data.grid) else _AREA_EPOCHS),
        device=device,
        on_progress=lambda done, of, note: on_progress(f"words and tokens, {encoder}", done, of, note),
    )
    path = joint_space_file(encoder, box)
    assert path is not None
    save_joint_space(aligned.space, path)
    settings = (f"training.epochs={config.epochs}",)
    spec = TrainingSpec(encoder=encoder, box=box, seed=config.seed, settings=settings, device=device)
    fitted = fit(data, spec, stage=f"head, {encoder}", on_progress=on_progress)
    return _calibrate(fitted, calibration, text_encoder)


def _calibrate(fitted: Fitted, clips: TokenDataset, text_encoder: TextEncoder) -> Checkpoint:
    clips = with_texts(clips, caption_other_clips(clips, fitted.coarse, text_encoder))
    logits = predict_logits(fitted.model, clips, device=fitted.spec.device).numpy()
    temperature = fit_temperature(logits, clips.target).value
    probabilities = at_temperature(logits, temperature)
    threshold, coverage = abstention_threshold(probabilities, clips.target)
    return fitted.checkpoint(
        TRAINED_ON,
        name="box",
        abstain_below=threshold,
        answered_share=coverage,
        abstain_below_in_doubt=abstention_threshold(probabilities, clips.target, accuracy=ACCURACY_IN_DOUBT)[0],
        temperature=temperature,
        generator=fingerprint(),
    )
