"""Helpful errors for imports by a path that a module had before: they say where it is now.

The finder stands last in `sys.meta_path`, so it is asked only for modules that no other finder has. Its class has no
base, since importing `importlib.abc` would make up half of the time that `import undertow` takes.
"""

import sys
from collections.abc import Sequence
from functools import cache
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import final


@cache
def moved() -> dict[str, str]:
    """Return the new path of every module that was moved, by its old path; both without "undertow."."""
    from pathlib import Path

    import yaml

    return yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


@final
class _Signpost:
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        root, _, old = fullname.partition(".")
        if root != "undertow" or not old:
            return None
        if old in moved():
            now = f"undertow.{moved()[old]}"
            what = f"{fullname} is {now} now. Public names are imported from undertow itself (docs/api.md)."
            raise ModuleNotFoundError(what, name=fullname)
        is_room = any(one.startswith(f"{old}.") for one in moved())
        # An empty package, so that Python asks for the module within it, which the lines above answer.
        return ModuleSpec(fullname, None, is_package=True) if is_room else None


def put_up() -> None:
    """Install the finder in `sys.meta_path`, once however often it is called."""
    if not any(isinstance(one, _Signpost) for one in sys.meta_path):
        sys.meta_path.append(_Signpost())
