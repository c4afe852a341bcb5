"""What is asked of a swap, in one line of text: `writer`, or `score:parts=4,seeds=3,other=ref:finch-b`.

A swap replaces the answers of a part of the rows and trains again, to see whether that part carries a trait.

An **arm** is a group of students that are trained on the same version of the rows.
"""

import re
from dataclasses import dataclass, fields
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from undertow.errors import ConfigError, unknown_name
from undertow.stats.checks import check_count, check_fraction

Way = Literal["swap", "drop", "alone"]
"""What is done with a part of the rows: its answers are replaced, it is left out, or all other rows are left out."""

FEWEST_RANDOM = 4
"""How many random parts there must be: their spread is the noise with which every subset is compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapOrder:
    """How rows are cut into subsets and swapped.

    Attributes:
        by: key of the rows whose values name the subsets, or "score" to cut a ranking.
        parts: into how many parts a ranking is cut, where rows are cut by score.
        seeds: how many students each arm has, at least 2.
        randoms: how many random parts of each size there are, each with students of every seed.
        other: reference of the model whose answers replace the rows'. None takes the base.
        drop: whether students are also trained with the same parts left out, for comparison.
        alone: whether students are also trained on the same parts alone.
        steps: how many updates each student is trained for. Few are enough: after many, which rows happened to be drawn
            and in which order they were met moves a margin as much as a trait in a part of them does.
        alpha: error probability of all subsets together, in (0, 1), for each way by itself. That any of the three ways
            names a subset wrongly is at most three times as probable.
        seed: random seed of every draw.

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
        """What is done with each part: "swap", and as ordered "drop" and "alone"."""
        return ("swap", *(("drop",) if self.drop else ()), *(("alone",) if self.alone else ()))

    def __post_init__(self) -> None:
        check_count("number of seeds", self.seeds, 2)
        check_count("number of updates", self.steps, 1)
        check_count("number of random parts", self.randoms, FEWEST_RANDOM)
        check_fraction("alpha", self.alpha)


def swap_order(text: str, seed: int = 0) -> SwapOrder:
    """Read an order from its line of text: the key, and settings after a colon.

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
