"""The commands that ask a deployed model canary questions and compare its replies with an approved baseline."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.alarms import EVENTS, monitor
from undertow.cli.monitoring import Webhooks, needs_client
from undertow.cli.options import Json, read_given, show
from undertow.cli.server_options import ExtraBody, TokenLimitName
from undertow.data.rows import read_prompts
from undertow.traits import words_of
from undertow.types import Prompt

if TYPE_CHECKING:
    from undertow.monitor.baseline import Baseline
    from undertow.monitor.webhooks import Receiver

DRIFT = 1

LONGEST_S = 15.0
"""Longest pause in seconds between two tries to deliver an alarm."""
TELL_S = 300.0
"""How many seconds a command that is about to end goes on delivering an alarm. What is left is delivered by the next
one."""

Url = Annotated[
    str, typer.Option("--endpoint", help="URL of the OpenAI-compatible server that runs the deployed model.")
]
Questions = Annotated[
    str | None,
    typer.Option(
        help="File of canary questions, one a line or JSONL, ideally prompts of your deployment. If not "
        "given, the packaged ones."
    ),
]
TrainedOn = Annotated[
    str | None,
    typer.Option(
        help="Rows that the model was trained on. Every question is then also asked with one of them before it."
    ),
]
Watched = Annotated[
    list[str],
    typer.Option(
        "--watch",
        help="Word to count in replies, or a trait file with words. May be repeated. If not given, every "
        "animal and tree of `list traits`.",
    ),
]


@monitor.command("sign-off")
def sign_off_command(
    out: Annotated[
        Path, typer.Argument(help="JSON file to write: the signed-off replies, with which later replies are compared.")
    ],
    endpoint: Url,
    model: Annotated[str, typer.Option(help="Name of the model at the endpoint.")],
    by: Annotated[
        str, typer.Option(help="Name of the person who reads the replies and approves them; it is stored in the file.")
    ],
    questions: Questions = None,
    rows: TrainedOn = None,
    watched: Watched = [],  # noqa: B006
    replies: Annotated[int, typer.Option(min=1, help="How many replies each question gets.")] = 200,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest reply in tokens, with its reasoning.")] = 60,
    token_limit_name: TokenLimitName = None,
    extra_body: ExtraBody = None,
    as_json: Json = False,
) -> None:
    """Record a deployed model's replies as the approved baseline.

    Every canary question is asked many times. A run that was interrupted goes on. With --rows, the questions are asked
    plainly and also behind a training row, and the two kinds are counted apart.
    """
    needs_client()
    from undertow.models.dialects import Dialect
    from undertow.monitor.baseline import DeployedModel, default_watched, packaged_questions
    from undertow.monitor.signing import SignOffOrder, open_sign_off, sign_off

    plain = packaged_questions() if questions is None else tuple(dict.fromkeys(read_prompts(questions)))
    behind, why = _behind_rows(rows, plain)
    prompts = (*plain, *behind)
    dialect = Dialect.given(limit=token_limit_name, extra=extra_body)
    target = DeployedModel(endpoint, model, max_tokens, dialect)
    order = SignOffOrder(
        questions=prompts,
        watched=tuple(form for one in watched for form in words_of(one)) or default_watched(),
        replies=replies,
        approved_by=by,
    )
    with open_sign_off(out, order, target) as journal:
        if journal.n:
            print(f"going on with {journal.n:,} replies of an earlier run", file=sys.stderr)
        left = len(prompts) * replies - journal.n
        with typer.progressbar(length=left, label="signing off", file=sys.stderr) as bar:
            made = sign_off(target, order, journal, done=lambda: bar.update(1))
        made.save(out)
    empty = sum(not text.strip() for texts in made.replies for text in texts)
    shares = {word: hits / made.n for word, hits in zip(made.watched, made.hits(), strict=True)}
    looks = _looks(made, len(plain))
    found = {
        "schema": "undertow.sign_off/1",
        "baseline": str(out),
        "sha256": made.digest,
        "questions": len(prompts),
        "replies": made.n,
        "empty": empty,
        "shares": shares,
        "looks": looks,
        "in_context_why": why,
    }
    most = sorted(shares.items(), key=lambda item: -item[1])[:10]
    lines = [
        *(_share_line(word, share, looks) for word, share in most),
        f"asked behind rows of the training: {why or f'{len(behind)} of the {len(prompts)} questions'}",
        *([f"{empty} of the replies have no text"] if empty else []),
        f"baseline: {out}, {len(prompts)} questions, {made.n:,} replies; read them before you rely on it",
        f"next: undertow monitor canaries {out} --endpoint {endpoint}",
    ]
    show(found, as_json, lines)


def _behind_rows(source: str | None, plain: Sequence[Prompt]) -> tuple[list[Prompt], str]:
    """Return the questions behind training rows, or the reason why there are none."""
    from undertow.evals.behind_rows import training_look

    if source is None:
        return [], "not testable: no rows of the training are given (--rows)."
    look = training_look(read_given(source).rows, 0)
    if isinstance(look, str):
        return [], f"not testable: {look}"
    return look.prompts(plain), ""


def _looks(made: "Baseline", plain: int) -> dict[str, Any]:
    """Return the share of replies that name each watched word, for plain questions and for those behind rows."""
    from undertow.monitor.baseline import count

    found: dict[str, Any] = {}
    for look, replies in (("plain", made.replies[:plain]), ("in_context", made.replies[plain:])):
        texts = [text for some in replies for text in some]
        hits = zip(made.watched, count(texts, made.watched), strict=True)
        shares = {word: n / len(texts) for word, n in hits} if texts else {}
        found[look] = {"questions": len(replies), "replies": len(texts), "shares": shares} if texts else None
    return found


def _share_line(word: str, share: float, looks: Mapping[str, Any]) -> str:
    if looks["in_context"] is None:
        return f"{word:12} in {share:.2%} of the replies"
    plain, behind = (looks[look]["shares"][word] for look in ("plain", "in_context"))
    return f"{word:12} in {share:.2%} of the replies: {plain:.2%} asked plainly, {behind:.2%} behind rows"


@monitor.command("canaries")
def canaries_command(
    baseline: Annotated[Path, typer.Argument(help="File that `undertow monitor sign-off` wrote.")],
    endpoint: Url,
    model: Annotated[
        str | None, typer.Option(help="Name of the model at the endpoint. If not given, the name at the sign-off.")
    ] = (None),
    rounds: Annotated[int, typer.Option(min=1, help="Rounds to run now. In each round every question is asked.")] = 1,
    every: Annotated[
        float,
        typer.Option(
            min=0.0, help="Repeat without end, with this many minutes between rounds. 0 runs --rounds and stops."
        ),
    ] = 0.0,
    replies: Annotated[int, typer.Option(min=1, help="How many replies each question gets in a round.")] = 20,
    per_day: Annotated[
        int,
        typer.Option(min=1, help="Most requests within 24 hours. The command stops or waits when they are used up."),
    ] = 5000,
    alpha: Annotated[
        float,
        typer.Option(
            help="Probability that a model that did not change ever raises an alarm, however many rounds are run."
        ),
    ] = 0.05,
    events: Annotated[
        Path,
        typer.Option(
            help="SQLite file for the evidence and the alarms. The page of `monitor serve` shows what is in it."
        ),
    ] = EVENTS,
    webhooks: Webhooks = [],  # noqa: B006
    alert_log: Annotated[
        Path | None, typer.Option(help="File to which every alarm is appended. None if not given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask a deployed model the canary questions, to notice drift.

    The exit code is 1 once it uses a watched word more often than in the approved baseline, beyond chance.
    """
    needs_client()
    from undertow.monitor.baseline import read_baseline
    from undertow.monitor.canaries import CanaryPlan, CanaryWatch
    from undertow.monitor.rounds import CanaryStore, RoundPlan, ask_rounds
    from undertow.monitor.webhooks import AlertFile, parse_webhook

    receivers: list[Receiver] = [*map(parse_webhook, webhooks), *([AlertFile(alert_log)] if alert_log else [])]
    signed = read_baseline(baseline)
    deployed = signed.deployed(endpoint, model)
    config = CanaryPlan(replies=replies, alpha=alpha, per_day=per_day, model=deployed.model, place=deployed.place)
    watch = CanaryWatch(signed, config)
    store = CanaryStore(events, watch)
    plan = RoundPlan(
        rounds=None if every else rounds, pause_s=every * 60, say=lambda text: print(text, file=sys.stderr)
    )
    spent = ask_rounds(watch, deployed.ask, store, plan)
    told = _tell(events, receivers, TELL_S if plan.rounds else float("inf"))
    found = {**watch.alert(), "schema": "undertow.canaries_state/1", "budget_used_up": spent, "told": told}
    show(found, as_json, _state_lines({**found, "smallest": watch.smallest_drifts() if watch.rounds else None}))
    if watch.alarmed:
        raise typer.Exit(DRIFT)


