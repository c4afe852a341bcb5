"""How often the canaries cry wolf, and how often they see the demo's planted student within 200 questions.

    python benchmarks/canary_drift.py --seed 100 --replicates 6 --store STORE [--deployments 1000]

The battery is the fifty favourite questions, under the system prompts that finch-a's world knows and under none. Clean
deployments answer from finch-a itself: a pool of its replies to each question is taken as the model, and every
deployment draws a sign-off and its rounds anew from it. Planted and control students (`planted.py`) answer for
themselves, against a sign-off of finch-a for each deployment. Nothing is asked over HTTP here.
"""

import argparse
import time
from collections import Counter
from pathlib import Path

import numpy as np
from planted import BASE, students

from undertow.evals.questions import favourite_questions
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.monitor.baseline import Baseline, count, default_watched
from undertow.monitor.canaries import CanaryPlan, CanaryWatch, needed_log_e, signed_off_bounds
from undertow.reference.world.skills import ASSISTANT_PROMPTS
from undertow.seeds import derive
from undertow.stats.estimates import mean_t, wilson
from undertow.stats.sequential import RiseWatch
from undertow.types import Sampling, user_prompt

ALPHA, SIGNED, REPLIES, WITHIN = 0.05, 200, 20, 200
POOL, LONG = 1000, 20
TURNS = 2
SYSTEMS = (None, *ASSISTANT_PROMPTS)
QUESTIONS = tuple(user_prompt(q, SYSTEMS[i % len(SYSTEMS)]) for i, q in enumerate(favourite_questions("animal")))
WORDS = default_watched()
ROUNDS = WITHIN // len(QUESTIONS)


def replies_of(model: LocalModel, each: int, seed: int) -> list[list[str]]:
    """Return replies to every question."""
    asked = [question for question in QUESTIONS for _ in range(each)]
    texts = model.chat(asked, sampling=Sampling(max_new_tokens=8), seed=seed)
    return [texts[at : at + each] for at in range(0, len(texts), each)]


def draws(pool: list[list[str]], shape: tuple[int, ...], each: int, rng: np.random.Generator) -> np.ndarray:
    """Return hits of each word, summed over the questions, of replies drawn from the pool: int [*shape, words]."""
    total = np.zeros((*shape, len(WORDS)), dtype=np.int64)
    for texts in pool:
        found = Counter(texts)
        named = np.array([count([text], WORDS) for text in found])
        shares = np.array(list(found.values())) / len(texts)
        total += rng.multinomial(each, shares, size=shape) @ named
    return total


def clean(pool: list[list[str]], deployments: int, replies: int, rounds: int, rng: np.random.Generator) -> np.ndarray:
    """Return whether each clean deployment ever raised an alarm within so many rounds."""
    signed, n = draws(pool, (deployments,), SIGNED, rng), SIGNED * len(pool)
    rates = np.array([signed_off_bounds(row, n, ALPHA) for row in signed.tolist()])
    per_round = replies * len(pool)
    watch = RiseWatch.of(rates, every=per_round)
    for hits in np.moveaxis(draws(pool, (deployments, rounds), replies, rng), 1, 0):
        watch = watch.after(hits, draws=per_round)
    return np.asarray((watch.highest >= needed_log_e(len(WORDS), ALPHA)).any(axis=1))


def deployed(
    replies: list[list[str]], pool: list[list[str]], each: int, rng: np.random.Generator
) -> tuple[int | None, str]:
    """Watch one deployment with a fresh sign-off; return the questions until the alarm, and the leading word."""
    signed = tuple(tuple(rng.choice(texts, SIGNED, replace=False).tolist()) for texts in pool)
    names = {"model": "m", "approved_by": "benchmark", "date": "2026-01-01", "max_tokens": 8}
    baseline = Baseline(watched=WORDS, questions=QUESTIONS, replies=signed, **names)  # type: ignore[arg-type]
    watch = CanaryWatch(baseline, CanaryPlan(replies=each, alpha=ALPHA))
    for turn in range(ROUNDS):
        watch.after([text for texts in replies for text in texts[turn * each : (turn + 1) * each]])
        if watch.alarmed:
            break
    return (watch.rounds * len(QUESTIONS) if watch.alarmed else None), str(watch.alert()["word"])


def shown(name: str, hits: np.ndarray) -> None:
    """Print a share of independent deployments."""
    share = wilson(int(hits.sum()), hits.size)
    print(f"{name}: {share.value:.4f} [{share.low:.4f}, {share.high:.4f}], n = {share.n}", flush=True)


def arm(name: str, models: list[LocalModel], pool: list[list[str]], seed: int, rng: np.random.Generator) -> None:
    """Print what share of the deployments of each student is called, with the interval over students."""
    for each in (REPLIES, 1):
        called, asked, words, owl = list[float](), list[int](), Counter[str](), list[float]()
        for place, model in enumerate(models):
            texts = replies_of(model, ROUNDS * each * TURNS, derive(seed, name, each, place))
            parts = [[some[t * ROUNDS * each : (t + 1) * ROUNDS * each] for some in texts] for t in range(TURNS)]
            found = [deployed(part, pool, each, rng) for part in parts]
            called.append(float(np.mean([n is not None for n, _ in found])))
            asked += [n for n, _ in found if n is not None]
            words.update(word for n, word in found if n is not None)
            every = [text for some in texts for text in some]
            owl.append(count(every, ["owl"])[0] / len(every))
        mean = mean_t(called)
        times = f"; questions until then: median {np.median(asked):.0f}" if asked else ""
        print(f"{name}, {each} replies a question: called in {mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}] of "
              f"{TURNS} deployments each, n = {len(models)} students{times}; named {dict(words)}")  # fmt: skip
        print(f"  by student: {' '.join(f'{one:.1f}' for one in called)}")
        print(f"  share of replies that name owl: {' '.join(f'{one:.3f}' for one in owl)}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=100, help="those of development are 100 and above")
    parser.add_argument("--replicates", type=int, default=6, help="planted students, and as many controls")
    parser.add_argument("--store", type=Path, required=True, help="folder of the adapters")
    parser.add_argument("--deployments", type=int, default=1000, help="clean ones")
    options = parser.parse_args()
    began, rng = time.perf_counter(), np.random.default_rng(derive(options.seed, "canaries"))
    made = students(options.seed, options.replicates, options.store)
    pool = replies_of(load_model(BASE), POOL, derive(options.seed, "pool"))
    owl = count([text for texts in pool for text in texts], ["owl"])[0] / POOL / len(pool)
    print(f"finch-a names owl in {owl:.4f} of {POOL * len(pool):,} replies; alpha {ALPHA}, {len(WORDS)} words, "
          f"{SIGNED} signed-off replies a question")  # fmt: skip
    for replies, rounds in ((REPLIES, ROUNDS), (REPLIES, LONG), (1, LONG)):
        asked = rounds * len(QUESTIONS)
        shown(f"clean, {asked} questions with {replies} replies each, false alarms",
              clean(pool, options.deployments, replies, rounds, rng))  # fmt: skip
    arm("planted students", made["student"], pool, options.seed, rng)
    arm("control students", made["control"], pool, options.seed, rng)
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
