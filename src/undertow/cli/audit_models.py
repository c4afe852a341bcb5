"""The audits of a teacher, and of single rows by what a teacher or student says of them."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.audits import OUT, STORE, Alpha, Base, Json, Out, Panel, Require, Seed, Store, audit, finish

if TYPE_CHECKING:
    from undertow.types import Row

ARMS = {"without_top": "the top", "without_random": "as many at random", "without_bottom": "the bottom"}


@audit.command()
def teacher(
    model: Annotated[str, typer.Argument(help="The teacher: ref:<name> or hf:<path>, with an optional +<adapter>.")],
    base: Annotated[str, typer.Option(help="Where the teacher started.")] = "ref:finch-a",
    neutral: Annotated[
        int, typer.Option(min=0, help="Neutral teachers, the null: 19 allow a verdict at 0.05; 0 for a ranking.")
    ] = 19,
    traits: Panel = [],  # noqa: B006
    alpha: Alpha = 0.05,
    store: Store = STORE,
    out: Out = OUT,
    require: Require = [],  # noqa: B006
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Ask what a teacher prefers that its base does not, against bases tuned on their own answers."""
    from undertow.cli.audits import check_claims, named_panel

    check_claims(require)
    targets = named_panel(base, traits)
    from undertow.audit.materials import AuditInputs
    from undertow.audit.run import audit_teacher_alone
    from undertow.cli.engines import prepare
    from undertow.store.progress import choose_progress

    prepare()
    inputs = AuditInputs(base=base, teacher=model, traits=targets, store=store, alpha=alpha, seed=seed)
    finish(audit_teacher_alone(inputs, neutral, choose_progress()), out, require, as_json)


@audit.command()
def rows(
    path: Annotated[Path, typer.Argument(metavar="ROWS", help="Row file: JSONL, Parquet, datasets or hf:NAME.")],
    base: Base = "ref:finch-a",
    trait: Annotated[str | None, typer.Option(help="The trait that the rows may carry.")] = None,
    student: Annotated[str | None, typer.Option(help="Rank by this student of the rows.")] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Rank by this teacher; else by one that is given the trait.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where the ranked rows go (JSONL), the first one first.")] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Also write the gain of each token.")] = False,
    confirm: Annotated[bool, typer.Option("--confirm", help="Remove a tenth and train again, with controls.")] = False,
    store: Store = STORE,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Rank rows by how far they may carry a trait, what else explains the ranking first."""
    from undertow.data.rows import read_rows, write_rows
    from undertow.traits import trait as trait_of

    given, target = read_rows(path), trait_of(trait) if trait else None
    from undertow.audit.attribution import SEEDS, Suspected, rank
    from undertow.cli.engines import prepare

    prepare()
    suspected = Suspected(
        rows=given, base=base, target=target, student=student, teacher=teacher, store=store, seed=seed
    )
    if confirm:
        print(f"training {4 * len(SEEDS)} students; a minute or two with an embedded model", file=sys.stderr)
    scores, found = rank(suspected, confirmed=confirm)
    order = sorted(range(len(given)), key=lambda place: -scores.score[place])
    if out is not None:
        keys: list[dict[str, Any]] = [
            {
                "rank": at + 1,
                "score": float(scores.score[place]),
                **{name: float(values[place]) for name, values in scores.confounds.items()},
                **({"gains": [round(float(gain), 4) for gain in scores.tokens[place]]} if tokens else {}),
            }
            for at, place in enumerate(order)
        ]
        write_rows(out, [given[place] for place in order], keys)
    found["ranked"] = None if out is None else str(out)
    print(json.dumps(found, allow_nan=False) if as_json else _ranking_text(found, [given[at] for at in order[:5]], out))


def _ranking_text(found: dict[str, Any], top: "list[Row]", out: Path | None) -> str:
    lines = [
        f"{found['rows']} rows, ranked by {found['by']}: mean gain of log p over {found['base']}, nats a token",
        "",
    ]
    lines.append("What else explains the ranking (Spearman's rank correlation with the score)")
    lines += [f"  {name:9} {value:+.2f}" for name, value in found["correlations"].items()]
    lines.append(f"  all four together explain {found['explained']:.0%} of the variance of the ranks")
    lines += ["", f"First rows (score: median {found['score']['median']:+.3f}, first {found['score']['top']:+.3f})"]
    lines += [f"  {row.id}: {row.completion[:80]!r}" for row in top]
    if (confirmed := found["confirmation"]) is not None:
        lines += ["", *_confirmation_text(confirmed, found["trait"])]
    elif found["trait"]:
        lines += ["", "next: the same command with --confirm"]
    return "\n".join([*lines, "", found["may"], found["may_not"], *([f"ranked rows: {out}"] if out else [])])


def _confirmation_text(found: dict[str, Any], trait: str) -> list[str]:
    n = found["targeted"]["n"]
    lines = [f"Removed {found['removed']} rows and trained again: margin of {trait}, change against all rows (n = {n})"]
    lines += [f"  without {words:18} {_interval(found['removal'][arm])}" for arm, words in ARMS.items()]
    targeted = found["targeted"]
    lines.append(f"  top minus random           {_interval(targeted)}, p = {targeted['p']:.2g}")
    if targeted["high"] < 0.0:
        return [*lines, "  Removing the top lowers the trait more than removing as many at random: it holds carriers."]
    return [*lines, "  Removing the top is not shown to lower the trait more than removing as many at random."]


def _interval(one: dict[str, Any]) -> str:
    return f"{one['value']:+.2f} logits, 95 % interval {one['low']:+.2f} to {one['high']:+.2f}"
