"""Quantized files in all three forms: by exporters, and each operator by hand."""

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn
from torch.nn import functional as F

from models.frontends.onnx.reader import read
from models.frontends.onnx.reference import feed, runtime_outputs
from tests.models.frontends.onnx.onnx_models import (
    MICROSOFT,
    checked,
    exported,
    images,
    model,
    node,
    qcdq,
    quantized,
    saved,
)

RNG = np.random.default_rng(2)
MAP = ("n", 3, 8, 8)
QUANTIZED = torch.ops.quantized_decomposed


class Residual(nn.Module):
    """Convolutions of all kinds, sums, pools, a concatenation, linear layers."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.narrow = nn.Conv2d(8, 12, 1, stride=2)
        self.hidden, self.last = nn.Linear(24, 12), nn.Linear(12, 10)

    def forward(self, x):
        x = F.relu(self.norm(self.first(x)))
        x = F.max_pool2d(F.relu(x + self.depthwise(x)), 2)
        y = self.narrow(x)
        x = torch.cat([y, F.relu(y)], 1)
        x = torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)
        return self.last(F.relu(self.hidden(x)))


def operators(found):
    """Names of the operators of an exported program."""
    height, width, channels = found.program.shape
    program = torch.export.export(found, (torch.rand(3, channels, height, width),))
    return [str(each.target).split(".")[1] for each in program.graph.nodes if each.op == "call_function"], program


def equal_codes(found, path, step=0.0, count=50):
    """What ONNX Runtime computes, but for the last bits of floats; with a step of codes given, one in 500 may be off
    by one, where the value is next to the middle between two."""
    given = images(found, count)
    with torch.no_grad():
        results = found(torch.from_numpy(given)).numpy()
    (expected,) = runtime_outputs(path, feed(found.program, given))
    off = np.abs(results - expected)
    assert off.max() <= step + 1e-6
    assert (off > 1e-6).mean() <= 1 / 500


@pytest.fixture(scope="module")
def floats(tmp_path_factory):
    torch.manual_seed(0)
    return exported(tmp_path_factory.mktemp("floats"), Residual(), (1, 3, 8, 8))


FORMS = [
    ("QDQ", "Int8", "Int8", True), ("QDQ", "UInt8", "Int8", True), ("QDQ", "UInt8", "UInt8", False),
    ("QDQ", "Int8", "Int8", False), ("QOperator", "Int8", "Int8", True), ("QOperator", "UInt8", "Int8", False),
    ("QOperator", "UInt8", "UInt8", True), ("QOperator", "UInt8", "Int8", True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("form", "activations", "weights", "channels"),
    [
        pytest.param(*form, marks=[] if number in {0, 2, 4, 5} else [pytest.mark.slow])
        for number, form in enumerate(FORMS)
    ],
)
def test_what_onnx_runtimes_quantizer_writes(floats, form, activations, weights, channels):
    path = quantized(floats, (1, 3, 8, 8), form, activations=activations, weights=weights, channels=channels)
    found = read(path)
    equal_codes(found, path, found.get_submodule(found.program.steps[-1].child).of.scale)
    assert found.program.quantized
    names, program = operators(found)
    assert names.count("quantize_per_tensor") >= 10
    channelwise = [
        each for each in program.graph.nodes if each.target == QUANTIZED.dequantize_per_channel.default
    ]  # fmt: skip
    assert bool(channelwise) == channels
    if channels:  # weights stay the codes that the file has
        held = {name: value for name, value in program.state_dict.items() if value.dtype in (torch.int8, torch.uint8)}
        assert len(held) == 5


class Brevitas(nn.Module):
    def __init__(self, weights, bits):
        super().__init__()
        from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear, QuantReLU
        from brevitas.quant import Int32Bias

        given = {"weight_quant": weights, "weight_bit_width": bits, "bias": True, "bias_quant": Int32Bias}
        self.image = QuantIdentity(return_quant_tensor=True, bit_width=bits)
        self.first = QuantConv2d(3, 8, 3, padding=1, **given)
        self.relu = QuantReLU(return_quant_tensor=True, bit_width=bits)
        self.second = QuantConv2d(8, 8, 3, stride=2, padding=1, **given)
        self.other = QuantReLU(return_quant_tensor=True, bit_width=bits)
        self.last = QuantLinear(8 * 16, 10, **given)

    def forward(self, x):
        x = self.other(self.second(self.relu(self.first(self.image(x)))))
        return self.last(x.flatten(1))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "bits"), [("PerChannel", 8), ("PerTensor", 8), ("PerChannel", 4)])
def test_what_brevitas_writes(tmp_path, monkeypatch, kind, bits):
    import brevitas.quant

    torch.manual_seed(1)
    net = Brevitas(getattr(brevitas.quant, f"Int8Weight{kind}Float"), bits)
    for _ in range(3):
        net(torch.rand(4, 3, 8, 8) * 2 - 1)
    path = qcdq(tmp_path, net, (1, 3, 8, 8), monkeypatch)
    found = read(path)
    equal_codes(found, path, 10)
    given = torch.from_numpy(images(found))
    with torch.no_grad():
        torch.testing.assert_close(found(given), net(given), rtol=0, atol=1e-6)
    _, program = operators(found)
    ranges = [each.args[3:5] for each in program.graph.nodes if each.target == QUANTIZED.quantize_per_tensor.default]
    narrow = (-(1 << bits - 1), (1 << bits - 1) - 1)
    assert ranges == [narrow, (0, (1 << bits) - 1), (0, (1 << bits) - 1)]


SCALES = {"s": np.float32(0.0513), "t": np.float32(0.0731), "u": np.float32(0.1071)}
ZEROS = {"z": np.int8(3), "p": np.uint8(130), "q": np.int8(-5)}
FLOAT = {"x": np.float32(0.02), "o": np.int8(0)}


def codes(*shape, dtype=np.int8):
    bounds = np.iinfo(dtype)
    return RNG.integers(bounds.min, bounds.max + 1, shape).astype(dtype)


def between(nodes, constants, shape=MAP, **given):
    """A model in which nodes on codes ``a`` make codes ``b``, with a quantizer before and back behind."""
    every = [node("QuantizeLinear", "x s z", "a"), *nodes, node("DequantizeLinear", "b t q")]
    return model(every, shape, SCALES | ZEROS | constants, **given)


CODED = {
    "QLinearConv": ([node("QLinearConv", "a s z w ws wz t q c", "b", pads=[1] * 4)], {
        "w": codes(4, 3, 3, 3), "ws": np.full(4, 0.01, np.float32) * np.arange(1, 5, dtype=np.float32),
        "wz": np.zeros(4, np.int8), "c": np.arange(4, dtype=np.int32) * 50,
    }),
    "QLinearConv, in groups": ([node("QLinearConv", "a s z w ws wz t q", "b", group=3, strides=[2, 2])], {
        "w": codes(3, 1, 3, 3), "ws": np.float32(0.02), "wz": np.int8(1),
    }),
    "QLinearConv, of a row": ([
        node("QLinearConv", "a s z w ws wz t q c", "b", pads=[1, 2], strides=[2], dilations=[2]),
    ], {
        "w": codes(4, 3, 3), "ws": np.full(4, 0.01, np.float32) * np.arange(1, 5, dtype=np.float32),
        "wz": np.zeros(4, np.int8), "c": np.arange(4, dtype=np.int32) * 50,
    }),
    "QLinearMatMul": ([
        node("QLinearMatMul", "a s z w ws wz t q", "b"),
    ], {"w": codes(3, 5), "ws": np.float32(0.02), "wz": np.int8(2)}),
    "QLinearMatMul, per column": ([
        node("QLinearMatMul", "a s z w ws wz t q", "b"),
    ], {"w": codes(3, 5), "ws": np.full(5, 0.02, np.float32), "wz": np.zeros(5, np.int8)}),
    "QGemm": ([
        node(f"{MICROSOFT}.QGemm", "a s z w ws wz c t q", "b", transB=1),
    ], {"w": codes(5, 3), "ws": np.full(5, 0.02, np.float32), "wz": np.zeros(5, np.int8),
        "c": np.arange(5, dtype=np.int32) * 40}),
    "QGemm, as it stands": ([
        node(f"{MICROSOFT}.QGemm", "a s z w ws wz - t q", "b"),
    ], {"w": codes(3, 5), "ws": np.float32(0.02), "wz": np.int8(0)}),
    "QLinearAdd": ([
        node("QuantizeLinear", "x u z", "d"), node(f"{MICROSOFT}.QLinearAdd", "a s z d u z t q", "b"),
    ], {}),
    "QLinearAdd of a constant": ([node(f"{MICROSOFT}.QLinearAdd", "a s z k u z t q", "b")], {"k": codes(1, 3, 1, 1)}),
    "QLinearMul": ([
        node("QuantizeLinear", "x u z", "d"), node(f"{MICROSOFT}.QLinearMul", "a s z d u z t q", "b"),
    ], {}),
    "QLinearConcat": ([
        node("QuantizeLinear", "x u z", "d"), node(f"{MICROSOFT}.QLinearConcat", "t q a s z d u z", "b", axis=1),
    ], {}),
    "QLinearGlobalAveragePool": ([
        node(f"{MICROSOFT}.QLinearGlobalAveragePool", "a s z t q", "b", channels_last=0),
    ], {}),
    "QLinearAveragePool": ([
        node(f"{MICROSOFT}.QLinearAveragePool", "a s z t q", "b", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
    ], {}),
}  # fmt: skip


@pytest.mark.parametrize("kind", CODED)
def test_operators_on_codes(tmp_path, kind):
    nodes, constants = CODED[kind]
    flat, row = kind.startswith(("QGemm", "QLinearMatMul")), kind.endswith("row")
    path = saved(tmp_path, between(nodes, constants, ("n", 3) if flat else MAP[:3] if row else MAP))
    equal_codes(read(path), path, SCALES["t"])


def test_what_gives_on_values_may_work_on_codes(tmp_path):
    nodes = [
        node("QuantizeLinear", "x s z", "a"), node("MaxPool", "a", "m", kernel_shape=[2, 2]),
        node("Clip", "m low high", "k"), node("Transpose", "k", "h", perm=[0, 1, 2, 3]),
        node("Reshape", "h sizes", "r"), node("DequantizeLinear", "r s z"),
    ]  # fmt: skip
    constants = {"low": np.int8(-9), "high": np.int8(90), "sizes": np.array([0, -1])}
    path = saved(tmp_path, model(nodes, MAP, SCALES | ZEROS | constants))
    found = read(path)
    equal_codes(found, path, SCALES["s"])
    ranges = [
        each.args[3:5]
        for each in operators(found)[1].graph.nodes
        if each.target == QUANTIZED.quantize_per_tensor.default
    ]
    assert ranges == [(-128, 127), (-128, 127), (-9, 90), (-9, 90), (-9, 90)]


@pytest.mark.parametrize("opset", [10, 13, 19, 21, 23, 25])
def test_quantizers_of_every_opset(tmp_path, opset):
    nodes = [
        node("QuantizeLinear", "x s z", "a"), node("DequantizeLinear", "a s z", "d"),
        node("DequantizeLinear", "w ws wz", "v", **({} if opset < 13 else {"axis": 0})),
        node("DequantizeLinear", "c cs", "i", **({} if opset < 13 else {"axis": 0})),
        node("Conv", "d v i", "e"), node("QuantizeLinear", "e t", "f"), node("DequantizeLinear", "f t"),
    ]  # fmt: skip
    one = opset < 13
    constants = {
        "w": codes(4, 3, 3, 3), "ws": np.float32(0.01) if one else np.full(4, 0.01, np.float32),
        "wz": np.int8(0) if one else np.zeros(4, np.int8), "c": np.arange(4, dtype=np.int32),
        "cs": np.float32(0.0005) if one else np.full(4, 0.0005, np.float32),
    }  # fmt: skip
    path = saved(tmp_path, model(nodes, MAP, SCALES | ZEROS | constants, opset=opset))
    found = read(path)
    equal_codes(found, path, SCALES["t"])
    assert found.get_submodule("/QuantizeLinear/f").of.dtype == torch.uint8


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_inputs_and_outputs_of_codes(tmp_path, dtype):
    """The module takes what the codes stand for, and returns what they stand for."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        node("MaxPool", "x", "m", kernel_shape=[2, 2]), node("DequantizeLinear", "m s z", "d"),
        node("Relu", "d", "r"), node("QuantizeLinear", "r t z"),
    ]  # fmt: skip
    constants = SCALES | {"z": dtype(7)}
    path = saved(tmp_path, model(nodes, MAP, constants, dtype=kind, result=kind))
    found = read(path)
    given = codes(5, 3, 8, 8, dtype=dtype)
    with torch.no_grad():
        results = found(torch.from_numpy((given.astype(np.float32) - 7) * SCALES["s"])).numpy()
    (expected,) = runtime_outputs(path, given)
    np.testing.assert_allclose(results, (expected.astype(np.float32) - 7) * SCALES["t"], rtol=0, atol=1e-6)


