"""The notebook of docs/: as it is committed, and run anew."""

import json
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "tour.ipynb"


def check_outputs(cells: list[dict]) -> None:
    """Every cell of code ran, in order, without an error; all of it shows figures and numbers."""
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"execute_result", "stream"}
    figures = [output for output in outputs if "image/svg+xml" in output.get("data", {})]
    assert len(figures) == 5
    said = "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")
    for words in ("leave early", "cycles on average", "lost to dispatch", "sparse"):
        assert words in said


def test_it_is_short_and_holds_what_a_run_gave():
    assert FILE.stat().st_size < 300_000
    cells = json.loads(FILE.read_text(encoding="utf-8"))["cells"]
    assert len(cells) <= 25
    check_outputs(cells)


@pytest.mark.slow
def test_it_runs():
    """In this tree, wherever the package is installed."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(FILE, as_version=4)
    client = NotebookClient(notebook, timeout=600, kernel_name="python3")
    client.execute(env={**os.environ, "PYTHONPATH": str(ROOT)})
    check_outputs(notebook.cells)
