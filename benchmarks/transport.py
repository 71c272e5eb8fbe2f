#!/usr/bin/env python3
"""Time, memory and gradient error of ``transport_plan`` against POT, geomloss and ott-jax.

Usage: python benchmarks/transport.py [--quick] [--budget SECONDS] [--add] [--out benchmarks/results/transport.json]
Peers: pip install '.[benchmark]'; one that is not installed is left out, and the table lists it.

Times are process CPU time on one thread, median of three, all in this process; compilation is not counted. POT is
given the sweeps after which the plain scaling loop in float64 has the wanted marginal error, rounded up to the next ten,
because it checks its own error at every tenth only; where unrolling them does not fit in memory, its time is extrapolated from two smaller numbers of sweeps and marked ``~``. Memory is the rise of
the resident high-water mark in a fresh process per solver, in multiples of the cost's own size.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F
from transport_peers import SOLVERS, Solver

HEADLINE = (32, 77, 1568)
SHAPES = (
    HEADLINE,
    (32, 32, 1568),
    (32, 77, 784),
    (32, 77, 196),
    (32, 32, 784),
    (32, 32, 196),
    (8, 77, 1568),
    (1, 77, 1568),
    (1, 32, 196),
)
STOPS = ((0.1, 1e-3), (0.1, 1e-5), (0.05, 1e-6), (0.01, 1e-3))  # (epsilon, marginal error)
QUICK = (
    *(("structured", HEADLINE, *stop) for stop in STOPS[1:]),
    ("random", HEADLINE, 0.05, 1e-6),
    ("structured", (32, 77, 196), 0.1, 1e-3),
    ("structured", (32, 77, 196), 0.05, 1e-6),
    ("structured", (1, 77, 1568), 0.05, 1e-6),
    ("structured", (1, 32, 196), 0.1, 1e-3),
    ("structured", (1, 32, 196), 0.01, 1e-3),
)
FULL = tuple(dict.fromkeys((*QUICK, *(("structured", shape, *stop) for shape in SHAPES for stop in STOPS))))
MOST_SWEEPS = 20_000
LARGEST_UNROLL = 4e9  # Bytes an unrolled gradient may take before its time is extrapolated.
UNROLLED_PER_SWEEP = 2.5  # Multiples of the cost that unrolling keeps per sweep, measured.


def make_cost(data: str, batch: int, words: int, visual: int) -> Tensor:
    """Cosine cost: ``structured`` has 12 shared clusters of unequal mass, as trained tokens; ``random`` has none."""
    random = torch.Generator().manual_seed(0)
    if data == "random":
        sides = [torch.randn(batch, count, 768, generator=random) for count in (words, visual)]
    else:
        centers, sides = torch.randn(12, 64, generator=random), []
        for count in (words, visual):
            weights = torch.rand(batch, 12, generator=random) ** 2 + 0.02
            chosen = centers[torch.multinomial(weights, count, replacement=True, generator=random)]
            sides.append(chosen + 0.7 * torch.randn(batch, count, 64, generator=random))
    text, tokens = (F.normalize(side, dim=-1) for side in sides)
    return (1 - torch.bmm(text, tokens.transpose(1, 2))).contiguous()


def count_sweeps(cost: Tensor, epsilon: float, tolerance: float) -> int:
    """Sweeps of the plain scaling loop, in float64, until the worst element has the marginal error."""
    kernel = (-cost.double() / epsilon).exp()
    words, visual = cost.shape[1:]
    u = kernel.new_full((cost.shape[0], words), 1 / words)
    sweep = 0
    for sweep in range(1, MOST_SWEEPS + 1):  # noqa: B007
        v = 1 / visual / torch.bmm(u[:, None, :], kernel)[:, 0]
        rows = torch.bmm(v[:, None, :], kernel.transpose(1, 2))[:, 0]
        if float((u * rows - 1 / words).abs().sum(1).max()) <= tolerance:
            break
        u = 1 / words / rows
    return sweep


def cpu_milliseconds(run: Callable[[], Any], repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return 1000 * statistics.median(taken)


def measure(solver: Solver, cost: Tensor, cotangent: Tensor, epsilon: float, work: float, exact: Tensor) -> dict:
    """Times, marginal error and gradient error of one solver on one case."""
    sweeps = (
        int(work)
        if not solver.keeps_sweeps
        else min(int(work), int(LARGEST_UNROLL / (UNROLLED_PER_SWEEP * cost.nbytes)))
    )
    if solver.keeps_sweeps and sweeps < work:
        few, many = max(1, sweeps // 4), max(2, sweeps // 2)
        times = [
            [
                cpu_milliseconds(lambda n=n: solver.plan(cost, epsilon, n), 1),
                cpu_milliseconds(lambda n=n: solver.gradient(cost, cotangent, epsilon, n), 1),
            ]
            for n in (few, many)
        ]
        forward, both = (a + (b - a) * (work - few) / (many - few) for a, b in zip(*times, strict=True))
        return {"forward_ms": forward, "both_ms": both, "is_extrapolated": True, "error": None, "gradient_error": None}
    solver.plan(cost, epsilon, work)
    plan, gradient = solver.gradient(cost, cotangent, epsilon, work)
    words, visual = cost.shape[1:]
    error = (plan.sum(2) - 1 / words).abs().sum(1) + (plan.sum(1) - 1 / visual).abs().sum(1)
    seen = gradient[: len(exact)].double()
    return {
        "forward_ms": cpu_milliseconds(lambda: solver.plan(cost, epsilon, work), 3),
        "both_ms": cpu_milliseconds(lambda: solver.gradient(cost, cotangent, epsilon, work), 3),
        "is_extrapolated": False,
        "error": finite(float(error.max())),
        "gradient_error": finite(float((seen - exact).norm() / exact.norm())),
    }


def finite(value: float) -> float | str:
    """JSON has no NaN."""
    return value if math.isfinite(value) else "not finite"


def run_case(case: tuple, solvers: list[Solver], deadline: float) -> dict:
    data, shape, epsilon, tolerance = case
    cost = make_cost(data, *shape)
    cotangent = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    # The reference: our solver in float64 to 1e-11; the tests hold it against an unrolled loop and against POT.
    few = slice(0, min(2, shape[0]))
    _, exact = SOLVERS[0].gradient(cost[few].double(), cotangent[few].double(), epsilon, 1e-11)
    sweeps = count_sweeps(cost, epsilon, tolerance)
    row: dict[str, Any] = {
        "data": data, "shape": list(shape), "epsilon": epsilon, "tolerance": tolerance, "sweeps": sweeps, "solvers": {}
    }  # fmt: skip
    for solver in solvers:
        if time.monotonic() > deadline and solver.name != "dferkit":
            continue
        work = 10 * math.ceil(sweeps / 10) if solver.counts_sweeps else solver.fixed_sweeps or tolerance
        try:
            row["solvers"][solver.name] = measure(solver, cost, cotangent, epsilon, work, exact)
        except Exception as error:
            if solver.name == "dferkit":
                raise
            # A peer that breaks on a case is a result, not the end of the run.
            row["solvers"][solver.name] = {"failed": type(error).__name__}
    return row


def status_bytes(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def peak_memory(solver: Solver) -> float:
    """Rise of the high-water mark over forward and backward at the headline shape, in multiples of the cost."""
    small = make_cost("structured", 1, 77, 200)
    work = 90 if solver.counts_sweeps else solver.fixed_sweeps or 1e-5
    solver.gradient(small, small, 0.1, work)  # Libraries load what they load on first use.
    cost = make_cost("structured", *HEADLINE)
    cotangent = torch.randn(HEADLINE, generator=torch.Generator().manual_seed(1))
    Path("/proc/self/clear_refs").write_text("5")
    before = status_bytes("VmRSS")
    kept = solver.gradient(cost, cotangent, 0.1, work)
    assert kept[0].shape == HEADLINE
    return (status_bytes("VmHWM") - before) / cost.nbytes


def memory_in_fresh_process(solver: Solver) -> float | None:
    command = [sys.executable, __file__, "--memory-of", solver.name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else None


def show(result: dict) -> None:
    table = Table("case", "sweeps", "solver", "forward ms", "with gradient ms", "× ours", "error", "gradient error")
    for row in result["cases"]:
        name = f"{row['data']} {'×'.join(map(str, row['shape']))} ε {row['epsilon']:g} to {row['tolerance']:g}"
        ours = row["solvers"]["dferkit"]["both_ms"]
        for solver, found in row["solvers"].items():
            if "failed" in found:
                table.add_row(name, str(row["sweeps"]), solver, "failed", found["failed"])
                continue
            mark = "~" if found["is_extrapolated"] else ""
            table.add_row(
                name,
                str(row["sweeps"]),
                solver,
                f"{mark}{found['forward_ms']:.1f}",
                f"{mark}{found['both_ms']:.1f}",
                f"{mark}{found['both_ms'] / ours:.1f}",
                *(
                    f"{x:.1e}" if isinstance(x, float) else str(x or "–")
                    for x in (found["error"], found["gradient_error"])
                ),
            )
    console = Console()
    console.print(table)
    for solver, multiple in result["memory"].items():
        console.print(f"peak memory {solver}: {multiple:.1f} × cost" if multiple else f"peak memory {solver}: failed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the grid")
    parser.add_argument("--budget", type=float, default=3600.0, help="seconds after which peers are left out")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "transport.json")
    parser.add_argument("--add", action="store_true", help="keep the complete rows of --out, measure the others")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory_of:
        print(peak_memory(next(s for s in SOLVERS if s.name == options.memory_of)))
        return
    solvers = [solver for solver in SOLVERS if solver.is_installed]
    absent = [solver.name for solver in SOLVERS if not solver.is_installed]
    if absent:
        print(f"Not installed, left out: {', '.join(absent)}; pip install '.[benchmark]'")
    earlier = json.loads(options.out.read_text(encoding="utf-8")) if options.add else {"memory": {}, "cases": []}
    memory = {s.name: earlier["memory"].get(s.name) or memory_in_fresh_process(s) for s in solvers}
    rows = [((c["data"], tuple(c["shape"]), c["epsilon"], c["tolerance"]), c) for c in earlier["cases"]]
    complete = {case: row for case, row in rows if row["solvers"].keys() >= {s.name for s in solvers}}
    deadline = time.monotonic() + options.budget
    packages = {"ot": "pot", "ott": "ott-jax", "geomloss": "geomloss"}
    names = {"torch", "dferkit", *(packages[s.module] for s in solvers if s.module in packages)}
    result: dict[str, Any] = {
        "machine": f"{os.cpu_count()} shared CPU cores",
        "threads": 1,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in sorted(names)},
        "absent": absent,
        "memory": memory,
        "cases": [],
    }
    for case in QUICK if options.quick else FULL:
        result["cases"].append(complete.get(case) or run_case(case, solvers, deadline))
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    show(result)


if __name__ == "__main__":
    main()
