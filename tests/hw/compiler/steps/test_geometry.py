from itertools import pairwise

from hypothesis import assume, given
from hypothesis import strategies as st

from hw.compiler.steps.geometry import Axis, column_classes, column_dumps, row_schedule


@st.composite
def axes(draw) -> Axis:
    """Axes of layers that the compiler takes: no stride beyond the kernel."""
    kernel = draw(st.integers(1, 6))
    stride = draw(st.integers(1, min(3, kernel)))
    before, after = (draw(st.integers(0, kernel - 1)) for _ in range(2))
    size = draw(st.integers(1, 12))
    assume(size + before + after >= kernel)
    return Axis(
        size=size, kernel=kernel, stride=stride, pad=before, outputs=(size + before + after - kernel) // stride + 1
    )


def contributions(axis: Axis) -> set[tuple[int, int, int]]:
    """(input, kernel, output) of the definition of a convolution, the other way round: from the output."""
    return {
        (output * axis.stride - axis.pad + kernel, kernel, output)
        for output in range(axis.outputs)
        for kernel in range(axis.kernel)
        if 0 <= output * axis.stride - axis.pad + kernel < axis.size
    }


@given(axes())
def test_taps_are_those_of_the_definition(axis):
    found = [(i, kernel, output) for i in range(axis.size) for kernel, output in axis.taps(i)]
    assert len(set(found)) == len(found)
    assert set(found) == contributions(axis)


@given(axes())
def test_taps_rise_in_kernel_and_fall_in_output_one_by_one(axis):
    for index in range(axis.size):
        taps = axis.taps(index)
        for (kernel, output), (next_kernel, next_output) in pairwise(taps):
            assert (next_kernel - kernel, output - next_output) == (axis.stride, 1)


@given(axes())
def test_inputs_up_to_the_last_that_is_read_are_used(axis):
    assert axis.used == max(index for index, _, _ in contributions(axis)) + 1


@given(axes())
def test_classes_of_columns_say_which_taps_each_column_has(axis):
    classes, columns = column_classes(axis)
    assert len(columns) == axis.used
    assert len(set(classes)) == len(classes)
    for index, (number, first) in enumerate(columns):
        found = {(kernel, first + distance) for kernel, distance in classes[number].taps}
        assert found == set(axis.taps(index))
        assert all(0 <= output < axis.outputs for _, output in found)


@given(axes())
def test_the_middle_of_a_map_needs_no_more_classes_than_the_stride(axis):
    middle = [
        number
        for index, (number, _) in enumerate(column_classes(axis)[1])
        if axis.kernel - 1 <= index + axis.pad <= (axis.outputs - 1) * axis.stride
    ]
    assert len(set(middle)) <= axis.stride


def last_contribution(axis: Axis, output: int) -> int:
    return max(index for index, _, fed in contributions(axis) if fed == output)


@given(axes())
def test_every_row_completes_one_output_row_at_most_in_order(axis):
    rows, blank = row_schedule(axis)
    filled = len(rows) - blank
    assert 0 < filled <= axis.size
    done = 0
    for index, (taps, final) in enumerate(rows):
        assert taps == (axis.taps(index) if index < filled else ())
        # No row of the map is walked in vain.
        assert taps or index >= filled
        if final:
            assert last_contribution(axis, done) <= index
            done += 1
        # Nothing that its last kernel row has met waits.
        assert done == axis.outputs or done * axis.stride - axis.pad + axis.kernel - 1 > index
    assert done == axis.outputs
    assert rows[-1][1]


@given(axes())
def test_rows_are_blank_only_for_outputs_that_reach_below_the_map(axis):
    rows, blank = row_schedule(axis)
    assert blank == max(0, (axis.outputs - 1) * axis.stride - axis.pad + axis.kernel - axis.size)
    assert len(rows) - blank == min(axis.size, len(rows))


@given(axes())
def test_columns_complete_outputs_once_in_order_and_not_before_their_last_contribution(axis):
    dumps = column_dumps(axis)
    assert len(dumps) == len(column_classes(axis)[1]) == axis.used
    gone = 0
    for index, count in enumerate(dumps):
        assert all(last_contribution(axis, output) <= index for output in range(gone, gone + count))
        gone += count
        # Only what reaches over the edge may wait: for the last column.
        assert gone == axis.outputs or gone * axis.stride - axis.pad + axis.kernel - 1 > index
    assert gone == axis.outputs


@given(axes())
def test_live_rows_suffice(axis):
    """No contribution ever meets the accumulators of another unfinished row: a ring of ``live`` rows holds them all."""
    ring: dict[int, int] = {}
    gone = 0
    for taps, final in row_schedule(axis)[0]:
        for _, output in taps:
            assert ring.setdefault(output % axis.live, output) == output
        if final:
            ring.pop(gone % axis.live, None)
            gone += 1
    assert not ring


@given(axes(), st.data())
def test_a_band_makes_the_products_of_its_outputs(axis, data):
    first = data.draw(st.integers(0, axis.outputs - 1))
    last = data.draw(st.integers(first + 1, axis.outputs))
    start, band = axis.band(first, last)
    found = {(start + i, kernel, first + output) for i in range(band.size) for kernel, output in band.taps(i)}
    assert found == {tap for tap in contributions(axis) if first <= tap[2] < last}
    # Nothing at its ends is read in vain, and no position between goes without.
    assert all(band.taps(i) for i in range(band.size))
    assert (band.outputs, band.used) == (last - first, band.size)


def test_by_hand():
    axis = Axis(size=5, kernel=3, stride=2, pad=1, outputs=3)
    assert [axis.taps(i) for i in range(5)] == [((1, 0),), ((0, 1), (2, 0)), ((1, 1),), ((0, 2), (2, 1)), ((1, 2),)]
    assert (axis.used, axis.live) == (5, 2)
    rows, blank = row_schedule(axis)
    assert [final for _, final in rows] == [False, True, False, True, False, True]
    assert (rows[-1], blank) == (((), True), 1)
    assert column_dumps(axis) == (0, 1, 0, 1, 1)
    classes, columns = column_classes(axis)
    assert [c.taps for c in classes] == [((1, 0),), ((2, 0), (0, 1))]
    assert columns == ((0, 0), (1, 0), (0, 1), (1, 1), (0, 2))


def test_inputs_behind_the_last_output_are_left_out():
    axis = Axis(size=6, kernel=2, stride=2, pad=1, outputs=3)
    assert axis.used == 5
    rows, blank = row_schedule(axis)
    assert (len(rows), blank, len(column_classes(axis)[1])) == (5, 0, 5)
    assert column_dumps(axis) == (1, 0, 1, 0, 1)
