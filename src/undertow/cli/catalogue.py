"""The commands that list what there is, and those of the embedded models."""

import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import undertow
from undertow.cli.forecasts import ForecastOnly, announced_as_one, show_plan
from undertow.cli.options import Json, prepare, show
from undertow.domains.base import DOMAINS
from undertow.errors import ConfigError
from undertow.evals.base import EVALUATIONS
from undertow.reference.cards import card, cards
from undertow.reference.families import building_work, member
from undertow.traits import KNOWN, OTHERS, PACKS, pack

reference = typer.Typer(no_args_is_help=True, help="Show or rebuild the embedded models.")


class Kind(StrEnum):
    """What can be listed."""

    traits = "traits"
    packs = "packs"
    domains = "domains"
    evaluations = "evaluations"
    models = "models"
    recipes = "recipes"
    mitigations = "mitigations"


def _items(kind: Kind) -> list[dict[str, Any]]:
    """Return everything of a kind, each with its name and what is shown of it."""
    match kind:
        case Kind.traits:
            traits = [KNOWN[name] for name in KNOWN if name not in OTHERS]
            packed = [one for name in PACKS for one in pack(name).traits if one not in traits]
            return [
                {"name": one.name, "category": one.category, "aliases": list(one.aliases)} for one in traits + packed
            ]
        case Kind.packs:
            return [{"name": name, "traits": [one.name for one in pack(name).traits]} for name in PACKS]
        case Kind.domains:
            return [{"name": name, "reject_reasons": sorted(undertow.domain(name).reasons)} for name in DOMAINS]
        case Kind.evaluations:
            return [{"name": name, "about": EVALUATIONS[name].about} for name in EVALUATIONS]
        case Kind.models:
            return [{"name": f"ref:{name}", "about": one["about"]} for name, one in cards().items()]
        case Kind.recipes:
            from undertow.study.recipe import packaged_recipes

            return [{"name": name, "question": undertow.load_recipe(name).question} for name in packaged_recipes()]
        case Kind.mitigations:
            from undertow.mitigate.registry import describe_mitigations

            return describe_mitigations()


def list_command(kind: Annotated[Kind, typer.Argument(help="What is listed.")], as_json: Json = False) -> None:
    """List what comes with Undertow, such as traits or recipes."""
    items = _items(kind)
    show({kind.value: items}, as_json, _lines(items))


def _lines(items: list[dict[str, Any]]) -> Iterator[str]:
    for item in items:
        name, *rest = (", ".join(value) if isinstance(value, list) else value for value in item.values())
        yield f"{name:18} {'; '.join(rest)}"


@reference.command("show")
def show_command(
    name: Annotated[
        str, typer.Argument(help="Name of an embedded model, such as finch-a (see `undertow list models`).")
    ],
) -> None:
    """Print the card of an embedded model as JSON."""
    print(json.dumps(card(name), indent=2))


@reference.command("build")
def build_command(
    name: Annotated[
        str, typer.Argument(help="Name of an embedded model, such as finch-a (see `undertow list models`).")
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the new model. It must not exist yet.")],
    plan: ForecastOnly = False,
    as_json: Json = False,
) -> None:
    """Train an embedded model anew, in some minutes."""
    wanted = member(name)
    if out.exists():
        raise ConfigError("The folder exists already.", out, "Give another folder.")
    work = [building_work(wanted)]
    if plan:
        show_plan({"model": name}, work, as_json)
        return
    prepare()
    from undertow.reference.build import build_member

    with announced_as_one(work, f"build {name}") as advance:
        made = build_member(wanted, out, advance)
    print(json.dumps(made, indent=None if as_json else 2))


@reference.command("mnist")
def mnist_command(folder: Annotated[Path, typer.Argument(help="Folder for the four files.")]) -> None:
    """Download MNIST for the study of digits.

    The files are checked against known checksums. Then run: undertow run digits --data FOLDER
    """
    from undertow.study.analyses.digit_data import download_mnist

    fetched = download_mnist(folder)
    print("\n".join(fetched) if fetched else f"All four files are in {folder}.")
    print(f"next: undertow run digits --data {folder}")
