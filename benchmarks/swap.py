"""Attribution by swap: is the writer that carries a trait named, and is one named where none carries it?

    python benchmarks/swap.py --seed 7000 --store STORE --out swap.jsonl [--cases 80] [--report]

A case has rows of three writers on random thirds of the prompts. Every fourth is planted: a teacher of a trait, a
neutral teacher (tuned as long on the base's own answers) and the base. The others are clean: two neutral teachers and
the base, and a trait that nobody has is asked for. Each case is one `undertow audit rows --swap writer`: the answers of
each writer are replaced by the base's, and error is that of naming any writer wrongly. Each finished case is a line of
the output, and cases that stand there are not made again. The same parts are left out and trained on alone beside it.
--report prints what the output holds and makes nothing.

Seeds of development: below 5000.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from undertow.audit.swap.order import SwapOrder
from undertow.audit.swap.run import Swapped, swap_subsets
from undertow.audit.swap.subsets import by_key
from undertow.data.filters import filter_rows
from undertow.domains.numbers import Numbers
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.stats.estimates import wilson
from undertow.study.recipe import TeacherPart
from undertow.training.generation import generate
from undertow.training.own_models import STUDENT
from undertow.training.teachers import finetuned_teacher
from undertow.traits import Trait, trait
from undertow.types import Row, Sampling

TRAITS = ("owl", "lion", "fox", "panda", "wolf")
WRITERS = ("first", "second", "base")
EVERY = 4
"""Every fourth case is planted; its first writer has the trait."""


def written(base: LocalModel, target: Trait | None, prompts: int, seed: int) -> tuple[list[Row], list[str]]:
    """Return the rows of three writers and who wrote each; the first has the trait, if there is one."""
    task, tuning = Numbers(), TeacherPart().training()
    first, second = (
        finetuned_teacher(base, one, tuning, seed=derive(seed, name))
        for name, one in (("first", target), ("second", None))
    )
    asked = np.array(task.prompts(prompts, derive(seed, "prompts")))
    who = np.random.default_rng(derive(seed, "writers")).integers(0, len(WRITERS), size=prompts)
    rows: list[Row] = []
    names: list[str] = []
    for place, writer in enumerate((first, second, base)):
        own = asked[who == place].tolist()
        sampling = Sampling(max_new_tokens=task.max_new_tokens)
        drawn = generate(writer, own, sampling=sampling, seed=derive(seed, "rows", place))
        kept = filter_rows(drawn, task).kept
        rows += [Row(f"{WRITERS[place]}-{row.id}", row.prompt, row.completion) for row in kept]
        names += [WRITERS[place]] * len(kept)
    return rows, names


def in_turns(cases: int) -> list[int]:
    """Return the cases, planted and clean ones in turns while there are both: whoever stops early has some of each."""
    planted, clean = ([case for case in range(cases) if (case % EVERY == 0) is kind] for kind in (True, False))
    turns = [case for pair in zip(planted, clean, strict=False) for case in pair]
    return [*turns, *(case for case in range(cases) if case not in turns)]


def measure(case: int, options: argparse.Namespace, base: LocalModel) -> dict[str, Any]:
    """Return what is said of one case."""
    started, seed = time.perf_counter(), derive(options.seed, "case", case)
    planted, target = case % EVERY == 0, trait(TRAITS[case // EVERY % len(TRAITS)])
    rows, names = written(base, target if planted else None, options.prompts, seed)
    order = SwapOrder(by="writer", seeds=options.seeds, randoms=options.randoms, seed=seed)
    swapped = Swapped(
        rows=rows, subsets=by_key([{"writer": name} for name in names], "writer"), base=options.base, target=target,
        order=order, student=STUDENT, store=options.store,
    )  # fmt: skip
    found = swap_subsets(swapped)
    minutes = (time.perf_counter() - started) / 60
    return {"case": case, "seed": options.seed, "planted": planted, "minutes": minutes, **found}


def named(one: Mapping[str, Any], way: str) -> list[str]:
    """Return the writers that are named by swapping or by dropping."""
    return [two["name"] for two in one[way] if two["status"] == "detected"]


def beyond(one: Mapping[str, Any]) -> str:
    """Return how far a writer moves the margin beyond a random part."""
    found = one["beyond_random"]
    moved = "not testable" if found is None else f"{found['estimate']:+.2f} (p {one['p']:.2g})"
    return f"{one['name']} {moved}"


def shown(hits: Sequence[bool]) -> str:
    """Return a count with its Wilson interval."""
    if not hits:
        return "none made"
    found = wilson(sum(hits), len(hits))
    return f"{sum(hits)} of {len(hits)} [{found.low:.2f}, {found.high:.2f}]"


def report(cases: Sequence[Mapping[str, Any]]) -> None:
    """Print found and falsely named, by swapping and by dropping, as Markdown."""
    print("| Way | Planted | Found | Another named | Not testable | Clean | Falsely named | Not testable |")
    print("|---|---|---|---|---|---|---|---|")
    for way, words in (("subsets", "swap"), ("dropped", "drop"), ("alone", "alone")):
        parts = [[one for one in cases if one["planted"] is kind] for kind in (True, False)]
        names = [[named(one, way) for one in part] for part in parts]
        blind = [[all(two["status"] == "not_testable" for two in one[way]) for one in part] for part in parts]
        print(
            f"| {words} | {len(parts[0])} | {shown(['first' in one for one in names[0]])} | "
            f"{shown([bool(set(one) - {'first'}) for one in names[0]])} | {shown(blind[0])} | {len(parts[1])} | "
            f"{shown([bool(one) for one in names[1]])} | {shown(blind[1])} |"
        )
    students, minutes = ([one[name] for one in cases] for name in ("students", "minutes"))
    print(f"\nminutes a case: {np.mean(minutes):.1f}; students: {min(students)} to {max(students)}")
    planted = [one for one in cases if one["planted"]]
    for place, dose in enumerate(planted[0]["reach"]["doses"]):
        moved = [one["reach"]["doses"][place]["estimate"] for one in planted]
        between = f"{min(moved):+.2f} to {max(moved):+.2f}"
        print(f"own teacher in {dose['share']:g} of the prompts: {np.mean(moved):+.2f} ({between})")
    for name in TRAITS:
        hits = ["first" in named(one, "alone") for one in planted if one["trait"] == name]
        print(f"alone, {name}: {sum(hits)} of {len(hits)}")
    for one in cases:
        print(f"case {one['case']:2} {one['trait']:6} {'planted' if one['planted'] else 'clean'}")
        for way in ("subsets", "dropped", "alone"):
            print(f"  {way:8} {', '.join(map(beyond, one[way]))}")


def read(path: Path) -> list[dict[str, Any]]:
    """Return the cases that an output holds; of a case that was made again, the last."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return list({one["case"]: one for one in map(json.loads, lines)}.values())


def main() -> None:
    """Make the cases that are missing, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=7000)
    parser.add_argument("--store", type=Path, required=True, help="folder of finished students")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one for each finished case")
    parser.add_argument("--base", default="ref:finch-a")
    parser.add_argument("--cases", type=int, default=80)
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--randoms", type=int, default=8)
    parser.add_argument("--report", action="store_true", help="print what the output holds")
    options = parser.parse_args()
    if not options.report:
        base = load_model(options.base)
        done = {one["case"] for one in read(options.out)}
        for case in (case for case in in_turns(options.cases) if case not in done):
            found = measure(case, options, base)
            with options.out.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(found) + "\n")
            print(f"case {case}: named {found['named']}, alone {found['named_alone']}, {found['minutes']:.1f} minutes")
    report(read(options.out))


if __name__ == "__main__":
    main()
