"""What a core's walk must do of a layer; whole programs are changed in the tests of check_equivalence."""

from dataclasses import replace

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.layers import DepthwiseConv2D, Linear
from hw.network.network import INPUT
from hw.network.pooling import AveragePool2D, GlobalAveragePool, MaxPool2D
from hw.numerics import Rounding
from hw.program.check.products import ExpectedWork, check_products, stencil_of
from hw.program.instructions import CoreLayer
from hw.program.list_memory import pack_pointers, unpack_pointers
from tests.hw.networks import network, tensor, weighted
from tests.hw.partitions import only
from tests.random_networks import NetworkMaker

TINY = preset("tiny")
#: Of the input: rows, columns.
SIZE = (5, 4)


@pytest.fixture(scope="module")
def good():
    """The first layer of a program in one core: its work, its core and what its list memories hold."""
    maker = NetworkMaker(np.random.default_rng(0), (*SIZE, 3))
    maker.head(maker.pool(maker.conv(INPUT, 8, (3, 3), pads=(1, 1, 1, 1), density=0.7)), 3)
    with pytest.MonkeyPatch.context() as patch:
        only(patch, column_major=False)
        program = compile_network(maker.network("net"), TINY)
    core, layer = program.decoded.layers[0].cores[0], program.network.layers[0]
    rows, columns = len(core.rows) - core.source.blank_rows, len(core.columns)
    work = ExpectedWork(
        stencil=stencil_of(layer, program.network.input.shape),
        shape=SIZE,
        positions=(np.repeat(np.arange(rows)[:, None], columns, axis=1), np.repeat([np.arange(columns)], rows, axis=0)),
        rows=(0, layer.output.shape[0]),
        columns=layer.output.shape[1],
        channels=(0, 8),
        inputs=(0, 3),
        column_major=False,
        first=core.source.first_dump,
    )
    return work, core, program.images["lists"].astype(np.int64)


def refusal(work: ExpectedWork, core: CoreLayer, lists: np.ndarray) -> str:
    with pytest.raises(ValueError, match=r"^layer: ") as caught:
        check_products("layer", work, core, lists, TINY)
    return str(caught.value).removeprefix("layer: ")


def test_what_the_compiler_makes_is_accepted(good):
    check_products("layer", *good, TINY)


@pytest.mark.parametrize("place", [(0, 0, 0), (4, 7, 2), (8, 3, 1)], ids=str)
def test_every_weight_counts(good, place):
    work, core, lists = good
    weight = work.stencil.weight.copy()
    weight[place] = 1 if weight[place] != 1 else 2
    other = replace(work, stencil=replace(work.stencil, weight=weight))
    assert refusal(other, core, lists) == "its lists must hold the weights of the network, each once"


def test_a_weight_that_is_stored_twice(good):
    work, core, lists = good
    (pe, word), *_ = np.argwhere(unpack_pointers(lists, TINY)[1])
    start, count = unpack_pointers(lists[pe, word], TINY)
    twice = np.concatenate([lists, np.zeros((len(lists), count + 1), np.int64)], axis=1)
    twice[pe, -count - 1 :] = [*lists[pe, start : start + count], lists[pe, start]]
    twice[pe, word] = pack_pointers(lists.shape[1], count + 1, TINY)
    assert refusal(work, core, twice) == "its lists must hold the weights of the network, each once"


def test_every_position_is_walked_once(good):
    work, core, lists = good
    rows = work.positions[0].copy()
    rows[1] = rows[0]
    message = "it must walk each of the 5x4 positions that its outputs need once, not 20"
    assert refusal(replace(work, positions=(rows, work.positions[1])), core, lists) == message
    less = work.positions[0][:-1], work.positions[1][:-1]
    assert refusal(replace(work, positions=less), core, lists) == message.replace("20", "16")


def test_outputs_lie_where_they_are_taken_out(good):
    work, core, lists = good
    assert refusal(replace(work, first=work.first + 1), core, lists)
    rows = (replace(core.rows[0], accumulator=(core.rows[0].accumulator + 2) % TINY.accumulators), *core.rows[1:])
    assert refusal(work, replace(core, rows=rows), lists)


