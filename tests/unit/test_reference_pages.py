"""The pages that the site makes of the code name everything that there is."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import undertow
from undertow.study.recipe import packaged_recipes, read_recipe

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    """The extension of the site."""
    spec = importlib.util.spec_from_file_location("reference_pages", DOCS / "reference_pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_has_its_docstring_shown(pages: ModuleType) -> None:
    lines = pages.python_page().splitlines()
    for name in undertow.__all__:
        kinds = [line for line in lines if line.endswith(f":: undertow.{name}")]
        assert f"## {name}" in lines and len(kinds) == 1


def test_every_command_has_its_help_shown_and_hidden_ones_have_not(pages: ModuleType) -> None:
    text = pages.commands_page()
    titles = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
    assert {"undertow demo", "undertow audit data", "undertow monitor serve", "undertow mitigate verify"} <= {*titles}
    assert len(titles) == len(set(titles)) > 40
    assert text.count("Usage: undertow ") == len(titles) - 1


def test_every_packaged_recipe_is_shown_with_its_question(pages: ModuleType) -> None:
    text = pages.recipes_page()
    for name in packaged_recipes():
        assert f"\n## {name}\n\n{read_recipe(name)['question']}\n\n```yaml\n" in text


def test_every_setting_of_a_recipe_is_explained(pages: ModuleType) -> None:
    for part in pages.PARTS:
        keys = [key for key, _, meaning in pages.settings_of(part) if len(meaning.split()) >= 3]
        assert keys == [f"`{name}`" for name in part.model_fields]


def test_every_page_stands_in_the_tables_of_contents() -> None:
    listed = {line.strip() for line in (DOCS / "index.md").read_text(encoding="utf-8").splitlines()}
    made = {"reference_python", "reference_commands", "reference_recipes"}
    assert {path.stem for path in DOCS.glob("*.md")} - {"index"} - made <= listed and made <= listed


def test_a_link_out_of_the_folder_leads_to_the_page_that_includes_it(pages: ModuleType) -> None:
    source = ["see [this](../results/real/README.md) and [that](limits.md)"]
    pages.link_included(None, "real", source)
    assert source == ["see [this](declared.md) and [that](limits.md)"]
