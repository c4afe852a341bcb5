"""Regular expressions, each a rule with a name."""

from collections.abc import Mapping
from typing import Any, final

import regex

from undertow.errors import ConfigError, EmptyDataError
from undertow.monitor.detectors.base import AbstractDetector, Verdict

LIMIT_S = 0.5
"""Time for one expression on one text; `re` has no such limit and would stop every other thread meanwhile."""


@final
class ExpressionDetector(AbstractDetector):
    """Flags a text in which any of the expressions is found.

    Args:
        rules: expression by name. The name is stored, the text that matched is not.
        name: of the detector.

    Raises:
        EmptyDataError: there are no rules.
        ConfigError: an expression cannot be read.
    """

    def __init__(self, rules: Mapping[str, str], name: str = "regex") -> None:
        if not rules:
            raise EmptyDataError("There are no expressions.", name, "Give a YAML file with lines of rule: expression.")
        self.name = name
        self._rules: dict[str, Any] = {}
        for rule, expression in rules.items():
            try:
                self._rules[rule] = regex.compile(expression)
            except (regex.error, TypeError) as error:
                raise ConfigError(
                    f"The expression of the rule {rule!r} cannot be read ({error}).", expression, "Correct it."
                ) from error

    def judge(self, text: str) -> Verdict:
        """Return the first rule whose expression is found.

        Raises:
            TimeoutError: an expression took longer than `LIMIT_S`.
        """
        for rule, expression in self._rules.items():
            if expression.search(text, timeout=LIMIT_S, concurrent=True):
                return Verdict(True, rule)
        return Verdict(False)