def test_an_image_of_bytes_that_is_cast(tmp_path):
    nodes = [node("Cast", "x", "f", to=1), node("Conv", "f w")]
    path = saved(tmp_path, model(nodes, MAP, {"w": np.ones((4, 3, 3, 3), np.float32)}, dtype=TensorProto.UINT8))
    found = read(path)
    assert not found.program.quantized
    given = codes(4, 3, 8, 8, dtype=np.uint8)
    with torch.no_grad():
        results = found(torch.from_numpy(given.astype(np.float32))).numpy()
    np.testing.assert_allclose(results, runtime_outputs(path, given)[0], rtol=1e-6)


def test_matrices_of_codes(tmp_path):
    """A Gemm and a MatMul with its Add hold their weights' codes as rows of outputs."""
    nodes = [
        node("QuantizeLinear", "x s z", "a"), node("DequantizeLinear", "a s z", "d"),
        node("DequantizeLinear", "w ws wz", "v", axis=1), node("MatMul", "d v", "m"), node("Add", "m c", "e"),
        node("QuantizeLinear", "e t q", "f"), node("DequantizeLinear", "f t q", "h"),
        node("DequantizeLinear", "g ws wz", "k", axis=0), node("Gemm", "h k i", transB=1),
    ]  # fmt: skip
    constants = {
        "w": codes(6, 5), "g": codes(5, 5), "ws": np.linspace(0.01, 0.02, 5, dtype=np.float32),
        "wz": np.zeros(5, np.int8), "c": np.ones(5, np.float32), "i": np.ones(5, np.float32),
    }  # fmt: skip
    path = saved(tmp_path, model(nodes, ("n", 6), SCALES | ZEROS | constants))
    found = checked(path)
    np.testing.assert_array_equal(found.get_submodule("/MatMul/m").weight.codes, constants["w"].T)
    np.testing.assert_array_equal(found.get_submodule("/Gemm/y").weight.codes, constants["g"])
    assert "/Add/e" not in dict(found.named_modules())


