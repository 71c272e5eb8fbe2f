"""Newton's method on the semi-dual: the potentials of the short side are the unknowns, the long side is eliminated.

With N words and M ≥ N visual tokens a step costs one N × M × N product and one N × N Cholesky factor. Where sweeps
need 30 to 2000 rounds as ε falls from 0.1 to 0.01, it takes 2 to 20 steps. All evaluations are matrix-vector products on
a kernel K = exp(centres − cost / ε) that is built once, and again around the current potentials when the scalings
u, v leave a safe range.

Source: Brauer et al., A Sinkhorn-Newton method for entropic optimal transport, 2017.
Deviation: the usual Newton works on both sides at once and on one problem; here one side is eliminated exactly, a
batch is solved together, and marginals may be relaxed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dferkit.alignment.solver import Solution, SolverSettings, divergence, exponent, safe_log, wanted_marginal

_WARM_SWEEPS = 6  # Sinkhorn sweeps before the first step; each costs a tenth of it.
_BLIND_SWEEPS = 4  # The first are made without computing their error, later as many as are expected to be needed.
_WORTH_A_STEP = 6  # Further sweeps are made instead of steps as long as so few are expected to end it.
# In a small block the time depends on the number of operations, not on their size, so a step costs as much as more sweeps.
_SMALL, _WORTH_A_SMALL_STEP = 2**15, 20
_FAR = 20.0  # Log-scaling at which the kernel is centred again, and the longest step.
# Logarithm below which a kernel entry is 0: even scalings at their limit leave it no weight. Exponentials of less, and
# products with numbers below the normal range, are ten times slower on processors.
_NEGLIGIBLE = {torch.float32: -70.0, torch.float64: -600.0}
_TINY = {torch.float32: 1e-37, torch.float64: 1e-300}
_NOISE = {torch.float32: 1e-4, torch.float64: 1e-10}  # Errors below may stop falling because of rounding alone.
_MAX_STALLED = 3
_STALE_ABOVE = 0.2  # After a step that leaves more of the error than this, the Hessian is computed again.
_MAX_SHORTENINGS = 12


@dataclass(kw_only=True, slots=True)
class _State:
    """The kernel and the scalings of one block; rows are the short side."""

    cost: Tensor
    a: Tensor
    b: Tensor
    log_a: Tensor
    log_b: Tensor
    settings: SolverSettings
    kernel: Tensor
    row_center: Tensor
    column_center: Tensor

    def column_sums(self, u: Tensor) -> Tensor:
        return torch.bmm(u[:, None, :], self.kernel)[:, 0].clamp_min(_TINY[u.dtype])

    def row_sums(self, v: Tensor) -> Tensor:
        # This form reads the kernel along its rows; bmm(kernel, v[:, :, None]) reads memory five times slower.
        return torch.bmm(v[:, None, :], self.kernel.transpose(1, 2))[:, 0].clamp_min(_TINY[v.dtype])

    def advance(self, u: Tensor, sweeps: int) -> Tensor:
        """Sweeps of the rows' scalings, without computing their error."""
        if self.settings.text_slack or self.settings.visual_slack:
            for _ in range(sweeps):
                u = self.row_scaling(self.row_sums(self.column_scaling(self.column_sums(u))))
            return u
        # Hard marginals, with as few operations as possible: in small blocks nothing else counts.
        a, b, u, turned = self.a[:, None, :], self.b[:, None, :], u[:, None, :], self.kernel.transpose(1, 2)
        tiny = _TINY[u.dtype]
        for _ in range(sweeps):
            v = b / torch.bmm(u, self.kernel).clamp_min_(tiny)
            u = a / torch.bmm(v, turned).clamp_min_(tiny)
        return u[:, 0]

    def row_scaling(self, sums: Tensor) -> Tensor:
        return _scaling(self.a, self.log_a, sums, self.row_center, self.settings.text_slack)

    def column_scaling(self, sums: Tensor) -> Tensor:
        return _scaling(self.b, self.log_b, sums, self.column_center, self.settings.visual_slack)

    def wanted_rows(self, x: Tensor) -> Tensor:
        return wanted_marginal(self.a, self.row_center + x, self.settings.text_slack)

    def value(self, x: Tensor, sums: Tensor) -> Tensor:
        """Semi-dual, to be minimised, up to a constant that does not change with the centres."""
        slack = self.settings.visual_slack
        columns = divergence(sums.double().log() - self.column_center, slack / (1.0 + slack))
        rows = divergence(self.log_a - self.row_center - x, self.settings.text_slack)
        return (self.b * columns).sum(1) + (self.a * rows).sum(1)

    def recenter(self, which: Tensor, u: Tensor, v: Tensor) -> None:
        """Take the scalings of the elements ``which`` into their kernels."""
        self.row_center[which] += torch.where(self.a > 0, u, 1.0).double().log()[which]
        self.column_center[which] += torch.where(v > 0, v, 1.0).double().log()[which]
        # Only these elements: a rebuilt kernel is rounded differently, and a finished plan must not change.
        rebuilt = exponent(self.cost[which], self.row_center[which], self.column_center[which], self.settings.epsilon)
        self.kernel[which] = _exp_(rebuilt)


