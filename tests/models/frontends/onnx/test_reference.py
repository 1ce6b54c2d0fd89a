"""What others compute for a file: whatever is asked for, on images as the file takes them."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from onnx import TensorProto

from models.frontends.onnx.file import OnnxInput, parse
from models.frontends.onnx.reference import feed, reference, runtime_outputs
from models.frontends.onnx.sites import Coding
from models.frontends.onnx.tail import without_tail
from models.frontends.runtimes import UnableError
from tests.models.frontends.onnx.onnx_models import model, node, saved

MAP = (1, 3, 6, 6)


def test_the_runtime_must_be_there(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        ModuleNotFoundError, match="ONNX Runtime must be installed to compare with it: pip install onnx"
    ):
        runtime_outputs(tmp_path / "net.onnx", np.zeros((1, 3, 6, 6), np.float32))


def test_the_runtime_on_tensors_and_numbers_of_images_of_any_kind(tmp_path):
    nodes = [node("Relu", "x", "r"), node("Flatten", "r")]
    given = np.random.default_rng(1).standard_normal((5, 3, 6, 6)).astype(np.float32)
    for batch in (2, "n"):
        path = saved(tmp_path, model(nodes, (batch, 3, 6, 6)))
        flat, relu = runtime_outputs(path, given, ("y", "r"))
        np.testing.assert_array_equal(relu, given.clip(0))
        np.testing.assert_array_equal(flat, relu.reshape(5, -1))
    with pytest.raises(UnableError, match=r"net\.onnx: ONNX Runtime can't run it"):
        runtime_outputs(path, given[:, :, :3].astype(np.float64))
    with pytest.raises(ValueError, match="cannot be read"):
        runtime_outputs(tmp_path / "none.onnx", given)


def test_a_file_that_the_runtime_cannot_run(tmp_path, monkeypatch):
    """As one of an opset that is newer than it."""

    def lacking(*_, **__):
        raise RuntimeError("NOT_IMPLEMENTED :\nno kernel")

    monkeypatch.setattr("onnxruntime.InferenceSession", lacking)
    path = saved(tmp_path, model([node("Flatten", "x")], MAP))
    with pytest.raises(UnableError, match=r"net\.onnx: ONNX Runtime can't run it: NOT_IMPLEMENTED : no kernel$"):
        runtime_outputs(path, np.zeros(MAP, np.float32))


def program(sizes, dtype="FLOAT", codes=None, last=False) -> SimpleNamespace:
    """All that is read of a program."""
    return SimpleNamespace(source=OnnxInput(name="x", sizes=sizes, dtype=dtype, is_channels_last=last), codes=codes)


IMAGES = np.arange(24, dtype=np.float32).reshape(2, 3, 1, 4)


@pytest.mark.parametrize(
    ("sizes", "last", "expected"),
    [
        ((None, 3, 1, 4), False, IMAGES),
        ((None, 1, 4, 3), True, IMAGES.transpose(0, 2, 3, 1)),
        ((None, 3, 4), False, IMAGES[:, :, 0]),
        ((None, 4, 3), True, IMAGES[:, :, 0].transpose(0, 2, 1)),
        ((None, 12), False, IMAGES.reshape(2, 12)),
    ],
)
def test_images_have_the_axes_of_the_file(sizes, last, expected):
    np.testing.assert_array_equal(feed(program(sizes, last=last), IMAGES), expected)


def test_images_have_the_type_of_the_file():
    assert feed(program((None, 3, 1, 4), "DOUBLE"), IMAGES).dtype == np.float64
    of = Coding(scale=0.5, zero_point=-3, dtype=torch.int8, low=-128, high=100)
    values = np.array([-1e9, -0.25, 0.25, 0.75, 1.0, 51.0, 52.0, 1e9], np.float32).reshape(1, 8, 1, 1)
    found = feed(program((None, 8, 1, 1), "INT8", of), values)
    assert found.dtype == np.int8
    assert found.reshape(-1).tolist() == [-128, -3, -3, -1, -1, 99, 100, 100]  # halves go to the even code


def test_the_reference_computes_what_is_left_of_a_graph(tmp_path):
    """An operator that nobody knows may stand in the file where no output needs it, and tails are left out."""
    nodes = [
        node("Constant", "", "c", value_float=2.0), node("Mul", "x c", "m"), node("Flatten", "m", "l"),
        node("Softmax", "l", "y"), node("LSTM", "x w w", "z", hidden_size=3),
    ]  # fmt: skip
    graph, _, _ = without_tail(parse(saved(tmp_path, model(nodes, MAP, {"w": np.ones((1, 12, 3), np.float32)}))))
    assert graph.outputs == ("l",)
    given = np.ones(MAP, np.float32)
    (found,) = reference(graph).run(None, {"x": given})
    np.testing.assert_array_equal(found, np.full((1, 108), 2.0))
    assert len(graph.model.graph.node) == 5


def test_the_reference_has_our_operators(tmp_path):
    made = model([node("GlobalMaxPool", "x")], MAP, opset=13, dtype=TensorProto.FLOAT)
    given = np.arange(108, dtype=np.float32).reshape(MAP)
    (found,) = reference(parse(saved(tmp_path, made))).run(None, {"x": given})
    assert found.reshape(-1).tolist() == [35, 71, 107]
