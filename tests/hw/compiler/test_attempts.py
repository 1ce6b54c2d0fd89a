"""What is tried in turn, with its reasons."""

import re

import pytest

from hw.compiler import attempts as module
from hw.compiler.compile import Compilation, compilation
from hw.config import AcceleratorConfig, preset
from hw.rules import MisfitError, ShortageError
from tests.hw.compiler.test_compile import ROOMY, conv_network
from tests.random_networks import random_network, two_blocks, wide_network


def ways(found: Compilation) -> list[tuple[int, bool, bool]]:
    """Strips, sums in place, lists read: of every attempt."""
    return [(each.way.strips, each.way.in_place, each.way.streamed) for each in found.attempts]


def test_the_first_way_that_fits_is_the_last_that_is_tried():
    found = compilation(conv_network(4, (5, 5)), ROOMY)
    (only,) = found.attempts
    assert ways(found) == [(1, False, False)]
    assert (only.refusal, found.refusal) == (None, None)
    assert found.told is only
    assert found.program() is only.program
    assert only.scheduled.placed is only.placed
    assert only.placed.chosen is only.chosen


def test_strips_come_after_whole_maps():
    found = compilation(wide_network(105), preset("tiny"))
    assert [strips for strips, _, _ in ways(found)] == [1, 1, 4]
    assert [each.chosen is None for each in found.attempts] == [True, True, False]
    assert all(re.match("activation memory has banks of 512 words", str(each.refusal)) for each in found.attempts[:2])


def test_what_begins_is_reported():
    told = []
    compilation(wide_network(105), preset("tiny"), report=told.append)
    assert told == ["bounds of every memory", "options of every layer", "maps in 4 strips"]


def test_lists_are_read_where_they_do_not_fit_and_there_is_a_loader():
    config = AcceleratorConfig(
        cores=2, list_words=256, accumulators=1024, accumulator_bits=32, loader=1, program_words=1024
    )
    found = compilation(random_network(9), config)
    assert ways(found) == [(1, False, False), (1, False, True)]
    assert str(found.attempts[0].refusal).startswith("list memory holds 256 words a PE; this network needs ")


def test_an_estimate_that_was_too_low_is_tried_again_with_less(monkeypatch):
    """The first time, packed lists are said to be 100 words too many."""
    planned = []

    def scheduled(placed, do=module.schedule):
        planned.append(placed.chosen.list_words)
        if len(planned) == 1:
            raise ShortageError("100 too many", 100)
        return do(placed)

    monkeypatch.setattr(module, "schedule", scheduled)
    found = compilation(conv_network(4, (5, 5)), ROOMY)
    assert planned == [4096, 3996]
    assert [str(each.refusal) for each in found.attempts] == ["100 too many", "None"]
    assert ways(found) == [(1, False, False)] * 2


def test_what_no_other_way_would_mend_ends_the_attempts(monkeypatch):
    def refused(scheduled):
        raise MisfitError("too large for the instruction format")

    monkeypatch.setattr(module, "emit", refused)
    found = compilation(two_blocks(4, 8), ROOMY)
    assert ways(found) == [(1, False, False)]
    assert found.attempts[0].scheduled is not None
    with pytest.raises(MisfitError, match=r"^too large for the instruction format$"):
        found.program()


def test_a_bug_is_no_reason_to_try_something_else(monkeypatch):
    def broken(placed):
        raise ValueError("a bug")

    monkeypatch.setattr(module, "schedule", broken)
    with pytest.raises(ValueError, match=r"^a bug$"):
        compilation(two_blocks(4, 8), ROOMY)
