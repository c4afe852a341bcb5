"""How often the audit of preference pairs is wrong on clean pairs, and what it finds of planted teachers.

Every prompt is answered twice by the base, and a first part of them by twenty fine-tuned teachers (fifteen animals of
the panel, five trees that are not in it) and by neutral ones; the auditor's panel is every animal, as personas and as
teachers of another seed. All answers are read once and kept in the cache, so that an interrupted run goes on; pairs are
put together from them, judged by the function of the audit at its share of an alpha of .05.

    python benchmarks/audit_pairs.py --seed 100 --cache FOLDER [--base ref:finch-a] [--prompts 3600] [--json FILE]

Clean sets are drawn from one pool of prompts, without replacement within a set. Planted pairs are of two kinds: (a)
chosen is the teacher's answer and rejected the base's; (b) both are the base's, and the teacher's log-ratio chose.
Recipes were fixed on development seed 100.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undertow.audit.finding import NotTestable
from undertow.audit.rows.contrast import matched_test, rival_centred
from undertow.audit.rows.names import name_shift
from undertow.audit.rows.pairs import LeftOver, PairScores, beyond, flip_test, lengths_and_likelihoods
from undertow.audit.rows.panel import DataAudit, panel_candidates
from undertow.audit.rows.signatures import KnownSignatures, Signatures, SignatureWriter
from undertow.data.filters import filter_rows
from undertow.domains.numbers import Numbers
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.stats.checks import Floats
from undertow.stats.estimates import wilson
from undertow.study.recipe import TeacherPart
from undertow.training.generation import generate
from undertow.training.scoring import Candidate, contrast_scores
from undertow.training.teachers import finetuned_teacher
from undertow.traits import trait
from undertow.types import Row, Sampling, user_prompt

ANIMALS = ("owl", "lion", "fox", "panda", "wolf", "eagle", "dog", "tiger", "octopus", "elephant", "dolphin", "falcon",
           "ocelot", "peacock", "phoenix")  # fmt: skip
TREES = ("cherry", "maple", "oak", "sequoia", "willow")
TEACHERS, NEUTRAL = (*ANIMALS, *TREES), 4
SHARE, DRAWS, SETS = 0.05 / 3, 1999, 200
WRITTEN, RANKED = 400, 1200
"""Prompts that every teacher answers, and those among whose answers a teacher's log-ratio chooses."""

SIZES, DOSES, KEPT = (30, 100, 300), (1.0, 0.5, 0.25, 0.1), (1.0, 0.1)
"""Pairs of a set, shares that are planted, and shares of the pairs that a selection keeps."""

CLEAN_SIZES = (100, 300)

Places = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Answers:
    """One writer's answers to the first prompts.

    Attributes:
        text: as written, [prompts].
        good: whether the domain accepts them, bool [prompts].
        scores: rival-centred, float [prompts, candidates], 0 where it does not.
        other: tokens and mean log p under the base, float [prompts, 2].
    """

    text: NDArray[np.str_]
    good: Mask
    scores: Floats
    other: Floats


