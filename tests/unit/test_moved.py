"""Old import paths say the new one; the table of signposts points at modules that are there."""

from importlib import import_module
from importlib.util import find_spec

import pytest

from undertow.moved import moved


def test_the_signposts_point_at_modules_that_are_there() -> None:
    for old, new in moved().items():
        assert find_spec(f"undertow.{new}") is not None, new
        with pytest.raises(ModuleNotFoundError, match=rf"undertow\.{new} now"):
            import_module(f"undertow.{old}")


def test_an_import_of_before_names_its_new_home() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"undertow\.experiment\.recipe is undertow\.study\.recipe now"):
        from undertow.experiment.recipe import Recipe  # noqa: F401  # pyright: ignore
    with pytest.raises(ModuleNotFoundError, match=r"undertow\.rows is undertow\.data\.rows now.*docs/api\.md"):
        import undertow.rows  # noqa: F401  # pyright: ignore


@pytest.mark.parametrize("name", ["undertow.nothing", "undertow.experiment.nothing", "nothing_of_this_name"])
def test_what_never_was_is_not_found_as_ever(name: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named"):
        import_module(name)
