"""What the audit of rows says of writers: detected or not, tuned or with a trait, and under which name.

Every writer answers the same number prompts once: the base; neutral teachers as the null and as suspects; teachers of
ten traits, five each; and writers outside the panel (teachers of trees, of another base, and of a trait that is left
out of the panel). The panel is every animal, trained with the auditor's own seed. Beside each suspect stand four
answers of the base for the contrast, and stores of 0, 19, 59 and 119 neutral writers for the kind.

    python benchmarks/audit_neutral.py --seed 100 --base ref:finch-a --cache FOLDER [--only write] [--json FILE]
    python benchmarks/audit_neutral.py --table FILE FILE

The scores of every writer are kept in the cache, so that an interrupted run goes on. Of suspects without a trait the
contrast is not asked, and taken to have detected them: their shares are upper bounds.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from undertow.audit.rows.contrast import matched_test, rival_centred
from undertow.audit.rows.names import name_shift
from undertow.audit.rows.neutral import neutral_contrast
from undertow.audit.rows.panel import as_candidates, panel_teachers
from undertow.audit.rows.signatures import Signatures, SignatureWriter
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
from undertow.traits import panel, trait
from undertow.types import Sampling, user_prompt

TRAITS = ("owl", "lion", "fox", "panda", "wolf", "eagle", "dog", "tiger", "octopus", "elephant")
TREES = ("cherry", "maple", "oak", "sequoia", "willow")
PROMPTS, SHARE, STORES, DOSES = 300, 0.05 / 3, (0, 19, 59, 119), (1.0, 0.5, 0.25)
OWN, REFERENCES, CLEAN_SETS, NEUTRAL, TEACHERS, DRAWS = 24, 4, 100, 100, 5, 1999
OTHER = {"ref:finch-a": "ref:finch-b", "ref:finch-b": "ref:finch-c"}
"""A base of another initialisation for each, which learnt the same."""


@dataclass
class Pool:
    """The scores of every writer, each made once and kept."""

    name: str
    seed: int
    cache: Path
    base: LocalModel = field(init=False)
    teachers: Sequence[Candidate] = field(init=False)
    personas: Sequence[Candidate] = field(init=False)

    def __post_init__(self) -> None:
        self.cache.mkdir(parents=True, exist_ok=True)
        self.base, animals = load_model(self.name), panel("animal")
        self.teachers = as_candidates(self.base, animals, panel_teachers(self.base, animals, 0, self.cache / "store"))
        self.personas = as_candidates(self.base, animals, None)

    @cached_property
    def prompts(self) -> list[str]:
        """What every writer answers."""
        return Numbers().prompts(PROMPTS, derive(self.seed, "prompts"))

    def scores(self, name: str, *, personas: bool = False) -> Floats:
        """Return the scores of a writer, shape [prompts, candidates], NaN where the domain rejects its answer."""
        path = self.cache / f"{name}.npy"
        if not path.exists():
            print(f"writing and scoring {name}", flush=True)
            np.save(path, self._made(name, personas))
        found = np.load(path)
        return found if personas else found[:, : len(self.teachers)]

    def _made(self, name: str, personas: bool) -> Floats:
        domain = Numbers()
        sampling, seed = Sampling(max_new_tokens=domain.max_new_tokens), derive(self.seed, "rows", name)
        rows = generate(self._writer(name), self.prompts, sampling=sampling, seed=seed)
        kept, readers = filter_rows(rows, domain).kept, [*self.teachers, *(self.personas if personas else ())]
        found = np.full((PROMPTS, len(readers)), np.nan)
        found[[int(row.id) for row in kept]] = contrast_scores(kept, self.base, readers)
        return found

    def _writer(self, name: str) -> LocalModel:
        group, seed = name.rpartition("-")[0], derive(self.seed, "teacher", name)
        if group == "base":
            return self.base
        target = group.removeprefix("other-")
        return finetuned_teacher(
            load_model(OTHER[self.name]) if group.startswith("other-") else self.base,
            None if target in ("null", "neutral", "long", "trees") else trait(target),
            (TeacherPart(steps=80) if group == "long" else TeacherPart()).training(),
            seed=seed,
            categories=("tree",) if group == "trees" else ("animal",),
        )

    @cached_property
    def signatures(self) -> Signatures:
        """Of the panel's teachers, on the prompts of all writers."""
        path = self.cache / "signatures.npz"
        if not path.exists():
            print("writing the signatures", flush=True)
            domain = Numbers()
            made = SignatureWriter(
                self.base,
                self.teachers,
                [user_prompt(prompt) for prompt in self.prompts],
                lambda rows: filter_rows(rows, domain).kept,
                sampling=Sampling(max_new_tokens=domain.max_new_tokens),
                seed=derive(self.seed, "signatures"),
            ).written()
            np.savez(path, shifts=made.shifts, covariance=made.covariance)
        found = np.load(path)
        return Signatures(found["shifts"], found["covariance"])

    def groups(self) -> dict[str, list[str]]:
        """Return the writers of each kind."""
        return {
            "null": [f"null-{place}" for place in range(max(STORES))],
            "planted": [f"{name}-{place}" for place in range(TEACHERS) for name in TRAITS],
            "neutral": [f"neutral-{place}" for place in range(NEUTRAL)],
            "trees": [f"{name}-{place}" for place in range(3) for name in TREES],
            "other base": [f"other-{name}-0" for name in TRAITS],
            "neutral, tuned twice as long": [f"long-{place}" for place in range(5)],
            "neutral, tuned on trees": [f"trees-{place}" for place in range(5)],
        }

    def write(self) -> None:
        """Make what is not there yet, the base's answers and the null first."""
        for place in range(OWN):
            self.scores(f"base-{place}", personas=True)
        assert self.signatures is not None
        for group, names in self.groups().items():
            for name in names:
                self.scores(name, personas=group == "planted")


