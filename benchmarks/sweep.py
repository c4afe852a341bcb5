"""A sweep of 112 real stages on Ray with two workers killed, against the same sweep one stage after another.

28 variants of the demo (seven seeds, four ranks of the student), each made small. Two worker processes kill themselves
with SIGKILL at the first step of a stage: one that writes rows, one that trains students. Both sides use one thread a
stage, so that their results can be compared byte by byte.

    python benchmarks/sweep.py [--workers 2]
"""

import argparse
import functools
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

from undertow.cli.options import prepare
from undertow.store.artifacts import read_artifact
from undertow.store.runner import Executor, StageContext
from undertow.store.stages import order
from undertow.study.executors import EXECUTORS
from undertow.study.ray_sweep import build_on_ray
from undertow.study.ray_worker import RaySettings
from undertow.study.sweep import count_uses, load_sweep, run_sweep, sweep_targets

GRID = ["seed=1..7", "student.rank=2,4,8,16"]
SETTINGS = [
    "replicates=1",
    "arms=[student, control]",
    "domain.prompts=200",
    "teacher.steps=10",
    "student.steps=20",
    "evaluation.samples=0",
]
DEADLY = ("rows", "students")


def counted(log: Path, kind: str, executor: Executor, context: StageContext) -> None:
    """Do a stage and note it; the first one of a kind that a file in the log's folder names kills its process."""

    def advance(done: int, steps: int) -> None:
        try:
            (log / f"kill-{kind}").rename(log / f"killed-{kind}-{os.getpid()}")
        except FileNotFoundError:
            context.advance(done, steps)
        else:
            os.kill(os.getpid(), signal.SIGKILL)

    executor(replace(context, advance=advance))
    with (log / "finished").open("a", encoding="utf-8") as stream:
        stream.write(f"{context.out.name}\n")


def counting(log: Path) -> dict[str, Executor]:
    """Return the executors of real studies, each with a log."""
    log.mkdir(parents=True)
    return {kind: functools.partial(counted, log, kind, executor) for kind, executor in EXECUTORS.items()}


def comparable(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return what has to be equal: everything but times and folders."""
    return {key: results[key] for key in ("answer", "estimates", "not_tested")}


def main() -> None:
    """Run both sides and print what they did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    workers = parser.parse_args().workers
    prepare()
    sweep = load_sweep("demo", GRID, SETTINGS)
    uses = count_uses(sweep)
    targets = sweep_targets(sweep)
    stages = order(targets)
    print(f"{len(sweep.variants)} variants, {uses.total()} stages, {len(stages)} different")
    with tempfile.TemporaryDirectory(prefix="undertow-sweep-") as folder:
        runs, log = Path(folder), Path(folder) / "log"
        executors = counting(log)
        for kind in DEADLY:
            (log / f"kill-{kind}").touch()
        started = time.perf_counter()
        work = build_on_ray(targets, runs / "ray" / "store", executors, RaySettings(workers=workers))
        found = run_sweep(sweep, runs / "ray")
        ray_s = time.perf_counter() - started
        started = time.perf_counter()
        serial = run_sweep(sweep, runs / "serial")
        serial_s = time.perf_counter() - started
        equal = sum(
            read_artifact(stage.key.folder(runs / "ray" / "store")).manifest.digest
            == read_artifact(stage.key.folder(runs / "serial" / "store")).manifest.digest
            for stage in stages
        )
        finished = Counter((log / "finished").read_text(encoding="utf-8").splitlines())
        killed = sorted(path.name for path in log.glob("killed-*"))
        print(f"workers killed: {len(killed)} ({', '.join(killed)}); stages begun again: {work.restarted}")
        print(f"stages finished: {finished.total()} of {len(stages)} different")
        print(f"equal digests: {equal} of {len(stages)}; equal results: {comparable(found) == comparable(serial)}")
        print(f"Ray, {workers} workers, its start included: {ray_s:.0f} s; serial: {serial_s:.0f} s")
        passed = equal == finished.total() == len(stages) and len(killed) == work.restarted == len(DEADLY)
        print("reached" if passed and comparable(found) == comparable(serial) else "MISSED")


if __name__ == "__main__":
    main()
