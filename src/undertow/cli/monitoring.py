"""The commands that watch what is deployed."""

import os
from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

TOKEN = "UNDERTOW_ADMIN_TOKEN"

monitor = typer.Typer(no_args_is_help=True, help="Is the deployed model drifting towards a trait?")


@monitor.command()
def serve(
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
    events: Annotated[Path, typer.Option(help="Database of events.")] = Path("monitor.sqlite"),
    keep_days: Annotated[float, typer.Option(min=0.0, help="Age at which events are deleted.")] = 30.0,
    keep_text: Annotated[bool, typer.Option("--keep-text", help="Store what detectors read, keys never.")] = False,
    settings: Annotated[list[str], typer.Option("--set", help="A limit: key=value, such as concurrent=64.")] = [],  # noqa: B006
) -> None:
    """Stand between clients and a model server, pass everything on, and let detectors read chat completions."""
    from undertow.errors import MissingExtraError
    from undertow.monitor.settings import build_limits, build_policy, parse_upstream

    target, limits = parse_upstream(upstream), build_limits(settings)
    policy = build_policy(mode, fail_closed, keep_text)
    from undertow.monitor.detectors.base import detector

    made = [detector(spec) for spec in detectors]
    try:
        from undertow.monitor.serve import Service
        from undertow.monitor.serve import serve as run
    except ModuleNotFoundError as error:
        fix = "Run: pip install 'undertow[monitor]'"
        raise MissingExtraError("The proxy needs a library that is not installed.", error.name, fix) from error

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
    run(service, lambda front, back: print(f"proxy: {front}\npage: {back}\nevents: {events}", flush=True))
