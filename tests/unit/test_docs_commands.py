"""Every `undertow` line in a code block of the pages is one that the command line takes: commands, options, values."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from undertow.cli.main import app

ROOT = Path(__file__).parents[2]
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


@pytest.mark.parametrize("page", [page for page in PAGES if any(commands(page))])
def test_the_command_line_takes_every_command_of_a_page(page: str) -> None:
    for words in commands(page):
        command: Any = typer.main.get_command(app)
        rest = list(words)
        path = ["undertow"]
        while rest and rest[0] in getattr(command, "commands", {}):
            path.append(rest.pop(0))
            command = command.commands[path[-1]]
        assert not hasattr(command, "commands") or rest in ([], ["--help"]), f"{page}: undertow {' '.join(words)}"
        if rest and "--help" not in rest:
            try:
                command.make_context(" ".join(path), rest)
            except Exception as error:
                pytest.fail(f"{page}: undertow {' '.join(words)}: {error}")
