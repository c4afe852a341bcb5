"""A detector of regular expressions, each a rule with a name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, final

import regex

from undertow.errors import ConfigError, EmptyDataError
from undertow.monitor.detectors.base import AbstractDetector, Verdict
from undertow.monitor.yaml_files import read_yaml

LIMIT_S = 0.5
"""Most seconds for one expression on one text; Python's `re` has no such limit and would stop every other thread
meanwhile."""


@final
class ExpressionDetector(AbstractDetector):
    """Flags a text in which any of the expressions is found.

    Args:
        rules: regular expression of each rule by its name. The name is stored, the text that matched is not.
        name: name of the detector in the events.

    Raises:
        EmptyDataError: there are no rules.
        ConfigError: an expression is not valid.
    """

    threads = 64

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

    @classmethod
    def read(cls, settings: str, name: str) -> "ExpressionDetector":
        """Make the detector from the settings of regex:FILE, a YAML file with lines of rule: expression.

        Args:
            settings: the part of the specification behind the colon.
            name: the whole specification, which becomes the detector's name.

        Raises:
            ConfigError: the file cannot be read, or has no such lines.
            EmptyDataError: the file has no rules.
        """
        path = Path(settings)
        data = read_yaml(path, "The expressions")
        items = cast(dict[Any, Any], data) if isinstance(data, dict) else None
        if items is None or not all(isinstance(one, str) for pair in items.items() for one in pair):
            raise ConfigError("The file has no lines of rule: expression.", path, "Quote the expressions.")
        return cls(items, name)

    def judge(self, text: str) -> Verdict:
        """Flag the text by the first rule whose expression is found in it.

        Raises:
            TimeoutError: an expression took longer than `LIMIT_S`.
        """
        for rule, expression in self._rules.items():
            if expression.search(text, timeout=LIMIT_S, concurrent=True):
                return Verdict(True, rule)
        return Verdict(False)
