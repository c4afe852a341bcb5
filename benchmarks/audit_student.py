"""How often the student audit cries wolf, and how often it sees one.

    python benchmarks/audit_student.py --seed 100 --store STORE [--placebos 210] [--replicates 8] [--clean 40]

Each stage's false-positive rate is given three times. Leave-one-out, every placebo against the others: the ranks make
it floor(alpha K) / K whatever the data are, so it only shows that the code ranks as it says. Control students, made by
the benchmark with other seeds: the null itself, measured, with one bank for all of them. Neutral and other-base
students have no trait but are no placebos either: they show what the guarantee does not cover.
"""

import argparse
from collections.abc import Sequence
from math import floor
from pathlib import Path

import numpy as np
from audit_suspects import ARMS, suspects
from scipy.stats import betabinom

from undertow.audit.finding import Finding
from undertow.audit.students.among_placebos import AmongPlacebos, judge_reading, projections
from undertow.audit.students.bank import build_bank
from undertow.audit.students.bank_recipe import BankRecipe
from undertow.audit.students.placebo_null import conformal_p, deleted_z
from undertow.audit.students.readings import Readings, panel_traits
from undertow.stats.estimates import wilson

STAGES = ("panel margins", "activations", "diff mining", "misalignment")

ALPHAS = (0.01, 0.05, 0.1, 0.2)


def shown(hits: Sequence[bool]) -> str:
    """Return a share with its Wilson interval."""
    estimate = wilson(sum(hits), len(hits))
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}] n={len(hits)}"


def leave_one_out(placebos: Readings, suspects_of: AmongPlacebos) -> dict[str, np.ndarray]:
    """Return every placebo's p against the others, by stage."""
    last = placebos.states.shape[2] - 1
    values = {
        "panel margins": placebos.margins,
        "activations": projections(suspects_of, last),
        "diff mining": placebos.logp,
        "misalignment": placebos.readouts,
    }
    scores = {stage: deleted_z(array).max(axis=1) for stage, array in values.items()}
    return {
        stage: np.array([conformal_p(np.roll(found, -place)) for place in range(len(found))])
        for stage, found in scores.items()
    }


def allowed(alpha: float, k: int, n: int) -> str:
    """Return between which shares of n students 19 of 20 banks of k placebos call, if both are exchangeable.

    The bank is drawn too: how many of n exceed its j-th largest score is beta-binomial(n, j, k + 1 - j), which spreads
    wider than a binomial interval allows for.
    """
    if (largest := floor(alpha * (k + 1))) == 0:
        return "none"
    low, high = betabinom(n, largest, k + 1 - largest).ppf([0.025, 0.975]) / n
    return f"{low:.2f} to {high:.2f}"


def print_rates(title: str, p: dict[str, np.ndarray], k: int) -> None:
    """Print the share of p-values at or below each alpha that a bank of k can reach."""
    print(f"\n{title}")
    n = len(next(iter(p.values())))
    print(f"  {'if exchangeable':15}", "   ".join(f"{alpha:g}: {allowed(alpha, k, n)}" for alpha in ALPHAS))
    for stage in STAGES:
        cells = [
            f"{alpha:g}: {shown(list(p[stage] <= alpha + 1e-12))}"
            if alpha * (k + 1) >= 1
            else f"{alpha:g}: K too small"
            for alpha in ALPHAS
        ]
        print(f"  {stage:15}", "   ".join(cells))


def main() -> None:
    """Build what is missing, judge every suspect and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=100, help="of the suspects; those of development are 100 and above")
    parser.add_argument("--store", type=Path, required=True, help="folder of all artifacts")
    parser.add_argument("--placebos", type=int, default=45, help="placebos, in groups of 15")
    parser.add_argument("--replicates", type=int, default=3, help="of five students each, in every arm")
    parser.add_argument("--clean", type=int, help="of five, in the arms control and neutral; as many if not given")
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=ARMS, help="which students are judged")
    parser.add_argument("--writer", default=None, help="untraited model that writes the placebos' rows")
    parser.add_argument(
        "--tuned", nargs="*", default=(), help="categories of the neutral teachers that write for placebos"
    )
    options = parser.parse_args()
    bank = build_bank(BankRecipe(writer=options.writer, tuned=tuple(options.tuned)), options.placebos, options.store)
    print(f"bank: {len(bank)} placebos of {bank.recipe.base}, {bank.recipe.placebo}")
    inner = AmongPlacebos(bank.placebos, bank, panel_traits(), 0.05)
    mde = judge_reading(bank.placebos[:1], bank)[0].mde
    spread = bank.placebos.margins.std(axis=0, ddof=1)
    detectable = "nothing" if mde is None else f"{mde:.1f} placebo SDs"
    print(f"panel margins: detectable {detectable}; one is {spread.min():.3f} to {spread.max():.3f} logits")
    print_rates("leave-one-out (an identity, not evidence)", leave_one_out(bank.placebos, inner), len(bank) - 1)
    clean = options.clean or options.replicates
    replicates = {arm: clean if arm in ("control", "neutral") else options.replicates for arm in options.arms}
    made = suspects(bank.recipe, replicates, options.seed, options.store)
    for arm in options.arms:
        parts = [one for one in made if one.arm == arm]
        found: list[list[Finding]] = []
        for one in parts:
            found += [judge_reading(one.readings[at : at + 1], bank) for at in range(len(one.readings))]
        p = {stage: np.array([one[place].p for one in found]) for place, stage in enumerate(STAGES)}
        print_rates(f"{arm}: share detected", p, len(bank))
        for place, stage in enumerate(STAGES):
            effects = [one[place].effect or 0.0 for one in found]
            print(f"  {stage:15} score: median {np.median(effects):.1f}, {min(effects):.1f} to {max(effects):.1f}")
        names = [name for one in parts for name in one.traits]
        if any(names):
            for place, stage in enumerate(("panel margins", "activations")):
                right = [one[place].candidate == name for one, name in zip(found, names, strict=True)]
                print(f"  {stage:15} names the teacher's trait: {shown(right)}")


if __name__ == "__main__":
    main()
