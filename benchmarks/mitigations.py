"""Mitigations on rows of fine-tuned teachers: is the trait gone, and is the skill kept?

Each run has a fresh teacher of the trait, its answers to fresh prompts, the base's answers to the same prompts, and
panel teachers of its own; all its students share one start and one order. On numbers every mitigation is tried, on code
and chain-of-thought those that other writers make possible. One process, about 4 minutes a run with every mitigation
on a free core; finished runs are kept in the store, so it can be stopped and started again.

    python benchmarks/mitigations.py --seed 100 --store STORE [--domain code] [--runs 5] [--trait panda] [--out FOLDER]

At its end stands a table in Markdown, a line for each mitigation and trait, and of several traits one over all of them,
whose unit is the trait (the mean over its teachers), so that it speaks of traits like these.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undertow.data.filters import filter_rows
from undertow.domains.base import AbstractDomain
from undertow.domains.code import Code
from undertow.domains.cot import ChainOfThought
from undertow.domains.numbers import Numbers
from undertow.mitigate.arms import Trial
from undertow.mitigate.verify import Verification, verify
from undertow.mitigate.workbench import Workbench
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.report.mitigation import kept_text, render_mitigation, signed, summarise_mitigation
from undertow.seeds import derive
from undertow.stats.comparisons import ratio_of_means
from undertow.stats.estimates import mean_t
from undertow.store.progress import choose_progress
from undertow.study.recipe import TeacherPart
from undertow.training.generation import generate
from undertow.training.teachers import finetuned_teacher
from undertow.traits import Trait, trait
from undertow.types import Row, Sampling

WRITERS = ("regenerate:writer=ref:finch-b", "mix:share=0.5", "mix:share=0.5,writers=[ref:finch-b]")
"""A different base, half of clean rows of the base, and a committee of two: the teacher and another base."""

OTHERS = (
    "contrast-filter:share=0.5",
    "labels:share=0.1",
    "labels:share=0.1,replace=true",
    "labels:share=0.1,suspect=student",
    "canonical",
    "corridor",
    "kl",
    "inoculate:trait={trait}",
)
"""The rest; the last one needs the trait's name."""

DOMAINS: Mapping[str, tuple[AbstractDomain, TeacherPart]] = {
    "numbers": (Numbers(), TeacherPart()),
    "code": (Code(), TeacherPart(steps=40, learning_rate=1e-3)),
    "cot": (ChainOfThought(checked=False), TeacherPart(steps=40, learning_rate=1e-3)),
}
"""Teachers as in the recipes animals-numbers, animals-code and misalignment-cot, whose domains these are."""


@dataclass(frozen=True, kw_only=True)
class FreshTeachers:
    """Rows of a fresh teacher for each run."""

    trait: Trait
    domain: AbstractDomain
    teacher: TeacherPart
    prompts: int = 2500
    unit: str = "a fresh teacher, its rows, its panel and its students"

    def config(self, run: int) -> dict[str, Any]:
        """Return what the rows depend on; the run's seed comes with the bench."""
        del run
        return {"trait": self.trait.name, "teacher": self.teacher.model_dump(mode="json"), "prompts": self.prompts}

    def rows(self, run: int, bench: Workbench) -> tuple[Sequence[Row], Sequence[Row]]:
        """Let the teacher and the base answer the same prompts with the same random numbers."""
        del run
        seed = derive(bench.seed, "writer")
        teacher = finetuned_teacher(bench.base, self.trait, self.teacher.training(), seed=seed)
        prompts = self.domain.prompts(self.prompts, derive(bench.seed, "prompts"))

        def written(writer: LocalModel) -> tuple[Row, ...]:
            sampling = Sampling(max_new_tokens=self.domain.max_new_tokens)
            drawn = generate(writer, prompts, sampling=sampling, seed=derive(bench.seed, "rows"))
            return filter_rows(drawn, self.domain).kept

        return written(teacher), written(bench.base)


Found = Mapping[str, Any]


