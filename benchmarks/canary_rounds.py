"""Rounds of canaries until a drift of one watched word is called, for three budgets.

    python benchmarks/canary_rounds.py [--seed 100] [--deployments 400]

No model is asked: replies to 30 questions are drawn from a known share of one watched word, which drifts by so many
logits from the first round on; bounds and evidence are those of all words of `list traits`, whose shares stay. A budget
is the requests of a round. Each deployment draws its own sign-off of 200 replies to each question, and is given up
after `MOST` rounds. Beside it stands the round that `smallest_drift` says: the first whose power for this drift is .8.
"""

import argparse

import numpy as np
from scipy.special import expit, logit

from undertow.monitor.baseline import default_watched
from undertow.monitor.canaries import needed_log_e
from undertow.monitor.detectable import POWER, smallest_drift
from undertow.seeds import derive
from undertow.stats.sequential import RiseWatch, share_bound

ALPHA, QUESTIONS, SIGNED, MOST = 0.05, 30, 200, 60
BUDGETS = (150, 600, 2400)
DRIFTS = (0.5, 1.0)
SHARES = (0.01, 0.05, 0.2)
"""Of the word that drifts."""
WORDS = len(default_watched())


def rounds_until(share: float, drift: float, budget: int, deployments: int, rng: np.random.Generator) -> np.ndarray:
    """Return the round in which each deployment was called, `MOST` + 1 where none was."""
    n = SIGNED * QUESTIONS
    # Half of alpha is shared out over the bounds of all words.
    signed = rng.binomial(n, share, deployments).tolist()
    bounds = np.array([share_bound(hits, n, ALPHA / 2 / WORDS) for hits in signed])
    watch, after = RiseWatch.of(bounds, every=budget), float(expit(logit(share) + drift))
    called = np.full(deployments, MOST + 1)
    for turn in range(1, MOST + 1):
        watch = watch.after(rng.binomial(budget, after, deployments), draws=budget)
        called[(watch.highest >= needed_log_e(WORDS, ALPHA)) & (called > MOST)] = turn
    return called


def stated_round(share: float, drift: float, budget: int) -> str:
    """Return the first round whose stated smallest drift is at most this one."""
    n = SIGNED * QUESTIONS
    hits = round(share * n)
    rate = share_bound(hits, n, ALPHA / 2 / WORDS)
    for turn in range(1, MOST + 1):
        least = smallest_drift((hits, n), rate, turn * budget, needed_log_e(WORDS, ALPHA))
        if least is not None and least.logits <= drift:
            return str(turn)
    return f"> {MOST}"


def shown(rounds: float) -> str:
    """Return a round as text."""
    return f"{rounds:.0f}" if rounds <= MOST else f"> {MOST}"


def main() -> None:
    """Print a line for each share, drift and budget."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=100, help="those of development are 100 and above")
    parser.add_argument("--deployments", type=int, default=400, help="of each kind")
    options = parser.parse_args()
    print(f"{WORDS} words, {QUESTIONS} questions, alpha {ALPHA}, {options.deployments} deployments each")
    for share in SHARES:
        for drift in DRIFTS:
            for budget in BUDGETS:
                rng = np.random.default_rng(derive(options.seed, str(share), str(drift), budget))
                called = rounds_until(share, drift, budget, options.deployments, rng)
                half, most = np.quantile(called, [0.5, POWER], method="higher")
                ever = np.mean(called <= MOST)
                print(f"share {share:g}, drift {drift:+g} logits, {budget} requests a round: half are called by round "
                      f"{shown(half)}, {POWER:.0%} by {shown(most)} (stated: {stated_round(share, drift, budget)}); "
                      f"within {MOST} rounds {ever:.3f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
