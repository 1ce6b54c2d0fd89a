"""From a graph to its steps: names of children, biases, codes that are followed, and all that can't be at once."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.frontends.onnx.builder import build
from models.frontends.onnx.file import parse
from models.frontends.onnx.layers import Quantize
from models.frontends.onnx.reader import read
from models.frontends.onnx.stand_in import StandIn
from tests.models.frontends.onnx.onnx_models import checked, model, node, saved

MAP, FLAT = ("n", 3, 8, 8), ("n", 6)
RNG = np.random.default_rng(4)
B = np.arange(4, dtype=np.float32)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def built(folder, nodes, constants=None, shape=MAP, **given):
    """The module of a graph, whatever can't be followed."""
    return build(parse(saved(folder, model(nodes, shape, constants, **given))), (8, 8, 3), ())


def flow(found):
    """Each step's operator, inputs and output."""
    return [(step.node.operator, step.inputs, step.output) for step in found.program.steps]


def test_children_have_the_names_of_nodes(tmp_path):
    """Also those that a module can't have as they are."""
    names = ["layer.1/Conv", "forward", "training", "", "x y\n", "program", "layer.1/Conv", "_modules"]
    nodes = [node("Relu", "x" if n == 0 else f"t{n - 1}", f"t{n}") for n in range(len(names))]
    for each, name in zip(nodes, names, strict=True):
        each.name = name
    nodes.append(node("Add", f"t{len(names) - 1} x"))
    found = read(saved(tmp_path, model(nodes, MAP)))
    assert [step.child for step in found.program.steps] == [
        "layer_1/Conv", "forward_1", "training_1", "t3", "x y\n", "program_1", "layer_1/Conv_1", "_modules_1", "/Add/y",
    ]  # fmt: skip


def test_weights_that_two_nodes_share(tmp_path):
    nodes = [node("Conv", "x w", "a", pads=[1] * 4), node("Conv", "a w", pads=[1] * 4)]
    checked(saved(tmp_path, model(nodes, MAP, {"w": floats(3, 3, 3, 3)})))


@pytest.mark.parametrize("order", ["m b", "b m"])
@pytest.mark.parametrize("bias", [B, floats(1, 4), floats(1)])
def test_a_matmul_takes_the_constant_behind_it_as_its_bias(tmp_path, order, bias):
    nodes = [node("MatMul", "x w", "m"), node("Add", order)]
    found = checked(saved(tmp_path, model(nodes, FLAT, {"w": floats(6, 4), "b": bias})))
    (step,) = found.program.steps
    assert (step.child, step.output) == ("/MatMul/m", "y")
    assert found.get_submodule("/MatMul/m").bias is not None


def test_a_matmul_that_others_read_keeps_its_result(tmp_path):
    nodes = [node("MatMul", "x w", "m"), node("Add", "m b", "a"), node("Add", "a m")]
    found = checked(saved(tmp_path, model(nodes, FLAT, {"w": floats(6, 4), "b": B})))
    assert len(found.program.steps) == 3


def test_all_that_is_unsupported_is_named_at_once(tmp_path):
    nodes = [
        node("Conv", "x w", "c"), node("HardSwish", "c", "h"), node("LeakyRelu", "h", "l"), node("Relu", "l", "r"),
        node("InstanceNormalization", "r s s", "i"), node("Conv", "i w", "d", group=3),
    ]  # fmt: skip
    constants = {"w": floats(4, 4, 1, 1), "s": np.ones(4, np.float32)}
    path = saved(tmp_path, model(nodes, ("n", 4, 8, 8), constants, outputs="d"))
    with pytest.raises(ValueError, match="isn't supported") as error:
        read(path)
    for part in ("HardSwish '/HardSwish/h'", "LeakyRelu '/LeakyRelu/l'", "nearest that is: BatchNormalization"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    "nodes",
    [
        [node("MatMul", "x w", "m"), node("Add", "m m")],
        [node("MatMul", "x w", "m"), node("Add", "m wide")],  # no bias of four outputs
        [node("Relu", "x", "m"), node("Add", "m six")],
    ],
)
def test_additions_that_are_no_bias_stay(tmp_path, nodes):
    constants = {"w": floats(6, 4), "wide": floats(2, 4), "six": floats(6)}
    found = built(tmp_path, nodes, constants, FLAT)
    assert [step.node.operator for step in found.program.steps][-1] == "Add"
    assert found.program.refused == ()


