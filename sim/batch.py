"""Times images that a host sends back to back: while one is computed, the next one's codes arrive.

The host offers a word a cycle and takes every reply at once. All runs are of one program, without layer records.
Cycles are followed as the hardware's units define them: the host port takes RUN's header, judges it and hands the run
over when no other one waits; its options follow, and the image when its place is free (:class:`hw.program.isa.Header`),
a code a cycle. While a run is at work the image's words come some cycles apart, and none in layers whose words may fill
the exchange.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from hw.config import WORD_CHANNELS
from hw.program.bits import words_of
from hw.program.program import Program
from hw.program.protocol import RunOptions
from sim.simulate import Simulation
from sim.timing import BETWEEN_RUNS, HEADER_CYCLES, IMAGE_DISTANCE, LOADED_CYCLES, SWITCH_CYCLES, takes_images

__all__ = ["BatchTiming", "has_known_time", "time_batch"]


@dataclass(frozen=True, kw_only=True)
class BatchTiming:
    """N images back to back.

    Attributes
    ----------
    results : int64 array (N,)
        Cycle in which the first word of each result goes to the host, from the one in which the accelerator takes the
        first word of the first RUN.
    loads : int64 array (N,)
        Cycles for which each image's codes were on their way.
    waits : int64 array (N,)
        Cycles in which nothing was computed, for the image was not there.
    """

    results: np.ndarray
    loads: np.ndarray
    waits: np.ndarray

    @property
    def cycles_per_image(self) -> float:
        """Over the whole batch, loading of the first image and its program's header included."""
        return float(self.results[-1] / len(self.results))


def _early(timing: Simulation) -> int:
    """Runs that end before the last layer and are followed by another one."""
    return int((timing.layer_ends[:-1, -1] == 0).sum())


def has_known_time(program: Program, timing: Simulation) -> bool:
    """Whether :func:`time_batch` can tell: not if a run may have to wait for lists that the one before asked for."""
    return not (program.decoded.header.chunks and _early(timing))


def time_batch(program: Program, timing: Simulation, *, selected: bool = False) -> BatchTiming:
    """When each image of a batch is done.

    Parameters
    ----------
    timing : Simulation
        Of the program on the images, at least one, in their order.
    selected : bool
        The run before the batch was of the same program.

    Raises
    ------
    ValueError
        When there is no image, or the time isn't known (:func:`has_known_time`).
    """
    if not len(timing.cycles):
        raise ValueError("a batch needs at least 1 image, not 0")
    header = program.decoded.header
    if not has_known_time(program, timing):
        raise ValueError(
            f"{program.network.name} reads lists during its runs: a batch of it has a known time only if no run leaves "
            f"early, not if {_early(timing)} do"
        )
    everywhere = [bool(layer.cores[0].target.everywhere) for layer in program.decoded.layers]
    closed = np.array([not takes_images(program.config, flag) for flag in everywhere])
    free = np.zeros(len(timing.cycles), np.int64)
    if header.image_free <= len(everywhere):
        free = timing.layer_ends[:, header.image_free - 1]
    results, loads, waits = _times(
        timing.cycles,
        free,
        np.ascontiguousarray(timing.layer_ends[:, closed]),
        np.ascontiguousarray((timing.layer_cycles - timing.waited)[:, closed]),
        header.image_bytes,
        header.image_channels,
        words_of(RunOptions),
        HEADER_CYCLES,
        SWITCH_CYCLES * (not selected),
    )
    return BatchTiming(results=results, loads=loads, waits=waits)


@njit(cache=True)
def _times(cycles, free, ends, spans, codes, channels, options, header, select):
    """Results, loads and waits; see :class:`BatchTiming`.

    ``free`` are the cycles of each run until the next image's place is free, 0 for its end; ``ends`` and ``spans``
    (images, layers) the ends and the cycles at work of layers in which no image finds room.
    """
    count, layers = ends.shape
    results, loads, waits = np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count, np.int64)
    asked = np.int64(0)  # when the RUN's header is taken
    begun, ended = np.int64(0), np.int64(-1)  # first cycle of the run before, and that of its result
    for n in range(count):
        passed = max(asked + header + select, begun)
        select = 0
        allowed = ended + 1
        if n > 0 and free[n - 1] > 0:
            allowed = min(allowed, begun + free[n - 1] + 1)
        allowed = max(passed + 1 + options, allowed)
        # The first word is here a cycle later, its first code goes on in the next, when the second word comes to wait.
        word = allowed + min(2, (codes + 3) // 4)
        cycle = allowed + 2
        former = -IMAGE_DISTANCE
        layer = 0
        for code in range(codes):
            channel = code % channels
            completes = channel == channels - 1 or channel % WORD_CHANNELS == WORD_CHANNELS - 1
            moved = True
            while moved:
                moved = False
                if n > 0 and begun <= cycle <= ended:
                    if completes and cycle < former + IMAGE_DISTANCE:
                        cycle += 1
                        moved = True
                        continue
                    while layer < layers and begun + ends[n - 1, layer] <= cycle:
                        layer += 1
                    if layer < layers and begun + ends[n - 1, layer] - spans[n - 1, layer] <= cycle:
                        cycle = begun + ends[n - 1, layer]
                        moved = True
            if completes:
                former = cycle
            if code % 4 == 3 and code + 5 < codes:
                # The next word is at hand; the one after it comes to wait.
                word = cycle + 1
            cycle += 1
        loads[n] = cycle - 1 - allowed
        there = cycle - 1 + LOADED_CYCLES
        start = there if n == 0 else max(there, ended + BETWEEN_RUNS - 1)
        waits[n] = start - (ended + 1) if n else start
        begun = start + 1
        ended = begun + cycles[n]
        results[n] = ended + 1
        asked = word + 2
    return results, loads, waits