@torch.no_grad()
def newton(
    cost: Float[Tensor, "batch words visual"],
    text_mass: Float[Tensor, "batch words"],
    visual_mass: Float[Tensor, "batch visual"],
    settings: SolverSettings,
    *,
    plan: Float[Tensor, "batch words visual"],
) -> Solution:
    """Solve a block, see ``solver.Solver``; iterations are sweeps and steps together.

    Words end with exactly their marginal; the visual tokens carry the error.
    """
    is_flipped = cost.shape[1] > cost.shape[2]
    if is_flipped:
        short = cost.transpose(1, 2).contiguous()
        state = _start(short, visual_mass, text_mass, settings.flipped(), torch.empty_like(short))
    else:
        state = _start(cost, text_mass, visual_mass, settings, plan)
    u, done, sweeps = _sweep(state)
    x = torch.where(state.a > 0, u, 1.0).double().log()
    x, sums, steps = _descend(state, x, done, settings.max_iterations - sweeps)
    u, v = _exp(x, state.a), state.column_scaling(sums)
    if not is_flipped:
        u = state.row_scaling(state.row_sums(v))
    state.kernel.mul_(u[:, :, None]).mul_(v[:, None, :])
    row, column = (
        center + torch.where(scaling > 0, scaling, 1.0).double().log()
        for center, scaling in ((state.row_center, u), (state.column_center, v))
    )
    if is_flipped:
        plan.copy_(state.kernel.transpose(1, 2))
        row, column = column, row
    return Solution(text_potential=row, visual_potential=column, num_iterations=sweeps + steps)


def _start(cost: Tensor, a: Tensor, b: Tensor, settings: SolverSettings, kernel: Tensor) -> _State:
    """Kernel whose largest entry in every row (and hard column) is 1: the sweeps of ε → 0 centre it."""
    # Masked rows are +inf before the minimum, and masked columns −inf before the maximum.
    nearest = torch.where(b > 0, cost.amin(1), 0.0) / settings.epsilon
    column = nearest / (1.0 + settings.visual_slack)
    torch.sub((column * settings.epsilon)[:, None, :], cost, out=kernel).mul_(1.0 / settings.epsilon)
    row = torch.where(a > 0, -kernel.amax(2), 0.0) / (1.0 + settings.text_slack)
    _exp_(kernel.add_(row[:, :, None]))
    return _State(
        cost=cost,
        a=a,
        b=b,
        log_a=safe_log(a),
        log_b=safe_log(b),
        settings=settings,
        kernel=kernel,
        row_center=row.double(),
        column_center=column.double(),
    )


