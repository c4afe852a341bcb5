"""`undertow propose-questions`: let a base write the questions of a trait file."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import undertow
from undertow.cli.forecasts import ForecastOnly, announced_as_one, show_plan
from undertow.cli.options import Json, Seed, prepare, quoted, refuse_replacing, show
from undertow.errors import ConfigError
from undertow.store.disk import write_file
from undertow.traits import CATEGORIES, Questions, chosen_pack, with_questions
from undertow.types import Work, known_sum

if TYPE_CHECKING:
    from undertow.evals.proposed_questions import ProposedQuestions


def propose_questions_command(
    trait: Annotated[Path, typer.Argument(help="The trait file, which has no questions yet.")],
    out: Annotated[Path, typer.Argument(help="Trait file to write: the same with the questions.")],
    base: Annotated[str, typer.Option(help="The model that proposes and answers them: ref:NAME or hf:PATH_OR_ID.")],
    seed: Seed = 0,
    plan: ForecastOnly = False,
    as_json: Json = False,
) -> None:
    """Let a base propose the questions of a trait file.

    It writes questions about the trait's category. Those are kept that it answers with the trait or a rival about as
    often as it does the questions that are made of the category's name.
    """
    found = chosen_pack(str(trait))
    text = _askable(trait, found.traits)
    refuse_replacing(out, str(trait))
    prepare()
    from undertow.evals.proposed_questions import propose_questions

    work = [_work(base, found.traits, seed)]
    if plan:
        show_plan({"trait": str(trait), "base": base}, work, as_json)
        return
    with announced_as_one(work, "questions") as advance:
        made = propose_questions(undertow.load_model(base), found.traits, seed, advance=advance)
    write_file(out, with_questions(text, made.questions).encode())
    show({"trait": str(out), "base": base, **made.to_json()}, as_json, _lines(out, base, made))


def _work(base: str, traits: "tuple[undertow.Trait, ...]", seed: int) -> Work:
    """Estimate how long the base writes questions, and answers about half of them and those that are made."""
    from undertow.evals.forecast import Forecast
    from undertow.evals.loads import panel_load
    from undertow.evals.proposed_questions import SAMPLING, wishes
    from undertow.training.workload import writing_work

    forecast, asked = Forecast(base), wishes(traits[0].category, seed)
    written = writing_work(forecast, asked, SAMPLING).seconds
    one = panel_load(forecast.words, traits)
    answered = forecast.seconds(replace(one, tokens=round(one.tokens * len(asked) / 2 / max(1, one.texts))))
    seconds = known_sum([forecast.loading, written, answered])
    return Work(f"{len(asked)} questions written, and those about the category answered", seconds)


def _askable(path: Path, traits: "tuple[undertow.Trait, ...]") -> str:
    """Return the text of a trait file; one that has questions already, or that takes none, is refused."""
    from yaml import YAMLError, compose

    first = traits[0]
    if not path.is_file():
        raise ConfigError("Questions are proposed for a trait file.", path, "Write one (docs/traits.md).")
    if first.category in CATEGORIES or not first.plural:
        fix = "Nothing has to be proposed: use the trait as it is."
        raise ConfigError("This trait has questions or probes of its own.", f"{path}: {first.category}", fix)
    if first.questions is not None:
        raise ConfigError("The file has questions already.", path, "Take them out, or keep them.")
    text = path.read_text(encoding="utf-8")
    if getattr(compose(text), "flow_style", False):
        raise ConfigError("The fields of this file stand in braces.", path, "Write them one below the other.")
    try:
        compose(with_questions(text, Questions(("?",), ("?",))))
    except YAMLError as error:
        said = f"{path}: {' '.join(str(error).split())[:200]}"
        fix = "Write its fields one below the other, as FIELD: VALUE."
        raise ConfigError("No questions can be put behind the fields of this file.", said, fix) from error
    return text


def _lines(out: Path, base: str, made: "ProposedQuestions") -> Iterator[str]:
    evaluation, tuning = made.questions.evaluation, made.questions.tuning
    kept = len(evaluation) + len(tuning)
    yield f"{made.written} texts written, {made.distinct} questions that differ, {kept} kept in {out}"
    yield f"answered with a word of the traits: {made.answered:.2g}; questions made of the category: {made.usual:.2g}"
    for question in evaluation[:3]:
        yield f"  {question}"
    yield f"next: read them, then undertow check-trait {quoted(out)} --base {quoted(base)}"
