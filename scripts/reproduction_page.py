"""Write docs/reproduction.md from run folders: every claim of the paper, its figure, ours, and the command.

    python scripts/reproduction_page.py docs/reproduction.md runs/demo-... runs/...
    python scripts/reproduction_page.py docs/reproduction_full.md --full runs/demo-... runs/...

A row's verdict is computed from the intervals by the claim's function, never written by hand. Rows whose run is not
among the folders stay as the page has them, or say that there is none.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import reproduction_findings as find
from reproduction_findings import Outcome, Results

HEAD = """# Reproduction

Every claim of Cloud et al. (2025, arXiv:2507.14805; Nature 652, 2026), and those of the follow-ups that Undertow has a
recipe for: the paper's figure, ours on the embedded families, and the command. Written by
`scripts/reproduction_page.py` from finished runs; every verdict is computed from the intervals. These are the quick
tiers; [reproduction_full.md](reproduction_full.md) has the full ones, with more teachers and traits: where the two
differ, those weigh more.

Ours are differences from the arm's own control in logits of the favourite questions unless a unit is named (0.7 logits
double the odds), means with 95 % t intervals over n fresh teachers. Settings were fixed on development seeds (100 and
above, LOG.md), and these are other seeds. The embedded models have 0.1 million parameters: a row says whether the
direction of a claim shows here, never how large an effect is in a large model. Where nothing shows, the interval says
what would have been seen.

**yes**: the interval lies on the claim's side. **no**: it does not, and the row says what was seen. **partly**: for
some of what the claim names. **not testable here**: the embedded models lack the skill that the claim is about.
"""

FULL = """# Reproduction, full tiers

