"""Traits of a recipe that do not come with the package: their files are read once, and the recipe holds them whole.

So the `config.yaml` of a run folder can be run again without the files, workers need none of them, and a stage's
fingerprint depends on what a trait is instead of on its name.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from undertow.errors import ConfigError
from undertow.traits import Trait, chosen_pack, definition


def resolved(data: Mapping[str, Any]) -> dict[str, Any]:
    """Replace trait files and packs in a recipe by names, and put their definitions under `own`.

    Args:
        data: the recipe as plain data.

    Raises:
        UserError: a file is not a trait file, or there is no trait of a name.
    """
    own = {Trait.from_data(one).name: one for one in _listed(data.get("own"))}
    found = _with_traits(data, lambda given: _named(given, own))
    return {**found, "own": list(own.values())} if own else found


def _with_traits(data: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """Return a recipe's plain data with its two lists of traits changed by a function, where they exist."""
    found = {**data, **({"traits": change(data["traits"])} if "traits" in data else {})}
    evaluation = found.get("evaluation")
    if isinstance(evaluation, Mapping) and "targets" in evaluation:
        asked = cast(Mapping[str, Any], evaluation)
        found["evaluation"] = {**asked, "targets": change(asked["targets"])}
    return found


def _listed(value: Any) -> Sequence[Any]:
    """Return a list or tuple as it is, and an empty one for anything else."""
    return cast(Sequence[Any], value) if isinstance(value, (list, tuple)) else ()


def _named(given: Any, own: dict[str, Any]) -> Any:
    """Return the names of traits, and add definitions of those that are not built in. Other data stay as they are."""
    if not isinstance(given, (list, tuple)):
        return given
    names: list[Any] = []
    for entry in cast(Sequence[Any], given):
        if not isinstance(entry, str) or entry in own:
            names.append(entry)
            continue
        found = chosen_pack(entry)
        for one in found.traits if found.own is None else (found.own,):
            names.append(one.name)
            _define(one, own)
    return list(dict.fromkeys(names)) if all(isinstance(one, str) for one in names) else names


def _define(one: Trait, own: dict[str, Any]) -> None:
    """Add the definition of a trait that is not built in, and refuse a second one of the same name."""
    data = definition(one, rubric=True)
    if isinstance(data, str):
        return
    if one.name in own and Trait.from_data(own[one.name]) != one:
        raise ConfigError("Two different traits have one name.", one.name, "Give one of them another name.")
    own[one.name] = data


def found_beside(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a recipe's plain data with trait files that lie beside the recipe's file given by their path.

    Args:
        data: the recipe as plain data.
        folder: folder of the recipe's file.
    """

    def found(given: Any) -> Any:
        if not isinstance(given, list):
            return given
        return [_from(folder, entry) for entry in cast(list[Any], given)]

    return _with_traits(data, found)


def _from(folder: Path, entry: Any) -> Any:
    """Return an entry with the folder before it, if it names a file there."""
    if not isinstance(entry, str) or ".y" not in entry or Path(entry).is_absolute():
        return entry
    file, colon, name = entry.rpartition(":") if not entry.endswith((".yaml", ".yml")) else (entry, "", "")
    return f"{folder / file}{colon}{name}" if (folder / file).is_file() else entry
