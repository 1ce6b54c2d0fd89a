"""Setting up: what is missing is named, what is there is left alone, and the lock pins what the project asks for."""

import re
import shutil
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def links(folder, *names):
    """A folder with only these programs, to be a PATH."""
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to(shutil.which(name))
    return str(folder)


def preflight(path, **variables):
    command = [shutil.which("sh"), str(ROOT / "tools" / "preflight")]
    return subprocess.run(command, env={"PATH": path, **variables}, capture_output=True, text=True, check=False)


def test_everything_missing_is_named_at_once(tmp_path):
    result = preflight(links(tmp_path / "bin", "sh"))
    assert result.returncode == 1
    for word in ("Python 3.11", "C++ compiler", "make", "perl"):
        assert re.search(rf"^  .*{re.escape(word)}.*: .*apt-get install", result.stderr, re.MULTILINE)


def test_only_what_is_missing_is_named(tmp_path):
    path = links(tmp_path / "bin", "sh", "make", "g++")
    result = preflight(path, PYTHON=sys.executable)
    assert result.returncode == 1
    assert result.stderr.splitlines()[1:] == ["  perl: apt-get install perl"]


def test_an_old_python_is_named(tmp_path):
    path = links(tmp_path / "bin", "sh", "make", "g++", "perl")
    old = tmp_path / "old"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.2\nexit 1\n')
    old.chmod(0o755)
    result = preflight(path, PYTHON=str(old))
    assert result.returncode == 1
    assert "Python 3.9.2; set PYTHON to a newer interpreter" in result.stderr


def test_nothing_is_said_when_nothing_is_missing(tmp_path):
    result = preflight(links(tmp_path / "bin", "sh", "make", "g++", "perl"), PYTHON=sys.executable)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.fixture
def copy(tmp_path):
    """The files that setting up reads, with an environment that claims to be made from them."""
    for name in ("tools/setup", "tools/preflight", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    inputs = [str(tmp_path / name) for name in ("requirements.lock", "pyproject.toml")]
    stamp = subprocess.run(
        ["cksum", *map(lambda name: Path(name).name, inputs)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    (tmp_path / ".venv" / "offramp.stamp").write_text(stamp.stdout.strip())
    return tmp_path


def test_an_environment_of_this_lock_is_used_again(copy):
    result = subprocess.run([copy / "tools" / "setup"], capture_output=True, text=True, check=False, timeout=2)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert not (copy / ".venv" / "bin").exists()


def test_an_environment_of_another_lock_is_not(copy):
    with (copy / "requirements.lock").open("a") as file:
        file.write("# changed\n")
    result = subprocess.run(
        [copy / "tools" / "setup"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": links(copy / "bin", "sh", "cksum", "cat", "dirname")},
    )
    assert result.returncode == 1
    assert "offramp needs what this machine does not have" in result.stderr


def test_the_lock_pins_everything_the_project_asks_for():
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    pins = dict(re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.+]+)", line).groups() for line in lines)
    pins = {name.lower().replace("_", "-"): found for name, found in pins.items()}
    assert "+" not in pins["torch"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for wanted in chain(project["dependencies"], *project["optional-dependencies"].values()):
        found = Requirement(wanted)
        if found.name != project["name"]:  # its own extras
            assert found.specifier.contains(pins[found.name.lower()]), wanted


def test_continuous_integration_runs_the_developers_command():
    text = (ROOT / ".ci" / "run").read_text()
    assert text.rstrip().endswith("make test")
