"""A network's module computes its steps in order, on maps as the file has them; observers see every one."""

import numpy as np
import pytest
import torch
from torch import nn

from models.frontends.onnx.module import OnnxModule
from models.frontends.onnx.reader import read
from tests.models.frontends.onnx.onnx_models import MICROSOFT, model, node, saved


def found(folder, nodes, shape, **given) -> OnnxModule:
    return read(saved(folder, model(nodes, shape, **given)))


@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (1, 3, 5), (1, 3)])
def test_images_have_four_axes_whatever_the_file_has(tmp_path, shape):
    module = found(tmp_path, [node("Relu", "x")], shape)
    height, width, channels = module.program.shape
    images = torch.randn(2, channels, height, width)
    result = module(images)
    assert result.shape == (2, *shape[1:])
    assert torch.equal(result, images.reshape(2, *shape[1:]).relu())


def test_an_observer_sees_every_step_and_may_replace_its_result(tmp_path):
    nodes = [node("Relu", "x", "a"), node("Add", "a x", "b"), node("Flatten", "b")]
    module, seen = found(tmp_path, nodes, (1, 1, 2, 2)), []

    def observe(step, result):
        seen.append((step.output, tuple(result.shape)))
        return result * 10 if step.output == "a" else result

    images = torch.tensor([[[[-1.0, 2.0], [3.0, -4.0]]]])
    result = module(images, observe)
    assert seen == [("a", (1, 1, 2, 2)), ("b", (1, 1, 2, 2)), ("y", (1, 4))]
    assert result.tolist() == [[-1.0, 22.0, 33.0, -4.0]]
    assert module(images).tolist() == [[-1.0, 4.0, 6.0, -4.0]]


def test_several_outputs_are_a_tuple_in_their_order(tmp_path):
    nodes = [node("Flatten", "x", "a"), node("Relu", "a", "b")]
    module = found(tmp_path, nodes, (1, 2, 1, 1), outputs="b a")
    first, second = module(torch.tensor([[[[-1.0]], [[2.0]]]]))
    assert (first.tolist(), second.tolist()) == ([[0.0, 2.0]], [[-1.0, 2.0]])


def test_sizes_are_those_of_the_images_that_come(tmp_path):
    nodes = [node("Shape", "x", "s", start=0, end=1), node("Concat", "s rest", "t", axis=0), node("Reshape", "x t")]
    module, sizes = found(tmp_path, nodes, ("n", 2, 2, 1), constants={"rest": np.array([-1])}), []

    def observe(step, result):
        sizes.extend(result.tolist() if step.output == "s" else [])
        return result

    for count in (1, 3):
        assert module(torch.zeros(count, 2, 2, 1), observe).shape == (count, 4)
    assert sizes == [1, 3]


def test_steps_are_called_as_nodes_are(tmp_path):
    """All of a node's modules are one step; nodes without a name have that of their result."""
    names = ["/layer.1/Conv", "a", "a", "", "a.weight", "program"]
    nodes = [node("Relu", "x" if n == 0 else f"t{n - 1}", f"t{n}") for n in range(len(names))]
    for each, name in zip(nodes, names, strict=True):
        each.name = name
    nodes.append(node("Flatten", f"t{len(names) - 1}"))
    assert found(tmp_path, nodes, (1, 1, 2, 2)).step_names == {
        "/layer_1/Conv": "/layer.1/Conv", "a": "a", "a_1": "a", "t3": "t3", "a_weight": "a.weight",
        "program_1": "program", "/Flatten/y": "/Flatten/y",
    }  # fmt: skip
    coded = [
        node("QuantizeLinear", "x s z", "q"),
        node("QLinearAdd", "q s z q s z s z", "c"),
        node("DequantizeLinear", "c s z"),
    ]
    coded[1].domain, coded[1].name = MICROSOFT, "sum.of.two"
    names = found(tmp_path, coded, (1, 1, 2, 2), constants={"s": np.float32(0.1), "z": np.int8(0)}).step_names
    assert {inner for inner, name in names.items() if name == "sum.of.two"} == {
        "sum_of_two", "sum_of_two.sources", "sum_of_two.sources.0", "sum_of_two.sources.1", "sum_of_two.module",
        "sum_of_two.target",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["Conv_3", "/layer/Conv", "x y", "weights"])
def test_names_that_children_may_have(name):
    assert OnnxModule.may_be_called(name)
    nn.Module().add_module(name, nn.ReLU())


@pytest.mark.parametrize("name", ["", "a.b", "forward", "training", "program", "_evaluate", "_modules"])
def test_names_that_children_may_not_have(name):
    assert not OnnxModule.may_be_called(name)
