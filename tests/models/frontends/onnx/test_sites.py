"""What operators share: attributes and constants of a node, codes and what they stand for, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.frontends.onnx.file import OnnxNode
from models.frontends.onnx.sites import Codes, RefusalError, Site


def test_codes_keep_the_axis_of_their_scales():
    values = np.arange(24, dtype=np.int8).reshape(2, 3, 4)
    scales, zeros = np.array([1, 2, 3], np.float32), np.array([0, 1, 0], np.int8)
    of = Codes(values=values, scale=scales, zero_point=zeros, axis=1)
    turned = of.moved(lambda each: each.transpose(2, 0, 1))
    assert turned is not None
    assert turned.axis == 2
    np.testing.assert_array_equal(turned.floats(), of.floats().transpose(2, 0, 1))
    assert of.moved(lambda each: each.reshape(3, 8)) is None
    one = replace(of, scale=np.float32(0.5), zero_point=np.int8(3)).moved(lambda each: each.reshape(2, 12))
    assert one is not None
    assert one.scale.ndim == one.zero_point.ndim == 0


CONSTANTS = {
    "ints": np.array([2, -3]), "one": np.array(7, np.int32), "square": np.ones((2, 2), np.int64),
    "floats": np.array([0.5, 2.0], np.float32), "nan": np.array([np.nan], np.float32), "doubles": np.ones(2),
    "scale": np.float32(0.25), "minus": np.float32(-1), "zero": np.array([3], np.int8), "wide": np.int16(0),
    "zeros": np.zeros(3, np.int8), "codes": np.array([[1, -2], [3, 4], [5, 6]], np.int8), "int8s": np.zeros(2, np.int8),
    "uint8s": np.zeros(2, np.uint8),
}  # fmt: skip
CODES = {"coded": Codes(values=np.array([[4, 6]], np.int8), scale=np.array(0.5, np.float32), zero_point=np.int8(2))}


def site(inputs: str = "", **attributes) -> Site:
    """A node that reads these inputs, ``-`` where one is left out."""
    names = tuple(name.strip("-") for name in inputs.split())
    node = OnnxNode(operator="Op", name="n", inputs=names, outputs=("y",), attributes=attributes)
    return Site(node=node, opset=17, batch=None, constants=CONSTANTS, codes=CODES)


@given(st.integers(-128, 127), st.integers(-128, 127), st.sampled_from([2.0**-7, 0.1, 3.0]), st.integers(0, 1))
def test_codes_stand_for_their_distance_from_the_zero_point(code, zero, scale, axis):
    scales, zeros = np.array([1.0, scale], np.float32), np.array([0, zero], np.int8)
    values = np.array([[0, code], [code, 0]], np.int8)
    of = Codes(values=values, scale=scales, zero_point=zeros, axis=axis)
    for at in np.ndindex(2, 2):
        wanted = np.float32(int(values[at]) - int(zeros[at[axis]])) * scales[at[axis]]
        assert of.floats()[at] == wanted
    np.testing.assert_array_equal(of.transposed().floats(), of.floats().T)


def test_inputs_that_are_left_out_are_none():
    found = site("- ints")
    assert [found.name(n) for n in range(3)] == ["", "ints", ""]
    for n in (0, 2):
        assert found.constant(n, "it") is found.floats(n, "it") is found.integers(n, "it") is None
        assert not found.is_constant(n)


def test_constants_are_numbers_or_what_codes_stand_for():
    found = site("ints one coded floats map")
    assert (found.integers(0, "it"), found.integers(1, "it")) == ([2, -3], [7])
    assert found.constant(2, "it").tolist() == [[1.0, 2.0]]
    assert found.weights(2, "it") is CODES["coded"]
    assert found.weights(3, "it") is CONSTANTS["floats"]
    assert [found.is_constant(n) for n in range(5)] == [True, True, True, True, False]


def test_axes_of_both_forms():
    assert site("x", axes=(-1, 2)).axes(1) == [-1, 2]
    assert site("x ints").axes(1) == [2, -3]
    assert site("x").axes(1) is None


def test_attributes_have_the_type_of_their_default():
    found = site(group=2, alpha=0.5, pads=(0, 1))
    assert (found.attribute("group", 1), found.attribute("axis", -1), found.attribute("to", None)) == (2, -1, None)
    found.fixed(group=2, axis=0)
    assert (found.sizes("pads", 2), found.sizes("strides")) == ((0, 1), None)


REFUSED = {
    "type": (lambda: site(group=2.0).attribute("group", 1), "group must be int, not 2.0"),
    "fixed": (lambda: site(group=2).fixed(group=1), "group must be 1, not 2"),
    "count": (lambda: site(pads=(0, 1)).sizes("pads", 4), r"pads must be 4 integers of 0 or more, not \(0, 1\)"),
    "least": (lambda: site(pads=(0, 1)).sizes("pads", least=1), r"pads must be integers of 1 or more, not \(0, 1\)"),
    "most": (lambda: site(pads=(1 << 31,)).sizes("pads"), "pads must be integers of 0 or more, not"),
    "no integers": (lambda: site(pads=(0.5,)).sizes("pads"), "pads must be integers"),
    "no tuple": (lambda: site(pads=3).sizes("pads"), "pads must be integers of 0 or more, not 3"),
    "computed": (lambda: site("map").constant(0, "a bias"), "a bias must be constant, not computed"),
    "not finite": (lambda: site("nan").floats(0, "a bias"), "a bias must be finite floats, not float32 with NaN"),
    "doubles": (lambda: site("doubles").floats(0, "a bias"), "a bias must be finite floats, not float64"),
    "a square": (lambda: site("square").integers(0, "it"), r"it must be integers in one .*, not int64 of \[2, 2\]"),
    "floats": (lambda: site("floats").integers(0, "it"), "it must be integers in one dimension, not float32"),
    "many scales": (lambda: site("floats").quantization(0), "one scale and one zero point, not one per channel"),
    "no scale": (lambda: site("-").quantization(0), "one scale and one zero point"),
    "many zeros": (lambda: site("scale int8s").quantization(0), "one scale and one zero point"),
    "int16": (lambda: site("scale wide").quantization(0), "activations must be INT8 or UINT8, not int16"),
    "negative": (lambda: site("minus").quantization(0), "the scale must be above 0, not -1.0"),
    "float codes": (lambda: site("floats scale").dequantized(0), "codes must be INT8, UINT8 or INT32, not float32"),
    "no codes": (lambda: site("- scale").dequantized(0), "constant codes must be INT8, UINT8 or INT32, not None"),
    "scales": (lambda: site("codes floats").dequantized(0, 0), r"one for each along axis 0, not \[2\]"),
    "more zeros": (lambda: site("codes floats zeros").dequantized(0), "zero points must be int8, one or as many as sc"),
    "axis": (lambda: site("codes floats").dequantized(0, 2), "one for each along axis 2"),
    "scales of 0": (lambda: site("codes minus").dequantized(0), "scales must be above 0"),
    "zeros": (lambda: site("codes floats uint8s").dequantized(0), "zero points must be int8, .*, not uint8"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_names_the_node_and_the_rule(kind):
    call, message = REFUSED[kind]
    with pytest.raises(RefusalError, match=f"^Op 'n': .*{message}"):
        call()


def test_scale_and_zero_point_of_a_map():
    found = site("x scale zero").quantization(1)
    assert (found.scale, found.zero_point, found.dtype, found.low, found.high) == (0.25, 3, torch.int8, -128, 127)
    found = site("x scale").quantization(1)
    assert (found.zero_point, found.dtype, found.low, found.high) == (0, torch.uint8, 0, 255)
    assert site("x scale").quantization(1, np.int8).dtype == torch.int8


def test_codes_of_a_constant_with_scales_along_an_axis():
    for axis in (1, -1):
        found = site("codes floats int8s").dequantized(0, axis)
        assert found.axis == 1
        np.testing.assert_array_equal(found.floats(), [[0.5, -4], [1.5, 8], [2.5, 12]])
    found = site("codes scale zero").dequantized(0, 9)  # an axis that one scale doesn't need
    assert (found.scale.shape, found.zero_point.shape) == ((), ())
    np.testing.assert_array_equal(found.floats(), np.array([[-2, -5], [0, 1], [2, 3]]) * 0.25)


def test_an_inner_operator_keeps_the_name_and_gets_its_own_attributes():
    found = site("ints", group=4).inner("Conv", ("w",), {"w": CODES["coded"]}, pads=(1, 1))
    assert str(found.node) == "Conv 'n'"
    assert (found.node.inputs, dict(found.node.attributes)) == (("w",), {"pads": (1, 1)})
    assert found.codes.keys() == {"coded", "w"}
