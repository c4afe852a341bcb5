"""Runs a graph of twelve small stages and can be killed on the way: `python killable.py STORE [--die-at N] [--linger]`.

Prints a line per payload file. With `--die-at N` the process kills itself just before its N-th flush or rename; with
`--linger` it stays alive after the last stage, so that whoever wants to kill it always can.
"""

import argparse
import hashlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from undertow.store.runner import Runner, StageContext
from undertow.store.stages import Stage

TRAITS = ("owl", "lion", "fox")


def twelve_stages() -> list[Stage]:
    """Return the three last stages of a graph of twelve."""
    scores: list[Stage] = []
    for seed, trait in enumerate(TRAITS):
        teacher = Stage(kind="teacher", version=1, config={"trait": trait, "seed": seed}, label=f"teacher {trait}")
        rows = Stage(kind="rows", version=1, config={"n": 20}, parents={"teacher": teacher}, label=f"rows {trait}")
        student = Stage(kind="student", version=1, config={"seed": seed}, parents={"rows": rows})
        scores.append(Stage(kind="scores", version=1, config={}, parents={"student": student, "teacher": teacher}))
    return scores


def work(context: StageContext) -> None:
    """Write four files that depend on the config and on every byte of the parents."""
    seen = hashlib.sha256(repr(sorted(context.config.items())).encode())
    for role, folder in sorted(context.parents.items()):
        for path in sorted(folder.glob("part-*")):
            seen.update(role.encode() + path.read_bytes())
    for part in range(4):
        seen.update(bytes([part]))
        (context.out / f"part-{part}.bin").write_bytes(seen.digest() * 64)
        context.advance(part + 1, 4)
        print("wrote", flush=True)
        time.sleep(0.005)


def die_at(n: int) -> None:
    """Make this process kill itself just before its n-th flush or rename."""
    calls = 0

    def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments)

        return call

    os.fsync, os.rename = deadly(os.fsync), deadly(os.rename)


def main() -> None:
    """Run the graph."""
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("--die-at", type=int)
    parser.add_argument("--linger", action="store_true")
    options = parser.parse_args()
    if options.die_at:
        die_at(options.die_at)
    Runner(options.store, dict.fromkeys(("teacher", "rows", "student", "scores"), work)).run(twelve_stages())
    if options.linger:
        time.sleep(60)


if __name__ == "__main__":
    main()