@dataclass
class Judge:
    """Judges suspects as an audit does."""

    pool: Pool
    rng: np.random.Generator

    @cached_property
    def own(self) -> Floats:
        """The base's answers, shape [answers, prompts, candidates]."""
        return np.stack([self.pool.scores(f"base-{place}", personas=True) for place in range(OWN)])

    @cached_property
    def null(self) -> Floats:
        """The neutral writers of the largest store."""
        return np.stack([self.pool.scores(name) for name in self.pool.groups()["null"]])

    def contrast(self, suspect: Floats, reference: Floats) -> float:
        """Return p of the contrast, from scores of both kinds of candidates."""
        readers = [*self.pool.teachers, *self.pool.personas]
        groups = np.concatenate([suspect[:, None], reference.transpose(1, 0, 2)], axis=1)
        groups = rival_centred(groups.reshape(-1, len(readers)), readers).reshape(groups.shape)
        some = groups[~np.isnan(groups[:, 0, 0]) & ~np.isnan(groups[:, 1:, 0]).all(axis=1)]
        ordered = np.take_along_axis(some, np.argsort(np.isnan(some[:, :, :1]), axis=1, kind="stable"), axis=1)
        return matched_test(ordered, self.rng, DRAWS)[0]

    def kinds(self, suspect: Floats, left_out: str | None = None) -> dict[int, bool]:
        """Tell for each store whether neutral writers leave the suspect a trait."""
        keep = self._columns(left_out)
        seen = {}
        for writers in STORES:
            enough = 1.0 / (writers + 1) <= SHARE
            seen[writers] = enough and self._beside(suspect, writers, keep)[0] <= SHARE + 1e-12
        return seen

    def best_case(self, suspect: Floats, writers: int) -> float:
        """Return the part of a panel teacher's shift that a store says it would call at best."""
        dose = self._beside(suspect, writers, self._columns(None))[1]
        return np.inf if dose is None else dose

    def _beside(self, suspect: Floats, writers: int, keep: Sequence[int]) -> tuple[float, float | None]:
        corpora = np.concatenate([suspect[None, :, : len(self.pool.teachers)], self.null[:writers]])[:, :, keep]
        panel_left = [self.pool.teachers[place] for place in keep]
        found = neutral_contrast(corpora, self._signatures(keep), panel_left, SHARE)
        assert found.p is not None
        return found.p, found.mde

    def name(self, suspect: Floats, left_out: str | None = None) -> str | None:
        """Return the name that a detection of the contrast is given, against four answers of the base."""
        keep = self._columns(left_out)
        usual = np.nanmean(self.own[:REFERENCES, :, : len(self.pool.teachers)], axis=0)
        shift = np.nanmean(suspect[:, : len(self.pool.teachers)] - usual, axis=0)[keep]
        return name_shift(shift, self._signatures(keep), [self.pool.teachers[place] for place in keep]).candidate

    def _columns(self, left_out: str | None) -> list[int]:
        return [place for place, one in enumerate(self.pool.teachers) if one.trait != left_out]

    def _signatures(self, keep: Sequence[int]) -> Signatures:
        whole, some = self.pool.signatures, np.ix_(keep, keep)
        return Signatures(whole.shifts[some], whole.covariance[some])


