"""A³lign-DFER (arXiv 2403.04294): learned paragraphs per class (MAT) are compared with the video over time (JAS), trained in three steps (BAP).

The code was never released; what the paper leaves open is marked in ``docs/deviations.md``. This file reads in the order of the paper's Figure 2:
(b) the Multi-Dimensional Alignment Token, (c) the dynamic encoders and the Joint Dynamic Alignment Synchronizer, and the similarity. The frozen
CLIP stays outside (``encoders.clip_model``); the training steps are in ``training.phases``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dferkit.checks import check_choices, check_counts, check_range
from dferkit.errors import ConfigError, DataError
from dferkit.labels import BASIC
from dferkit.motion import motion_weights
from dferkit.schema import PARAGRAPH, Alignment, Caption, ModelOutput, TokenBatch, TokenShape

JOINT_MODES = ("shared", "concat", "none")


@dataclass(frozen=True, kw_only=True, slots=True)
class A3lignConfig:
    """Shape of A³lign-DFER.

    Attributes:
        dim: Width of CLIP's common space. token_width: Of its text tower's token embeddings.
        num_sentences, num_tokens: Sentences of a class's paragraph, and tokens of a sentence (the paper: 16 and 64).
        num_frames: Frames of a clip; the paper has as many as sentences.
        text_layers, image_layers, joint_layers: As drawn in Figure 2c. shared_layers: Of the image encoder, handed to the joint module.
        joint_mode: ``shared``: one module reads each sequence on its own (O(classes)); ``concat``: it reads a video together with each class's
            paragraph (class-specific video features, classes times slower); ``none``: no dynamic encoders at all, means over time.
        temperature: Of the class similarities. token_spread: Standard deviation of the first tokens.
    """

    FROM_DATA: ClassVar[tuple[str, ...]] = ("dim", "token_width", "labels", "num_frames")

    dim: int = 512
    token_width: int = 512
    labels: tuple[str, ...] = BASIC
    num_sentences: int = 16
    num_tokens: int = 64
    num_frames: int = 16
    text_layers: int = 2
    image_layers: int = 4
    joint_layers: int = 4
    shared_layers: int = 2
    heads: int = 8
    mlp_width: int = 1024
    dropout: float = 0.0
    joint_mode: str = "shared"
    temperature: float = 0.01
    token_spread: float = 0.02

    def __post_init__(self) -> None:
        check_choices(self, {"joint_mode": JOINT_MODES})
        if not 0 <= self.shared_layers <= min(self.image_layers, self.joint_layers):
            raise ConfigError(
                f"shared_layers is {self.shared_layers}; give 0 to {min(self.image_layers, self.joint_layers)}, the layers that both modules have"
            )
        check_range(self, "temperature", above=0)
        check_counts(self, "num_sentences", "num_tokens", "num_frames", "text_layers", "image_layers", "joint_layers")
        check_counts(self, "heads", "mlp_width")
        check_range(self, "token_spread", least=0)
        check_range(self, "dropout", least=0, below=1)

    @classmethod
    def for_shape(cls, shape: TokenShape) -> A3lignConfig:
        """A³lign-DFER for the features of this CLIP."""
        return cls(
            dim=shape.visual_dim,
            token_width=shape.token_width,
            labels=shape.labels,
            num_frames=shape.num_frames,
            mlp_width=2 * shape.visual_dim,
        )


class Sequence(nn.Module):
    """Input of a stack of layers: a class token before the sequence, and learned positions in time."""

    def __init__(self, length: int, dim: int) -> None:
        super().__init__()
        # As large as CLIP's features, as in DFER-CLIP: much smaller positions would have no effect, and order would not be learned.
        self.class_token = nn.Parameter(torch.randn(1, 1, dim))
        self.positions = nn.Parameter(torch.randn(1, length + 1, dim))

    def forward(self, values: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch longer dim"]:
        return torch.cat([self.class_token.expand(len(values), -1, -1), values], 1) + self.positions


def layer_stack(count: int, config: A3lignConfig) -> nn.ModuleList:
    """Standard Transformer encoder layers (pre-norm, as in DFER-CLIP).

    Raises:
        ConfigError: The width, which the data decides, is no multiple of the heads.
    """
    if config.dim % config.heads:
        raise ConfigError(
            f"heads is {config.heads}, but CLIP's features have {config.dim} values; give a divisor of that"
        )
    return nn.ModuleList(
        nn.TransformerEncoderLayer(
            config.dim, config.heads, config.mlp_width, config.dropout, "gelu", batch_first=True, norm_first=True
        )
        for _ in range(count)
    )


class DynamicEncoder(nn.Module):
    """A sequence over time → one vector: the Text or the Image Dynamic Encoder of Figure 2c."""

    def __init__(self, length: int, layers: int, config: A3lignConfig) -> None:
        super().__init__()
        self.sequence = Sequence(length, config.dim)
        self.layers = layer_stack(layers, config)

    def forward(self, values: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch dim"]:
        hidden = self.sequence(values)
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden[:, 0]


class JointDynamicAlignmentSynchronizer(nn.Module):
    """JAS: one stack of layers for the paragraphs and the video."""

    def __init__(self, config: A3lignConfig) -> None:
        super().__init__()
        self.text, self.video = Sequence(config.num_sentences, config.dim), Sequence(config.num_frames, config.dim)
        self.layers = layer_stack(config.joint_layers, config)
        self.shared_layers = config.shared_layers

    def start_from(self, text: DynamicEncoder, image: DynamicEncoder) -> None:
        """Module synchronisation before step 3: the image encoder's first layers, and the positions of both."""
        self.text.load_state_dict(text.sequence.state_dict())
        self.video.load_state_dict(image.sequence.state_dict())
        for mine, theirs in zip(self.layers[: self.shared_layers], image.layers, strict=False):
            mine.load_state_dict(theirs.state_dict())

    def read_video(self, frames: Float[Tensor, "batch frames dim"]) -> Float[Tensor, "batch longer dim"]:
        """Videos by themselves: their first tokens, and what becomes of each frame."""
        return self.run(self.video(frames))

    def read_text(self, paragraphs: Float[Tensor, "batch sentences dim"]) -> Float[Tensor, "batch longer dim"]:
        """Paragraphs by themselves: their first tokens, and what becomes of each sentence."""
        return self.run(self.text(paragraphs))

    def run(self, hidden: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch length dim"]:
        """All layers."""
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden

    def attention(self, hidden: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch length"]:
        """Attention of the first token in the last layer, mean over the heads; sums to 1."""
        for layer in self.layers[:-1]:
            hidden = layer(hidden)
        last: Any = self.layers[-1]
        known = last.norm1(hidden)
        _, weights = last.self_attn(known[:, :1], known, known, need_weights=True)
        shares: Tensor = weights[:, 0]
        return shares

    def pair_vectors(
        self, frames: Float[Tensor, "batch frames dim"], paragraphs: Float[Tensor, "classes sentences dim"]
    ) -> tuple[Float[Tensor, "batch classes dim"], Float[Tensor, "batch classes dim"]]:
        """Every video with every paragraph as one sequence: class-specific vectors of the video and of the classes."""
        video, text = self.read_pairs(frames, paragraphs)
        return video[:, :, 0], text[:, :, 0]

    def read_pairs(
        self, frames: Float[Tensor, "batch frames dim"], paragraphs: Float[Tensor, "classes sentences dim"]
    ) -> tuple[Float[Tensor, "batch classes video dim"], Float[Tensor, "batch classes text dim"]]:
        """Both parts of every such sequence, each with its first token, as they leave the layers."""
        batch, classes = len(frames), len(paragraphs)
        hidden = self.run(self.concatenate(frames, paragraphs)).unflatten(0, (batch, classes))
        longer = frames.shape[1] + 1
        return hidden[:, :, :longer], hidden[:, :, longer:]

    def concatenate(
        self, frames: Float[Tensor, "batch frames dim"], paragraphs: Float[Tensor, "classes sentences dim"]
    ) -> Float[Tensor, "pairs length dim"]:
        """Every video with every paragraph as one sequence, class by class within a video, as it enters the layers."""
        video, text = self.video(frames), self.text(paragraphs)
        return torch.cat([video.repeat_interleave(len(paragraphs), 0), text.repeat(len(frames), 1, 1)], 1)


class A3lign(nn.Module):
    """A³lign-DFER on the features of a frozen CLIP.

    Attributes:
        mat: The Multi-Dimensional Alignment Token: (classes, sentences, tokens, width), in place of the words of a label.
    """

    def __init__(self, config: A3lignConfig) -> None:
        super().__init__()
        self.config = config
        shape = (len(config.labels), config.num_sentences, config.num_tokens, config.token_width)
        self.mat = nn.Parameter(torch.randn(shape) * config.token_spread)
        self.text_dynamic = DynamicEncoder(config.num_sentences, config.text_layers, config)
        self.image_dynamic = DynamicEncoder(config.num_frames, config.image_layers, config)
        self.joint = JointDynamicAlignmentSynchronizer(config)

    def class_vectors(
        self, paragraphs: Float[Tensor, "classes sentences dim"], *, step: int
    ) -> Float[Tensor, "classes dim"]:
        """One vector per class (u of the digest's equations); not defined for ``concat`` in step 3."""
        if self.config.joint_mode == "none":
            return paragraphs.mean(1)
        if step < 3:
            return self.text_dynamic(paragraphs)
        return self.joint.read_text(paragraphs)[:, 0]

    def video_vectors(self, frames: Float[Tensor, "batch frames dim"], *, step: int) -> Float[Tensor, "batch dim"]:
        """One vector per clip (v): the mean over time in step 1, then the image encoder, then the joint module."""
        if step == 1 or self.config.joint_mode == "none":
            return frames.mean(1)
        if step == 2:
            return self.image_dynamic(frames)
        return self.joint.read_video(frames)[:, 0]

    def forward(
        self,
        frames: Float[Tensor, "batch frames dim"],
        paragraphs: Float[Tensor, "classes sentences dim"],
        *,
        step: int = 3,
    ) -> Float[Tensor, "batch classes"]:
        """Class scores: cosine similarity over the temperature.

        Args:
            frames: CLIP's features of the frames. paragraphs: CLIP's text features of ``mat``'s sentences.
            step: Of the Bidirectional Alignment Training Paradigm; 3 is the finished model.
        """
        frames = frames.float()
        if step == 3 and self.config.joint_mode == "concat":
            video, classes = self.joint.pair_vectors(frames, paragraphs)
            return F.cosine_similarity(video, classes, dim=-1) / self.config.temperature
        video, classes = self.video_vectors(frames, step=step), self.class_vectors(paragraphs, step=step)
        return F.normalize(video, dim=-1) @ F.normalize(classes, dim=-1).T / self.config.temperature


class A3lignReader(nn.Module):
    """The finished model as a checkpoint holds it: what reads the video, the paragraphs' features, and one vector per class. Nothing of CLIP's text tower is in it; frames come from the image tower.

    Captions are not read: its words are the sentences that it learned.
    """

    paragraphs: Tensor
    classes: Tensor
    motion_source = "tokens"
    aligns_words = True

    def __init__(self, config: A3lignConfig) -> None:
        super().__init__()
        self.config = config
        self.joint = None if config.joint_mode == "none" else JointDynamicAlignmentSynchronizer(config)
        self.register_buffer("paragraphs", torch.zeros(len(config.labels), config.num_sentences, config.dim))
        self.register_buffer("classes", torch.zeros(len(config.labels), config.dim))

    @classmethod
    def of(cls, model: A3lign, paragraphs: Float[Tensor, "classes sentences dim"]) -> A3lignReader:
        """From a trained model and CLIP's text features of its paragraphs."""
        reader = cls(model.config)
        if reader.joint is not None:
            reader.joint.load_state_dict(model.joint.state_dict())
        with torch.no_grad():
            reader.paragraphs.copy_(paragraphs)
            if model.config.joint_mode != "concat":  # there a class has no vector without a video
                reader.classes.copy_(F.normalize(model.class_vectors(paragraphs, step=3), dim=-1))
        return reader.eval()

    def scores(self, frames: Float[Tensor, "batch frames dim"]) -> Float[Tensor, "batch classes"]:
        """Class scores, as the full model's."""
        return self._compare(frames.float())[2]

    def forward(self, batch: TokenBatch) -> ModelOutput:
        """Class scores, and the similarity of the sentences of the most probable class and the frames; of the batch only ``visual`` is read."""
        if batch.visual is None:
            raise DataError("A³lign-DFER reads CLIP's features of frames; give clips that have them")
        visual = batch.visual.float()
        frames = visual[:, :, 0]
        logits = self._compare(frames)[2]
        if self.training:
            return ModelOutput(logits=logits)
        found = logits.argmax(1)
        plan = self.sentences_over_frames(frames)[torch.arange(len(frames)), found]
        return ModelOutput(
            logits=logits,
            alignment=Alignment(
                plan=plan / plan.shape[1],
                score=logits.max(1).values * self.config.temperature,
                visual_index=torch.arange(frames.shape[1]).expand(len(frames), -1),
                method="similarity",
            ),
            motion=motion_weights(F.layer_norm(visual, visual.shape[-1:])),
            frame_attention=self.attention_over_time(frames, found),
        )

    def loss(
        self,
        output: ModelOutput,
        target: Int[Tensor, " batch"],
        class_counts: Int[Tensor, " classes"] | None = None,
        *,
        soft_target: Float[Tensor, "batch classes"] | None = None,
    ) -> Float[Tensor, ""]:
        """Cross-entropy, for adapting the joint module; the paragraphs stay as they were learned."""
        return F.cross_entropy(output.logits, target if soft_target is None else soft_target)

    @torch.no_grad()
    def finish(self) -> None:
        """Compute the class vectors again after the joint module was trained."""
        if self.joint is not None and self.config.joint_mode == "shared":
            self.classes.copy_(F.normalize(self.joint.read_text(self.paragraphs)[:, 0], dim=-1))

    def aligned_text(self, label: int) -> Caption:
        """The learned sentences of a class as a text of one word each, such as ``anger-1``: what this model aligns with the video."""
        name = self.config.labels[label].replace(" ", "_")
        names = [f"{name}-{number + 1}" for number in range(self.config.num_sentences)]
        return Caption(text=" ".join(names), phrases=(), source=PARAGRAPH)

    def scores_without_words(
        self, batch: TokenBatch, label: int, keep: Bool[Tensor, "versions sentences"]
    ) -> Float[Tensor, "versions classes"]:
        """Class scores of one clip when sentences of a class, marked False, are replaced by the mean of its paragraph."""
        assert batch.visual is not None
        return self.without_sentences(batch.visual[:, :, 0], label, keep)

    def attention_over_time(
        self, frames: Float[Tensor, "batch frames dim"], labels: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch frames"]:
        """Attention of the video's vector to each frame in the last layer, mean over the heads; the remainder is the attention to positions that are no frames.

        Args:
            labels: The class whose paragraph is joined to each video, for ``concat``.
        """
        if self.joint is None:  # a mean
            return torch.full(frames.shape[:2], 1 / frames.shape[1])
        if self.config.joint_mode == "concat":
            rows = [
                self.joint.concatenate(frames[i : i + 1], self.paragraphs[label][None])
                for i, label in enumerate(labels)
            ]
            hidden = torch.cat(rows)
        else:
            hidden = self.joint.video(frames)
        return self.joint.attention(hidden)[:, 1 : 1 + frames.shape[1]]

    def similarity_over_time(
        self, frames: Float[Tensor, "batch frames dim"]
    ) -> Float[Tensor, "batch classes sentences frames"]:
        """Cosine similarity of each sentence of a class's paragraph and each frame at the output of the joint module.

        Deviation: the paper shows no such map. The answer reads the first token of each sequence; this is what those tokens were computed from.
        """
        video, text = frames.float(), self.paragraphs
        if self.joint is not None and self.config.joint_mode == "concat":
            seen, described = (F.normalize(part[:, :, 1:], dim=-1) for part in self.joint.read_pairs(video, text))
            return torch.einsum("bctd,bcsd->bcst", seen, described)
        if self.joint is not None:
            video, text = self.joint.read_video(video)[:, 1:], self.joint.read_text(text)[:, 1:]
        return torch.einsum("btd,csd->bcst", F.normalize(video, dim=-1), F.normalize(text, dim=-1))

    def sentences_over_frames(
        self, frames: Float[Tensor, "batch frames dim"]
    ) -> Float[Tensor, "batch classes sentences frames"]:
        """Softmax over the frames of ``similarity_over_time``, with the temperature of the class scores."""
        return (self.similarity_over_time(frames) / self.config.temperature).softmax(-1)

    @torch.no_grad()
    def without_sentences(
        self, frames: Float[Tensor, "one frames dim"], label: int, keep: Bool[Tensor, "versions sentences"]
    ) -> Float[Tensor, "versions classes"]:
        """Class scores of one clip when sentences of a class, marked False, are replaced by the mean of its paragraph."""
        video, _, logits = self._compare(frames.float())
        paragraph = self.paragraphs[label]
        versions = torch.where(keep[..., None], paragraph, paragraph.mean(0))
        result = logits.expand(len(keep), -1).clone()
        if self.joint is None:
            result[:, label] = self._cosine(video, versions.mean(1))
        elif self.config.joint_mode == "concat":
            for row, version in enumerate(versions):
                own, text = self.joint.pair_vectors(frames.float(), version[None])
                result[row, label] = self._cosine(own[:, 0], text[:, 0])[0]
        else:
            result[:, label] = self._cosine(video, self.joint.read_text(versions)[:, 0])
        return result

    def _compare(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Vector of the video (without a joint module the mean of its frames), of the classes for each video, and class scores."""
        if self.joint is None:
            video = frames.mean(1)
        elif self.config.joint_mode == "concat":
            videos, classes = self.joint.pair_vectors(frames, self.paragraphs)
            return videos.mean(1), classes, F.cosine_similarity(videos, classes, dim=-1) / self.config.temperature
        else:
            video = self.joint.read_video(frames)[:, 0]
        vectors = self.classes
        if self.training and self.joint is not None:  # the buffer holds what the joint module gave before
            vectors = F.normalize(self.joint.read_text(self.paragraphs)[:, 0], dim=-1)
        return (
            video,
            vectors.expand(len(frames), -1, -1),
            F.normalize(video, dim=-1) @ vectors.T / self.config.temperature,
        )

    def _cosine(self, video: Tensor, classes: Tensor) -> Tensor:
        return F.cosine_similarity(video, classes, dim=-1) / self.config.temperature
