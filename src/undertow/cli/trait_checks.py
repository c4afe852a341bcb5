"""`undertow check-trait`: can a trait file, or a pack of traits, be used on a base?"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

import undertow
from undertow.cli.forecasts import ForecastOnly, announced, show_plan, time_left
from undertow.cli.options import Json, prepare, show
from undertow.errors import ConfigError
from undertow.traits import chosen_pack, chosen_traits, pack
from undertow.types import Estimate, Work

if TYPE_CHECKING:
    from undertow.evals.personas import PersonaCheck, PersonaShift
    from undertow.traits import Trait

DOES_NOT_HOLD = 1
CONTROLS = 4
"""How many personas of another pack are the control, unless some are named."""


def check_trait_command(
    trait: Annotated[str, typer.Argument(help="The trait to check: a trait file, a pack of traits, or a name.")],
    base: Annotated[str, typer.Option(help="The model on which the trait is to be used: ref:NAME or hf:PATH_OR_ID.")],
    others: Annotated[
        list[str],
        typer.Option(
            "--against",
            help="Traits whose personas must not move this one: a name, pack or file. May be repeated. If not "
            "given, animals or trees.",
        ),
    ] = [],  # noqa: B006
    plan: ForecastOnly = False,
    as_json: Json = False,
) -> None:
    """Check that a trait can be used on a base model.

    The trait's own persona (a system prompt that names it) has to raise its words, and personas of other traits must
    not. The exit code is 1 if it does not hold.
    """
    found = chosen_pack(trait)
    # A file of one trait brings rivals, whose personas are its own with another word.
    traits = found.traits
    control = chosen_traits(others) or _control({one.category for one in traits})
    if both := {one.name for one in traits} & {one.name for one in control}:
        raise ConfigError("A persona cannot be its own control.", ", ".join(sorted(both)), "Name others --against.")
    prepare()
    work = _work(base, traits, len(control))
    if plan:
        show_plan({"trait": trait, "base": base}, [work], as_json)
        return
    from undertow.evals.personas import check_personas

    with announced([work]) as steps, steps.step("personas", time_left([work], 0)) as advance:
        checked = check_personas(undertow.load_model(base), traits, control, advance)
    show(
        {"schema": "undertow.trait_check/1", "trait": trait, "base": base, **checked.to_json()},
        as_json,
        _lines(trait, base, checked),
    )
    if not checked.holds:
        raise typer.Exit(DOES_NOT_HOLD)


def _control(categories: set[str]) -> "tuple[Trait, ...]":
    """Return traits of another pack, whose personas are the control."""
    return pack("trees" if "animal" in categories else "animals").traits[-CONTROLS:]


def _work(base: str, traits: "tuple[Trait, ...]", controls: int) -> Work:
    """Estimate how long it takes to ask about the traits, plainly and behind each persona."""
    from undertow.evals.forecast import Forecast
    from undertow.evals.loads import panel_load
    from undertow.evals.questions import asked_together
    from undertow.types import known_sum

    forecast, readings = Forecast(base), 1 + len(traits) + controls
    each = known_sum(forecast.seconds(panel_load(forecast.words, some)) for some in asked_together(traits))
    seconds = None if each is None else forecast.loading + readings * each
    return Work(f"{len(traits)} traits asked about {readings} times: plainly, and behind each persona", seconds)


def _lines(trait: str, base: str, checked: "PersonaCheck") -> Iterator[str]:
    yield f"{'persona':14} {'own trait, logits':28} {'other traits':>12}   plain margin"
    for one in checked.own:
        yield f"{_line(one)}   {checked.plain[one.persona]:+.2f}"
    for one in checked.other:
        yield _line(one)
    other, average = checked.average_other, checked.average
    said = "" if other is None else f"; personas of another pack {_interval(other)}"
    mean = _interval(average) if average.n > 1 else f"{average.value:+.2f}"
    yield f"own personas move their traits by {mean} in the mean of {average.n}{said}"
    if checked.holds:
        yield f"{trait} holds on {base}: ask about it there."
    elif checked.unmoved:
        yield f"It does not hold on {base}: its own persona does not move {', '.join(checked.unmoved)}."
        yield "Use words that this base says, questions that it answers with them, or a plainer persona."
        yield "A base that was never trained with system turns holds no persona."
    elif checked.mixed:
        yield f"It does not hold on {base}: the own persona of {', '.join(checked.mixed)} moves the others as much."
        yield "Use words that this base tells apart, or a persona that is about the word and not about the category."
    else:
        yield f"It does not hold on {base}: personas of another pack move it as well."


def _interval(one: Estimate) -> str:
    return f"{one.value:+.2f} [{one.low:+.2f}, {one.high:+.2f}]"


def _line(one: "PersonaShift") -> str:
    own = "(another pack)" if one.own is None else _interval(one.own)
    rest = "" if one.rest is None else f"{one.rest:+.2f}"
    return f"{one.persona:14} {own:28} {rest:>12}"
