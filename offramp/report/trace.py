"""A timeline as a trace that Perfetto (ui.perfetto.dev) and Chrome open: Trace Event Format of the Chromium project.

Times of its events are in µs, which cycles become by the clock; the cycles are in the arguments of each event.
"""

from collections.abc import Iterator
from typing import Any

from fpga.baud import WORD_BYTES
from fpga.links import link_of

__all__ = ["counter_events", "trace_events"]

#: Processes of the whole run and of the link; those of cores follow.
_RUN, _LINK, _CORES = 0, 1, 2
#: Threads of each; those of a core's PEs follow.
_WHOLE, _SEQUENCER = 0, 1
_SENT, _RECEIVED = 0, 1
_WORK, _LANES, _PES = 0, 1, 2
#: Threads of a board's counters.
_IMAGES, _LAYERS = 0, 1


def trace_events(
    times: list[dict[str, Any]], cycles: int, clock_mhz: float, board: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Layers, sequencer, cores, PEs and lanes of one image, and the link that brings it and takes its result.

    Parameters
    ----------
    times : list of dict
        The fields of :class:`sim.core_times.CoreTimes`, of each layer and core.
    cycles : int
        Of the run, whole.
    clock_mhz : float
        Clock of the accelerator.
    board : dict, optional
        Of what board (:meth:`fpga.throughput.Throughput.to_dict`); without one there is no link. The image is alone on
        it: it comes before the run, its result goes after it.

    Returns
    -------
    dict
        The trace, to be written as JSON.
    """
    events = [*_names(times), *_layers(times, cycles, clock_mhz)]
    for each in times:
        process = each["core"] + _CORES
        events.append(_event(each["layer"], process, _WORK, each["begin"], each["end"], clock_mhz))
        starts = [each["begin"], *each["rows"][:-1]]
        for number, (start, end) in enumerate(zip(starts, each["rows"], strict=True)):
            events.append(_event(f"row {number}", process, _LANES, start, end, clock_mhz, layer=each["layer"]))
        for pe, (end, jobs) in enumerate(zip(each["pe_ends"], each["pe_jobs"], strict=True)):
            did = {"jobs": jobs, "spent": {cause: spent[pe] for cause, spent in each["pe_spent"].items()}}
            events.append(_event(each["layer"], process, _PES + pe, each["begin"], end, clock_mhz, **did))
    if board is not None:
        word = 1e6 / link_of(board.get("link", "serial"), board["baud"]).words_per_second
        begin = board["words_sent"] * word
        events = [each | {"ts": begin + each["ts"]} if each["ph"] == "X" else each for each in events]
        events += _link(board, word, begin + cycles / clock_mhz)
    return {"displayTimeUnit": "ns", "traceEvents": events}


def counter_events(cycles: list[int], layers: list[list[dict[str, Any]]], clock_mhz: float) -> dict[str, Any]:
    """Images and their layers by the counters of a board, which says how long each took, not when it began.

    Images follow each other without a gap; the layers of one end with it, as on the accelerator, one behind the other.

    Parameters
    ----------
    cycles : list of int
        Of each image.
    layers : list of list of dict
        Of each image, of each layer that was run: ``layer``, ``cycles``, and what else the board counted, for the
        arguments of its event.
    clock_mhz : float
        Clock that makes µs, the unit of the format, of cycles.
    """
    events = [
        _name("process_name", "board", _RUN, 0),
        _name("thread_name", "images", _RUN, _IMAGES),
        _name("thread_name", "layers", _RUN, _LAYERS),
    ]
    begin = 0
    for number, (count, own) in enumerate(zip(cycles, layers, strict=True)):
        events.append(_event(f"image {number}", _RUN, _IMAGES, begin, begin + count, clock_mhz))
        start = begin + count - sum(each["cycles"] for each in own)
        for each in own:
            more = {name: value for name, value in each.items() if name != "layer"}
            events.append(_event(each["layer"], _RUN, _LAYERS, start, start + each["cycles"], clock_mhz, **more))
            start += each["cycles"]
        begin += count
    return {"displayTimeUnit": "ns", "traceEvents": events}


def _names(times: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield _name("process_name", "run", _RUN, 0)
    yield _name("thread_name", "layers", _RUN, _WHOLE)
    yield _name("thread_name", "sequencer", _RUN, _SEQUENCER)
    for core, pes in sorted({each["core"]: len(each["pe_ends"]) for each in times}.items()):
        process = core + _CORES
        yield _name("process_name", f"core {core}", process, 0)
        yield _name("thread_name", "dispatcher and PEs", process, _WORK)
        yield _name("thread_name", "lanes", process, _LANES)
        for pe in range(pes):
            yield _name("thread_name", f"PE {pe}", process, _PES + pe)


def _layers(times: list[dict[str, Any]], cycles: int, clock_mhz: float) -> Iterator[dict[str, Any]]:
    """Each layer, from when its cores begin to when the last has ended; what the sequencer takes between and after."""
    ended = 0
    for layer in dict.fromkeys(each["layer"] for each in times):
        own = [each for each in times if each["layer"] == layer]
        begin, end = min(each["begin"] for each in own), max(each["end"] for each in own)
        yield _event(f"before {layer}", _RUN, _SEQUENCER, ended, begin, clock_mhz)
        yield _event(layer, _RUN, _WHOLE, begin, end, clock_mhz)
        ended = end
    yield _event("result", _RUN, _SEQUENCER, ended, cycles, clock_mhz)


def _link(board: dict[str, Any], word: float, ended: float) -> Iterator[dict[str, Any]]:
    """What the link carries, each word in so many µs: the image at once, its result when the run has ended."""
    yield _name("process_name", "link", _LINK, 0)
    yield _name("thread_name", "to the board", _LINK, _SENT)
    yield _name("thread_name", "from the board", _LINK, _RECEIVED)
    for name, thread, start, words in (
        ("image", _SENT, 0.0, board["words_sent"]),
        ("result", _RECEIVED, ended, board["words_received"]),
    ):
        carried = {"words": words, "bytes": words * WORD_BYTES, "baud": board["baud"]}
        yield _span(name, _LINK, thread, start, words * word, carried)


def _name(kind: str, text: str, process: int, thread: int) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": process, "tid": thread, "args": {"name": text}}


def _event(name: str, process: int, thread: int, begin: int, end: int, clock_mhz: float, **more: Any) -> dict[str, Any]:
    """From one cycle to another."""
    cycles = {"from": begin, "to": end, **more}
    return _span(name, process, thread, begin / clock_mhz, (end - begin) / clock_mhz, cycles)


def _span(name: str, process: int, thread: int, start: float, duration: float, more: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "ph": "X", "pid": process, "tid": thread, "ts": start, "dur": duration, "args": more}
