"""Domains by name."""

from collections.abc import Callable, Mapping
from typing import Any

from undertow.domains.base import AbstractDomain
from undertow.domains.code import Code
from undertow.domains.cot import ChainOfThought
from undertow.domains.numbers import Numbers
from undertow.errors import ConfigError, unknown_name

DOMAINS: Mapping[str, Callable[..., AbstractDomain]] = {"numbers": Numbers, "code": Code, "cot": ChainOfThought}
"""Every domain and how it is made."""


def domain(name: str, **options: Any) -> AbstractDomain:
    """Make the domain of this name.

    Raises:
        UnknownNameError: there is no such domain.
        ConfigError: the domain has no such option.
    """
    if name not in DOMAINS:
        raise unknown_name("domain", name, DOMAINS)
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    try:
        return DOMAINS[name](**plain)
    except TypeError as error:
        raise ConfigError(
            f"The domain {name} has no such option.", str(error), "See `undertow list domains`."
        ) from error