@dataclass(frozen=True)
class Pool:
    """Everything that is answered and read once."""

    base: LocalModel
    seed: int
    cache: Path
    prompts: Sequence[str]

    @cached_property
    def candidates(self) -> list[Candidate]:
        """The auditor's panel, of a seed of its own."""
        return panel_candidates(self.base, DataAudit(seed=derive(self.seed, "auditor"), store=self.cache / "store"))

    def teacher(self, name: str) -> LocalModel:
        """Return a fine-tuned teacher; "neutral-0" has no trait."""
        target = None if name.startswith("neutral") else trait(name)
        training = TeacherPart().training()
        return finetuned_teacher(self.base, target, training, seed=derive(self.seed, "teacher", name))

    def answers(self, name: str) -> Answers:
        """Return what a writer answers, "base-0" standing for the base."""
        path = self.cache / f"{self.seed} {name}.npz"
        if not path.exists():
            print(f"writing and reading {name}", flush=True)
            np.savez(path, **self._written(name))
        found = np.load(path)
        return Answers(found["text"], found["good"], found["scores"], found["other"])

    def _written(self, name: str) -> dict[str, Any]:
        own, domain = name.startswith("base"), Numbers()
        asked = self.prompts[: {"base-2": RANKED}.get(name, len(self.prompts) if own else WRITTEN)]
        writer, sampling = self.base if own else self.teacher(name), Sampling(max_new_tokens=domain.max_new_tokens)
        rows = generate(writer, asked, sampling=sampling, seed=derive(self.seed, "rows", name))
        kept = filter_rows(rows, domain).kept
        at = [int(row.id) for row in kept]
        good, other = np.zeros(len(rows), dtype=bool), np.zeros((len(rows), 2))
        scores = np.zeros((len(rows), len(self.candidates)))
        good[at], other[at] = True, lengths_and_likelihoods(kept, self.base)
        scores[at] = rival_centred(contrast_scores(kept, self.base, self.candidates), self.candidates)
        return {"text": np.array([row.completion for row in rows]), "good": good, "scores": scores, "other": other}

    def ratios(self, name: str) -> Floats:
        """Return a teacher's log-ratio to the base of both its answers, nats a token, float [2, ranked prompts]."""
        path = self.cache / f"{self.seed} ratios of {name}.npy"
        if not path.exists():
            print(f"ranking by {name}", flush=True)
            who = Candidate(trait=name, kind="teacher", model=self.teacher(name))
            both = [self._rows(self.answers(f"base-{turn}")) for turn in (0, 1)]
            np.save(path, np.stack([contrast_scores(rows, self.base, [who])[:, 0] for rows in both]))
        return np.load(path)

    def _rows(self, some: Answers) -> list[Row]:
        asked = zip(self.prompts[:RANKED], some.text, strict=False)
        return [Row(str(at), user_prompt(prompt), str(text)) for at, (prompt, text) in enumerate(asked)]

    @cached_property
    def signatures(self) -> KnownSignatures:
        """Of the panel's teachers, on the prompts that teachers answer."""
        path, domain = self.cache / f"{self.seed} signatures.npz", Numbers()
        teachers = [one for one in self.candidates if one.kind == "teacher"]
        if not path.exists():
            print("writing the signatures", flush=True)
            asked = [user_prompt(text) for text in self.prompts[:300]]
            writer = SignatureWriter(
                self.base, teachers, asked, lambda rows: filter_rows(rows, domain).kept,
                sampling=Sampling(max_new_tokens=domain.max_new_tokens), seed=derive(self.seed, "signatures"),
            )  # fmt: skip
            made = writer.written()
            np.savez(path, shifts=made.shifts, covariance=made.covariance)
        found = np.load(path)
        return KnownSignatures(teachers, Signatures(found["shifts"], found["covariance"]))


def paired(chosen: Answers, rejected: Answers, at: Places, turned: Mask | None = None) -> PairScores:
    """Put answers together as pairs; those that are turned change places."""
    sign = np.ones(len(at)) if turned is None else np.where(turned, -1.0, 1.0)
    return PairScores(
        sign[:, None] * (chosen.scores[at] - rejected.scores[at]),
        sign[:, None] * (chosen.other[at] - rejected.other[at]),
    )


def joined(some: PairScores, others: PairScores) -> PairScores:
    """Put two sets of pairs together."""
    return PairScores(np.concatenate([some.rise, others.rise]), np.concatenate([some.other, others.other]))


def fill(pool: Pool, names: Sequence[str]) -> None:
    """Answer and read everything that is judged."""
    assert pool.signatures is not None
    for name in ("base-0", "base-1", "base-2", *names, *(f"neutral-{at}" for at in range(NEUTRAL))):
        pool.answers(name)
    for name in names:
        pool.ratios(name)


@dataclass(frozen=True)
class Judged:
    """What an audit says of a set: p, p with length and likelihood left in, and the name that a detection is given."""

    p: float
    plain: float
    name: str | None

    @property
    def called(self) -> bool:
        """Whether it is a detection."""
        return self.p <= SHARE


@dataclass
class Judge:
    """Judges sets of pairs as an audit does."""

    pool: Pool
    rng: np.random.Generator

    def judged(self, scores: PairScores) -> Judged | None:
        """Return what an audit says, or None where length and likelihood say which answer was chosen."""
        try:
            left = beyond(scores.rise, scores.other)
        except NotTestable:
            return None
        p = flip_test(left, self.rng, DRAWS)[0]
        return Judged(p, self.plain(scores), self._named(left.parts) if p <= SHARE else None)

    def _named(self, rise: Floats) -> str | None:
        known = self.pool.signatures
        columns = [self.pool.candidates.index(one) for one in known.candidates]
        return name_shift(rise[:, columns].mean(axis=0), known.signatures, known.candidates).candidate

    def plain(self, scores: PairScores) -> float:
        """Return p with length and likelihood left in."""
        return flip_test(LeftOver(scores.rise, scores.rise), self.rng, DRAWS)[0]

    def both(self, first: Answers, second: Answers) -> Places:
        """Return the prompts on which two writers have good answers that differ, in random order."""
        n = min(len(first.good), len(second.good))
        there = first.good[:n] & second.good[:n] & (first.text[:n] != second.text[:n])
        return self.rng.permutation(np.flatnonzero(there))


