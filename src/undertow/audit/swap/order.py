"""What is asked of a swap, in one line: `writer`, or `score:parts=4,seeds=3,other=ref:finch-b`."""

import re
from dataclasses import dataclass, fields
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from undertow.errors import ConfigError, unknown_name
from undertow.stats.checks import check_count, check_fraction

Way = Literal["swap", "drop", "alone"]
"""What is done with a part of the rows: its answers are replaced, it is left out, or all others are."""

FEWEST_RANDOM = 4
"""Random parts at least: their spread is the noise that every subset is held against."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapOrder:
    """How rows are swapped.

    Attributes:
        by: the key of the rows that names the subsets, or "score".
        parts: parts of the ranking, where rows are cut by score.
        seeds: students of each arm.
        randoms: random parts of each size, one student each.
        other: reference of the writer whose answers stand in; None takes the base.
        drop: whether the same parts are left out too, for comparison.
        alone: whether students are trained on the same parts alone too.
        steps: updates of each student. Few are enough: after many, which rows happened to be drawn, and in which order
            they were met, moves a margin as much as a trait in a part of them does.
        alpha: error of all subsets together.
        seed: of every draw.

    Raises:
        ConfigError: a number is out of range.
    """

    by: str
    parts: int = 10
    seeds: int = 2
    randoms: int = 8
    other: str | None = None
    drop: bool = True
    alone: bool = True
    steps: int = 40
    alpha: float = 0.05
    seed: int = 0

    @property
    def ways(self) -> tuple[Way, ...]:
        """What is done with each part."""
        return ("swap", *(("drop",) if self.drop else ()), *(("alone",) if self.alone else ()))

    def __post_init__(self) -> None:
        check_count("number of seeds", self.seeds, 2)
        check_count("number of updates", self.steps, 1)
        check_count("number of random parts", self.randoms, FEWEST_RANDOM)
        check_fraction("alpha", self.alpha)


def swap_order(text: str, seed: int = 0) -> SwapOrder:
    """Read an order from its line: the key, and settings behind a colon.

    Raises:
        ConfigError: there is no key, or a setting has no such value.
        UnknownNameError: there is no such setting.
    """
    by, _, rest = text.partition(":")
    if not by.strip():
        fix = "Name the key of the rows that says where each comes from, or score."
        raise ConfigError("Nothing says how the rows are cut.", repr(text), fix)
    known = {one.name for one in fields(SwapOrder)} - {"by", "seed"}
    given: dict[str, Any] = {}
    for part in filter(None, re.split(r",(?=\w+=)", rest)):
        name, equals, value = part.partition("=")
        if name.strip() not in known:
            raise unknown_name("setting of a swap", name.strip(), known)
        if not equals or not value.strip():
            raise ConfigError("A setting of a swap has no value.", part, "Write name=value, such as seeds=3.")
        given[name.strip()] = value.strip()
    try:
        return TypeAdapter(SwapOrder).validate_python({"by": by.strip(), "seed": seed, **given})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"This is no value of {where}.", first.get("input"), f"{first['msg']}.") from error
