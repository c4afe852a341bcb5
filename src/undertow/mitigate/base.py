"""What every data mitigation is: rows in; rows, a record of what was done to each, and what it cost out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike

from undertow.mitigate.workbench import Workbench
from undertow.seeds import derive
from undertow.stats.checks import check_fraction, finite_array
from undertow.types import Row

Pick = Literal["targeted", "random", "bottom"]
"""What a mitigation that chooses acts on: what it ranks first, as much drawn at random, or what it ranks last."""

Action = Literal["kept", "dropped", "replaced", "masked", "prompted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What was done to one row.

    Attributes:
        id: of the row.
        action: `kept` as it was, `dropped`, `replaced` by another completion, `masked` (some tokens are not learnt), or
            `prompted` (its prompt changed).
        why: in words.
        score: what it was ranked by, if it was.
    """

    id: str
    action: Action
    why: str = ""
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a mitigation needs.

    Attributes:
        generated: completions that a model wrote.
        scored: rows that a model read, counted once for each model.
        trained: models that were trained.
    """

    generated: int = 0
    scored: int = 0
    trained: int = 0

    def __str__(self) -> str:
        return f"{self.generated} rows generated, {self.scored} row readings, {self.trained} models trained"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mitigated:
    """The result.

    Attributes:
        rows: what is to be trained on.
        changes: one record for each row that came in, in their order.
        cost: of making it.
    """

    rows: tuple[Row, ...]
    changes: tuple[Change, ...]
    cost: Cost

    @property
    def changed(self) -> float:
        """Share of the rows that did not stay as they were."""
        return sum(one.action != "kept" for one in self.changes) / max(1, len(self.changes))


@dataclass(frozen=True, slots=True, kw_only=True)
class DataMitigation(ABC):
    """A way to change rows before anyone trains on them; its settings are its fields."""

    name: ClassVar[str]
    """Name on the command line."""

    random_arm: ClassVar[str] = ""
    """What is done at random for comparison, in words; empty if there is nothing to draw."""

    chooses: ClassVar[bool] = False
    """Whether it ranks rows or tokens, so that there is a bottom of the ranking too."""

    @property
    def models(self) -> tuple[str, ...]:
        """References of the models that it names, besides the base."""
        return ()

    @abstractmethod
    def apply(self, rows: Sequence[Row], bench: Workbench, pick: Pick = "targeted") -> Mitigated:
        """Change the rows.

        Args:
            rows: the suspect rows.
            bench: the base, the panel and whatever else it needs.
            pick: `random` and `bottom` are for comparison; see `random_arm` and `chooses`.

        Raises:
            UserError: the rows do not fit the models, or a model cannot be loaded.
        """


def chosen(scores: ArrayLike, share: float, pick: Pick, seed: int) -> frozenset[int]:
    """Return the places of a share of the scores, rounded down: the highest, as many at random, or the lowest.

    Ties go by place.

    Raises:
        ConfigError: the share lies outside (0, 1).
    """
    check_fraction("share", share)
    array = finite_array("scores", scores)
    if pick == "random":
        order = np.random.default_rng(derive(seed, "chosen")).permutation(array.size)
    else:
        order = np.argsort(array if pick == "bottom" else -array, kind="stable")
    return frozenset(order[: int(share * array.size)].tolist())


def swap(
    rows: Sequence[Row], others: Sequence[Row | None], why: str, missing: str = "no answer to its prompt was accepted"
) -> tuple[tuple[Row, ...], tuple[Change, ...]]:
    """Give each row the completion of another; a row whose other is None is dropped."""
    pairs = list(zip(rows, others, strict=True))
    changes = (
        Change(id=row.id, action="dropped", why=missing)
        if other is None
        else Change(id=row.id, action="kept" if other == row else "replaced", why="" if other == row else why)
        for row, other in pairs
    )
    return tuple(other for _, other in pairs if other is not None), tuple(changes)
