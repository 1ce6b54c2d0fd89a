"""No command writes over what it reads."""

import inspect
import os
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import typer
from safetensors.numpy import save_file

from hw.config import preset
from models.recipes.recipe import FOLDER
from offramp.cli import commands
from offramp.commands.hardware import CORE
from offramp.files import paths
from offramp.ip_core.files import core_files
from tests.offramp.command_line import refused, run

#: Arguments of text that name files; every other one that names some is a path.
TEXTS = {"what", "first", "second", "data", "calibrate"}


#: Options called like others that name files, and only name data sets.
NAMES = {("train", "data"), ("demo", "data")}


def _kinds(hint):
    return {hint}.union(*map(_kinds, get_args(hint)))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Stands in a folder with files of every kind that is read."""
    monkeypatch.chdir(tmp_path)
    for name in ("m.tflite", "w.fst", "made.py"):
        Path(name).write_bytes(name.encode())
    Path("b.bit").write_bytes(b"\xff\0Part")
    Path("run").mkdir()
    for name in (paths.RESULT, paths.COMPRESSED):
        (Path("run") / name).write_text("{}")
    np.savez("i.npz", images=np.zeros((1, 4, 4, 1), np.uint8))
    save_file({"weight": np.zeros(1, np.float32)}, "w.safetensors")
    Path("r.json").write_text('{"schema": 1, "command": "bench"}')
    Path("photos/cat").mkdir(parents=True)
    Path("photos/cat/1.png").write_bytes(b"")
    shutil.copy(FOLDER / "digits.toml", "recipe.toml")
    return tmp_path


def test_every_option_that_names_a_file_says_whether_it_is_read_or_written(folder):
    values = {"waves": "w.fst", "recipe": "recipe.toml", "bitstream": "b.bit", "add": "run"}
    told = 0
    for name, command in commands().items():
        hints = inspect.signature(command.callback).parameters
        for option in command.params:
            kinds = _kinds(hints[option.name].annotation) if option.name in hints else set()
            if Path not in kinds and (option.name not in TEXTS or (name, option.name) in NAMES):
                continue
            context = typer.Context(command)
            path = Path(values.get(option.name, "m.tflite" if option.param_type_name == "argument" else "x"))
            path = Path("w.safetensors") if option.name == "weights" else path
            path = Path("i.npz") if option.name in ("data", "calibrate") else path
            given = str(path) if Path not in kinds else [path] if list[Path] in kinds else path
            option.callback(context, option, given)
            found = [place.path for key in ("offramp.read", "offramp.written") for place in context.meta.get(key, [])]
            assert path in found, (name, option.name)
            told += 1
    assert told > 100


@pytest.mark.parametrize(
    ("command", "source", "option"),
    [
        ("import m.tflite -o m.tflite", "m.tflite", "--out"),
        ("import m.tflite -o ./m.tflite", "m.tflite", "--out"),
        ("export m.tflite -o soft.tflite", "m.tflite", "--out"),
        ("evaluate m.tflite --json hard.tflite", "m.tflite", "--json"),
        ("evaluate soft.tflite --json m.tflite", "soft.tflite", "--json"),
        ("info made.py:Net --json made.py", "made.py", "--json"),
        ("import made.py:Net --weights w.safetensors --json w.safetensors", "w.safetensors", "--json"),
        ("import made.py:Net --calibrate i.npz -o i.npz", "i.npz", "--out"),
        ("simulate m.tflite --trace m.tflite", "m.tflite", "--trace"),
        ("simulate m.tflite --data i.npz --trace i.npz", "i.npz", "--trace"),
        ("verify made.py:Net m.tflite --json m.tflite", "m.tflite", "--json"),
        ("board run m.tflite --simulated --trace m.tflite", "m.tflite", "--trace"),
        ("board flash b.bit --json b.bit", "b.bit", "--json"),
        ("bench m.tflite --json m.tflite", "m.tflite", "--json"),
        ("build m.tflite --json m.tflite", "m.tflite", "--json"),
        ("exit add m.tflite --after a --data i.npz -o i.npz", "i.npz", "--out"),
        ("diff r.json tiny --json r.json", "r.json", "--json"),
        ("diff tiny m.tflite --json m.tflite", "m.tflite", "--json"),
        ("report r.json -o r.json", "r.json", "--out"),
        ("report r.json --json r.json", "r.json", "--json"),
        ("train recipe.toml --json recipe.toml", "recipe.toml", "--json"),
        ("simulate m.tflite --data photos --json photos/cat/1.png", "photos", "--json"),
        ("zoo --add run --json run/result.json", "run", "--json"),
        ("evaluate m.tflite --data-dir data --json data/FashionMNIST/raw/train-labels-idx1-ubyte.gz", "data", "--json"),
    ],
)
def test_what_a_command_reads_is_no_place_to_write(folder, monkeypatch, capsys, command, source, option):
    os.symlink("m.tflite", "soft.tflite")
    os.link("m.tflite", "hard.tflite")
    words = command.split()
    said = refused(monkeypatch, capsys, *words)
    named = words[max(words.index(word) for word in words if word in ("-o", "--json", "--trace")) + 1]
    there = str(Path(named))
    assert said == f"{option} {there} would write over {source}, which the command reads: name another file"
    assert Path("m.tflite").read_bytes() == b"m.tflite"


def test_what_a_folder_gets_is_no_file_that_is_read(folder, monkeypatch, capsys, small):
    shutil.copy(small.folder / paths.COMPRESSED, "program.off")
    shutil.copy(small.folder / paths.TRAINED, "compressed.off")
    for command, source in (("compile", "program.off"), ("compress", "compressed.off"), ("build", "program.off")):
        said = refused(monkeypatch, capsys, command, source, "--out", folder)
        assert said == f"--out {folder} would write over {source}, which the command reads: name another folder"
    Path("cycles.csv").write_text("{}")
    said = refused(monkeypatch, capsys, "report", "cycles.csv", "--plots", ".")
    assert said == "--plots . would write over cycles.csv, which the command reads: name another folder"


def test_networks_that_a_recipe_begins_with_are_read(folder, monkeypatch, capsys):
    text = Path("recipe.toml").read_text()
    Path("recipe.toml").write_text(f'teacher = "trained.off"\n{text}')
    Path("trained.off").write_bytes(b"")
    said = refused(monkeypatch, capsys, "train", "recipe.toml", "--out", ".")
    assert said == "--out . would write over trained.off, which the command reads: name another folder"


def test_weights_beside_an_onnx_file_are_read(folder, monkeypatch, capsys):
    from tests.models.frontends.onnx.test_proto import external

    path = external(folder)
    beside = next(each for each in folder.iterdir() if each.suffix == ".bin")
    said = refused(monkeypatch, capsys, "import", path, "-o", beside)
    assert said == f"--out {beside} would write over {path}, which the command reads: name another file"


@pytest.mark.parametrize(
    ("command", "first", "second", "file"),
    [
        ("import m.tflite -o n.off --json n.off", "--out n.off", "--json n.off", "n.off"),
        ("simulate m.tflite --trace t --json ./t", "--trace t", "--json t", "t"),
        ("compile m.tflite --out o --json o/program.off", "--out o", "--json o/program.off", "o/program.off"),
        ("generate -o o --name core --json o/core.v", "--out o", "--json o/core.v", "o/core.v"),
        ("report r.json --plots o --json o/cycles.svg", "--json o/cycles.svg", "--plots o", "o/cycles.svg"),
        ("verify m.tflite --waves v.fst --json v.gtkw", "--waves v.gtkw", "--json v.gtkw", "v.gtkw"),
    ],
)
def test_two_options_never_write_the_same_file(folder, monkeypatch, capsys, command, first, second, file):
    said = refused(monkeypatch, capsys, *command.split())
    assert said.startswith(f"{first} and {second} would both write {file}: name another")


@pytest.mark.parametrize(
    ("command", "first", "second", "file"),
    [
        ("compile m.tflite --json a.json -o a.json", "--json a.json", "--out a.json", "a.json"),
        ("compile m.tflite -o a.off --json a.off/b.json", "--out a.off", "--json a.off/b.json", "a.off"),
        ("compile m.tflite -o new/out --json ./new", "--json new", "--out new/out", "new"),
        ("report r.json --json x --plots x/y", "--json x", "--plots x/y", "x"),
    ],
)
def test_no_path_is_a_file_and_a_folder(folder, monkeypatch, capsys, command, first, second, file):
    said = refused(monkeypatch, capsys, *command.split())
    assert said == f"{first} and {second} would make {file} both a file and a folder: name another file"
    assert not Path(file).exists()


def test_what_replaces_nothing_may_be_named_twice(folder, monkeypatch, capsys, small):
    shutil.copy(small.folder / paths.PROGRAM, "program.off")
    for command in (
        "info program.off --json /dev/null",
        "simulate program.off --images 1 --trace /dev/null --json /dev/null",
        "disasm program.off --json other.json",
    ):
        assert run(*command.split())[1] == 0


def test_a_program_may_be_written_where_it_was_read(folder, small):
    shutil.copy(small.folder / paths.PROGRAM, "program.off")
    context = typer.Context(commands()["build"])
    model, out = (next(each for each in context.command.params if each.name == name) for name in ("model", "out"))
    model.callback(context, model, Path("program.off"))
    out.callback(context, out, Path("."))
    context.params = {"board": "any"}
    paths.check(context)
    Path("program.off").write_bytes((small.folder / paths.COMPRESSED).read_bytes())
    with pytest.raises(ValueError, match=r"^--out \. would write over program\.off"):
        paths.check(context)


def test_the_files_of_a_core_are_those_that_are_checked():
    assert {name.format(name="any") for name in CORE} == set(core_files(preset("tiny"), "any"))
