"""The solvers that ``transport.py`` compares, each behind the same two functions.

``plan(cost, epsilon, work)`` gives the plan, ``gradient(cost, cotangent, epsilon, work)`` the plan and the gradient of
⟨cotangent, plan⟩. ``work`` is the tolerance for solvers that stop by themselves, the number of sweeps for the others.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dferkit.alignment import TransportProblem, transport_plan


@dataclass(frozen=True, kw_only=True)
class Solver:
    """A solver under test.

    Attributes:
        module: What has to be installed.
        counts_sweeps: ``work`` is a number of sweeps, not a tolerance.
        fixed_sweeps: Sweeps it is given in every case because it does not reach the tolerance in reasonable time.
        keeps_sweeps: Memory of its gradient grows with the sweeps.
    """

    name: str
    module: str
    plan: Callable[[Tensor, float, float], Tensor]
    gradient: Callable[[Tensor, Tensor, float, float], tuple[Tensor, Tensor]]
    counts_sweeps: bool = False
    fixed_sweeps: int | None = None
    keeps_sweeps: bool = False

    @property
    def is_installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None


def by_autograd(plan: Callable[[Tensor, float, float], Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    """``gradient`` of a solver written in torch."""

    def gradient(cost: Tensor, cotangent: Tensor, epsilon: float, work: float) -> tuple[Tensor, Tensor]:
        leaf = cost.detach().requires_grad_()
        found = plan(leaf, epsilon, work)
        return found.detach(), torch.autograd.grad(found, leaf, cotangent)[0]

    return gradient


def ours(cost: Tensor, epsilon: float, work: float) -> Tensor:
    return transport_plan(TransportProblem(cost=cost, epsilon=epsilon, tolerance=work)).plan


def pot(cost: Tensor, epsilon: float, work: float) -> Tensor:
    import ot

    grad = "autodiff" if cost.requires_grad else "detach"
    return ot.solve_batch(cost, reg=epsilon, max_iter=int(work), tol=0.0, method="log_sinkhorn", grad=grad).plan


def geomloss(cost: Tensor, epsilon: float, work: float) -> Tensor:
    from geomloss import ot

    batch, words, visual = cost.shape
    a, b = cost.new_full((batch, words), 1 / words), cost.new_full((batch, visual), 1 / visual)
    return ot.solve_batch(cost, reg=epsilon, a=a, b=b, max_iter=int(work)).plan


def ott_jax(mode: str) -> dict[str, Callable[..., Any]]:
    """ott-jax with jit and vmap; "lse" is its logarithmic mode, "kernel" the faster and less stable one."""
    compiled: dict[tuple[float, float], tuple[Any, Any]] = {}

    def functions(epsilon: float, work: float) -> tuple[Any, Any]:
        if (epsilon, work) not in compiled:
            # XLA reads this once, when it starts; torch's threads are set by the caller.
            os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
            import jax
            from ott.geometry import geometry
            from ott.problems.linear import linear_problem
            from ott.solvers.linear import sinkhorn

            solver = sinkhorn.Sinkhorn(threshold=work, max_iterations=2000, lse_mode=mode == "lse")

            def one(cost: Any) -> Any:
                return solver(linear_problem.LinearProblem(geometry.Geometry(cost, epsilon=epsilon))).matrix

            plan = jax.vmap(one)

            def loss(cost: Any, cotangent: Any) -> tuple[Any, Any]:
                found = plan(cost)
                return (found * cotangent).sum(), found

            compiled[epsilon, work] = jax.jit(plan), jax.jit(jax.grad(loss, has_aux=True))
        return compiled[epsilon, work]

    def plan(cost: Tensor, epsilon: float, work: float) -> Tensor:
        import numpy as np

        return torch.from_numpy(np.array(functions(epsilon, work)[0](cost.numpy())))

    def gradient(cost: Tensor, cotangent: Tensor, epsilon: float, work: float) -> tuple[Tensor, Tensor]:
        import numpy as np

        of_cost, found = functions(epsilon, work)[1](cost.numpy(), cotangent.numpy())
        return torch.from_numpy(np.array(found)), torch.from_numpy(np.array(of_cost))

    return {"plan": plan, "gradient": gradient}


SOLVERS = (
    Solver(name="dferkit", module="dferkit", plan=ours, gradient=by_autograd(ours)),
    Solver(
        name="POT autodiff",
        module="ot",
        plan=pot,
        gradient=by_autograd(pot),
        counts_sweeps=True,
        keeps_sweeps=True,
    ),
    Solver(name="ott-jax lse", module="ott", **ott_jax("lse")),
    Solver(name="ott-jax kernel", module="ott", **ott_jax("kernel")),
    Solver(name="geomloss", module="geomloss", plan=geomloss, gradient=by_autograd(geomloss), fixed_sweeps=100),
)