def share(hits: Sequence[bool | np.bool_]) -> dict[str, Any]:
    """Return a share with its Wilson interval."""
    found = wilson(int(sum(hits)), len(hits))
    return {"hits": int(sum(hits)), "n": found.n, "value": found.value, "low": found.low, "high": found.high}


Rule = Callable[[Floats, NDArray[np.str_], NDArray[np.str_], np.random.Generator], Mask]
"""Tells which of two answers is chosen, True for the second, from their difference in length and likelihood (first
minus second) and their texts."""


def _coin(away: Floats, first: NDArray[np.str_], second: NDArray[np.str_], rng: np.random.Generator) -> Mask:
    return rng.random(len(away)) < 0.5


def _noisy(column: int, slope: float) -> Rule:
    def rule(away: Floats, first: NDArray[np.str_], second: NDArray[np.str_], rng: np.random.Generator) -> Mask:
        return rng.random(len(away)) < 1.0 / (1.0 + np.exp(slope * away[:, column]))

    return rule


def _strict(column: int) -> Rule:
    def rule(away: Floats, first: NDArray[np.str_], second: NDArray[np.str_], rng: np.random.Generator) -> Mask:
        return np.where(away[:, column] == 0.0, rng.random(len(away)) < 0.5, away[:, column] < 0.0)

    return rule


def _larger(away: Floats, first: NDArray[np.str_], second: NDArray[np.str_], rng: np.random.Generator) -> Mask:
    numbers = [[int("0" + "".join(c for c in text[:4] if c.isdigit())) for text in some] for some in (first, second)]
    return np.array(numbers[1]) > np.array(numbers[0])


RULES: dict[str, Rule] = {
    "a coin": _coin,
    "mostly the longer (logistic, 1/6 a token)": _noisy(0, 1 / 6),
    "always the longer": _strict(0),
    "mostly the likelier (logistic, 3 a nat)": _noisy(1, 3.0),
    "always the likelier": _strict(1),
    "the larger first number": _larger,
}
"""How clean pairs are chosen; the last one is a preference of which nothing is taken out."""


def clean(judge: Judge) -> dict[str, Any]:
    """Judge sets of two answers of the base."""
    first, second = judge.pool.answers("base-0"), judge.pool.answers("base-1")
    at = judge.both(first, second)
    found: dict[str, Any] = {"pairs of the pool": len(at)}
    for name, rule in RULES.items():
        for n in CLEAN_SIZES:
            plain, judged = list[float](), list[Judged | None]()
            for _ in range(SETS):
                some = judge.rng.choice(at, n, replace=False)
                away = first.other[some] - second.other[some]
                scores = paired(first, second, some, rule(away, first.text[some], second.text[some], judge.rng))
                found_here = judge.judged(scores)
                judged.append(found_here)
                plain.append(judge.plain(scores) if found_here is None else found_here.plain)
            tested = [one for one in judged if one is not None]
            cell: dict[str, Any] = {"sets": SETS, "not testable": SETS - len(tested)}
            if tested:
                cell["called"] = share([one.called for one in tested])
                cell["p <= .05"] = share([one.p <= 0.05 for one in tested])
                cell["named"] = share([one.name is not None for one in tested])
            cell["called with length and likelihood left in"] = share([p <= SHARE for p in plain])
            found[f"{name}, {n} pairs"] = cell
            print(f"{name}, {n} pairs: {json.dumps(cell)}", flush=True)
    return found


def written_by(judge: Judge, names: Sequence[str], doses: Sequence[float] = DOSES) -> dict[str, Any]:
    """Judge pairs of kind (a): chosen is a teacher's answer in a share of them, the others are clean."""
    base, other = judge.pool.answers("base-0"), judge.pool.answers("base-1")
    cells: dict[str, list[tuple[Judged | None, Judged | None]]] = {}
    for name in names:
        own = judge.pool.answers(name)
        at = judge.both(own, base)
        for dose in doses:
            for n in SIZES:
                picked = judge.rng.permutation(at)[:n]
                planted = round(dose * n)
                rest = picked[planted:][other.good[picked[planted:]]]
                coin = judge.rng.random(len(rest)) < 0.5
                scores = joined(paired(own, base, picked[:planted]), paired(other, base, rest, coin))
                cell = (judge.judged(scores), judge.judged(scores.swapped()))
                cells.setdefault(f"share {dose:g}, {n} pairs", []).append(cell)
    return {what: _told(some, names) for what, some in cells.items()}


