"""Kernels that are walked by rows or by columns, and steps' names of what they read and write."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.compiler.lower import lower
from hw.compiler.search.strips import cut
from hw.compiler.steps.step import Kernel, Strip, makers_of, maps_of, readers_of
from hw.network.network import INPUT
from tests.hw.compiler.steps.test_geometry import axes, contributions
from tests.hw.networks import runnable
from tests.random_networks import NetworkMaker, random_network, two_blocks

strides = st.tuples(st.integers(1, 3), st.integers(1, 3))


def kernel_of(rows, columns, steps=(1, 1)) -> Kernel:
    """Every weight another one."""
    weight = np.arange(1, 1 + 6 * rows.kernel * columns.kernel, dtype=np.int64)
    return Kernel(weight=weight.reshape(2, rows.kernel, columns.kernel, 3), rows=rows, columns=columns, steps=steps)


def rows_of(axis, data) -> tuple[int, int]:
    first = data.draw(st.integers(0, axis.outputs - 1))
    return first, data.draw(st.integers(first + 1, axis.outputs))


def products(kernel: Kernel, rows: tuple[int, int]) -> set[tuple[tuple[int, int], tuple[int, int], tuple[int, ...]]]:
    """Input position, output position and weights of every product that makes these output rows."""
    return {
        ((y, x), (down, right), tuple(kernel.weight[:, i, j].reshape(-1).tolist()))
        for y, i, down in contributions(kernel.rows)
        for x, j, right in contributions(kernel.columns)
        if rows[0] <= down < rows[1]
    }


@given(axes(), axes(), strides, st.data())
def test_a_column_major_walk_makes_the_products_of_its_rows(down, right, steps, data):
    kernel = kernel_of(down, right, steps)
    rows = rows_of(down, data)
    turned, walked = kernel.walk(rows, column_major=True)
    assert turned.steps == steps[::-1]
    # The walk begins with the first row that these outputs read, and counts them from their first.
    top = min(y for y, _, made in contributions(down) if rows[0] <= made < rows[1])
    found = {
        ((top + x, y), (rows[0] + across, along), weights)
        for (y, x), (along, across), weights in products(turned, walked)
    }
    assert found == products(kernel, rows)


@given(axes(), axes(), st.data())
def test_a_row_major_walk_is_the_kernel_as_it_is(down, right, data):
    kernel = kernel_of(down, right)
    rows = rows_of(down, data)
    assert kernel.walk(rows, column_major=False) == (kernel, rows)


@given(axes(), axes(), st.data())
def test_a_kernel_is_turned_once_for_every_form_of_band(down, right, data):
    """What is kept of a walk, as lists, is found again by its kernel."""
    kernel = kernel_of(down, right)
    turned = [kernel.walk(rows_of(down, data), column_major=True)[0] for _ in range(3)]
    for one in turned:
        for other in turned:
            assert (one is other) == (one.columns == other.columns)
            assert one.weight is other.weight


def test_what_a_turned_kernel_is_besides_its_axes_stays():
    maker = NetworkMaker(np.random.default_rng(0), (4, 6, 3))
    maker.head(maker.max_pool(INPUT, (2, 3), (1, 2)), 2)
    kernel = lower(maker.network("net")).steps[0].kernel
    turned, _ = kernel.walk((0, 3), column_major=True)
    assert (turned.depthwise, turned.max_pool, turned.global_pool) == (True, True, False)


@given(axes(), axes(), strides, st.data())
def test_rows_that_are_read_reach_from_the_first_to_the_last_product(down, right, steps, data):
    kernel = kernel_of(down, right, steps)
    first, last = rows_of(down, data)
    read = [steps[0] * y for y, _, made in contributions(down) if first <= made < last]
    assert kernel.reads(first, last) == (min(read), max(read) + 1)


def test_nonzero_weights_are_counted_over_the_input_channels():
    maker = NetworkMaker(np.random.default_rng(0), (4, 4, 5))
    maker.head(maker.conv(INPUT, 6, (3, 2), density=0.4), 2)
    kernel = lower(maker.network("net")).steps[0].kernel
    for channel, row, column in np.ndindex(6, 3, 2):
        expected = sum(weight != 0 for weight in kernel.weight[channel, row, column].tolist())
        assert kernel.nonzero[channel, row, column] == expected
    assert kernel.products == sum(weight != 0 for weight in kernel.weight.reshape(-1).tolist()) > 0


@pytest.mark.parametrize("order", [1, -1])
def test_the_residual_is_the_operand_that_the_step_does_not_make(order):
    inputs = ("stem", "branch")[::order]
    steps = lower(runnable({"sum": {"inputs": inputs}})).steps
    added = next(step for step in steps if step.add is not None)
    assert (added.reads, added.writes, added.residual, added.result.name) == ("inner", "sum", "stem", "sum")
    assert [step.residual for step in steps if step.add is None] == [None] * (len(steps) - 1)


def test_what_lies_between_strips_is_a_map_for_each_of_them():
    added = next(step for step in lower(runnable()).steps if step.add is not None)

    def names(*between: str) -> tuple[str, str, str | None]:
        step = replace(added, strip=Strip(3, ((0, 2),), frozenset(between)))
        return step.reads, step.writes, step.residual

    assert names() == ("inner", "sum", "stem")
    assert names("inner", "stem") == ("inner@3", "sum", "stem@3")
    assert names("sum") == ("inner", "sum@3", "stem")
    # The convolution's own output is no map: the sum takes its place.
    assert names("branch") == ("inner", "sum", "stem")


@pytest.mark.parametrize("network", [random_network(0), random_network(1), two_blocks(6, 8), runnable()])
def test_makers_and_readers_are_those_of_the_network(network):
    steps = lower(network).steps
    fused = {step.layer.name for step in steps if step.add is not None}
    makers, readers = makers_of(steps), readers_of(steps)
    raw = {layer.name for layer in network.layers if getattr(layer, "raw", False)}
    names = {INPUT, *(layer.name for layer in network.layers)} - fused
    assert (set(makers), set(readers)) == (names - raw, names)
    assert makers.pop(INPUT) == -1
    for name, number in makers.items():
        assert steps[number].result.name == name
    for name, numbers in readers.items():
        layers = {steps[number].layer.name for number in numbers} | {steps[number].result.name for number in numbers}
        assert {layer.name for layer in network.layers if name in layer.inputs} <= layers
        assert numbers == sorted(set(numbers))
        assert all(name in (*steps[n].layer.inputs, *steps[n].result.inputs) for n in numbers)


def test_a_map_that_strips_make_together_is_made_from_the_first_of_them_on():
    network = two_blocks(16, 8)
    whole = lower(network).steps
    steps = cut(whole, 0, 3, 1, 2)
    assert steps is not None
    made = [step.writes for step in steps]
    # Two strips of three steps: what the third makes stays whole.
    assert made[:6] == ["layer0@0", "layer1@0", "layer3", "layer0@1", "layer1@1", "layer3"]
    assert makers_of(steps) == {INPUT: -1} | {name: made.index(name) for name in made[:-1]}
    readers = readers_of(steps)
    assert (readers[INPUT], readers["layer0@1"], readers["layer3"]) == ([0, 3], [4, 5], [6, 7])
    tensors = network.tensors()
    assert maps_of(network, steps) == tensors | {name: tensors[name.partition("@")[0]] for name in made}
