"""The Newton solver as one launch on an NVIDIA GPU, in Triton: one program solves one batch element.

A batch of 32 captions is solved by 32 programs in parallel, without a return to the host. The torch loop of ``newton``
launches some hundred small operations and waits for their errors; here the error of each element ends its own sweeps,
steps and line search. A pass over the cost eliminates the long side tile by tile, in the log domain
without a stored kernel: the cost stays in the cache of the device, and memory does not grow. The step is solved by
conjugate gradients on the short side.

Tested in Triton's interpreter (``TRITON_INTERPRET=1``) and compiled for NVIDIA GPUs; not timed on one.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from dferkit.alignment.solver import Solution, SolverSettings, log_mass

_TILE = 32
_WARPS = 8


@triton.jit
def _divergence(excess, slack):
    # (exp(slack · excess) − 1) / slack, see ``solver.divergence``.
    safe = tl.where(slack == 0.0, 1.0, slack)
    return tl.where(slack == 0.0, excess, (tl.exp(slack * excess) - 1.0) / safe)


@triton.jit
def _columns(cost, log_b, p, i, j, short, long, stride_i, stride_j, scale, slack):
    # One tile of the plan with the long side eliminated: plan, potentials q, log-sums, masses, sums.
    inside = j < long
    at = i[:, None] * stride_i + j[None, :] * stride_j
    entry = tl.load(cost + at, mask=(i < short)[:, None] & inside[None, :], other=float("inf"))
    exponent = p[:, None] - entry * scale
    top = tl.max(exponent, axis=0)
    top = tl.where(top == float("-inf"), 0.0, top)
    grown = tl.exp(exponent - top[None, :])
    total = tl.sum(grown, axis=0)
    log_mass = tl.load(log_b + j, mask=inside, other=float("-inf"))
    is_live = (log_mass > float("-inf")) & (total > 0.0)
    log_sum = tl.where(is_live, tl.log(tl.where(is_live, total, 1.0)) + top, 0.0)
    log_mass = tl.where(is_live, log_mass, 0.0)
    q = log_mass - log_sum / (1.0 + slack)
    factor = tl.where(is_live, tl.exp(top + q), 0.0)
    mass = tl.where(is_live, tl.exp(log_mass), 0.0)
    return grown * factor[None, :], q, log_sum, mass, total * factor


@triton.jit
def _evaluate(
    cost, log_b, p, i, short, long, stride_i, stride_j, scale, slack, SHORT: tl.constexpr, TILE: tl.constexpr
):
    # Row sums, the columns' part of the semi-dual, and P diag(1 / column sums) Pᵀ without its diagonal.
    rows = tl.zeros([SHORT], tl.float32)
    value = tl.zeros([TILE], tl.float32)
    gram = tl.zeros([SHORT, SHORT], tl.float32)
    for start in range(0, long, TILE):
        j = start + tl.arange(0, TILE)
        plan, _q, log_sum, mass, sums = _columns(cost, log_b, p, i, j, short, long, stride_i, stride_j, scale, slack)
        rows += tl.sum(plan, axis=1)
        value += mass * _divergence(log_sum, slack / (1.0 + slack))
        half = plan * tl.where(sums > 0.0, 1.0 / tl.sqrt(tl.where(sums > 0.0, sums, 1.0)), 0.0)[None, :]
        # Rounding of the Hessian to TF32 costs a fraction of a step; all else is float32.
        gram += tl.dot(half, tl.trans(half))
    column = tl.arange(0, SHORT)
    return rows, tl.sum(value, axis=0), tl.where(i[:, None] == column[None, :], 0.0, gram)


@triton.jit
def _direction(gradient, gram, shrink, diagonal, rows, shift, MOST: tl.constexpr):
    # −H⁻¹ gradient by conjugate gradients; H = diag(diagonal) − shrink · gram + shift · rows rowsᵀ.
    inverse = 1.0 / (diagonal + shift * rows * rows)
    x = tl.zeros_like(gradient)
    rest = -gradient
    z = inverse * rest
    d = z
    fit = tl.sum(rest * z, axis=0)
    enough = 1e-8 * fit
    number = 0
    while (number < MOST) & (fit > enough):
        # The product along the columns: the Hessian is symmetric, and d is along the rows.
        across = tl.sum(gram * d[:, None], axis=0)
        bent = diagonal * d - shrink * across + shift * rows * tl.sum(rows * d, axis=0)
        length = fit / tl.sum(d * bent, axis=0)
        x += length * d
        rest -= length * bent
        z = inverse * rest
        before = fit
        fit = tl.sum(rest * z, axis=0)
        d = z + (fit / before) * d
        number += 1
    return x


@triton.jit
def _row_change(rows, p, log_mass, live, slack):
    # Change of the rows' potentials that gives them their marginal, the columns held: one sweep.
    safe = tl.where(live, tl.maximum(rows, 1e-30), 1.0)
    return tl.where(live, log_mass - (tl.log(safe) - p) / (1.0 + slack) - p, 0.0)


@triton.jit
def _search(
    cost, log_b, a, p, step, log_mass, live, i, value, slope, length, is_step,
    short, long, stride_i, stride_j, scale, row_slack, column_slack,
    SHORT: tl.constexpr, TILE: tl.constexpr, SHORTENINGS: tl.constexpr,
):  # fmt: skip
    # Sweeps are taken whole; a step is shortened until it lowers the semi-dual, up to the rounding of its value.
    forgiven = 1.2e-6 * tl.maximum(tl.abs(value), 1.0)
    old, from_value = p, value
    rows = tl.zeros([SHORT], tl.float32)
    gram = tl.zeros([SHORT, SHORT], tl.float32)
    tries = 0
    is_worse = True
    while (tries < SHORTENINGS) & is_worse:
        p = old + length * step
        rows, value, gram = _evaluate(
            cost, log_b, p, i, short, long, stride_i, stride_j, scale, column_slack, SHORT, TILE
        )
        excess = tl.where(live, log_mass - p, 0.0)
        value += tl.sum(a * _divergence(excess, row_slack), axis=0)
        is_worse = is_step & ((value <= from_value + 1e-4 * length * slope + forgiven) == False)  # noqa: E712
        length *= 0.3
        tries += 1
    return p, rows, value, gram


@triton.jit
def _solve(
    cost, plan, log_a, log_b, text, visual, counts,
    short, long, stride_b, stride_i, stride_j, plan_b, plan_i, plan_j,
    scale, row_slack, column_slack, tolerance, max_iterations,
    REPAIR: tl.constexpr, SHORT: tl.constexpr, TILE: tl.constexpr, SWEEPS: tl.constexpr, FAR: tl.constexpr,
    SHORTENINGS: tl.constexpr,
):  # fmt: skip
    element = tl.program_id(0).to(tl.int64)
    cost += element * stride_b
    plan += element * plan_b
    log_a += element * short
    log_b += element * long
    text += element * short
    visual += element * long
    i = tl.arange(0, SHORT)
    log_mass = tl.load(log_a + i, mask=i < short, other=float("-inf"))
    live = log_mass > float("-inf")
    log_mass = tl.where(live, log_mass, 0.0)
    a = tl.where(live, tl.exp(log_mass), 0.0)
    is_hard = (row_slack == 0.0) & (column_slack == 0.0)
    shift = tl.where(is_hard, 1.0, 0.0)
    shrink = 1.0 / (1.0 + column_slack)
    p = log_mass
    step = tl.zeros([SHORT], tl.float32)
    rows = tl.zeros([SHORT], tl.float32)
    gram = tl.zeros([SHORT, SHORT], tl.float32)
    value = 0.0
    slope = 0.0
    length = 1.0
    best = 2.0
    number = 0
    stalled = 0
    is_near = False
    is_done = False
    while is_done == False:  # noqa: E712 (tensors have no `not`)
        p, rows, value, gram = _search(
            cost, log_b, a, p, step, log_mass, live, i, value, slope, length, number > SWEEPS,
            short, long, stride_i, stride_j, scale, row_slack, column_slack, SHORT, TILE, SHORTENINGS,
        )  # fmt: skip
        wanted = tl.where(live, a * tl.exp(-row_slack * (p - log_mass)), 0.0)
        gradient = tl.where(live, rows - wanted, 0.0)
        error = tl.sum(tl.abs(gradient), axis=0)
        # One step more than the tolerance requires makes the gradient of the plan ten times better. Small errors may
        # stop falling because of rounding alone.
        stalled = tl.where((error > 0.5 * best) & (error < 1e-4), stalled + 1, 0)
        best = tl.minimum(best, error)
        number += 1
        is_done = (is_near & (error <= 0.5 * tolerance)) | (stalled >= 3) | (number >= max_iterations)
        is_near = error <= 0.5 * tolerance
        length = 1.0
        if number <= SWEEPS:
            step = _row_change(rows, p, log_mass, live, row_slack)
        else:
            if is_done == False:  # noqa: E712
                ridge = 1e-9 + 1e-2 * tl.minimum(error, 1.0)
                weight = (1.0 - shrink + ridge) * rows + row_slack * wanted
                diagonal = tl.where(live, tl.maximum(weight + shrink * tl.sum(gram, axis=0), 1e-12), 1.0)
                step = _direction(gradient, gram, shrink, diagonal, rows, shift, 2 * SHORT)
                slope = tl.sum(gradient * step, axis=0)
                length = tl.minimum(1.0, FAR / tl.maximum(tl.max(tl.abs(step), axis=0), 1e-30))
    # The columns have exactly their marginal here. Where rows are words, they get theirs instead, as in ``newton``.
    change = tl.zeros([SHORT], tl.float32)
    if REPAIR:
        change = _row_change(rows, p, log_mass, live, row_slack)
    repair = tl.where(live, tl.exp(change), 0.0)
    tl.store(text + i, p + change, mask=i < short)
    tl.store(counts + element, number)
    for start in range(0, long, TILE):
        j = start + tl.arange(0, TILE)
        part, q, _log_sum, _mass, _sums = _columns(
            cost, log_b, p, i, j, short, long, stride_i, stride_j, scale, column_slack
        )
        inside = (i < short)[:, None] & (j < long)[None, :]
        tl.store(plan + i[:, None] * plan_i + j[None, :] * plan_j, part * repair[:, None], mask=inside)
        tl.store(visual + j, q, mask=j < long)


@torch.no_grad()
def fused(
    cost: Float[Tensor, "batch words visual"],
    text_mass: Float[Tensor, "batch words"],
    visual_mass: Float[Tensor, "batch visual"],
    settings: SolverSettings,
    *,
    plan: Float[Tensor, "batch words visual"],
) -> Solution:
    """Solve a block, see ``solver.Solver``; float32, the shorter side at most 128: its Hessian stays in registers.

    Words end with exactly their marginal; the visual tokens carry the error, which cannot fall below the rounding of the
    float32 potentials: some 1e-5 where cost / epsilon is in the hundreds. Iterations are sweeps and steps together.
    """
    log_a, log_b = log_mass(text_mass), log_mass(visual_mass)
    text, visual = torch.empty_like(log_a), torch.empty_like(log_b)
    counts = torch.empty(len(cost), dtype=torch.int32, device=cost.device)
    batch, words, long = cost.shape
    is_flipped = words > long
    short, slacks = words, (settings.text_slack, settings.visual_slack)
    strides, plan_strides = cost.stride(), plan.stride()
    sides = (log_a, log_b, text, visual)
    if is_flipped:
        short, long, slacks = long, words, slacks[::-1]
        strides, plan_strides = (strides[0], *strides[:0:-1]), (plan_strides[0], *plan_strides[:0:-1])
        sides = (log_b, log_a, visual, text)
    if batch == 0:
        return Solution(text_potential=text.double(), visual_potential=visual.double(), num_iterations=0)
    with torch.cuda.device_of(cost):  # Triton launches on the current device.
        _solve[(batch,)](
            cost, plan, *sides, counts,
            short, long, *strides, *plan_strides,
            1.0 / settings.epsilon, *slacks, settings.tolerance, settings.max_iterations,
            REPAIR=not is_flipped, SHORT=max(16, triton.next_power_of_2(short)), TILE=_TILE, SWEEPS=6, FAR=20.0, SHORTENINGS=12,
            num_warps=_WARPS,
        )  # fmt: skip
    return Solution(text_potential=text.double(), visual_potential=visual.double(), num_iterations=int(counts.max()))
