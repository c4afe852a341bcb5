"""Settings of the proxy: bounds, and what is done with verdicts."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal, cast, get_args

from undertow.errors import ConfigError, unknown_name
from undertow.stats.checks import check_positive

Mode = Literal["log", "flag", "block"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on one exchange.

    Attributes:
        request_bytes: of a body; a larger one is refused (413).
        reply_bytes: of a reply that detectors read; a larger one passes unread, or is refused with `fail_closed`.
        concurrent: exchanges under way at once; further ones are refused (503).
        body_s: for a client to send its request (408).
        connect_s: to reach the upstream (504).
        read_s: between two pieces of the upstream's reply (504 before the first).
        client_s: for a client to take one piece.
        detector_s: for one detector and one text.
    """

    request_bytes: int = 32_000_000
    reply_bytes: int = 8_000_000
    concurrent: int = 512
    body_s: float = 60.0
    connect_s: float = 10.0
    read_s: float = 600.0
    client_s: float = 60.0
    detector_s: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is done with what detectors say.

    Attributes:
        mode: log, flag or block.
        fail_closed: in the mode block, whether an exchange that a detector could not judge is refused.
        keep_text: whether the events hold the texts that the detectors read.
    """

    mode: Mode = "log"
    fail_closed: bool = False
    keep_text: bool = False


def build_limits(settings: Iterable[str]) -> Limits:
    """Return the limits with some of them set.

    Args:
        settings: of the form `key=value`.

    Raises:
        UnknownNameError: there is no such limit.
        ConfigError: a value is not a positive number.
    """
    kinds: dict[str, type[Any]] = {one.name: type(one.default) for one in fields(Limits)}
    given: dict[str, Any] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        if key not in kinds:
            raise unknown_name("limit", key, kinds)
        try:
            given[key] = kinds[key](value)
        except ValueError as error:
            raise ConfigError(f"The limit {key} is not a number.", setting, f"Write {key}=100.") from error
        check_positive(f"limit {key}", given[key])
    return Limits(**given)


def build_policy(mode: str, fail_closed: bool, keep_text: bool) -> Policy:
    """Return the policy.

    Raises:
        UnknownNameError: there is no such mode.
        ConfigError: `fail_closed` in another mode than block.
    """
    if mode not in get_args(Mode):
        raise unknown_name("mode", mode, get_args(Mode))
    if fail_closed and mode != "block":
        raise ConfigError("Only the mode block can refuse what was not judged.", mode, "Add --mode block.")
    return Policy(mode=cast(Mode, mode), fail_closed=fail_closed, keep_text=keep_text)
