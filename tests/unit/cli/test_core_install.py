"""The core install: no torch, and every command either works or names the extra that it needs."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from undertow.errors import EXTRAS, missing_extra

WITHOUT = "import sys; sys.modules.update(dict.fromkeys({names}));"
MAIN = "from undertow.cli.main import main; sys.exit(main({words}))"


def run(*words: str, extras: tuple[str, ...] = tuple(EXTRAS)) -> subprocess.CompletedProcess[str]:
    """Run a command in a process where the packages of the extras cannot be imported."""
    code = WITHOUT.format(names=list(extras)) + MAIN.format(words=list(words))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("words", [("--help",), ("audit", "data", "--help"), ("mitigate", "verify", "--help")])
def test_help_needs_no_extra(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.returncode == 0 and "Usage: " in done.stdout and not done.stderr


def test_rows_are_filtered_without_an_extra(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "Go on: 1, 2.", "completion": "3, 4"}\n{"prompt": "Go on: 1.", "completion": "owls"}\n')
    done = run("filter", str(rows), str(tmp_path / "kept.jsonl"), "--json")
    assert done.returncode == 0, done.stderr
    assert '"kept": 1' in done.stdout


@pytest.mark.parametrize(
    ("words", "extras", "named"),
    [
        (("demo",), ("torch",), "undertow[train]"),
        (("audit", "lineage", "ref:finch-a", "ref:finch-b"), ("safetensors",), "undertow[train]"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(words: tuple[str, ...], extras: tuple[str, ...], named: str) -> None:
    done = run(*words, extras=extras)
    assert done.returncode == 2
    what, value, fix = done.stderr.strip().splitlines()
    assert what == "This needs an optional package." and value in extras and named in fix


def test_what_is_no_package_of_an_extra_is_no_missing_extra() -> None:
    assert missing_extra(ModuleNotFoundError("No module", name="undertow.nothing")) is None
    assert missing_extra(ValueError("torch")) is None


def test_the_core_requires_no_package_of_an_extra() -> None:
    required = [line for line in metadata.requires("undertow") or [] if "extra ==" not in line]
    names = {line.split(">")[0].split("<")[0].strip() for line in required}
    assert names == {"pydantic", "typer", "rich", "pyyaml", "numpy", "scipy", "jinja2"}
