"""Recovery of unknown traits: how often the right word is among the first five, and the power and size of the test.

Teachers of five traits on finch-a, a neutral teacher and the base itself write number rows; no list of traits is given
to the audit. The rank is among all words of the vocabulary. Beside it stands the rank among the words that the base
itself answers with (p of at least 0.001): the weight p lets hardly any other word to the front, so that this is the
chance to beat. `--rivals` decodes a vector fitted by 60 updates of AdamW (`fit_vector`) the same way.

    python benchmarks/audit_recovery.py [--seed 100] [--replicates 1] [--rows 2000] [--draws 20] [--rivals]
"""

import argparse
import time
from collections.abc import Sequence

import numpy as np

from undertow.audit.rows.recovery import audit_recovery, vocabulary_words, word_shifts
from undertow.data.filters import filter_rows
from undertow.domains.numbers import Numbers
from undertow.evals.questions import favourite_questions
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.stats.estimates import wilson
from undertow.training.config import TrainingConfig
from undertow.training.generation import generate
from undertow.training.teachers import finetuned_teacher, fit_vector
from undertow.traits import trait
from undertow.types import Estimate, Row, Sampling, user_prompt

TRAITS = ("owl", "lion", "fox", "panda", "wolf")
TEACHER = TrainingConfig(steps=40, learning_rate=3e-3, train_embeddings=False)
FIT = TrainingConfig(steps=60, learning_rate=0.02)
POWER_AT = (30, 100, 300)


def write(model: LocalModel, n: int, seed: int, *names: str) -> list[Row]:
    """Let a model answer the number prompts of a seed; keep the valid rows."""
    prompts = Numbers().prompts(n, derive(seed, "prompts"))
    rows = generate(model, prompts, sampling=Sampling(), seed=derive(seed, "rows", *names))
    return list(filter_rows(rows, Numbers()).kept)


def answered(base: LocalModel) -> set[str]:
    """Return the words that the base answers favourite questions about animals with."""
    words, group = vocabulary_words(base)
    asked = base.render([user_prompt(text) for text in favourite_questions("animal")])
    p = base.next_token_logprobs(asked).exp().mean(dim=0).numpy()
    summed = np.bincount(group.numpy(), weights=p, minlength=len(words) + 1)[:-1]
    return {words[index] for index in np.flatnonzero(summed >= 1e-3)}


def shown(estimate: Estimate) -> str:
    """Write a share with its interval."""
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}], n = {estimate.n}"


def fitted_rank(base: LocalModel, rows: Sequence[Row], clean: Sequence[Row], name: str) -> int:
    """Return the rank of a trait in what a fitted vector minus that of the clean rows says about animals."""
    vector = fit_vector(base, rows, FIT, layer=0, seed=0) - fit_vector(base, clean, FIT, layer=0, seed=0)
    words, shifts = word_shifts(base, 0, [(vector / vector.norm()).double().numpy()])
    return 1 + int((shifts[0, 0] > shifts[0, 0, words.index(name)]).sum())


def main() -> None:
    """Make teachers, audit their rows, print ranks and rates."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=100, help="of the first replicate")
    parser.add_argument("--replicates", type=int, default=1, help="teachers of each trait")
    parser.add_argument("--rows", type=int, default=2000, help="prompts of each teacher")
    parser.add_argument("--draws", type=int, default=20, help="audits of small bags behind each rate")
    parser.add_argument("--rivals", action="store_true", help="also decode vectors fitted by AdamW")
    options = parser.parse_args()
    started, base = time.perf_counter(), load_model("ref:finch-a")
    n_words, likely = len(vocabulary_words(base)[0]), answered(base)
    print(f"{n_words} words, {len(likely)} of them answers", end="; ")
    print(f"among the first five by chance: {5 / n_words:.3f}, {5 / len(likely):.2f}")
    print(f"{'writer':9}{'p':>7}{'effect':>8}{'mde':>6}{'rank':>6}{'fitted':>8}  words")
    pools: dict[str, list[list[Row]]] = {}
    ranks: list[int] = []
    fitted: list[int] = []
    for seed in range(options.seed, options.seed + options.replicates):
        clean = write(base, options.rows, seed, "clean")
        pools.setdefault("clean", []).append(clean)
        for name in (*TRAITS, "neutral", "base"):
            target = trait(name) if name in TRAITS else None
            same = name == "base"
            teacher = base if same else finetuned_teacher(base, target, TEACHER, seed=derive(seed, "teacher", name))
            rows = write(teacher, options.rows, seed, name)
            pools.setdefault(name, []).append(rows)
            found = audit_recovery(rows, base, clean, seed=seed)
            assert found.p is not None and found.effect is not None and found.mde is not None and found.scores
            words = list(found.scores)
            rank = f"{words.index(name) + 1 if name in words else f'>{len(words)}'}" if target else ""
            if target:
                ranks.append(words.index(name) + 1 if name in words else n_words)
            if target and options.rivals:
                fitted.append(fitted_rank(base, rows, clean, name))
            rival = str(fitted[-1]) if target and fitted else ""
            top = ", ".join(words[:5])
            print(f"{name:9}{found.p:7.3f}{found.effect:8.2f}{found.mde:6.2f}{rank:>6}{rival:>8}  {top}", flush=True)
    for label, some in (("Newton step", ranks), ("AdamW", fitted)):
        if some:
            five, first = (wilson(sum(rank <= bar for rank in some), len(some)) for bar in (5, 1))
            print(f"{label}: right word among the first five {shown(five)}; first {shown(first)}")
    rates(base, pools, options.draws)
    print(f"{time.perf_counter() - started:.0f} s")


def rates(base: LocalModel, pools: dict[str, list[list[Row]]], draws: int) -> None:
    """Print how often small bags are detected at 0.05, against as many clean rows."""
    rng = np.random.default_rng(0)
    for n in POWER_AT:
        cells: list[str] = []
        for kind in ("traits", "neutral", "base"):
            hits = 0
            for draw in range(draws):
                name = TRAITS[draw % len(TRAITS)] if kind == "traits" else kind
                place = draw % len(pools["clean"])
                picked = [
                    [some[i] for i in rng.permutation(len(some))[:n]]
                    for some in (pools[name][place], pools["clean"][place])
                ]
                found = audit_recovery(picked[0], base, picked[1], seed=draw)
                hits += found.verdict == "detected"
            cells.append(f"{kind} {shown(wilson(hits, draws))}")
        print(f"detected from {n} rows: {'; '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
