"""Rings of rows by hand; and that, in what is timed, no row is read before it is made, or written over too early."""

from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest

from hw.config import preset
from models.integer import golden
from tests.random_networks import random_codes
from tests.tools.strips.networks import exiting

CONFIG = preset("base-85f")
#: A map of four rows: strips 0 and 1 make two each, 2 reads the first three and 3 the last three.
MAKERS = np.array([[[0], [0], [1], [1]]])
READS = np.array([[2, 0, 0, 3, 0, 1, 0], [3, 0, 1, 4, 0, 1, 0]])


@pytest.fixture
def rooms(plain):
    return plain("rooms")


def linked(rooms, cores, rings, reads=READS):
    """Delays by reader and maker; those of readers that hold a row until the lanes have ended are negative."""
    kept, _ = rooms.kept_rows(np.array(cores), 2, reads, MAKERS)
    shape = len(cores), len(cores)
    freed, found = rooms.room_links(
        np.array(cores), np.array(rings), kept, reads, MAKERS, np.empty(shape, np.int64), np.empty(shape, bool)
    )
    pairs = {}
    for reader in range(len(cores)):
        for maker, delay, by_lane in found[freed[reader] : freed[reader + 1]]:
            pairs[reader, int(maker)] = int(-delay if by_lane else delay)
    return pairs


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # A map as a whole: every row takes the place of its own.
        (4, {(2, 0): 1, (2, 1): 1, (3, 0): 1, (3, 1): 1}),
        # Row 3 takes the place of row 0, which only strip 2 reads.
        (3, {(2, 0): 1, (2, 1): 0, (3, 0): 1, (3, 1): 1}),
        (8, {(2, 0): 2, (2, 1): 2, (3, 0): 2, (3, 1): 2}),
        # Rows 0 and 1 take the places of rows 2 and 3 of two images before, rows 2 and 3 of rows 0 and 1 of the last.
        (6, {(2, 0): 2, (2, 1): 1, (3, 0): 2, (3, 1): 1}),
    ],
)
def test_makers_wait_for_readers_of_a_ring(rooms, rows, expected):
    assert linked(rooms, [2, 2, 0, 0], [[rows], [0]]) == expected


def test_cores_keep_rings_of_their_own(rooms):
    assert linked(rooms, [2, 2, 0, 1], [[3], [6]]) == {(2, 0): 1, (2, 1): 1, (3, 0): 2, (3, 1): 2}


def test_a_residual_operand_is_held_until_the_lanes_have_ended(rooms):
    reads = READS.copy()
    reads[1, 6] = 1
    assert linked(rooms, [2, 2, 0, 1], [[3], [3]], reads) == {(2, 0): 1, (2, 1): 1, (3, 0): -1, (3, 1): -1}


def test_rings_hold_what_a_strip_reads_at_least(rooms):
    kept, extent = rooms.kept_rows(np.array([2, 2, 0, 0]), 2, READS, MAKERS)
    assert extent.tolist() == [[[0, 1, 3]], [[1, 0, 0]]]
    assert rooms.rings_of(kept, extent, np.array([[-9], [5]])).tolist() == [[3], [0]]
    assert rooms.rings_of(kept, extent, np.array([[2], [5]])).tolist() == [[6], [0]]


def memory(rooms, limits, residual):
    """Of a core that reads two maps, four columns wide, in strips with lists of their own."""
    makers = np.repeat(MAKERS, 2, axis=0)
    reads = np.concatenate([READS, READS])
    reads[2:, 1], reads[2:, 6] = 1, residual
    cores = np.array([2, 2, 0, 0])
    kept, extent = rooms.kept_rows(cores, 2, reads, makers)
    rings = np.array([[4, 6], [0, 0]])
    lists, words = np.array([-1, -1, 0, 1]), np.array([[10, 20], [30, 5]])
    return rooms.core_memory(0, cores, rings, kept, extent, reads, lists, words, np.array([4, 4]), np.array(limits))


def test_memory_of_a_core(rooms):
    assert memory(rooms, [40, 24, 16], 1) == (40, 40, 0)
    assert memory(rooms, [38, 24, 16], 1) == (40, 40, 2)
    assert memory(rooms, [40, 40, 0], 0) == (40, 40, 0)
    # Source and residual operand must lie in different banks.
    assert memory(rooms, [40, 40, 0], 1) == (40, 40, 16)
    assert memory(rooms, [40, 16, 16], 1) == (40, 40, 8)


def test_no_row_is_read_too_early_or_written_over(plain):
    """Of strips on random cores, with rings that are often smaller than a map."""
    cut, work, machine, placement = (plain(name) for name in ("cut", "work", "machine", "placement"))
    network = exiting()
    codes = random_codes(network, 5, 1)
    found = golden.run(network, codes)
    assert len(set(found.exit_index.tolist())) == 2
    steps = len(cut.lower(network).steps)
    sizes = {"accumulators": 64, "bank_words": (2048, 2048)}
    layers = cut.cut_network(network, [cut.Cut(4), cut.Cut(4), cut.Cut(2, 2), *[cut.Cut()] * (steps - 3)], CONFIG)
    strips = work.Work(layers, network, found.tensors, found.exit_index, CONFIG, host_strips=4)
    bench = placement.Bench(strips, machine.Machine(**sizes))
    rng = np.random.default_rng(7)
    start = bench.start(rng.integers(0, 8, len(strips.strips)))
    tested = 0
    for spare in (*(rng.integers(-4, 5, start.spare.shape) for _ in range(4)), start.spare, start.spare + 3):
        tried = placement.StripPlacement(start.cores, spare)
        times = bench.time(tried, slice(None))
        if times.done.min() < 0:
            continue
        tested += 1
        _check_times(bench, tried, times)
    assert tested >= 3


def _check_times(bench, placed, times):
    kept, _, rings = bench._kept(placed)
    maps, (images, _) = bench.maps, times.done.shape
    skipped = times.started < 0
    exits = bench.work.exits
    for image in range(images):
        branches = [0] * bench.hosts + [bench.work.layers[strip.layer].branch for strip in bench.work.strips]
        assert skipped[image].tolist() == [branch > exits[image] for branch in branches]
    # When the readers of each row that each core keeps are done with it.
    free = defaultdict(int)
    for strip, which, first, last, low, high, residual in maps.reads:
        for image in np.flatnonzero(~skipped[:, strip]):
            made = maps.makers[which, first:last, low:high].ravel()
            assert times.done[image, made].max() <= times.started[image, strip]
            end = (times.done if residual else times.issued)[image, strip]
            for row in range(first, last):
                key = placed.cores[strip], which, image, row
                free[key] = max(free[key], end)
    for core, which in np.argwhere(rings > 0):
        rows, places = np.flatnonzero(kept[core, which]), {}
        for image in range(images):
            for number, row in enumerate(rows):
                place = (image * len(rows) + number) % rings[core, which]
                makers = maps.makers[which, row]
                starts = [times.started[image, n] for n in makers[makers >= 0] if not skipped[image, n]]
                if starts:
                    assert min(starts) >= free[core, which, *places.get(place, (image, row))] or place not in places
                    places[place] = image, row
    for core in range(8):
        some = np.flatnonzero(placed.cores == core)
        times_of = sorted(
            (times.started[image, n], times.issued[image, n])
            for image in range(images)
            for n in some
            if not skipped[image, n]
        )
        assert all(before[1] <= later[1] for before, later in pairwise(times_of))
