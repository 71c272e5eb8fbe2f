"""Which epoch's weights are kept: the best on held-out clips."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from dferkit.evaluation.metrics import confusion_matrix, uar


class EpochSelection:
    """Keeps a copy of the weights that did best, the earliest of equal ones.

    Attributes:
        scores: UAR on the held-out clips after each epoch. epoch: The best one, counted from 1; 0 before the first.
        best: The model with its weights.
    """

    def __init__(
        self, predict: Callable[[Any], np.ndarray], target: np.ndarray, num_classes: int, *, key: str = ""
    ) -> None:
        """Args:
        predict: Class scores (clips, classes) of the held-out clips. target: Their class numbers.
        key: Digest of the held-out clips; a state of others is not continued.
        """
        self.key = key
        self._predict, self._target, self._num_classes = predict, np.asarray(target), num_classes
        self.scores: list[float] = []
        self.epoch = 0
        self.best: Any = None

    def start(self, model: Any, notes: dict[str, Any]) -> Any:
        """Start, or resume from the notes of an earlier run; returns ``best``, which gets its weights from the state."""
        self.best = copy.deepcopy(model)
        self.scores, self.epoch = list(notes.get("scores", [])), int(notes.get("epoch", 0))
        return self.best

    def update(self, model: Any) -> None:
        """Score the model after an epoch."""
        predicted = self._predict(model).argmax(1)
        score = float(uar(confusion_matrix(self._target, predicted, self._num_classes)))
        if not self.scores or score > max(self.scores):
            self.epoch = len(self.scores) + 1
            self.best.load_state_dict(model.state_dict())
        self.scores.append(score)

    def notes(self) -> dict[str, Any]:
        """Notes from which an interrupted run resumes."""
        return {"scores": self.scores, "epoch": self.epoch}
