"""The audit as a whole: how often each of its three claims is made, and how often any, by what was audited.

    python benchmarks/audit_claims.py --seed 100 --store STORE [--writers 59] [--placebos 210] [--arms control neutral]
        [--clean 40] [--replicates 8] [--plain]

One case is a row file of one writer and the student that was trained on it (`audit_suspects.py`); the rows are drawn
again from their seeds. Provenance is the rank among neutral writers, or without any the contrast against four answers
of the base to the same prompts; exposure and expression are the student's ranks among the placebos, each at a third of
alpha, as `undertow audit all` declares it. On `control` cases every claim is false; `neutral` and `other` have no trait
either but were written by someone else. With neutral writers a case takes most of a minute.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from audit_suspects import ARMS, OTHER, TRAITS, suspects

from undertow.audit.rows.panel import DataAudit
from undertow.audit.rows.writers import build_writers
from undertow.audit.run import audit_data
from undertow.audit.students.among_placebos import judge_reading
from undertow.audit.students.bank import Bank, build_bank, write_rows_of
from undertow.audit.students.bank_recipe import BankRecipe
from undertow.audit.students.readings import Readings, panel_traits
from undertow.audit.verdict import CLAIMS, ClaimStatus, Plan, judge_claims
from undertow.data.filters import filter_rows
from undertow.domains.numbers import Numbers
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.stats.estimates import mean_t, wilson
from undertow.store.progress import SilentProgress
from undertow.study.recipe import TeacherPart
from undertow.training.generation import generate
from undertow.training.teachers import finetuned_teacher
from undertow.traits import panel, trait
from undertow.types import Row, Sampling

ALPHA = 0.05
ANSWERS = 4
CLEAN = ("control", "neutral")
STAGES = ("surface", "contrast", "stream", "panel margins", "activations")


@dataclass(frozen=True)
class Case:
    """Rows of one writer and the reading of their student."""

    arm: str
    trait: str
    rows: Sequence[Row]
    reading: Readings


@dataclass(frozen=True)
class Auditor:
    """What judges every case."""

    base: LocalModel
    bank: Bank
    config: DataAudit
    plan: Plan
    seed: int

    def judge(self, case: Case, number: int) -> dict[str, ClaimStatus]:
        """Return the status of each claim."""
        ids = {row.question for row in case.rows}
        sampling = Sampling(max_new_tokens=Numbers().max_new_tokens)
        reference: list[Row] = []
        for answer in range(ANSWERS):
            drawn = generate(
                self.base, sorted(ids), sampling=sampling, seed=derive(self.seed, "reference", number, answer)
            )
            reference += filter_rows(drawn, Numbers()).kept
        found = audit_data(case.rows, self.base, self.config, reference=reference)
        found += judge_reading(case.reading, self.bank, panel=panel("animal"), alpha=self.plan.share)
        return judge_claims(self.plan, [one for one in found if one.stage in self.plan.stages])  # type: ignore[return-value]


def rows_of(recipe: BankRecipe, arm: str, name: str, seed: int, models: dict[str, LocalModel]) -> tuple[Row, ...]:
    """Draw a suspect's rows again, as `audit_suspects.make_suspects` did."""
    origin = models["other" if arm in ("cross", "other") else "base"]
    if arm in ("student", "cross", "neutral"):
        tuning = TeacherPart(steps=40, learning_rate=3e-3).training()
        tuned = None if arm == "neutral" else trait(name)
        origin = finetuned_teacher(origin, tuned, tuning, seed=derive(seed, "teacher"))
    return write_rows_of(origin, recipe, seed)


