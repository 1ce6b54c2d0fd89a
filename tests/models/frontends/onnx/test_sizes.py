"""What of a graph depends on no image is computed as NumPy does, within limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.frontends.onnx import sizes
from models.frontends.onnx.file import OnnxNode
from models.frontends.onnx.sites import RefusalError
from models.frontends.onnx.sizes import FOLDED, SizesEvaluator


def node_of(operator: str, count: int, outputs: str = "y", **attributes) -> OnnxNode:
    names = tuple(f"i{n}" for n in range(count))
    return OnnxNode(operator=operator, name="n", inputs=names, outputs=tuple(outputs.split()), attributes=attributes)


def computed(operator: str, *arrays, opset: int = 17, **attributes) -> np.ndarray:
    return SizesEvaluator(opset)(node_of(operator, len(arrays), **attributes), [np.asarray(each) for each in arrays])


A, B = np.arange(6).reshape(2, 3), np.array([[2], [5]])
HALVES = np.array([-1.5, 0.25, 4.0], np.float32)
#: An operator's inputs and attributes, and what comes out.
RESULTS = {
    "Add": ((A, B), {}, A + B),
    "Sub": ((A, B), {}, A - B),
    "Mul": ((A, B), {}, A * B),
    "Div": ((-A * 7, B), {}, np.fix(-A * 7 / B).astype(int)),
    "Neg": ((HALVES,), {}, -HALVES),
    "Sqrt": ((HALVES**2,), {}, abs(HALVES)),
    "Reciprocal": ((HALVES,), {}, np.float32(1) / HALVES),
    "Equal": ((A, B), {}, A == B),
    "Where": ((A > 2, A, B), {}, np.where(A > 2, A, B)),
    "Cast": ((HALVES,), {"to": 7}, np.array([-1, 0, 4])),
    "Clip": ((HALVES, np.float32(-1), np.float32(1)), {}, np.array([-1, 0.25, 1], np.float32)),
    "Concat": ((A, B), {"axis": 1}, np.concatenate([A, B], 1)),
    "ConstantOfShape": (([2, 2],), {"value": np.array([7])}, np.full((2, 2), 7)),
    "Expand": ((B, [2, 3]), {}, np.broadcast_to(B, (2, 3))),
    "Flatten": ((A,), {"axis": 0}, A.reshape(1, 6)),
    "Gather": ((A, [2, 0]), {"axis": 1}, A[:, [2, 0]]),
    "Identity": ((A,), {}, A),
    "Range": ((3, 12, 4), {}, np.array([3, 7, 11])),
    "ReduceProd": ((A + 1,), {"axes": (1,), "keepdims": 0}, np.array([6, 120])),
    "Reshape": ((A, [3, -1]), {}, A.reshape(3, 2)),
    "Shape": ((A,), {}, np.array([2, 3])),
    "Size": ((A,), {}, np.array(6)),
    "Slice": ((A, [2], [-4], [1], [-1]), {}, A[:, ::-1]),
    "Squeeze": ((B, [1]), {}, B[:, 0]),
    "Unsqueeze": ((B, [0]), {}, B[None]),
    "Transpose": ((A,), {"perm": (1, 0)}, A.T),
    "QuantizeLinear": ((HALVES, np.float32(0.5), np.uint8(3)), {}, np.array([0, 3, 11], np.uint8)),
}


def test_every_operator_that_is_computed_is_tried():
    assert RESULTS.keys() == FOLDED


@pytest.mark.parametrize("operator", RESULTS)
def test_operators_of_constants(operator):
    arrays, attributes, expected = RESULTS[operator]
    found = computed(operator, *arrays, **attributes)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_inputs_may_be_left_out():
    clip = OnnxNode(operator="Clip", name="n", inputs=("x", "", "most"), outputs=("y",), attributes={})
    found = SizesEvaluator(17)(clip, [HALVES, None, np.array(0, np.float32)])
    np.testing.assert_array_equal(found, [-1.5, 0, 0])


def test_the_same_node_computes_other_arrays():
    evaluate, node = SizesEvaluator(17), node_of("Add", 2)
    for a in (A, B, np.array(3)):
        np.testing.assert_array_equal(evaluate(node, [a, A]), a + A)


def test_operators_are_those_of_the_opset():
    np.testing.assert_array_equal(computed("Squeeze", B, opset=11, axes=(1,)), B[:, 0])
    with pytest.raises(RefusalError, match="Squeeze 'n': its constant inputs must fit, but: "):
        computed("Squeeze", B, [1], opset=11)


def test_floats_become_single_precision():
    assert computed("Neg", np.array([1.5])).dtype == np.float32
    assert computed("Neg", np.array([1.5], np.float16)).dtype == np.float32


@pytest.mark.parametrize(
    ("operator", "arrays", "attributes", "message"),
    [
        ("ConstantOfShape", ([1 << 14, 1 << 13],), {}, "at most 67108864 elements, not 134217728"),
        ("Expand", ([1], [1 << 14, 1 << 13]), {}, "at most 67108864 elements, not 134217728"),
        ("Gather", (np.zeros(1 << 14, bool), np.zeros(1 << 13, np.uint8)), {}, "elements, not 134217728"),
        ("Range", (0, 1 << 27, 1), {}, "at most 67108864 elements, not 134217728"),
        ("Add", (np.zeros((1 << 14, 1)), np.zeros((1, 1 << 13))), {}, "elements, not 134217728"),
        ("Range", (0, 5, 0), {}, "its constant inputs must fit, but: float division by zero"),
        ("Expand", (A, [4, 4]), {}, "its constant inputs must fit, but: shape mismatch"),
        ("Reshape", (A, [4, -1]), {}, "its constant inputs must fit, but: cannot reshape"),
        ("Cast", (A,), {"to": 8}, "a result must be of at most 67108864 numbers, not 6"),
        ("Add", (A, B), {"outputs": "y z"}, "it must have one output where it computes sizes or constants"),
    ],
)
def test_what_is_refused(operator, arrays, attributes, message):
    with pytest.raises(RefusalError, match=f"^{operator} 'n': .*{message}"):
        computed(operator, *arrays, **attributes)


SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@settings(max_examples=60)
@given(st.sampled_from(["Add", "Where", "Concat", "Expand"]), SHAPES, SHAPES)
def test_a_result_is_refused_before_it_is_made_exactly_where_it_is_too_large(operator, one, other):
    """The limit is set to what NumPy's result has, and to one less."""
    a, b = np.ones(one, np.int64), np.ones(other, np.int64)
    given, attributes = [a, b], {}
    try:
        if operator == "Concat":
            expected, attributes = np.concatenate(given, 0), {"axis": 0}
        elif operator == "Where":
            expected, given = np.where(True, a, b), [np.array(True), a, b]
        elif operator == "Expand":
            expected, given = a * np.ones(other), [a, np.array(other, np.int64)]
        else:
            expected = a + b
    except ValueError:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes, "_MOST", expected.size)
        np.testing.assert_array_equal(computed(operator, *given, **attributes), expected)
        patch.setattr(sizes, "_MOST", expected.size - 1)
        with pytest.raises(RefusalError, match=f"at most {expected.size - 1} elements, not {expected.size}$"):
            computed(operator, *given, **attributes)
