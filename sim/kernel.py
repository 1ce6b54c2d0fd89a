"""The recurrence over one layer's jobs, compiled. It evaluates queues instead of stepping cycles.

Time 0 is the cycle in which the layer starts, in all cores together. Every unit serves in order, so the time of each
event is the maximum of what it waits for:

* a slot of the dispatcher: one cycle after the slot before; a job also after a place is free in every queue it enters;
  a slot is a cycle late where a row of lists is written, for which the dispatcher is held;
* a job at a PE: one cycle after its push, and not before the walker issues the last entry of the job before;
* an entry of a dump: one cycle after the entry before, and one after the lane has taken the value that frees a place;
* a step of a core's lanes: when a value has arrived for each of them, one cycle (in slow layers an even number) after
  the step before.

A core is finished a constant after its lanes' last step, the layer when its last core is.

Loops over PEs run over ``WIDTH``, so that they are unrolled, and choose without jumps that nobody could predict.
PEs beyond the core's own have no entries, take dumps at once, and delay nothing.
"""

import numpy as np
from numba import njit, prange

__all__ = ["CAUSES", "WIDTH", "layer_cycles"]

#: Where the PE-cycles of a layer go, as :func:`layer_cycles` returns them; they add up to cycles * multipliers.
CAUSES = ("products", "dispatch", "imbalance", "cores", "drain", "barrier", "load")
_PRODUCTS, _DISPATCH, _IMBALANCE, _CORES, _DRAIN, _BARRIER, _LOAD = range(7)

#: Most PEs of a core; also channels of a word of activations.
WIDTH = 8
#: Offsets in a core's state, each the first of WIDTH integers, one per PE.
_FREE = 0  # when the walker can take its next job
_MARK = 8  # the dispatcher's stalls when the last job was pushed
_PLACE = 16  # where the queue's history notes the next job
_HELD = 24  # cycles without a job while the dispatcher waited for another PE
_DRAINED = 32  # cycles in dumps
_ENTRY = 40  # when the dump's last entry was issued
_ENTRIES = 48  # of the job being pushed
_POP = 56  # when it is taken from the queue
_LOADED = 64  # cycles without a job while the dispatcher was held
_STATE = 72
#: Places in a core's record of writes.
_NEXT, _ROW, _CHUNK = range(3)  # when the dispatcher is held next, for which row of which chunk
#: Later than anything.
_NEVER = np.int64(1) << 60


