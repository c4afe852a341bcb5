"""Run the notebooks of the pages, and keep what they print: `python scripts/run_notebooks.py [NAME ...]`.

The site shows docs/notebooks as they are stored. This runs each in an empty folder and stores its outputs; a cell that
raises an error ends it with that error. It needs the extra `docs`.
"""

import argparse
import os
import tempfile
from pathlib import Path

import nbformat  # pyright: ignore[reportMissingImports]
from nbclient import NotebookClient  # pyright: ignore[reportMissingImports]

FOLDER = Path(__file__).parents[1] / "docs/notebooks"
SECONDS = 1200
"""For any one cell, on a machine that does other work too."""


def run(path: Path) -> nbformat.NotebookNode:
    """Run a notebook in an empty folder; return it with its outputs, less the bars of progress on standard error."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook, timeout=SECONDS, resources={"metadata": {"path": folder}}, record_timing=False
        )
        client.execute(env={**os.environ, "HF_HUB_OFFLINE": "1"})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def main() -> None:
    """Run the named notebooks, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="such as study; all if none is named")
    names = parser.parse_args().names
    for path in sorted(FOLDER.glob("*.ipynb")):
        if not names or path.stem in names:
            nbformat.write(run(path), path)
            print(path.name)


if __name__ == "__main__":
    main()
