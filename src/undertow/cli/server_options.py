"""Options of every command that asks a model behind a server: how its requests are written."""

from typing import TYPE_CHECKING, Annotated

import typer

from undertow.errors import ConfigError

if TYPE_CHECKING:
    from undertow.models.dialects import Dialect

TokenLimitName = Annotated[
    str | None,
    typer.Option(help="What the server calls the longest answer; max_completion_tokens is tried by itself (api:)."),
]
NoSeed = Annotated[bool, typer.Option("--no-seed", help="Send no seed (api: models).")]
ExtraBody = Annotated[
    str | None,
    typer.Option(help="JSON object that is added to each request; a value of null leaves a part out (api: models)."),
]


def given_dialect(served: bool, limit: str | None, no_seed: bool, extra: str | None) -> "Dialect":
    """Return how requests are written, as far as options say it.

    Args:
        served: whether any model stands behind a server.
        limit: name of the longest answer.
        no_seed: whether no seed is sent.
        extra: JSON object of further parts.

    Raises:
        ConfigError: an option has no such value, or no model takes requests.
    """
    from undertow.models.dialects import Dialect

    named = [
        name
        for name, value in (("--token-limit-name", limit), ("--no-seed", no_seed), ("--extra-body", extra))
        if value not in (None, False)
    ]
    if named and not served:
        fix = "Leave it out, or give an api: model."
        raise ConfigError("Only models behind a server take requests.", ", ".join(named), fix)
    return Dialect.given(limit=limit, seed=not no_seed, extra=extra)
