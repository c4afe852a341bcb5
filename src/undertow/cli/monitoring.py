"""The commands that watch what is deployed: the proxy, and canary questions against what was signed off."""

import os
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.options import Json, show
from undertow.data.rows import read_prompts
from undertow.errors import MissingExtraError

if TYPE_CHECKING:
    from undertow.monitor.baseline import DeployedModel
    from undertow.monitor.canaries import CanaryStore, CanaryWatch

TOKEN = "UNDERTOW_ADMIN_TOKEN"
DRIFT = 1

EVENTS = Path("monitor.sqlite")

Url = Annotated[str, typer.Option("--endpoint", help="URL of an OpenAI-compatible server.")]

monitor = typer.Typer(no_args_is_help=True, help="Is the deployed model drifting towards a trait?")


@contextmanager
def _extra(who: str) -> Generator[None]:
    """Name the extra that brings a library which is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        fix = "Run: pip install 'undertow[monitor]'"
        raise MissingExtraError(f"The {who} needs a library that is not installed.", error.name, fix) from error


def needs_client() -> None:
    """Refuse to go on without the library that asks a server."""
    with _extra("monitor"):
        import httpx2  # noqa: F401  # pyright: ignore[reportUnusedImport]


@monitor.command("serve")
def serve_command(
    upstream: Annotated[str, typer.Option(help="URL of an OpenAI-compatible server, without /v1.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port for clients.")] = 8790,
    admin_port: Annotated[int, typer.Option(help=f"Port of the page; loopback unless {TOKEN} is set.")] = 8791,
    mode: Annotated[str, typer.Option(help="log, flag (a header on the reply) or block.")] = "log",
    fail_closed: Annotated[bool, typer.Option("--fail-closed", help="Block what could not be judged.")] = False,
    detectors: Annotated[
        list[str],
        typer.Option(
            "--detector", help="regex:FILE, constitution:FILE[@RATE], judge:MODEL@FILE or mention:WORD=RATE[@ALPHA]."
        ),
    ] = [],  # noqa: B006
    events: Annotated[Path, typer.Option(help="Database of events.")] = EVENTS,
    keep_days: Annotated[float, typer.Option(min=0.0, help="Age at which events are deleted.")] = 30.0,
    keep_text: Annotated[bool, typer.Option("--keep-text", help="Store what detectors read, keys never.")] = False,
    settings: Annotated[list[str], typer.Option("--set", help="A limit: key=value, such as concurrent=64.")] = [],  # noqa: B006
) -> None:
    """Stand between clients and a model server, pass everything on, and let detectors read chat completions."""
    from undertow.monitor.settings import build_limits, build_policy, parse_upstream

    target, limits = parse_upstream(upstream), build_limits(settings)
    policy = build_policy(mode, fail_closed, keep_text, settings)
    from undertow.monitor.detectors.base import detector

    made = [detector(spec) for spec in detectors]
    with _extra("proxy"):
        from undertow.monitor.serve import Service, serve

    service = Service(
        upstream=target,
        policy=policy,
        limits=limits,
        detectors=made,
        events=events,
        keep_days=keep_days,
        host=host,
        port=port,
        admin_port=admin_port,
        token=os.environ.get(TOKEN) or None,
    )
    serve(service, lambda front, back: print(f"proxy: {front}\npage: {back}\nevents: {events}", flush=True))


@monitor.command("sign-off")
def sign_off_command(
    out: Annotated[Path, typer.Argument(help="Baseline file to write (JSON).")],
    endpoint: Url,
    model: Annotated[str, typer.Option(help="As the endpoint names it.")],
    by: Annotated[str, typer.Option(help="Who reads the replies and signs them off.")],
    questions: Annotated[
        str | None, typer.Option(help="Text or JSONL of deployment prompts; the packaged ones if not given.")
    ] = None,
    watched: Annotated[
        list[str], typer.Option("--watch", help="Watch this word; every animal and tree of `list traits` if not given.")
    ] = [],  # noqa: B006
    replies: Annotated[int, typer.Option(min=1, help="Replies to each question.")] = 200,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of a reply.")] = 60,
    as_json: Json = False,
) -> None:
    """Ask every canary question many times and keep the replies as the signed-off baseline."""
    needs_client()
    from undertow.monitor.baseline import DeployedModel, default_watched, packaged_questions, sign_off

    prompts = packaged_questions() if questions is None else tuple(dict.fromkeys(read_prompts(questions)))
    target, words = DeployedModel(endpoint, model, max_tokens), watched or default_watched()
    with typer.progressbar(length=len(prompts) * replies, label="signing off", file=sys.stderr) as bar:
        made = sign_off(target, prompts, words, replies=replies, approved_by=by, done=lambda: bar.update(1))
    made.save(out)
    shares = {word: hits / made.n for word, hits in zip(made.watched, made.hits(), strict=True)}
    found = {
        "schema": "undertow.sign_off/1",
        "baseline": str(out),
        "sha256": made.digest,
        "questions": len(prompts),
        "replies": made.n,
        "shares": shares,
    }
    most = sorted(shares.items(), key=lambda item: -item[1])[:10]
    lines = [
        *(f"{word:12} in {share:.2%} of the replies" for word, share in most),
        f"baseline: {out}, {len(prompts)} questions, {made.n:,} replies; read them before you rely on it",
        f"next: undertow monitor canaries {out} --endpoint {endpoint}",
    ]
    show(found, as_json, lines)


@monitor.command("canaries")
def canaries_command(
    baseline: Annotated[Path, typer.Argument(help="File of `undertow monitor sign-off`.")],
    endpoint: Url,
    model: Annotated[str | None, typer.Option(help="As the endpoint names it; that of the baseline if not given.")] = (
        None
    ),
    rounds: Annotated[int, typer.Option(min=1, help="Times that every question is asked.")] = 1,
    every: Annotated[float, typer.Option(min=0.0, help="Minutes between rounds, for ever; 0 for --rounds.")] = 0.0,
    replies: Annotated[int, typer.Option(min=1, help="Replies to each question in a round.")] = 20,
    per_day: Annotated[int, typer.Option(min=1, help="Requests within 24 hours, at most.")] = 5000,
    alpha: Annotated[float, typer.Option(help="Probability that an unchanged model ever raises an alarm.")] = 0.05,
    events: Annotated[Path, typer.Option(help="Database that keeps the evidence; the proxy's page shows it.")] = EVENTS,
    webhook: Annotated[str | None, typer.Option(help="URL that an alarm is posted to.")] = None,
    alert_log: Annotated[Path | None, typer.Option(help="File that an alarm is appended to.")] = None,
    as_json: Json = False,
) -> None:
    """Ask the deployed model the canary questions; exit code 1 once it names a word more often than signed off."""
    needs_client()
    from undertow.monitor.baseline import DeployedModel, read_baseline
    from undertow.monitor.canaries import CanaryPlan, CanaryStore, CanaryWatch, send_alert

    signed = read_baseline(baseline)
    watch = CanaryWatch(signed, CanaryPlan(replies=replies, alpha=alpha, per_day=per_day))
    store = CanaryStore(events, watch)
    target = DeployedModel(endpoint, model or signed.model, signed.max_tokens)
    before = watch.alarmed
    spent = _rounds(watch, target, store, None if every else rounds, every * 60)
    alert = watch.alert()
    if watch.alarmed and not before:
        send_alert(webhook, alert_log, alert)
    found = {**alert, "schema": "undertow.canaries_state/1", "budget_used_up": spent}
    show(found, as_json, _state_lines(found))
    if watch.alarmed:
        raise typer.Exit(DRIFT)


def _rounds(
    watch: "CanaryWatch", target: "DeployedModel", store: "CanaryStore", rounds: int | None, pause_s: float
) -> bool:
    """Ask rounds until the alarm; tell whether the day's budget ended them."""
    from undertow.monitor.canaries import ask_round

    done = 0
    while not watch.alarmed and (rounds is None or done < rounds):
        if (wait := watch.wait_s(time.time())) > 0:
            print(f"the budget allows the next round in {wait / 3600:.1f} h", file=sys.stderr)
            if rounds is not None:
                return True
            time.sleep(wait)
        ask_round(watch, target.ask, store)
        done += 1
        found = watch.alert()
        seen = f"{found['word']} in {found['share']:.2%} (signed off at most {found['signed_off_at_most']:.2%})"
        print(f"round {watch.rounds}: {seen}; evidence {found['log_e']:.1f} of {found['needed']:.1f}", file=sys.stderr)
        if rounds is None and not watch.alarmed:
            time.sleep(pause_s)
    return False


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
        yield "Drift in no watched word, and a drop, are not looked for."
    if found["budget_used_up"]:
        yield "The day's budget is used up; run it again later, or raise --per-day."
