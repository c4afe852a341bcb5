"""The first page of the command line: where to start, and every command under the job that it serves."""

import os
import subprocess
import sys

import pytest
from typer.main import get_command

import undertow
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


def test_the_version_has_a_short_form(capsys) -> None:
    assert main(["-V"]) == 0
    assert capsys.readouterr().out == f"undertow {undertow.__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete_commands(shell: str) -> None:
    words = {"bash": {"COMP_WORDS": "undertow gen", "COMP_CWORD": "1"}}.get(
        shell, {"_TYPER_COMPLETE_ARGS": "undertow gen"}
    )
    more = {"_UNDERTOW_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args", **words}
    code = "import sys; sys.argv = ['undertow']; from undertow.cli.main import main; main()"
    found = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **more}, capture_output=True, text=True, check=False
    )
    assert "generate" in found.stdout, found.stderr
