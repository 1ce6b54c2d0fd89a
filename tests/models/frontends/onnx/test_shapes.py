"""Operators that move, join and pad values are ONNX Runtime's and NumPy's; images stay apart."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.frontends.onnx import shapes
from models.frontends.onnx.file import OnnxNode
from models.frontends.onnx.shapes import own_axes
from models.frontends.onnx.sites import RefusalError, Site
from tests.models.frontends.onnx.onnx_models import checked, model, node, saved

MAP = ("n", 3, 8, 7)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@pytest.mark.parametrize("axis", [1, -3, 2, -1])
def test_concatenations(tmp_path, axis):
    checked(saved(tmp_path, model([node("Relu", "x", "r"), node("Concat", "x r x", axis=axis)], MAP)))


@pytest.mark.parametrize(("pads", "value"), [([0, 0, 1, 2, 0, 0, 0, 1], 0.0), ([0, 1, 0, 0, 0, 2, 0, 0], 1.5)])
def test_pads_of_all_forms(tmp_path, pads, value):
    checked(saved(tmp_path, model([node("Pad", "x", pads=pads, value=value, mode="constant")], MAP, opset=10)))
    constants = {"p": ints(*pads), "v": np.float32(value), "q": ints(1, 0, 0, 2), "a": ints(3, -2)}
    checked(saved(tmp_path, model([node("Pad", "x p v")], MAP, constants)))
    checked(saved(tmp_path, model([node("Pad", "x q - a")], MAP, constants, opset=18)))


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Flatten", "x")],
        [node("Flatten", "x", axis=-3)],
        [node("Reshape", "x s")],
        [node("Reshape", "x t")],
        [node("Reshape", "x z")],
        [node("Transpose", "x", perm=[0, 2, 1, 3])],
        [node("GlobalAveragePool", "x", "g"), node("Squeeze", "g a")],
        [node("GlobalAveragePool", "x", "g"), node("Squeeze", "g")],
        [node("GlobalAveragePool", "x", "g"), node("Squeeze", "g a", "h"), node("Unsqueeze", "h b")],
        [node("Slice", "x a a2 a")],
        [node("Slice", "x one far minus2 two", "i"), node("Slice", "i zero whole", "j"), node("Relu", "j")],
        [node("Gather", "x places", axis=1)],
        [node("Gather", "x place", "i", axis=-1), node("Relu", "i")],
        [node("Split", "x", "i j", axis=2), node("Relu", "j", "k"), node("Concat", "k i", axis=2)],
        [node("Split", "x b2", "i j", axis=1), node("Flatten", "i")],
        [node("Identity", "x", "i"), node("Dropout", "i", "j"), node("Cast", "j", to=1)],
        [node("Identity", "x", "i"), node("Dropout", "i half no")],
    ],
)
def test_what_only_gives_on_values(tmp_path, nodes):
    constants = {
        "s": ints(-1, 168), "t": ints(0, 3, -1), "z": ints(0, 0, 56, 1), "a": ints(2, 3), "b": ints(1, -1),
        "a2": ints(8, 7), "one": ints(1, 1), "far": ints(1 << 40, -1), "minus2": ints(-1, -2), "two": ints(2, 1),
        "zero": ints(0, 0), "whole": ints(1 << 40, 2),
        "places": ints(2, -3, 2), "place": np.array(-2), "b2": ints(1, 2),
        "half": np.float32(0.5), "no": np.array(False),
    }  # fmt: skip
    checked(saved(tmp_path, model(nodes, MAP, constants)))


@pytest.mark.parametrize("images", ["n", 2])
def test_slices_by_sizes_that_are_computed(tmp_path, images):
    """What PyTorch's exporter writes of a chunk where the number of images is left open."""
    nodes = [
        node("Shape", "x", "s"), node("Gather", "s at", "c", axis=0), node("Add", "c at", "d"),
        node("Div", "d two", "h"),
        node("Mul", "h at", "i"), node("Slice", "x zero i at", "first"), node("Mul", "h two", "j"),
        node("Slice", "x i j at", "second"), node("Relu", "second", "r"), node("Concat", "r first", "b", axis=1),
        node("Slice", "s zero at", "m"), node("Concat", "m three", "e", axis=0), node("Slice", "b none e both"),
    ]  # fmt: skip
    constants = {
        "at": ints(1),
        "two": ints(2),
        "zero": ints(0),
        "three": ints(3),
        "none": ints(0, 1),
        "both": ints(0, 2),
    }
    checked(saved(tmp_path, model(nodes, (images, 4, 5, 6), constants)))


