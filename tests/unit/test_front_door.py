"""The front door: what `undertow` offers is what docs/api.md describes, and asking for it costs nothing beforehand."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import undertow

ROOT = Path(__file__).parents[2]
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
NAMES = [name for name in undertow.__all__ if name != "__version__"]


def test_the_page_describes_every_name_and_no_other() -> None:
    described = re.findall(r"^\| `(\w+)` \| \w", API, flags=re.MULTILINE)
    assert sorted(described) == sorted(NAMES) and len(NAMES) <= 40


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there_and_says_what_it_is(name: str) -> None:
    thing = getattr(undertow, name)
    assert thing.__name__ == name and name in dir(undertow)
    assert len((inspect.getdoc(thing) or "").split()) >= 4


def test_what_type_checkers_see_is_what_is_loaded() -> None:
    tree = ast.parse(Path(undertow.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == {name: f"undertow.{room}" for name, room in undertow._ROOMS.items()}
    assert sorted(seen) == sorted(NAMES)


def test_no_name_is_that_of_a_room() -> None:
    rooms = {path.stem for path in Path(undertow.__file__).parent.iterdir()}
    assert not rooms & set(NAMES)


def test_a_name_that_is_not_there_says_where_to_look() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'audit_everything'; docs/api\.md"):
        undertow.audit_everything  # noqa: B018


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, undertow; heavy = ('torch', 'transformers', 'numpy', 'pydantic', 'yaml', 'typer'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("page", ["README.md", "docs/api.md", "docs/tour.md"])
def test_the_examples_need_one_import_and_use_names_that_are_there(page: str) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    tree = ast.parse(example)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in imports] == ["import undertow"]
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name) and node.value.id == "undertow"}  # fmt: skip
    assert used and used <= set(NAMES)


def test_the_example_of_the_page_shows_the_effect(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", API, flags=re.DOTALL)
    exec(compile(example, "docs/api.md", "exec"), {})
    before, after = map(float, capsys.readouterr().out.split())
    assert after > before + 0.2  # the trait has passed through filtered numbers
