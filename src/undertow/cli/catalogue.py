"""The commands that show what there is, and build embedded models anew."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

reference = typer.Typer(no_args_is_help=True, help="The embedded models: show their cards, build them anew.")


class Kind(StrEnum):
    """What can be listed."""

    traits = "traits"
    domains = "domains"
    evaluations = "evaluations"
    models = "models"
    recipes = "recipes"
    mitigations = "mitigations"


def _traits() -> list[dict[str, Any]]:
    from undertow.traits import MISALIGNMENT, TRAITS

    traits = (*TRAITS.values(), *MISALIGNMENT.values())
    return [{"name": one.name, "category": one.category, "aliases": list(one.aliases)} for one in traits]


def _domains() -> list[dict[str, Any]]:
    from undertow.domains.base import DOMAINS, domain

    return [{"name": name, "reject_reasons": sorted(domain(name).reasons)} for name in DOMAINS]


def _evaluations() -> list[dict[str, Any]]:
    from undertow.evals.base import EVALUATIONS

    return [{"name": name, "about": EVALUATIONS[name].about} for name in EVALUATIONS]


def _models() -> list[dict[str, Any]]:
    from undertow.reference.cards import cards

    return [{"name": f"ref:{name}", "about": card["about"]} for name, card in cards().items()]


def _recipes() -> list[dict[str, Any]]:
    from undertow.study.load import load_recipe
    from undertow.study.recipe import packaged_recipes

    return [{"name": name, "question": load_recipe(name).question} for name in packaged_recipes()]


def _mitigations() -> list[dict[str, Any]]:
    from undertow.mitigate.registry import describe_mitigations

    return describe_mitigations()


def list_(kind: Annotated[Kind, typer.Argument(help="What to list.")], as_json: Json = False) -> None:
    """List traits, domains, evaluations, embedded models, recipes or mitigations."""
    listings = {"traits": _traits, "domains": _domains, "evaluations": _evaluations, "models": _models}
    items = {**listings, "recipes": _recipes, "mitigations": _mitigations}[kind.value]()
    if as_json:
        print(json.dumps({kind.value: items}))
        return
    for item in items:
        name, *rest = (", ".join(value) if isinstance(value, list) else value for value in item.values())
        print(f"{name:18} {'; '.join(rest)}")


@reference.command()
def show(name: Annotated[str, typer.Argument(help="An embedded model, such as finch-a.")]) -> None:
    """Print a model's card."""
    from undertow.reference.cards import card

    print(json.dumps(card(name), indent=2))


@reference.command()
def build(
    name: Annotated[str, typer.Argument(help="An embedded model, such as finch-a.")],
    out: Annotated[Path, typer.Argument(help="Folder for the model, which must not exist.")],
) -> None:
    """Train an embedded model from nothing (at most 15 minutes on two cores)."""
    from undertow.cli.engines import prepare
    from undertow.errors import ConfigError
    from undertow.reference.families import member

    wanted = member(name)
    if out.exists():
        raise ConfigError("The folder exists already.", out, "Give another folder.")
    from undertow.reference.build import build_member
    from undertow.store.progress import TimeLeft, choose_progress

    prepare()
    progress = choose_progress()
    progress.start(1)
    progress.begin_stage(f"build {name}", 0, 1, TimeLeft())
    try:
        card = build_member(wanted, out, progress.advance)
        progress.end_stage()
    finally:
        progress.close()
    print(json.dumps(card, indent=2))


@reference.command()
def mnist(folder: Annotated[Path, typer.Argument(help="Where the four files go.")]) -> None:
    """Fetch MNIST over the network, checked against known sums, for `undertow run digits --data FOLDER`."""
    from undertow.study.analyses.digit_data import download_mnist

    fetched = download_mnist(folder)
    print("\n".join(fetched) if fetched else f"All four files are in {folder}.")
    print(f"next: undertow run digits --data {folder}")