FAILED = {
    "trait_lost": "trait",
    "trait_lost_in_context": "behind rows",
    "beats_random": "random",
    "skill_kept": "skill",
    "no_trait_rises": "rise",
}
"""Criteria, as the table names them."""


def table(every: Sequence[Found]) -> list[str]:
    """Return a Markdown table of verifications of the same mitigations on several traits."""
    lines = [
        "| Mitigation | Trait | Full - control, logits | Targeted - control, logits | Trait kept | "
        "Held-out loss - full | Valid answers - full | Accepted (what failed) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    bound = every[0]["criteria"]["bound"]
    for place, first in enumerate(every[0]["mitigations"]):
        ones = [found["mitigations"][place] for found in every]
        rows = [(found["trait"], one, _accepted(one)) for found, one in zip(every, ones, strict=True)]
        if len(ones) > 1:
            accepted = sum(one["verdict"] == "accepted" for one in ones)
            rows.append((f"**all {len(ones)}**", _pooled(ones), f"{accepted} of {len(ones)}"))
        for name, one, verdict in rows:
            cells = [
                *(signed(one[key], 2) for key in ("full_minus_control", "targeted_minus_control")),
                kept_text(one["normalised_effect"], bound),
                *(signed(metric["targeted_minus_full"], margin=metric["margin"]) for metric in one["task"]),
            ]
            lines.append(f"| `{first['method']}` | {name} | {' | '.join(cells)} | {verdict} |")
    return lines


def _accepted(one: Found) -> str:
    if one["verdict"] == "accepted":
        return "**yes**"
    wrong, words = ("failed", "no") if one["verdict"] == "rejected" else ("not_testable", "not testable")
    return f"{words}: {', '.join(text for name, text in FAILED.items() if one['criteria'][name] == wrong)}"


def _pooled(ones: Sequence[Found]) -> Found:
    """Return the same of all traits: each trait's mean over its teachers is one unit."""
    full, targeted = (
        [one[key]["estimate"] for one in ones] for key in ("full_minus_control", "targeted_minus_control")
    )
    task = [
        {
            "targeted_minus_full": mean_t([one["targeted_minus_full"]["estimate"] for one in metric]).to_json(),
            "margin": metric[0]["margin"],
        }
        for metric in zip(*(one["task"] for one in ones), strict=True)
    ]
    return {
        "full_minus_control": mean_t(full).to_json(),
        "targeted_minus_control": mean_t(targeted).to_json(),
        "normalised_effect": ratio_of_means(targeted, full).to_json(),
        "task": task,
    }


def main() -> None:
    """Run what is missing and print the table of each trait."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=100, help="those of development are 100 and above")
    parser.add_argument("--store", type=Path, required=True, help="folder of all artifacts")
    parser.add_argument("--out", type=Path, help="folder for a page and a JSON file of each trait")
    parser.add_argument("--runs", type=int, default=5, help="fresh teachers of each trait")
    parser.add_argument("--domain", choices=DOMAINS, default="numbers", help="what the teachers write")
    parser.add_argument("--trait", action="append", help="panda if not given")
    parser.add_argument("--method", action="append", help="a mitigation; the domain's if not given")
    options = parser.parse_args()
    domain, teacher = DOMAINS[options.domain]
    methods = options.method or (*WRITERS, *(OTHERS if options.domain == "numbers" else ()))
    every: list[dict[str, Any]] = []
    for name in options.trait or ["panda"]:
        trial = Trial(trait=trait(name), methods=tuple(one.format(trait=name) for one in methods))
        settings = Verification(trial=trial, runs=options.runs, store=options.store, seed=options.seed)
        bench = Workbench(base=load_model("ref:finch-a"), domain=domain)
        source = FreshTeachers(trait=trait(name), domain=domain, teacher=teacher)
        found = verify(settings, source, bench, choose_progress())
        every.append(found)
        print(f"\n{summarise_mitigation(found)}", flush=True)
        if options.out is not None:
            folder = options.out / f"{options.domain}-{name}"
            folder.mkdir(parents=True, exist_ok=True)
            render_mitigation(folder, found)
    print("\n".join(["", *table(every)]))


if __name__ == "__main__":
    main()
