"""Pages of the site that are made when it is built: every public Python name, every command, every packaged recipe.

They come from the code alone, so that none can say what the code does not do.
"""

import ast
import inspect
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import undertow
from undertow.cli.main import app
from undertow.study.recipe import DomainPart, EvaluationPart, Recipe, StudentPart, TeacherPart, packaged_recipes

RECIPE_FOLDER = Path(undertow.__file__).parent / "recipes"
PARTS: dict[type[BaseModel], str] = {
    Recipe: "Keys of a recipe",
    DomainPart: "Keys of `domain`",
    TeacherPart: "Keys of `teacher`",
    StudentPart: "Keys of `student`",
    EvaluationPart: "Keys of `evaluation`",
}
"""The settings of a study of language models, by the records that hold them."""

PYTHON, COMMANDS, RECIPES = "reference_python.md", "reference_commands.md", "reference_recipes.md"


def python_page() -> str:
    """Return the page of the public names: signatures and docstrings."""
    lines = [
        "# Public names",
        "",
        "What each name does, with arguments and errors; [api.md](api.md) sorts them by task.",
    ]
    for name in undertow.__all__:
        thing = getattr(undertow, name)
        kind = "autoclass" if isinstance(thing, type) else "autofunction" if callable(thing) else "autodata"
        lines += ["", f"## {name}", "", "```{eval-rst}", f".. {kind}:: undertow.{name}", "```"]
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """Return the page of the commands: what each one does, and its options."""
    lines = ["# Commands", "", "What `undertow COMMAND --help` prints, for every command.", ""]
    root = typer.main.get_command(app)
    for path, command in _commands(root, ("undertow",)):
        if command.hidden:
            continue
        context = click.Context(command, info_name=" ".join(path), max_content_width=100, terminal_width=100)
        lines += ["", f"{'#' * min(4, len(path))} {' '.join(path)}", "", "```text", command.get_help(context), "```"]
    return "\n".join(lines) + "\n"


def settings_of(part: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    """Yield key, default and meaning of each setting of a part of a recipe; the meaning stands below it in the code."""
    (tree,) = ast.parse(inspect.getsource(part)).body
    assert isinstance(tree, ast.ClassDef)
    for line, below in itertools.pairwise(tree.body):
        if not (isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)):
            continue
        name = line.target.id
        told = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        assert told, f"{part.__name__}.{name} says nowhere what it is"
        default = part.model_fields[name].get_default(call_default_factory=True)
        shown = "" if isinstance(default, BaseModel) or default in (PydanticUndefined, "") else f"`{default}`"
        yield f"`{name}`", shown.replace("|", "\\|"), " ".join(str(below.value.value).split()).replace("|", "\\|")


def recipes_page() -> str:
    """Return the page of the packaged recipes: the question of each, and the file itself."""
    lines = [
        "# Recipes",
        "",
        "A recipe is a study as data. These come with the package, and `undertow run NAME` runs one;",
        "a copy with other settings is a recipe of your own: `undertow run FILE.yaml`.",
    ]
    lines += [
        "",
        "`tiers` names variants of the whole recipe: `--tier quick` changes the settings under `quick`. A recipe",
        "with `variants` is a sweep: each of its names changes settings, and the report compares the variants with the",
        "first one. A recipe with `analysis` is another kind of study, such as the theorem on networks: `settings`",
        "are those of the analysis, and `study` is the recipe whose rows or models it reads.",
    ]
    for part, title in PARTS.items():
        keys = "| Key | Default | Meaning |\n| --- | --- | --- |"
        lines += ["", f"## {title}", "", keys, *(f"| {' | '.join(row)} |" for row in settings_of(part))]
    for name in packaged_recipes():
        text = (RECIPE_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
        question = next(line.partition(": ")[2] for line in text.splitlines() if line.startswith("question: "))
        lines += ["", f"## {name}", "", question.strip("\"'"), "", "```yaml", text.rstrip(), "```"]
    return "\n".join(lines) + "\n"


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield a command and all below it, in the order of the help."""
    if len(path) > 1:
        yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from _commands(below, (*path, name))


def write_pages(sphinx: Any) -> None:
    """Write these pages beside the others, where they changed."""
    for name, text in ((PYTHON, python_page()), (COMMANDS, commands_page()), (RECIPES, recipes_page())):
        path = Path(sphinx.srcdir) / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


INCLUDED = {"../results/real/README.md": "declared.md"}
"""Pages that lie beside what they describe, and by which page the site shows them."""


def link_included(sphinx: Any, page: str, source: list[str]) -> None:
    """Point links that leave the folder of the pages to the pages that include what lies there."""
    del sphinx, page
    for outside, inside in INCLUDED.items():
        source[0] = source[0].replace(f"]({outside})", f"]({inside})")


def setup(sphinx: Any) -> dict[str, Any]:
    """Hook the pages into Sphinx."""
    sphinx.connect("builder-inited", write_pages)
    sphinx.connect("source-read", link_included)
    return {"parallel_read_safe": True}