def _sweep(state: _State) -> tuple[Tensor, Tensor, int]:
    """Sinkhorn sweeps until they converge, cost more than a Newton step, or leave the safe range."""
    settings, live = state.settings, state.a > 0
    worth = _WORTH_A_SMALL_STEP if state.kernel.numel() <= _SMALL else _WORTH_A_STEP
    u = state.row_scaling(state.kernel.sum(2).clamp_min(_TINY[state.a.dtype]))
    before = torch.full_like(state.a[:, 0], torch.inf)
    done = torch.zeros_like(before, dtype=torch.bool)
    sweep, blind = 0, _BLIND_SWEEPS
    while sweep + blind < settings.max_iterations:
        # A finished element stays as it is, so that its plan does not depend on the others of the batch.
        u = torch.where(done[:, None], u, state.advance(u, blind))
        sums = state.row_sums(state.column_scaling(state.column_sums(u)))
        log_u = torch.where(live, u, 1.0).log()
        error = (u * sums - state.wanted_rows(log_u)).abs().sum(1)
        done = done | (error <= 0.5 * settings.tolerance)
        ratio = (error / before).clamp(1e-9, 0.999).log() / (blind + 1)  # of one sweep, as logarithm
        expected = ((0.5 * settings.tolerance / error).log() / ratio).masked_fill(done, 0.0).amax()
        is_far = log_u.abs().amax() > _FAR
        sweep += blind + 1
        if bool(done.all() | is_far):
            return u, done, sweep
        more = float(expected)
        if sweep >= _WARM_SWEEPS and not more <= worth:
            return u, done, sweep
        u = torch.where(done[:, None], u, state.row_scaling(sums))
        before, blind = error, max(0, min(math.ceil(more) - 1, worth)) if sweep >= _WARM_SWEEPS else 0
    return u, done, max(sweep, 1)


def _descend(state: _State, x: Tensor, done: Tensor, max_steps: int) -> tuple[Tensor, Tensor, int]:
    """Newton steps with a line search; the log-scalings of the rows, the column sums they give, and the steps."""
    settings, dtype = state.settings, state.a.dtype
    u = _exp(x, state.a)
    sums = state.column_sums(u)
    best, before = torch.full_like(x[:, 0], torch.inf), torch.zeros_like(x[:, 0])
    stalled = torch.zeros_like(before)
    is_near = torch.ones_like(done)  # Nothing to gain from one more step where the sweeps sufficed.
    factor = x.new_empty(x.shape[0], x.shape[1], x.shape[1])
    for step in range(max_steps):
        v = state.column_scaling(sums)
        is_far = ~done & (x.abs().amax(1) > _FAR)
        if bool(is_far.any()):
            state.recenter(far := is_far.nonzero()[:, 0], u, v)
            x[far] = 0.0
            u = _exp(x, state.a)
            sums = state.column_sums(u)
            v = state.column_scaling(sums)
        rows = (u * state.row_sums(v)).double()
        wanted = state.wanted_rows(x)
        gradient = rows - wanted
        error = gradient.abs().sum(1)
        stalled = torch.where((error > 0.5 * best) & (error < _NOISE[dtype]), stalled + 1, 0.0)
        best = torch.minimum(best, error)
        # The step after the tolerance is reached needs no new Hessian, and makes the gradient of the plan much better.
        done = done | (is_near & (error <= 0.5 * settings.tolerance)) | (stalled >= _MAX_STALLED)
        is_near = error <= 0.5 * settings.tolerance
        if bool(done.all()):
            return x, sums, step
        # A Hessian that still contracts well is used again: its product and factor are most of a step.
        stale = ~done & ~is_near & ~(error <= _STALE_ABOVE * before)
        before = error
        if bool(stale.any()):
            _factorise(state, factor, stale, u, (v / sums).sqrt(), rows, wanted, error)
        direction = -torch.cholesky_solve(gradient[:, :, None], factor)[:, :, 0]
        slope = (gradient * direction).sum(1)
        length = (_FAR / direction.abs().amax(1).clamp_min(1e-30)).clamp(max=1.0).masked_fill(done, 0.0)
        value = state.value(x, sums)
        # The last term allows for the rounding of the value near the optimum.
        slack = 10 * torch.finfo(dtype).eps * value.abs().clamp_min(1.0)
        for _ in range(_MAX_SHORTENINGS):
            tried = torch.where(done[:, None], x, x + length[:, None] * direction)
            u = _exp(tried, state.a)
            sums = state.column_sums(u)
            is_bad = ~done & ~(state.value(tried, sums) <= value + 1e-4 * length * slope + slack)
            if not bool(is_bad.any()):
                break
            length = torch.where(is_bad, length * 0.3, length)
        x = tried
    return x, sums, max_steps