def test_outputs_keep_their_accumulators_until_they_are_complete(good):
    work, core, lists = good
    early = (replace(core.columns[0], dumps=core.columns[0].dumps + 1), *core.columns[1:])
    message = "outputs must have accumulators of their own from their first product to their last"
    assert refusal(work, replace(core, columns=early), lists) == message


def test_accumulators_are_enough_for_the_outputs_of_a_position(good):
    work, core, lists = good
    many = replace(core, source=replace(core.source, dump_length=8))
    with pytest.raises(ValueError, match=r"^layer: 3x3 outputs of 8 accumulators must fit the 64 of a PE$"):
        check_products("layer", replace(work, channels=(0, 32)), many, lists, TINY.replace(accumulators=64))


def test_lists_lie_in_their_memory(good):
    work, core, lists = good
    beyond = replace(core, source=replace(core.source, first_list=4000))
    assert refusal(work, beyond, lists).startswith("list 4")
    (pe, word), *_ = np.argwhere(unpack_pointers(lists, TINY)[1])
    wrong = lists.copy()
    wrong[pe, word] = pack_pointers(lists.shape[1] - 1, 2, TINY)
    assert refusal(work, core, wrong) == f"lists must lie within the {lists.shape[1]} words of lists"


NETWORK = network()
SHAPE = (6, 4, 2)


def test_a_convolution_is_its_taps_row_by_row():
    layer = NETWORK.layer("stem")
    found = stencil_of(layer, SHAPE)
    assert (found.size, found.stride, found.pads, found.depthwise, found.max_pool) == (
        (3, 3),
        (2, 1),
        (0, 1),
        False,
        False,
    )
    assert found.weight.shape == (9, 4, 2)
    np.testing.assert_array_equal(found.weight[5], layer.weight[:, 1, 2, :])


def test_a_linear_layer_is_a_convolution_of_its_whole_input():
    layer = NETWORK.layer("early")
    assert isinstance(layer, Linear)
    found = stencil_of(layer, (3, 4, 4))
    assert (found.size, found.stride, found.pads, found.depthwise) == ((3, 4), (1, 1), (0, 0), False)
    np.testing.assert_array_equal(found.weight[7], layer.weight[:, 1, 3, :])


def test_channels_of_their_own():
    values = {"rounding": Rounding.DOUBLE, **weighted(2, 3, 3, 1)}
    own = DepthwiseConv2D(name="own", inputs=("input",), output=tensor(6, 4, 2), pads=(1, 1, 1, 1), **values)
    found = stencil_of(own, SHAPE)
    assert (found.size, found.pads, found.depthwise, found.max_pool) == ((3, 3), (1, 1), True, False)
    assert found.weight.shape == (9, 2, 1)


@pytest.mark.parametrize(
    ("layer", "size", "stride", "pads", "maximum"),
    [
        (GlobalAveragePool(name="p", inputs=("input",), output=tensor(1, 1, 2)), (6, 4), (1, 1), (0, 0), False),
        (
            AveragePool2D(name="p", inputs=("input",), output=tensor(3, 1, 2), window=(2, 3), stride=(2, 1)),
            (2, 3),
            (2, 1),
            (0, 0),
            False,
        ),
        (
            MaxPool2D(
                name="p", inputs=("input",), output=tensor(3, 2, 2), window=(3, 2), stride=(2, 2), pads=(1, 0, 0, 0)
            ),
            (3, 2),
            (2, 2),
            (1, 0),
            True,
        ),
    ],
    ids=["global", "average", "max"],
)
def test_pools_have_one_weight_of_1_everywhere(layer, size, stride, pads, maximum):
    found = stencil_of(layer, SHAPE)
    assert (found.size, found.stride, found.pads, found.max_pool) == (size, stride, pads, maximum)
    assert found.depthwise
    assert found.weight.tolist() == [[[1], [1]]]
