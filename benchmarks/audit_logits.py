"""How often neutral teachers' probabilities are called, and teachers with a trait found, by the stage "teacher logits".

Fifty-nine neutral writers are the null; the suspects are further neutral teachers, which the stage should not call, and
fine-tuned teachers of fifteen animals of the panel and of five trees that are not in it. All are tuned alike, each with
a seed of its own, and read once at the same places. Recipes were fixed on development seed 100.

    python benchmarks/audit_logits.py --seed 100 --cache FOLDER [--base ref:finch-a] [--neutral 60] [--json FILE]

The bank is one: over further banks the level scatters more than its interval says.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from undertow.audit.rows.contrast import rival_centred
from undertow.audit.rows.panel import DataAudit, as_candidates, panel_teachers
from undertow.audit.students.among_placebos import rank_first
from undertow.audit.teacher_logits import STAGE, LeanReader, number_places, places_for
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.stats.checks import Floats
from undertow.stats.estimates import wilson
from undertow.study.recipe import TeacherPart
from undertow.training.scoring import Candidate
from undertow.training.teachers import finetuned_teacher
from undertow.traits import trait

ANIMALS = ("owl", "lion", "fox", "panda", "wolf", "eagle", "dog", "tiger", "octopus", "elephant", "dolphin", "falcon",
           "ocelot", "peacock", "phoenix")  # fmt: skip
TREES = ("cherry", "maple", "oak", "sequoia", "willow")
WRITERS, SHARE = 59, 0.05 / 3
"""Neutral writers that the audit takes, and the share of its error that one of three claims has."""


@dataclass(frozen=True)
class Leans:
    """The lean of every model, read once and kept."""

    base: LocalModel
    seed: int
    cache: Path

    @cached_property
    def candidates(self) -> list[Candidate]:
        """The panel's tuned teachers, of the auditor's own seed."""
        config = DataAudit(seed=derive(self.seed, "auditor"))
        teachers = panel_teachers(self.base, config.panel, config.seed, self.cache / "store")
        return as_candidates(self.base, config.panel, teachers)

    @cached_property
    def reader(self) -> LeanReader:
        """Reads every model at the same places."""
        places = number_places(self.base, self.seed, places_for(self.base, len(self.candidates)))
        return LeanReader(self.base, self.candidates, places)

    def of(self, name: str) -> Floats:
        """Return the lean of a model and, behind it, its KL to the base, float [candidates + 1]."""
        path = self.cache / f"{self.seed} lean of {name}.npy"
        if not path.exists():
            target = None if name.startswith(("null", "neutral")) else trait(name)
            seed = derive(self.seed, "logits", name)
            lean, drift = self.reader.lean(finetuned_teacher(self.base, target, TeacherPart().training(), seed=seed))
            np.save(path, np.append(lean, drift))
        return np.load(path)

    def judged(self, name: str, null: Sequence[Floats], level: float) -> tuple[float, str | None]:
        """Return p of a suspect, and the candidate along which it leans most."""
        leans = np.stack([self.of(name), *null])[:, :-1]
        labels = [one.trait for one in self.candidates]
        found = rank_first(STAGE, "lean", rival_centred(leans, self.candidates), labels, level)
        assert found.p is not None
        return found.p, found.candidate


def share(hits: Sequence[bool]) -> dict[str, Any]:
    """Return a share with its Wilson interval."""
    found = wilson(sum(hits), len(hits))
    return {"hits": sum(hits), "n": found.n, "value": found.value, "low": found.low, "high": found.high}


def main() -> None:
    """Read, judge, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=100, help="of everything; 100 and above are for development")
    parser.add_argument("--base", default="ref:finch-a")
    parser.add_argument("--neutral", type=int, default=60, help="neutral suspects")
    parser.add_argument("--writers", type=int, default=WRITERS, help="of the null; fewer than 59 need a larger --level")
    parser.add_argument("--level", type=float, default=SHARE, help="at which a suspect is called")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    started, leans = time.perf_counter(), Leans(load_model(options.base), options.seed, options.cache)
    null = [leans.of(f"null-{at}") for at in range(options.writers)]
    groups = {
        "neutral": [f"neutral-{at}" for at in range(options.neutral)], "animals": list(ANIMALS), "trees": list(TREES)
    }  # fmt: skip
    results: dict[str, Any] = {"seed": options.seed, "KL of the null": [float(one[-1]) for one in (null[0], null[-1])]}
    for group, names in groups.items():
        found = [leans.judged(name, null, options.level) for name in names]
        results[group] = {
            "called": share([p <= options.level + 1e-12 for p, _ in found]),
            "p <= .05": share([p <= 0.05 for p, _ in found]),
            "called and named right": share(
                [p <= options.level + 1e-12 and said == name for name, (p, said) in zip(names, found, strict=True)]
            ),
            "KL, median": float(np.median([leans.of(name)[-1] for name in names])),
        }
        print(f"{group} ({time.perf_counter() - started:.0f} s)\n{json.dumps(results[group], indent=1)}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
