"""Simulated annealing over the cores that strips run on and the rows that rings hold, compiled."""

import numpy as np
from numba import njit

from tools.strips.recurrence import run
from tools.strips.rooms import core_memory, kept_rows, rings_of, room_links

__all__ = ["anneal", "seed", "steady"]

#: Costs are this much larger for so many words without a place.
_WORDS_LACKING = 500.0
#: Rows by which a ring changes at most.
_ROWS = 4


@njit(cache=True)
def steady(done, first, last):
    """Cycles an image, of those behind ``first`` up to ``last``; an image has ended when all before it have, too."""
    before = end = np.int64(0)
    for image in range(last + 1):
        end = max(end, done[image].max())
        if image == first:
            before = end
    return (end - before) / (last - first)


@njit(cache=True)
def _cost(cores, spare, busy, maps, state, spans, window, delays, lanes):
    """Cycles an image, larger where memories lack words: by the recurrence, or, without spans, by the fullest core."""
    makers, reads, lists, list_words, widths, limits = maps
    strips, followers, sizes, exits, walk = state
    units = len(spare)
    kept, extent = kept_rows(cores, units, reads, makers)
    rings = rings_of(kept, extent, spare)
    lacks = 0
    for core in range(units):
        lacks += core_memory(core, cores, rings, kept, extent, reads, lists, list_words, widths, limits)[2]
    load = np.zeros(units + 1)
    for strip in range(len(cores)):
        load[cores[strip]] += busy[strip]
    cost = load[:units].max()
    if len(spans):
        freed, rooms = room_links(cores, rings, kept, reads, makers, delays, lanes)
        rows, columns, counts, useful, active, costs = walk
        links = (followers[0], followers[1], freed, rooms)
        done = run(strips, cores, links, rows, columns, counts, useful, active, costs, exits, sizes, spans)[2]
        if done.min() < 0:
            return 1e12
        cost = max(cost, steady(done, window[0], window[1]))
    else:
        mean = load[:units].mean()
        cost += ((load[:units] - mean) ** 2).sum() / mean
    return cost * (1 + lacks / _WORDS_LACKING)


@njit(cache=True)
def anneal(cores, spare, busy, maps, state, spans, window, movable, steps, hot, cold):
    """Moves and exchanges strips, and changes rings, at random; returns the best cores, spare rows and cost.

    Parameters
    ----------
    cores : int64 array (strips,)
    spare : int64 array (cores, maps)
        Of :func:`tools.strips.rooms.rings_of`.
    busy : float array (strips,)
        Cycles of each strip.
    maps : tuple
        Makers, reads, lists, list words and widths of :class:`tools.strips.rooms.Maps`, and limits of the machine.
    state : tuple
        Strips, (needed, followers), sizes, exits, (rows, columns, counts, useful, active, costs) of
        :func:`tools.strips.recurrence.run`.
    spans : int64 array (images, strips, 2)
        Without images, the cost is the load of the fullest core.
    window : tuple of 2 int
        Images that :func:`steady` looks at.
    movable : int
        First strip that isn't the host's.
    hot, cold : float
        First and last temperature, as shares of the cost.
    """
    delays, lanes = np.empty((len(cores), len(cores)), np.int64), np.empty((len(cores), len(cores)), np.bool_)
    units, total = len(spare), len(cores)
    now = best = _cost(cores, spare, busy, maps, state, spans, window, delays, lanes)
    best_cores, best_spare = cores.copy(), spare.copy()
    for step in range(steps):
        one, other = np.random.randint(movable, total), np.random.randint(movable, total)
        core, which = np.random.randint(units), np.random.randint(spare.shape[1])
        old_one, old_other, old_spare = cores[one], cores[other], spare[core, which]
        kind = np.random.random()
        if len(spans) and kind < 0.4:
            spare[core, which] += np.random.randint(1, _ROWS + 1) * (1 if np.random.random() < 0.5 else -1)
        elif kind < 0.7:
            cores[one] = core
        else:
            cores[one], cores[other] = old_other, old_one
        cost = _cost(cores, spare, busy, maps, state, spans, window, delays, lanes)
        heat = now * hot * (cold / hot) ** (step / steps)
        if cost <= now - heat * np.log(max(np.random.random(), 1e-9)):
            now = cost
            if cost < best:
                best = cost
                best_cores[:], best_spare[:] = cores, spare
        else:
            cores[other], cores[one], spare[core, which] = old_other, old_one, old_spare
    return best_cores, best_spare, best


@njit(cache=True)
def seed(number):
    """Seed the random numbers of compiled code."""
    np.random.seed(number)