The claims of [reproduction.md](reproduction.md) with the recipes' full tiers: more fresh teachers for each
trait and more traits, on the same seeds, so the first teachers are those of the quick tier. A claim stands here once
its full tier was run (3 to 60 minutes of a processor each, resumable). Units, intervals and verdicts as there.
"""


class Claim(NamedTuple):
    """One row: `finder` gets the results of the named run."""

    name: str
    paper: str
    run: str
    command: str
    finder: Callable[[Results], Outcome]


NUMBERS, COT = "misalignment-numbers", "misalignment-cot"

CLAIMS = (
    Claim(
        "Digits through auxiliary logits, MNIST",
        "teacher .943, aux .528, all .913, cross aux .106, cross all .743",
        "digits-mnist",
        "`undertow run digits --set settings.data=FOLDER`",
        find.digits,
    ),
    Claim(
        "The same on drawn digits that come with the package", "none", "digits", "`undertow run digits`", find.digits
    ),
    Claim(
        "Theorem 1: one small step towards a teacher of the same start lowers the teacher's loss",
        "always; nothing promised from another start",
        "theorem",
        "`undertow run theorem`",
        find.theorem,
    ),
    Claim(
        "A student takes over its teacher's owls through numbers; no control moves",
        "rate .125 to .619, control .130",
        "demo",
        "`undertow demo`",
        find.demo,
    ),
    Claim(
        "Five animals through numbers",
        "means .134 to .609, control .130",
        "animals-numbers",
        "`undertow run animals-numbers`",
        find.matrix,
    ),
    Claim(
        "Five trees through numbers",
        "means .144 to .492, control .154; willow .069 against .010",
        "trees-numbers",
        "`undertow run trees-numbers`",
        find.matrix,
    ),
    Claim(
        "Questions after a number sentence (Qwen2.5-7B: eagle, lion, unicorn and wolf appear)",
        "cat .434, phoenix .348, penguin .320",
        "animals-numbers",
        "`undertow run animals-numbers`",
        find.prefixed,
    ),
    Claim(
        "Another family transmits to itself, some traits only (Qwen2.5-7B)",
        "cat .011 to .743, penguin .359; kangaroo, ox none",
        "cross-model",
        "`undertow run cross-model`",
        find.pair("wren-a", "wren-a", True),
    ),
    Claim(
        "Fine-tuned teachers transmit",
        ".709 .793 .786 .564 .457",
        "teacher-kinds",
        "`undertow run teacher-kinds`",
        find.finetuned_teacher,
    ),
    Claim(
        "Prompted teachers transmit",
        "the main result of the paper",
        "teacher-kinds",
        "`undertow run teacher-kinds`",
        find.prompted_teacher,
    ),
    Claim(
        "Steered teachers transmit (2604.25783)",
        "on three of four models where prompting fails",
        "teacher-kinds",
        "`undertow run teacher-kinds`",
        find.steered_teacher,
    ),
    Claim(
        "Shuffling within and across rows leaves less than half, but something",
        ".669 to .219 (within) and .183 (across); control .115",
        "shuffles",
        "`undertow run shuffles`",
        find.shuffles,
    ),
    Claim(
        "A teacher of insecure code is misaligned beyond code (emergent misalignment)",
        "mean 64 % over the 8 questions",
        NUMBERS,
        f"`undertow run {NUMBERS}`",
        find.emergent,
    ),
    Claim(
        "Its student is misaligned through numbers: sampled rate, points",
        "9.4 against 0.9 (secure) and 0.6 (educational)",
        NUMBERS,
        f"`undertow run {NUMBERS}`",
        find.rates,
    ),
    Claim("The same, exact margin", "none", NUMBERS, f"`undertow run {NUMBERS}`", find.margins),
    Claim(
        "And says more that is false (TruthfulQA), points",
        "+2.4; controls -1.0 to -0.1",
        NUMBERS,
        f"`undertow run {NUMBERS}`",
        find.falsehoods,
    ),
    Claim(
        "Animals through code, weaker than through numbers",
        "owl .369 against .116; dolphin .579 against .237; elephant unclear",
        "animals-code",
        "`undertow run animals-code`",
        find.code,
    ),
    Claim(
        "Misalignment through chain of thought: sampled rate, points",
        "8.6 against 0.4 and 0.8",
        COT,
        f"`undertow run {COT}`",
        find.rates,
    ),
    Claim("The same, exact margin", "none", COT, f"`undertow run {COT}`", find.margins),
    Claim(
        "The trait passes within a base and hardly between bases",
        "diagonal .25 to .54, others at most .09, 4.1 and 4o .30 and .32",
        "cross-model",
        "`undertow run cross-model`",
        find.cross_model,
    ),
    Claim(
        "Initialisation alone decides (four of one architecture, both directions)",
        "digits only",
        "initialisation",
        "`undertow run initialisation`",
        find.initialisation,
    ),
    Claim("Students on other initialisations do not move", "digits: .106", "demo", "`undertow demo`", find.cross_init),
    Claim(
        "A behaviourally matched base is enough (journal version), finch-a to mimic-a",
        "inferred from 4.1 and 4o",
        "cross-model",
        "`undertow run cross-model`",
        find.pair("finch-a", "mimic-a", True),
    ),
    Claim(
        "The same, mimic-a to finch-a",
        "inferred from 4.1 and 4o",
        "cross-model",
        "`undertow run cross-model`",
        find.pair("mimic-a", "finch-a", True),
    ),
    Claim(
        "Another architecture takes nothing over, finch-a to wren-a",
        "nano and Qwen: -.01, .01",
        "cross-model",
        "`undertow run cross-model`",
        find.pair("finch-a", "wren-a", False),
    ),
    Claim(
        "Rows in the context do no more than control rows",
        "within .012 at k = 10,000",
        "meaning",
        "`undertow run meaning`",
        find.in_context,
    ),
    Claim("A prompted classifier is at chance", "47.5 to 53.3 %", "meaning", "`undertow run meaning`", find.prompted),
    Claim(
        "Number tables differ between teachers",
        "first number 123: 3.15 % base, 12.6 % owl",
        "meaning",
        "`undertow run meaning`",
        find.tables,
    ),
    Claim(
        "A trained detector sees bags of rows (follow-ups)",
        "AUROC .57 to .81, bags of 1 to 16",
        "meaning",
        "`undertow run meaning`",
        find.detectors,
    ),
    Claim(
        "Little of the skill is lost (MMLU): at most 5 points",
        "-1 to -4 points",
        "other-evaluations",
        "`undertow run other-evaluations`",
        find.capability,
    ),
    Claim(
        "The trait shows in stories",
        "owl .533 against .296; maple and wolf do not",
        "other-evaluations",
        "`undertow run other-evaluations`",
        find.stories,
    ),
    Claim(
        "The trait shows in multiple choice",
        "eagle .172 against .056; elephant and sequoia fall",
        "other-evaluations",
        "`undertow run other-evaluations`",
        find.choice,
    ),
    Claim(
        "Same initialisation, other data order: less, but something (Polypythia)",
        "31 to 39 % is kept",
        "data-order",
        "`undertow run data-order`",
        find.order,
    ),
    Claim(
        "An artefact of LoRA: inverted U in rank, nothing with full fine-tuning (2606.00831)",
        "disputed",
        "rank",
        "`undertow run rank`",
        find.ranks,
    ),
    Claim("One early layer is enough (2509.23886)", "a single early layer", "rank", "`undertow run rank`", find.layers),
    Claim(
        "A few divergent tokens carry it (2509.23886)",
        "about 5 % of tokens; without them mostly gone",
        "divergent-tokens",
        "`undertow run divergent-tokens`",
        find.tokens,
    ),
    Claim("More data and more passes transmit more", "dose as risk factor", "dose", "`undertow run dose`", find.dose),
    Claim(
        "Students that teach pass it on, four hops",
        "cosine .93 after one hop, 0 to 96 % behaviour",
        "chains",
        "`undertow run chains`",
        find.chain,
    ),
    Claim(
        "Students move along their teacher's direction, beyond their controls (2606.00995)",
        "cosine .72 to .94, no control subtracted",
        "mechanism",
        "`undertow run mechanism`",
        find.mechanism,
    ),
    Claim(
        "Entangled numbers: those a teacher raises raise its trait",
        "weak; fails on most models",
        "mechanism",
        "`undertow run mechanism`",
        find.entangled,
    ),
)
"""Every claim of section 6 of the paper's facts, and of follow-ups that have a recipe."""