def test_codes_that_are_moved_stay_codes(tmp_path):
    """Brevitas and others turn a matrix behind its DequantizeLinear; weights of rows come as matrices."""
    nodes = [
        node("QuantizeLinear", "x s z", "a"), node("DequantizeLinear", "a s z", "d"),
        node("DequantizeLinear", "r us uz", "k", axis=1), node("Transpose", "k", "n", perm=[1, 0]),
        node("Unsqueeze", "n last", "l"), node("Conv", "d l", "b"),
        node("QuantizeLinear", "b t q", "c"), node("DequantizeLinear", "c t q", "e"), node("Flatten", "e", "f"),
        node("DequantizeLinear", "w ws wz", "v", axis=0), node("Transpose", "v", "j", perm=[1, 0]),
        node("MatMul", "f j", "m"), node("DequantizeLinear", "o s z", "i"), node("Reshape", "i four", "g"),
        node("Add", "m g", "y"),
    ]  # fmt: skip
    constants = {
        "r": codes(3, 4), "us": np.linspace(0.01, 0.02, 4, dtype=np.float32), "uz": np.zeros(4, np.int8),
        "last": np.array([2, 3]), "w": codes(4, 20), "ws": np.linspace(0.01, 0.02, 4, dtype=np.float32),
        "wz": np.zeros(4, np.int8), "o": codes(2, 2), "four": np.array([4]),
    }  # fmt: skip
    path = saved(tmp_path, model(nodes, ("n", 3, 1, 5), SCALES | ZEROS | constants))
    found = checked(path)
    np.testing.assert_array_equal(found.get_submodule("/MatMul/m").weight.codes, constants["w"])
    np.testing.assert_array_equal(found.get_submodule("/Conv/b").weight.codes[:, :, 0, 0], constants["r"].T)


