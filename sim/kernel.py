"""The recurrence over one layer's jobs, compiled. It evaluates queues instead of stepping cycles.

Time 0 is the cycle in which the units start, in all cores together. Every unit serves in order, so the time of each
event is the maximum of what it waits for:

* an issue slot of the dispatcher: one cycle after the one before; a job also after a place is free in every queue it
  enters;
  a slot is a cycle late where a row of lists is written, for which the dispatcher is held;
* a job at a PE: one cycle after its push, and not before the walker issues the last entry of the job before;
* an entry of a dump: one cycle after the entry before, and one after the lane has taken the value that frees a place;
* a step of a core's lanes: when a value has arrived for each of them, one cycle (in slow layers an even number) after
  the step before.

A core is finished a constant after its lanes' last step, the layer when its last core is.

What there is of each PE is held in vectors (:mod:`sim.vector`), in 32 bits: :class:`sim.plan.Plan` takes no program of
2**31 cycles. PEs beyond the core's own have no entries, are never later than its last one, and so delay nothing. A word
of activations has as many channels as a vector has elements.
"""

import numpy as np
from numba import njit, prange

from sim.timing import END_OF_TIME
from sim.vector import WIDTH, history, largest, last, load, note, oldest, paired, rising, splat, store

__all__ = ["CAUSES", "layer_cycles"]

#: Where the cycles of each PE go in a layer, as :func:`layer_cycles` returns them; they add up to the layer's cycles.
CAUSES = ("products", "dispatch", "imbalance", "cores", "drain", "barrier", "load", "edges")
_PRODUCTS, _DISPATCH, _IMBALANCE, _CORES, _DRAIN, _BARRIER, _LOAD = range(7)  # "edges": sim.skipped

#: Places in a core's record of writes.
_NEXT, _ROW, _CHUNK = range(3)  # when the dispatcher is held next, for which row of which chunk


@njit(cache=True)
def _scan(used, group, starts, found):
    """Lists the activations that are multiplied, or the first of every ``group`` with one, and -1 for every word
    without any.

    Word n of the map is ``found[starts[n] : starts[n + 1]]``.
    """
    end = 0
    for word in range(len(starts) - 1):
        starts[word] = begin = end
        for n in range(word * WIDTH, (word + 1) * WIDTH, group):
            found[end] = n
            some = used[n]
            for other in range(n + 1, n + group):
                some |= used[other]
            end += some
        if end == begin:
            found[end] = -1
            end += 1
    starts[-1] = end


@njit(cache=True)
def _seek(writes, first, starts, offsets):
    """From the row noted to the first one, from it on, that there is."""
    while writes[_CHUNK] < len(first):
        if writes[_ROW] < starts[writes[_CHUNK] + 1]:
            writes[_NEXT] = first[writes[_CHUNK]] + offsets[writes[_ROW]]
            return
        writes[_CHUNK] += 1
    writes[_NEXT] = END_OF_TIME


@njit(cache=True)
def _of_image(held, image):
    """An image's times, or None."""
    if held is None:
        return None
    return held[image]


@njit(cache=True, forceinline=True)
def _held(slot, free, loaded, writes, first, starts, offsets):
    """The slot, or the cycle behind it if the dispatcher is held in it. Writes are cycles apart."""
    if first is None or slot < writes[_NEXT]:
        return slot, free, loaded
    while writes[_NEXT] < slot:
        writes[_ROW] += 1
        _seek(writes, first, starts, offsets)
    if writes[_NEXT] > slot:
        return slot, free, loaded
    # One of the cycles that a PE has had nothing to do: at once, so that no other cause is given for it.
    idle = (slot + 1 > free) & 1
    writes[_ROW] += 1
    _seek(writes, first, starts, offsets)
    return slot + 1, free + idle, loaded + idle


@njit(cache=True, forceinline=True)
def _enter(push, stalls, free, loaded, entered, entries, writes, first, starts, offsets):
    """Pushes a job into the queues of the PEs that have entries of it.

    Returns its slot, the stalls so far, when it is taken from the queues, and what it changes.
    """
    taken, mark, starved = entered
    joins = entries > 0
    after = max(push, largest(oldest(taken) & joins)) + 1
    stalls += after - push - 1
    after, free, loaded = _held(after, free, loaded, writes, first, starts, offsets)
    wait = max(after + 1 - free, 0)
    pop = free + wait
    since = (stalls - mark) & joins
    starved = starved + min(wait, since)
    return after, stalls, pop, free + entries + (wait & joins), loaded, (note(taken, joins, pop), mark + since, starved)


