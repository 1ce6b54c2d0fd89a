"""The package as others install it: a wheel, in an environment outside the checkout."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.offramp.recipe import RECIPE

ROOT = Path(__file__).parents[1]
#: What a build of the package reads.
_SOURCES = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "hw",
    "sim",
    "models",
    "fpga",
    "offramp",
    "recipes",
    "zoo",
    "baselines",
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A function that runs ``offramp`` where only the wheel and what it depends on are installed."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in _SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            source.mkdir(exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OFFRAMP_DATA")}
    environment["OFFRAMP_CACHE"] = str(folder / "cache")
    run = {"capture_output": True, "text": True, "env": environment, "cwd": folder}
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder)]
    install = ["--no-deps", "--no-index", "--no-compile"]  # commands compile what they import
    subprocess.run([*pip, "wheel", *options, str(source)], check=True, **run)
    (wheel,) = folder.glob("offramp-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True, **run)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", *install, str(wheel)], check=True, **run)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    assert not [name for name in ("tests", "tools") if (packages / name).exists()]
    # Dependencies are those of this environment; its own offramp isn't found, for nested .pth files aren't read.
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    shutil.rmtree(source)

    def offramp(*arguments: str) -> subprocess.CompletedProcess:
        command = [str(python), "-I", "-m", "offramp", *arguments]
        return subprocess.run(command, check=False, **run)

    return offramp


def done(result: subprocess.CompletedProcess) -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_zoo_is_there_and_is_compiled(installed):
    names = {network["name"] for network in json.loads(done(installed("zoo", "--json", "-")))["networks"]}
    assert {"digits", "resnet8-sparse"} <= names
    found = json.loads(done(installed("disasm", "zoo:digits@tiny", "--json", "-")))
    assert found["git"] is None
    assert sum(each["op"] == "LAYER" for each in found["instructions"]) > 5


@pytest.mark.slow
def test_the_simulator_runs(installed, tmp_path):
    """It is compiled anew there, which takes longer than all else; what a program takes at worst is its answer, too."""
    found = json.loads(done(installed("simulate", "zoo:digits@tiny", "--images", "20", "--json", "-")))
    assert found["images"] == 20
    assert found["cycles"]["mean"] > 0
    done(installed("compile", "zoo:digits", "--config", "tiny", "--out", str(tmp_path)))
    info = json.loads(done(installed("info", str(tmp_path / "program.off"), "--json", "-")))
    assert (info["kind"], info["git"]) == ("program", None)


@pytest.mark.slow
def test_a_network_is_trained(installed, tmp_path):
    (tmp_path / "mine.toml").write_text(RECIPE)
    result = json.loads(done(installed("train", str(tmp_path / "mine.toml"), "--out", str(tmp_path), "--json", "-")))
    assert result["metrics"]["int8_final"] > 0.3
    assert (tmp_path / "compressed.off").exists()
