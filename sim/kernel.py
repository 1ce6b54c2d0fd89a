"""The recurrence over one layer's jobs, compiled. It evaluates queues instead of stepping cycles.

Time 0 is the cycle in which the layer starts. Every unit serves in order, so the time of each event is the maximum of
what it waits for:

* a slot of the dispatcher: one cycle after the slot before; a job also after a place is free in every queue it enters;
* a job at a PE: one cycle after its push, and not before the walker issues the last entry of the job before;
* an entry of a dump: one cycle after the entry before, and one after the lane has taken the value that frees a place;
* a value at the lane: when it has arrived, one cycle (in residual layers an even number) after the value before.
"""

import numpy as np
from numba import njit, prange

__all__ = ["CAUSES", "layer_cycles"]

#: Where the PE-cycles of a layer go, in the order of :func:`layer_cycles`' results. They add up to cycles * PEs.
CAUSES = ("products", "dispatch", "imbalance", "drain", "barrier")
_PRODUCTS, _DISPATCH, _IMBALANCE, _DRAIN, _BARRIER = range(5)


@njit(cache=True, inline="always")
def _queue(now, pe, jobs, pops, depth):
    """Earliest push into a PE's queue: a cycle after the job ``depth`` places before was popped."""
    if jobs[pe] >= depth:
        return max(now, pops[pe, jobs[pe] % depth] + 1)
    return now


@njit(cache=True, inline="always")
def _pop(push, pe, jobs, pops, depth, free, mark, stalls, spent):
    """Pop time of the job just pushed; the wait before it is booked to dispatch or imbalance."""
    pop = max(push + 1, free[pe])
    wait = pop - free[pe]
    held = min(wait, stalls - mark[pe])
    spent[_IMBALANCE] += held
    spent[_DISPATCH] += wait - held
    mark[pe] = stalls
    pops[pe, jobs[pe] % depth] = pop
    jobs[pe] += 1
    return pop


@njit(cache=True)
def _one(active, rows, columns, walk, counts, queues, residual, latency, spent):
    """Cycles and dispatcher stalls of one layer and image; see :func:`layer_cycles`."""
    row_pitch, column_pitch, channels, list_step, row = walk
    job_depth, output_depth, first_push, output_latency = queues
    pes = counts.shape[1]
    jobs = np.zeros(pes, np.int64)
    pops = np.zeros((pes, job_depth), np.int64)
    free = np.zeros(pes, np.int64)  # when the walker can take its next job
    mark = np.zeros(pes, np.int64)  # stalls when the last job was pushed
    taken = np.zeros((pes, output_depth), np.int64)  # when the lane took the last values
    values = np.int64(0)  # values of each PE so far
    entry = np.zeros(pes, np.int64)
    push = np.int64(first_push - 1)
    lane = np.int64(0)
    stalls = np.int64(0)
    for y in range(rows.shape[0]):
        push += 1  # the row's table entry
        for x in range(columns.shape[0]):
            base = y * row_pitch + x * column_pitch
            first = rows[y, 0] + columns[x]
            for word in range(0, channels, 32):
                empty = True
                for channel in range(word, min(word + 32, channels)):
                    if not active[base + channel]:
                        continue
                    empty = False
                    for kernel_row in range(rows[y, 1]):
                        entries = counts[first + kernel_row * list_step + channel]
                        push += 1
                        earliest = push
                        for pe in range(pes):
                            if entries[pe]:
                                push = _queue(push, pe, jobs, pops, job_depth)
                        stalls += push - earliest
                        for pe in range(pes):
                            if entries[pe]:
                                pop = _pop(push, pe, jobs, pops, job_depth, free, mark, stalls, spent)
                                free[pe] = pop + entries[pe]
                                spent[_PRODUCTS] += entries[pe]
                if empty:
                    push += 1
        for _ in range(rows[y, 2]):
            push += 1
            earliest = push
            for pe in range(pes):
                push = _queue(push, pe, jobs, pops, job_depth)
            stalls += push - earliest
            for pe in range(pes):
                entry[pe] = _pop(push, pe, jobs, pops, job_depth, free, mark, stalls, spent)
                spent[_DRAIN] -= entry[pe]
            for _ in range(row):
                place = values % output_depth
                for pe in range(pes):
                    entry[pe] += 1
                    if values >= output_depth:
                        entry[pe] = max(entry[pe], taken[pe, place] + 1)
                    lane = max(lane + 1, entry[pe] + output_latency)
                    if residual:
                        lane |= 1
                    taken[pe, place] = lane
                values += 1
            for pe in range(pes):
                free[pe] = entry[pe]
                spent[_DRAIN] += entry[pe]
    cycles = lane + latency + 1
    for pe in range(pes):
        spent[_BARRIER] += cycles - free[pe]
    return cycles, stalls


@njit(cache=True, parallel=True)
def layer_cycles(active, wanted, rows, columns, walk, counts, queues, residual, latency):
    """Timing of one layer for many images.

    Parameters
    ----------
    active : bool array (images, activations)
        Where the stored input is nonzero, position after position.
    wanted : bool array (images,)
        Images that reach this layer; the others get zeros.
    rows : int64 array (rows, 3)
        First list, kernel rows, dumps.
    columns : int64 array (columns,)
        List offset.
    walk : int64 array (5,)
        Row pitch, column pitch, stored channels, list step, accumulators of an output row.
    counts : int64 array (lists, PEs)
        Entries of each list.
    queues : int64 array (4,)
        Depth of job queue and output queue; cycles to the first push, and from a dump entry to the lane. Arguments, not
        constants: Numba's cache would keep the old value of a constant of another module.
    residual : bool
    latency : int
        Cycles from the lane's last transfer to the last result.

    Returns
    -------
    cycles, stalls : int64 arrays (images,)
    spent : int64 array (images, causes)
        PE-cycles by cause, see :data:`CAUSES`.
    """
    images = active.shape[0]
    cycles = np.zeros(images, np.int64)
    stalls = np.zeros(images, np.int64)
    spent = np.zeros((images, 5), np.int64)
    for image in prange(images):
        if wanted[image]:
            cycles[image], stalls[image] = _one(
                active[image], rows, columns, walk, counts, queues, residual, latency, spent[image]
            )
    return cycles, stalls, spent