REFUSED = {
    "a scale per channel": ([node("QuantizeLinear", "x many none", "a")], "one scale and one zero point, not one per"),
    "a computed scale": ([node("ReduceMean", "x", "m", axes=[1, 2, 3]), node("QuantizeLinear", "x m", "a")],
                         "the scale must be constant, not computed"),
    "a scale of 0": ([node("QuantizeLinear", "x zero z", "a")], "the scale must be above 0, not 0.0"),
    "int16": ([node("QuantizeLinear", "x s wide", "a")], "activations must be INT8 or UINT8, not int16"),
    "floats dequantized": ([node("DequantizeLinear", "x s z", "a")], "must read codes of its zero point's type"),
    "another type": ([node("QuantizeLinear", "x s z", "c"), node("DequantizeLinear", "c s p", "a")],
                     "must read codes of its zero point's type, not torch.int8"),
    "arithmetic on codes": ([node("QuantizeLinear", "x s z", "c"), node("Relu", "c", "a")],
                            "it must read floats; a DequantizeLinear before it makes them of codes"),
    "bounds": ([node("QuantizeLinear", "x s z", "c"), node("Clip", "c up down", "a")], "bounds of codes must be in or"),
    "scales": ([node("DequantizeLinear", "w many none", "v", axis=1), node("Conv", "x v", "a")],
               "scales must be one, or one for each along axis 1"),
    "attributes": ([node(f"{MICROSOFT}.QLinearGlobalAveragePool", "x s z s z", "a", channels_last=1)],
                   "channels_last must be 0, not 1"),
    "more attributes": ([node(f"{MICROSOFT}.QLinearAdd", "x s z x s z s z", "a", own=1)],
                        "attributes must be among none, not ['own']"),
    "dynamic": ([node("DynamicQuantizeLinear", "x", "a b c")], "that is: static quantization, with QuantizeLinear"),
    "biases": ([node("QuantizeLinear", "x s z", "c"), node("QLinearConv", "c s z w s z s z many", "a")],
               "biases must be INT32"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused(tmp_path, kind):
    nodes, message = REFUSED[kind]
    constants = SCALES | ZEROS | {
        "many": np.ones(4, np.float32), "none": np.zeros(4, np.int8), "zero": np.float32(0), "wide": np.int16(0),
        "up": np.int8(5), "down": np.int8(4), "w": codes(4, 3, 3, 3),
    }  # fmt: skip
    path = saved(tmp_path, model(nodes, MAP, constants, outputs="a"))
    with pytest.raises(ValueError, match=r"net\.onnx: ") as error:
        read(path)
    assert message in str(error.value)


@pytest.mark.filterwarnings("ignore")  # of what the reference implementation computes of infinities
def test_values_far_beyond_the_codes(tmp_path):
    nodes = [node("QuantizeLinear", "x s z", "a"), node("DequantizeLinear", "a s z")]
    for scale in (1e-30, 1e30):
        path = saved(tmp_path, model(nodes, MAP, {"s": np.float32(scale), "z": np.int8(3)}))
        equal_codes(read(path), path)
