import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from offramp.files import result_file
from offramp.files.result_file import SCHEMA, git_revision, provenance, read_json, write_json


def test_a_result_says_where_it_came_from():
    found = provenance("simulate", 7)
    assert found["command"] == "simulate"
    assert (found["seed"], found["schema"]) == (7, SCHEMA)
    assert found["versions"]["offramp"] == "0.1.0"
    assert all(found["versions"].values())


def test_git_revision_is_the_trees_or_nothing(monkeypatch):
    command, folder = ["git", "rev-parse", "HEAD"], Path(result_file.__file__).parent
    inside = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    if inside.returncode == 0:
        assert git_revision().removesuffix("-dirty") == inside.stdout[:12]
    monkeypatch.setenv("PATH", "")
    assert git_revision() is None


def test_arrays_and_paths_are_written_plainly(tmp_path):
    path = tmp_path / "folder" / "result.json"
    write_json(path, {"a": np.arange(3), "b": np.float64(0.5), "c": Path("x"), "d": True})
    assert json.loads(path.read_text()) == {"a": [0, 1, 2], "b": 0.5, "c": "x", "d": True}


def test_files_inside_the_working_folder_are_named_relative_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "result.json", {"inside": tmp_path / "out" / "x", "outside": tmp_path.parent / "x"})
    assert json.loads(Path("result.json").read_text()) == {"inside": "out/x", "outside": str(tmp_path.parent / "x")}


def texts(value):
    """All strings in what was JSON."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts(part)
    elif isinstance(value, str):
        yield value


def test_committed_results_name_no_place_on_the_machine_that_made_them():
    root = Path(__file__).parents[3]
    files = [*root.glob("baselines/**/*.json"), *root.glob("zoo/*.json")]
    assert files
    for file in files:
        assert [text for text in texts(json.loads(file.read_text())) if re.match(r"/\w", text)] == [], file


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_of_results_are_finite(tmp_path, number):
    path = tmp_path / "result.json"
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float(number)})
    path.write_text(f'{{"a": {number}}}')
    with pytest.raises(ValueError, match=rf"result\.json: must be JSON: numbers must be finite, not {number}$"):
        read_json(path)


def test_a_result_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"old": 1})
    with pytest.raises(TypeError, match="set can't be written as JSON"):
        write_json(path, {"new": {1}})
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]