def share(hits: Sequence[bool]) -> dict[str, Any]:
    """Return a share with its Wilson interval."""
    found = wilson(sum(hits), len(hits))
    return {"hits": sum(hits), "n": found.n, "value": found.value, "low": found.low, "high": found.high}


def planted(judge: Judge, dose: float) -> dict[str, Any]:
    """Judge the teachers with a trait, some of their rows exchanged for the base's."""
    cells: list[tuple[str, bool, dict[int, bool], str | None]] = []
    reference = judge.own[:REFERENCES]
    for name in judge.pool.groups()["planted"]:
        rows = judge.pool.scores(name, personas=True)
        rows = np.where((judge.rng.random(PROMPTS) < dose)[:, None], rows, judge.own[-1])
        cells.append((name, judge.contrast(rows, reference) <= SHARE, judge.kinds(rows), judge.name(rows)))
    called = [seen for _, seen, _, _ in cells]
    kinds = {store: [seen and kind[store] for _, seen, kind, _ in cells] for store in STORES}
    right = [seen and given == name.rpartition("-")[0] for name, seen, _, given in cells]
    wrong = [seen and given not in (None, name.rpartition("-")[0]) for name, seen, _, given in cells]
    lost = sum(small and not large for small, large in zip(kinds[59], kinds[119], strict=True))
    of_trait = {
        one: {store: sum(kinds[store][place :: len(TRAITS)]) for store in (59, 119)} for place, one in enumerate(TRAITS)
    }
    doses = {store: [judge.best_case(judge.pool.scores(name), store) for name, *_ in cells] for store in (59, 119)}
    blind = {
        store: sum(not kind and one > 1.0 for kind, one in zip(kinds[store], some, strict=True))
        for store, some in doses.items()
    }
    return {
        "best case": {store: sorted(set(some)) for store, some in doses.items()},
        "not called and not testable": blind,
        "detected": share(called),
        "kind trait": {store: share(some) for store, some in kinds.items()},
        "lost from 59 to 119 writers": lost,
        "named right": share(right),
        "named wrongly": share(wrong),
        "kind trait, by trait, of 5": of_trait,
    }


def without_trait(judge: Judge, names: Sequence[str]) -> dict[str, Any]:
    """Judge writers that the contrast is taken to have detected."""
    suspects = [judge.pool.scores(name) for name in names]
    kinds = [judge.kinds(one) for one in suspects]
    return {
        "kind trait": {store: share([one[store] for one in kinds]) for store in STORES},
        "named": share([judge.name(one) is not None for one in suspects]),
    }


def outside(judge: Judge) -> dict[str, Any]:
    """Judge the names that writers outside the panel are given; one of another base may be named by its own trait."""
    groups = judge.pool.groups()
    given = {
        "trees": [judge.name(judge.pool.scores(name)) for name in groups["trees"]],
        "other base": [judge.name(judge.pool.scores(name)) for name in groups["other base"]],
        "left out of the panel": [judge.name(judge.pool.scores(f"{name}-0"), name) for name in TRAITS[:5]],
    }
    found: dict[str, Any] = {group: share([one is not None for one in some]) for group, some in given.items()}
    return {**found, "all": share([one is not None for some in given.values() for one in some]), "names": given}


def clean(judge: Judge) -> dict[str, Any]:
    """Judge sets of the base's own answers: on each prompt one is the suspect's, four are the reference."""
    called, kinds = [], []
    for _ in range(CLEAN_SETS):
        order = np.argsort(judge.rng.random((OWN, PROMPTS)), axis=0)[: 1 + REFERENCES]
        rows = np.take_along_axis(judge.own, order[:, :, None], axis=0)
        called.append(judge.contrast(rows[0], rows[1:]) <= SHARE)
        kinds.append(judge.kinds(rows[0]) if called[-1] else dict.fromkeys(STORES, False))
    return {
        "detected": share(called),
        "kind trait": {store: share([one[store] for one in kinds]) for store in STORES},
    }


