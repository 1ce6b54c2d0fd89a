"""Options that say what a model from outside is: what becomes of them, and what is refused."""

import inspect
import re
from pathlib import Path

import pytest

from offramp.commands.model_options import takes_model
from tests.offramp.command_line import refused


def asked(command):
    """What a command is called with, of a function that has its parameters."""
    seen = []

    def one(*, model: Path, seed: int = 0, request) -> None:
        seen.append(request)

    def several(*, models: list[Path], seed: int = 0, requests) -> None:
        seen.extend(requests)

    return takes_model({"one": one, "several": several}[command]), seen


def defaults(call):
    """What the command line gives where nothing is said."""
    found = inspect.signature(call).parameters.values()
    return {each.name: each.default for each in found if each.default is not inspect.Parameter.empty}


def test_the_options_stand_in_place_of_the_request():
    call, _ = asked("one")
    names = list(inspect.signature(call).parameters)
    assert names == [
        "model", "seed", "output_tensor", "weights", "calibrate", "ranges", "shape", "scale", "mean", "deviation",
        "data_dir",
    ]  # fmt: skip
    assert set(call.__annotations__) == set(names)


def test_a_request_holds_what_was_said():
    call, seen = asked("one")
    said = {"shape": "8, 6,3", "scale": 255.0, "mean": "1,2,3.5", "deviation": "2", "calibrate": "digits", "seed": 4}
    call(**defaults(call) | said | {"model": Path("net.onnx"), "data_dir": Path("data")})
    (found,) = seen
    assert (found.model, found.shape, found.calibrate, found.seed) == ("net.onnx", (8, 6, 3), "digits", 4)
    assert (found.ranges, found.weights, found.root) == ("minmax", None, Path("data"))
    assert found.preprocessing.scale == 255.0
    assert found.preprocessing.mean == (1.0, 2.0, 3.5)
    assert found.preprocessing.deviation == (2.0,)


def test_each_of_several_models_has_a_request():
    call, seen = asked("several")
    call(**defaults(call) | {"models": [Path("a.onnx"), Path("b.pt2")], "ranges": "mse", "seed": 2})
    assert [(each.model, each.ranges, each.seed) for each in seen] == [("a.onnx", "mse", 2), ("b.pt2", "mse", 2)]


def test_several_models_must_all_take_the_options():
    call, seen = asked("several")
    with pytest.raises(ValueError, match=r"^--calibrate must go with a float model: b.off is int8 already$"):
        call(**defaults(call) | {"models": [Path("a.onnx"), Path("b.off")], "calibrate": "digits"})
    assert seen == []


@pytest.mark.parametrize(("text", "shape"), [("8,9,3", (8, 9, 3)), ("1, 1, 640", (1, 1, 640)), ("640", (1, 1, 640))])
def test_a_shape_is_that_of_an_image_or_of_a_row_of_values(text, shape):
    call, seen = asked("one")
    call(**defaults(call) | {"model": Path("net.onnx"), "shape": text})
    assert [each.shape for each in seen] == [shape]


@pytest.mark.parametrize(
    "text", ["8,8", "0", "-640", "8,8,3,1", "8,0,3", "8,-1,3", "a,b,c", "8,8,3.5", "", "\uff18,8,3"]
)
def test_shapes_that_are_none(text):
    call, _ = asked("one")
    message = (
        "--shape must be HEIGHT,WIDTH,CHANNELS, three positive whole numbers, or one, of a network that takes rows of "
        f"values, not {text!r}"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call(**defaults(call) | {"model": Path("net.onnx"), "shape": text})


@pytest.mark.parametrize("option", ["mean", "deviation"])
@pytest.mark.parametrize("text", ["", "a", "1,,2", "1;2"])
def test_numbers_that_are_none(option, text):
    call, _ = asked("one")
    with pytest.raises(ValueError, match=f"^--{option} must be "):
        call(**defaults(call) | {"model": Path("net.onnx"), option: text})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("info", "none.onnx"), "none.onnx: cannot be read: No such file or directory"),
        (("info", "."), ". is a folder, and a model is"),
        (("info", "zoo:digits", "--weights", "none.pt"), "none.pt: cannot be read"),
        (
            ("info", "zoo:digits", "--weights", "w.safetensors"),
            "--weights must go with module.py:factory",
        ),
        (("info", "zoo:digits", "--ranges", "most"), "ranges must be one of minmax, percentile, mse, not 'most'"),
        (("info", "zoo:digits", "--calibrate", "none.npz"), "none.npz"),
    ],
)
def test_what_the_command_line_refuses(monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    assert message in refused(monkeypatch, capsys, *arguments)
