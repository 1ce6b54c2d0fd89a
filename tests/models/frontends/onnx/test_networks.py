"""Quantized ONNX files to integer networks: what differs from ONNX Runtime is counted."""

import numpy as np
import pytest
import torch

from hw.compiler.compile import compile_network
from hw.config import preset
from models.compression.calibration import calibrate
from models.frontends.onnx.reader import read
from models.frontends.onnx.reference import feed, runtime_outputs
from models.frontends.quantized.reader import import_quantized
from models.integer import golden
from tests.models.frontends.onnx.onnx_models import exported, images, model, node, qcdq, quantized, saved
from tests.models.frontends.onnx.test_quantized import Brevitas, Residual
from tests.models.frontends.quantized.quantized_programs import difference


@pytest.fixture(scope="module")
def floats(tmp_path_factory):
    torch.manual_seed(0)
    return exported(tmp_path_factory.mktemp("floats"), Residual(), (1, 3, 8, 8))


def counted(path, count=60):
    """The network of a file; the largest difference of its layers from the file, the share that differs, and whether
    both name the same classes as ONNX Runtime."""
    found = read(path)
    network = import_quantized(found, found.program.shape, name="onnx").network
    given = images(found, count)
    off = difference(found, network, np.ascontiguousarray(given.transpose(0, 2, 3, 1)))
    (expected,) = runtime_outputs(path, feed(found.program, given))
    scale, zero_point = network.input.scale, network.input.zero_point
    codes = (np.rint(given.transpose(0, 2, 3, 1) / np.float32(scale)) + zero_point).clip(-128, 127).astype(np.int8)
    logits = golden.run(network, codes).logits[0].reshape(count, -1)
    chosen = expected[np.arange(count), logits.argmax(1)]
    return network, off, chosen, expected


#: As exporters write them: with dots and slashes, none, twice, as attributes of modules, and one below another.
NODE_NAMES = ("/features.0/Conv", "", "/features.0/Conv", "image", "steps", "steps.weight")


def convolutions(folder, names):
    """A file of convolutions one behind another, and a head."""
    rng = np.random.default_rng(2)
    nodes = [node("Conv", "x w" if n == 0 else f"t{n - 1} w", f"t{n}") for n in range(len(names))]
    for each, name in zip(nodes, names, strict=True):
        each.name = name
    nodes += [node("Flatten", nodes[-1].output[0], "f"), node("Gemm", "f v")]
    constants = {
        "w": rng.standard_normal((3, 3, 1, 1)).astype(np.float32),
        "v": rng.standard_normal((48, 4)).astype(np.float32),
    }
    return read(saved(folder, model(nodes, (1, 3, 4, 4), constants)))


def test_layers_have_the_names_that_others_gave_to_nodes(tmp_path):
    images = np.random.default_rng(0).random(size=(4, 4, 4, 3))
    network = calibrate(convolutions(tmp_path, NODE_NAMES), images).network
    assert [layer.name for layer in network.layers] == [
        "/features.0/Conv", "t1", "/features.0/Conv_1", "image", "steps", "steps.weight", "/Gemm/y",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("form", "activations", "weights", "channels"),
    [
        ("QDQ", "Int8", "Int8", True), ("QOperator", "UInt8", "Int8", False),
        pytest.param("QDQ", "UInt8", "Int8", False, marks=pytest.mark.slow),
        pytest.param("QOperator", "Int8", "Int8", True, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_files_of_onnx_runtimes_quantizer(floats, form, activations, weights, channels):
    path = quantized(floats, (1, 3, 8, 8), form, activations=activations, weights=weights, channels=channels)
    network, off, chosen, expected = counted(path)
    assert max(each.largest for each in off.values()) <= 1
    assert max(each.share for each in off.values()) < 0.01
    # Logits are finer than the file's codes: where these are equal, another class may be the largest.
    step = np.diff(np.unique(expected)).min()
    assert (expected.max(1) - chosen).max() <= 1.5 * step
    names = {layer.name.split(".")[0].removesuffix("_quant") for layer in network.layers}
    assert {"/first/Conv", "/depthwise/Conv", "/narrow/Conv", "/hidden/Gemm", "/last/Gemm"} <= names
    if form == "QDQ" and channels:
        compile_network(network, preset("base-85f"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bits", [8, 4])
def test_files_of_brevitas(tmp_path, monkeypatch, bits):
    from brevitas.quant import Int8WeightPerTensorFloat

    torch.manual_seed(1)
    net = Brevitas(Int8WeightPerTensorFloat, bits)
    for _ in range(3):
        net(torch.rand(4, 3, 8, 8) * 2 - 1)
    network, off, chosen, expected = counted(qcdq(tmp_path, net, (1, 3, 8, 8), monkeypatch))
    *hidden, _ = off.values()
    assert max(each.largest for each in hidden) <= 1
    assert (expected.max(1) - chosen).max() <= 0.01 * np.abs(expected).max()
    assert network.layers[-1].weight.min() >= -(1 << bits - 1)


def test_a_quantized_difference_of_maps(tmp_path):
    rng = np.random.default_rng(4)
    nodes = [
        node("QuantizeLinear", "x s z", "xq"), node("DequantizeLinear", "xq s z", "xd"),
        node("DequantizeLinear", "w t o", "wd"), node("Conv", "xd wd", "a"), node("Relu", "a", "r"),
        node("QuantizeLinear", "r u z", "rq"), node("DequantizeLinear", "rq u z", "rd"), node("Sub", "xd rd", "d"),
        node("QuantizeLinear", "d v z", "dq"), node("DequantizeLinear", "dq v z", "dd"), node("Flatten", "dd", "f"),
        node("DequantizeLinear", "m t o", "md"), node("MatMul", "f md"),
    ]  # fmt: skip
    constants = {
        "w": rng.integers(-99, 99, (3, 3, 1, 1)).astype(np.int8), "m": rng.integers(-99, 99, (48, 5)).astype(np.int8),
        "s": np.float32(0.0317), "t": np.float32(0.01), "u": np.float32(0.0223), "v": np.float32(0.0411),
        "z": np.int8(-3), "o": np.int8(0),
    }  # fmt: skip
    network, off, chosen, expected = counted(saved(tmp_path, model(nodes, ("n", 3, 4, 4), constants)))
    assert [layer.kind for layer in network.layers] == ["conv2d", "depthwise_conv2d", "add", "linear"]
    assert max(each.largest for name, each in off.items() if name != network.exits[0].logits) <= 1
    assert (expected.max(1) - chosen).max() <= 0.01 * np.abs(expected).max()
    compile_network(network, preset("base-85f"))