def test_older_forms_of_squeeze_and_unsqueeze(tmp_path):
    nodes = [
        node("GlobalAveragePool", "x", "g"), node("Squeeze", "g", "h", axes=[2, 3]), node("Unsqueeze", "h", axes=[2]),
    ]  # fmt: skip
    checked(saved(tmp_path, model(nodes, MAP, opset=11)))


#: Two images, of values that all differ.
VALUES = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)


def result(build, *constants, batch=None, values=VALUES, **attributes) -> np.ndarray:
    """What the module of an operator with constants as its other inputs makes of values."""
    names = [f"c{n}" for n in range(len(constants))]
    site = Site(
        node=OnnxNode(operator="Op", name="n", inputs=("x", *names), outputs=("y",), attributes=attributes),
        opset=17, batch=batch, constants={name: np.array(each) for name, each in zip(names, constants, strict=True)},
    )  # fmt: skip
    return build(site)(torch.from_numpy(values)).numpy()


BOUNDS = st.integers(-9, 9)


@settings(max_examples=60)
@given(st.dictionaries(st.integers(1, 3), st.tuples(BOUNDS, BOUNDS, st.integers(1, 4)), min_size=1), st.booleans())
def test_slices_are_numpys(slices, negative):
    axes = [axis - 4 if negative else axis for axis in slices]
    starts, ends, steps = zip(*slices.values(), strict=True)
    expected = VALUES[tuple(slice(*slices[axis]) if axis in slices else slice(None) for axis in range(4))]
    np.testing.assert_array_equal(result(shapes.slice_of, starts, ends, axes, steps), expected)
    np.testing.assert_array_equal(result(shapes.slice_of, starts=starts, ends=ends, axes=tuple(axes)), VALUES[
        tuple(slice(*slices[axis][:2]) if axis in slices else slice(None) for axis in range(4))
    ])  # fmt: skip


@settings(max_examples=40)
@given(st.data())
def test_gathered_positions_are_numpys(data):
    axis = data.draw(st.integers(1, 3))
    size = VALUES.shape[axis]
    place = st.integers(-size, size - 1)
    places = data.draw(st.one_of(place, st.lists(place, min_size=1, max_size=4)))
    for along in (axis, axis - 4):
        np.testing.assert_array_equal(result(shapes.gather, places, axis=along), VALUES.take(places, axis))


@settings(max_examples=40)
@given(st.lists(st.integers(0, 2), min_size=6, max_size=6), st.sampled_from([0.0, -1.5]), st.booleans())
def test_padded_maps_are_numpys(sizes, value, named):
    pairs = [(0, 0), *zip(sizes[:3], sizes[3:], strict=True)]
    expected = np.pad(VALUES, pairs, constant_values=value)
    given = np.array(pairs[1:] if named else pairs).T.reshape(-1)
    others = (np.float32(value), [1, -2, 3]) if named else (np.float32(value),)
    np.testing.assert_array_equal(result(shapes.pad, given, *others), expected)


@pytest.mark.parametrize(
    ("attributes", "constants", "sizes"),
    [
        ({}, (), [(0, 3), (3, 5)]),  # the last part of an uneven split is the smaller one
        ({"split": (1, 4)}, (), [(0, 1), (1, 5)]),
        ({}, ([2, 3],), [(0, 2), (2, 5)]),
    ],
)
def test_every_part_of_a_split(attributes, constants, sizes):
    for part, (first, last) in enumerate(sizes):
        found = result(shapes.split, *constants, axis=-1, part=part, parts=2, **attributes)
        np.testing.assert_array_equal(found, VALUES[..., first:last])


def test_each_image_keeps_its_values_for_any_number_of_images():
    for batch, sizes, expected in (
        (1, [1, 60], (2, 60)), (7, [7, 12, -1], (2, 12, 5)), (None, [-1, 60], (2, 60)), (None, [0, 0, 20], (2, 3, 20)),
        (2, [2, 4, 3, 5], (2, 4, 3, 5)),
    ):  # fmt: skip
        np.testing.assert_array_equal(result(shapes.reshape, sizes, batch=batch), VALUES.reshape(expected))


