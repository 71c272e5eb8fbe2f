"""What a caller asks of the transport solvers, checked and brought into one form."""

from __future__ import annotations

import functools
import importlib.util
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dferkit.alignment.newton import newton
from dferkit.alignment.problem import Settings, Solver, block_slices
from dferkit.alignment.sinkhorn import sinkhorn
from dferkit.errors import BackendError, ConfigError, DataError

METHODS = ("auto", "newton", "sinkhorn", "triton")
# Short side above which a Newton step costs more than the sweeps it saves.
_LARGE = 1024
# Longest short side of the Triton solver: its Hessian stays in the registers of one program.
_LONGEST_FUSED = 128
_LEAST_CAPABILITY = (8, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A checked problem: masses that sum to 1 and are 0 at masked positions, and how to solve it."""

    cost: Float[Tensor, "batch words visual"]
    text_mass: Float[Tensor, "batch words"]
    visual_mass: Float[Tensor, "batch visual"]
    is_masked: bool
    settings: Settings
    solver: Solver

    @property
    def is_one_launch(self) -> bool:
        """The solver takes the whole batch at once and needs no scratch memory of its size."""
        return self.solver not in (newton, sinkhorn)


def check_request(
    cost: Float[Tensor, "batch words visual"],
    text_mask: Bool[Tensor, "batch words"] | None,
    visual_mask: Bool[Tensor, "batch visual"] | None,
    text_mass: Float[Tensor, "batch words"] | None,
    visual_mass: Float[Tensor, "batch visual"] | None,
    *,
    epsilon: float,
    text_relaxation: float | None,
    visual_relaxation: float | None,
    tolerance: float,
    max_iterations: int,
    method: str,
) -> Request:
    """The request of ``transport_plan`` and ``transport_score``, or the error they promise."""
    for name, value in (
        ("epsilon", epsilon),
        ("tolerance", tolerance),
        ("text_relaxation", text_relaxation),
        ("visual_relaxation", visual_relaxation),
    ):
        if value is not None and not (math.isfinite(value) and value > 0):
            hard = "; None asks for a hard marginal" if name.endswith("relaxation") else ""
            raise ConfigError(f"{name} is {value}, but must be a finite number above 0{hard}")
    if max_iterations < 1:
        raise ConfigError(f"max_iterations is {max_iterations}, but must be at least 1")
    if method not in METHODS:
        raise ConfigError(f"method is {method!r}, but must be one of {', '.join(METHODS)}")
    if cost.ndim != 3:
        raise DataError(
            f"the cost has the shape {tuple(cost.shape)}; give (batch, words, visual tokens), for one problem cost[None]"
        )
    cost = cost.to(torch.promote_types(cost.dtype, torch.float32))
    a = _masses(text_mass, text_mask, cost.shape[:2], like=cost, what="text", things="words")
    b = _masses(visual_mass, visual_mask, cost.shape[::2], like=cost, what="visual", things="visual tokens")
    request = Request(
        cost=cost,
        text_mass=a,
        visual_mass=b,
        is_masked=text_mask is not None or visual_mask is not None,
        settings=Settings(
            epsilon=epsilon,
            text_slack=0.0 if text_relaxation is None else epsilon / text_relaxation,
            visual_slack=0.0 if visual_relaxation is None else epsilon / visual_relaxation,
            tolerance=tolerance,
            max_iterations=max_iterations,
        ),
        solver=_solver(method, cost),
    )
    for part in block_slices(cost):
        live = filled(cost.detach()[part], a[part], b[part], 0.0, is_masked=request.is_masked)
        # A sum is one pass without a copy; only one that overflows or is NaN is looked at closely.
        if not bool(live.sum().isfinite()) and not bool(live.isfinite().all()):
            raise DataError("the transport cost has NaN or infinite entries at positions that count; check the tokens")
    return request


def _solver(method: str, cost: Tensor) -> Solver:
    """The solver of a method; ``auto`` takes the fastest that this cost allows."""
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
    settings = Settings(epsilon=0.1, text_slack=0.0, visual_slack=0.0, tolerance=1e-3, max_iterations=10)
    try:
        fused(cost, mass, mass, settings, plan=torch.empty_like(cost))
    except Exception as error:  # a missing compiler and much else, none of it the caller's fault
        return f"{type(error).__name__} in a trial launch"
    return ""


def blocks(request: Request) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """(part of the batch, its cost with +inf at masked positions, its masses), without gradient."""
    for part in [slice(None)] if request.is_one_launch else block_slices(request.cost):
        a, b = request.text_mass.detach()[part], request.visual_mass.detach()[part]
        yield part, filled(request.cost.detach()[part], a, b, torch.inf, is_masked=request.is_masked), a, b


def filled(block: Tensor, a: Tensor, b: Tensor, value: float, *, is_masked: bool) -> Tensor:
    """The block with a value at masked positions, whatever stood there; the block itself where nothing is masked."""
    if not is_masked:
        return block
    return torch.where((a > 0)[:, :, None] & (b > 0)[:, None, :], block, value)


def _masses(
    mass: Tensor | None, mask: Tensor | None, shape: torch.Size, *, like: Tensor, what: str, things: str
) -> Tensor:
    """Masses that sum to 1 over the live positions and are 0 elsewhere."""
    for name, value in ((f"{what}_mask", mask), (f"{what}_mass", mass)):
        if value is not None and value.shape != shape:
            raise DataError(f"{name} has the shape {tuple(value.shape)}, but the cost asks for {tuple(shape)}")
    if mask is not None and mask.dtype != torch.bool:
        raise DataError(f"{what}_mask is of type {mask.dtype}; give booleans, such as mask.bool()")
    live = torch.ones(shape, dtype=torch.bool, device=like.device) if mask is None else mask
    if not bool(live.any(1).all()):
        where = (~live.any(1)).nonzero()[:, 0].tolist()
        raise DataError(f"batch elements {where} have no {things} that count; drop them or give at least one")
    if mass is None:
        mass = live.to(like.dtype)
    else:
        mass = mass.to(like.dtype)
        if not bool((mass.isfinite() & (mass > 0) | ~live).all()):
            raise DataError(
                f"{what}_mass must be finite and above 0 wherever its mask is True; mask positions without mass"
            )
        mass = torch.where(live, mass, 0.0)
        mass = mass / mass.amax(1, keepdim=True)  # so that no sum overflows
    mass = mass / mass.sum(1, keepdim=True)
    if bool((live & (mass < torch.finfo(mass.dtype).tiny)).any()):
        raise DataError(
            f"{what}_mass has entries too small beside the others for {mass.dtype}; mask positions without mass"
        )
    return mass
