"""Tensors of a network are found in its file, and hold what the network's program computes."""

import numpy as np
import pytest
import torch

from models.frontends.onnx.file_tensors import file_tensors, module_values
from models.frontends.onnx.reader import read
from models.frontends.onnx.reference import feed, runtime_outputs
from models.frontends.quantized.reader import import_quantized
from tests.models.frontends.onnx.onnx_models import exported, images, model, node, quantized, saved
from tests.models.frontends.onnx.test_quantized import Residual

MAP = ("n", 6, 5, 3)  # channels last


def both(path):
    """Codes of a file's tensors as ONNX Runtime computes them, and as the program does, by the network's names."""
    module = read(path)
    source = import_quantized(module, module.program.shape).source
    tensors = file_tensors(path, module, source.program, source.all_nodes)
    given = images(module, 20)
    values = runtime_outputs(path, feed(module.program, given), list(tensors.values()))
    expected = source.tensors(torch.from_numpy(given).reshape(-1, *source.images[1:]))
    found = {
        name: source.arranged(name, module_values(module, tensor, each))
        for (name, tensor), each in zip(tensors.items(), values, strict=True)
    }
    return source, found, expected


def check(found, expected):
    """They lie in the same places, and a few codes are one off, of floats next to the middle between two."""
    for name, codes in found.items():
        assert codes.shape == expected[name].shape
        off = np.abs(codes.astype(np.float64) - expected[name])
        assert off.max() <= 1
        assert (off > 1e-4).mean() < 0.01


@pytest.fixture(scope="module")
def floats(tmp_path_factory):
    torch.manual_seed(0)
    return exported(tmp_path_factory.mktemp("floats"), Residual(), (1, 3, 8, 8))


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize("activations", ["Int8", "UInt8"])
def test_every_tensor_of_a_quantized_file(floats, form, activations):
    source, found, expected = both(quantized(floats, (1, 3, 8, 8), form, activations=activations))
    assert found.keys() == source.all_nodes.keys()
    check(found, expected)


def test_maps_with_channels_last_lie_as_in_the_network(tmp_path):
    rng = np.random.default_rng(8)
    nodes = [
        node("QuantizeLinear", "x s z", "xq"), node("DequantizeLinear", "xq s z", "xd"),
        node("Transpose", "xd", "f", perm=[0, 3, 1, 2]), node("DequantizeLinear", "w t o", "wd"),
        node("Conv", "f wd", "a"), node("Transpose", "a", "l", perm=[0, 2, 3, 1]),
        node("QuantizeLinear", "l s z", "lq"), node("DequantizeLinear", "lq s z", "ld"),
        node("Reshape", "ld flat", "h"), node("DequantizeLinear", "m t o", "md"), node("MatMul", "h md"),
    ]  # fmt: skip
    constants = {
        "w": rng.integers(-99, 99, (4, 3, 3, 3)).astype(np.int8), "flat": np.array([-1, 48]), "o": np.int8(0),
        "m": rng.integers(-99, 99, (48, 3)).astype(np.int8), "s": np.float32(0.05), "t": np.float32(0.02),
        "z": np.int8(3),
    }  # fmt: skip
    source, found, expected = both(saved(tmp_path, model(nodes, MAP, constants)))
    assert source.network.input.shape == (6, 5, 3)
    assert found.keys() == source.all_nodes.keys()
    check(found, expected)