def test_what_depends_on_no_image_is_no_step(tmp_path):
    nodes = [
        node("Mul", "a a", "b"), node("Neg", "b", "c"), node("Add", "x c", "d"), node("Shape", "d", "s"),
        node("Slice", "s zero one", "n"), node("Concat", "n rest", "t", axis=0), node("Reshape", "d t"),
    ]  # fmt: skip
    constants = {"a": np.float32(3), "zero": np.array([0]), "one": np.array([1]), "rest": np.array([-1])}
    found = built(tmp_path, nodes, constants)
    operators = [operator for operator, *_ in flow(found)]
    assert operators == ["Add", "Shape", "Slice", "Concat", "Reshape"]
    assert found.program.constants.keys() == {"zero", "one", "rest"}
    assert [step.child is None for step in found.program.steps] == [False, True, True, True, False]
    given = torch.ones(2, 3, 8, 8)
    assert torch.equal(found(given), torch.full((2, 192), 1.0 - 9))


CODES = {"s": np.float32(0.1), "t": np.float32(0.2), "z": np.int8(0), "low": np.int8(-7), "high": np.int8(50)}


def test_a_clip_of_codes_narrows_what_quantizes_them(tmp_path):
    nodes = [node("QuantizeLinear", "x s z", "q"), node("Clip", "q low high", "c"), node("DequantizeLinear", "c s z")]
    found = built(tmp_path, nodes, CODES)
    assert flow(found) == [("QuantizeLinear", ("x",), "c"), ("DequantizeLinear", ("c",), "y")]
    of = found.get_submodule("/QuantizeLinear/q").of
    assert (of.low, of.high) == (-7, 50)


def test_a_clip_of_codes_that_others_read_stands_for_itself(tmp_path):
    nodes = [
        node("QuantizeLinear", "x s z", "q"), node("Clip", "q low high", "c"), node("DequantizeLinear", "c s z", "d"),
        node("DequantizeLinear", "q s z", "e"), node("Add", "d e"),
    ]  # fmt: skip
    found = built(tmp_path, nodes, CODES)
    assert [output for *_, output in flow(found)] == ["q", "c", "d", "e", "y"]
    given = torch.tensor([-99.0, -1.0, 0.0, 2.0, 99.0]).reshape(5, 1, 1, 1)
    codes = (given * 10).round()
    expected = (codes.clamp(-7, 50) + codes.clamp(-128, 127)) * np.float32(0.1)
    torch.testing.assert_close(found(given), expected)


def test_outputs_of_codes_become_floats_under_a_name_that_is_free(tmp_path):
    nodes = [node("Relu", "x", "y.0"), node("QuantizeLinear", "y.0 s z", "y")]
    found = built(tmp_path, nodes, CODES)
    assert found.program.outputs == ("y.1",)
    assert found.program.quantized
    assert torch.equal(found(torch.full((1, 3, 8, 8), 0.16)), torch.full((1, 3, 8, 8), np.float32(0.1) * 2))


def test_what_gives_codes_on_is_followed_back_to_the_input(tmp_path):
    """An input of codes stands for what its first reader says, behind what only moves them, too."""
    nodes = [node("Flatten", "x", "f"), node("DequantizeLinear", "f t z")]
    found = built(tmp_path, nodes, CODES, dtype=3)
    assert found.program.codes.scale == np.float32(0.2)
    first = found.program.steps[0]
    assert (first.inputs, first.output) == (("x",), "x")
    assert isinstance(found.get_submodule(first.child), Quantize)
    numbers = built(tmp_path, [node("Cast", "x", to=1)], dtype=3)
    assert numbers.program.codes is None


def test_what_reads_an_unknown_tensor_is_not_refused_a_second_time(tmp_path):
    nodes = [
        node("QuantizeLinear", "x s z", "q"), node("HardSwish", "q", "h"), node("Conv", "h w", "c"), node("Relu", "c"),
    ]  # fmt: skip
    found = built(tmp_path, nodes, CODES | {"w": floats(4, 3, 3, 3)}, opset=14)
    assert [reason.partition(":")[0] for reason in found.program.refused] == [
        "HardSwish '/HardSwish/h' isn't supported; the nearest that is"
    ]
    assert not found.program.is_whole
    assert flow(found) == [("QuantizeLinear", ("x",), "q")]


def test_something_stands_for_a_node_of_floats_that_is_refused(tmp_path):
    found = built(tmp_path, [node("HardSwish", "x", "h"), node("Relu", "h")], opset=14)
    assert len(found.program.refused) == 1
    assert found.program.is_whole
    assert isinstance(found.get_submodule("/HardSwish/h"), StandIn)


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [([node("Neg", "a"), node("Relu", "x", "r")], "r y"), ([node("Shape", "x"), node("Relu", "x", "r")], "r y"),
     ([node("Relu", "x", "r")], "r x")],
)  # fmt: skip
def test_outputs_that_no_node_computes_from_the_image(tmp_path, nodes, outputs):
    graph = parse(saved(tmp_path, model(nodes, MAP, {"a": np.float32(1)}, outputs="r")))
    (reason,) = build(replace(graph, outputs=tuple(outputs.split())), (8, 8, 3), ()).program.refused
    assert reason == f"output {outputs[-1]!r} must be computed from the image by nodes"