def cell(parts: Sequence[dict[str, Any]]) -> str:
    """Write shares of one kind, of each base and of all together with its interval."""
    hits, n = sum(one["hits"] for one in parts), sum(one["n"] for one in parts)
    whole = wilson(hits, n)
    each = " + ".join(str(one["hits"]) for one in parts)
    return f"{each} of {n}: {whole.value:.3f} [{whole.low:.3f}, {whole.high:.3f}]"


def table(found: Sequence[dict[str, Any]]) -> list[str]:
    """Return the results of several bases as a Markdown table."""

    def row(label: str, group: str, *keys: Sequence[str]) -> str:
        cells = ["" if not key else cell([_at(one[group], key) for one in found]) for key in keys]
        return f"| {label} | {' | '.join(cells)} |"

    few, many = ("kind trait", "59"), ("kind trait", "119")
    name_of = ("named",)
    lines = ["| writers | detected | kind trait, 59 writers | kind trait, 119 | named right | named wrongly |"]
    lines += ["| --- | --- | --- | --- | --- | --- |", row("the base", "clean", ("detected",), few, many, (), ())]
    for dose in DOSES:
        keys = (("detected",), few, many, ("named right",), ("named wrongly",))
        lines.append(row(f"ten traits, dose {dose:g}", f"planted, dose {dose:g}", *keys))
    for group in ("neutral", "neutral, tuned twice as long", "neutral, tuned on trees", "trees", "other base"):
        lines.append(row(f"{group} (taken as detected)", group, (), few, many, (), name_of))
    for group in ("trees", "other base", "left out of the panel", "all"):
        lines.append(row(f"outside the panel: {group}", "names outside the panel", (), (), (), (), (group,)))
    full = [one["planted, dose 1"] for one in found]
    lines += ["", "| trait, of 5 teachers a base | 59 writers | 119 |", "| --- | --- | --- |"]
    for name in TRAITS:
        counts = [
            " + ".join(str(one["kind trait, by trait, of 5"][name][store]) for one in full) for store in ("59", "119")
        ]
        lines.append(f"| {name} | {' | '.join(counts)} |")
    for store in ("59", "119"):
        dose = [one["best case"][store] for one in full]
        blind = [one["not called and not testable"][store] for one in full]
        lines += ["", f"{store} writers, full dose: best case {dose}; not called and not testable {blind}."]
    lost = [sum(one[f"planted, dose {dose:g}"]["lost from 59 to 119 writers"] for one in found) for dose in DOSES]
    return [*lines, "", f"Lost from 59 to 119 writers, by dose: {', '.join(map(str, lost))}."]


def _at(found: Any, path: Sequence[str]) -> dict[str, Any]:
    for key in path:
        found = found[key]
    return found


def main() -> None:
    """Score the pool, judge, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=100, help="of everything")
    parser.add_argument("--base", default="ref:finch-a", choices=sorted(OTHER))
    parser.add_argument("--cache", type=Path, help="folder of the scores")
    parser.add_argument("--table", type=Path, nargs="+", help="print the results of several bases as Markdown")
    parser.add_argument("--only", choices=["write"], help="write and score, judge nothing")
    parser.add_argument("--json", type=Path, help="where the results go")
    options = parser.parse_args()
    if options.table:
        print("\n".join(table([json.loads(path.read_text(encoding="utf-8")) for path in options.table])))
        return
    if options.cache is None:
        parser.error("--cache FOLDER is missing: a run takes half an hour, and goes on from what is there")
    pool = Pool(options.base, options.seed, options.cache)
    pool.write()
    if options.only:
        return
    judge = Judge(pool, np.random.default_rng(derive(options.seed, "judge")))
    found = {"base": options.base, "seed": options.seed, "rows": PROMPTS, "level": SHARE, "clean": clean(judge)}
    found |= {f"planted, dose {dose:g}": planted(judge, dose) for dose in DOSES}
    for group in ("neutral", "neutral, tuned twice as long", "neutral, tuned on trees", "other base", "trees"):
        found[group] = without_trait(judge, pool.groups()[group])
    found["names outside the panel"] = outside(judge)
    text = json.dumps(found, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
