"""What only orders classes is left out; whatever else a graph ends in stays."""

import itertools

import numpy as np
import pytest

from models.frontends.onnx.file import OnnxGraph, OnnxInput, OnnxNode, parse
from models.frontends.onnx.reader import read
from models.frontends.onnx.tail import needed, without_tail
from tests.models.frontends.onnx.onnx_models import model, node, saved

MAP = ("n", 3, 8, 8)
WEIGHT = np.random.default_rng(4).standard_normal((192, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("nodes", "left_out"),
    [
        ([node("Softmax", "l")], "Softmax '/Softmax/y'"),
        ([node("LogSoftmax", "l", axis=1)], "LogSoftmax '/LogSoftmax/y'"),
        ([node("Sigmoid", "l")], "Sigmoid '/Sigmoid/y'"),
        ([node("Tanh", "l")], "Tanh '/Tanh/y'"),
        ([node("ArgMax", "l", axis=-1, keepdims=0)], "ArgMax '/ArgMax/y'"),
        ([node("Softmax", "l", "s"), node("ArgMax", "s", axis=1)], "Softmax '/Softmax/s', ArgMax '/ArgMax/y'"),
        (
            [node("Softmax", "l", "s"), node("QuantizeLinear", "s k", "q"), node("DequantizeLinear", "q k")],
            "Softmax '/Softmax/s', QuantizeLinear '/QuantizeLinear/q', DequantizeLinear '/DequantizeLinear/y'",
        ),
    ],
)
def test_what_only_orders_classes_is_left_out(tmp_path, nodes, left_out):
    constants = {"w": WEIGHT, "k": np.float32(1 / 255)}
    every = [node("Flatten", "x", "f"), node("MatMul", "f w", "l"), *nodes]
    found = read(saved(tmp_path, model(every, MAP, constants)))
    assert found.program.notes == (f"output y: {left_out} left out, the order of the classes stays",)
    assert found.program.outputs == ("l",)


def test_what_orders_something_else_stays_and_is_refused(tmp_path):
    constants = {"w": WEIGHT}
    for nodes in (
        [node("Softmax", "l", axis=0)],
        [node("ArgMax", "l")],
        [node("Softmax", "l", "s"), node("Relu", "s")],
        [node("Tanh", "l", "s"), node("Relu", "s")],
    ):
        every = [node("Flatten", "x", "f"), node("MatMul", "f w", "l"), *nodes]
        with pytest.raises(ValueError, match="isn't supported; the nearest that is: the same as the network's last"):
            read(saved(tmp_path, model(every, MAP, constants)))


def test_twice_the_same_output_is_one(tmp_path):
    every = [node("Flatten", "x", "f"), node("MatMul", "f w", "l"), node("Softmax", "l", "p")]
    found = read(saved(tmp_path, model(every, MAP, {"w": WEIGHT}, outputs="l p")))
    assert found.program.outputs == ("l",)
    assert found.program.notes[1] == "output p: left out, it is another one's"


def test_what_no_output_needs_may_be_anything(tmp_path):
    every = [node("LSTM", "x w w", "z", hidden_size=3), node("Relu", "x")]
    found = read(saved(tmp_path, model(every, MAP, {"w": np.ones((1, 12, 3), np.float32)})))
    assert len(found.program.steps) == 1


def ended(folder, nodes, outputs="y", opset=17):
    """What is left of a graph that computes logits ``l`` and goes on with nodes: its outputs and notes."""
    every = [node("Flatten", "x", "f"), node("MatMul", "f w", "l"), *nodes]
    graph, notes, _ = without_tail(parse(saved(folder, model(every, MAP, {"w": WEIGHT}, outputs=outputs, opset=opset))))
    assert {name for made in graph.nodes for name in made.outputs} >= set(graph.outputs)
    return graph.outputs, notes


@pytest.mark.parametrize(
    ("opset", "attributes", "output"),
    [(11, {}, "l"), (11, {"axis": 0}, "y"), (13, {}, "l"), (13, {"axis": 1}, "l"), (13, {"axis": 2}, "y")],
)
def test_a_softmax_is_over_the_classes_by_its_opsets_axis(tmp_path, opset, attributes, output):
    assert ended(tmp_path, [node("Softmax", "l", **attributes)], opset=opset)[0] == (output,)


def test_what_passes_values_on_is_left_out_only_before_what_orders_them(tmp_path):
    passing = [node("Identity", "l", "i"), node("Softmax", "i", "s"), node("Identity", "s")]
    (outputs, (note,)) = ended(tmp_path, passing)
    assert outputs == ("i",)
    assert note == "output y: Softmax '/Softmax/s', Identity '/Identity/y' left out, the order of the classes stays"
    assert ended(tmp_path, [node("Identity", "l", "i"), node("Identity", "i")]) == (("y",), ())


def test_a_softmax_before_something_that_computes_stays(tmp_path):
    assert ended(tmp_path, [node("Softmax", "l", "s"), node("Mul", "s s")]) == (("y",), ())


def test_only_the_tail_of_an_output_itself_is_left_out(tmp_path):
    outputs, notes = ended(tmp_path, [node("Sigmoid", "l", "p"), node("Relu", "l")], outputs="y p l")
    assert outputs == ("y", "l")
    assert notes == (
        "output p: Sigmoid '/Sigmoid/p' left out, the order of the classes stays",
        "output l: left out, it is another one's",
    )


def graph_of(edges: dict[str, str], outputs: str) -> OnnxGraph:
    """A graph of nodes that read and write tensors of one letter each."""
    nodes = (
        OnnxNode(operator="Any", name=written, inputs=tuple(read), outputs=tuple(written), attributes={})
        for written, read in edges.items()
    )
    source = OnnxInput(name="x", sizes=(1, 2), dtype="FLOAT")
    return OnnxGraph(opset=17, nodes=tuple(nodes), constants={}, input=source, outputs=tuple(outputs), model=None)


def test_nodes_that_no_output_needs_go_and_the_others_keep_their_order():
    edges = {"a": "x", "b": "a", "cd": "ax", "e": "b", "f": "de", "g": "f"}
    reads = {name: read for written, read in edges.items() for name in written}
    for count in range(len(reads) + 1):
        for outputs in itertools.combinations(reads, count):
            wanted = set(outputs)
            while more := {name for one in wanted & reads.keys() for name in reads[one]} - wanted:
                wanted |= more
            found = [one.name for one in needed(graph_of(edges, "".join(outputs))).nodes]
            assert found == [written for written in edges if wanted & set(written)]


CONV = {"k": np.random.default_rng(5).standard_normal((4, 3, 3, 3)).astype(np.float32), "t": np.array([0, 2, -1])}


@pytest.mark.parametrize(
    ("window", "nodes", "opset", "said"),
    [
        (3, [node("Softmax", "l", axis=-1)], 17, "Softmax .* not over axis -1 of .4, 6, 6.: leave it out"),
        (3, [node("Softmax", "l", axis=1)], 17, "Softmax .* not over axis 1 of .4, 6, 6."),
        (3, [node("ArgMax", "l", axis=1)], 17, "ArgMax .* not over axis 1 of .4, 6, 6."),
        (3, [node("Softmax", "l", axis=-1)], 11, "Softmax .* not over axis -1 of .4, 6, 6."),
        (3, [node("Softmax", "l")], 11, None),
        (8, [node("Softmax", "l", axis=1)], 17, None),
        (8, [node("Softmax", "l", axis=-1)], 17, "Softmax .* not over axis -1 of .4, 1, 1."),
        (8, [node("Sigmoid", "l", "s"), node("ArgMax", "s", axis=1)], 17, None),
        (8, [node("Flatten", "l", "f"), node("Softmax", "f")], 17, None),
        (8, [node("Sigmoid", "l", "s"), node("Flatten", "s", "f"), node("ArgMax", "f", axis=-1)], 17, None),
        (
            8,
            [node("Sigmoid", "l", "s"), node("Reshape", "s t", "f"), node("ArgMax", "f", axis=-1)],
            17,
            "ArgMax .* not over axis -1 of .2, 2.",
        ),
        (
            8,
            [node("Sigmoid", "l", "s"), node("Shape", "s", "z"), node("Reshape", "s z", "f"), node("Softmax", "f")],
            17,
            "Softmax .* not over axis -1 of sizes that aren't known",
        ),
    ],
)
def test_what_is_left_out_is_over_all_values_of_an_image(tmp_path, window, nodes, opset, said):
    """Over the positions of a map, or over its channels at each of them, it would change which value is the largest."""
    pool = [node("AveragePool", "c", "l", kernel_shape=[6, 6])] if window == 8 else [node("Identity", "c", "l")]
    every = [node("Conv", "x k", "c"), *pool, *nodes]
    path = saved(tmp_path, model(every, MAP, CONV, opset=opset))
    if said is None:
        assert "the order of the classes stays" in read(path).program.notes[0]
    else:
        with pytest.raises(ValueError, match=said):
            read(path)
