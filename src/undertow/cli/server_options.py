"""Options of every command that asks a model behind a server: how its requests are written."""

from typing import TYPE_CHECKING, Annotated

import typer

from undertow.errors import ConfigError

if TYPE_CHECKING:
    from undertow.models.dialects import Dialect

TokenLimitName = Annotated[
    str | None,
    typer.Option(
        help="For models behind a server: name of the request's field for the longest answer. By default max_tokens, "
        "then max_completion_tokens, is tried."
    ),
]
NoSeed = Annotated[
    bool,
    typer.Option("--no-seed", help="For models behind a server: send no random seed, for servers that refuse one."),
]
ExtraBody = Annotated[
    str | None,
    typer.Option(
        help="For models behind a server: JSON object whose keys are added to every request. A value of null "
        "removes a key."
    ),
]


def given_dialect(served: bool, limit: str | None, no_seed: bool, extra: str | None) -> "Dialect":
    """Return how requests are written, as far as the options say it.

    Args:
        served: whether any of the command's models is behind a server.
        limit: name of the request's field for the longest answer. None lets it be found out.
        no_seed: whether no random seed is sent.
        extra: JSON object with further keys of the request. None adds none.

    Raises:
        ConfigError: an option has a wrong value, or none of the models is behind a server.
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
