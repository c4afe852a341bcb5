"""An `undertow` line in a code block of a page that the command line does not take is a fault of the site."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from undertow.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
START = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?undertow ")

OPTIONAL, DEFAULT = re.compile(r"\$\{\w+:\+[^}]*\}"), re.compile(r"\$\{\w+:-([^}]*)\}")
"""What a shell puts there if a variable is set, and what it puts there if it is not."""


def commands(page: str) -> Iterator[list[str]]:
    """Yield the words of every command of a page; what follows a pipe or a redirection is the shell's."""
    for block in BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")):
        for line in block[2].replace("\\\n", " ").splitlines():
            if found := START.match(line):
                plain = DEFAULT.sub(r"\1", OPTIONAL.sub("", line[found.end() :]))
                words = shlex.split(plain, comments=True)
                ends = [place for place, word in enumerate(words) if word in ("|", "||", "&&", "&", ">", "2>", ";")]
                yield words[: min(ends, default=len(words))]


def fault(words: list[str]) -> str | None:
    """Say why the command line does not take a command; None if it does."""
    command: Any = typer.main.get_command(app)
    rest, path = list(words), ["undertow"]
    while rest and rest[0] in getattr(command, "commands", {}):
        path.append(rest.pop(0))
        command = command.commands[path[-1]]
    if hasattr(command, "commands") and rest not in ([], ["--help"]):
        return f"{' '.join(path)} has no command {rest[0]}."
    if rest and "--help" not in rest:
        try:
            command.make_context(" ".join(path), rest)
        except Exception as error:
            return str(error) or type(error).__name__
    return None


def faults() -> Iterator[str]:
    """Yield one sentence for each command of the pages that is not taken."""
    for page in PAGES:
        for words in commands(page):
            if (why := fault(words)) is not None:
                yield f"{page}: undertow {' '.join(words)}: {why}"


def check_commands(sphinx: Any) -> None:
    """Warn of each fault, which fails the build."""
    del sphinx
    from sphinx.util import logging  # pyright: ignore[reportMissingImports]

    for found in faults():
        logging.getLogger(__name__).warning(found)


def setup(sphinx: Any) -> dict[str, Any]:
    """Hook the check into Sphinx."""
    sphinx.connect("builder-inited", check_commands)
    return {"parallel_read_safe": True}
