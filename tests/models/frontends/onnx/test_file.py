"""Files that can't be, claim what they haven't, or reach for what isn't theirs."""

import itertools
import time
import tracemalloc

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.frontends.onnx.file import parse
from models.frontends.onnx.reader import read
from tests.models.frontends.onnx.onnx_models import model, node, saved

W = np.ones((2, 3, 3, 3), np.float32)
MAP = ("n", 3, 8, 8)


def plain(**changes):
    return model([node("Conv", "x w")], MAP, {"w": W}, **changes)


def changed(change):
    """A model with something done to it."""
    made = plain()
    change(made.graph)
    return made


def claimed(*sizes: int, dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """A model with a tensor that says it has other sizes."""

    def change(graph):
        graph.initializer[0].dims[:] = sizes
        graph.initializer[0].data_type = dtype

    return changed(change)


def doubling(times: int) -> onnx.ModelProto:
    """A map that is twice as large with each node."""
    names = ["x", *(f"t{n}" for n in range(times)), "y"]
    nodes = [node("Concat", f"{a} {a}", b, axis=1) for a, b in itertools.pairwise(names)]
    return model(nodes, MAP)


HOSTILE = {
    "a cycle": (
        model([node("Add", "x b", "a"), node("Relu", "a", "b")], MAP, outputs="b"),
        "Add '/Add/a' must read what a node before it computes or an initializer, not 'b'",
    ),
    "a missing initializer": (model([node("Conv", "x w")], MAP), "not 'w'"),
    "an output of nothing": (model([node("Relu", "x")], MAP, outputs="z"), "output 'z' must be computed by a node"),
    "twice the same": (model([node("Relu", "x"), node("Relu", "x")], MAP), "must write a tensor of its own, not 'y'"),
    "a negative size": (model([node("Relu", "x")], ("n", -3, 8, 8)), "must have 2 to 4 sizes, each 1 or more"),
    "a size of nothing": (model([node("Relu", "x")], ("n", 0, 8, 8)), "each 1 or more"),
    "five dimensions": (model([node("Relu", "x")], (1, 2, 3, 4, 5)), "must have 2 to 4 sizes"),
    "a huge image": (model([node("Relu", "x")], ("n", 1 << 40, 8, 8)), "each 1 or more"),
    "a large image": (model([node("Relu", "x")], ("n", 1 << 27, 8, 8)), "at most 134217728 elements together"),
    "texts": (model([node("Relu", "x")], MAP, dtype=TensorProto.STRING), "must be a tensor of FLOAT, FLOAT16"),
    "gigabytes of weights": (claimed(1 << 20, 1 << 20, 3, 3), "weights must take at most 268435456 bytes together"),
    "negative weights": (claimed(-2, 3, 3, 3), "must have sizes of 0 or more"),
    "fewer weights than said": (claimed(2, 3, 3, 4), "must hold as many elements as its sizes [2, 3, 3, 4] say"),
    "weights that are texts": (claimed(2, 3, 3, 3, dtype=TensorProto.STRING), "must hold numbers, not STRING"),
    "weights of no type": (claimed(2, 3, 3, 3, dtype=99), "of a type of ONNX's, not 99"),
    "complex weights": (claimed(27, dtype=TensorProto.COMPLEX64), "must be of integers or IEEE floats, not COMPLEX64"),
    "an old opset": (plain(opset=6), "the opset must be from 7 to 28, not 6"),
    "a newer opset": (plain(opset=99), "the opset must be from 7 to 28, not 99"),
    "a newer file": (plain(ir=99), "onnx.checker says: Your model ir_version 99 is higher"),
    "an attribute of another type": (
        model([node("Conv", "x w", group="many")], MAP, {"w": W}), "onnx.checker says: "
    ),
    "a huge constant": (
        model([node("ConstantOfShape", "s", "c"), node("Add", "x c")], MAP, {"s": np.array([1 << 20] * 3)}),
        "a result must have at most 67108864 elements, not 1152921504606846976",
    ),
    "a broadcast": (
        model([node("Mul", "a b", "c"), node("Add", "x c")], MAP, {
            "a": np.ones((1 << 20, 1), np.float32), "b": np.ones((1, 1 << 20), np.float32),
        }),
        "a result must have at most",
    ),
    "a map that doubles": (doubling(60), "maps must have at most 134217728 elements together, not more"),
    "wide padding": (
        model([node("Conv", "x w", pads=[1 << 24] * 4, strides=[1 << 24] * 2)], MAP, {"w": W}),
        "windows must take at most",
    ),
    "a wide window": (
        model([node("Conv", "x w", pads=[1 << 20] * 4, dilations=[1 << 20] * 2)], MAP, {"w": W}),
        "windows must take at most",
    ),
    "padding of gigabytes": (
        model([node("Pad", "x p")], MAP, {"p": np.array([0, 0, 1 << 29, 0, 0, 0, 1 << 29, 0])}),
        "at most 134217728 elements together",
    ),
    "much to compute": (
        model([
            node("Conv", "x w", "a", pads=[1] * 4), node("Conv", "a w", "b", pads=[1] * 4),
            node("Conv", "b w", "c", pads=[1] * 4), node("Conv", "c w", pads=[1] * 4),
        ], ("n", 256, 96, 96), {"w": np.ones((256, 256, 3, 3), np.float32)}),
        "a run must take at most 34359738368 products, not 43486543872",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def _warm(tmp_path_factory):
    """PyTorch loads what follows sizes when it is first needed, in seconds."""
    nodes = [node("Conv", "x w", "a"), node("Relu", "a")]
    read(saved(tmp_path_factory.mktemp("warm"), model(nodes, MAP, {"w": W})))


@pytest.mark.usefixtures("_warm")
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files(tmp_path, kind):
    made, message = HOSTILE[kind]
    path = saved(tmp_path, made)
    start = time.process_time()
    with pytest.raises(ValueError, match=r"net\.onnx: ") as error:
        read(path)
    assert time.process_time() - start < 1
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"net\.onnx: "):
        read(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 26


def test_weights_in_typed_fields_and_of_half_precision(tmp_path):
    tensors = [
        helper.make_tensor("w", TensorProto.FLOAT, W.shape, W.flatten()),
        numpy_helper.from_array(W.astype(np.float16), "w"), numpy_helper.from_array(W.astype(np.float64), "w"),
        helper.make_tensor("w", TensorProto.BFLOAT16, W.shape, W.flatten()),
    ]  # fmt: skip
    for tensor in tensors:
        found = parse(saved(tmp_path, changed(lambda graph, tensor=tensor: graph.initializer[0].CopyFrom(tensor))))
        np.testing.assert_array_equal(found.constants["w"], W)
        assert found.constants["w"].dtype == np.float32


def test_constants_of_nodes(tmp_path):
    values = {"value_int": 3, "value_ints": [1, 2], "value_float": 0.5, "value_floats": [0.5, 2.0]}
    for name, value in values.items():
        made = model([node("Constant", "", "c", **{name: value}), node("Relu", "x")], MAP)
        np.testing.assert_array_equal(parse(saved(tmp_path, made)).constants["c"], value)
    made = model([node("Constant", "", "c", value_string="text"), node("Relu", "x")], MAP)
    with pytest.raises(ValueError, match="must hold one tensor or numbers, not \\['value_string'\\]"):
        parse(saved(tmp_path, made))


def test_initializers_among_the_inputs_are_no_inputs(tmp_path):
    made = changed(lambda graph: graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, W.shape)))
    assert parse(saved(tmp_path, made)).input.name == "x"
    made = changed(lambda graph: graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1])))
    with pytest.raises(ValueError, match="one input and at least one output, not 2 and 1"):
        parse(saved(tmp_path, made))


def test_what_a_model_may_not_have(tmp_path):
    made = plain()
    made.functions.add().name = "own"
    with pytest.raises(ValueError, match=r"no functions of its own; onnx\.inliner"):
        parse(saved(tmp_path, made))
    with pytest.raises(ValueError, match="whole tensors, not sparse ones"):
        parse(saved(tmp_path, changed(lambda graph: graph.sparse_initializer.add())))
    with pytest.raises(ValueError, match="names of their own, not twice"):
        parse(saved(tmp_path, changed(lambda graph: graph.initializer.append(graph.initializer[0]))))
    made = changed(lambda graph: graph.node[0].attribute.append(onnx.AttributeProto(name="group", ref_attr_name="g")))
    with pytest.raises(ValueError, match="hold a value, not twice or refer to a function's"):
        parse(saved(tmp_path, made))
