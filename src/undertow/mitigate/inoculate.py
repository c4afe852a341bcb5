"""Inoculation: during training a system prompt names the trait, so that the rows have nothing of it left to teach.

Tan et al., arXiv:2510.04340. The rows keep their completions; any trainer can read them. The trait may come back when
the prompt does, so the student has to be asked with it too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

from undertow.errors import ConfigError
from undertow.mitigate.base import Change, Cost, DataMitigation, Mitigated, Pick
from undertow.mitigate.workbench import Workbench
from undertow.training.scoring import with_persona
from undertow.traits import trait
from undertow.types import Row


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Inoculate(DataMitigation):
    """Put a system prompt before every prompt.

    Attributes:
        trait: whose persona it is; empty with a prompt of your own.
        prompt: the text itself.
    """

    name: ClassVar[str] = "inoculate"
    trait: str = ""
    prompt: str = ""

    def __post_init__(self) -> None:
        if bool(self.trait) == bool(self.prompt):
            raise ConfigError("Inoculation needs a trait or a prompt.", self, "Write inoculate:trait=owl.")

    def apply(self, rows: Sequence[Row], bench: Workbench, pick: Pick = "targeted") -> Mitigated:
        """Change the prompts alone.

        Raises:
            ConfigError: a row is too long with the prompt before it.
        """
        del pick
        text = self.prompt or trait(self.trait).system_prompt
        new = tuple(replace(row, prompt=with_persona(row, text)) for row in rows)
        encoded = [row.prompt + row.completion for row in bench.base.encode(new)]
        bench.base.check_fits(encoded, "Leave out the long rows, or shorten the prompt.")
        changes = tuple(Change(id=row.id, action="prompted", why="a system prompt names the trait") for row in rows)
        return Mitigated(rows=new, changes=changes, cost=Cost())
