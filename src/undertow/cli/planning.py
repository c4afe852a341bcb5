"""The command that says beforehand what an effect needs."""

import json
from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

SHOWN = (3, 5, 10, 20, 40)


def power(
    effect: Annotated[float, typer.Option(help="Effect to be found, in logits of the favourite questions.")] = 0.4,
    sd: Annotated[float, typer.Option(help="SD between replicates of student minus control; 0.16 in the demo.")] = 0.2,
    alpha: Annotated[float, typer.Option(help="Error of the first kind.")] = 0.05,
    wanted: Annotated[float, typer.Option("--power", help="Probability of finding it.")] = 0.8,
    as_json: Json = False,
) -> None:
    """Say how many replicates an effect needs, and what a number of replicates can find."""
    from undertow.experiment.recipe import load_recipe
    from undertow.experiment.run import plan_recipe
    from undertow.stats.power import minimum_detectable_effect, required_replicates

    n = required_replicates(effect, sd, alpha, wanted)
    smallest = {count: minimum_detectable_effect(sd, count, alpha, wanted) for count in SHOWN}
    # The demo's recipe with a student and its control alone, estimated as --plan does.
    recipe = load_recipe("demo", ["arms=[student, control]", f"replicates={n}"])
    minutes = sum(one.estimate_s or 0.0 for one in plan_recipe(recipe, Path("runs"))) / 60
    if as_json:
        found = {"replicates": n, "minutes": minutes, "minimum_detectable_effect": smallest}
        print(json.dumps({"schema": "undertow.power/1", "effect": effect, "sd": sd, "alpha": alpha, **found}))
        return
    print(
        f"{n} replicates find an effect of {effect:g} logits in {wanted:.0%} of studies (SD {sd:g}, alpha {alpha:g});"
    )
    print(f"about {max(1.0, minutes):.0f} min with an embedded model on two cores.\n")
    print("replicates  smallest effect found as often")
    for count, value in smallest.items():
        print(f"{count:10}  {value:.2f} logits")