def cases(options: argparse.Namespace, recipe: BankRecipe) -> list[Case]:
    """Return every case, with as many rows as are judged."""
    models = {"base": load_model(recipe.base), "other": load_model(OTHER)}
    plain = replace(recipe, writer=None, tuned=())
    replicates = {arm: options.clean if arm in CLEAN else options.replicates for arm in options.arms}
    made: list[Case] = []
    for arm, count in replicates.items():
        for index, one in enumerate(suspects(plain, {arm: count}, options.seed, options.store)):
            for place, name in enumerate(TRAITS):
                seed = derive(derive(options.seed, arm, index), place)
                rows = rows_of(plain, arm, name, seed, models)[: options.rows]
                made.append(Case(arm, one.traits[place], rows, one.readings[place : place + 1]))
    return made


def table(judged: Sequence[tuple[Case, dict[str, ClaimStatus]]]) -> list[dict[str, Any]]:
    """Return the share of cases of each arm on which a claim was made, and on which any was."""
    lines: list[dict[str, Any]] = []
    for arm in dict.fromkeys(case.arm for case, _ in judged):
        mine = [(case, claims) for case, claims in judged if case.arm == arm]
        for claim in (*CLAIMS, "any"):
            names = CLAIMS if claim == "any" else (claim,)
            hits = [any(claims[one].status == "detected" for one in names) for _, claims in mine]
            share = wilson(sum(hits), len(hits))
            line = {
                "arm": arm,
                "claim": claim,
                "share": share.value,
                "low": share.low,
                "high": share.high,
                "n": share.n,
            }
            right = [claims[claim].candidate == case.trait for case, claims in mine] if claim != "any" else []
            lines.append({**line, "named_right": sum(right) if mine[0][0].trait and right else None})
    return lines


def moved(made: Sequence[Case], bank: Bank) -> list[str]:
    """Return how far students moved on their teacher's trait, against the placebos, in logits of the panel margin."""
    columns, lines = [one.name for one in panel_traits()], []
    for arm in ("student", "cross"):
        if not any(case.arm == arm for case in made):
            continue
        of = [
            (case.reading.margins[0] - bank.placebos.margins.mean(axis=0), case.trait)
            for case in made
            if case.arm == arm
        ]
        found = mean_t(np.array([values[columns.index(name)] for values, name in of]))
        lines.append(f"{arm}: own trait {found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}] logits, n = {found.n}")
    return lines


def main() -> None:
    """Judge every case and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=100, help="of the suspects; those of development are 100 and above")
    parser.add_argument("--store", type=Path, required=True, help="folder of all artifacts")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--writers", type=int, default=0, help="neutral writers; with them provenance is their null")
    parser.add_argument("--placebos", type=int, default=210)
    parser.add_argument("--clean", type=int, default=40, help="replicates of five in the arms control and neutral")
    parser.add_argument("--replicates", type=int, default=8, help="of five in the other arms")
    parser.add_argument("--rows", type=int, default=100, help="rows of each case that the contrast is given")
    parser.add_argument(
        "--plain", action="store_true", help="placebos of the untouched base instead of neutral teachers"
    )
    options = parser.parse_args()
    started = time.perf_counter()
    bank = build_bank(BankRecipe(tuned=() if options.plain else ("animal",)), options.placebos, options.store)
    writers = build_writers(bank.recipe, options.writers, options.store, SilentProgress()) if options.writers else None
    plan = Plan(stages=(*STAGES, "neutral contrast") if writers else STAGES, alpha=ALPHA)
    config = DataAudit(
        panel=panel("animal"),
        kinds=("teacher",),
        alpha=plan.share,
        seed=derive(options.seed, "auditor"),
        store=options.store,
        writers=writers,
    )
    auditor = Auditor(load_model(bank.recipe.base), bank, config, plan, options.seed)
    made = cases(options, bank.recipe)
    print(f"{len(made)} cases, {len(bank)} placebos, {bank.recipe.placebo}", flush=True)
    judged = [(case, auditor.judge(case, number)) for number, case in enumerate(made)]
    for line in table(judged):
        print(json.dumps(line), flush=True)
    print("\n".join(moved(made, bank)))
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
