"""The recurrence over one layer's jobs, compiled. It evaluates queues instead of stepping cycles.

Time 0 is the cycle in which the layer starts, in all cores together. Every unit serves in order, so the time of each
event is the maximum of what it waits for:

* a slot of the dispatcher: one cycle after the slot before; a job also after a place is free in every queue it enters;
* a job at a PE: one cycle after its push, and not before the walker issues the last entry of the job before;
* an entry of a dump: one cycle after the entry before, and one after the lane has taken the value that frees a place;
* a step of a core's lanes: when a value has arrived for each of them, one cycle (in slow layers an even number) after
  the step before.

A core is finished a constant after its lanes' last step, the layer when its last core is.
"""

import numpy as np
from numba import njit, prange

__all__ = ["CAUSES", "layer_cycles"]

#: Where the PE-cycles of a layer go, as :func:`layer_cycles` returns them; they add up to cycles * multipliers.
CAUSES = ("products", "dispatch", "imbalance", "cores", "drain", "barrier")
_PRODUCTS, _DISPATCH, _IMBALANCE, _CORES, _DRAIN, _BARRIER = range(6)


@njit(cache=True, inline="always")
def _pop(push, pe, jobs, pops, depth, free, mark, stalls, spent):
    """Pop time of the job just pushed; the wait before it is booked to dispatch or imbalance."""
    pop = max(push + 1, free[pe])
    wait = pop - free[pe]
    held = min(wait, stalls - mark[pe])
    spent[_IMBALANCE] += held
    spent[_DISPATCH] += wait - held
    mark[pe] = stalls
    pops[pe, jobs[pe]] = pop
    jobs[pe] += 1
    if jobs[pe] == depth:
        jobs[pe] = 0
    return pop


@njit(cache=True)
def _core(active, rows, columns, walk, counts, queues, slow, latency, spent):
    """Cycles and dispatcher stalls of one core on one layer and image; see :func:`layer_cycles`."""
    first, row_pitch, column_pitch, channels, list_step, slots = walk
    job_depth, output_depth, first_push, output_latency, lanes = queues
    pes = counts.shape[1]
    jobs = np.zeros(pes, np.int64)  # jobs of each PE so far, modulo the depth of its queue
    pops = np.full((pes, job_depth), -1, np.int64)  # when the job in each place was taken from the queue
    free = np.zeros(pes, np.int64)  # when the walker can take its next job
    mark = np.zeros(pes, np.int64)  # stalls when the last job was pushed
    taken = np.full((output_depth, pes), -1, np.int64)  # when the lanes took the last values
    values = np.int64(0)  # values of each PE so far, modulo the depth of its queue
    entry = np.zeros(pes, np.int64)
    push = np.int64(first_push - 1)
    lane = np.int64(0)
    stalls = np.int64(0)
    for y in range(rows.shape[0]):
        push += 1  # the row's table entry
        for x in range(columns.shape[0]):
            base = first + y * row_pitch + x * column_pitch
            lists = rows[y, 0] + columns[x, 0]
            if not rows[y, 3]:
                push += 1  # a blank row's word
            for word in range(0, channels if rows[y, 3] else 0, 8):
                empty = True
                for channel in range(word, word + 8):
                    if not active[base + channel]:
                        continue
                    empty = False
                    for kernel_row in range(rows[y, 1]):
                        entries = counts[lists + kernel_row * list_step + channel]
                        push += 1
                        earliest = push
                        for pe in range(pes):
                            if entries[pe]:
                                push = max(push, pops[pe, jobs[pe]] + 1)
                        stalls += push - earliest
                        for pe in range(pes):
                            if entries[pe]:
                                pop = _pop(push, pe, jobs, pops, job_depth, free, mark, stalls, spent)
                                free[pe] = pop + entries[pe]
                                spent[_PRODUCTS] += entries[pe]
                if empty:
                    push += 1
            for _ in range(columns[x, 1] if rows[y, 2] else 0):
                push += 1
                earliest = push
                for pe in range(pes):
                    push = max(push, pops[pe, jobs[pe]] + 1)
                stalls += push - earliest
                for pe in range(pes):
                    entry[pe] = _pop(push, pe, jobs, pops, job_depth, free, mark, stalls, spent)
                    spent[_DRAIN] -= entry[pe]
                for _ in range(slots):
                    for step in range(0, pes, lanes):
                        lane += 1
                        for pe in range(step, step + lanes):
                            entry[pe] = max(entry[pe] + 1, taken[values, pe] + 1)
                            lane = max(lane, entry[pe] + output_latency)
                        if slow:
                            lane |= 1
                        for pe in range(step, step + lanes):
                            taken[values, pe] = lane
                    values += 1
                    if values == output_depth:
                        values = 0
                for pe in range(pes):
                    free[pe] = entry[pe]
                    spent[_DRAIN] += entry[pe]
    cycles = lane + latency
    for pe in range(pes):
        spent[_BARRIER] += cycles - free[pe]
    return cycles, stalls


@njit(cache=True, parallel=True)
def layer_cycles(active, wanted, parts, rows, columns, walk, counts, queues, slow, latency):
    """Timing of one layer for many images.

    Parameters
    ----------
    active : bool array (images, activations)
        Where the stored input is nonzero, position after position, the whole map.
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
    counts : int64 array (cores, lists, PEs)
        Entries of each list.
    queues : int64 array (5,)
        Depth of job queue and output queue; cycles to the first push, and from a dump entry to the lanes; lanes.
        Arguments, not constants: Numba's cache would keep the old value of a constant of another module.
    slow : bool
        Lanes take values in every second cycle only.
    latency : int
        Cycles from the lanes' last step to the end of the core's work.

    Returns
    -------
    cycles, stalls : int64 arrays (images,)
        Of the slowest core; of all cores.
    spent : int64 array (images, causes)
        PE-cycles by cause, see :data:`CAUSES`.
    """
    images = active.shape[0]
    cycles = np.zeros(images, np.int64)
    stalls = np.zeros(images, np.int64)
    spent = np.zeros((images, 6), np.int64)
    for image in prange(images):
        if not wanted[image]:
            continue
        work = np.int64(0)
        for part in range(parts.shape[0]):
            core, row, row_end, column, column_end = parts[part]
            own, held = _core(
                active[image],
                rows[row:row_end],
                columns[column:column_end],
                walk[part],
                counts[core],
                queues,
                slow,
                latency,
                spent[image],
            )
            cycles[image] = max(cycles[image], own)
            stalls[image] += held
            work += own
        spent[image, _CORES] = (cycles[image] * counts.shape[0] - work) * counts.shape[2]
    return cycles, stalls, spent
