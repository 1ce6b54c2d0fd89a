"""Files in TensorFlow's layout: transpositions cancel, or stay where they don't."""

import numpy as np
import pytest
import torch

from models.frontends.onnx.layout import inverse
from models.frontends.onnx.reader import read
from models.frontends.onnx.reference import feed, runtime_outputs
from models.frontends.pytorch.graph import lower
from tests.models.frontends.onnx.onnx_models import checked, images, model, node, saved

RNG = np.random.default_rng(8)
FIRST, LAST = [0, 3, 1, 2], [0, 2, 3, 1]
MAP = ("n", 6, 5, 3)  # channels last


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


CONSTANTS = {
    "w": floats(4, 3, 3, 3), "v": floats(4, 4, 1, 1), "m": floats(4, 3), "big": floats(48, 3), "both": floats(8, 3),
    "flat": np.array([-1, 48]), "c": floats(4), "axes": np.array([1, 2]), "s": np.float32(0.05), "z": np.int8(3),
}  # fmt: skip
BODY = [node("Transpose", "x", "f", perm=FIRST), node("Conv", "f w", "a"), node("Relu", "a", "r")]
BACK = [*BODY, node("Transpose", "r", "l", perm=LAST)]

GRAPHS = {
    "at the input": [*BODY, node("GlobalAveragePool", "r", "g"), node("Flatten", "g", "h"), node("MatMul", "h m")],
    "around each convolution": [
        *BACK, node("Identity", "l", "k"), node("Transpose", "k", "t", perm=FIRST), node("Conv", "t v", "u"),
        node("Transpose", "u", "o", perm=LAST), node("Add", "o l", "e"),
        node("ReduceMean", "e", "p", axes=[1, 2], keepdims=0), node("MatMul", "p m"),
    ],
    "one position": [*BODY, node("GlobalAveragePool", "r", "g"), node("Transpose", "g", "t", perm=LAST),
                     node("Reshape", "t four", "h"), node("MatMul", "h m")],
    "flattened": [*BACK, node("Reshape", "l flat", "h"), node("MatMul", "h big")],
    "flattened, with a bias": [*BACK, node("Flatten", "l", "h"), node("MatMul", "h big", "i"), node("Add", "i three")],
    "a Gemm": [*BACK, node("Flatten", "l", "h"), node("Identity", "h", "i"), node("Gemm", "i big three")],
    "constants": [*BACK, node("Mul", "l c", "k"), node("Sub", "c k", "j"), node("Flatten", "j", "h"),
                  node("MatMul", "h big")],
    "side by side": [*BACK, node("Concat", "l l", "k", axis=-1), node("ReduceMean", "k", "p", axes=[-2, 1], keepdims=1),
                     node("Flatten", "p", "h"), node("MatMul", "h both")],
    "codes": [
        node("QuantizeLinear", "x s z", "xq"), node("DequantizeLinear", "xq s z", "xd"),
        node("Transpose", "xd", "f", perm=FIRST), node("Conv", "f w", "a"), node("Transpose", "a", "l", perm=LAST),
        node("QuantizeLinear", "l s z", "lq"), node("DequantizeLinear", "lq s z", "ld"),
        node("Reshape", "ld flat", "h"), node("MatMul", "h big"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", GRAPHS)
@pytest.mark.parametrize("batch", ["n", 1])
def test_transpositions_cancel(tmp_path, kind, batch):
    constants = CONSTANTS | {"four": np.array([-1, 4]), "three": floats(3)}
    found = checked(saved(tmp_path, model(GRAPHS[kind], (batch, *MAP[1:]), constants)), tolerance=1e-4)
    assert found.program.source.is_channels_last
    assert found.program.shape == (6, 5, 3)
    program = torch.export.export(found, (torch.rand(3, 3, 6, 5),))
    varying = [
        each for each in program.graph.nodes
        if "permute" in str(each.target) and program.graph_signature.user_inputs[0] in str(each.args[0])
    ]  # fmt: skip
    assert varying == []
    if kind not in ("constants", "codes", "side by side"):
        graph = lower(found, (6, 5, 3))
        assert graph.steps[-1].shape == (1, 1, 3)


def test_onnx_runtimes_tensors_lie_as_in_the_file(tmp_path):
    path = saved(tmp_path, model(GRAPHS["codes"], MAP, CONSTANTS))
    found, steps = read(path), {}
    given = images(found)
    with torch.no_grad():
        found(torch.from_numpy(given), lambda step, result: steps.setdefault(step.output, result))
    orders = found.program.layouts.orders
    names = ["xq", "f", "a", "l", "lq", "y"]
    for name, expected in zip(names, runtime_outputs(path, feed(found.program, given), names), strict=True):
        values = steps[name].numpy()
        turned = values.transpose(orders.get(name, range(values.ndim))).astype(np.float32)
        np.testing.assert_allclose(turned, expected.astype(np.float32), rtol=0, atol=1e-4)


def test_those_that_do_not_cancel_stay(tmp_path):
    """In what is computed; the accelerator has nothing for them."""
    constants = CONSTANTS | {"k": floats(2, 4, 1, 1)}
    nodes = [*BODY, node("Transpose", "r", "t", perm=[0, 2, 1, 3]), node("Conv", "t k", "q"), node("Flatten", "q")]
    found = checked(saved(tmp_path, model(nodes, MAP, constants)), tolerance=1e-4)
    with pytest.raises(ValueError, match="permute"):
        lower(found, (6, 5, 3))


def test_an_image_that_others_read_as_it_is_has_channels_first(tmp_path):
    nodes = [node("Transpose", "x", "t", perm=FIRST), node("Flatten", "t", "a"), node("Flatten", "x", "b"),
             node("Concat", "a b", axis=1)]  # fmt: skip
    found = checked(saved(tmp_path, model(nodes, MAP)))
    assert not found.program.source.is_channels_last
    assert found.program.shape == (5, 3, 6)


def test_outputs_lie_as_in_the_file(tmp_path):
    found = checked(saved(tmp_path, model([*BODY, node("Transpose", "r", perm=LAST)], MAP, CONSTANTS)))
    with torch.no_grad():
        assert found(torch.rand(2, 3, 6, 5)).shape == (2, 4, 3, 4)


def test_rows_with_channels_last(tmp_path):
    nodes = [node("Transpose", "x", "t", perm=[0, 2, 1]), node("Conv", "t k")]
    found = checked(saved(tmp_path, model(nodes, ("n", 9, 3), {"k": floats(4, 3, 3)})))
    assert found.program.shape == (1, 9, 3)


def test_inverse():
    assert inverse((0, 3, 1, 2)) == (0, 2, 3, 1)