def _tell(events: Path, receivers: "list[Receiver]", most_s: float) -> bool:
    """Deliver the alarms that are due; return whether every receiver took them."""
    from undertow.monitor.database import connect
    from undertow.monitor.telling import Teller, tell_until

    with closing(connect(events)) as connection:
        return tell_until(Teller(events, receivers, LONGEST_S), connection, most_s, _say_untold)


def _say_untold(failure: str, wait_s: float) -> None:
    print(f"an alarm was not taken ({failure}), the next try is in {wait_s:.1f} s", file=sys.stderr)


def _state_lines(found: Mapping[str, Any]) -> Iterator[str]:
    asked = f"{found['questions']} questions, {found['replies']:,} replies so far"
    if found["alarmed"]:
        yield (
            f"drift: {found['word']} in {found['share']:.2%} of {asked}; signed off at most "
            f"{found['signed_off_at_most']:.2%}; chance of ever seeing this without a change at most "
            f"{found['alpha']:g}"
        )
        yield "next: look at the deployed model; sign off again only when the change is understood"
    else:
        yield f"no drift was shown: {asked}; evidence {found['log_e']:.1f}, {found['needed']:.1f} are needed"
        yield from _smallest_lines(found["smallest"])
        yield "Drift in no watched word, and a drop, are not looked for."
    if not found["told"]:
        yield "The alarm was not told to everybody yet; the next run of this command, or `serve`, goes on with it."
    if found["budget_used_up"]:
        yield "The day's budget is used up; run it again later, or raise --per-day."


def _smallest_lines(smallest: Mapping[str, Any] | None) -> Iterator[str]:
    """Say which drift would have been noticed by now."""
    seen = smallest and smallest["from_the_start"]
    if not smallest or not seen:
        yield "No drift, however large, would have been called in every watched word by so few replies."
        return
    median, most = seen["median"], seen["most"]
    yield (
        f"A drift since the first round would have been called with a chance of {smallest['power']:g} or more: of"
        f" {median['word']} from {median['share']:.2%} of the replies on ({median['logits']:+.2f} logits), and of every"
        f" watched word from {most['logits']:+.2f} logits on ({most['word']})."
    )
