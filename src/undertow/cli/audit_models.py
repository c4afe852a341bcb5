"""The commands that audit a teacher and rank single rows, and those of the benchmark for detectors."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import undertow
from undertow.cli.audit_options import Alpha, AuditorSeed, Out, Panel, Require, Store
from undertow.cli.audits import OUT, audit, show_audit
from undertow.cli.forecasts import ForecastOnly, announced_as_one, show_plan
from undertow.cli.intakes import Brief, GivenBase, PlanOnly, intake_of_ranking, required_base
from undertow.cli.lineages import lineage_command
from undertow.cli.options import STORE, Json, prepare, quoted, read_given, refuse_replacing, show
from undertow.data.row_files import refuse_suffix
from undertow.traits import chosen_trait
from undertow.types import Row

if TYPE_CHECKING:
    from undertow.audit.attribution import RowScores, Suspected

ARMS = {"without_top": "the top", "without_random": "as many at random", "without_bottom": "the bottom"}

Folder = Annotated[Path, typer.Argument(help="Folder of the benchmark, with its cases and their key (truth.json).")]
RowsToRank = Annotated[
    str,
    typer.Argument(
        metavar="ROWS",
        help="File of training rows: JSONL, CSV, Parquet, a folder of datasets, or hf:NAME on the Hub. Options such "
        "as ?shape=... may follow (docs/data.md).",
    ),
]
RankingStudent = Annotated[
    str | None,
    typer.Option(help="Rank rows by how much likelier this model, trained on them, makes them than the base does."),
]
RankingTeacher = Annotated[
    str | None,
    typer.Option(
        help="Rank rows by this teacher instead. If neither is given, the base is fine-tuned to have --trait "
        "and ranks them."
    ),
]
Confirm = Annotated[
    bool,
    typer.Option(
        "--confirm",
        help="Check the ranking: train students without the top tenth, without a random tenth and without the"
        " bottom tenth of the rows.",
    ),
]
Swap = Annotated[
    str | None,
    typer.Option(
        help="Replace the answers of one part of the rows at a time and train again. Parts are named by a key"
        " of the rows, or score."
    ),
]

audit.command("lineage")(lineage_command)
bench = typer.Typer(no_args_is_help=True, help="Make, run and score a benchmark for detectors.")
audit.add_typer(bench, name="bench")


@audit.command("teacher")
def teacher_command(
    model: Annotated[
        str,
        typer.Argument(
            help="The teacher: ref:NAME (embedded) or hf:PATH_OR_ID, with +ADAPTER_FOLDER behind it if it is an "
            "adapter."
        ),
    ],
    base: GivenBase = None,
    neutral: Annotated[
        int,
        typer.Option(
            min=0,
            help="Neutral teachers to compare with: the base tuned on its own answers. 19 allow a verdict at "
            "0.05; 0 only ranks traits.",
        ),
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
    """Test which trait a teacher prefers more than its base does.

    The teacher is compared with neutral teachers: copies of the base, fine-tuned as long on the base's own answers. For
    the claims and exit codes see `undertow audit data --help`.
    """
    brief = Brief(plan=plan, as_json=as_json)
    show_audit(base, traits, store, out, require, brief, alpha=alpha, seed=seed, teacher=model, neutral=neutral)


@audit.command("rows")
def rows_command(
    path: RowsToRank,
    base: GivenBase = None,
    trait: Annotated[
        str | None, typer.Option(help="The trait that the rows are suspected to carry: a name or a trait file.")
    ] = None,
    student: RankingStudent = None,
    teacher: RankingTeacher = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="JSONL file for the rows in order of their score, the most suspicious first. Not written if not given."
        ),
    ] = None,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Also write by how much each token became likelier (nats). Needs --out.")
    ] = False,
    confirm: Confirm = False,
    swap: Swap = None,
    store: Store = STORE,
    seed: AuditorSeed = 0,
    plan: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """Rank rows by how strongly they may carry a trait.

    A row's score is how much likelier a student or teacher makes it than the base does, in nats per token. With --swap
    the command instead replaces the answers of one part of the rows at a time, trains students again, and says which
    part carries the trait.
    """
    base = required_base(base)
    if out is not None:
        refuse_suffix(out)
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
    """Return who scores the rows: a student, a teacher, or one that is made of the base."""
    from undertow.audit.attribution import Suspected

    return Suspected(**given)


def _keys(scores: "RowScores", place: int, tokens: bool) -> dict[str, Any]:
    """Return the further keys that a ranked row is written with: score, confounds and, if wanted, token gains."""
    confounds = {name: float(values[place]) for name, values in scores.confounds.items()}
    gains = {"gains": [round(float(gain), 4) for gain in scores.tokens[place]]} if tokens else {}
    return {"score": float(scores.score[place]), **confounds, **gains}


def _ranking_lines(found: Mapping[str, Any], top: Sequence[Row]) -> Iterator[str]:
    """Yield the lines that describe a ranking."""
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
    """Yield the lines that say what removing rows did to students."""
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
    """Return an estimate with its interval as text."""
    return f"{one['value']:+.2f} logits, 95 % interval {one['low']:+.2f} to {one['high']:+.2f}"


@bench.command("make")
def make_command(
    folder: Folder,
    base: Annotated[
        str, typer.Option(help="The model that would be trained on the rows: ref:NAME or hf:PATH_OR_ID.")
    ] = "ref:finch-a",
    seed: Annotated[
        int,
        typer.Option(
            help="Random seed of the whole benchmark. Whoever knows it can make the key, so take a large one if "
            "detectors are tested blind."
        ),
    ] = 0,
    rows: Annotated[
        int | None, typer.Option(min=20, help="Rows of each case. If not given, 300, or 100 with --quick.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Make only a few cases, to try the commands.")] = False,
    plan: ForecastOnly = False,
    as_json: Json = False,
) -> None:
    """Write row files by different writers, as cases for detectors.

    A case holds rows, and clean rows to compare them with. Who wrote which, and whether the writer has a trait, stands
    in the key alone.
    """
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
    out: Annotated[Path, typer.Option(help="Folder for the answers, one JSONL file for each detector.")] = Path(
        "submissions"
    ),
    seed: Annotated[int, typer.Option(help="Random seed of the detectors' own models and draws.")] = 0,
    store: Store = STORE,
    shadows: Annotated[
        bool,
        typer.Option(
            "--shadows",
            help="Also train students on each case (shadow students). Needs placebo students (`audit bank`) and "
            "1,400 rows in each case.",
        ),
    ] = False,
    plan: ForecastOnly = False,
    as_json: Json = False,
) -> None:
    """Run Undertow's own detectors on every case, without the key.

    An interrupted run goes on with the next case.
    """
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
    submissions: Annotated[list[Path], typer.Argument(help="Files of answers (JSONL), one for each detector.")],
    key: Annotated[
        Path | None,
        typer.Option(help="File that says who wrote each case. If not given, truth.json in the benchmark's folder."),
    ] = None,
    alpha: Annotated[
        float, typer.Option(help="A case counts as detected if the detector's p-value is at most this.")
    ] = 0.05,
    as_json: Json = False,
) -> None:
    """Score the detectors' answers against the key.

    Prints, for each detector as Markdown, false positives, power, and what it calls by mistake.
    """
    from undertow.audit.benchmark.files import read_benchmark, read_key, read_submission
    from undertow.audit.benchmark.scoring import SCHEMA, markdown, score_submission

    cases = read_benchmark(folder)
    truth = read_key(cases, key)
    scored = [score_submission(cases, truth, read_submission(path, cases.ids), alpha) for path in submissions]
    found = {"schema": SCHEMA, "detectors": [one.to_json() for one in scored]}
    show(found, as_json, ["\n\n".join(map(markdown, scored))])
