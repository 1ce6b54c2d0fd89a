"""Where each tensor of a file is in the layers made so far: maps, zeros around them, clamps, and what was refused."""

from dataclasses import replace

import numpy as np
import pytest

from hw.network.network import INPUT, Tensor
from models.frontends.identities import rescaled
from models.frontends.tflite import assembly as under_test
from models.frontends.tflite.assembly import (
    NO_PADS,
    Assembly,
    TensorPlace,
    TooManyWeightsError,
    UnknownTensorError,
    bound,
)
from models.frontends.tflite.file import Operator, Subgraph, TensorEntry

IMAGE = Tensor(shape=(4, 5, 2), scale=0.5, zero_point=3)


def entry(shape, dtype="INT8", scales=(0.5,), zero_points=(3,), data=None, name="map") -> TensorEntry:
    return TensorEntry(
        name=name, dtype=dtype, shape=shape, scales=np.float32(scales), zero_points=np.array(zero_points), axis=0,
        data=data, objections=(),
    )  # fmt: skip


def assembly(*entries: TensorEntry, readers: int = 1) -> Assembly:
    """Of a file whose tensor 0 is the image."""
    tensors = [entry((1, 4, 5, 2)), *entries]
    graph = Subgraph(tensors=tensors, operators=[], inputs=[0], outputs=[], objections=())
    made = Assembly(graph, [readers] * len(tensors), set())
    made.begin(0, IMAGE)
    return made


def operator(*inputs: int, output: int = 1, position: int = 7) -> Operator:
    return Operator(name="OP", position=position, inputs=list(inputs), outputs=[output], options={}, objections=())


def test_codes_of_uint8_are_taken_less_128():
    made = assembly(entry((1, 2), zero_points=(100,)), entry((1, 2), "UINT8", zero_points=(100,)))
    assert (made.quantization(1), made.quantization(2)) == ((0.5, 100), (0.5, -28))


@pytest.mark.parametrize(("said", "shape"), [((1, 4, 5, 2), (4, 5, 2)), ((1, 5, 2), (1, 5, 2)), ((1, 6), (1, 1, 6))])
def test_shapes_of_fewer_axes_are_maps_of_one_row_or_position(said, shape):
    made = assembly(entry(said))
    assert made.shape(1) == shape
    assert made.map(1) == Tensor(shape=shape, scale=0.5, zero_point=3)


def test_a_shape_as_it_is_computed_may_differ_in_axes_of_one():
    assert assembly(entry((1, 6))).map(1, (6, 1, 1)).shape == (6, 1, 1)
    with pytest.raises(ValueError, match=r"tensor 1 \(map\) must be of shape \[1, 3, 2, 1\], not \[1, 6\]"):
        assembly(entry((1, 6))).map(1, (3, 2, 1))


