"""The recurrence over strips of layers on decoupled cores, compiled.

Units serve in order, as in :mod:`sim.kernel`; what is new is between strips: no barrier. A core takes, whenever its
dispatcher is free, of its strips that may start the one of the oldest image, and of these the first by number. A strip
may start when the strips that it reads are complete and the places of what it makes are free. Strips behind the exit
that an image takes are skipped: they wait like all others, so that places are freed in the order of the images, but
take neither a core nor time. Times are in cycles.
"""

import numpy as np
from numba import njit

__all__ = ["CORE_FIELDS", "SIZES", "STRIP_FIELDS", "run"]

#: Fields of a strip. Rows and columns are those of its walk, the last ones excluded; ``host`` are the cycles of a strip
#: of the image, which the host writes; ``branch`` counts the exits decided before it, ``exit`` is the number of the
#: exit that it decides, or -1.
STRIP_FIELDS = (
    "row", "row_end", "column", "column_end", "first", "row_pitch", "column_pitch", "channels", "group", "slots",
    "width", "lists", "list_step", "slow", "cost", "latency", "host", "branch", "exit",
)  # fmt: skip
#: Sizes and constants of all cores; ``hidden``: accumulators are taken out while the walkers go on.
SIZES = (
    "pes", "job_queue", "output_queue", "accumulators", "first_push", "gap", "output_latency", "decision", "hidden",
)  # fmt: skip
#: What is counted of each core.
CORE_FIELDS = ("products", "entries", "idle")

_ROW, _ROW_END, _COLUMN, _COLUMN_END, _FIRST, _ROW_PITCH, _COLUMN_PITCH, _CHANNELS, _GROUP, _SLOTS = range(10)
_WIDTH, _LISTS, _LIST_STEP, _SLOW, _COST, _LATENCY, _HOST, _BRANCH, _EXIT = range(10, 19)
_PES, _JOBS, _OUTPUTS, _ACCUMULATORS, _FIRST_PUSH, _GAP, _OUTPUT_LATENCY, _DECISION, _HIDDEN = range(9)
_PRODUCTS, _ENTRIES, _IDLE = range(3)
#: A core's clock: its dispatcher's last push, its lanes' last step, its place in the output queues, the columns that
#: hold accumulators from ``_HEAD`` to ``_TAIL``, and how many these are.
_PUSH, _LANE, _VALUE, _HEAD, _TAIL, _IN_USE = range(6)
_RING = 64  # columns whose ends are kept


@njit(cache=True)
def _issue(push, entries, free, queue, place):
    """Pushes a job to the PEs that have entries of it; returns its slot."""
    for pe in range(len(free)):
        if entries[pe] > 0:
            push = max(push, queue[pe, place[pe]])
    push += 1
    for pe in range(len(free)):
        if entries[pe] > 0:
            taken = max(free[pe], push + 1)
            queue[pe, place[pe]] = taken
            place[pe] = (place[pe] + 1) % queue.shape[1]
            free[pe] = taken + entries[pe]
    return push


@njit(cache=True)
def _dump(push, start, slots, slow, sizes, free, queue, place, values, clock, ones):
    """A job that takes an output position's accumulators out through the walkers; returns its slot."""
    push = _issue(push, ones, free, queue, place)
    lane = clock[_LANE]
    for pe in range(len(free)):
        free[pe] -= 1
    for _ in range(slots):
        row = values[clock[_VALUE]]
        ready, former = 0, lane
        for pe in range(len(free)):
            free[pe] = max(free[pe], row[pe]) + 1
            later = pe << slow
            ready = max(ready, ((free[pe] + sizes[_OUTPUT_LATENCY] - start) | slow) + start - later)
            lane = max(ready, former + 1 + slow) + later
            row[pe] = lane
        clock[_VALUE] = (clock[_VALUE] + 1) % len(values)
    clock[_LANE] = lane
    return push


@njit(cache=True)
def _room(push, wanted, accumulators, clock, ring):
    """The dispatcher waits until so many accumulators more are free, or none is on its way out any more."""
    while clock[_HEAD] < clock[_TAIL] and clock[_IN_USE] + wanted > accumulators:
        head = clock[_HEAD] % _RING
        push = max(push, ring[head, 1])
        clock[_IN_USE] -= ring[head, 0]
        clock[_HEAD] += 1
    clock[_IN_USE] += wanted
    return push


