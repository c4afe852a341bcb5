"""The commands that stand in the traffic or beside it: the proxy, the guardrail for gateways, and the alarms."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from undertow.errors import ConfigError, MissingExtraError, UserError

if TYPE_CHECKING:
    from undertow.monitor.detectors.base import AbstractDetector
    from undertow.monitor.watching import AlarmPlan

TOKEN = "UNDERTOW_ADMIN_TOKEN"
EVENTS = Path("monitor.sqlite")

Webhooks = Annotated[
    list[str], typer.Option("--webhook", help="Told of alarms: URL, slack:URL or FILE@URL, FILE a template of JSON.")
]
Settings = Annotated[
    list[str], typer.Option("--set", help="key=value: a limit, such as concurrent=64, or alarm_failed=0.1.")
]
Detectors = Annotated[
    list[str],
    typer.Option(
        "--detector",
        help="regex:FILE, constitution:FILE[@RATE], served:FILE, "
        "judge:MODEL@FILE, mention:WORD=RATE[@ALPHA] or your own.",
    ),
]

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
    detectors: Detectors = [],  # noqa: B006
    events: Annotated[Path, typer.Option(help="Database of events.")] = EVENTS,
    keep_days: Annotated[float, typer.Option(min=0.0, help="Age at which events are deleted.")] = 30.0,
    keep_text: Annotated[bool, typer.Option("--keep-text", help="Store what detectors read, keys never.")] = False,
    webhooks: Webhooks = [],  # noqa: B006
    settings: Settings = [],  # noqa: B006
) -> None:
    """Stand between clients and a model server, pass everything on, and let detectors read chat completions."""
    from undertow.monitor.settings import build_limits, build_policy, parse_upstream

    target = parse_upstream(upstream)
    alarms, rest = _alarms(settings, webhooks)
    limits, policy = build_limits(rest), build_policy(mode, fail_closed, keep_text, rest)
    made = made_detectors(detectors)
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
        alarms=alarms,
    )
    serve(service, lambda front, back: print(f"proxy: {front}\npage: {back}\nevents: {events}", flush=True))


@monitor.command("screen")
def screen_command(
    detectors: Detectors,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port for gateways.")] = 8792,
    admin_port: Annotated[int, typer.Option(help=f"Port of the page; loopback unless {TOKEN} is set.")] = 8793,
    mode: Annotated[str, typer.Option(help="log (nothing is ever blocked) or block.")] = "block",
    fail_closed: Annotated[bool, typer.Option("--fail-closed", help="Block what could not be judged.")] = False,
    events: Annotated[Path, typer.Option(help="Database of events.")] = EVENTS,
    keep_days: Annotated[float, typer.Option(min=0.0, help="Age at which events are deleted.")] = 30.0,
    keep_text: Annotated[bool, typer.Option("--keep-text", help="Store what detectors read, keys never.")] = False,
    webhooks: Webhooks = [],  # noqa: B006
    settings: Settings = [],  # noqa: B006
) -> None:
    """Answer gateways that ask whether a text may pass: LiteLLM's generic guardrail API, and a plain one."""
    from undertow.monitor.settings import build_limits, build_policy

    alarms, rest = _alarms(settings, webhooks)
    limits, policy = build_limits(rest), build_policy(mode, fail_closed, keep_text, rest)
    if policy.mode == "flag":
        raise ConfigError("A guardrail has no reply to put a header on.", mode, "Choose --mode log or block.")
    made = made_detectors(detectors)
    with _extra("guardrail"):
        from undertow.monitor.guardrail import LITELLM, SCREEN
        from undertow.monitor.serve import Service, serve

    service = Service(
        upstream=None,
        policy=policy,
        limits=limits,
        detectors=made,
        events=events,
        keep_days=keep_days,
        host=host,
        port=port,
        admin_port=admin_port,
        token=os.environ.get(TOKEN) or None,
        alarms=alarms,
    )

    def started(front: str, back: str) -> None:
        print(f"guardrail: {front}{LITELLM}\nplain: {front}{SCREEN}\npage: {back}\nevents: {events}", flush=True)

    serve(service, started)


def made_detectors(specifications: list[str]) -> "list[AbstractDetector]":
    """Make detectors of what an operator writes; one of another package may fail in any way.

    Raises:
        UserError: one cannot be made.
    """
    from undertow.monitor.detectors.base import detector

    made: list[AbstractDetector] = []
    for one in specifications:
        try:
            made.append(detector(one))
        except UserError:
            raise
        except Exception as error:
            what = f"The detector cannot be made ({type(error).__name__}: {error})."
            raise ConfigError(what, one, "Correct what follows its name, or ask whoever wrote it.") from error
    return made


def _alarms(settings: list[str], webhooks: list[str]) -> "tuple[AlarmPlan, list[str]]":
    """Read what is done about alarms; return it and the settings that are about other things."""
    with _extra("webhook"):
        from undertow.monitor.watching import AlarmPlan, alarm_rules
        from undertow.monitor.webhooks import parse_webhook

    rules, rest = alarm_rules(settings)
    return AlarmPlan(rules, tuple(map(parse_webhook, webhooks))), rest
