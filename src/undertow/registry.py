"""Registries: built-in and plugged-in things of one kind by name, each imported when it is first asked for.

Another package adds one by an entry point, `name = "module:attribute"`, in the group of the kind. A plug-in that cannot
be loaded is named in a warning and left out; everything else works.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from operator import attrgetter
from typing import Any, Generic, TypeVar, cast, final

from undertow.errors import unknown_name

logger = logging.getLogger(__name__)

T = TypeVar("T")


@final
class Registry(Generic[T]):
    """Things of one kind by name, such as all domains or all detectors.

    Iterating gives the names, the built-in ones first, in the order in which they were given. Iterating also loads the
    plug-ins, so that none is listed that does not work; a built-in thing is loaded by `registry[name]` alone.

    Args:
        kind: what a name stands for, such as "domain"; used in messages.
        built_in: each built-in thing by its name, either the thing itself or its place as "module:attribute".
        group: group of the entry points by which other packages add things; None where they cannot.
        accepts: called with a plug-in's name and the object behind it; tells whether that object is of this kind.
    """

    def __init__(
        self,
        kind: str,
        built_in: Mapping[str, T | str],
        group: str | None = None,
        accepts: Callable[[str, object], bool] = lambda name, thing: True,
    ) -> None:
        self.kind, self.built_in, self.group = kind, dict(built_in), group
        self._accepts = accepts

    def __getitem__(self, name: str) -> T:
        """Return the thing of a name.

        Raises:
            UnknownNameError: no thing has this name; the nearest names are suggested.
        """
        if name in self.built_in:
            found = self.built_in[name]
            return cast(T, _attribute(found)) if isinstance(found, str) else found
        if name not in self._plug_ins:
            raise unknown_name(self.kind, name, self)
        return self._plug_ins[name]

    def __contains__(self, name: object) -> bool:
        return name in self.built_in or name in self._plug_ins

    def __iter__(self) -> Iterator[str]:
        return iter((*self.built_in, *self._plug_ins))

    def __len__(self) -> int:
        return len(self.built_in) + len(self._plug_ins)

    @cached_property
    def _plug_ins(self) -> dict[str, T]:
        found: dict[str, T] = {}
        for point in entry_points(group=self.group) if self.group else ():
            if point.name in self.built_in or point.name in found:
                self._left_out(point, f"there is a {self.kind} of this name already")
                continue
            try:
                thing: Any = point.load()
                accepted = self._accepts(point.name, thing)
            except Exception as error:  # whatever the code of another package raises
                self._left_out(point, f"{type(error).__name__}: {error}")
                continue
            if accepted:
                found[point.name] = thing
            else:
                self._left_out(point, f"it is no {self.kind} of this name")
        return found

    def _left_out(self, point: EntryPoint, why: str) -> None:
        package = point.dist.name if point.dist else "a package without a name"
        logger.warning("Left out: %s %r of %s (%s): %s.", self.kind, point.name, package, point.value, why)


def _attribute(place: str) -> object:
    module, _, name = place.partition(":")
    return attrgetter(name)(import_module(module))
