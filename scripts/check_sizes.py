"""Fail if a file is longer than 500 lines or a function longer than 80, docstring included."""

import ast
import sys
from pathlib import Path

FILE_LIMIT = 500
FUNCTION_LIMIT = 80


def oversized(path: Path) -> list[str]:
    """Return one message per limit that the file breaks."""
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    found = [f"{path}: {lines} lines, at most {FILE_LIMIT}"] if lines > FILE_LIMIT else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LIMIT:
                found.append(f"{path}:{node.lineno}: {node.name} has {length} lines, at most {FUNCTION_LIMIT}")
    return found


def main(folders: list[str]) -> int:
    """Check every Python file below the folders."""
    files = [path for folder in folders for path in sorted(Path(folder).rglob("*.py"))]
    messages = [message for path in files for message in oversized(path)]
    print("\n".join(messages) if messages else f"{len(files)} files within the limits")
    return 1 if messages else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
