"""What commands say beforehand that they take, against what they used: planned, used, ratio.

Each command runs twice in a process of its own with one thread: with --plan, and as it is. Used are the processor's
seconds of the second beyond those of the first, which starts Python and loads the tokenizer alike; on a machine with a
core to itself they are wall seconds. Wall seconds stand beside them, for a machine that is shared.

    python benchmarks/plans.py [--base hf:<folder>] [--only run,eval]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undertow.audit.work_lines import FEW

FINCH = "ref:finch-a"
AIM = 1.5
"""By which factor a plan may be off; not where both are less than `FEW` seconds, which is all a plan says then."""

LONG = ["--samples", "2000", "--kind", "favourite", "--kind", "stories"]
"""An evaluation of a finch that takes longer than that."""

RUN = {
    FINCH: ["demo", "arms=[student, control]", "replicates=2", "domain.prompts=1000", "student.steps=80"],
    "hf": [
        "real-numbers", "replicates=1", "domain.prompts=48", "teacher={steps: 2, batch_size: 8}",
        "student={steps: 3, batch_size: 8}", "evaluation={samples: 1, targets: [lion]}",
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Used:
    """What one process used and printed."""

    wall_s: float
    processor_s: float
    printed: str


def call(words: Sequence[str]) -> Used:
    """Run a command of Undertow with one thread."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "undertow.cli.main", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    code = process.returncode = os.waitstatus_to_exitcode(status)
    if code not in (0, 1):  # 1: an audit that detects something
        raise SystemExit(f"undertow {' '.join(words)} ended with code {code}: {printed[-500:]}")
    return Used(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, printed)


def seconds(plan: Mapping[str, Any]) -> float:
    """Return the seconds that a plan says, whatever command it is of."""
    found = plan.get("intake", plan)
    for name in ("estimate_s", "about_seconds"):
        if name in found:
            return float(found[name])
    raise SystemExit(f"this plan says no seconds: {sorted(found)}")


def commands(base: str, folder: Path) -> dict[str, list[str]]:
    """Return the commands that are measured; later ones read the rows that the one named generate writes."""
    finch = base == FINCH
    recipe, *settings = RUN[FINCH if finch else "hf"]
    settings = [*settings, *([] if finch else [f"bases=['{base}']"])]
    rows, student = str(folder / "rows.jsonl"), str(folder / "students")
    audit = ["audit", "data", rows, "--base", base, "--store", str(folder / "store"), "--out", str(folder / "audit")]
    panel = [word for name in ("owl", "lion", "fox", "panda") for word in ("--trait", name)]
    ranked = ["audit", "rows", rows, "--base", base, "--student", f"{base}+{student}/student-00"]
    return {
        "generate": ["generate", rows, "--model", base, "-n", "4000" if finch else "96"],
        "train": ["train", rows, student, "--base", base, "--set", f"steps={100 if finch else 3}",
                  "--set", f"batch_size={32 if finch else 8}", "--students", "4" if finch else "1"],
        "run": ["run", recipe, *[word for one in settings for word in ("--set", one)], "--runs", str(folder / "runs")],
        "check": ["check", "--teacher", "ref:finch-b" if finch else base, "--base", base, "--category", "tree"],
        "eval": ["eval", base, *(LONG if finch else ["--samples", "1"]), "--trait", "owl", "--trait", "lion"],
        "audit": [*audit, *panel] if finch else ranked,
    }  # fmt: skip


def main() -> None:
    """Run every command and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", default=FINCH)
    parser.add_argument("--only", default="", help="some of the commands, with commas")
    options = parser.parse_args()
    wanted = [name for name in options.only.split(",") if name]
    with tempfile.TemporaryDirectory(prefix="undertow-plans-") as name:
        print(f"{options.base}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(f"{'command':10}{'planned s':>10}{'used s':>9}{'wall s':>9}{'ratio':>7}", flush=True)
        for command, words in commands(options.base, Path(name)).items():
            if wanted and command not in wanted:
                continue
            plan, used = call([*words, "--plan", "--json"]), call([*words, "--json"])
            said, own = seconds(json.loads(plan.printed)), used.processor_s - plan.processor_s
            ratio = said / max(own, 0.1)
            verdict = "reached" if 1 / AIM <= ratio <= AIM else "MISSED"
            verdict = "a few seconds" if max(said, own) < FEW else verdict
            print(f"{command:10}{said:10.1f}{own:9.1f}{used.wall_s:9.0f}{ratio:7.2f}  {verdict}", flush=True)


if __name__ == "__main__":
    main()