@njit(cache=True)
def _core(
    used,
    starts,
    found,
    rows,
    columns,
    walk,
    counts,
    pes,
    places,
    queues,
    slow,
    latency,
    held,
    row_starts,
    offsets,
    spent,
    taken,
):
    """Cycles, dispatcher stalls and jobs of one core on one layer and image; see :func:`layer_cycles`.

    Cycles by cause go to ``spent``, cause after cause, jobs to ``taken``: of each PE.
    """
    first, row_pitch, column_pitch, channels, list_step, dump_length, group = walk
    output_depth, first_push, lead, output_latency, lanes = queues
    free = splat(0)  # when the walkers can take their next jobs
    loaded = splat(0)  # cycles without a job while the dispatcher was held
    drained = splat(0)  # cycles in dumps
    products = splat(0)
    walked = splat(0)  # jobs with entries
    # Of the jobs pushed: when the last ones were taken from the queues, the dispatcher's stalls when the last one was
    # pushed, and cycles without one while the dispatcher waited for another PE.
    entered = (history(places), splat(0), splat(0))
    values = np.full(output_depth * WIDTH, -1, np.int32)  # when the lanes took the last ones
    value = np.int64(0)  # place in the output queues
    odd = int(slow)
    steps = np.empty(WIDTH, np.int32)
    for pe in range(WIDTH):
        steps[pe] = min(pe, pes - 1) // lanes << odd
    later = load(steps, 0)  # cycles at least from the first PE's value to each one's
    lane = splat(0)  # when the lanes took the last value
    push = np.int64(first_push - 1)
    stalls = np.int64(0)
    jobs = np.int64(0)
    writes = np.array([END_OF_TIME, row_starts[0], 0])
    if held is not None:
        _seek(writes, held, row_starts, offsets)
        if writes[_NEXT] < first_push:
            push -= lead
            for _ in range(lead):
                push, free, loaded = _held(push + 1, free, loaded, writes, held, row_starts, offsets)
    for y in range(rows.shape[0]):
        start, each, final, filled = rows[y]
        # The row's table entry.
        push, free, loaded = _held(push + 1, free, loaded, writes, held, row_starts, offsets)
        for x in range(columns.shape[0]):
            base = first + y * row_pitch + x * column_pitch
            lists = start + columns[x, 0]
            if filled:
                for n in range(starts[base // WIDTH], starts[(base + channels) // WIDTH]):
                    place = found[np.uintp(n)]
                    if place < 0:
                        push, free, loaded = _held(push + 1, free, loaded, writes, held, row_starts, offsets)
                        continue
                    number = lists + (place - base) // group
                    jobs += each
                    for _ in range(each):
                        entries = load(counts, number * WIDTH)
                        if group > 1:
                            entries = entries & (0 - load(used, place))
                        products = products + entries
                        walked = walked - (entries > 0)
                        push, stalls, _, free, loaded, entered = _enter(
                            push, stalls, free, loaded, entered, entries, writes, held, row_starts, offsets
                        )
                        number += list_step
            else:
                # A blank row's word.
                push, free, loaded = _held(push + 1, free, loaded, writes, held, row_starts, offsets)
            for _ in range(columns[x, 1] if final else 0):
                push, stalls, pop, _, loaded, entered = _enter(
                    push, stalls, free, loaded, entered, splat(1), writes, held, row_starts, offsets
                )
                free = pop
                for _ in range(dump_length):
                    free = max(free, load(values, value)) + 1
                    ready = rising(((free + output_latency) | odd) - later)
                    lane = max(ready, lane + (1 + odd)) + later
                    if lanes == 2:
                        lane = paired(lane)
                    store(values, value, lane)
                    lane = last(lane)
                    value = (value + WIDTH) & (output_depth * WIDTH - 1)
                drained = drained + free - pop
    cycles = largest(lane) + latency
    store(spent, _PRODUCTS * WIDTH, products)
    store(spent, _DISPATCH * WIDTH, free - products - entered[2] - drained - loaded)
    store(spent, _IMBALANCE * WIDTH, entered[2])
    store(spent, _DRAIN * WIDTH, drained)
    store(spent, _BARRIER * WIDTH, cycles - free)
    store(spent, _LOAD * WIDTH, loaded)
    store(taken, 0, walked)
    return cycles, stalls, jobs


@njit(cache=True, parallel=True)
def layer_cycles(
    active,
    wanted,
    working,
    rows,
    columns,
    walk,
    counts,
    pes,
    places,
    queues,
    slow,
    latency,
    held,
    row_starts,
    offsets,
):
    """Timing of one layer for many images.

    Parameters
    ----------
    active : bool array (images, activations)
        Where the stored input is multiplied, position after position, the whole map.
    wanted : bool array (images,)
        Images that reach this layer; the others get zeros.
    working : int64 array (working cores, 5)
        Number of the core; first and last row in ``rows``, first and last in ``columns``, the last ones excluded.
    rows : int64 array (rows of all cores, 4)
        First list, lists per activation, whether it completes an output row, whether it isn't blank.
    columns : int64 array (columns of all cores, 2)
        List offset, output positions that it completes.
    walk : int64 array (working cores, 7)
        First activation, row pitch, column pitch, channels scanned, list step, accumulators of an output
        position, channels that are handed out together (of a layer the same in all cores).
    counts : int16 array (cores, lists * WIDTH)
        Entries of each list, list after list.
    pes : int
        PEs of a core.
    places : tuple of int
        As many as a job queue has places: Numba compiles the loops anew for every depth, whatever the values are.
    queues : int64 array (5,)
        Depth of the output queue, a power of two; cycles to the first push, those of them in which the dispatcher can
        be held, and from a dump entry to the lanes; lanes. Arguments, not constants: Numba's cache would keep the old
        value of a constant of another module.
    slow : bool
        Lanes take values in every second cycle only.
    latency : int
        Cycles from the lanes' last step to the end of the core's work, and from the layer's start to that of the units.
    held : int64 array (images, chunks), or None
        Of each chunk that may be written: what to add to the offsets of its rows for when they hold dispatchers. None
        if there is none: Numba then compiles the loops without looking for writes.
    row_starts, offsets : int64 arrays
        Rows of the chunks: :class:`sim.loading.LoadedRows`.

    Returns
    -------
    cycles, stalls, jobs : int64 arrays (images,)
        Of the slowest core; of all cores; activations, or groups of them, that the dispatchers of all cores hand out,
        each as often as there are lists for it.
    taken : int32 array (images, cores, PEs)
        Jobs that each PE has entries of, dumps aside.
    spent : int32 array (images, cores, causes, PEs)
        Cycles of each PE by cause, see :data:`CAUSES`.
    """
    images, activations = active.shape
    cores = len(counts)
    cycles = np.zeros(images, np.int64)
    stalls = np.zeros(images, np.int64)
    jobs = np.zeros(images, np.int64)
    taken = np.zeros((images, cores, WIDTH), np.int32)
    spent = np.zeros((images, cores, len(CAUSES) * WIDTH), np.int32)
    for image in prange(images):
        if not wanted[image]:
            continue
        starts = np.empty(activations // WIDTH + 1, np.int32)
        found = np.empty(activations + 1, np.int32)
        used = np.zeros(activations + WIDTH, np.int8)  # with neighbours for the last group
        used[:activations] = active[image]
        _scan(used, walk[0, 6], starts, found)
        ends = np.zeros(cores, np.int64)
        for number in range(working.shape[0]):
            core, row, row_end, column, column_end = working[number]
            own, waited, handed = _core(
                used,
                starts,
                found,
                rows[row:row_end],
                columns[column:column_end],
                walk[number],
                counts[core],
                pes,
                places,
                queues,
                slow,
                latency,
                _of_image(held, image),
                row_starts[core],
                offsets,
                spent[image, core],
                taken[image, core],
            )
            cycles[image] = max(cycles[image], own)
            stalls[image] += waited
            jobs[image] += handed
            ends[core] = own
        for core in range(cores):
            store(spent[image, core], _CORES * WIDTH, splat(cycles[image] - ends[core]))
    by_cause = spent.reshape((images, cores, len(CAUSES), WIDTH))
    return cycles, stalls, jobs, taken[..., :pes], by_cause[..., :pes]
