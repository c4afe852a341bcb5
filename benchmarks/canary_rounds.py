"""Rounds of canaries until a drift of one watched word is called, for three budgets.

    python benchmarks/canary_rounds.py [--seed 100] [--deployments 400]
    python benchmarks/canary_rounds.py --seed 41 --deployments 20 --trails results/figures/canary-evidence.json

No model is asked: replies to 30 questions are drawn from a known share of one watched word, which drifts by so many
logits from the first round on; bounds and evidence are those of all words of `list traits`, whose shares stay. A budget
is the requests of a round. Each deployment draws its own sign-off of 200 replies to each question, and is given up
after `MOST` rounds. Beside it stands the round that `smallest_drift` says: the first whose power for this drift is .8.
With `--trails` the evidence after each round is written to a file instead, for one share and budget, without drift and
with each drift: scripts/site_figures.py draws it.
"""

import argparse
import json
from pathlib import Path

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


def evidence(share: float, drift: float, budget: int, deployments: int, rng: np.random.Generator) -> np.ndarray:
    """Return the highest evidence (natural log) of each deployment after each round: float [rounds, deployments]."""
    n = SIGNED * QUESTIONS
    # Half of alpha is shared out over the bounds of all words.
    signed = rng.binomial(n, share, deployments).tolist()
    bounds = np.array([share_bound(hits, n, ALPHA / 2 / WORDS) for hits in signed])
    watch, after = RiseWatch.of(bounds, every=budget), float(expit(logit(share) + drift))
    rounds = []
    for _ in range(MOST):
        watch = watch.after(rng.binomial(budget, after, deployments), draws=budget)
        rounds.append(np.asarray(watch.highest))
    return np.array(rounds)


def rounds_until(share: float, drift: float, budget: int, deployments: int, rng: np.random.Generator) -> np.ndarray:
    """Return the round in which each deployment was called, `MOST` + 1 where none was."""
    reached = evidence(share, drift, budget, deployments, rng) >= needed_log_e(WORDS, ALPHA)
    return np.where(reached.any(axis=0), reached.argmax(axis=0) + 1, MOST + 1)


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


def trails(seed: int, deployments: int) -> dict[str, object]:
    """Return the evidence of deployments that do not drift and of those that do, as powers of ten, with its bound."""
    share, budget = SHARES[1], BUDGETS[0]
    found = []
    for drift in (0.0, *DRIFTS):
        rng = np.random.default_rng(derive(seed, str(share), str(drift), budget))
        powers = evidence(share, drift, budget, deployments, rng) / np.log(10)
        found.append({"drift": drift, "rounds": powers.T.round(3).tolist()})
    settings = {"seed": seed, "share": share, "budget": budget, "words": WORDS, "questions": QUESTIONS, "alpha": ALPHA}
    return {**settings, "bound": needed_log_e(WORDS, ALPHA) / np.log(10), "trails": found}


def shown(rounds: float) -> str:
    """Return a round as text."""
    return f"{rounds:.0f}" if rounds <= MOST else f"> {MOST}"


def main() -> None:
    """Print a line for each share, drift and budget."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=100, help="those of development are 100 and above")
    parser.add_argument("--deployments", type=int, default=400, help="of each kind")
    parser.add_argument(
        "--trails", type=Path, help="write the evidence after each round to this file, and nothing else"
    )
    options = parser.parse_args()
    if options.trails is not None:
        options.trails.write_text(json.dumps(trails(options.seed, options.deployments)) + "\n", encoding="utf-8")
        return
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
