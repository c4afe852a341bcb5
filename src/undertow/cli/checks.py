"""`undertow check`: could this teacher pass a trait to a student of this base? It trains nothing."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

import undertow
from undertow.cli.forecasts import ForecastOnly, say_first, show_plan
from undertow.cli.options import Json, prepare, read_given, show
from undertow.errors import ConfigError, unknown_name
from undertow.evals.questions import CATEGORIES
from undertow.store.progress import Progress, choose_progress
from undertow.traits import Trait, chosen_traits
from undertow.types import Row

if TYPE_CHECKING:
    from undertow.types import Work


def check_command(
    teacher: Annotated[
        str,
        typer.Option(
            help="The model that wrote, or will write, the rows: ref:NAME, hf:PATH_OR_ID, or api:ADDRESS, which "
            "is asked over the network."
        ),
    ],
    base: Annotated[str, typer.Option(help="The model that will be trained on the rows: ref:NAME or hf:PATH_OR_ID.")],
    rows: Annotated[
        str | None, typer.Option(help="File of the teacher's rows. Leave it out if they are not written yet.")
    ] = None,
    category: Annotated[
        list[str],
        typer.Option(help="Category of traits to look for: animal or tree. May be given twice. Both if not given."),
    ] = [],  # noqa: B006
    traits: Annotated[
        list[str],
        typer.Option(
            "--trait",
            help="Trait to look for instead: a name, a pack or a file (docs/traits.md). May be given several times.",
        ),
    ] = [],  # noqa: B006
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="For an api: teacher: print how many questions it would be asked, and stop without asking.",
        ),
    ] = False,
    plan: ForecastOnly = False,
    as_json: Json = False,
) -> None:
    """Check whether a teacher could pass a trait to this base.

    It looks first whether the two models share a base, since a trait hardly passes through unrelated data between
    different bases. Then it asks what the teacher prefers more than the base does, and says what to do next. Nothing is
    trained.
    """
    served, category_given = teacher.startswith("api:"), bool(category)
    category = category or list(CATEGORIES)
    if dry_run and not served:
        raise ConfigError("Only api: teachers are asked questions.", teacher, "Leave --dry-run out.")
    if strange := [name for name in category if name not in CATEGORIES]:
        raise unknown_name("category", strange[0], CATEGORIES)
    if traits and (served or category_given):
        fix = "Leave --trait out." if served else "Give --trait or --category."
        raise ConfigError("These traits cannot be looked for here.", ", ".join(traits), fix)
    looked_for = chosen_traits(traits)
    given = None if rows is None else read_given(rows).rows
    prepare()
    if served:
        _check_served(teacher, base, given, only_said=dry_run or plan, as_json=as_json)
        return
    from undertow.audit.check import panel_of
    from undertow.audit.reading_work import check_work

    looked_for = looked_for or panel_of(category)
    work = check_work(teacher, base, looked_for)
    if plan:
        show_plan({"teacher": teacher, "base": base}, work, as_json)
        return
    say_first(work)
    progress = choose_progress()
    try:
        found = _check_local((teacher, base), given, looked_for, work, progress, as_json)
    finally:
        progress.close()
    show(found, as_json, _check_lines(found))


def _check_served(teacher: str, base: str, rows: Sequence[Row] | None, *, only_said: bool, as_json: bool) -> None:
    """Check a teacher behind a server, or say what it would be asked."""
    from undertow.audit.closed import cost_of_questions

    asks = f"asked of the server: {cost_of_questions()}"
    if only_said:
        show({"teacher": teacher, "base": base, "asks": cost_of_questions()}, as_json, [asks])
        return
    print(asks, file=sys.stderr)
    found = undertow.check_teacher(teacher, base, rows)
    show(found, as_json, [_lineage_line(found), *_check_lines(found)])


def _check_local(
    models: tuple[str, str],
    rows: Sequence[Row] | None,
    traits: Sequence[Trait],
    work: "Sequence[Work]",
    progress: Progress,
    as_json: bool,
) -> dict[str, Any]:
    """Check two local models. What their weights show is printed at once, unless JSON is asked for."""
    from undertow.audit.check import Watch

    def say(part: Mapping[str, Any]) -> None:
        if not as_json:
            with progress.paused():
                print(_lineage_line(part), flush=True)

    watch = Watch(progress=progress, said=say, work=work)
    return undertow.check_teacher(*models, rows, traits=traits, watch=watch)


def _lineage_line(found: Mapping[str, Any]) -> str:
    kin = found["lineage"]
    return f"shared base: {kin if isinstance(kin, str) else kin['verdict'].replace('_', ' ')}"


def _check_lines(found: Mapping[str, Any]) -> Iterator[str]:
    from undertow.report.decision import decision_text

    for one in found["panel"]:
        yield f"{one['trait']:12} {one['change']:+.2f} logits, {one['above_median']:+.2f} above the median trait"
    if "asked" in found:
        yield f"name: {', '.join(found['declared']['names'])}; {found['declared']['why']}"
        for one in found["asked"]["rates"]:
            yield f"{one['trait']:12} named in {one['teacher']:.2f} of its answers, {one['base']:.2f} of the base's"
    yield from found["next"]
    yield f"\n{decision_text(found)}"