@njit(cache=True)
def _strip(
    start, strip, rows, columns, counts, useful, active, costs, sizes, free, queue, place, values, clock, ring, ones,
    sums,
):  # fmt: skip
    """A core works on a strip from ``start`` on; returns when it is complete."""
    push = max(clock[_PUSH], start + sizes[_FIRST_PUSH] - 1)
    sums[_IDLE] += max(0, push - max(clock[_PUSH], 0))
    group, cost = strip[_GROUP], strip[_COST]
    entries = np.empty(len(free), np.int64)
    for y in range(strip[_ROW], strip[_ROW_END]):
        list_start, each, final, filled, opens = rows[y]
        push += 1  # the row's table entry
        if sizes[_HIDDEN] and opens:
            push = _room(push, opens * strip[_WIDTH], sizes[_ACCUMULATORS], clock, ring)
        for x in range(strip[_COLUMN], strip[_COLUMN_END]):
            base = strip[_FIRST] + (y - strip[_ROW]) * strip[_ROW_PITCH] + (x - strip[_COLUMN]) * strip[_COLUMN_PITCH]
            lists = strip[_LISTS] + list_start + columns[x, 0]
            if not filled:
                push += 1  # a blank row's word
            elif group > 1:
                for channel in range(0, strip[_CHANNELS], group):
                    some = False
                    for pe in range(group):
                        entries[pe] = counts[lists + channel // group, pe] if active[base + channel + pe] else 0
                        some |= active[base + channel + pe]
                        sums[_ENTRIES] += entries[pe]
                        sums[_PRODUCTS] += entries[pe]
                    if some and each:
                        push = _issue(push, entries, free, queue, place)
                    elif channel % 8 == 0:
                        push += 1
            else:
                for word in range(0, strip[_CHANNELS], 8):
                    some = False
                    for channel in range(word, word + 8):
                        if active[base + channel]:
                            some = True
                            for step in range(each):
                                number = lists + channel + step * strip[_LIST_STEP]
                                for pe in range(len(free)):
                                    sums[_ENTRIES] += counts[number, pe]
                                sums[_PRODUCTS] += useful[number]
                                push = _issue(push, counts[number], free, queue, place)
                    if not some:
                        push += 1
            if final and not sizes[_HIDDEN]:
                for _ in range(columns[x, 1]):
                    push = _dump(
                        push, start, strip[_SLOTS], strip[_SLOW], sizes, free, queue, place, values, clock, ones
                    )
        if final and sizes[_HIDDEN]:
            clock[_LANE] = max(clock[_LANE], free.max() + sizes[_OUTPUT_LATENCY]) + costs[cost]
            cost += 1
            tail = clock[_TAIL] % _RING
            ring[tail, 0] = strip[_WIDTH]
            ring[tail, 1] = clock[_LANE]
            clock[_TAIL] += 1
    clock[_PUSH] = push
    return clock[_LANE] + strip[_LATENCY]


@njit(cache=True)
def _offer(image, number, cores, waiting, waits, best):
    """A strip has all it needs: its core may take it."""
    core = cores[number]
    waiting[core, waits[core], 0] = image
    waiting[core, waits[core], 1] = number
    waits[core] += 1
    best[core] = -1


@njit(cache=True)
def _complete(image, number, links, strips, exits, missing, ready, issued, done, cores, waiting, waits, best, stack):
    """A strip is complete: what waits for it may have all it needs; of that, strips that are skipped are complete."""
    needed, followers, freed, rooms = links
    images, depth = len(exits), 1
    stack[0, 0], stack[0, 1] = image, number
    while depth:
        depth -= 1
        image, number = stack[depth]
        for n in range(needed[number], needed[number + 1] + freed[number + 1] - freed[number]):
            if n < needed[number + 1]:
                later, other, when = image, followers[n], done[image, number]
            else:
                other, delay, by_lane = rooms[n - needed[number + 1] + freed[number]]
                later = image + delay
                if later >= images:
                    continue
                when = done[image, number] if by_lane else issued[image, number]
            missing[later, other] -= 1
            ready[later, other] = max(ready[later, other], when)
            if missing[later, other] > 0:
                continue
            if strips[other, _BRANCH] > exits[later]:
                issued[later, other] = done[later, other] = ready[later, other]
                stack[depth, 0], stack[depth, 1] = later, other
                depth += 1
            else:
                _offer(later, other, cores, waiting, waits, best)


@njit(cache=True)
def _next(available, waiting, waits, ready, best, first):
    """The core whose next strip starts first; -1 where none waits. ``best`` and ``first``: of each core the place of
    its next strip among those that wait, -1 where that isn't known, and its start.
    """
    soonest = -1
    for core in range(len(waits)):
        if waits[core] == 0:
            continue
        if best[core] < 0:
            best[core], first[core] = 0, max(available[core], ready[waiting[core, 0, 0], waiting[core, 0, 1]])
            for n in range(1, waits[core]):
                image, number = waiting[core, n]
                start = max(available[core], ready[image, number])
                former_image, former = waiting[core, best[core]]
                older = image < former_image or (image == former_image and number < former)
                if start < first[core] or (start == first[core] and older):
                    best[core], first[core] = n, start
        if soonest < 0 or first[core] < first[soonest]:
            soonest = core
    return soonest


@njit(cache=True)
def run(strips, cores, links, walk_rows, walk_columns, counts, useful, active, costs, exits, sizes, spans):
    """Times all strips of some images.

    Parameters
    ----------
    strips : int64 array (strips, fields)
        See :data:`STRIP_FIELDS`; in the order in which they are preferred.
    cores : int64 array (strips,)
        Core of each; the host is the one behind the last core.
    links : tuple of int64 arrays
        ``needed`` (strips + 1,) and ``followers``: the strips that need strip n are
        ``followers[needed[n] : needed[n + 1]]``. Likewise ``freed`` and ``rooms`` (places, 3): the strips that wait for
        places that strip n reads; how many images later; and whether these are free when its lanes have ended, or
        already when its dispatcher has.
    walk_rows : int64 array (rows, 5)
        First list, lists of an activation, whether it completes an output row, whether it isn't blank, output rows
        that begin.
    walk_columns : int64 array (columns, 2)
        List offset, output positions that it completes.
    counts, useful : int64 arrays (lists, PEs), (lists,)
        Entries in each PE; products in all, which entries that a column at an edge skips aren't.
    active : bool array (images, activations)
        Where a layer multiplies its input, layer by layer.
    costs : int64 array (images, output rows of walks)
        Cycles of the lanes.
    exits : int64 array (images,)
        The exit that each takes.
    sizes : int64 array
        See :data:`SIZES`.
    spans : int64 array (images, strips, 2)
        From the start of each strip to its last push and to its completion, where these are known from another run;
        without images, the recurrence is evaluated.

    Returns
    -------
    started, issued, done : int64 arrays (images, strips)
        When each strip starts, has been dispatched, is complete; -1 where images wait for each other for ever, and
        where a strip that is skipped would start.
    counted : int64 array (cores + 1, fields)
        See :data:`CORE_FIELDS`.
    """
    _, followers, _, rooms = links
    images, total = len(exits), len(strips)
    units, pes = cores.max() + 1, sizes[_PES]
    started = np.full((images, total), -1, np.int64)
    issued = np.full((images, total), -1, np.int64)
    done = np.full((images, total), -1, np.int64)
    free = np.zeros((units, pes), np.int64)
    queue = np.full((units, pes, sizes[_JOBS]), -1, np.int64)
    place = np.zeros((units, pes), np.int64)
    values = np.full((units, sizes[_OUTPUTS], pes), -1, np.int64)
    clock = np.zeros((units, 6), np.int64)
    ring = np.zeros((units, _RING, 2), np.int64)
    counted = np.zeros((units, 3), np.int64)
    available = np.zeros(units, np.int64)
    ones = np.ones(pes, np.int64)
    missing = np.zeros((images, total), np.int64)
    ready = np.zeros((images, total), np.int64)
    for n in range(len(followers)):
        missing[:, followers[n]] += 1
    for n in range(len(rooms)):
        missing[rooms[n, 1] :, rooms[n, 0]] += 1
    waiting = np.empty((units, images * total, 2), np.int64)
    waits, best, first = np.zeros(units, np.int64), np.full(units, -1, np.int64), np.zeros(units, np.int64)
    stack = np.empty((images * total, 2), np.int64)
    for image in range(images):
        for number in range(total):
            if missing[image, number] == 0:
                _offer(image, number, cores, waiting, waits, best)
    while True:
        core = _next(available, waiting, waits, ready, best, first)
        if core < 0:
            break
        start = first[core]
        image, number = waiting[core, best[core]]
        waits[core] -= 1
        waiting[core, best[core], 0], waiting[core, best[core], 1] = waiting[core, waits[core]]
        best[core] = -1
        strip = strips[number]
        started[image, number] = start
        if strip[_HOST]:
            end = start + strip[_HOST]
            issued[image, number] = available[core] = end
        else:
            if len(spans):
                end = start + spans[image, number, 1]
                issued[image, number] = start + spans[image, number, 0]
            else:
                end = _strip(
                    start, strip, walk_rows, walk_columns, counts, useful, active[image], costs[image], sizes,
                    free[core], queue[core], place[core], values[core], clock[core], ring[core], ones, counted[core],
                )  # fmt: skip
                end += sizes[_DECISION] if strip[_EXIT] >= 0 else 0
                issued[image, number] = clock[core, _PUSH]
            available[core] = max(start, issued[image, number] - sizes[_FIRST_PUSH] + 1 + sizes[_GAP])
        done[image, number] = end
        _complete(image, number, links, strips, exits, missing, ready, issued, done, cores, waiting, waits, best, stack)
    return started, issued, done, counted