def test_axes_of_one_position_move_without_a_copy():
    narrow = torch.arange(6.0).reshape(1, 2, 1, 3)
    site = Site(
        node=OnnxNode(operator="Op", name="n", inputs=("x",), outputs=("y",), attributes={"perm": (0, 2, 1, 3)}),
        opset=17, batch=None, constants={},
    )  # fmt: skip
    found = shapes.transpose(site)(narrow)
    assert found.shape == (1, 1, 2, 3)
    assert found.is_contiguous()
    assert found.data_ptr() == narrow.data_ptr()
    np.testing.assert_array_equal(result(shapes.transpose, perm=(0, 3, 1, 2)), VALUES.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("axes", [[0], [4], [-4], [-5], [1, 1], [1, -3]])
def test_axes_that_are_none_of_an_image(axes):
    with pytest.raises(ValueError, match=r"it must be over axes from 1 to 3, each once, not \[") as error:
        own_axes(axes, 4, "it")
    assert str(error.value).endswith(str(axes))


def test_axes_of_an_image():
    assert own_axes([-1, 1, 2], 4, "it") == [3, 1, 2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: result(shapes.reshape, np.zeros(0, int)), "sizes must be 1 or more"),
        (lambda: result(shapes.reshape, [2, 0, 60], allowzero=1), "sizes must be 1 or more"),
        (lambda: result(shapes.reshape, [-1, -1]), "one of them -1 for the rest"),
        (lambda: result(shapes.reshape, [2, -2, 30]), r"not \[2, -2, 30\]"),
        (lambda: result(shapes.reshape, [4, 30]), r"stay in their own row, not be mixed in \[4, 30\]"),
        (lambda: result(shapes.reshape, [1, 120]), "stay in their own row"),
        (lambda: result(shapes.gather, [[1, 2]], axis=1), "indices must be constant integers, one or in one dimension"),
        (lambda: result(shapes.gather, np.zeros(0, int), axis=1), "indices must be constant integers"),
        (lambda: result(shapes.gather, [3], axis=1), r"indices must be from -3 to 2, not \[3\]"),
        (lambda: result(shapes.slice_of, [1, 2], [3]), "starts and ends must be as many"),
        (lambda: result(shapes.slice_of, [1], [3], [1], [0]), r"steps must be 1 or more, .*, not \[0\]"),
        (lambda: result(shapes.slice_of, [1], [3], [1, 2]), "one for each axis as axes are"),
        (lambda: result(shapes.slice_of, [0], [1], [0], batch=2), "a Slice must be over axes from 1 to 3"),
        (lambda: result(shapes.split, axis=1, parts=3, part=0, split=(1, 1)), r"sizes must be 3 that are 3 together"),
        (lambda: result(shapes.split, axis=3, parts=4, part=3), "sizes must be 4 that are 5 together"),
        (lambda: result(shapes.pad, [0, 1, 2]), "pads must be numbers of 0 or more, before and behind each axis"),
        (lambda: result(shapes.pad, [0, 0, -1, 0, 0, 0, 0, 0]), "pads must be numbers of 0 or more"),
        (lambda: result(shapes.pad, [0, 1, 0, 1], np.float32(0), [1, -3]), "pads must be for each axis once"),
        (lambda: result(shapes.pad, [1, 0], np.float32(0), [0]), "0 for that of images"),
        (lambda: result(shapes.squeeze, [1]), r"axes must be of one position, not \[1\] of \[3, 4, 5\] of an image"),
        (lambda: result(shapes.unsqueeze, [0]), "an Unsqueeze must be over axes from 1 to 4"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_whole_images_may_be_named_in_a_slice():
    np.testing.assert_array_equal(result(shapes.slice_of, [0, 1], [2, 3], [0, 1], batch=2), VALUES[:, 1:3])
    np.testing.assert_array_equal(result(shapes.slice_of, [0], [(1 << 31) - 1], [0]), VALUES)
    with pytest.raises(RefusalError, match="Op 'n': perm must be an order of all axes with images first, not None"):
        result(shapes.transpose)
