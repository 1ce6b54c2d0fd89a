"""Every operator and attribute, compared with ONNX Runtime; what isn't followed is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from models.frontends.onnx.operators import OPERATORS, nearest
from models.frontends.onnx.reader import read
from tests.models.frontends.onnx.onnx_models import checked, model, node, saved

RNG = np.random.default_rng(1)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


MAP, ROW, FLAT = ("n", 3, 8, 7), ("n", 3, 9), ("n", 6)
W, B = floats(4, 3, 3, 3), floats(4)

CONVOLUTIONS = {
    "plain": ("x w", {}),
    "bias": ("x w b", {"kernel_shape": [3, 3]}),
    "even pads": ("x w b", {"pads": [1, 2, 1, 2]}),
    "uneven pads": ("x w b", {"pads": [0, 1, 2, 0]}),
    "strides": ("x w b", {"strides": [2, 3], "pads": [1, 1, 1, 1]}),
    "dilations": ("x w b", {"dilations": [2, 1], "pads": [2, 1, 2, 1]}),
    "valid": ("x w b", {"auto_pad": "VALID", "strides": [2, 2]}),
    "same, upper": ("x w b", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same, lower": ("x w b", {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_convolutions(tmp_path, kind):
    inputs, attributes = CONVOLUTIONS[kind]
    found = checked(saved(tmp_path, model([node("Conv", inputs, **attributes)], MAP, {"w": W, "b": B})))
    conv = found.get_submodule("/Conv/y")
    assert isinstance(conv, nn.Conv2d)
    assert torch.equal(conv.weight, torch.from_numpy(W))


def test_a_convolution_in_groups(tmp_path):
    checked(saved(tmp_path, model([node("Conv", "x w", group=3)], MAP, {"w": floats(6, 1, 3, 3)})))


@pytest.mark.parametrize("attributes", [{}, {"pads": [1, 1], "strides": [2]}, {"pads": [0, 2]}])
def test_convolutions_of_a_row(tmp_path, attributes):
    found = checked(saved(tmp_path, model([node("Conv", "x w b", **attributes)], ROW, {"w": floats(4, 3, 3), "b": B})))
    assert found.program.shape == (1, 9, 3)
    assert isinstance(found.get_submodule("/Conv/y"), nn.Conv1d)


@pytest.mark.parametrize(
    ("inputs", "sizes", "attributes"),
    [
        ("x w", (6, 4), {}),
        ("x w b", (6, 4), {}),
        ("x w b", (4, 6), {"transB": 1}),
        ("x w b", (4, 6), {"transB": 1, "alpha": 0.5, "beta": 2.0}),
        ("x w c", (6, 4), {}),
        ("x w d", (6, 4), {"beta": 0.25}),
    ],
)
def test_gemm(tmp_path, inputs, sizes, attributes):
    constants = {"w": floats(*sizes), "b": B, "c": floats(1, 4), "d": floats(1)}
    found = checked(saved(tmp_path, model([node("Gemm", inputs, **attributes)], FLAT, constants)))
    assert isinstance(found.get_submodule("/Gemm/y"), nn.Linear)


POOLS = [
    {"kernel_shape": [2, 2]},
    {"kernel_shape": [3, 2], "strides": [2, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [2, 2], "strides": [2, 1], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "VALID"},
]


@pytest.mark.parametrize(
    "attributes",
    [
        *POOLS,
        {"kernel_shape": [3, 3], "pads": [0, 1, 1, 0]},
        {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1},
        {"kernel_shape": [3, 3], "strides": [3, 2], "pads": [0, 1, 1, 0], "ceil_mode": 1},
    ],
)
def test_max_pools(tmp_path, attributes):
    checked(saved(tmp_path, model([node("MaxPool", "x", storage_order=0, **attributes)], MAP)))


def test_max_pools_that_pad_to_the_same_size(tmp_path):
    for auto in ("SAME_UPPER", "SAME_LOWER"):
        checked(saved(tmp_path, model([node("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], auto_pad=auto)], MAP)))


def test_a_negative_and_a_difference_of_maps(tmp_path):
    nodes = [node("Neg", "x", "n"), node("Relu", "x", "r"), node("Sub", "n r")]
    checked(saved(tmp_path, model(nodes, MAP)))


def test_a_hard_sigmoid(tmp_path):
    nodes = [node("HardSigmoid", "x", "h"), node("HardSigmoid", "h", alpha=1 / 6, beta=-0.25)]
    checked(saved(tmp_path, model(nodes, MAP)))


def test_a_max_pool_with_dilations(tmp_path):
    checked(saved(tmp_path, model([node("MaxPool", "x", kernel_shape=[3, 2], dilations=[2, 1])], MAP)))


@pytest.mark.parametrize(
    "attributes",
    [
        *POOLS,
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
        {"kernel_shape": [3, 3], "pads": [0, 1, 1, 0], "count_include_pad": 1},
        {"kernel_shape": [8, 7]},
    ],
)
def test_average_pools(tmp_path, attributes):
    checked(saved(tmp_path, model([node("AveragePool", "x", **attributes)], MAP)))


def test_pools_of_a_row(tmp_path):
    for operator in ("MaxPool", "AveragePool"):
        made = node(operator, "x", kernel_shape=[3], strides=[2], pads=[1, 1])
        checked(saved(tmp_path, model([made], ROW)))


@pytest.mark.parametrize("shape", [MAP, ROW])
@pytest.mark.parametrize("operator", ["GlobalAveragePool", "GlobalMaxPool"])
def test_pools_over_all_positions(tmp_path, operator, shape):
    checked(saved(tmp_path, model([node(operator, "x")], shape)))


@pytest.mark.parametrize("operator", ["ReduceMax", "ReduceMean"])
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [3]])
def test_reductions_over_axes_of_both_forms(tmp_path, axes, keep, operator):
    checked(saved(tmp_path, model([node(operator, "x", axes=axes, keepdims=keep)], MAP, opset=13)))
    checked(saved(tmp_path, model([node(operator, "x a", keepdims=keep)], MAP, {"a": ints(*axes)}, opset=18)))


def test_a_mean_over_no_axes_is_nothing(tmp_path):
    made = node("ReduceMean", "x a", noop_with_empty_axes=1)
    checked(saved(tmp_path, model([made], MAP, {"a": ints()}, opset=18)))


@pytest.mark.parametrize("opset", [7, 9, 14, 15])
def test_batch_norms(tmp_path, opset):
    constants = {"s": floats(3), "b": floats(3), "m": floats(3), "v": np.abs(floats(3))}
    made = node("BatchNormalization", "x s b m v", epsilon=0.01, momentum=0.8)
    for shape in (MAP, ROW, ("n", 3)):
        found = checked(saved(tmp_path, model([made], shape, constants, opset=opset)))
    norm = found.get_submodule("/BatchNormalization/y")
    assert (norm.eps, norm.momentum) == (pytest.approx(0.01), pytest.approx(0.2))


@pytest.mark.parametrize(
    ("bounds", "kind"),
    [
        ((0, None), nn.ReLU),
        ((0, 6), nn.ReLU6),
        ((-0.5, 0.25), nn.Hardtanh),
        ((None, 0.5), nn.Module),
        ((0, 0), nn.Module),
    ],
)
def test_clips_of_both_forms(tmp_path, bounds, kind):
    low, high = bounds
    given = {key: value for key, value in (("min", low), ("max", high)) if value is not None}
    checked(saved(tmp_path, model([node("Clip", "x", **{k: float(v) for k, v in given.items()})], MAP, opset=6 + 1)))
    inputs = f"x {'-' if low is None else 'min'} {'-' if high is None else 'max'}"
    constants = {key: np.float32(value) for key, value in given.items()}
    found = checked(saved(tmp_path, model([node("Clip", inputs)], MAP, constants)))
    assert isinstance(found.get_submodule("/Clip/y"), kind)


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div"])
def test_arithmetic_of_maps_and_constants(tmp_path, operator):
    constants = {"c": np.abs(floats(1, 3, 1, 1)) + 1, "s": np.float32(2.5), "w": floats(3, 3, 1, 1)}
    nodes = [
        node("Conv", "x w", "a"), node("Conv", "x w", "z"), node(operator, "a c", "b"), node(operator, "s b", "d"),
    ]  # fmt: skip
    nodes.append(node("Add" if operator == "Div" else operator, "d z"))
    found = read(saved(tmp_path, model(nodes, MAP, constants)))
    assert len(found.program.steps) == 5
    if operator != "Div":  # by what may be near 0
        checked(saved(tmp_path, model(nodes, MAP, constants)), tolerance=1e-4)


@pytest.mark.parametrize("opset", range(7, 29))
def test_every_opset(tmp_path, opset):
    """What a plain network needs, in each opset that there is."""
    nodes = [
        node("Conv", "x w b", "c", pads=[1] * 4), node("BatchNormalization", "c s b s s", "n"), node("Relu", "n", "r"),
        node("MaxPool", "r", "p", kernel_shape=[2, 2], strides=[2, 2]), node("Add", "p p", "a"),
        node("GlobalAveragePool", "a", "g"), node("Flatten", "g", "f"), node("Gemm", "f h o", "y"),
    ]  # fmt: skip
    constants = {"w": W, "b": B, "s": np.ones(4, np.float32), "h": floats(4, 5), "o": floats(5)}
    path = saved(tmp_path, model(nodes, MAP, constants, opset=opset, ir=7))
    if opset <= 26:
        checked(path)
    else:
        read(path)  # newer than ONNX Runtime knows


REFUSED = {
    "group": ([node("Conv", "x w", group=5)], "Conv '/Conv/y': group must divide the 4 output channels, not be 5"),
    "kernel": ([node("Conv", "x w", kernel_shape=[2, 2])], "kernel_shape must be that of the weights"),
    "weights": ([node("Relu", "x", "r"), node("Conv", "x r")], "weights must be constant, not computed"),
    "not finite": ([node("Conv", "x nan")], "weights must be finite floats"),
    "negative pads": ([node("Conv", "x w", pads=[-1, 0, 0, 0])], "pads must be 4 integers of 0 or more"),
    "strides": ([node("Conv", "x w", strides=[0, 1])], "strides must be 2 integers of 1 or more"),
    "auto_pad": ([node("Conv", "x w", auto_pad="ALL")], "auto_pad must be NOTSET, VALID, SAME_UPPER or SAME_LOWER"),
    "both pads": ([node("Conv", "x w", auto_pad="VALID", pads=[1] * 4)], "pads must be 0 beside auto_pad VALID"),
    "sizes": ([node("Conv", "x v")], "Conv '/Conv/y': "),
    "transA": ([node("Flatten", "x", "f"), node("Gemm", "f m", transA=1)], "transA must be 0, not 1"),
    "two maps": ([node("MatMul", "x x")], "weights must be constant, not computed"),
    "indices": ([node("MaxPool", "x", "y i", kernel_shape=[2, 2])], "one output, not indices"),
    "storage": ([node("MaxPool", "x", kernel_shape=[2, 2], storage_order=1)], "storage_order must be 0, not 1"),
    "ceil": ([node("AveragePool", "x", kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1)], "ceil_mode of av"),
    "backwards": ([node("Slice", "x one1 zero1 two minus")], "steps must be 1 or more"),
    "sliced images": ([node("Slice", "x zero1 one1 zero1")], "a Slice must be over axes from 1 to 3"),
    "gathered images": ([node("Gather", "x two", axis=0)], "a Gather must be over axes from 1 to 3"),
    "no such place": ([node("Gather", "x nine", axis=1)], "indices must be from -3 to 2, not [9]"),
    "parts": ([node("Split", "x nine", "y z", axis=1), node("Relu", "z", "r")], "sizes must be 2 that are 3 together"),
    "uneven": ([node("AveragePool", "x", kernel_shape=[2, 2], pads=[1, 0, 0, 0])], "must be even on both sides"),
    "training": ([node("BatchNormalization", "x s s s s", training_mode=1)], "training_mode must be 0, not 1"),
    "statistics": ([node("BatchNormalization", "x s s s s", "y mean var", training_mode=1)], "training_mode must be 0"),
    "variance": ([node("BatchNormalization", "x s s s n")], "variances must be 0 or more"),
    "bounds": ([node("Clip", "x one zero")], "bounds must be in order, not 1.0 and 0.0"),
    "mixed images": ([node("Reshape", "x mixed")], "each image's values must stay in their own row"),
    "flatten": ([node("Flatten", "x", axis=2)], "axis must be 1, so that images stay apart, not 2"),
    "mean of images": ([node("ReduceMean", "x", axes=[0])], "a mean must be over axes from 1 to 3"),
    "transposed images": ([node("Transpose", "x", perm=[1, 0, 2, 3])], "with images first"),
    "squeezed": ([node("Squeeze", "x two")], "axes must be of one position"),
    "reflection": ([node("Pad", "x four", mode="reflect")], "mode must be 'constant', not 'reflect'"),
    "padded images": ([node("Pad", "x images")], "0 for that of images"),
    "integers": ([node("Cast", "x", to=7)], "a map must stay floats, not become of type 7"),
    "dropout": ([node("Dropout", "x zero yes")], "training_mode must be false"),
    "concat": ([node("Concat", "x w", axis=1)], "what is put together must be maps, not constants"),
    "sizes elsewhere": ([node("Shape", "x", "k"), node("Mul", "x k")], "sizes by Reshape or Slice alone"),
    "slices by a map": ([node("Relu", "x", "r"), node("Slice", "x zero1 r")], "sizes must be constant or computed"),
    "leaky": ([node("LeakyRelu", "x")], "LeakyRelu '/LeakyRelu/y' isn't supported; the nearest that is: Relu or Clip"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused(tmp_path, kind):
    nodes, message = REFUSED[kind]
    nan = W.copy()
    nan[0, 0, 0, 0] = np.nan
    constants = {
        "w": W, "nan": nan, "v": floats(4, 5, 3, 3), "m": floats(168, 4), "s": np.ones(3, np.float32),
        "n": -np.ones(3, np.float32), "one": np.float32(1), "zero": np.float32(0), "mixed": ints(-1, 3),
        "two": ints(2), "one1": ints(1), "zero1": ints(0), "minus": ints(-1), "nine": ints(9),
        "four": ints(0, 0, 1, 1, 0, 0, 1, 1), "images": ints(1, 0, 0, 0, 0, 0, 0, 0),
        "yes": np.array(True),
    }  # fmt: skip
    path = saved(tmp_path, model(nodes, MAP, constants))
    with pytest.raises(ValueError, match=r"net\.onnx: ") as error:
        read(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_nearest_forms():
    names = sorted(OPERATORS)
    assert nearest("com.microsoft.FusedConv", names) == "Conv"
    assert nearest("Convolution", names) == "Conv"
    assert nearest("com.microsoft.QLinearSigmoid", names) == nearest("Sigmoid", names)
    assert nearest("com.microsoft.QLinearLeakyRelu", names) == "Relu or Clip"
    assert "QuantizeLinear" in nearest("qonnx.custom_op.general.Quant", names)
    assert nearest("Zzz", names) == "Conv, Gemm, Relu, Add or a pool"
