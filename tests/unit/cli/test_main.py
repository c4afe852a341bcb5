"""The first page of the command line: where to start, and every command under the job that it serves."""

import pytest
from typer.main import get_command

from undertow.cli.main import PANELS, app, main


def test_undertow_alone_says_where_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    said = capsys.readouterr().out
    for command in ("demo", "check", "audit data", "mitigate advise", "monitor", "--help"):
        assert f"undertow {command}" in said


def test_every_command_stands_in_the_help_under_one_panel(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    places = [said.index(f"\n{panel}:") for panel in PANELS]
    assert places == sorted(places)
    for name in get_command(app).commands:
        assert said.count(f"\n  {name}  ") == 1
