"""The audits of a teacher and of single rows by what models say of them, and the benchmark of audits."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import undertow
from undertow.cli.audits import OUT, Alpha, AuditorSeed, Out, Panel, Require, Store, audit, show_audit
from undertow.cli.forecasts import ForecastOnly, announced_as_one, show_plan
from undertow.cli.intakes import Brief, GivenBase, PlanOnly, intake_of_ranking, required_base
from undertow.cli.lineages import lineage_command
from undertow.cli.options import STORE, Json, prepare, quoted, read_given, refuse_replacing, show
from undertow.traits import chosen_trait
from undertow.types import Row

if TYPE_CHECKING:
    from undertow.audit.attribution import RowScores, Suspected

ARMS = {"without_top": "the top", "without_random": "as many at random", "without_bottom": "the bottom"}

Folder = Annotated[Path, typer.Argument(help="Folder of the benchmark.")]

audit.command("lineage")(lineage_command)
bench = typer.Typer(no_args_is_help=True, help="A benchmark for detectors of hidden traits: make, run, score.")
audit.add_typer(bench, name="bench")


@audit.command("teacher")
def teacher_command(
    model: Annotated[str, typer.Argument(help="The teacher: ref:<name> or hf:<path>, with an optional +<adapter>.")],
    base: GivenBase = None,
    neutral: Annotated[
        int, typer.Option(min=0, help="Neutral teachers, the null: 19 allow a verdict at 0.05; 0 for a ranking.")
    ] = 19,
    traits: Panel = [],  # noqa: B006
    alpha: Alpha = 0.05,
    store: Store = STORE,
    out: Out = OUT,
    require: Require = [],  # noqa: B006
    seed: AuditorSeed = 0,
    plan: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """Ask what a teacher prefers that its base does not, against bases tuned on their own answers."""
    brief = Brief(plan=plan, as_json=as_json)
    show_audit(base, traits, store, out, require, brief, alpha=alpha, seed=seed, teacher=model, neutral=neutral)


@audit.command("rows")
def rows_command(
    path: Annotated[
        str, typer.Argument(metavar="ROWS", help="Row file: JSONL, CSV, Parquet, datasets or hf:NAME, with ?options.")
    ],
    base: GivenBase = None,
    trait: Annotated[str | None, typer.Option(help="The trait that the rows may carry.")] = None,
    student: Annotated[str | None, typer.Option(help="Rank by this student of the rows.")] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Rank by this teacher; else by one that is given the trait.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where the ranked rows go (JSONL), the first one first.")] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Also write the gain of each token.")] = False,
    confirm: Annotated[bool, typer.Option("--confirm", help="Remove a tenth and train again, with controls.")] = False,
    swap: Annotated[
        str | None,
        typer.Option(help="Replace answers by subset and train again: writer (a key), score, score:parts=4."),
    ] = None,
    store: Store = STORE,
    seed: AuditorSeed = 0,
    plan: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """Rank rows by how far they may carry a trait; with --swap, say which part of them moves students."""
    base = required_base(base)
    if out is not None:
        refuse_replacing(out, path)
    target = chosen_trait(trait) if trait else None
    if swap is not None:
        from undertow.cli.swaps import swap_rows

        unused = [name for name, given in (("--confirm", confirm), ("--tokens", tokens), ("--out", out)) if given]
        brief = Brief(plan=plan, as_json=as_json)
        swap_rows(path, base, target, swap, {"student": student, "teacher": teacher}, unused, store, seed, brief)
        return
    ways = {"target": target, "student": student, "teacher": teacher}
    if bool(student) == bool(teacher) and not (target and student is None):  # refused before anything is read
        _suspected(rows=(), base=base, store=store, seed=seed, **ways)
    from undertow.audit.asked import Ranking

    ranking = Ranking(own=None if student or teacher else target, confirmed=confirm)
    intake = intake_of_ranking(path, base, Brief(plan=plan, as_json=as_json), ranking, store=store, seed=seed)
    if plan:
        return
    given = read_given(path).rows
    from undertow.audit.attribution import rank

    prepare()
    suspected = _suspected(rows=given, base=base, store=store, seed=seed, **ways)
    scores, found = rank(suspected, confirmed=confirm)
    order = sorted(range(len(given)), key=lambda place: -scores.score[place])
    if out is not None:
        keys = [{"rank": at + 1, **_keys(scores, place, tokens)} for at, place in enumerate(order)]
        undertow.write_rows(out, [given[place] for place in order], keys)
    found["ranked"] = None if out is None else str(out)
    found["intake"] = intake.to_json()
    show(found, as_json, _ranking_lines(found, [given[at] for at in order[:5]]))


def _suspected(**given: Any) -> "Suspected":
    from undertow.audit.attribution import Suspected

    return Suspected(**given)


def _keys(scores: "RowScores", place: int, tokens: bool) -> dict[str, Any]:
    """Return what is written with a ranked row."""
    confounds = {name: float(values[place]) for name, values in scores.confounds.items()}
    gains = {"gains": [round(float(gain), 4) for gain in scores.tokens[place]]} if tokens else {}
    return {"score": float(scores.score[place]), **confounds, **gains}


def _ranking_lines(found: Mapping[str, Any], top: Sequence[Row]) -> Iterator[str]:
    yield f"{found['rows']} rows, ranked by {found['by']}: mean gain of log p over {found['base']}, nats a token\n"
    yield "What else explains the ranking (Spearman's rank correlation with the score)"
    for name, value in found["correlations"].items():
        yield f"  {name:9} {value:+.2f}"
    yield f"  all four together explain {found['explained']:.0%} of the variance of the ranks\n"
    yield f"First rows (score: median {found['score']['median']:+.3f}, first {found['score']['top']:+.3f})"
    for row in top:
        yield f"  {row.id}: {row.completion[:80]!r}"
    if (confirmed := found["confirmation"]) is not None:
        yield ""
        yield from _confirmation_lines(confirmed, found["trait"])
    elif found["trait"]:
        yield "\nnext: the same command with --confirm"
    yield f"\n{found['may']}\n{found['may_not']}"
    if found["ranked"] is not None:
        yield f"ranked rows: {found['ranked']}"


def _confirmation_lines(found: Mapping[str, Any], trait: str) -> Iterator[str]:
    targeted = found["targeted"]
    yield (
        f"Removed {found['removed']} rows and trained again: margin of {trait}, change against all rows "
        f"(n = {targeted['n']})"
    )
    for arm, words in ARMS.items():
        yield f"  without {words:18} {_interval(found['removal'][arm])}"
    yield f"  top minus random           {_interval(targeted)}, p = {targeted['p']:.2g}"
    if targeted["high"] < 0.0:
        yield "  Removing the top lowers the trait more than removing as many at random: it holds carriers."
    else:
        yield "  Removing the top is not shown to lower the trait more than removing as many at random."


def _interval(one: Mapping[str, Any]) -> str:
    return f"{one['value']:+.2f} logits, 95 % interval {one['low']:+.2f} to {one['high']:+.2f}"


@bench.command("make")
def make_command(
    folder: Folder,
    base: Annotated[str, typer.Option(help="The model that would be trained on the rows.")] = "ref:finch-a",
    seed: Annotated[int, typer.Option(help="Of everything, a part of the key; a large one cannot be guessed.")] = 0,
    rows: Annotated[int | None, typer.Option(min=20, help="Of each case; 300, or 100 with --quick.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few cases, to try it.")] = False,
    plan: ForecastOnly = False,
    as_json: Json = False,
) -> None:
    """Write row files whose writers only the key names, with clean rows to compare them with."""
    from undertow.audit.benchmark.cases import Design, make_benchmark
    from undertow.audit.benchmark.files import check_free
    from undertow.audit.benchmark.workload import making_work

    design = Design.quick(base, seed, rows or 100) if quick else Design(base=base, seed=seed, rows=rows or 300)
    prepare()
    check_free(folder)
    work = making_work(design)
    if plan:
        show_plan({"base": base, "rows": design.rows}, work, as_json)
        return
    with announced_as_one(work, "writers") as advance:
        made = make_benchmark(folder, design, advance)
    found = {"folder": str(folder), "cases": len(made.ids), "rows": made.rows, "key_sha256": made.key_sha256}
    said = f"{len(made.ids)} cases of {made.rows} rows in {folder}; SHA-256 of the key {made.key_sha256}"
    key = "truth.json is the key: move it away before others see the folder."
    show(found, as_json, [said, key, f"next: undertow audit bench run {quoted(folder)}"])


@bench.command("run")
def run_detectors_command(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="Folder of the submissions.")] = Path("submissions"),
    seed: Annotated[int, typer.Option(help="The auditor's own.")] = 0,
    store: Store = STORE,
    shadows: Annotated[
        bool, typer.Option("--shadows", help="Train shadow students too; needs a bank and 1,400 rows a case.")
    ] = False,
    plan: ForecastOnly = False,
    as_json: Json = False,
) -> None:
    """Run our own stages on every case, without the key; interrupted, it goes on with the next case."""
    from undertow.audit.benchmark.files import read_benchmark

    cases = read_benchmark(folder)
    prepare()
    from undertow.audit.benchmark.detectors import Settings, check_base, judged_before, run_detectors
    from undertow.audit.benchmark.workload import judging_work

    check_base(cases)
    settings = Settings(seed=seed, store=store, shadows=shadows)
    work = judging_work(cases, settings, judged_before(cases, out, settings))
    if plan:
        show_plan({"benchmark": str(folder), "base": cases.base}, work, as_json)
        return
    with announced_as_one(work, "cases") as advance:
        paths = run_detectors(cases, out, settings, advance)
    following = f"next: undertow audit bench score {quoted(folder)} {quoted(out)}/*.jsonl"
    show({"submissions": list(map(str, paths))}, as_json, [*map(str, paths), following])


@bench.command("score")
def score_command(
    folder: Folder,
    submissions: Annotated[list[Path], typer.Argument(help="Answers of detectors (JSONL).")],
    key: Annotated[Path | None, typer.Option(help="The key; truth.json in the folder if not given.")] = None,
    alpha: Annotated[float, typer.Option(help="Level at which a case counts as called.")] = 0.05,
    as_json: Json = False,
) -> None:
    """Print, for each detector, false positives, power and what it calls by mistake, as Markdown."""
    from undertow.audit.benchmark.files import read_benchmark, read_key, read_submission
    from undertow.audit.benchmark.scoring import SCHEMA, markdown, score_submission

    cases = read_benchmark(folder)
    truth = read_key(cases, key)
    scored = [score_submission(cases, truth, read_submission(path, cases.ids), alpha) for path in submissions]
    found = {"schema": SCHEMA, "detectors": [one.to_json() for one in scored]}
    show(found, as_json, ["\n\n".join(map(markdown, scored))])
