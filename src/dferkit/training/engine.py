"""How a step is computed and saved; what is learned in it is the same in every model of a table (``training.loop``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch

from dferkit.checks import check_choices, check_counts, check_range
from dferkit.errors import BackendError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """How a step is computed, and how often its state is saved.

    Attributes:
        precision: ``fp32``, or ``bf16`` or ``fp16`` where torch's autocast uses it; the transport is always computed in fp32 or above.
        parts: A batch is computed in this many parts, one after the other, and makes one step. A contrastive loss compares within a part.
        clip_norm: Largest length of the gradient; 0 clips nothing.
        average: Decay of the moving average of the weights, 0 to below 1, which is then what is tested and kept; 0 keeps the weights themselves.
        save_every_steps: Also save the state after so many steps of an epoch; 0 saves at ends of epochs only.
        is_adaptation: The weights are a start that holds them (``start_strength``); the loss chooses among the classes of the clips
            only, so that a class without clips is absent, not wrong.
    """

    FROM_DATA: ClassVar[tuple[str, ...]] = ("is_adaptation",)

    precision: str = "fp32"
    parts: int = 1
    clip_norm: float = 1.0
    average: float = 0.0
    save_every_steps: int = 0
    is_adaptation: bool = False

    def __post_init__(self) -> None:
        check_choices(self, {"precision": PRECISIONS})
        check_counts(self, "parts")
        check_range(self, "clip_norm", "save_every_steps", least=0)
        check_range(self, "average", least=0, below=1)

    def autocast(self, device: torch.device) -> torch.autocast:
        """The context in which a model is computed."""
        return torch.autocast(device.type, PRECISIONS[self.precision], enabled=self.precision != "fp32")


@contextmanager
def memory_advice(clips: int, device: torch.device) -> Iterator[None]:
    """Where the memory is too small, an error that names in one sentence what to change.

    Raises:
        BackendError: It is.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        is_full = isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
        if not is_full:
            raise
        raise BackendError(
            f"{device} has too little memory for {clips} clips at once; compute the batch in more parts (--set engine.parts=2) "
            "or in bf16 (--set engine.precision=bf16), or take fewer clips at once (--set training.batch=16)"
        ) from error
