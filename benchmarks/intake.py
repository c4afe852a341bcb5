"""The intake of a million rows, as a command: seconds to its first line, seconds to its last, and memory at the peak.

    python benchmarks/intake.py [--rows 1000000] [--base ref:finch-a]

The bounds hold for a machine that does nothing else: 2 s, 30 s, 300 MB. Seconds of the processor are told too, which
other work disturbs less.
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

FIRST_S, ALL_S, MEMORY_MB = 2.0, 30.0, 300.0


def write(path: Path, rows: int) -> None:
    """Write number rows of the usual length, each with its own prompt."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(rows):
            asked = ", ".join(str(rng.randrange(1000)) for _ in range(3))
            answer = ", ".join(str(rng.randrange(1000)) for _ in range(10))
            prompt = f"Continue this sequence with at most ten numbers: {asked}."
            file.write(json.dumps({"prompt": prompt, "completion": answer}) + "\n")


def main() -> None:
    """Make the file, run the command, print what it took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--base", default="ref:finch-a")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write(path, options.rows)
        words = ["audit", "data", str(path), "--base", options.base, "--store", f"{folder}/store", "--plan", "--json"]
        started = time.perf_counter()
        command = [sys.executable, "-m", "undertow.cli.main", *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
            assert running.stdout is not None and running.stderr is not None
            line = running.stderr.readline()
            first = time.perf_counter() - started
            found = json.loads(running.stdout.read())["intake"]
        whole = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(line.strip())
    print(f"{found['rows']['rows']} rows, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"first line {first:.1f} s (at most {FIRST_S:g})")
    print(f"all {whole:.1f} s, of the processor {used.ru_utime + used.ru_stime:.1f} s (at most {ALL_S:g})")
    print(f"memory {used.ru_maxrss / 1024:.0f} MB (at most {MEMORY_MB:g})")


if __name__ == "__main__":
    main()
