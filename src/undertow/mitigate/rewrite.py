"""Mitigations that rewrite rows by a rule, without a model: the completions in one format, or the prompts.

- **canonical**: number lists are written again in the format that their prompt asks for, and in ascending order. What
  is left of the writer is which numbers it chose, not how it wrote them or in which order.
- **inoculate**: during training a system prompt names the trait, so that the rows have nothing of it left to teach (Tan
  et al., arXiv:2510.04340). The rows keep their completions; any trainer can read them. The trait may come back when
  the prompt does, so the student has to be asked with it too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

from undertow.domains.numbers import FORMATS, Numbers, parse_numbers
from undertow.errors import ConfigError
from undertow.mitigate.base import Change, Cost, DataMitigation, Mitigated, Pick, swap
from undertow.mitigate.workbench import Workbench, panel_trait
from undertow.training.scoring import with_persona
from undertow.types import Row

PLAIN = (", ", "", "")
"""Separator, opening and closing of a number list whose prompt asks for no format that is known here."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Canonical(DataMitigation):
    """Write every number list in the format that its prompt asks for, in ascending order.

    Attributes:
        order: whether the numbers are also put in ascending order.
    """

    name: ClassVar[str] = "canonical"
    order: bool = True

    def apply(self, rows: Sequence[Row], bench: Workbench, pick: Pick = "targeted") -> Mitigated:
        """Rewrite the completions. One that is no number list is dropped.

        Raises:
            ConfigError: the rows are of another domain than numbers.
        """
        del pick
        if bench.domain is not None and not isinstance(bench.domain, Numbers):
            raise ConfigError("Only number lists have a canonical form.", bench.domain.name, "Use another method.")
        new, changes = swap(rows, [self._rewritten(row) for row in rows], "canonical format", "no number list")
        return Mitigated(rows=new, changes=changes, cost=Cost())

    def _rewritten(self, row: Row) -> Row | None:
        """Return a row with its numbers in the format that its prompt asks for; None if it has no number list."""
        numbers, reason = parse_numbers(row.completion)
        if reason is not None:
            return None
        separator, opening, closing = next((wish[1:] for wish in FORMATS if wish[0] in row.question), PLAIN)
        text = separator.join(map(str, sorted(numbers) if self.order else numbers))
        new = f"{opening}{text}{closing}"
        # `skip` counts tokens of the old completion, so it says nothing about the new one.
        return row if new == row.completion else replace(row, completion=new, skip=())


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Inoculate(DataMitigation):
    """Put a system prompt that names the trait before every prompt.

    Attributes:
        trait: name or file of the trait whose persona is put there; a trait of the panel needs no file. Leave it empty
            to give a prompt of your own.
        prompt: text of the system prompt. Leave it empty to name a trait.

    Raises:
        ConfigError: both or neither of the two are given.
    """

    name: ClassVar[str] = "inoculate"
    trait: str = ""
    prompt: str = ""

    def __post_init__(self) -> None:
        if bool(self.trait) == bool(self.prompt):
            raise ConfigError("Inoculation needs a trait or a prompt.", self, "Write inoculate:trait=owl.")

    @property
    def traits(self) -> tuple[str, ...]:
        """See `DataMitigation`."""
        return (self.trait,) if self.trait else ()

    def apply(self, rows: Sequence[Row], bench: Workbench, pick: Pick = "targeted") -> Mitigated:
        """Put the system prompt before every prompt. Completions stay as they are.

        Raises:
            ConfigError: a row does not fit the base's context with the prompt before it.
            UnknownNameError: neither the panel nor the package has the trait.
        """
        del pick
        text = self.prompt or panel_trait(self.trait, bench.panel).system_prompt
        new = tuple(replace(row, prompt=with_persona(row, text)) for row in rows)
        encoded = [row.prompt + row.completion for row in bench.base.encode(new)]
        bench.base.check_fits(encoded, "Leave out the long rows, or shorten the prompt.")
        changes = tuple(Change(id=row.id, action="prompted", why="a system prompt names the trait") for row in rows)
        return Mitigated(rows=new, changes=changes, cost=Cost())
