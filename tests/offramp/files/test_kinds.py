import json
import re
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch

from hw.network.neutral import description
from models.training import resume
from offramp.files import kinds, paths
from offramp.files.kinds import (
    check_bitstream,
    check_integer,
    check_model,
    check_recipe,
    check_result,
    check_weights,
    kind_of,
    said_of,
    what_is,
)
from offramp.report.trace import counter_events
from tests.random_networks import random_network

ROOT = Path(__file__).parents[3]


@pytest.fixture
def files(tmp_path, small):
    """A file of each kind, and how they are made."""
    contents = {
        "result.json": json.dumps({"command": "bench"}),
        "trace.json": json.dumps(counter_events([], [], 50.0)),
        "network.json": json.dumps(description(random_network(1), "made here")[0]),
        "other.json": "[1]",
        "broken.json": "{",
        "wave.vcd": "$date today $end",
        "layout.gtkw": "[dumpfile] x",
        "net.py": "def net(): ...",
        "page.html": "<!DOCTYPE html>",
        "note.txt": "a note, 5 µs",
        "empty": "",
    }
    for name, text in contents.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "state.off").write_bytes(resume.MAGIC + b"\1\0\0\0")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    (tmp_path / "wave.fst").write_bytes(b"\0\0\1")
    (tmp_path / "board.bit").write_bytes(b"\xff\x00Part")
    (tmp_path / "net.tflite").write_bytes(b"\x18\0\0\0TFL3")
    (tmp_path / "noise").write_bytes(b"\xfe\0\1")
    (tmp_path / "net.h5").write_bytes(b"\x89HDF\r\n\x1a\n\0")
    (tmp_path / "graph.pb").write_bytes(b"\x0a\xff\0")
    (tmp_path / "variables.ckpt").write_bytes(b"\0\xff\0")
    (tmp_path / "state.pkl").write_bytes(b"\x80\x04}.")
    with ZipFile(tmp_path / "net.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    layer = torch.nn.Linear(3, 2)
    with ZipFile(tmp_path / "scripted.pt", "w") as archive:
        for name in ("net/data.pkl", "net/code/net.py", "net/constants.pkl"):
            archive.writestr(name, "")
    torch.export.save(torch.export.export(layer, (torch.rand(1, 3),)), tmp_path / "program.pt2")
    (tmp_path / "program.pt2").rename(tmp_path / "exported.pt")
    torch.save(layer.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": layer.state_dict()}, tmp_path / "lightning.ckpt")
    np.savez(tmp_path / "images.npz", images=np.zeros((2, 8, 8, 1)))
    np.save(tmp_path / "images.npy", np.zeros((2, 8, 8, 1)))
    torch.save({"a": torch.zeros(1)}, tmp_path / "state.pt")
    for name in (paths.TRAINED, paths.COMPRESSED, paths.PROGRAM):
        (tmp_path / name).symlink_to(small.folder / name)
    return tmp_path


def test_files_are_told_by_their_content(files):
    expected = {
        paths.TRAINED: "trained", paths.COMPRESSED: "compressed", paths.PROGRAM: "program",
        "net.tflite": kinds.OUTSIDE, "result.json": "result", "other.json": "JSON", "broken.json": "JSON",
        "trace.json": "trace", "network.json": "description", "state.off": "state",
        "wave.vcd": "waveform", "wave.fst": "waveform", "layout.gtkw": "waveform", "net.py": "module",
        "page.html": "page", "note.txt": "text", "empty": "empty", "picture.png": "picture", "board.bit": "bitstream",
        "noise": "other", "images.npz": "arrays", "images.npy": "arrays", "state.pt": "weights",
        "old.pth": "weights", "lightning.ckpt": "weights", "state.pkl": "pickle", "scripted.pt": "scripted",
        "exported.pt": "exported", "net.h5": "Keras", "net.keras": "Keras", "graph.pb": "TensorFlow",
        "variables.ckpt": "TensorFlow",
    }  # fmt: skip
    assert {path.name: what_is(path) for path in files.iterdir()} == expected
    assert what_is(files) == "folder"
    assert what_is(ROOT / "recipes" / "digits.toml") == "recipe"
    assert what_is(Path("/dev/null")) == "device"
    assert {name: said_of(files / name) for name in expected}.keys() == expected.keys()


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".pt", ".fst", ".toml", ".py", ".onnx"])
def test_an_empty_file_is_one_whatever_its_name(tmp_path, suffix):
    (tmp_path / f"x{suffix}").touch()
    assert what_is(tmp_path / f"x{suffix}") == "empty"


