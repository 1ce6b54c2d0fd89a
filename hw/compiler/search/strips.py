"""Cuts networks whose maps exceed the activation memories: some layers in a row make their maps strip by strip.

::

    image ──► conv ──► conv ──► conv ──► map        all three make the rows of the first strip, then of the second, ...
              strip    strip             whole

Each core has a band of the map that is made last, and makes it in strips; of the maps between, it makes the rows that
its strip needs, or its share of those that its neighbours need, too. These are maps of their own, which nothing needs
when the strip is done; rows at the edges of a strip are made again for the next one. What the first of the layers read
stays whole, and so does what the last ones make.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from hw.compiler.memory.memory_plan import Request, excess, plan
from hw.compiler.search.estimate import COMMAND_CYCLES
from hw.compiler.steps.partition import Rows, bands_of, join, most_bands, most_tiles, read_rows, window_words
from hw.compiler.steps.step import Step, Strip, makers_of, maps_of, readers_of
from hw.config import AcceleratorConfig
from hw.network.network import INPUT, Network
from hw.program.image_layout import most_described
from hw.program.tiles import divide
from hw.rules import ShortageError

__all__ = ["cut", "cuts_in_strips"]

#: Numbers of strips that are tried.
_STRIPS = tuple(1 << n for n in range(1, 8))
#: Runs of layers that are cut in a network.
_MOST_CUTS = 4
#: Ways that are offered: if none of them will do, something else is missing.
_OFFERED = 4


def cut(steps: Sequence[Step], first: int, last: int, bands: int, strips: int) -> list[Step] | None:
    """The steps with those from ``first`` to ``last`` (not included) done strip by strip, in so many bands.

    Returns
    -------
    list of Step or None
        None where it is impossible: a step needs all of its input at a time, makes too few rows or is in strips
        already, a map between is read by other steps too, or there is none.
    """
    segment, readers = steps[first:last], readers_of(steps)
    if any(step.select or step.raw or step.strip for step in segment):
        return None
    between = {step.writes for step in segment if any(first <= n < last for n in readers[step.writes])}
    heights = [step.result.output.shape[0] for step in segment if step.writes not in between]
    if not between or any(readers[name][-1] >= last for name in between) or min(heights) < bands * strips:
        return None
    found: list[Step] = []
    for number in range(strips):
        needed: dict[str, list[Rows]] = {}
        strip: list[Step] = []
        for step in reversed(segment):
            made = needed.get(step.writes)
            if made is None:
                whole = divide(0, step.result.output.shape[0], bands)
                made = [divide(*band, strips)[number] for band in whole]
            rows = _apart([band for band in made if band is not None])
            if rows is None:
                return None
            for name, read in ((step.reads, [step.kernel.reads(*band) for band in rows]), (step.residual, rows)):
                if name is not None:
                    others = needed.get(name, [None] * bands)
                    needed[name] = [join(pair) for pair in zip(others, read, strict=True)]
            strip.append(replace(step, strip=Strip(number, tuple(rows), frozenset(between))))
        found += reversed(strip)
    return [*steps[:first], *found, *steps[last:]]


def _apart(bands: Sequence[tuple[int, int]]) -> list[tuple[int, int]] | None:
    """The same rows, each in one band: overlapping bands share theirs evenly; None if there are too few."""
    found: list[tuple[int, int]] = []
    together = [bands[0]]
    for band in [*bands[1:], None]:
        if band is not None and band[0] < together[-1][1]:
            together.append(band)
            continue
        first, last = together[0][0], together[-1][1]
        if last - first < len(together):
            return None
        found += divide(first, last, len(together))
        together = [band] if band is not None else []
    return found


def cuts_in_strips(network: Network, steps: Sequence[Step], config: AcceleratorConfig) -> Iterator[list[Step]]:
    """Ways to cut the steps so that activation memories suffice where all else is cut in bands, the cheapest first.

    There is none if they suffice as it is; of more steps than layer and program memories can describe, none is offered.
    """
    best, short = list(steps), _shortage(network, steps, config)
    image = next(request for request in _requests(network, steps, config) if request.name == INPUT)
    if image.words > config.activation_words:
        return  # It stays whole.
    most = most_described(len(network.exits), config) - sum(step.select is not None for step in steps)
    for _ in range(_MOST_CUTS):
        if not short:
            return
        offered, least = 0, short
        for found in sorted(_cuts(best, most, config), key=lambda found: _cost(found, config)):
            missing = _shortage(network, found, config)
            if not missing:
                offered += 1
                yield found
            elif missing < least:
                closest, least = found, missing
            if offered == _OFFERED:
                return
        if offered or least == short:
            return
        best, short = closest, least


def _cuts(steps: Sequence[Step], most: int, config: AcceleratorConfig) -> list[list[Step]]:
    """The steps with each of their runs cut in every way that leaves no more than ``most``."""
    runs = [(first, last) for first in range(len(steps)) for last in range(first + 2, len(steps) + 1)]
    bands = [1 << n for n in range(config.cores.bit_length())]
    cuts = (
        cut(steps, first, last, count, strips)
        for first, last in runs
        for count in bands
        for strips in _STRIPS
        if len(steps) + (last - first) * (strips - 1) <= most
    )
    return [found for found in cuts if found is not None]


def _cost(steps: Sequence[Step], config: AcceleratorConfig) -> float:
    """Cycles of all products in the slowest core, were nothing zero but weights, and of the commands themselves."""
    cycles = 0.0
    for step in steps:
        bands = most_bands(step, config.cores)
        rows = max(last - first for first, last in bands_of(step, bands))
        products = rows * step.result.output.shape[1] * step.kernel.products
        cycles += COMMAND_CYCLES + products / config.pes / max(1, config.cores // bands)
    return cycles


def _requests(network: Network, steps: Sequence[Step], config: AcceleratorConfig) -> list[Request]:
    """What every map needs with the most bands of every step."""
    maps, readers = maps_of(network, steps), readers_of(steps)
    requests, cores = [], config.cores
    for name, first in makers_of(steps).items():
        reads = [read_rows(steps[n], name, most_tiles(steps[n], cores), cores) for n in readers[name]]
        windows = [join(rows[core] for rows in reads) for core in range(cores)]
        requests.append(
            Request(
                name=name,
                words=window_words(windows, maps[name].shape, config),
                first=first,
                last=max(readers[name], default=first),
                apart=frozenset(step.reads for step in steps if step.residual == name),
            )
        )
    return requests


def _shortage(network: Network, steps: Sequence[Step], config: AcceleratorConfig) -> int:
    """Words by which activation memories are too small with the most bands of every step."""
    requests = _requests(network, steps, config)
    missing = excess(requests, config)
    if not missing:
        try:
            plan(requests, config)
        except ShortageError as error:
            missing = error.words
    return missing
