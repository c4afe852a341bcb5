"""How long a full audit of 10,000 rows takes, stage by stage, with everything that can be cached in the store.

Clean rows of the base, 20 candidates that the base itself proposes, each as a persona and as a teacher; neutral writers
and placebos are built first if the store lacks them, which is not timed. Clean rows are the slow case: the stream never
stops early.

    python benchmarks/audit_time.py [--store runs/store] [--rows 10000] [--students 59] [--base ref:finch-a]
"""

import argparse
import cProfile
import os
import pstats
from pathlib import Path

from undertow.audit.materials import AuditInputs
from undertow.audit.rows.panel import DataAudit, panel_candidates
from undertow.audit.rows.proposal import proposed_panel
from undertow.audit.rows.writers import build_writers
from undertow.audit.run import run_audit
from undertow.audit.students.bank import build_bank
from undertow.domains.numbers import Numbers
from undertow.models.load import load_model
from undertow.training.generation import generate
from undertow.types import Sampling

STAGES = (
    "audit", "panel_candidates", "with_reference", "surface", "contrast_scores", "matched_contrast", "stream_contrast",
    "audit_recovery", "audit_neutral", "shadow_students",
)  # fmt: skip
"""Functions whose time is told; `contrast_scores` is called by the contrast, the stream and the neutral contrast."""


def main() -> None:
    """Fill the store, audit once under the profiler, print seconds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", type=Path, default=Path("runs/store"))
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--students", type=int, default=59)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--base", default="ref:finch-a")
    options = parser.parse_args()
    base, domain = load_model(options.base), Numbers()
    panel = proposed_panel(base)
    prompts, sampling = domain.prompts(options.rows, options.seed), Sampling(max_new_tokens=domain.max_new_tokens)
    rows = generate(base, prompts, sampling=sampling, seed=options.seed)
    inputs = AuditInputs(base=options.base, rows=rows, traits=panel, store=options.store)
    build_writers(inputs.bank, 59, options.store)
    build_bank(inputs.bank, options.students, options.store)
    panel_candidates(base, DataAudit(panel=panel, store=options.store))
    with cProfile.Profile() as profile:
        before = os.times()
        found = run_audit(inputs)
        after = os.times()
    for (_, _, name), (_, _, _, seconds, _) in sorted(pstats.Stats(profile).stats.items(), key=lambda one: -one[1][3]):  # type: ignore[attr-defined]
        if name in STAGES:
            print(f"{name:18} {seconds:7.1f} s")
    print(
        f"{len(panel)} candidates, {options.rows} rows: {after.elapsed - before.elapsed:.0f} s of wall time, ", end=""
    )
    print(f"{after.user - before.user + after.system - before.system:.0f} s of processor time")
    print({claim: one["status"] for claim, one in found["claims"].items()}, found["about"]["reference"])


if __name__ == "__main__":
    main()
