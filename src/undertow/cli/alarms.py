"""`undertow monitor alarms`: show alarms and close them."""

import time
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from undertow.cli.monitoring import EVENTS, monitor
from undertow.cli.options import Json, show
from undertow.errors import ConfigError

OPEN = 1
_SHOWN = 50


@monitor.command("alarms")
def alarms_command(
    events: Annotated[
        Path,
        typer.Argument(
            help="Database in which `monitor serve`, `screen` or `canaries` keeps its events (their option --events)."
        ),
    ] = EVENTS,
    close: Annotated[
        int | None, typer.Option(help="Close the alarm of this number, once somebody has understood it. Needs --by.")
    ] = None,
    by: Annotated[str, typer.Option(help="Name of the person who closes the alarm; it is stored with it.")] = "",
    as_json: Json = False,
) -> None:
    """Show the last alarms, and close one.

    For each alarm it says when it was raised, whether it is closed and by whom, and which receivers have not been told
    yet. The exit code is 1 while an alarm is open.
    """
    from undertow.monitor.alarms import close_alarm, keep_alarms, last_alarms, open_alarms, tellings
    from undertow.monitor.database import connect

    if not events.is_file():
        raise ConfigError("There is no database of events here.", events, "Give the file of `undertow monitor serve`.")
    with closing(connect(events)) as connection:
        keep_alarms(connection)
        if close is not None:
            if not by.strip():
                raise ConfigError("Nobody closes the alarm.", repr(by), "Give --by and the name of who understood it.")
            with connection:
                closed = close_alarm(connection, {"id": close}, by.strip())
            if not closed:
                raise ConfigError("There is no open alarm of this number.", close, "Take one that is shown as open.")
        found, told = last_alarms(connection, _SHOWN), tellings(connection)
        still = len(open_alarms(connection))
    lines = [
        f"{one.id:4} {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(one.at))} "
        f"{'open' if one.closed is None else f'closed by {one.closed_by}'}: {one.finding.headline}"
        for one in found
    ]
    lines += [
        f"     alarm {one.alarm} was not taken by {one.shown} yet: {one.failure}, {one.tries} tries"
        for one in told
        if one.at is None
    ]
    state = {
        "schema": "undertow.alarms/1",
        "open": still,
        "alarms": [{**one.to_json(), "closed": one.closed, "closed_by": one.closed_by} for one in found],
    }
    show(state, as_json, lines or ["no alarm so far; that is not a statement about safety"])
    if still:
        raise typer.Exit(OPEN)
