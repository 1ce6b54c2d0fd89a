"""The recurrence over a run's commands whose lists are read meanwhile, compiled: a search tries it a million times."""

from numba import njit

__all__ = ["run_on"]


@njit(cache=True)
def run_on(state, words, ends, sizes, counts, cycles, capacity, beats, pausing, waiting):
    """The state behind further commands, where it is not known before that nobody wants it.

    Parameters
    ----------
    state : tuple of 3 int and 4 float
        As :class:`hw.compiler.search.reading.Reading` has it at the beginning of a step.
    words : int64 array (commands,), ends : float64 array (commands + 1,)
        Of the whole run: up to the state they hold the words of each command's lists and when it ends; the further
        ones' are written.
    sizes, counts : int64 array (further,), cycles : float64 array (further,)
        Words and rows of each further command's lists, and its own cycles.
    capacity, beats : int
        Words of a list memory, and beats of a row.
    pausing, waiting : float
        Most cycles in which nothing may be read for want of room, and in which commands may wait for their lists.

    Returns
    -------
    tuple
        The state. Of a run that pauses or waits longer, that in which it was known.
    """
    number, oldest, held, loaded, last, idle, waited = state
    for command in range(len(sizes)):
        held += sizes[command]
        while held > capacity and oldest < number:
            held -= words[oldest]
            oldest += 1
        room = ends[oldest]
        if room > loaded:
            idle += room - loaded
            loaded = room
        loaded += counts[command] * beats
        if loaded > last:
            waited += loaded - last
            last = loaded
        if idle > pausing or waited > waiting:
            break
        last += cycles[command]
        words[number] = sizes[command]
        number += 1
        ends[number] = last
    return number, oldest, held, loaded, last, idle, waited
