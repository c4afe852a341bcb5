"""The interface of data mitigations: they take rows, and return rows, a record of each change, and the cost.

A mitigation tries to take a trait out of suspect training rows (rows of which an audit or the user thinks that they
carry one), and to keep what else can be learnt from them.
"""

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
"""What a mitigation that chooses rows or tokens acts on: those that it ranks first, as many drawn at random, or those
that it ranks last. The last two are for comparison."""

Action = Literal["kept", "dropped", "replaced", "masked", "prompted"]
"""What was done to a row: see `Change`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Record of what was done to one row.

    Attributes:
        id: id of the row that came in.
        action: "kept" as it was, "dropped", "replaced" by another completion, "masked" (some tokens are not learnt), or
            "prompted" (its prompt was changed).
        why: reason in words; empty for a row that was kept.
        score: the score by which the row was ranked. None if it was not ranked.
    """

    id: str
    action: Action
    why: str = ""
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a mitigation costs in model runs.

    Attributes:
        generated: how many completions models wrote.
        scored: how many rows models read, counted once for each model.
        trained: how many models were trained.
    """

    generated: int = 0
    scored: int = 0
    trained: int = 0

    def __str__(self) -> str:
        return f"{self.generated} rows generated, {self.scored} row readings, {self.trained} models trained"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mitigated:
    """Result of a data mitigation.

    Attributes:
        rows: the rows to train on.
        changes: one record for each row that came in, in their order.
        cost: what making the result cost.
    """

    rows: tuple[Row, ...]
    changes: tuple[Change, ...]
    cost: Cost

    @property
    def changed(self) -> float:
        """Share of the incoming rows, between 0 and 1, that did not stay as they were."""
        return sum(one.action != "kept" for one in self.changes) / max(1, len(self.changes))


@dataclass(frozen=True, slots=True, kw_only=True)
class DataMitigation(ABC):
    """A way to change rows before a student is trained on them. Its settings are its fields."""

    name: ClassVar[str]
    """The mitigation's name on the command line."""

    random_arm: ClassVar[str] = ""
    """What is done at random for comparison, in words. Empty if the mitigation chooses nothing."""

    chooses: ClassVar[bool] = False
    """Whether the mitigation ranks rows or tokens, so that those ranked last can be acted on for comparison."""

    @property
    def models(self) -> tuple[str, ...]:
        """References of the models that the settings name, besides the base."""
        return ()

    @property
    def traits(self) -> tuple[str, ...]:
        """Names or files of the traits that the settings name."""
        return ()

    @abstractmethod
    def apply(self, rows: Sequence[Row], bench: Workbench, pick: Pick = "targeted") -> Mitigated:
        """Change the rows.

        Args:
            rows: the suspect rows, from which a trait is to be removed.
            bench: the base model, the panel of traits to look for, and the other tools.
            pick: what is acted on. "random" and "bottom" serve as comparison and exist where `random_arm` and `chooses`
                say so.

        Returns:
            The new rows, with a record of each change and the cost.

        Raises:
            UserError: the rows do not fit the models, or a model cannot be loaded.
        """


def chosen(scores: ArrayLike, share: float, pick: Pick, seed: int) -> frozenset[int]:
    """Return the places of a share of the scores, rounded down: the highest, as many at random, or the lowest.

    Of equal scores the earlier place comes first.

    Args:
        scores: one score for each row or token, float (n,).
        share: share of the places that is chosen, between 0 and 1.
        pick: "targeted" takes the highest scores, "bottom" the lowest, "random" draws places.
        seed: random seed of the draw, used by "random" alone.

    Raises:
        ConfigError: the share is not between 0 and 1.
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
    """Replace each row by another one. A row whose other one is None is dropped.

    Args:
        rows: the rows that came in.
        others: the new row for each of them, or None.
        why: reason of a replacement, in words.
        missing: reason of a drop, in words.

    Returns:
        The new rows, and a record for each row that came in.
    """
    pairs = list(zip(rows, others, strict=True))
    changes = (
        Change(id=row.id, action="dropped", why=missing)
        if other is None
        else Change(id=row.id, action="kept" if other == row else "replaced", why="" if other == row else why)
        for row, other in pairs
    )
    return tuple(other for _, other in pairs if other is not None), tuple(changes)