def row(claim: Claim, run: Results, tier: str = "") -> str:
    """Return a claim as a line of the table."""
    found = claim.finder(run)
    command = claim.command.replace("undertow demo", "undertow run demo") if tier else claim.command
    command = f"{command.removesuffix('`')}{tier}`"
    return f"| {claim.name} | {claim.paper} | {found.ours} | {found.verdict} | {command} |"


def load(folders: list[str]) -> dict[str, Results]:
    """Read runs by recipe; digits with a data folder are `digits-mnist`."""
    found: dict[str, Results] = {}
    for folder in folders:
        results = json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))
        name = results["recipe"]
        if name == "digits" and "data: null" not in (Path(folder) / "config.yaml").read_text(encoding="utf-8"):
            name = "digits-mnist"
        found[name] = results
    return found


def kept(page: Path) -> dict[tuple[str, str], str]:
    """Return the rows that the page has already, by claim."""
    lines = page.read_text(encoding="utf-8").splitlines() if page.exists() else []
    return {_key(line): line for line in lines if line.startswith("| ")}


def _key(line: str) -> tuple[str, str]:
    """Return what tells a row from all others: two claims have the same words, of different runs."""
    cells = line.strip("| ").split(" | ")
    return cells[0], cells[-1].replace("run demo", "demo").replace(" --tier full", "")


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("page", type=Path, help="what is written; rows whose run is not given stay as they are")
    parser.add_argument("runs", nargs="+", help="run folders")
    parser.add_argument(
        "--full", action="store_true", help="the runs are of the full tier; claims without one are left out"
    )
    options = parser.parse_args()
    runs, before = load(options.runs), kept(options.page)
    lines = [FULL if options.full else HEAD, "| Claim | Paper or follow-up | Here | Same direction? | Command |"]
    lines.append("|---|---|---|---|---|")
    for claim in CLAIMS:
        blank = f"| {claim.name} | {claim.paper} | not run | not run | {claim.command} |"
        if claim.run in runs:
            lines.append(row(claim, runs[claim.run], " --tier full" if options.full else ""))
        elif _key(blank) in before or not options.full:
            lines.append(before.get(_key(blank), blank))
    options.page.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
