"""The Triton solver against the torch solver in float64: on a GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from dferkit.alignment import (
    AlignerConfig,
    TransportProblem,
    build_aligner,
    cosine_cost,
    transport_plan,
    transport_score,
)
from dferkit.errors import BackendError, ConfigError

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def problem(batch: int, words: int, visual: int, *, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    random = torch.Generator().manual_seed(seed)
    cost = cosine_cost(*(torch.randn(batch, n, 16, generator=random) for n in (words, visual)))
    masks = {
        "text_mask": torch.rand(batch, words, generator=random) < 0.8,
        "visual_mask": torch.rand(batch, visual, generator=random) < 0.8,
    }
    masks["text_mask"][:, 0] = masks["visual_mask"][:, -1] = True
    masses = {
        "text_mass": torch.rand(batch, words, generator=random) + 0.05,
        "visual_mass": torch.rand(batch, visual, generator=random) + 0.05,
    }
    return cost.to(DEVICE), {key: value.to(DEVICE) for key, value in (masks | masses).items()}


@pytest.mark.parametrize(
    ("shape", "epsilon", "relaxations"),
    [
        ((2, 7, 40), 0.2, (None, None)),
        ((2, 7, 40), 0.05, (None, None)),
        ((2, 20, 65), 0.01, (None, None)),
        ((1, 40, 7), 0.05, (None, None)),
        ((1, 40, 7), 0.05, (0.3, 0.2)),
        ((1, 1, 9), 0.05, (None, None)),
        ((1, 9, 1), 0.05, (None, None)),
        ((1, 16, 32), 0.1, (None, None)),
        ((2, 7, 40), 0.1, (0.2, None)),
        ((2, 7, 40), 0.05, (None, 0.1)),
        ((2, 7, 40), 0.01, (0.3, 0.2)),
        ((1, 1, 9), 0.1, (None, 0.1)),
        ((2, 5, 5), 0.002, (None, None)),
        ((1, 8, 8), 0.002, (None, None)),
        ((1, 4, 5), 0.001, (None, None)),
    ],
)
def test_equals_the_torch_solver(shape, epsilon, relaxations):
    cost, sides = problem(*shape, seed=int(1000 * epsilon))
    options = {"epsilon": epsilon, "text_relaxation": relaxations[0], "visual_relaxation": relaxations[1]}
    found = transport_plan(TransportProblem(cost=cost, method="triton", **options, **sides))
    exact = transport_plan(TransportProblem(cost=cost.double(), method="newton", tolerance=1e-11, **options, **sides))
    # Potentials of hundreds are rounded by 3e-5 in float32.
    assert found.marginal_error.max() <= (1e-5 if epsilon >= 0.01 else 5e-5)
    assert (found.plan - exact.plan).abs().sum((1, 2)).max() <= (2e-5 if epsilon >= 0.01 else 1e-4)
    torch.testing.assert_close(found.transport_cost.double(), exact.transport_cost, rtol=1e-5, atol=1e-6)
    dead = ~(sides["text_mask"][:, :, None] & sides["visual_mask"][:, None, :])
    assert (found.plan[dead] == 0).all()
    assert found.plan.isfinite().all()


def test_gradient_and_score_are_those_of_the_torch_solver():
    cost, sides = problem(2, 9, 50)
    cotangent = torch.randn(cost.shape, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    gradients = []
    for method, dtype in (("triton", torch.float32), ("newton", torch.float64)):
        leaf = cost.detach().to(dtype).requires_grad_()
        plan = transport_plan(TransportProblem(cost=leaf, epsilon=0.05, method=method, **sides)).plan
        score = transport_score(TransportProblem(cost=leaf, epsilon=0.05, method=method, **sides))
        total = (plan * cotangent).sum() + score.transport_cost.sum() + score.value.sum()
        gradients.append(torch.autograd.grad(total, leaf)[0].double())
    assert (gradients[0] - gradients[1]).norm() <= 1e-5 * gradients[1].norm()


def test_neighbours_and_padding_do_not_change_an_element():
    cost, sides = problem(3, 8, 30)
    padded = torch.nn.functional.pad(cost, (0, 5, 0, 3), value=torch.nan)
    wider = {k: torch.nn.functional.pad(v, (0, 3 if k.startswith("text") else 5)) for k, v in sides.items()}
    same = transport_plan(TransportProblem(cost=padded, method="triton", **wider)).plan
    torch.testing.assert_close(
        same[:, :8, :30], transport_plan(TransportProblem(cost=cost, method="triton", **sides)).plan
    )
    assert (same[:, 8:] == 0).all()
    assert (same[:, :, 30:] == 0).all()
    whole = transport_plan(TransportProblem(cost=cost, method="triton", **sides)).plan
    alone = transport_plan(
        TransportProblem(cost=cost[1:2], method="triton", **{key: value[1:2] for key, value in sides.items()})
    ).plan
    assert torch.equal(whole[1:2], alone)


def test_strided_costs_are_read_as_they_lie():
    cost, sides = problem(2, 8, 30)
    strided = cost.transpose(1, 2).contiguous().transpose(1, 2)
    assert not strided.is_contiguous()
    assert torch.equal(
        transport_plan(TransportProblem(cost=strided, method="triton", **sides)).plan,
        transport_plan(TransportProblem(cost=cost, method="triton", **sides)).plan,
    )


def test_steps_stop_at_the_limit_and_say_so():
    cost, sides = problem(1, 8, 30)
    found = transport_plan(TransportProblem(cost=cost, epsilon=0.01, max_iterations=3, method="triton", **sides))
    assert found.num_iterations == 3
    assert not found.converged.any()


def test_an_aligner_on_a_gpu_takes_the_kernel(monkeypatch):
    """Where no GPU is, the interpreter stands in for one; its float32 sums differ from those of the torch solver."""
    text, visual = (torch.randn(2, n, 16, generator=torch.Generator().manual_seed(n)).to(DEVICE) for n in (7, 40))
    align = build_aligner(AlignerConfig(), 16)
    if DEVICE == "cpu":
        in_torch = align(text, visual).plan
        monkeypatch.setattr("dferkit.alignment.choose.obstacle_to_triton", lambda device: "")
    by_name = {
        method: transport_plan(TransportProblem(cost=cosine_cost(text, visual), method=method)).plan
        for method in ("newton", "triton")
    }
    found = align(text, visual).plan
    assert torch.equal(found, by_name["triton"])
    assert not torch.equal(found, by_name["newton"])
    if DEVICE == "cpu":
        assert torch.equal(in_torch, by_name["newton"])


def test_what_it_cannot_take_is_refused(monkeypatch):
    with pytest.raises(ConfigError, match="float32"):
        transport_plan(TransportProblem(cost=torch.rand(1, 3, 4, dtype=torch.float64), method="triton"))
    assert transport_plan(TransportProblem(cost=torch.rand(0, 3, 4), method="triton")).plan.shape == (0, 3, 4)
    with pytest.raises(ConfigError, match="at most 128"):
        transport_plan(TransportProblem(cost=torch.rand(1, 130, 140), method="triton"))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(BackendError, match="NVIDIA"):
        transport_plan(TransportProblem(cost=torch.rand(1, 3, 4), method="triton"))


@pytest.mark.parametrize(("capability", "short", "repair"), [(80, 128, True), (90, 16, False)])
def test_the_kernel_compiles_for_gpus(capability, short, repair):
    """Compiling needs no GPU; it runs in a process of its own, where kernels are not bound to the interpreter."""
    program = f"""
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from dferkit.alignment.fused import _solve
fixed = dict(REPAIR={repair}, SHORT={short}, stride_j=1, TILE=32, SWEEPS=6, FAR=20.0, SHORTENINGS=12)
kinds = dict.fromkeys(("cost", "plan", "log_a", "log_b", "text", "visual"), "*fp32") | {{"counts": "*i32"}}
kinds |= dict.fromkeys(("scale", "row_slack", "column_slack", "tolerance"), "fp32")
names = _solve.arg_names
signature = {{name: "constexpr" if name in fixed else kinds.get(name, "i32") for name in names}}
constants = {{(names.index(name),): value for name, value in fixed.items()}}
target = GPUTarget("cuda", {capability}, 32)
done = triton.compile(ASTSource(_solve, signature, constexprs=constants), target=target, options=dict(num_warps=8))
assert "cubin" in done.asm and done.metadata.shared <= 160 * 1024
"""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
def test_the_shape_of_the_paper_on_a_gpu():
    cost, sides = problem(32, 77, 1568)
    found = transport_plan(TransportProblem(cost=cost, epsilon=0.05, **sides))
    exact = transport_plan(
        TransportProblem(cost=cost.double(), method="newton", tolerance=1e-11, epsilon=0.05, **sides)
    )
    assert found.converged.all()
    assert (found.plan - exact.plan).abs().sum((1, 2)).max() <= 2e-5