def _factorise(
    state: _State, factor: Tensor, which: Tensor, u: Tensor, weight: Tensor, rows: Tensor, wanted: Tensor, error: Tensor
) -> None:
    """Renew the Cholesky factors of the elements ``which``: of the Hessian, with a ridge that vanishes with the error."""
    settings, kernel, live = state.settings, state.kernel, state.a > 0
    is_all = bool(which.all())
    if not is_all:
        kernel, u, weight, rows, wanted, error, live = (
            part[which] for part in (kernel, u, weight, rows, wanted, error, live)
        )
    # P diag(1 / column sums) Pᵀ in two halves that cannot overflow, K √(v / s) ≤ √b / u, and whose squares are kept
    # in the normal range.
    half = torch.threshold_(kernel * weight[:, None, :], _TINY[u.dtype] ** 0.5, 0.0)
    hessian = torch.bmm(half, half.transpose(1, 2)).mul_(u[:, :, None]).mul_(u[:, None, :]).double()
    shrink = 1.0 / (1.0 + settings.visual_slack)
    hessian.mul_(-shrink)
    # The off-diagonal makes the diagonal: a graph Laplacian whose row sums are exactly zero.
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    diagonal.zero_()
    ridge = (1e-9 + 1e-2 * error.clamp(max=1.0))[:, None]
    diagonal.copy_((1.0 - shrink + ridge) * rows + settings.text_slack * wanted - hessian.sum(2) + ~live)
    if settings.text_slack == 0 and settings.visual_slack == 0:
        # A shift of all potentials changes nothing; this term makes it 0.
        hessian.baddbmm_(rows[:, :, None], rows[:, None, :])
    found, failed = torch.linalg.cholesky_ex(hessian)
    if bool(failed.any()):  # Rounding left it indefinite: the step of a Sinkhorn sweep then.
        plain = torch.diag_embed((rows + settings.text_slack * wanted).clamp_min(1e-30).sqrt() + ~live)
        found = torch.where((failed != 0)[:, None, None], plain, found)
    if is_all:
        factor.copy_(found)
    else:
        factor[which] = found


def _scaling(mass: Tensor, log_mass: Tensor, sums: Tensor, center: Tensor, slack: float) -> Tensor:
    """Scaling that gives one side its marginal, the other side held."""
    if slack == 0:
        return mass / sums
    log_scaling = log_mass - (sums.double().log() + slack * center) / (1.0 + slack)
    return torch.where(mass > 0, log_scaling.exp().to(mass.dtype), 0.0)


def _exp_(kernel: Tensor) -> Tensor:
    """Exponential in place; exactly 0 where it is negligible."""
    lowest = _NEGLIGIBLE[kernel.dtype]
    return torch.threshold_(kernel.clamp_min_(lowest).exp_(), 1.01 * math.exp(lowest), 0.0)


def _exp(x: Tensor, mass: Tensor) -> Tensor:
    return torch.where(mass > 0, x.exp().to(mass.dtype), 0.0)
