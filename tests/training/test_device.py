"""Networks on a GPU. Tensors without values (torch's device ``meta``) stand in for it: they cannot be read as numbers before they are copied to the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from small_grace import SMALL, labelled
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dferkit.models.grace import Grace
from dferkit.schema import Alignment, ModelOutput, TokenBatch
from dferkit.training import loop
from dferkit.training.score import predict_logits, predict_outputs, whole_plans

GPU = "meta"


class Copies(TorchFunctionMode):
    """A copy from the stand-in to the CPU has values, as a copy from a GPU has: zeros."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.to, Tensor.cpu) and args[0].is_meta and GPU not in map(str, args[1:]):
            return torch.zeros(args[0].shape, dtype=args[0].dtype)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def gpu() -> Iterator[str]:
    with Copies():
        yield GPU


class Aligns(nn.Module):
    """Aligns every word with every token alike."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(SMALL.visual_dim, 7)

    def forward(self, batch: TokenBatch) -> ModelOutput:
        """Scores of the mean token, and the plan."""
        assert batch.visual is not None
        assert batch.text_mask is not None
        clips, steps, patches = batch.visual.shape[:3]
        plan = batch.text_mask[..., None].float().expand(-1, -1, steps * patches)
        index = torch.arange(steps * patches, device=plan.device).expand(clips, -1)
        return ModelOutput(
            logits=self.head(batch.visual.mean((1, 2))),
            alignment=Alignment(plan=plan, score=plan.sum((1, 2)), visual_index=index, method="cosine"),
            motion=batch.visual.mean(-1),
        )


def test_answers_of_a_gpu_come_back_to_the_cpu(gpu: str) -> None:
    data, model = labelled(5), Aligns()
    assert data.texts is not None
    plans = whole_plans(predict_outputs(model, data, device=gpu), data.texts)
    assert [plan.shape for plan in plans] == [(len(text.pieces), 4 * 9) for text in data.texts]
    assert predict_logits(model, data, device=gpu).device.type == "cpu"


def test_a_model_comes_back_from_the_gpu_and_can_be_trained_on(gpu: str) -> None:
    data, model = labelled(5), Aligns()
    predict_logits(model, data, device=gpu)
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    assert not any(parameter.is_inference() for parameter in model.parameters())
    model(data.batch(slice(0, 5))).logits.sum().backward()


def test_a_state_of_the_cpu_is_not_continued_on_a_gpu(
    gpu: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Exception):
        pass

    asked: list[Mapping[str, Any]] = []

    def stop(*_: Any, settings: Mapping[str, Any]) -> int:
        asked.append(settings)
        raise Stop

    monkeypatch.setattr(loop, "load_state", stop)
    for model in (Grace(SMALL), Grace(SMALL).to(gpu)):
        with pytest.raises(Stop):
            loop.train_steps(model, labelled(), loop.TrainingConfig(epochs=1, batch=14), state=tmp_path)
    assert asked[0].get("device") != asked[1].get("device"), "a state of other settings is refused"
