"""All reasons at once: what follows a node that was refused is looked at, too."""

import numpy as np
import pytest
import torch

from models.frontends.onnx.reader import read
from models.frontends.onnx.stand_in import OnnxRefusalError, StandIn
from tests.models.frontends.onnx.onnx_models import model, node, saved

RNG = np.random.default_rng(7)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def refused(folder, nodes, constants, shape=("n", 4, 6, 6), opset=20) -> OnnxRefusalError:
    with pytest.raises(OnnxRefusalError) as said:
        read(saved(folder, model(nodes, shape, constants, opset=opset)))
    assert str(said.value).endswith("; ".join(said.value.reasons))
    return said.value


def test_operators_attributes_and_sizes(tmp_path):
    """An unknown operator that halves the map, one of a known operator's attributes, what sizes don't let be."""
    nodes = [
        node("LpPool", "x", "a", kernel_shape=[2, 2], strides=[2, 2]), node("Conv", "a w", "b"),
        node("MaxPool", "b", "c", kernel_shape=[1, 1], storage_order=1), node("Reshape", "c sizes", "d"),
        node("Gemm", "d m", "e"), node("Elu", "e"),
    ]  # fmt: skip
    constants = {"w": floats(4, 4, 1, 1), "sizes": np.array([-1, 6]), "m": floats(36, 3)}
    found = refused(tmp_path, nodes, constants)
    assert [reason.partition(" ")[0] for reason in found.reasons] == ["LpPool", "MaxPool", "Elu", "Reshape"]
    assert "each image's values must stay in their own row" in found.reasons[-1]


def test_a_stand_in_has_the_sizes_of_the_result(tmp_path):
    nodes = [
        node("ConvTranspose", "x w", "a", strides=[2, 2]), node("DepthToSpace", "a", "b", blocksize=2),
        node("Resize", "b - scales", "c"), node("GlobalAveragePool", "c", "d"), node("Flatten", "d"),
    ]  # fmt: skip
    found = refused(tmp_path, nodes, {"w": floats(4, 8, 2, 2), "scales": np.array([1, 1, 0.5, 0.5], np.float32)})
    assert len(found.reasons) == 3
    sizes = {}
    with torch.no_grad():
        found.module(
            torch.ones(2, 4, 6, 6), lambda step, result: sizes.setdefault(step.output, result.shape) and result
        )
    assert [tuple(sizes[name]) for name in "abc"] == [(2, 8, 12, 12), (2, 2, 24, 24), (2, 2, 12, 12)]
    assert sum(isinstance(child, StandIn) for child in found.module.children()) == 3


def test_where_sizes_can_not_be_told_what_was_found_is_said(tmp_path):
    """Operators of other domains, results that are no maps: nothing stands for them, so that sizes aren't followed."""
    nodes = [
        node("com.microsoft.BiasGelu", "x b", "a"), node("Reshape", "a sizes", "c"), node("Elu", "c", "d"),
        node("NonZero", "d", "e"), node("Cast", "e", "f", to=1), node("Flatten", "f"),
    ]  # fmt: skip
    found = refused(tmp_path, nodes, {"b": floats(6), "sizes": np.array([-1, 6])})
    assert [reason.partition(" ")[0] for reason in found.reasons] == ["com.microsoft.BiasGelu", "Elu", "NonZero"]
