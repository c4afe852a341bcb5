"""`undertow audit lineage`: do two models share a base, or from which known base does a model come?"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import undertow
from undertow.audit.lineage.origin_findings import seen_words
from undertow.cli.audit_options import AuditorSeed
from undertow.cli.audits import NOT_TESTABLE
from undertow.cli.forecasts import ForecastOnly, announced_as_one, show_plan
from undertow.cli.options import STORE, Json, prepare, quoted, show
from undertow.errors import ConfigError
from undertow.store.disk import write_file

if TYPE_CHECKING:
    from undertow.audit.lineage.looks import OriginQuestion


def lineage_command(
    a: Annotated[
        str,
        typer.Argument(
            help="A model: ref:NAME (embedded) or hf:PATH_OR_ID, with +ADAPTER_FOLDER behind it if it is an adapter."
        ),
    ],
    b: Annotated[
        str | None,
        typer.Argument(help="Another model to compare it with. Leave it out and give --known to search several bases."),
    ] = None,
    known: Annotated[
        list[str],
        typer.Option(
            "--known",
            help="Base from which A may come: a reference, a folder of models, or a list in a file. May be given "
            "several times.",
        ),
    ] = [],  # noqa: B006
    canary: Annotated[
        bool,
        typer.Option(
            "--canary",
            help="Also test by training: give traits to copies of A, and see whether they reach students of B. "
            "Takes some minutes.",
        ),
    ] = False,
    store: Annotated[
        Path, typer.Option(help="Folder in which what was computed about the models of --known is kept.")
    ] = STORE,
    out: Annotated[Path | None, typer.Option(help="File to which the JSON object is also written.")] = None,
    seed: AuditorSeed = 0,
    plan: ForecastOnly = False,
    as_json: Json = False,
) -> None:
    """Test whether two models share a base, or find a model's base.

    Traits pass through unrelated data almost only between models with the same base. Give two models, or one model and
    the bases that it may come from (--known).
    """
    _check(a, b, known, canary, plan)
    prepare()
    if b is None:
        found, lines = _among(a, known, store, seed, plan, as_json)
        if found is None:
            return
    else:
        found = undertow.audit_lineage(a, b, seed=seed)
        found = _with_canary(found, a, b, seed) if canary else found
        lines = _lineage_lines(found)
    if out is not None:
        write_file(out, json.dumps(found, allow_nan=False, indent=1) + "\n")
    show(found, as_json, lines)
    if found.get("answer") == "not_testable":
        raise typer.Exit(NOT_TESTABLE)


def _check(a: str, b: str | None, known: Sequence[str], canary: bool, plan: bool) -> None:
    """Refuse options that do not go together."""
    if b is None and not known:
        fix = "Give another model, or --known with a folder, a list or references of bases."
        raise ConfigError("There is nothing to compare the model with.", a, fix)
    if b is not None and known:
        fix = "Leave B out, or give it as one more --known."
        raise ConfigError("Two questions were asked at once.", f"B is {b}, and --known is given", fix)
    if known and canary:
        fix = "Find the base first, then give both models with --canary."
        raise ConfigError("A canary needs one other model.", "--known and --canary", fix)
    if b is not None and plan:
        fix = "Leave --plan out; models above 200 million parameters take about 20 s for each billion of both."
        raise ConfigError("Only a question with --known has a plan.", f"{a} and {b}", fix)


def _among(
    model: str, known: Sequence[str], store: Path, seed: int, plan: bool, as_json: bool
) -> tuple[dict[str, Any] | None, Iterator[str]]:
    """Search a model's base among known ones. With `plan`, print what that takes and return nothing."""
    from undertow.audit.lineage.looks import question
    from undertow.audit.lineage.looks_work import looks_work
    from undertow.audit.lineage.origin import find_base

    asked = question(model, known, store, seed)
    work = looks_work(asked)
    if plan:
        show_plan({"model": model, "known": len(asked.candidates)}, work, as_json)
        _say_left_out(asked)
        return None, iter(())
    with announced_as_one(work, "known bases") as advance:
        found = find_base(asked, advance)
    return found, _origin_lines(found)


def _say_left_out(asked: "OriginQuestion") -> None:
    for one in asked.left:
        print(f"left out: {one.name}: {one.why}. {one.do}", file=sys.stderr)


def _origin_lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"{found['answer'].replace('_', ' ')}: {found['found']}\n"
    rows = [("base", "what was seen", "p (Holm)", "distance", "compared")]
    for one in found["candidates"]:
        p, far = (_number(one[key], form) for key, form in (("p_holm", ".2g"), ("distance", ".2f")))
        rows.append((one["base"], seen_words(one), p, far, one["by"]))
    first, second = (max(len(row[at]) for row in rows) for at in (0, 1))
    for base, seen, p, far, by in rows:
        yield f"{base:{first}}  {seen:{second}}  {p:>9}  {far:>8}  {by}"
    for one in found["candidates"]:
        if one["status"] == "not_testable":
            yield f"{one['base']}: {one['why']}"
    for one in found["left_out"]:
        yield f"left out: {one['name']}: {one['why']}. {one['do']}"
    yield f"\n{found['limit']}"
    if found["bases"]:
        yield f"next: undertow audit lineage {quoted(found['model'])} {quoted(found['bases'][0])}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _with_canary(report: dict[str, Any], a: str, b: str, seed: int) -> dict[str, Any]:
    """Return a lineage report with the result of planting traits and training students."""
    from undertow.audit.lineage.canary import CanaryConfig
    from undertow.audit.lineage.verdict import audit_canary, with_canary

    with typer.progressbar(length=100, label="canaries, some minutes", file=sys.stderr) as bar:
        shown = audit_canary(a, b, CanaryConfig(seed=seed), lambda done, of: bar.update(100 * done // of - bar.pos))
    return with_canary(report, shown)


def _lineage_lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"{found['verdict'].replace('_', ' ')}: {found['found']}"
    yield f"what would have been seen: {found['detectable']}\n"
    for test in found["tests"]:
        p = "no p-value" if test["p"] is None else f"p = {test['p']:.2g}"
        value = "" if test["statistic"] is None else f"{test['statistic']:.3g}"
        caveat = test["caveats"][0] if test["caveats"] else ""
        yield f"{test['name']:26} {value:>8}  {p:12} n = {test['n']:<5} {caveat}"
    if "canary" in found:
        yield f"\n{_canary_line(found['canary'])}"


def _canary_line(found: Mapping[str, Any]) -> str:
    if found["verdict"] == "not_testable":
        return f"canary: not testable. {found['why']}"
    seen = "planted traits pass" if found["verdict"] == "passes" else "no planted trait was seen to pass"
    numbers = f"{found['effect']:+.2f} logits, p = {found['p']:.2g} (not calibrated)"
    return f"canary, exploratory: {seen}, {numbers}; detectable {found['detectable']:.2f}"
