"""Packs of traits that come with the package, and every trait by its name."""

from functools import cache
from importlib import resources
from pathlib import Path

from undertow.errors import UnknownNameError, unknown_name
from undertow.traits.files import Pack, read_pack
from undertow.traits.known import KNOWN, panel
from undertow.traits.record import Trait

_FILES = ("brands",)

HOW_TO_WRITE = "For a trait of your own, write a file (docs/traits.md) and give its name: --trait my-trait.yaml."


@cache
def pack(name: str) -> Pack:
    """Return the pack of a name: "animals", "trees", or one that is a file of the package.

    Raises:
        UnknownNameError: no pack has this name.
    """
    if name in _FILES:
        return read_pack(Path(str(resources.files("undertow"))) / "packs" / f"{name}.yaml")
    if name not in _PANELS:
        raise unknown_name("pack", name, PACKS)
    return Pack(name=name, traits=panel(_PANELS[name]))


_PANELS = {"animals": "animal", "trees": "tree"}
PACKS = (*_PANELS, *_FILES)


def trait(name: str) -> Trait:
    """Return the trait of a name, built in, of a packaged file or of a plug-in.

    Raises:
        UnknownNameError: no trait has this name; the nearest names are suggested.
    """
    if name in KNOWN:
        return KNOWN[name]
    packed = {one.name: one for file in _FILES for one in pack(file).traits}
    if name in packed:
        return packed[name]
    error = unknown_name("trait", name, [*KNOWN, *packed])
    raise UnknownNameError(error.what, error.value, f"{error.fix} {HOW_TO_WRITE}")
