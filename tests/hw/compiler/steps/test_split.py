"""Parts and marks say of every input index which kernel indices it meets."""

import pytest
from hypothesis import given

from hw.compiler.steps.geometry import Axis
from hw.compiler.steps.split import ALL_PARTS, marked, parted, split_of
from hw.program.isa import MARKS, PARTS
from tests.hw.compiler.steps.test_geometry import axes

#: Kernels of 3 over 5 positions: with pads on both sides, and with a stride of 2 and none.
PADDED = Axis(size=5, kernel=3, stride=1, pad=1, outputs=5)
STRIDED = Axis(size=5, kernel=3, stride=2, pad=0, outputs=2)


def kernels(axis: Axis, index: int) -> set[int]:
    return {kernel for kernel, _ in axis.taps(index)}


@given(axes())
def test_parts_that_are_met_are_neighbours_and_those_of_the_taps(axis):
    found = parted(axis)
    assert (found is None) == (axis.kernel > PARTS)
    if found is None:
        return
    assert sorted(found.order) == [*range(axis.kernel)]
    for index, mask in enumerate(found.masks):
        met = [part for part in range(PARTS) if mask >> part & 1]
        assert met == [*range(met[0], met[0] + len(met))] if met else True
        assert {found.order[part] for part in met} == kernels(axis, index)
    assert len(found.masks) == axis.size


@given(axes())
def test_entries_of_a_list_without_the_marks_that_are_skipped_are_those_of_the_taps(axis):
    found = marked(axis)
    lists = [[*range(first, axis.kernel, axis.stride)] for first in range(axis.stride)]
    used = range(axis.used)
    skipped = {frozenset(lists[(index + axis.pad) % axis.stride]) - kernels(axis, index) for index in used}
    assert (found is None) == (len(skipped - {frozenset()}) > MARKS)
    if found is None:
        return
    assert len(found.places) == axis.used
    assert [*map(list, found.lists)] == lists
    for index, (number, skip) in enumerate(found.places):
        assert {k for k in found.lists[number] if not found.marks[k] & skip} == kernels(axis, index)
        assert skip in (0, *(1 << mark for mark in range(MARKS)))


def test_parts_and_marks_of_a_kernel_of_three():
    assert parted(PADDED).order == (0, 1, 2)
    assert parted(PADDED).masks == (0b011, ALL_PARTS, ALL_PARTS, ALL_PARTS, 0b110)
    assert ALL_PARTS == 0b111
    assert marked(PADDED).lists == ((0, 1, 2),)
    assert marked(PADDED).marks == (0b10, 0, 0b01)
    assert marked(PADDED).places == ((0, 0b01), (0, 0), (0, 0), (0, 0), (0, 0b10))


def test_with_a_stride_kernel_indices_of_a_residue_stand_together():
    assert parted(STRIDED).order == (0, 2, 1)
    assert parted(STRIDED).masks == (0b001, 0b100, 0b011, 0b100, 0b010)
    assert marked(STRIDED).lists == ((0, 2), (1,))
    assert marked(STRIDED).places == ((0, 0b01), (1, 0), (0, 0), (1, 0), (0, 0b10))


def test_a_stride_beyond_the_kernel_has_no_marks():
    """Columns between are in no list."""
    assert marked(Axis(size=7, kernel=1, stride=2, pad=0, outputs=4)) is None


@pytest.mark.parametrize("column_major", [False, True], ids=["rows", "columns"])
def test_parts_lie_along_the_rows_of_the_map(column_major):
    """The walk's rows are the map's columns where it goes column by column."""
    down, across = STRIDED, PADDED
    rows, columns = (across, down) if column_major else (down, across)
    found = split_of(rows, columns, column_major=column_major)
    assert (found.parted, found.marked) == (parted(down), marked(across))
    assert (found.lists, found.row_lists, found.rows_parted) == (1, 1, not column_major)
    taps = [[(kernel, index, mark) for index, mark in enumerate((0b10, 0, 0b01))] for kernel in (0, 2, 1)]
    turned = [[(index, kernel, mark) for kernel, index, mark in part] for part in taps]
    assert found.taps(0) == (turned if column_major else taps)


def test_the_axis_with_marks_chooses_among_lists():
    by_rows = split_of(PADDED, STRIDED, column_major=False)
    by_columns = split_of(STRIDED, PADDED, column_major=True)
    assert (by_rows.lists, by_rows.row_lists) == (2, 1)
    assert (by_columns.lists, by_columns.row_lists) == (2, 2)
    assert [[index for _, index, _ in part] for part in by_rows.taps(1)] == [[1]] * 3


def test_a_walk_needs_both():
    wide = Axis(size=5, kernel=5, stride=1, pad=2, outputs=5)
    for column_major in (False, True):
        assert split_of(wide, PADDED, column_major=column_major) is None
        assert split_of(PADDED, wide, column_major=column_major) is None


def test_lists_depend_on_the_kernel_and_its_marks_not_on_the_size_of_a_band():
    tall = Axis(size=9, kernel=3, stride=1, pad=1, outputs=9)
    found, longer = (split_of(rows, PADDED, column_major=False) for rows in (PADDED, tall))
    assert found.same == longer.same
    for other in (
        split_of(STRIDED, PADDED, column_major=False),
        split_of(PADDED, STRIDED, column_major=False),
        split_of(PADDED, Axis(size=5, kernel=2, stride=1, pad=0, outputs=5), column_major=False),
        split_of(PADDED, PADDED, column_major=True),
    ):
        assert other is not None
        assert other.same != found.same
    shifted = Axis(size=5, kernel=3, stride=2, pad=1, outputs=3)
    assert marked(shifted).lists == marked(STRIDED).lists
    assert (marked(shifted).marks, marked(STRIDED).marks) == ((0, 0, 0), (0b10, 0, 0b01))
    assert len({split_of(PADDED, each, column_major=False).same for each in (shifted, STRIDED)}) == 2
