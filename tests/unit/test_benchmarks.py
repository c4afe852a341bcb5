"""Benchmarks and scripts are run by hand; what they take from the package has to be there."""

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(file for folder in ("benchmarks", "scripts") for file in (ROOT / folder).glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_everything_that_a_benchmark_takes_from_the_package_is_there(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("undertow"):
            module = importlib.import_module(node.module or "")
            missing = [one.name for one in node.names if not hasattr(module, one.name)]
            modules = [name for name in missing if importlib.util.find_spec(f"{node.module}.{name}") is None]
            assert not modules, f"{node.module} has no {', '.join(modules)}"
