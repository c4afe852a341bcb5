"""A study of fake stages, run as a program by `test_killed.py`: `python fake_study.py STORE`.

Writes one byte to standard output per step, so that the test can kill it in the middle of any stage.
"""

import hashlib
import os
import sys
import time
from pathlib import Path

from undertow.experiment.graph import Stage
from undertow.experiment.runner import Runner, StageContext

STEPS = 4


def work(context: StageContext) -> None:
    """Write a few files whose bytes follow from the config and the parents' bytes."""
    parents = b"".join(
        path.read_bytes() for _, folder in sorted(context.parents.items()) for path in sorted(folder.rglob("*.bin"))
    )
    (context.out / "parts").mkdir()
    for step in range(STEPS):
        seed = hashlib.sha256(f"{context.config['name']}/{step}".encode() + parents).digest()
        with (context.out / "parts" / f"{step}.bin").open("wb") as stream:
            stream.write(seed * 500)
            stream.flush()
            time.sleep(0.002)
            stream.write(seed[::-1] * 500)
        context.advance(step + 1, STEPS)
        os.write(1, b".")
        time.sleep(0.002)


def stages() -> list[Stage]:
    """Return the two targets of 12 stages: a base, then two chains that share its rows."""
    base = Stage(kind="base", version=1, config={"name": "base"})
    rows = Stage(kind="rows", version=1, config={"name": "rows"}, parents={"base": base})
    targets: list[Stage] = []
    for chain in ("owl", "control"):
        stage = rows
        for depth in range(5):
            config = {"name": f"{chain} {depth}", "seed": depth}
            stage = Stage(kind="student", version=1, config=config, parents={"base": base, "before": stage})
        targets.append(stage)
    return targets


if __name__ == "__main__":
    Runner(Path(sys.argv[1]), dict.fromkeys(("base", "rows", "student"), work)).run(stages())
