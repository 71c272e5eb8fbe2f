"""The coarse classifier: a linear model on action-unit statistics. It guides captions, and on the true AUs it is the ceiling."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.numpy import save_file

from dferkit.errors import CheckpointError, DataError
from dferkit.labels import BASIC
from dferkit.schema import CoarsePrediction
from dferkit.storage import atomic_path


def unit_statistics(intensity: Float[np.ndarray, "*clips frames aus"]) -> Float[np.ndarray, "*clips stats"]:
    """Mean, maximum, minimum and standard deviation over time of each action unit, side by side."""
    return np.concatenate([intensity.mean(-2), intensity.max(-2), intensity.min(-2), intensity.std(-2)], -1)


@dataclass(frozen=True, kw_only=True, slots=True)
class CoarseClassifier:
    """Multinomial logistic regression on standardised statistics.

    Attributes:
        mean, scale: Of the training statistics. weight: (stats, classes). bias: (classes,).
    """

    labels: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    name: str = "coarse"

    def probabilities(self, statistics: Float[np.ndarray, "clips stats"]) -> Float[np.ndarray, "clips classes"]:
        """Class probabilities, float64."""
        logits = ((statistics - self.mean) / self.scale) @ self.weight + self.bias
        logits = logits - logits.max(1, keepdims=True)
        exponentials = np.exp(logits)
        return exponentials / exponentials.sum(1, keepdims=True)

    def guide(self, statistics: Float[np.ndarray, " stats"], *, fold: int, is_out_of_fold: bool) -> CoarsePrediction:
        """One clip's prediction, with its proof of origin."""
        return CoarsePrediction(
            labels=self.labels,
            probabilities=self.probabilities(statistics[None])[0],
            model=self.name,
            fold=fold,
            is_out_of_fold=is_out_of_fold,
        )

    def save(self, path: Path | str) -> None:
        """Write as safetensors."""
        with atomic_path(path) as temporary:
            arrays = {
                key: np.ascontiguousarray(getattr(self, key), np.float32) for key in ("mean", "scale", "weight", "bias")
            }
            # One entry: the order of several differs from run to run, and with it the bytes.
            save_file(arrays, temporary, metadata={"coarse": json.dumps({"labels": self.labels, "name": self.name})})

    @classmethod
    def load(cls, path: Path | str) -> CoarseClassifier:
        """Read what ``save`` wrote.

        Raises:
            CheckpointError: The file is missing.
        """
        if not Path(path).is_file():
            raise CheckpointError(f"{Path(path).name} is missing from the checkpoint; copy the whole folder")
        with safe_open(path, framework="numpy") as handle:
            meta = json.loads(handle.metadata()["coarse"])
            return cls(
                labels=tuple(meta["labels"]),
                name=meta["name"],
                **{key: handle.get_tensor(key).astype(np.float64) for key in handle.keys()},  # noqa: SIM118
            )


def fit_coarse(
    statistics: Float[np.ndarray, "clips stats"],
    target: np.ndarray,
    *,
    labels: tuple[str, ...] = BASIC,
    penalty: float = 0.02,
    name: str = "coarse",
) -> CoarseClassifier:
    """Fit by L-BFGS in float64; deterministic.

    Args:
        target: Index into ``labels``.
        penalty: L2 weight relative to the mean log likelihood.

    Raises:
        DataError: Fewer than two classes are present.
    """
    if len(np.unique(target)) < 2:
        raise DataError(
            "training clips of at least two classes are needed; clips that cannot be read or show no face are left out, which can leave one class"
        )
    mean, scale = statistics.mean(0), statistics.std(0)
    scale = np.where(scale > 1e-6, scale, 1.0)
    x, y = torch.from_numpy((statistics - mean) / scale).double(), torch.from_numpy(np.asarray(target)).long()
    weight = torch.zeros(x.shape[1], len(labels), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(labels), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=300, tolerance_grad=1e-7, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(x @ weight + bias, y) + penalty * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return CoarseClassifier(
        labels=labels, mean=mean, scale=scale, weight=weight.detach().numpy(), bias=bias.detach().numpy(), name=name
    )


def assign_folds(groups: np.ndarray, *, folds: int = 5) -> np.ndarray:
    """Inner fold of each clip; all clips of a group (subject) share one. With fewer groups than ``folds`` there is one fold per group.

    Raises:
        DataError: A single group.
    """
    names = sorted(set(groups.tolist()))
    if len(names) < 2:
        raise DataError("the training clips are of one person; give clips of at least two")
    folds = min(folds, len(names))
    number = {name: i % folds for i, name in enumerate(names)}
    return np.array([number[g] for g in groups.tolist()])


def out_of_fold(
    statistics: np.ndarray, target: np.ndarray, groups: np.ndarray, *, labels: tuple[str, ...] = BASIC, folds: int = 5
) -> list[CoarsePrediction]:
    """Guides for training clips, each from a classifier that never saw its subject."""
    fold_of = assign_folds(groups, folds=folds)
    guides: list[CoarsePrediction | None] = [None] * len(target)
    for fold in range(int(fold_of.max()) + 1):
        held = fold_of == fold
        model = fit_coarse(statistics[~held], target[~held], labels=labels, name=f"coarse-fold{fold}")
        for i in np.flatnonzero(held):
            guides[i] = model.guide(statistics[i], fold=fold, is_out_of_fold=True)
    return [g for g in guides if g is not None]
