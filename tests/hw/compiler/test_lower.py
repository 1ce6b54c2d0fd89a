from dataclasses import replace

import numpy as np
import pytest

from hw.compiler.lower import lower
from hw.compiler.steps.step import Kernel, Step
from hw.network.network import INPUT
from tests.hw.networks import runnable
from tests.random_networks import NetworkMaker


def first(maker: NetworkMaker) -> Step:
    maker.head("layer0", 3)
    return lower(maker.network("net")).steps[0]


def axis(kernel: Kernel, name: str) -> tuple[int, int, int, int, int]:
    found = getattr(kernel, name)
    return found.size, found.kernel, found.stride, found.pad, found.outputs


def test_an_add_belongs_to_the_convolution_before_it():
    steps = lower(runnable()).steps
    assert [step.layer.name for step in steps] == ["stem", "early", "inner", "branch", "mean", "hidden", "head"]
    assert [step.result.name for step in steps] == ["stem", "early", "inner", "sum", "mean", "hidden", "head"]
    assert [step.residual for step in steps] == [None, None, None, "stem", None, None, None]
    assert [step.reads for step in steps] == [INPUT, "stem", "stem", "inner", "sum", "mean", "hidden"]
    assert [step.raw for step in steps] == [False, True, False, False, False, False, True]


def test_an_add_may_follow_a_depthwise_convolution():
    maker = NetworkMaker(np.random.default_rng(0), (4, 4, 3))
    here = maker.conv(INPUT, 5, (1, 1))
    inner = maker.conv(here, 5, (1, 1))
    deep = maker.depthwise(inner, (3, 3), pads=(1, 1, 1, 1))
    add = replace(runnable().layer("sum"), name="total", inputs=(deep, here), output=maker._tensors[deep])
    maker.head(maker._append(add), 3)
    steps = lower(maker.network("net")).steps
    assert (steps[2].layer.name, steps[2].result.name, steps[2].residual) == (deep, "total", here)


def test_an_add_at_the_beginning_is_refused():
    maker = NetworkMaker(np.random.default_rng(0), (4, 4, 3))
    add = replace(runnable().layer("sum"), name="twice", inputs=(INPUT, INPUT), output=maker.input)
    maker.head(maker._append(add), 3)
    message = r"^twice: an add must directly follow a convolution that only it reads, not input$"
    with pytest.raises(ValueError, match=message):
        lower(maker.network("net"))


def test_a_convolution_is_itself():
    maker = NetworkMaker(np.random.default_rng(0), (9, 7, 3))
    maker.conv(INPUT, 5, (3, 2), (2, 1), pads=(1, 0, 1, 1))
    step = first(maker)
    np.testing.assert_array_equal(step.kernel.weight, step.layer.weight)
    assert (axis(step.kernel, "rows"), axis(step.kernel, "columns")) == ((9, 3, 2, 1, 4), (7, 2, 1, 1, 8))
    assert (step.kernel.steps, step.kernel.depthwise, step.kernel.global_pool) == ((1, 1), False, False)
    np.testing.assert_array_equal(step.kernel.nonzero, (step.layer.weight != 0).sum(axis=3))
    assert [step.kernel.reads(y, y + 1) for y in range(4)] == [(0, 2), (1, 4), (3, 6), (5, 8)]


def test_narrow_kernels_skip_positions():
    maker = NetworkMaker(np.random.default_rng(0), (9, 7, 3))
    maker.conv(INPUT, 5, (1, 2), (4, 3))
    kernel = first(maker).kernel
    # Every fourth row is walked; the second kernel column of three has zeros beside it.
    assert (axis(kernel, "rows"), axis(kernel, "columns")) == ((3, 1, 1, 0, 3), (7, 3, 3, 0, 2))
    assert kernel.steps == (4, 1)
    assert kernel.weight.shape == (5, 1, 3, 3)
    assert not kernel.weight[:, :, 2].any()
    assert [kernel.reads(y, y + 1) for y in range(3)] == [(0, 1), (4, 5), (8, 9)]
    assert kernel.reads(1, 3) == (4, 9)


