"""Strips on decoupled cores, by hand: what a strip takes, what it waits for, and which images leave."""

import numpy as np
import pytest


@pytest.fixture
def recurrence(plain):
    return plain("recurrence")


def strip(recurrence, **fields):
    """A strip of one position with a word of eight channels, which completes one output."""
    common = {
        "row_end": 1, "column_end": 1, "channels": 8, "group": 1, "slots": 1, "width": 1, "latency": 4, "exit": -1,
    }  # fmt: skip
    return [(common | fields).get(name, 0) for name in recurrence.STRIP_FIELDS]


def timed(
    recurrence, strips, cores, links, *, active, rows=((0, 1, 1, 1, 1),), exits=(9, 9), accumulators=8, cost=5, spans=()
):
    """Channel 0 has 3 entries in PE 0 and 1 in PE 1, channel 1 has 2 in PE 0."""
    counts = np.zeros((8, 2), np.int64)
    counts[:2] = [[3, 1], [2, 0]]
    values = {
        "pes": 2, "job_queue": 8, "output_queue": 4, "accumulators": accumulators, "first_push": 11, "gap": 4,
        "output_latency": 7, "decision": 9, "hidden": 1,
    }  # fmt: skip
    images = len(exits)
    return recurrence.run(
        np.array(strips),
        np.array(cores),
        tuple(np.array(each, dtype=np.int64) for each in links),
        np.array(rows),
        np.array([[0, 1]]),
        counts,
        counts.sum(axis=1),
        np.array([active] * images, dtype=bool),
        np.full((images, 1), cost),
        np.array(exits),
        np.array([values[name] for name in recurrence.SIZES]),
        np.array(spans, dtype=np.int64).reshape(-1, len(strips), 2),
    )


#: Nobody waits for anything.
ALONE = [[0, 0], [], [0, 0], np.zeros((0, 3))]


def chain(delay):
    """Strip 1 needs strip 0, which writes where strip 1 of ``delay`` images before has read with its dispatcher."""
    return [[0, 1, 1], [1], [0, 0, 1], [[0, delay, 0]]]


BOTH = [True, True] + [False] * 6


def test_a_strip(recurrence):
    """The row's entry in cycle 11, jobs in 12 and 13, PE 0 is done in 13 + 3 + 2, then the lanes, then the exchange."""
    started, issued, done, counted = timed(recurrence, [strip(recurrence)], [0], ALONE, active=BOTH)
    assert (started[0], issued[0], done[0]) == (0, 13, 18 + 7 + 5 + 4)
    # The next one is prepared while the first is dispatched, and begins 4 slots behind it.
    assert (started[1], issued[1]) == (13 - 11 + 1 + 4, 13 + 4 + 3)
    assert counted[0].tolist()[:2] == [12, 12]


def test_a_word_without_activations_takes_a_slot(recurrence):
    _, issued, _, counted = timed(recurrence, [strip(recurrence)], [0], ALONE, active=[False] * 8)
    assert issued[0] == 12
    assert counted[0, 0] == 0


def test_outputs_wait_for_accumulators(recurrence):
    """With a single accumulator the second image's jobs wait until the lanes have taken the first one's."""
    _, issued, done, _ = timed(recurrence, [strip(recurrence)], [0], ALONE, active=BOTH, accumulators=1, cost=50)
    assert done[0] == 18 + 7 + 50 + 4
    assert issued[1] == done[0] - 4 + 2


def test_a_strip_with_more_outputs_than_accumulators_goes_on(recurrence):
    """How long it takes then is compared when layers are cut, but no search takes it."""
    rows = [[0, 1, 0, 1, 1], [0, 1, 1, 1, 1]]
    _, issued, *_ = timed(
        recurrence, [strip(recurrence, row_end=2)], [0], ALONE, active=BOTH, rows=rows, accumulators=1
    )
    assert issued[0] == 13 + 3


def test_no_barrier_but_data_and_room(recurrence):
    """A core waits for its input only, and a place is free again when its reader has been dispatched."""
    strips = [strip(recurrence), strip(recurrence)]
    started, issued, done, _ = timed(recurrence, strips, [0, 1], chain(1), active=BOTH)
    assert started[0].tolist() == [0, done[0, 0]]
    assert started[1, 0] == issued[0, 1]
    two, *_ = timed(recurrence, strips, [0, 1], chain(2), active=BOTH)
    assert two[1, 0] == 13 - 11 + 1 + 4


def test_a_strip_that_waits_for_its_own_reader_never_starts(recurrence):
    started, *_ = timed(recurrence, [strip(recurrence), strip(recurrence)], [0, 1], chain(0), active=BOTH)
    assert started.tolist() == [[-1, -1]] * 2


def test_an_image_that_leaves_runs_nothing_more(recurrence):
    strips = [strip(recurrence, exit=0), strip(recurrence, branch=1)]
    started, _, done, counted = timed(recurrence, strips, [0, 0], chain(2), active=BOTH, exits=(0, 1))
    assert started[0, 1] == -1
    assert done[0].tolist() == [34 + 9] * 2
    assert started[1, 1] == done[1, 0]
    assert counted[0, 1] == 3 * 6


def test_places_of_an_image_that_leaves_are_free_when_those_of_the_one_before_are(recurrence):
    """Image 1 leaves while strip 2 of image 0 still reads; image 2 must not write over that."""
    strips = [strip(recurrence, exit=0), strip(recurrence, branch=1), strip(recurrence, branch=1)]
    # 1 needs 0, 2 needs 0 and 1; strip 1 writes where strip 2 of the image before reads.
    links = [[0, 2, 3, 3], [1, 2, 2], [0, 0, 0, 1], [[1, 1, 0]]]
    spans = [[[5, 10], [5, 10], [1000, 2000]]] * 3
    started, issued, _, _ = timed(recurrence, strips, [0, 1, 2], links, active=BOTH, exits=(1, 0, 1), spans=spans)
    assert started[1].tolist()[1:] == [-1, -1]
    assert started[2, 1] == issued[0, 2]


def test_known_spans_take_the_place_of_the_recurrence(recurrence):
    strips = [strip(recurrence), strip(recurrence, exit=9)]
    started, issued, done, _ = timed(recurrence, strips, [0, 1], chain(1), active=BOTH)
    spans = np.stack([issued - started, done - started], axis=2)
    again = timed(recurrence, strips, [0, 1], chain(1), active=[False] * 8, spans=spans)
    assert [each.tolist() for each in again[:3]] == [each.tolist() for each in (started, issued, done)]