def test_a_text_is_no_file_of_numbers_whatever_its_name(tmp_path):
    for suffix in (".npz", ".pt", ".bit"):
        (tmp_path / f"x{suffix}").write_text("nothing")
        assert what_is(tmp_path / f"x{suffix}") == "text"


def test_a_letter_that_is_cut_at_the_end_of_what_is_read_is_a_letter(tmp_path):
    (tmp_path / "long").write_text("a" * 1023 + "µ" * 9)
    assert what_is(tmp_path / "long") == "text"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("result.json", "is the result of a command: see it (offramp report {})"),
        ("net.py", "is a Python file: a function in it that makes a model is {}:FUNCTION"),
        ("images.npz", "is NumPy arrays: images of them are for --data {}"),
        (
            "state.pt",
            "is weights alone: the model is module.py:factory --weights {}, whose factory makes the network",
        ),
        ("state.pkl", "is a pickle, which runs code when it is read: save its weights as .safetensors, for --weights"),
        ("exported.pt", "is a program of torch.export: let its name end in .pt2"),
        (
            "net.keras",
            "is a Keras model or other HDF5 data: convert the model to int8 TensorFlow Lite (tf.lite.TFLiteConverter) "
            "or to ONNX (tf2onnx)",
        ),
        ("wave.fst", "is a waveform: see it in GTKWave or Surfer"),
        ("trace.json", "is a trace: see it in Perfetto (ui.perfetto.dev)"),
        ("state.off", "is what train keeps to go on with: call offramp train again, which reads it"),
        ("empty", "is an empty file, and a model is .tflite, .onnx, .pt2, module.py:factory, .off or zoo:NAME"),
        (".", "is a folder, and a model is .tflite, .onnx, .pt2, module.py:factory, .off or zoo:NAME"),
    ],
)
def test_what_is_no_model_is_named_with_what_to_do(files, name, message):
    path = files / name
    for refuse in (kind_of, check_model):
        with pytest.raises(ValueError, match=f"^{re.escape(f'{path} {message.format(path)}')}$"):
            refuse(path)


def test_a_folder_of_tensorflow_is_a_model_of_its(tmp_path):
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(ValueError, match=r"is a model of TensorFlow's: convert the model to int8 TensorFlow Lite"):
        check_model(tmp_path)


def test_a_damaged_archive_is_what_its_name_says(tmp_path):
    (tmp_path / "x.pt").write_bytes(b"PK\x03\x04\xff" + bytes(99))
    assert what_is(tmp_path / "x.pt") == "weights"


def test_a_model_whose_name_says_something_else_is_named(files):
    wrong = files / "program.onnx"
    wrong.symlink_to(files / paths.PROGRAM)
    with pytest.raises(ValueError, match=r"is a program: run it \(offramp simulate .*\), whatever its name says$"):
        check_model(wrong)
    (files / "none.onnx").touch()
    with pytest.raises(ValueError, match=r"none\.onnx is an empty file, whatever its name says$"):
        check_model(files / "none.onnx")
    for name in ("zoo:digits", "zoo:digits@base-85f", f"{files}/net.py:net", files / "net.tflite"):
        check_model(Path(name))


def test_a_trained_network_does_not_run(files):
    said = f"{files / paths.TRAINED} is a trained network: compress it first (offramp compress "
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        check_integer(files / paths.TRAINED)
    check_integer(files / paths.COMPRESSED)


def test_other_arguments_are_refused_by_what_they_are(files):
    compressed = files / paths.COMPRESSED
    for check, must in (
        (check_recipe, "must be a recipe (.toml), not"),
        (check_result, "must be the result of a command (--json FILE), not"),
    ):
        said = f"{compressed} {must} a compressed network: compile it first (offramp compile {compressed})"
        with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
            check(compressed)
    with pytest.raises(
        ValueError, match=r"note\.txt must be weights \(\.safetensors or a state dictionary\), not a text file$"
    ):
        check_weights(files / "note.txt")
    with pytest.raises(ValueError, match=r"must be a bitstream, as offramp build writes it, not the result of a c"):
        check_bitstream(files / "result.json")
    check_bitstream(files / "board.bit")
    check_recipe(ROOT / "recipes" / "digits.toml")
    check_result(files / "result.json")
    check_weights(files / "state.pt")


def test_a_recipe_of_another_ending_is_one(tmp_path):
    (tmp_path / "recipe").write_text('name = "net"')
    check_recipe(tmp_path / "recipe")
    (tmp_path / "note").write_text("a note")
    with pytest.raises(ValueError, match=r"note must be a recipe \(\.toml\), not a text file$"):
        check_recipe(tmp_path / "note")