@njit(cache=True)
def _scan(active, starts, found):
    """Lists the activations that are multiplied, and -1 for every word without one.

    Word n of the map is ``found[starts[n] : starts[n + 1]]``.
    """
    end = 0
    for word in range(len(active) // WIDTH):
        starts[word] = begin = end
        for n in range(word * WIDTH, (word + 1) * WIDTH):
            found[end] = n
            end += active[n]
        if end == begin:
            found[end] = -1
            end += 1
    starts[len(active) // WIDTH] = end


@njit(cache=True)
def _seek(writes, first, starts, offsets):
    """From the row noted to the first one, from it on, that there is."""
    while writes[_CHUNK] < len(first):
        if writes[_ROW] < starts[writes[_CHUNK] + 1]:
            writes[_NEXT] = first[writes[_CHUNK]] + offsets[writes[_ROW]]
            return
        writes[_CHUNK] += 1
    writes[_NEXT] = _NEVER


@njit(cache=True)
def _of_image(held, image):
    """An image's times, or None."""
    if held is None:
        return None
    return held[image]


@njit(cache=True)
def _held(slot, state, writes, first, starts, offsets):
    """The slot, or the cycle behind it if the dispatcher is held in it. Writes are cycles apart."""
    while writes[_NEXT] < slot:
        writes[_ROW] += 1
        _seek(writes, first, starts, offsets)
    if writes[_NEXT] > slot:
        return slot
    for pe in range(WIDTH):
        # One of the cycles that it has had nothing to do: at once, so that no other cause is given for it.
        idle = state[_FREE + pe] <= slot
        state[_FREE + pe] += idle
        state[_LOADED + pe] += idle
    writes[_ROW] += 1
    _seek(writes, first, starts, offsets)
    return slot + 1


@njit(cache=True, inline="always")
def _enter(push, stalls, state, queue, depth, writes, first, starts, offsets):
    """Pushes a job into the queues of the PEs that have entries of it; returns its slot and the stalls so far."""
    room = np.int64(0)
    for pe in range(WIDTH):
        former = queue[np.uintp(state[_PLACE + pe] ^ depth)]
        room = max(room, (former + 1) & (-state[_ENTRIES + pe] >> 63))
    after = max(push + 1, room)
    stalls += after - push - 1
    if first is not None and after >= writes[_NEXT]:
        after = _held(after, state, writes, first, starts, offsets)
    for pe in range(WIDTH):
        joins = -state[_ENTRIES + pe] >> 63  # all ones or zeros: a choice without a jump
        free = state[_FREE + pe]
        mark = state[_MARK + pe]
        early = free - after - 1
        wait = -(early & (early >> 63))
        state[_POP + pe] = free + wait
        state[_FREE + pe] = free + state[_ENTRIES + pe] + (wait & joins)
        state[_HELD + pe] += min(wait, stalls - mark) & joins
        state[_MARK + pe] = mark + ((stalls - mark) & joins)
    for pe in range(WIDTH):
        place = state[_PLACE + pe]
        queue[np.uintp(place)] = state[_POP + pe]  # of a PE without entries too: its next job's takes the same place
        state[_PLACE + pe] = 2 * depth * pe + ((place + (state[_ENTRIES + pe] > 0)) & (2 * depth - 1))
    return after, stalls


@njit(cache=True)
def _core(
    starts, found, rows, columns, walk, counts, totals, pes, queues, slow, latency, held, row_starts, offsets, spent
):
    """Cycles and dispatcher stalls of one core on one layer and image; see :func:`layer_cycles`."""
    first, row_pitch, column_pitch, channels, list_step, slots = walk
    job_depth, output_depth, first_push, lead, output_latency, lanes = queues
    state = np.zeros(_STATE, np.int64)
    queue = np.full(WIDTH * 2 * job_depth, -1, np.int64)  # when the last jobs of each PE were taken from its queue
    for pe in range(WIDTH):
        state[_PLACE + pe] = 2 * job_depth * pe
    made = np.int64(0)
    taken = np.full(output_depth * WIDTH, -1, np.int64)  # when the lanes took the last values
    value = np.int64(0)  # place in the output queues
    push = np.int64(first_push - 1)
    lane = np.int64(0)
    stalls = np.int64(0)
    writes = np.array([_NEVER, row_starts[0], 0])
    if held is not None:
        _seek(writes, held, row_starts, offsets)
        if writes[_NEXT] < first_push:
            push -= lead
            for _ in range(lead):
                push = _held(push + 1, state, writes, held, row_starts, offsets)
    for y in range(rows.shape[0]):
        push += 1  # the row's table entry
        if held is not None and push >= writes[_NEXT]:
            push = _held(push, state, writes, held, row_starts, offsets)
        for x in range(columns.shape[0]):
            base = first + y * row_pitch + x * column_pitch
            lists = rows[y, 0] + columns[x, 0] - base
            if rows[y, 3]:
                for n in range(starts[base // WIDTH], starts[(base + channels) // WIDTH]):
                    if found[n] < 0:
                        push += 1
                        if held is not None and push >= writes[_NEXT]:
                            push = _held(push, state, writes, held, row_starts, offsets)
                        continue
                    number = lists + found[n]
                    for _ in range(rows[y, 1]):
                        for pe in range(WIDTH):
                            state[_ENTRIES + pe] = counts[np.uintp(number * WIDTH + pe)]
                        push, stalls = _enter(push, stalls, state, queue, job_depth, writes, held, row_starts, offsets)
                        made += totals[np.uintp(number)]
                        number += list_step
            else:
                push += 1  # a blank row's word
                if held is not None and push >= writes[_NEXT]:
                    push = _held(push, state, writes, held, row_starts, offsets)
            for _ in range(columns[x, 1] if rows[y, 2] else 0):
                for pe in range(WIDTH):
                    state[_ENTRIES + pe] = 1
                push, stalls = _enter(push, stalls, state, queue, job_depth, writes, held, row_starts, offsets)
                for pe in range(WIDTH):
                    state[_ENTRY + pe] = state[_POP + pe]
                for _ in range(slots):
                    for pe in range(WIDTH):
                        state[_ENTRY + pe] = max(state[_ENTRY + pe], taken[np.uintp(value + pe)]) + 1
                    step = 0
                    while step < pes:
                        other = step + lanes - 1
                        ready = max(state[np.uintp(_ENTRY + step)], state[np.uintp(_ENTRY + other)]) + output_latency
                        lane = max(lane + 1, ready) | slow
                        taken[np.uintp(value + step)] = lane
                        taken[np.uintp(value + other)] = lane
                        step += lanes
                    value = (value + WIDTH) & (output_depth * WIDTH - 1)
                for pe in range(WIDTH):
                    state[_FREE + pe] = state[_ENTRY + pe]
                    state[_DRAINED + pe] += state[_ENTRY + pe] - state[_POP + pe]
    cycles = lane + latency
    spent[_PRODUCTS] += made
    spent[_DISPATCH] -= made
    for pe in range(pes):
        free, drained, loaded = state[_FREE + pe], state[_DRAINED + pe], state[_LOADED + pe]
        spent[_IMBALANCE] += state[_HELD + pe]
        spent[_DRAIN] += drained
        spent[_LOAD] += loaded
        spent[_DISPATCH] += free - state[_HELD + pe] - drained - loaded
        spent[_BARRIER] += cycles - free
    return cycles, stalls


@njit(cache=True, parallel=True)
def layer_cycles(
    active,
    wanted,
    parts,
    rows,
    columns,
    walk,
    counts,
    totals,
    pes,
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
    parts : int64 array (working cores, 5)
        Number of the core; first and last row in ``rows``, first and last in ``columns``, the last ones excluded.
    rows : int64 array (rows of all cores, 4)
        First list, lists per activation, whether it completes an output row, whether it isn't blank.
    columns : int64 array (columns of all cores, 2)
        List offset, output positions that it completes.
    walk : int64 array (working cores, 6)
        First activation, row pitch, column pitch, channels scanned, list step, accumulators of an output
        position.
    counts : int16 array (cores, lists * WIDTH)
        Entries of each list, list after list.
    totals : int64 array (cores, lists)
        Entries of each list in all PEs.
    pes : int
        PEs of a core.
    queues : int64 array (6,)
        Depth of job queue and output queue, powers of two; cycles to the first push, those of them in which the
        dispatcher can be held, and from a dump entry to the lanes; lanes. Arguments, not constants: Numba's cache would
        keep the old value of a constant of another module.
    slow : bool
        Lanes take values in every second cycle only.
    latency : int
        Cycles from the lanes' last step to the end of the core's work.
    held : int64 array (images, chunks), or None
        Of each chunk that may be written: what to add to the offsets of its rows for when they hold dispatchers. None
        if there is none: Numba then compiles the loops without looking for writes.
    row_starts, offsets : int64 arrays
        Rows of the chunks: :class:`sim.loading.Rows`.

    Returns
    -------
    cycles, stalls : int64 arrays (images,)
        Of the slowest core; of all cores.
    spent : int64 array (images, causes)
        PE-cycles by cause, see :data:`CAUSES`.
    """
    images, activations = active.shape
    cycles = np.zeros(images, np.int64)
    stalls = np.zeros(images, np.int64)
    spent = np.zeros((images, 7), np.int64)
    for image in prange(images):
        if not wanted[image]:
            continue
        starts = np.empty(activations // WIDTH + 1, np.int64)
        found = np.empty(activations + 1, np.int64)
        _scan(active[image], starts, found)
        work = np.int64(0)
        for part in range(parts.shape[0]):
            core, row, row_end, column, column_end = parts[part]
            own, waited = _core(
                starts,
                found,
                rows[row:row_end],
                columns[column:column_end],
                walk[part],
                counts[core],
                totals[core],
                pes,
                queues,
                slow,
                latency,
                _of_image(held, image),
                row_starts[core],
                offsets,
                spent[image],
            )
            cycles[image] = max(cycles[image], own)
            stalls[image] += waited
            work += own
        spent[image, _CORES] = (cycles[image] * counts.shape[0] - work) * pes
    return cycles, stalls, spent
