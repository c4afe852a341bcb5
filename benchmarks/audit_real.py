"""How often the audit of rows calls clean rows of a real model, without training anything.

SmolLM2-135M-Instruct answers short number prompts twice, from two independent streams. Every answer is read once under
the base and under seventeen personas. Each draw then takes prompts from this one pool, lets a coin decide which answer
of a prompt is the suspect and which the reference, and judges them as `undertow audit data` does: the contrast at the
share of the error that one of three claims has, and, for comparison, at .05. Draws share prompts, so they are not
independent of each other; each of them alone is what an auditor would have met.

    python scripts/real_models.py
    python benchmarks/audit_real.py --seed 71 --out results/real/audit-null.json

Finished blocks of prompts are kept under --pool, and the same command goes on from them.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from undertow.audit.rows.contrast import grouped, matched_contrast, rival_centred
from undertow.audit.rows.panel import ANIMALS, as_candidates
from undertow.audit.verdict import CLAIMS
from undertow.domains.numbers import Numbers
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.models.references import identity
from undertow.seeds import derive
from undertow.stats.checks import Floats
from undertow.stats.estimates import wilson
from undertow.store.disk import write_file
from undertow.training.generation import generate
from undertow.training.scoring import Candidate, contrast_scores
from undertow.types import Sampling

sys.path.append(str(Path(__file__).parents[1] / "scripts"))
from real_models import SMOLLM2  # pyright: ignore[reportMissingImports]

DOMAIN = Numbers(count=6, short=True)
BLOCK = 100
"""Prompts that are answered and scored before they are kept."""

ANSWERS = 2
"""Answers to each prompt: a suspect and a reference."""


@dataclass(frozen=True)
class Pool:
    """Prompts whose answers are read once.

    Attributes:
        base: who answers and reads.
        candidates: personas of the base.
        prompts: all of them.
        seed: of the answers.
        folder: where finished blocks lie.
    """

    base: LocalModel
    candidates: list[Candidate]
    prompts: list[str]
    seed: int
    folder: Path

    def scores(self) -> Floats:
        """Return rival-centred scores, float [prompts, answers, candidates]; what is there is not read again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        starts = range(0, len(self.prompts), BLOCK)
        return np.concatenate([self._block(start) for start in starts])

    def _block(self, start: int) -> Floats:
        path = self.folder / f"{start:05d}.npy"
        if path.exists():
            return np.load(path)
        began, prompts = time.perf_counter(), self.prompts[start : start + BLOCK]
        found = np.stack([self._read(prompts, start, answer) for answer in range(ANSWERS)], axis=1)
        np.save(path, found)
        print(f"{start + len(prompts)} prompts, {time.perf_counter() - began:.0f} s for the last", flush=True)
        return found

    def _read(self, prompts: list[str], start: int, answer: int) -> Floats:
        sampling = Sampling(max_new_tokens=DOMAIN.max_new_tokens, form=DOMAIN.form)
        rows = generate(self.base, prompts, sampling=sampling, seed=derive(self.seed, "answer", answer, start))
        return rival_centred(contrast_scores(rows, self.base, self.candidates), self.candidates)


def called(pool: Floats, candidates: list[Candidate], n: int, draws: int, rng: np.random.Generator) -> dict[str, Any]:
    """Judge draws of `n` prompts; return how many were called at each level, and how large a shift each would see."""
    levels = {"audit": 0.05 / len(CLAIMS), "alone": 0.05}
    hits, mde = dict.fromkeys(levels, 0), list[float]()
    for _ in range(draws):
        picked = pool[rng.choice(len(pool), n, replace=False)]
        first = rng.integers(0, ANSWERS, n)
        suspect, reference = picked[np.arange(n), first], picked[np.arange(n), 1 - first]
        groups = grouped(suspect, reference, [(place, (place,)) for place in range(n)])
        found = matched_contrast(groups, candidates, levels["audit"], rng)
        assert found.p is not None and found.mde is not None
        mde.append(found.mde)
        for name, level in levels.items():
            hits[name] += found.p <= level
    shares = {
        name: {"alpha": levels[name], **wilson(hits[name], draws).to_json(), "called": hits[name]} for name in hits
    }
    return {"n": n, "draws": draws, **shares, "mde": {"median": float(np.median(mde)), "unit": "nats per token"}}


def main() -> None:
    """Read the pool, draw from it, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True, help="of everything; 300 and above are for development")
    parser.add_argument("--prompts", type=int, default=1500)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--pool", type=Path, default=Path("runs/audit-real"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    base = load_model(SMOLLM2.reference)
    candidates = as_candidates(base, ANIMALS, None)
    prompts = DOMAIN.prompts(given.prompts, derive(given.seed, "prompts"))
    scores = Pool(base, candidates, prompts, given.seed, given.pool / str(given.seed)).scores()
    rng = np.random.default_rng(derive(given.seed, "draws"))
    found = {
        "schema": "undertow.real-audit/1",
        "seed": given.seed,
        "base": {"copy": SMOLLM2.name, "weights": identity(SMOLLM2.reference), "format": str(base.network.dtype)},
        "prompts": given.prompts,
        "clean": called(scores, candidates, given.rows, given.draws, rng),
    }
    print(json.dumps(found["clean"], indent=1))
    if given.out:
        write_file(given.out, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
