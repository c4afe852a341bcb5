"""A graph of 112 small stages with shared parents, for sweeps on Ray; workers import this module by its name.

Every stage appends its label to a log when it is finished. Two of them kill their own worker process with SIGKILL
the first time that they run, half-way through.
"""

import hashlib
import os
import signal
import time
from pathlib import Path

from undertow.errors import ConfigError
from undertow.experiment.graph import Stage
from undertow.experiment.runner import StageContext

LOG, DEADLY = "UNDERTOW_TEST_LOG", "deadly"
"""Environment variable with the folder of the log, and the settings that name the deadly stages."""


def graph(seeds: int = 10, variants: int = 4) -> list[Stage]:
    """Return the last stages: of each seed prompts, a teacher and its rows, of each variant students and scores.

    Students of all variants share the rows, so of ten seeds and four variants there are 30 + 80 stages, and two more
    that all teachers share.
    """
    base = Stage(kind="toy", version=1, config={"name": "base"}, label="base")
    words = Stage(kind="toy", version=1, config={"name": "words"}, parents={"base": base}, label="words")
    last: list[Stage] = []
    for seed in range(seeds):
        prompts = _stage(f"prompts {seed}", base=base)
        teacher = _stage(f"teacher {seed}", base=base, words=words)
        rows = _stage(f"rows {seed}", teacher=teacher, prompts=prompts)
        for variant in range(variants):
            students = _stage(f"students {seed} {variant}", rows=rows)
            last.append(_stage(f"scores {seed} {variant}", students=students))
    return last


def _stage(name: str, **parents: Stage) -> Stage:
    return Stage(kind="toy", version=1, config={"name": name}, parents=parents, label=name)


def work(context: StageContext) -> None:
    """Hash the name and the bytes of the parents; write it in two files."""
    log, name = Path(os.environ[LOG]), str(context.config["name"])
    seen = hashlib.sha256(name.encode())
    for role, folder in sorted(context.parents.items()):
        seen.update(role.encode() + (folder / "second.bin").read_bytes())
    (context.out / "first.bin").write_bytes(seen.digest())
    _die_once(log, name)
    context.advance(1, 2)
    if (log / "slow").exists():
        time.sleep(0.3)
    if (log / f"{name} fails").exists():
        raise ConfigError("Bad rate.", 7, "Lower it.")
    (context.out / "second.bin").write_bytes(seen.digest() * 2)
    with (log / "finished").open("a", encoding="utf-8") as stream:  # one short write is atomic
        stream.write(f"{name}\n")


def _die_once(log: Path, name: str) -> None:
    """Kill this process if a file says so; the file is removed first, so that the next worker lives."""
    deadly = log / f"{name} {DEADLY}"
    if deadly.exists():
        deadly.unlink()
        with (log / "died").open("a", encoding="utf-8") as stream:
            stream.write(f"{name} {os.getpid()}\n")
        os.kill(os.getpid(), signal.SIGKILL)


EXECUTORS = {"toy": work}
