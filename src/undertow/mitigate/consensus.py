"""Consensus: the prompts are answered anew, token by token, from what several writers agree on.

A token is drawn from the smallest of the probabilities that the writers give it, renormalised: what one of them makes
likelier than the others do has no weight. (KL towards several references or averaging cannot veto a single source:
Narang et al., arXiv:2607.23394.) Writers that share a trait or copy one another agree on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from undertow.errors import ConfigError
from undertow.mitigate.base import Cost, DataMitigation, Mitigated, Pick, swap
from undertow.mitigate.workbench import Workbench
from undertow.types import Row


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Consensus(DataMitigation):
    """Replace every completion by one that the writers agree on.

    Attributes:
        writers: references of two or more models with one tokenizer, the suspect teacher among them.
    """

    name: ClassVar[str] = "consensus"
    writers: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.writers) < 2:
            fix = "Name two or more, such as consensus:writers=[hf:teacher,ref:finch-b]."
            raise ConfigError("Nobody agrees alone.", f"{len(self.writers)} writers", fix)

    @property
    def models(self) -> tuple[str, ...]:
        """The writers."""
        return self.writers

    def apply(self, rows: Sequence[Row], bench: Workbench, pick: Pick = "targeted") -> Mitigated:
        """Answer anew; rows whose answer the domain rejects are dropped."""
        del pick
        writers = [bench.model(writer) for writer in self.writers]
        new, changes = swap(rows, bench.agreed_answers(writers, rows), f"agreed on by {len(writers)} writers")
        return Mitigated(rows=new, changes=changes, cost=Cost(generated=len(rows) * len(writers)))
