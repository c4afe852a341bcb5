"""Grids: every combination of a few settings' values as the variants of one sweep.

`trait=owl,cat` and `seed=0..9` make twenty variants, named "trait=owl, seed=0" and so on. Values are YAML, as those of
`--set` are; `a..b` stands for every integer from a to b.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import yaml

from undertow.errors import ConfigError
from undertow.experiment.recipe import merge, nested, read_recipe
from undertow.experiment.sweep import Sweep, build_sweep

MOST_VARIANTS = 1000
"""Each variant has a run folder and a row of the report; thousands of them are a list that nobody reads."""

LISTS = {"trait": "traits", "base": "bases"}
"""Keys for a list of one entry: `trait=owl` is `traits=[owl]`."""

_RANGE = re.compile(r"(-?[0-9]{1,9})\.\.(-?[0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class Axis:
    """One setting and the values that it takes.

    Attributes:
        key: as the user wrote it, such as "trait" or "student.rank".
        values: at least one, plain data.
    """

    key: str
    values: tuple[Any, ...]

    @property
    def setting(self) -> str:
        """The key of the recipe that it sets."""
        return LISTS.get(self.key, self.key)

    def changes(self, value: object) -> dict[str, Any]:
        """Return the nested settings of one of the values."""
        return nested(self.setting, [value] if self.key in LISTS else value)

    def label(self, value: object) -> str:
        """Return one of the values with its key, such as "seed=3"."""
        return f"{self.key}={value if isinstance(value, str) else json.dumps(value, default=str)}"


def parse_axis(text: str) -> Axis:
    """Turn `KEY=VALUES` into an axis.

    Args:
        text: a key as `--set` takes it or one of `LISTS`, and a list such as `owl,cat`, `0..9` or `[0],[0,1]`.

    Raises:
        ConfigError: it has another form, has no value or the same twice, or a range runs backwards.
    """
    key, equals, values = text.partition("=")
    if not equals or not key.strip():
        fix = "Write for example --grid trait=owl,cat or --grid seed=0..9."
        raise ConfigError("A grid has the form KEY=VALUES.", text, fix)
    try:
        listed: object = yaml.safe_load(f"[{values}]")
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError("The values of a grid are not a list in YAML.", text, "Put commas between them.") from error
    found = [one for value in cast(list[Any], listed) for one in _expanded(value, text)]
    if not found:
        raise ConfigError("A grid needs values.", text, "Write for example --grid seed=0..9.")
    axis = Axis(key.strip(), tuple(found))
    labels = [axis.label(value) for value in found]
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise ConfigError("A grid names the same value twice.", twice, "Leave one of them out.")
    return axis


def _expanded(value: object, text: str) -> Sequence[Any]:
    """Return the integers of a range, or the value itself."""
    found = _RANGE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return [value]
    first, last = int(found[1]), int(found[2])
    if last < first:
        raise ConfigError("A range of a grid runs backwards.", text, f"Write {last}..{first}.")
    _refuse_too_many(last - first + 1)
    return range(first, last + 1)


def parse_grid(texts: Sequence[str]) -> tuple[Axis, ...]:
    """Turn every `KEY=VALUES` into an axis.

    Raises:
        ConfigError: one of them is not valid, two set the same setting, or they make more than `MOST_VARIANTS`.
    """
    axes = tuple(map(parse_axis, texts))
    for one, other in itertools.permutations(axes, 2):
        if f"{one.setting}.".startswith(f"{other.setting}."):
            what, fix = "Two grids set the same setting.", "Put all of its values into one --grid."
            raise ConfigError(what, f"--grid {other.key} and --grid {one.key}", fix)
    n_variants = 1
    for axis in axes:
        n_variants *= len(axis.values)
    _refuse_too_many(n_variants)
    return axes


def _refuse_too_many(n_variants: int) -> None:
    if n_variants > MOST_VARIANTS:
        fix = "Give fewer values, or run the sweep in parts: stages that two parts share are computed once."
        raise ConfigError(f"A sweep has at most {MOST_VARIANTS} variants.", n_variants, fix)


def load_sweep(where: str, grid: Sequence[str], settings: Sequence[str] = (), tier: str | None = None) -> Sweep:
    """Read a recipe and lay a grid over it; variants that it has of its own are each combined with every point.

    Args:
        where: path of a YAML file, or a packaged name.
        grid: texts of the form `KEY=VALUES`; may be empty if the recipe has variants.
        settings: overrides of the form `key.sub=value`.
        tier: which of the recipe's tiers.

    Raises:
        UnknownNameError: there is no such recipe, key, tier or trait.
        ConfigError: a value is not valid, or there is nothing to sweep over.
    """
    data = read_recipe(where, settings, tier)
    if "analysis" in data:
        fix = "Give a recipe with teachers and students, or use `undertow run`."
        raise ConfigError("A sweep takes studies of language models only.", f"{where}: analysis", fix)
    axes = parse_grid(grid)
    if not axes and "variants" not in data:
        raise ConfigError("There is nothing to sweep over.", where, "Add for example --grid seed=0..9.")
    if not axes:
        return build_sweep(data)
    own = data.get("variants", {"": {}})
    if not isinstance(own, Mapping):
        return build_sweep(data)  # which says what is wrong
    variants = dict(_product(cast(Mapping[str, Any], own), axes))
    _refuse_too_many(len(variants))
    return build_sweep({**data, "variants": variants})


def _product(own: Mapping[str, Any], axes: Sequence[Axis]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and settings of every variant, the last axis changing first."""
    for name, settings in own.items():
        for values in itertools.product(*(axis.values for axis in axes)):
            point = list(zip(axes, values, strict=True))
            changes = dict(settings or {})
            for axis, value in point:
                changes = merge(changes, axis.changes(value))
            labels = [axis.label(value) for axis, value in point]
            yield ", ".join([str(name), *labels] if name else labels), changes