REFUSED = {
    "floats": (entry((1, 6), "FLOAT32"), r"tensor 1 \(map\) must be INT8, not FLOAT32"),
    "two scales": (entry((1, 6), scales=(1, 2)), "must have one scale and one zero point, not 2 and 1"),
    "no scale": (entry((1, 6), scales=(), zero_points=()), "must have one scale and one zero point, not 0 and 0"),
    "a batch": (entry((2, 6)), r"must be a batch of one map, not \[2, 6\]"),
    "five axes": (entry((1, 1, 2, 3, 4)), r"must be a batch of one map, not \[1, 1, 2, 3, 4\]"),
    "a huge map": (
        entry((1, 1 << 20, 1 << 20, 1 << 40)),
        "must be of at most 16777216 values, not 1208925819614629174",
    ),
    "a long name": (entry((1, 6), "BOOL", name="x" * 81), "must be INT8, not BOOL"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_maps_that_can_not_be(kind):
    found, message = REFUSED[kind]
    with pytest.raises(ValueError, match=message) as error:
        assembly(found).map(1)
    assert len(str(error.value)) < 200


def test_zeros_around_a_map_are_made_where_one_reads_it_that_can_not_do_it():
    made = assembly(entry((1, 7, 6, 2)), entry((1, 7, 6, 2)))
    view = TensorPlace(name=INPUT, map=IMAGE, pads=(1, 2, 0, 1))
    made.later(operator(0, position=3), view)
    made.same(operator(1, output=2, position=4), made.padded(operator(1)))
    assert made.padded(operator(2)) == view
    assert (view.shape, made.layers) == ((7, 6, 2), [])
    whole = made.source(operator(2))
    assert (whole.name, whole.pads, whole.shape) == ("pad_3.4", NO_PADS, (7, 6, 2))
    (layer,) = made.layers
    assert (layer.pads, layer.output.shape) == ((1, 2, 0, 1), (7, 6, 2))
    assert made.source(operator(2)) == whole
    assert len(made.layers) == 1


def test_what_reads_a_map_by_rows_and_columns_finds_those_that_it_was_computed_with():
    made = assembly(entry((1, 40)), entry((1, 4, 5, 2)))
    made.same(operator(0), made.source(operator(0)))
    made.same(operator(1, output=2), made.source(operator(1)))
    assert made.image(operator(2)).name == INPUT
    with pytest.raises(ValueError, match=r"^OP must read a map by the rows, .* \[1, 4, 5, 2\], not \[1, 40\]$"):
        made.image(operator(1))


def test_a_tensor_must_be_computed_before():
    made = assembly(entry((1, 6)), entry((1, 6), data=np.zeros((1, 6), np.int8)))
    with pytest.raises(ValueError, match=r"tensor 1 \(map\) must be computed by an earlier operator$"):
        made.source(operator(1))
    with pytest.raises(ValueError, match=r"must be computed by an earlier operator, not be a constant$"):
        made.source(operator(2))
    with pytest.raises(ValueError, match=r"^OP must have constant weights$"):
        made.constant(operator(1), 0, "weights")
    assert made.constant(operator(0, 2), 1, "weights").shape == (1, 6)


@pytest.mark.parametrize("before", [(-128, 127), (-100, 20), (3, 3)])
def test_a_clamp_behind_a_layer_that_nothing_else_reads_becomes_part_of_it(before):
    made = assembly(entry((1, 4, 5, 2)), entry((1, 4, 5, 2)))
    made.append(operator(0), rescaled("one", INPUT, IMAGE, clamp=before))
    assert made.clamped(operator(1, output=2), (3, 40))
    (layer,) = made.layers
    assert layer.clamp == tuple(min(max(code, 3), 40) for code in before)
    assert made.made == {"one": 2}
    assert made.codes(made.source(operator(2))) == layer.clamp
    assert made.codes(TensorPlace(name=INPUT, map=IMAGE)) == (-128, 127)


def test_a_clamp_behind_a_layer_that_others_read_is_none_of_it():
    made = assembly(entry((1, 4, 5, 2)), entry((1, 4, 5, 2)), readers=2)
    made.append(operator(0), rescaled("one", INPUT, IMAGE))
    assert not made.clamped(operator(1, output=2), (3, 40))
    alone = assembly(entry((1, 4, 5, 2)))
    assert not alone.clamped(operator(0), (3, 40))  # an image
    assert alone.layers == []


def test_weights_of_all_layers_count_together(monkeypatch):
    layer = rescaled("one", INPUT, IMAGE)
    monkeypatch.setattr(under_test, "_WEIGHTS", 2 * layer.weight.size)
    made = assembly()
    made.help(layer)
    made.help(replace(layer, name="two"))
    with pytest.raises(TooManyWeightsError, match=f"at most {2 * layer.weight.size} weights"):
        made.help(replace(layer, name="three"))


def test_behind_what_was_refused_others_are_looked_at():
    """A tensor that could be a map stands for itself; of one that couldn't nothing more is said."""
    made = assembly(entry((1, 6)), entry((1, 6), "FLOAT32"))
    made.refused([1, 2, -1])
    assert made.source(operator(1)).map.shape == (1, 1, 6)
    with pytest.raises(UnknownTensorError):
        made.source(operator(2))
    assert [made.has(number) for number in (0, 1, 2)] == [True, True, True]
    assert made.layers == []


def test_bounds():
    bound(1 << 24, "a map")
    with pytest.raises(ValueError, match=r"^a map must be of at most 16777216 values, not 16777217$"):
        bound((1 << 24) + 1, "a map")
