"""Placements are searched for: they keep to the memories, and never get slower."""

import numpy as np
import pytest

from hw.config import preset
from models.integer import golden
from tests.random_networks import random_codes
from tests.tools.strips.networks import exiting

CONFIG = preset("base-85f")


@pytest.fixture(scope="module")
def bench(plain):
    """A function of a machine's sizes: four images in strips on it."""
    cut, work, machine, placement = (plain(name) for name in ("cut", "work", "machine", "placement"))
    network = exiting()
    found = golden.run(network, random_codes(network, 4, 1))
    cuts = [cut.Cut(4), cut.Cut(4), cut.Cut(4), *[cut.Cut()] * (len(cut.lower(network).steps) - 3)]
    layers = cut.cut_network(network, cuts, CONFIG)
    strips = work.Work(layers, network, found.tensors, found.exit_index, CONFIG)
    return lambda **sizes: placement.Bench(strips, machine.Machine(**sizes))


def test_a_search_finds_what_fits_and_takes_less(bench):
    there = bench(accumulators=128)
    found, cycles = there.search(slice(None), 0, (40, 4))
    assert there.memory(found)[:, 2].sum() == 0
    alone = there.start(np.zeros(len(there.work.strips), dtype=np.int64))
    assert cycles < there.time(alone, slice(None)).steady(1, 3)
    assert (found.cores[: there.hosts] == 8).all()
    assert set(found.cores[there.hosts :]) <= set(range(8))


def test_rings_that_are_never_free_cost_more_than_any(bench):
    """Rings of as few rows as a strip reads: residual operands are written over, or wait for ever."""
    there = bench(accumulators=128)
    placement = there.start(np.zeros(len(there.work.strips), dtype=np.int64), spare=-64)
    assert there.time(placement, slice(None)).done.min() == -1
    _, cost = there.anneal(placement, slice(None), 0, hot=1, cold=1)
    assert cost >= 1e12


def test_words_without_a_place_cost(bench):
    enough, few = bench(accumulators=128), bench(accumulators=128, list_words=1, bank_words=(512, 512))
    costs = [there.anneal(there.start(), slice(None), 0, hot=1, cold=1)[1] for there in (enough, few)]
    lacking = few.memory(few.start())[:, 2].sum()
    assert lacking > 0
    assert costs[1] == pytest.approx(costs[0] * (1 + lacking / 500))


def test_strips_need_their_accumulators(bench):
    with pytest.raises(ValueError, match=r"^a strip holds \d+ accumulators of a PE, which has 16: cut its layer diff"):
        bench(accumulators=16).search(slice(None), 0, (1, 1))


def test_block_rams(plain):
    machine = plain("machine").Machine
    assert machine().block_rams == 208
    assert machine(list_words=1024, list_banks=1, bank_words=(1536, 1536)).block_rams == 192
    assert machine(list_words=1024).block_rams == machine().block_rams
