"""Every `undertow` line in a code block of the pages is one that the command line takes: commands, options, values."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "docs"))
from checked_commands import PAGES, commands, fault  # pyright: ignore[reportMissingImports]


@pytest.mark.parametrize("page", [page for page in PAGES if any(commands(page))])
def test_the_command_line_takes_every_command_of_a_page(page: str) -> None:
    assert [f"undertow {' '.join(words)}: {why}" for words in commands(page) if (why := fault(words))] == []


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("audit date rows.jsonl", "date"),
        ("audit data rows.jsonl --bass ref:finch-a", "--bass"),
        ("power --dose much", "number"),
    ],
)
def test_a_command_that_is_not_taken_is_named(line: str, named: str) -> None:
    assert named in str(fault(line.split()))
