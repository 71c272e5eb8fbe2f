"""Which solver runs: a Triton kernel on NVIDIA GPUs, Newton's method in torch elsewhere, sweeps for large problems."""

from __future__ import annotations

import functools
import importlib.util
import os

import torch
from jaxtyping import Float
from torch import Tensor

from dferkit.alignment.newton import newton
from dferkit.alignment.problem import Method
from dferkit.alignment.sinkhorn import sinkhorn
from dferkit.alignment.solver import Solver, SolverSettings
from dferkit.errors import BackendError, ConfigError

# Short side above which a Newton step costs more than the sweeps it saves.
_LARGE = 1024
# Longest short side of the Triton solver: its Hessian stays in the registers of one program.
_LONGEST_FUSED = 128
_LEAST_CAPABILITY = (8, 0)


def choose_solver(method: Method, cost: Float[Tensor, "batch words visual"]) -> Solver:
    """The solver of a method, for a cost of float32 or float64.

    ``auto`` takes ``fused`` (Triton) for a float32 cost on an NVIDIA GPU whose shorter side is at most 128, which is what
    an aligner gives for tokens on a GPU; everything else, on any device, goes to ``newton``, or to ``sinkhorn`` where both
    sides are longer than 1024. The gradient is the same torch code for all of them (``implicit``).

    Raises:
        BackendError: ``triton`` cannot run here.
        ConfigError: ``triton`` cannot take this cost.
    """
    short = min(cost.shape[1:])
    if method == "auto":
        if cost.dtype == torch.float32 and short <= _LONGEST_FUSED and not obstacle_to_triton(cost.device):
            method = "triton"
        else:
            method = "newton" if short <= _LARGE else "sinkhorn"
    match method:
        case "newton":
            return newton
        case "sinkhorn":
            return sinkhorn
    if cost.dtype != torch.float32 or short > _LONGEST_FUSED:
        raise ConfigError(
            f"method triton takes float32 and a shorter side of at most {_LONGEST_FUSED}, but the cost is {cost.dtype} "
            f"with {short}; use method auto"
        )
    is_interpreted = os.environ.get("TRITON_INTERPRET") == "1" and importlib.util.find_spec("triton") is not None
    if not is_interpreted and (reason := obstacle_to_triton(cost.device)):
        raise BackendError(f"method triton cannot run here: {reason}; use method auto")
    from dferkit.alignment.fused import fused

    return fused


@functools.cache
def obstacle_to_triton(device: torch.device) -> str:
    """Why the Triton solver cannot run on a device; empty where it can, which a small launch has shown."""
    if device.type != "cuda" or torch.version.cuda is None:
        return "the cost is not on an NVIDIA GPU"
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    if torch.cuda.get_device_capability(device) < _LEAST_CAPABILITY:
        return "the GPU is older than compute capability 8.0"
    from dferkit.alignment.fused import fused

    cost, mass = torch.rand(1, 2, 2, device=device), torch.full((1, 2), 0.5, device=device)
    settings = SolverSettings(epsilon=0.1, text_slack=0.0, visual_slack=0.0, tolerance=1e-3, max_iterations=10)
    try:
        fused(cost, mass, mass, settings, plan=torch.empty_like(cost))
    except Exception as error:  # a missing compiler and much else, none of it the caller's fault
        return f"{type(error).__name__} in a trial launch"
    return ""
