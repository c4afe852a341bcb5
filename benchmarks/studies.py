"""The packaged studies as a user runs them: wall time, peak memory and the effects, each beside its aim.

Every study runs as a fresh process in an empty folder, so that nothing is found ready.

    python benchmarks/studies.py [--quick]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Interval = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """What one study cost and found."""

    wall_s: float
    peak_mb: float
    results: Mapping[str, Any]

    def effect(self, arm: str, metric: str = "logit_margin") -> Interval:
        """Return the first effect of an arm."""
        return next(one for one in self.results["effects"] if (one["arm"], one["metric"]) == (arm, metric))


def measure(recipe: str) -> Measured:
    """Run a recipe from nothing."""
    with tempfile.TemporaryDirectory() as runs:
        started = time.perf_counter()
        command = [sys.executable, "-m", "undertow.cli.main", "run", recipe, "--runs", runs, "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"undertow run {recipe} ended with code {process.returncode}")
        return Measured(time.perf_counter() - started, usage.ru_maxrss / 1024, json.loads(output))


def line(what: str, value: str, aim: str, reached: bool) -> None:
    """Print one row of the table."""
    print(f"{what:52}{value:34}{aim:34}{'reached' if reached else 'MISSED'}")


def shown(interval: Interval) -> str:
    """Write an estimate with its interval."""
    return f"{interval['estimate']:+.2f} [{interval['low']:+.2f}, {interval['high']:+.2f}] n={interval['n']}"


def within(what: str, interval: Interval, bound: float) -> None:
    """Print whether an interval lies within +-bound."""
    reached = -bound <= interval["low"] and interval["high"] <= bound
    line(what, shown(interval), f"inside +-{bound}", reached)


def above(what: str, interval: Interval, *, estimate: float, low: float) -> None:
    """Print whether an estimate and its lower bound are large enough."""
    reached = interval["estimate"] >= estimate and interval["low"] > low
    line(what, shown(interval), f"estimate >= {estimate}, low > {low}", reached)


def demo() -> None:
    """Measure the demo."""
    run = measure("demo")
    line("demo: wall time", f"{run.wall_s:.0f} s", "at most 180 s", run.wall_s <= 180)
    line("demo: peak memory", f"{run.peak_mb:.0f} MB", "at most 2048 MB", run.peak_mb <= 2048)
    above("demo: student - control", run.effect("student"), estimate=0.4, low=0.2)
    above("demo: sampled rate, student - control", run.effect("student", "rate"), estimate=0.0, low=0.0)
    within("demo: cross-init - its control", run.effect("cross_init"), 0.15)
    within("demo: neutral - control", run.effect("neutral"), 0.15)
    within("demo: control - base", run.effect("control"), 0.1)


def matrix() -> None:
    """Measure the trait matrix."""
    run = measure("animals-numbers")
    diagonal = run.results["diagonal"]
    above("animals-numbers: diagonal factor", diagonal, estimate=0.4, low=0.2)
    line("animals-numbers: permutation p", f"{diagonal['p']:.4f}", "at most 0.01", diagonal["p"] <= 0.01)
    print(f"animals-numbers: {run.wall_s:.0f} s, {run.peak_mb:.0f} MB")


def initialisation() -> None:
    """Measure same minus cross."""
    run = measure("initialisation")
    above("initialisation: same - cross", run.results["initialisation"], estimate=0.2, low=0.2)
    print(f"initialisation: {run.wall_s:.0f} s, {run.peak_mb:.0f} MB")


def main() -> None:
    """Run the studies and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the demo alone")
    options = parser.parse_args()
    demo()
    if not options.quick:
        matrix()
        initialisation()


if __name__ == "__main__":
    main()
