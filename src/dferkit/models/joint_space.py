"""One space for words and patches (GRACE, E5): norms, places, projections, and the mass that each patch receives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dferkit.errors import CheckpointError
from dferkit.storage import atomic_path


class JointSpace(nn.Module):
    """Takes both kinds of tokens to a common width.

    Deviation: positions in time and on the face are added to the visual tokens, because the bundled convolutional tokens have none. The package
    ships weights for this module that were trained to align the words of a movement with its position; GRACE starts from them, as
    published systems start from encoders that were trained on images and text together.

    Where both kinds come from one image–text model, in its own common space, the start is that space: the norms change no direction and the projections are
    the identity, so that the cosine of a word and a patch is the model's own.
    """

    def __init__(
        self,
        visual_dim: int,
        text_dim: int,
        dim: int,
        *,
        num_frames: int,
        num_patches: int,
        shares_space: bool = False,
    ) -> None:
        super().__init__()
        norm = nn.RMSNorm if shares_space else nn.LayerNorm
        self.visual_norm, self.text_norm = norm(visual_dim), norm(text_dim)
        self.place = nn.Parameter(torch.zeros(1, 1, num_patches, visual_dim))
        self.time = nn.Parameter(torch.zeros(1, num_frames, 1, visual_dim))
        self.visual_projection = nn.Linear(visual_dim, dim)
        self.text_projection = nn.Linear(text_dim, dim)
        self.mass = nn.Linear(visual_dim, 1)
        if shares_space:
            for projection in (self.visual_projection, self.text_projection):
                nn.init.eye_(projection.weight)
                nn.init.zeros_(projection.bias)

    def words(self, text: Float[Tensor, "... text_dim"]) -> Float[Tensor, "... dim"]:
        """Text tokens in the common width."""
        return self.text_projection(self.text_norm(text.float()))

    def visual_mass(self, placed: Float[Tensor, "batch frames patches visual_dim"]) -> Float[Tensor, "batch visual"]:
        """Share of the words' mass that each token receives; sums to 1 per clip. ``placed`` are normalised tokens with their positions added."""
        return rearrange(self.mass(placed), "b t p 1 -> b (t p)").softmax(1)

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Load trained weights.

        Raises:
            CheckpointError: They have other names or sizes.
        """
        own = self.state_dict()
        for name in sorted(own.keys() | weights.keys()):
            found, wanted = (tuple(w[name].shape) if name in w else "missing" for w in (weights, own))
            if found != wanted:
                raise CheckpointError(
                    f"the joint space does not fit these encoders ({name} is {found}, expected {wanted}); use the bundled model that it belongs to"
                )
        self.load_state_dict({name: value.float() for name, value in weights.items()})


def save_joint_space(space: JointSpace, path: Path | str) -> None:
    """Write the weights as float16."""
    with atomic_path(path) as temporary:
        save_file({name: value.half().contiguous() for name, value in space.state_dict().items()}, temporary)


def load_joint_space(path: Path | str) -> dict[str, Tensor]:
    """Weights of a file.

    Raises:
        CheckpointError: The file is missing or damaged, or holds NaN.
    """
    path, remedy = Path(path), "reinstall dferkit or rebuild it with: dferkit pretrain --out DIR"
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"the bundled model in {path.parent.name}/ cannot be read ({error}); {remedy}") from error
    if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
        raise CheckpointError(f"{path.name} in {path.parent.name}/ holds NaN or infinity; {remedy}")
    return weights
