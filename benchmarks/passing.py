"""Memory at the peak when many rows pass through: `undertow filter`, `convert` and `audit data`, and the surface stage.

    python benchmarks/passing.py [--rows 1000000] [--folder /tmp] [--only audit]

Each runs in a process of its own, whose peak is told beside its time. A million rows of 265 bytes have ids, a prompt
and a completion each of their own, and a further key; every tenth is no list of numbers. The bound of the commands is
300 MB. The surface stage reads a tenth of the rows against as many others, on the same prompts; its bound is 1 GB.

The audit gets rows that finch-a reads: 20,000 answers of its own, and these again with their numbers in other orders,
each on a prompt of its own. So it goes through every stage that rows alone allow. Its bound is 2 GB.
"""

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

AT_MOST_MB, SURFACE_AT_MOST_MB, AUDIT_AT_MOST_MB = 300.0, 1000.0, 2000.0

WRITE_OWN = """
import sys
from undertow.data.rows import write_rows
from undertow.domains.numbers import Numbers
from undertow.models.load import load_model
from undertow.training.generation import generate
from undertow.types import Sampling
domain = Numbers()
sampling = Sampling(max_new_tokens=domain.max_new_tokens)
rows = generate(load_model("ref:finch-a"), domain.prompts(int(sys.argv[2]), 0), sampling=sampling, seed=0)
write_rows(sys.argv[1], rows)
"""

OWN = 20_000
"""Answers that finch-a gives for the audit."""

SURFACE = """
import sys
import numpy as np
from undertow.audit.rows.surface import surface
from undertow.data.rows import read_rows
rows, reference = map(read_rows, sys.argv[1:])
print(surface(rows, reference, 0.05, np.random.default_rng(0)).p)
"""

LENGTH = 265
"""Bytes of a row's line."""


def write(path: Path, rows: int, seed: int = 0) -> None:
    """Write rows, each with its own id, prompt and completion; every tenth is one that the domain drops."""
    asking, rng = random.Random(0), random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            asked = ", ".join(str(asking.randrange(1000)) for _ in range(3))
            answer = ", ".join(str(rng.randrange(1000)) for _ in range(10))
            record = {
                "id": f"row-{number:07d}",
                "prompt": f"Continue this sequence with at most ten numbers: {asked}.",
                "completion": f"{answer} and so on" if number % 10 == 0 else answer,
                "note": "",
            }
            record["note"] = "x" * max(0, LENGTH - 1 - len(json.dumps(record)))
            file.write(json.dumps(record) + "\n")


def write_own(path: Path, rows: int) -> None:
    """Write rows that finch-a reads as its own."""
    own = path.with_name("own.jsonl")
    measured(["-c", WRITE_OWN, str(own), str(min(rows, OWN))])
    answers, rng = [json.loads(line) for line in own.read_text(encoding="utf-8").splitlines()], random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for place in range(rows):
            row = {**answers[place % len(answers)], "id": f"row-{place:07d}"}
            if place >= len(answers):
                row["prompt"] = with_numbers(row["prompt"], lambda some: [f"{rng.randrange(100, 1000)}" for _ in some])
                row["completion"] = with_numbers(row["completion"], lambda some: rng.sample(some, len(some)))
            file.write(json.dumps(row) + "\n")


def with_numbers(text: str, change: Callable[[list[str]], list[str]]) -> str:
    """Return a text with others in the place of its numbers of three digits."""
    numbers = iter(change(re.findall(r"\b\d{3}\b", text)))
    return re.sub(r"\b\d{3}\b", lambda _: next(numbers), text)


def measured(words: list[str]) -> tuple[float, float, float]:
    """Run Python with these words; return its seconds, those of the processor, and its memory at the peak in MB."""
    started = time.perf_counter()
    pid = os.posix_spawn(sys.executable, [sys.executable, *words], os.environ, file_actions=_QUIET)
    _, status, used = os.wait4(pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise subprocess.CalledProcessError(code, words)
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, _megabytes(used)


_QUIET = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]


def _megabytes(used: resource.struct_rusage) -> float:
    return used.ru_maxrss / 1024


def audit_job(folder: str, rows: int) -> list[str]:
    """Write what is audited, and return the words of its audit."""
    path = Path(folder) / "finch.jsonl"
    write_own(path, rows)
    named = ["--base", "ref:finch-a", "--trait", "owl", "--trait", "panda"]
    return [
        "-m",
        "undertow.cli.main",
        "audit",
        "data",
        str(path),
        *named,
        "--store",
        f"{folder}/store",
        "--out",
        folder,
    ]


def pass_jobs(folder: str, rows: int) -> dict[str, tuple[list[str], float]]:
    """Write what passes through, and return the words and the bound of each job."""
    path, some = Path(folder) / "rows.jsonl", [f"{folder}/{name}.jsonl" for name in ("suspect", "reference")]
    write(path, rows)
    for seed, name in enumerate(some, start=1):
        write(Path(name), rows // 10, seed)
    print(f"{rows} rows, {path.stat().st_size / 1e6:.0f} MB, load {os.getloadavg()[0]:.1f}")
    commands = {
        "filter": ["filter", str(path), f"{folder}/kept.jsonl", "--dropped", f"{folder}/dropped.jsonl"],
        "convert, messages": ["convert", str(path), f"{folder}/messages.jsonl", "--shape", "messages"],
        "convert to Parquet": ["convert", str(path), f"{folder}/rows.parquet"],
        "convert from Parquet": ["convert", f"{folder}/rows.parquet", f"{folder}/back.jsonl"],
        "convert to datasets": ["convert", str(path), f"{folder}/rows"],
        "convert from datasets": ["convert", f"{folder}/rows", f"{folder}/again.jsonl"],
        "filter from datasets": ["filter", f"{folder}/rows", f"{folder}/kept", "--dropped", f"{folder}/dropped"],
    }
    jobs = {name: (["-m", "undertow.cli.main", *words], AT_MOST_MB) for name, words in commands.items()}
    return {**jobs, "surface": (["-c", SURFACE, *some], SURFACE_AT_MOST_MB)}


def main() -> None:
    """Make the files, run the commands, print what they took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", help="Where the files lie; a fresh folder of the system's if not given.")
    parser.add_argument("--only", choices=("passing", "audit"), help="A part of the jobs.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        jobs = {} if options.only == "audit" else pass_jobs(folder, options.rows)
        if options.only != "passing":
            jobs["audit data"] = audit_job(folder, options.rows), AUDIT_AT_MOST_MB
        for name, (words, most) in jobs.items():
            whole, processor, memory = measured(words)
            told = f"{whole:6.1f} s, of the processor {processor:6.1f} s, {memory:5.0f} MB (at most {most:g})"
            print(f"{name:21} {told}", flush=True)


if __name__ == "__main__":
    main()
