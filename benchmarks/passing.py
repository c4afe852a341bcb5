"""Memory at the peak when `undertow filter` and `undertow convert` pass a million rows of 265 bytes through.

    python benchmarks/passing.py [--rows 1000000] [--at-most 300] [--folder /tmp]

Each command runs in a process of its own, whose own peak is told beside its time; the bound holds for each of them. The
rows have ids, a prompt and a completion each of their own, a further key, and every tenth is no list of numbers.
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

LENGTH = 265
"""Bytes of a row's line."""


def write(path: Path, rows: int) -> None:
    """Write rows, each with its own id, prompt and completion; every tenth is one that the domain drops."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            asked, answer = (", ".join(str(rng.randrange(1000)) for _ in range(count)) for count in (3, 10))
            record = {
                "id": f"row-{number:07d}",
                "prompt": f"Continue this sequence with at most ten numbers: {asked}.",
                "completion": f"{answer} and so on" if number % 10 == 0 else answer,
                "note": "",
            }
            record["note"] = "x" * max(0, LENGTH - 1 - len(json.dumps(record)))
            file.write(json.dumps(record) + "\n")


def measured(words: list[str]) -> tuple[float, float, float]:
    """Run a command; return its seconds, those of the processor, and its memory at the peak in MB."""
    started = time.perf_counter()
    pid = os.posix_spawn(
        sys.executable, [sys.executable, "-m", "undertow.cli.main", *words], os.environ, file_actions=_QUIET
    )
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
    parser.add_argument("--at-most", type=float, default=300.0, help="MB")
    parser.add_argument("--folder", help="Where the files lie; a fresh folder of the system's if not given.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "rows.jsonl"
        write(path, options.rows)
        print(f"{options.rows} rows, {path.stat().st_size / 1e6:.0f} MB, load {os.getloadavg()[0]:.1f}")
        commands = {
            "filter": ["filter", str(path), f"{folder}/kept.jsonl", "--dropped", f"{folder}/dropped.jsonl"],
            "convert, messages": ["convert", str(path), f"{folder}/messages.jsonl", "--shape", "messages"],
            "convert to Parquet": ["convert", str(path), f"{folder}/rows.parquet"],
            "convert from Parquet": ["convert", f"{folder}/rows.parquet", f"{folder}/back.jsonl"],
            "convert to datasets": ["convert", str(path), f"{folder}/rows"],
        }
        for name, words in commands.items():
            whole, processor, memory = measured(words)
            print(f"{name:21} {whole:6.1f} s, of the processor {processor:6.1f} s, {memory:5.0f} MB", flush=True)
            if memory > options.at_most:
                print(f"  more than {options.at_most:g} MB")


if __name__ == "__main__":
    main()
