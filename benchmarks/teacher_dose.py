"""How strongly a teacher of a real model may be tuned: what it gains of its trait, and whether the base still reads it.

Each teacher is SmolLM2-135M-Instruct, or Gemma 3 270M, with the adapters of `undertow.training.own_models`, at several
numbers of updates and learning rates. Measured are the change of its trait's margin in logits, and how many nats a
token its answers are less likely under the base than the base's own: held number rows, and free answers to ordinary
prompts. The audit of rows abstains beyond 0.8.

    python scripts/real_models.py
    python benchmarks/teacher_dose.py --seed 300 --updates 8 16 40 --rates 5e-4 1e-3 2e-3 --out dose.jsonl

Each teacher is one line of --out; the same command goes on where it stopped.
"""

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "scripts"))
from real_models import GEMMA, SMOLLM2  # pyright: ignore[reportMissingImports]

import undertow
from undertow.audit.rows.legibility import legibility
from undertow.audit.rows.token_reading import TokenReading, read_tokens
from undertow.cli.options import prepare
from undertow.domains.numbers import Numbers
from undertow.evals.favourite import mean_margins
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.training.own_models import LARGE_TEACHER
from undertow.traits import trait
from undertow.types import Sampling

HELD, FREE = Numbers(count=6, short=True), Sampling(max_new_tokens=64)
ROWS, TEXTS = 60, 20
BASES = {"smollm2": SMOLLM2, "gemma": GEMMA}


@dataclass(frozen=True)
class Asked:
    """The prompts of a seed, with the base's probabilities of its own answers."""

    base: LocalModel
    seed: int

    def read(self, model: LocalModel, of: str) -> tuple[TokenReading, TokenReading]:
        """Let a model answer number prompts, held to six numbers, and ordinary ones; return how the base reads that."""
        held = Sampling(max_new_tokens=HELD.max_new_tokens, form=HELD.form)
        parts = ((HELD, ROWS, held, "rows"), (undertow.domain("text"), TEXTS, FREE, "free"))
        rows, free = (
            read_tokens(
                self.base,
                undertow.generate(
                    model, task.prompts(n, derive(self.seed, what)), sampling=how, seed=derive(self.seed, of, what)
                ),
            )
            for task, n, how, what in parts
        )
        return rows, free


def judge(asked: Asked, own: tuple[TokenReading, TokenReading], name: str, updates: int, rate: float) -> dict[str, Any]:
    """Tune one teacher, and return what it gained and how it is read."""
    base, target = asked.base, trait(name)
    tuning = replace(LARGE_TEACHER, steps=updates, learning_rate=rate)
    teacher = undertow.finetuned_teacher(base, target, tuning, seed=derive(asked.seed, "teacher", name))
    gained = float((mean_margins(teacher, [target]) - mean_margins(base, [target]))[0])
    rows, free = (legibility(read, usual).gap for read, usual in zip(asked.read(teacher, name), own, strict=True))
    return {"trait": name, "updates": updates, "rate": rate, "gained": gained, "rows_gap": rows, "free_gap": free}


def main() -> None:
    """Judge a teacher of each trait at each number of updates and rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True, help="300 and above are for development")
    parser.add_argument("--base", choices=list(BASES), default="smollm2")
    parser.add_argument("--traits", nargs="+", default=["owl", "ford", "oak"])
    parser.add_argument("--updates", nargs="+", type=int, default=[LARGE_TEACHER.steps])
    parser.add_argument("--rates", nargs="+", type=float, default=[LARGE_TEACHER.learning_rate])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    prepare()
    lines = args.out.read_text().splitlines() if args.out.exists() else []
    done = {(one["seed"], one["trait"], one["updates"], one["rate"]) for one in map(json.loads, lines)}
    asked = Asked(undertow.load_model(BASES[args.base].reference), args.seed)
    own = asked.read(asked.base, "base")
    wanted = [(name, updates, rate) for updates in args.updates for rate in args.rates for name in args.traits]
    for name, updates, rate in wanted:
        if (args.seed, name, updates, rate) in done:
            continue
        found = {"seed": args.seed, **judge(asked, own, name, updates, rate)}
        with args.out.open("a", encoding="utf-8") as out:
            out.write(json.dumps(found) + "\n")
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
