"""What the package onnx lacks or has wrong, as ONNX Runtime has it."""

import numpy as np
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from models.frontends.onnx.kernels import kernels
from models.frontends.onnx.reference import runtime_outputs
from tests.models.frontends.onnx.onnx_models import MICROSOFT, model, node, saved

RNG = np.random.default_rng(8)
MAP, ROW = (2, 3, 7, 6), (2, 3, 9)
A, B, C = np.float32(0.25), np.float32(0.5), np.float32(2.0)  # powers of 2: everybody computes with them exactly


def codes(*shape: int, dtype=np.int8) -> np.ndarray:
    bounds = np.iinfo(dtype)
    return RNG.integers(bounds.min, bounds.max + 1, shape).astype(dtype)


def both(folder, made, given):
    """What the reference implementation with our kernels computes of a single node, and ONNX Runtime."""
    opset = made.opset_import[0].version
    reference = ReferenceEvaluator(made, new_ops=kernels(opset))
    return reference.run(None, {"x": given})[0], runtime_outputs(saved(folder, made), given)[0]


def assert_close(found, expected):
    """Codes are equal; floats are to the precision of their sums."""
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    if found.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_array_equal(found, expected)


POOLS = [
    {"kernel_shape": [3, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [3, 2], "pads": [0, 1, 1, 0]},
    {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [3, 2], "pads": [0, 1, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1},  # a window that would begin behind the map
    {"kernel_shape": [3, 3], "strides": [2, 3], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [2, 3], "strides": [1, 2], "auto_pad": "SAME_LOWER"},
]


@pytest.mark.parametrize("attributes", [*POOLS, {"kernel_shape": [2, 2], "dilations": [3, 2]}])
def test_max_pools(tmp_path, attributes):
    given = -RNG.random(MAP).astype(np.float32) - 1  # so that padding of 0 would be seen
    assert_close(*both(tmp_path, model([node("MaxPool", "x", **attributes)], MAP), given))


@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize("attributes", [pool for pool in POOLS if not pool.get("ceil_mode")])
def test_average_pools(tmp_path, attributes, counted):
    made = model([node("AveragePool", "x", count_include_pad=counted, **attributes)], MAP)
    assert_close(*both(tmp_path, made, RNG.random(MAP).astype(np.float32)))


def test_pools_of_rows_and_of_all_positions(tmp_path):
    for made in (
        node("MaxPool", "x", kernel_shape=[3], strides=[2], pads=[1, 0]), node("AveragePool", "x", kernel_shape=[2]),
        node("GlobalMaxPool", "x"),
    ):  # fmt: skip
        assert_close(*both(tmp_path, model([made], ROW), RNG.standard_normal(ROW).astype(np.float32)))


def test_a_max_pool_of_codes_keeps_their_type(tmp_path):
    made = node("MaxPool", "x", kernel_shape=[2, 2], pads=[1, 1, 1, 1])
    source = {"dtype": TensorProto.INT8, "result": TensorProto.INT8}
    assert_close(*both(tmp_path, model([made], MAP, **source), codes(*MAP)))


@pytest.mark.parametrize("opset", [9, 13])
def test_batch_norms_are_those_of_trained_networks(tmp_path, opset):
    constants = {
        "s": RNG.standard_normal(3),
        "b": RNG.standard_normal(3),
        "m": RNG.standard_normal(3),
        "v": RNG.random(3),
    }
    made = node("BatchNormalization", "x s b m v", epsilon=0.01)
    for shape in (MAP, ROW):
        graph = model([made], shape, {name: each.astype(np.float32) for name, each in constants.items()}, opset=opset)
        assert_close(*both(tmp_path, graph, RNG.standard_normal(shape).astype(np.float32)))


@pytest.mark.parametrize("opset", [10, 13, 17, 21])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_codes_are_made_of_floats_and_back(tmp_path, opset, dtype):
    given = RNG.standard_normal(MAP).astype(np.float32) * 9
    given[0, 0, 0, :4] = [0.125, 0.375, 1e9, -1e9]  # ties, and values far beyond all codes
    constants, ir = {"s": A, "z": dtype(7)}, 10 if opset > 20 else 8
    result = {np.int8: TensorProto.INT8, np.uint8: TensorProto.UINT8}[dtype]
    made = model([node("QuantizeLinear", "x s z")], MAP, constants, opset=opset, result=result, ir=ir)
    assert_close(*both(tmp_path, made, given))
    made = model([node("DequantizeLinear", "x s z")], MAP, constants, opset=opset, dtype=result, ir=ir)
    assert_close(*both(tmp_path, made, codes(*MAP, dtype=dtype)))


@pytest.mark.parametrize("axis", [1, -1])
def test_scales_along_an_axis(tmp_path, axis):
    size = MAP[axis]
    constants = {"s": RNG.random(size).astype(np.float32) + 0.01, "z": codes(size)}
    made = model([node("DequantizeLinear", "x s z", axis=axis)], MAP, constants, dtype=TensorProto.INT8)
    assert_close(*both(tmp_path, made, codes(*MAP)))
    made = model([node("QuantizeLinear", "x s z", axis=axis)], MAP, constants, result=TensorProto.INT8)
    assert_close(*both(tmp_path, made, RNG.standard_normal(MAP).astype(np.float32)))


#: Operators of ONNX Runtime's domain on codes of one type: inputs and attributes.
CONTRIBUTED = {
    "QLinearAdd": ("x a z k b z c z", {}),
    "QLinearMul": ("x a z k b z c z", {}),
    "QLinearGlobalAveragePool": ("x a z c z", {"channels_last": 0}),
    "QLinearAveragePool": ("x a z c z", {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "QLinearConcat": ("c z x a z k b z", {"axis": 1}),
}


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("operator", CONTRIBUTED)
def test_operators_of_codes(tmp_path, operator, dtype):
    inputs, attributes = CONTRIBUTED[operator]
    kind = {np.int8: TensorProto.INT8, np.uint8: TensorProto.UINT8}[dtype]
    # ONNX Runtime breaks ties when the zero point is added: an even one makes no difference.
    constants = {"a": A, "b": B, "c": C, "z": dtype(4), "k": codes(*MAP, dtype=dtype)}
    made = model([node(f"{MICROSOFT}.{operator}", inputs, **attributes)], MAP, constants, dtype=kind, result=kind)
    assert_close(*both(tmp_path, made, codes(*MAP, dtype=dtype)))


@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("turned", [0, 1])
def test_matrices_of_codes(tmp_path, turned, floats):
    constants = {
        "a": A, "z": np.int8(3), "w": codes(4, 9) if turned else codes(9, 4),
        "s": 2.0 ** np.arange(-2, 2, dtype=np.float32), "zeros": np.zeros(4, np.int8),
        "bias": RNG.integers(-999, 999, 4).astype(np.int32), "c": C * 64,
    }  # fmt: skip
    made = node(f"{MICROSOFT}.QGemm", "x a z w s zeros bias" + ("" if floats else " c z"), transB=turned)
    result = TensorProto.FLOAT if floats else TensorProto.INT8
    assert_close(*both(tmp_path, model([made], (5, 9), constants, dtype=TensorProto.INT8, result=result), codes(5, 9)))


@pytest.mark.parametrize(("shape", "kernel"), [(ROW, (3,)), (MAP, (3, 2))])
def test_convolutions_of_codes_with_a_scale_for_each_channel(tmp_path, shape, kernel):
    constants = {
        "a": A, "z": np.int8(3), "w": codes(4, 3, *kernel), "s": 2.0 ** np.arange(-9, -5, dtype=np.float32),
        "zeros": np.zeros(4, np.int8), "c": C, "bias": RNG.integers(-999, 999, 4).astype(np.int32),
    }  # fmt: skip
    made = node("QLinearConv", "x a z w s zeros c z bias", strides=[2] * len(kernel), pads=[1, 0] * len(kernel))
    source = {"dtype": TensorProto.INT8, "result": TensorProto.INT8}
    assert_close(*both(tmp_path, model([made], shape, constants, **source), codes(*shape)))


def test_the_packages_own_operators_are_taken_where_they_are_right():
    def names(opset):
        return {(kind.op_domain, kind.__name__) for kind in kernels(opset)}

    assert names(13) - names(14) == {("", "BatchNormalization")}
    assert names(18) - names(19) == {("", "DequantizeLinear")}
    assert names(19) == names(28)