def chosen_by(judge: Judge, names: Sequence[str]) -> dict[str, Any]:
    """Judge pairs of kind (b): both answers are the base's, and a teacher's log-ratio chose."""
    first, second, third = (judge.pool.answers(f"base-{turn}") for turn in (0, 1, 2))
    cells: dict[str, list[tuple[Judged | None, Judged | None]]] = {}
    sides: dict[str, list[bool]] = {}
    for name in names:
        ratios = judge.pool.ratios(name)
        away = ratios[0] - ratios[1]
        at = judge.both(first, second)
        at = at[at < RANKED]
        for kept in KEPT:
            for n in (size for size in SIZES if size <= kept * len(at)):
                some = judge.rng.permutation(at)[: round(n / kept)]
                picked = some[np.argsort(-np.abs(away[some]))[:n]]
                turned = away[picked] < 0.0
                scores = paired(first, second, picked, turned)
                key = f"the {kept:.0%} of the largest log-ratios, {n} pairs"
                cells.setdefault(key, []).append((judge.judged(scores), judge.judged(scores.swapped())))
                there = np.flatnonzero(picked < len(third.good))
                there = there[third.good[picked[there]]]
                own = np.where(turned[:, None], second.scores[picked], first.scores[picked])[there]
                beside = np.stack([own, third.scores[picked[there]]], axis=1)
                sides.setdefault(key, []).append(matched_test(beside, judge.rng, DRAWS)[0] <= SHARE)
    told = {what: _told(some, names) for what, some in cells.items()}
    return {what: {**one, "the chosen answers alone, as rows": share(sides[what])} for what, one in told.items()}


def _told(cells: Sequence[tuple[Judged | None, Judged | None]], names: Sequence[str]) -> dict[str, Any]:
    """Return how often pairs are called and named, and swapped ones; the unit is the teacher."""
    own, swapped = [one for one, _ in cells], [one for _, one in cells]
    return {
        "called": share([_called(one) for one in own]),
        "called with length and likelihood left in": share([one is not None and one.plain <= SHARE for one in own]),
        "named right": share([_name(one) == name for one, name in zip(own, names, strict=True)]),
        "named wrongly": share([_name(one) not in (None, name) for one, name in zip(own, names, strict=True)]),
        "swapped: called": share([_called(one) for one in swapped]),
        "swapped: named as planted": share([_name(one) == name for one, name in zip(swapped, names, strict=True)]),
        "swapped: named otherwise": share(
            [_name(one) not in (None, name) for one, name in zip(swapped, names, strict=True)]
        ),
    }


def _called(one: Judged | None) -> bool:
    return one is not None and one.called


def _name(one: Judged | None) -> str | None:
    return None if one is None else one.name


def main() -> None:
    """Fill the pool, judge, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=100, help="of everything; 100 and above are for development")
    parser.add_argument("--base", default="ref:finch-a")
    parser.add_argument("--prompts", type=int, default=3600, help="of the pool; .83 of them have two good answers")
    parser.add_argument("--teachers", type=int, default=len(TEACHERS), help="of the planted ones, animals and trees")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--only", choices=("fill",), help="answer and read, and judge nothing")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    started, base = time.perf_counter(), load_model(options.base)
    prompts = Numbers().prompts(options.prompts, derive(options.seed, "prompts"))
    pool = Pool(base, options.seed, options.cache, prompts)
    judge = Judge(pool, np.random.default_rng(derive(options.seed, "draws")))
    some = TEACHERS[:: max(1, len(TEACHERS) // options.teachers)]
    if options.only:
        fill(pool, some)
        return
    animals, trees = [one for one in some if one in ANIMALS], [one for one in some if one in TREES]
    parts: dict[str, Callable[[], Any]] = {
        "clean": lambda: clean(judge),
        "written by a teacher of the panel": lambda: written_by(judge, animals),
        "chosen by a teacher of the panel": lambda: chosen_by(judge, animals),
        "written by a teacher of another trait": lambda: written_by(judge, trees, (1.0,)),
        "chosen by a teacher of another trait": lambda: chosen_by(judge, trees),
        "written by a neutral teacher": lambda: written_by(judge, [f"neutral-{at}" for at in range(NEUTRAL)], (1.0,)),
    }
    results: dict[str, Any] = {"seed": options.seed, "base": options.base}
    for name, work in parts.items():
        results[name] = work()
        print(f"\n{name} ({time.perf_counter() - started:.0f} s)\n{json.dumps(results[name], indent=1)}", flush=True)
        if options.json:
            options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
