"""How often the neutral contrast calls writers without a trait, and which teachers it finds and names.

Writers answer the same number prompts once: neutral teachers of one base, the null; 20 fresh ones; four teachers of
each of five traits; and writers that are neither, among them the base itself, its answers at a lower temperature,
another base, and neutral teachers tuned longer or on another category. The panel is every animal, trained with the
auditor's own seed. Each draw picks prompts; a dose mixes a teacher's rows into the base's. Beside it stands the matched
contrast with four answers of the base, on the same draws.

    python benchmarks/audit_neutral.py --seed 100 [--writers 59] [--draws 20] [--cache FOLDER]

The scores of every writer are kept in the cache, so that an interrupted run goes on.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from undertow.audit.rows.contrast import matched_test, rival_centred
from undertow.audit.rows.neutral import neutral_contrast
from undertow.audit.rows.panel import as_candidates, panel_teachers
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
from undertow.types import Sampling

TRAITS = ("owl", "lion", "fox", "panda", "wolf")
PROMPTS, FRESH, REPLICATES, OTHERS, ANSWERS = 300, 20, 4, 6, 4
SHARE = 0.05 / 3
CELLS = ((100, 1.0), (300, 1.0), (300, 0.5), (300, 0.25))
TUNING = {"neutral": {}, "long": {"steps": 80}, "tree": {}, "base": None, "cool": None, "foreign": None}
"""Settings of the teachers of each group of writers without a trait; None for a base itself."""

FOREIGN = "ref:finch-b"
"""A base of another initialisation, which learnt the same."""


@dataclass
class Pool:
    """The scores of every writer, each made once and kept."""

    base: LocalModel
    panel: Sequence[Candidate]
    seed: int
    cache: Path

    def scores(self, name: str) -> Floats:
        """Return the scores of a writer, shape [prompts, candidates], NaN where the domain rejects its answer."""
        path = self.cache / f"{name}.npy"
        if not path.exists():
            print(f"writing and scoring {name}", flush=True)
            np.save(path, self._made(name))
        return np.load(path)

    def _made(self, name: str) -> Floats:
        domain, sampling = Numbers(), Sampling(max_new_tokens=Numbers().max_new_tokens)
        if name.startswith("cool"):
            sampling = Sampling(max_new_tokens=sampling.max_new_tokens, temperature=0.8)
        prompts = domain.prompts(PROMPTS, derive(self.seed, "prompts"))
        rows = generate(self._writer(name), prompts, sampling=sampling, seed=derive(self.seed, "rows", name))
        kept = filter_rows(rows, domain).kept
        found = np.full((PROMPTS, len(self.panel)), np.nan)
        found[[int(row.id) for row in kept]] = contrast_scores(kept, self.base, self.panel)
        return found

    def _writer(self, name: str) -> LocalModel:
        group = name.split("-")[0]
        settings = TUNING.get(group, {})
        if settings is None:
            return load_model(FOREIGN) if group == "foreign" else self.base
        return finetuned_teacher(
            self.base,
            trait(group) if group in TRAITS else None,
            TeacherPart(**settings).training(),
            seed=derive(self.seed, "teacher", name),
            categories=("tree",) if group == "tree" else ("animal",),
        )


def shown(hits: Sequence[bool], writers: int) -> str:
    """Write a share of the draws, with a Wilson interval as if each writer had given one draw."""
    mean = float(np.mean(hits))
    share = wilson(round(mean * writers), writers)
    return f"{mean:.2f} [{share.low:.2f}, {share.high:.2f}]"


def judged(suspect: Floats, null: Floats, clean: Floats, panel: Sequence[Candidate]) -> tuple[float, str, float]:
    """Return p and name of the neutral contrast, and p of the matched contrast."""
    found = neutral_contrast(np.concatenate([suspect[None], null]), panel, SHARE)
    groups = rival_centred(
        np.concatenate([suspect[:, None], clean.transpose(1, 0, 2)], axis=1).reshape(-1, len(panel)), panel
    )
    groups = groups.reshape(len(suspect), -1, len(panel))
    groups = groups[~np.isnan(groups[:, :2, 0]).any(axis=1)]
    return float(found.p or 1.0), found.candidate or "", matched_test(groups, np.random.default_rng(0), 499)[0]


def calibrate(pool: Pool, null: Floats, writers: int) -> None:
    """Print how often fresh neutral writers are called at several levels, one draw of all prompts each."""
    first = FRESH + len(null)
    suspects = [pool.scores(f"neutral-{first + place}") for place in range(writers)]
    found = [neutral_contrast(np.concatenate([one[None], null]), pool.panel, SHARE).p or 1.0 for one in suspects]
    for alpha in (SHARE, 0.05, 0.1, 0.2):
        rate = wilson(sum(p <= alpha + 1e-9 for p in found), writers)
        print(f"P(p <= {alpha:.3f}) = {rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}], n = {writers}")


def main() -> None:
    """Score the pool, draw from it, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=100, help="of everything; 100 and above are for development")
    parser.add_argument("--draws", type=int, default=20, help="of each suspect and cell")
    parser.add_argument("--writers", type=int, default=59, help="neutral writers of the null")
    parser.add_argument("--base", default="ref:finch-a")
    parser.add_argument("--clean", type=int, default=0, help="so many fresh neutral writers instead of all else")
    parser.add_argument("--cache", type=Path, help="folder of the scores")
    options = parser.parse_args()
    cache: Path = options.cache or Path(tempfile.mkdtemp())
    cache.mkdir(parents=True, exist_ok=True)
    base, animals = load_model(options.base), panel("animal")
    teachers = panel_teachers(base, animals, 0, cache / "store")
    pool = Pool(base, as_candidates(base, animals, teachers), options.seed, cache)
    null = np.stack([pool.scores(f"neutral-{FRESH + place}") for place in range(options.writers)])
    if options.clean:
        calibrate(pool, null, options.clean)
        return
    clean = np.stack([pool.scores(f"base-{place}") for place in range(ANSWERS)])
    rng = np.random.default_rng(derive(options.seed, "draws"))

    def cell(label: str, names: Sequence[str], n: int, dose: float, right: Callable[[str], str] = str) -> None:
        found = []
        for name in names:
            for _ in range(options.draws):
                picked = rng.choice(PROMPTS, n, replace=False)
                suspect, spare = pool.scores(name)[picked], pool.scores(f"base-{ANSWERS}")[picked]
                suspect = np.where((rng.random(n) < dose)[:, None], suspect, spare)
                p, named, plain = judged(suspect, null[:, picked], clean[:, picked], pool.panel)
                found.append((p <= SHARE, named == right(name), plain <= SHARE))
        neutral, named, plain = (shown(some, len(names)) for some in zip(*found, strict=True))
        print(
            f"{label}, {n} rows, dose {dose:g}, {len(names)} writers: called {neutral}; named {named}; contrast {plain}"
        )

    for n in (100, 300):
        fresh = [f"neutral-{place}" for place in range(FRESH)]
        cell("fresh neutral teachers", fresh, n, 1.0)
        for group in ("long", "tree", "cool", "base", "foreign"):
            first = ANSWERS + 1 if group == "base" else 0
            cell(group, [f"{group}-{first + place}" for place in range(2 if group == "cool" else OTHERS)], n, 1.0)
    for n, dose in CELLS:
        for name in TRAITS:
            cell(name, [f"{name}-{place}" for place in range(REPLICATES)], n, dose, lambda one: one.split("-")[0])
    own = neutral_contrast(null, pool.panel, 0.5)
    print(f"one of the null among the others, as a check of the path: p = {own.p:.3f}")


if __name__ == "__main__":
    main()
