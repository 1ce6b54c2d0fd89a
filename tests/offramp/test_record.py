import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from offramp import record
from offramp.record import git_revision, provenance, write_json


def test_a_result_says_where_it_came_from():
    found = provenance("simulate", 7)
    assert found["command"] == "simulate"
    assert found["seed"] == 7
    assert found["versions"]["offramp"] == "0.1.0"
    assert all(found["versions"].values())


def test_git_revision_is_the_trees_or_nothing(monkeypatch):
    command, folder = ["git", "rev-parse", "HEAD"], Path(record.__file__).parent
    inside = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    if inside.returncode == 0:
        assert git_revision().removesuffix("-dirty") == inside.stdout[:12]
    monkeypatch.setattr(record.subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError("git")))
    assert git_revision() is None


def test_arrays_and_paths_are_written_plainly(tmp_path):
    path = tmp_path / "folder" / "result.json"
    write_json(path, {"a": np.arange(3), "b": np.float64(0.5), "c": Path("x"), "d": True})
    assert json.loads(path.read_text()) == {"a": [0, 1, 2], "b": 0.5, "c": "x", "d": True}


def test_a_result_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"old": 1})
    with pytest.raises(TypeError, match="set can't be written as JSON"):
        write_json(path, {"new": {1}})
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]
