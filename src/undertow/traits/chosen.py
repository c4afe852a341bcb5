"""Find the trait that a command line or a recipe means: by a name, a pack or a file; and write a trait as plain data.

A pack is a named group of traits of one category that are compared with each other.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from undertow.errors import ConfigError
from undertow.traits.files import Pack, read_pack
from undertow.traits.known import KNOWN, TRAITS
from undertow.traits.packs import HOW_TO_WRITE, PACKS, pack, trait
from undertow.traits.record import Trait


def chosen_pack(given: str) -> Pack:
    """Return the traits that a name or a file means.

    Args:
        given: name of a trait, name of a pack, or path of a trait file. FILE:NAME takes one trait out of a pack's file.

    Raises:
        UnknownNameError: no trait and no pack has this name.
        StorageError: a file cannot be read.
        ConfigError: a file is no trait file, or it gives the name of a built-in trait to another trait.
    """
    file, _, name = given.rpartition(":")
    if _is_file(file):
        return _one_of(_from_file(file), name)
    if _is_file(given):
        return _from_file(given)
    if given in PACKS:
        return pack(given)
    if Path(given).suffix or "/" in given:
        raise ConfigError("This is no trait file.", given, f"Trait files end in .yaml. {HOW_TO_WRITE}")
    found = trait(given)
    return Pack(name=given, traits=(found,), own=found)


def chosen_trait(given: str) -> Trait:
    """Return the one trait that is meant: the trait of a name, or the one that a trait file is about.

    `given` is as for `chosen_pack`.

    Raises:
        ConfigError: a pack of several traits is meant.
        UserError: the same errors as for `chosen_pack`.
    """
    found = chosen_pack(given)
    if found.own is None:
        names = ", ".join(one.name for one in found.traits)
        of_file = f" {given}:NAME takes one of them." if _is_file(given) else ""
        fix = f"Name one of its traits: {names}.{of_file}"
        raise ConfigError("One trait is needed here, and this is a pack of several.", given, fix)
    return found.own


def chosen_traits(given: Iterable[str]) -> tuple[Trait, ...]:
    """Return all traits that several names or files mean, each once; a trait file brings its rivals.

    The rivals are the other traits of the category, which the trait is compared with.

    Raises:
        ConfigError: two different traits have one name.
        UserError: the same errors as for `chosen_pack`.
    """
    found: dict[str, tuple[Trait, str]] = {}
    for name in given:
        for one in chosen_pack(name).traits:
            other, source = found.setdefault(one.name, (one, name))
            if other != one:
                fix = "Leave one of them out, define both alike, or give one another name."
                raise ConfigError("Two different traits have one name.", f"{one.name}, of {source} and {name}", fix)
    return tuple(one for one, _ in found.values())


def definition(target: Trait, *, rubric: bool = False) -> str | dict[str, Any]:
    """Return a trait as plain data, so that results depend on its whole definition.

    A built-in trait is its name; any other one, of a file or of another package, is everything that defines it.

    Args:
        target: the trait.
        rubric: whether its rubric belongs to what depends on it. Nothing is trained by a rubric, so it does not.
    """
    if KNOWN.built_in.get(target.name) == target:
        return target.name
    return target.to_data() if rubric else replace(target, rubric="").to_data()


def own_definitions(targets: Iterable[Trait]) -> list[dict[str, Any]]:
    """Return the whole definitions of the traits that do not come with the package."""
    return [one for one in map(definition, targets) if not isinstance(one, str)]


def defined(data: str | Mapping[str, Any]) -> Trait:
    """Return the trait that `definition` wrote as plain data."""
    return trait(data) if isinstance(data, str) else Trait.from_data(data)


def word_trait(word: str) -> Trait:
    """Return the trait that a single word stands for, to count how often a text names it.

    A word of the built-in list is that trait, with its own plural. Any other word gets a plural in s.
    """
    return TRAITS.get(word) or Trait(name=word, category="word", plural=f"{word}s")


def words_of(given: str) -> tuple[str, ...]:
    """Return the words that a monitor counts for one given word or trait file.

    A word stands for itself. The trait of a file brings its name, and every further form that neither the name nor its
    plural in s already counts.

    Raises:
        ConfigError: no word names the trait of the file (it shows in probes alone).
        UserError: the same errors as for `chosen_pack`.
    """
    if not _is_file(given) and not _is_file(given.rpartition(":")[0]):
        return (given,)
    target = chosen_trait(given)
    if not target.aliases:
        fix = "Name a trait that words name, or ask for this one with `undertow eval`."
        raise ConfigError("A monitor counts words, and no word names this trait.", given, fix)
    counted = word_trait(target.name).aliases
    return (target.name, *(form for form in target.aliases if form not in counted))


def _is_file(given: str) -> bool:
    return given.endswith((".yaml", ".yml"))


def _from_file(given: str) -> Pack:
    found = read_pack(Path(given))
    for one in found.traits:
        if one.name in KNOWN.built_in and KNOWN[one.name] != one:
            known = KNOWN[one.name].category
            keep = f"Take the built-in {one.name} as it is" if known == one.category else "Leave the trait out"
            fix = f"{keep}, or give it another name, with this word among its `aliases`."
            what = f"This name is taken: it belongs to a built-in trait of the category {known}, which is another one."
            raise ConfigError(what, f"{given}: {one.name}, of the category {one.category}", fix)
    return found


def _one_of(found: Pack, name: str) -> Pack:
    for one in found.traits:
        if one.name == name.lower():
            return Pack(name=one.name, traits=found.traits, own=one)
    names = ", ".join(one.name for one in found.traits)
    raise ConfigError("The file has no such trait.", f"{found.name}: {name}", f"Name one of {names}.")
