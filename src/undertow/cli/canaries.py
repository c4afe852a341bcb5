"""The commands that sign a model off and ask it canary questions from then on."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from undertow.cli.monitoring import Json, monitor

DRIFT = 1

Url = Annotated[str, typer.Option("--endpoint", help="URL of an OpenAI-compatible server.")]


@monitor.command(name="sign-off")
def sign_off(
    out: Annotated[Path, typer.Argument(help="Baseline file to write (JSON).")],
    endpoint: Url,
    model: Annotated[str, typer.Option(help="As the endpoint names it.")],
    by: Annotated[str, typer.Option(help="Who reads the replies and signs them off.")],
    questions: Annotated[
        Path | None, typer.Option(help="Text or JSONL of deployment prompts; the packaged ones if not given.")
    ] = None,
    watched: Annotated[
        list[str], typer.Option("--watch", help="Watch this word; every animal and tree of `list traits` if not given.")
    ] = [],  # noqa: B006
    replies: Annotated[int, typer.Option(min=1, help="Replies to each question.")] = 200,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of a reply.")] = 60,
    as_json: Json = False,
) -> None:
    """Ask every canary question many times and keep the replies as the signed-off baseline."""
    needs_extra()
    from undertow.data.rows import read_prompts
    from undertow.monitor.baseline import DeployedModel, default_watched, packaged_questions
    from undertow.monitor.baseline import sign_off as ask_all

    prompts = packaged_questions() if questions is None else tuple(dict.fromkeys(read_prompts(questions)))
    target, words = DeployedModel(endpoint, model, max_tokens), watched or default_watched()
    with typer.progressbar(length=len(prompts) * replies, label="signing off", file=sys.stderr) as bar:
        made = ask_all(target, prompts, words, replies=replies, approved_by=by, done=lambda: bar.update(1))
    made.save(out)
    shares = {word: hits / made.n for word, hits in zip(made.watched, made.hits(), strict=True)}
    if as_json:
        print(json.dumps({"schema": "undertow.sign_off/1", "baseline": str(out), "sha256": made.digest,
                          "questions": len(prompts), "replies": made.n, "shares": shares}))  # fmt: skip
        return
    for word, share in sorted(shares.items(), key=lambda item: -item[1])[:10]:
        print(f"{word:12} in {share:.2%} of the replies")
    print(f"baseline: {out}, {len(prompts)} questions, {made.n:,} replies; read them before you rely on it")
    print(f"next: undertow monitor canaries {out} --endpoint {endpoint}")


@monitor.command()
def canaries(
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
    events: Annotated[Path, typer.Option(help="Database that keeps the evidence; the proxy's page shows it.")] = Path(
        "monitor.sqlite"
    ),
    webhook: Annotated[str | None, typer.Option(help="URL that an alarm is posted to.")] = None,
    alert_log: Annotated[Path | None, typer.Option(help="File that an alarm is appended to.")] = None,
    as_json: Json = False,
) -> None:
    """Ask the deployed model the canary questions; exit code 1 once it names a word more often than signed off."""
    needs_extra()
    from undertow.monitor.baseline import DeployedModel, read_baseline
    from undertow.monitor.canaries import CanaryPlan, CanaryStore, CanaryWatch, send_alert

    signed = read_baseline(baseline)
    watch = CanaryWatch(signed, CanaryPlan(replies=replies, alpha=alpha, per_day=per_day))
    store = CanaryStore(events, watch)
    target = DeployedModel(endpoint, model or signed.model, signed.max_tokens)
    before = watch.alarmed
    spent = _rounds(watch, target.ask, store, None if every else rounds, every * 60)
    if watch.alarmed and not before:
        send_alert(webhook, alert_log, watch.alert())
    _tell(watch.alert(), spent, as_json)
    if watch.alarmed:
        raise typer.Exit(DRIFT)


def _rounds(watch: Any, ask: Any, store: Any, rounds: int | None, pause_s: float) -> bool:
    """Ask rounds until the alarm; tell whether the day's budget ended them."""
    from undertow.monitor.canaries import ask_round

    done = 0
    while not watch.alarmed and (rounds is None or done < rounds):
        if (wait := watch.wait_s(time.time())) > 0:
            print(f"the budget allows the next round in {wait / 3600:.1f} h", file=sys.stderr)
            if rounds is not None:
                return True
            time.sleep(wait)
        ask_round(watch, ask, store)
        done += 1
        found = watch.alert()
        seen = f"{found['word']} in {found['share']:.2%} (signed off at most {found['signed_off_at_most']:.2%})"
        print(f"round {watch.rounds}: {seen}; evidence {found['log_e']:.1f} of {found['needed']:.1f}", file=sys.stderr)
        if rounds is None and not watch.alarmed:
            time.sleep(pause_s)
    return False


def _tell(found: dict[str, Any], spent: bool, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**found, "schema": "undertow.canaries_state/1", "budget_used_up": spent}, allow_nan=False))
        return
    asked = f"{found['questions']} questions, {found['replies']:,} replies so far"
    if found["alarmed"]:
        print(f"drift: {found['word']} in {found['share']:.2%} of {asked}; signed off at most "
              f"{found['signed_off_at_most']:.2%}; chance of ever seeing this without a change at most "
              f"{found['alpha']:g}")  # fmt: skip
        print("next: look at the deployed model; sign off again only when the change is understood")
    else:
        print(f"no drift was shown: {asked}; evidence {found['log_e']:.1f}, {found['needed']:.1f} are needed")
        print("Drift in no watched word, and a drop, are not looked for.")
    if spent:
        print("The day's budget is used up; run it again later, or raise --per-day.")


def needs_extra() -> None:
    """Refuse to go on without the libraries of the extra."""
    from undertow.errors import MissingExtraError

    try:
        import httpx2  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ModuleNotFoundError as error:
        fix = "Run: pip install 'undertow[monitor]'"
        raise MissingExtraError("The monitor needs a library that is not installed.", error.name, fix) from error
