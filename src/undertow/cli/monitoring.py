"""The commands that screen traffic: a proxy before a model server, and a guardrail that gateways ask."""

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
    list[str],
    typer.Option(
        "--webhook",
        help="Receiver of alarms: URL, slack:URL, or FILE@URL with a JSON template in FILE. May be given "
        "several times.",
    ),
]
Settings = Annotated[
    list[str],
    typer.Option(
        "--set",
        help="Change a limit or an alarm rule, as KEY=VALUE, such as concurrent=64 or alarm_failed=0.1 "
        "(docs/proxy.md). May be repeated.",
    ),
]
Host = Annotated[
    str, typer.Option(help="Network address on which to listen. The default takes connections from this machine alone.")
]
AdminPort = Annotated[
    int, typer.Option(help=f"Port of the page for operators. Reachable from this machine alone unless {TOKEN} is set.")
]
Detectors = Annotated[
    list[str],
    typer.Option(
        "--detector",
        help="Detector to run: regex:FILE, constitution:FILE[@RATE], served:FILE, judge:MODEL@FILE, "
        "mention:WORD=RATE[@ALPHA] or your own (docs/proxy.md). May be repeated.",
    ),
]

FailClosed = Annotated[
    bool,
    typer.Option(
        "--fail-closed",
        help="Also block what no detector could judge, for example after a timeout. By default it passes.",
    ),
]
EventsFile = Annotated[Path, typer.Option(help="SQLite file in which events and alarms are stored.")]
KeepDays = Annotated[float, typer.Option(min=0.0, help="Age in days at which events are deleted.")]
KeepText = Annotated[
    bool, typer.Option("--keep-text", help="Also store the texts that detectors read. Keys are never stored.")
]

monitor = typer.Typer(no_args_is_help=True, help="Watch a deployed model for drift and unwanted content.")


@contextmanager
def _extra(who: str) -> Generator[None]:
    """Turn a missing library into an error that says which extra installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        fix = "Run: pip install 'undertow[monitor]'"
        raise MissingExtraError(f"The {who} needs a library that is not installed.", error.name, fix) from error


def needs_client() -> None:
    """Refuse to go on without the library that sends requests."""
    with _extra("monitor"):
        import httpx2  # noqa: F401  # pyright: ignore[reportUnusedImport]


@monitor.command("serve")
def serve_command(
    upstream: Annotated[str, typer.Option(help="URL of the OpenAI-compatible server behind the proxy, without /v1.")],
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port on which clients connect.")] = 8790,
    admin_port: AdminPort = 8791,
    mode: Annotated[
        str,
        typer.Option(
            help="What happens to flagged texts: log only records them, flag adds a header to the reply, block "
            "refuses them."
        ),
    ] = "log",
    fail_closed: FailClosed = False,
    detectors: Detectors = [],  # noqa: B006
    events: EventsFile = EVENTS,
    keep_days: KeepDays = 30.0,
    keep_text: KeepText = False,
    webhooks: Webhooks = [],  # noqa: B006
    settings: Settings = [],  # noqa: B006
) -> None:
    """Run a proxy that screens a model server's traffic.

    It stands between clients and an OpenAI-compatible server, passes everything on, and lets detectors read requests
    and replies.
    """
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
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port on which gateways connect.")] = 8792,
    admin_port: AdminPort = 8793,
    mode: Annotated[
        str,
        typer.Option(
            help="Answer to the gateway about flagged texts: log always lets them pass and records them, block says no."
        ),
    ] = "block",
    fail_closed: FailClosed = False,
    events: EventsFile = EVENTS,
    keep_days: KeepDays = 30.0,
    keep_text: KeepText = False,
    webhooks: Webhooks = [],  # noqa: B006
    settings: Settings = [],  # noqa: B006
) -> None:
    """Answer gateways that ask whether a text may pass.

    It speaks LiteLLM's generic guardrail API, and a plain one.
    """
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
    """Make the detectors that an operator names. One of another package may fail in any way.

    Args:
        specifications: the values of --detector, such as "regex:rules.txt".

    Raises:
        UserError: a detector cannot be made.
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
    """Read the rules and receivers of alarms; return them, and the settings that are about other things."""
    with _extra("webhook"):
        from undertow.monitor.watching import AlarmPlan, alarm_rules
        from undertow.monitor.webhooks import parse_webhook

    rules, rest = alarm_rules(settings)
    return AlarmPlan(rules, tuple(map(parse_webhook, webhooks))), rest
