"""Memory at the peak when many rows pass through: `undertow filter`, `undertow convert`, and the surface stage.

    python benchmarks/passing.py [--rows 1000000] [--folder /tmp]

Each runs in a process of its own, whose peak is told beside its time. A million rows of 265 bytes have ids, a prompt
and a completion each of their own, and a further key; every tenth is no list of numbers. The bound of the commands is
300 MB. The surface stage reads a tenth of the rows against as many others, on the same prompts; its bound is 1 GB.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

AT_MOST_MB, SURFACE_AT_MOST_MB = 300.0, 1000.0

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


def main() -> None:
    """Make the file, run the commands, print what they took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", help="Where the files lie; a fresh folder of the system's if not given.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path, some = Path(folder) / "rows.jsonl", [f"{folder}/{name}.jsonl" for name in ("suspect", "reference")]
        write(path, options.rows)
        for seed, name in enumerate(some, start=1):
            write(Path(name), options.rows // 10, seed)
        print(f"{options.rows} rows, {path.stat().st_size / 1e6:.0f} MB, load {os.getloadavg()[0]:.1f}")
        commands = {
            "filter": ["filter", str(path), f"{folder}/kept.jsonl", "--dropped", f"{folder}/dropped.jsonl"],
            "convert, messages": ["convert", str(path), f"{folder}/messages.jsonl", "--shape", "messages"],
            "convert to Parquet": ["convert", str(path), f"{folder}/rows.parquet"],
            "convert from Parquet": ["convert", f"{folder}/rows.parquet", f"{folder}/back.jsonl"],
            "convert to datasets": ["convert", str(path), f"{folder}/rows"],
        }
        jobs = {name: (["-m", "undertow.cli.main", *words], AT_MOST_MB) for name, words in commands.items()}
        jobs["surface"] = ["-c", SURFACE, *some], SURFACE_AT_MOST_MB
        for name, (words, most) in jobs.items():
            whole, processor, memory = measured(words)
            told = f"{whole:6.1f} s, of the processor {processor:6.1f} s, {memory:5.0f} MB (at most {most:g})"
            print(f"{name:21} {told}", flush=True)


if __name__ == "__main__":
    main()
