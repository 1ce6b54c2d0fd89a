"""A timeline as a trace that Perfetto (ui.perfetto.dev) and Chrome open: Trace Event Format of the Chromium project."""

from collections.abc import Iterator
from typing import Any

__all__ = ["counter_events", "trace_events"]

#: Process of the whole run, with its threads; those of cores follow.
_RUN = 0
_WHOLE, _SEQUENCER = 0, 1
_WORK, _LANES = 0, 1
#: Threads of a board's counters.
_IMAGES, _LAYERS = 0, 1


def trace_events(times: list[dict[str, Any]], clock_mhz: float) -> dict[str, Any]:
    """Layers, sequencer, cores and lanes of one image.

    Parameters
    ----------
    times : list of dict
        ``layer``, ``core``, ``begin``, ``end`` and ``rows`` of each, as of :class:`sim.core_times.CoreTimes`.
    clock_mhz : float
        Clock that makes µs, the unit of the format, of cycles.

    Returns
    -------
    dict
        The trace, to be written as JSON. Cycles are in the arguments of each event.
    """
    events = [*_names(times), *_layers(times, clock_mhz)]
    for each in times:
        place = each["core"] + 1
        events.append(_event(each["layer"], place, _WORK, each["begin"], each["end"], clock_mhz))
        starts = [each["begin"], *each["rows"][:-1]]
        for number, (start, end) in enumerate(zip(starts, each["rows"], strict=True)):
            events.append(_event(f"row {number}", place, _LANES, start, end, clock_mhz, layer=each["layer"]))
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
    for core in sorted({each["core"] for each in times}):
        yield _name("process_name", f"core {core}", core + 1, 0)
        yield _name("thread_name", "dispatcher and PEs", core + 1, _WORK)
        yield _name("thread_name", "lanes", core + 1, _LANES)


def _layers(times: list[dict[str, Any]], clock_mhz: float) -> Iterator[dict[str, Any]]:
    """Each layer, from when its cores begin to when the last has ended; what the sequencer takes before each."""
    ended = 0
    for layer in dict.fromkeys(each["layer"] for each in times):
        own = [each for each in times if each["layer"] == layer]
        begin, end = min(each["begin"] for each in own), max(each["end"] for each in own)
        yield _event(f"before {layer}", _RUN, _SEQUENCER, ended, begin, clock_mhz)
        yield _event(layer, _RUN, _WHOLE, begin, end, clock_mhz)
        ended = end


def _name(kind: str, text: str, process: int, thread: int) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": process, "tid": thread, "args": {"name": text}}


def _event(name: str, process: int, thread: int, begin: int, end: int, clock_mhz: float, **more: Any) -> dict[str, Any]:
    place = {"name": name, "ph": "X", "pid": process, "tid": thread}
    return place | {
        "ts": begin / clock_mhz,
        "dur": (end - begin) / clock_mhz,
        "args": {"from": begin, "to": end, **more},
    }
