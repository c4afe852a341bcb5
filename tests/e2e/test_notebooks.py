"""The notebooks of the site run from the first cell to the last, and were stored with their outputs."""

import sys
from pathlib import Path

import pytest
from pytest_socket import enable_socket

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "scripts"))
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path) -> None:
    pytest.importorskip("nbclient", reason="notebooks need the extra docs")
    import run_notebooks  # pyright: ignore[reportMissingImports]

    enable_socket()  # a kernel listens on local ports
    found = run_notebooks.run(path)
    printed = [cell for cell in found.cells if cell.cell_type == "code" and cell.outputs]
    assert len(printed) >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_with_its_outputs_and_without_an_error(path: Path) -> None:
    import json

    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code)
    kinds = {output["output_type"] for cell in code for output in cell["outputs"]}
    assert "error" not in kinds and {"stream"} <= kinds
