"""Fail if a class or a public function has the name of another one: a name means one thing in the whole package."""

import ast
import sys
from collections import defaultdict
from pathlib import Path


def defined(path: Path) -> list[str]:
    """Return the names of a module's classes, and of its public functions, as they stand at its top level."""
    kinds = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    nodes = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, kinds)]
    return [node.name for node in nodes if isinstance(node, ast.ClassDef) or not node.name.startswith("_")]


def main(folder: str) -> int:
    """Check every Python file below the folder."""
    places: dict[str, list[str]] = defaultdict(list)
    files = sorted(Path(folder).rglob("*.py"))
    for path in files:
        for name in defined(path):
            places[name].append(str(path))
    twice = [f"{name}: {', '.join(some)}" for name, some in sorted(places.items()) if len(some) > 1]
    print("\n".join(twice) if twice else f"{len(places)} names in {len(files)} files, each for one thing")
    return 1 if twice else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