def test_layers_of_single_channels():
    maker = NetworkMaker(np.random.default_rng(0), (6, 6, 5))
    maker.depthwise(INPUT, (3, 3), pads=(1, 1, 1, 1))
    deep = first(maker).kernel
    assert (deep.depthwise, deep.global_pool, deep.weight.shape) == (True, False, (5, 3, 3, 1))
    maker = NetworkMaker(np.random.default_rng(0), (6, 6, 5))
    maker.average_pool(INPUT, (2, 3), (2, 3))
    pool = first(maker).kernel
    assert (pool.depthwise, pool.global_pool, pool.weight.tolist()) == (True, False, np.ones((5, 2, 3, 1)).tolist())
    maker = NetworkMaker(np.random.default_rng(0), (6, 4, 5))
    maker.pool(INPUT)
    whole = first(maker).kernel
    assert (whole.depthwise, whole.global_pool, whole.weight.shape) == (True, True, (5, 1, 1, 1))
    assert (axis(whole, "rows"), axis(whole, "columns")) == ((6, 6, 1, 0, 1), (4, 4, 1, 0, 1))
    assert whole.reads(0, 1) == (0, 6)


@pytest.mark.parametrize(("window", "pads", "total"), [((2, 3), (1, 0, 0, 2), False), ((6, 4), (0,) * 4, True)])
def test_a_max_pool_is_an_average_pool_that_keeps_the_largest(window, pads, total):
    maker = NetworkMaker(np.random.default_rng(0), (6, 4, 5))
    maker.max_pool(INPUT, window, (1, 1), pads)
    largest = first(maker).kernel
    assert (largest.depthwise, largest.global_pool, largest.max_pool) == (True, total, True)
    assert largest.weight.tolist() == np.ones((5, *((1, 1) if total else window), 1)).tolist()
    assert (largest.rows.pad, largest.columns.pad) == (pads[0], pads[2])
    maker = NetworkMaker(np.random.default_rng(0), (6, 4, 5))
    maker.average_pool(INPUT, (2, 3), (1, 1))
    assert not first(maker).kernel.max_pool


def test_a_linear_layer_has_a_kernel_as_large_as_its_map():
    maker = NetworkMaker(np.random.default_rng(0), (3, 2, 5))
    maker.linear(INPUT, 6)
    step = first(maker)
    assert (axis(step.kernel, "rows"), axis(step.kernel, "columns")) == ((3, 3, 1, 0, 1), (2, 2, 1, 0, 1))
    assert (step.kernel.depthwise, step.kernel.rows.kernel) == (False, 3)
    np.testing.assert_array_equal(step.kernel.weight, step.layer.weight)


@pytest.mark.parametrize(
    ("kernel", "pads", "grown", "pad"),
    [
        ((1, 1), (1, 1, 0, 0), (3, 1), (2, 0)),  # the rows above and below are of zeros alone
        ((2, 3), (2, 0, 1, 4), (3, 5), (2, 3)),
        ((3, 3), (2, 2, 2, 2), (3, 3), (2, 2)),
    ],
)
def test_pads_beyond_the_kernel_make_it_larger(kernel, pads, grown, pad):
    """Every window then holds a position of the map, and weights of zero take no time."""
    maker = NetworkMaker(np.random.default_rng(0), (6, 7, 3))
    maker.conv(INPUT, 5, kernel, (1, 1), pads=pads)
    step = first(maker)
    weight, rows, columns = step.kernel.weight, step.kernel.rows, step.kernel.columns
    assert (weight.shape[1:3], (rows.pad, columns.pad)) == (grown, pad)
    assert (rows.outputs, columns.outputs) == step.layer.output.shape[:2]
    top, left = pad[0] - pads[0], pad[1] - pads[2]
    inner = weight[:, top : top + kernel[0], left : left + kernel[1]]
    np.testing.assert_array_equal(inner, step.layer.weight)
    assert np.count_nonzero(weight) == np.count_nonzero(inner)
