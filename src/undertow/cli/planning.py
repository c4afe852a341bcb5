"""The command that says beforehand what an effect needs."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

SHOWN = (3, 5, 10, 20, 40)
SHOWN_ROWS = (30, 100, 300, 1000, 10000)

ROW_SECONDS = 0.001
"""Of one row and one trait of the panel, as teacher and as persona, with an embedded model on one core."""


def power(
    effect: Annotated[float, typer.Option(help="Effect to be found, in logits of the favourite questions.")] = 0.4,
    sd: Annotated[float, typer.Option(help="SD between replicates of student minus control; 0.16 in the demo.")] = 0.2,
    dose: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the rows that carry the trait.")] = 1.0,
    shift: Annotated[
        float, typer.Option(help="Rise of the right candidate's score where all rows carry it, in SD of a clean row.")
    ] = 0.6,
    references: Annotated[int, typer.Option(min=1, help="Clean rows on each prompt.")] = 4,
    candidates: Annotated[int, typer.Option(min=2, help="Traits of the panel.")] = 20,
    alpha: Annotated[float, typer.Option(help="Error of the study, or of the whole audit.")] = 0.05,
    wanted: Annotated[float, typer.Option("--power", help="Probability of finding it.")] = 0.8,
    as_json: Json = False,
) -> None:
    """Say how many replicates a study needs, how many rows an audit of data, how many placebos one of a student."""
    from undertow.errors import ConfigError

    if dose == 0.0:
        raise ConfigError("No row carries the trait.", "--dose 0", "Give the share that is to be found, such as 0.25.")
    study, bank = _study(effect, sd, alpha, wanted), _bank(alpha)
    rows = _rows(dose * shift, references, candidates, alpha, wanted)
    if as_json:
        asked = {"effect": effect, "sd": sd, "alpha": alpha, "power": wanted, "dose": dose, "shift": shift}
        found = {**asked, **study, "data_audit": rows, "student_audit": bank}
        print(json.dumps({"schema": "undertow.power/1", **found}))
        return
    print(
        f"{study['replicates']} replicates find an effect of {effect:g} logits in {wanted:.0%} of studies "
        f"(SD {sd:g}, alpha {alpha:g});\n{_minutes(study)} with an embedded model on two cores.\n"
    )
    print("replicates  smallest effect found as often")
    for count, value in study["minimum_detectable_effect"].items():
        print(f"{count:10}  {value:.2f} logits")
    print(
        f"\n{rows['rows']} rows and {references} clean ones on each prompt find a dose of {dose:.0%} in {wanted:.0%} "
        f"of audits\n({candidates} candidates, {shift:g} SD a row, alpha {alpha:g} split over three claims); "
        f"{_minutes(rows)}.\n"
    )
    print("      rows  smallest dose found as often")
    for count, value in rows["minimum_detectable_shift"].items():
        print(f"{count:10}  {f'{value / shift:.0%}' if value <= shift else 'none'}")
    print("A rise of 0.6 SD fits pure rows of finch-a's teachers (docs/limits.md); --shift takes your own.")
    print(
        f"\n{bank['placebos']} placebo students allow a verdict on a student at alpha {alpha:g}; {_minutes(bank)}, "
        "once for each base."
    )


def _minutes(part: dict[str, Any]) -> str:
    return f"about {max(1.0, part['minutes']):.0f} min"


def _study(effect: float, sd: float, alpha: float, wanted: float) -> dict[str, Any]:
    from undertow.stats.power import minimum_detectable_effect, required_replicates
    from undertow.study.recipe import build_recipe, read_recipe
    from undertow.study.run import plan_recipe

    n = required_replicates(effect, sd, alpha, wanted)
    # The demo's recipe with a student and its control alone, estimated as --plan does.
    recipe = build_recipe(read_recipe("demo", ["arms=[student, control]", f"replicates={n}"]))
    minutes = sum(one.estimate_s or 0.0 for one in plan_recipe(recipe, Path("runs"))) / 60
    smallest = {count: minimum_detectable_effect(sd, count, alpha, wanted) for count in SHOWN}
    return {"replicates": n, "minutes": minutes, "minimum_detectable_effect": smallest}


def _rows(shift: float, references: int, candidates: int, alpha: float, wanted: float) -> dict[str, Any]:
    from undertow.audit.rows.contrast import FEWEST_ROWS
    from undertow.audit.students.bank import RATES
    from undertow.audit.verdict import Plan
    from undertow.stats.power import MatchedTest

    share = Plan(stages=("contrast",), alpha=alpha).share
    # An audit has two candidates for each trait, the persona and the teacher; the maximum is over both.
    test = MatchedTest(references=references, candidates=2 * candidates, alpha=share, power=wanted)
    rows = max(FEWEST_ROWS, test.required_rows(shift))
    return {
        "rows": rows,
        "reference_rows": rows * references,
        "minutes": candidates * (RATES["panel-teachers"] + rows * (1 + references) * ROW_SECONDS) / 60,
        "minimum_detectable_shift": {count: test.minimum_shift(count) for count in SHOWN_ROWS},
    }


def _bank(alpha: float) -> dict[str, Any]:
    from undertow.audit.students.bank import RATES
    from undertow.audit.students.placebo_null import needed
    from undertow.audit.verdict import Plan

    placebos = needed(Plan(stages=("panel margins",), alpha=alpha).share)
    return {"placebos": placebos, "minutes": placebos * RATES["placebos"] / 60}
