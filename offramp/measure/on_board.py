"""Runs a program on a board, real or simulated, and compares every result with golden model and simulator."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from fpga.baud import FRAME_BITS, WORD_BYTES
from fpga.host.noise import NoisyPort
from fpga.host.serial_link import LinkError, Port, SerialLink, open_port
from fpga.host.session import BoardSession, identify
from fpga.links import link_of
from fpga.runs import RunOutcome
from fpga.throughput import throughput
from hw.config import PRESETS, AcceleratorConfig
from hw.program.bundle import bundle_of
from hw.program.program import Program
from models.datasets.sources import Progress
from models.integer.golden import Result, run
from offramp.rtl.simulated_board import BIT_CYCLES, SimulatedBoard
from sim import Simulation, simulate, worst_case

__all__ = ["AttachedBoard", "attached_config", "bench", "check", "real", "simulated"]

#: What of a result are values; the rest is cycles, and what is counted of every layer.
_VALUES = {"class", "exit", "margin"}
_COUNTERS = {"cycles": "layer_cycles", "products": "products", "stalls": "stalls", "waited": "waited"}
#: Differences that are described; the rest is counted.
_DESCRIBED = 20
#: How often a board is asked what it is, at most, and the seconds that it may take to say so.
_ASKED = 3
_PATIENCE = 1.0
#: Clock that times of a simulated board are for, MHz.
_CLOCK_MHZ = 50.0


@dataclass(frozen=True, kw_only=True)
class AttachedBoard:
    """A board that is there to be used.

    Attributes
    ----------
    name : str
        Of its port, or what it is.
    connect : callable
        Opens its port.
    clock_mhz, baud : float, int
        As the host has to reckon with.
    nominal : (float, int)
        The same as its times are for.
    seconds : callable
        Time on the board.
    link : str
        As of :func:`fpga.links.link_of`.
    """

    name: str
    connect: Callable[[], Port]
    clock_mhz: float
    baud: int
    nominal: tuple[float, int]
    seconds: Callable[[], float]
    link: str = "serial"

    def noisy(self, share: float, seed: int) -> "AttachedBoard":
        """The same with noise on its line (:class:`fpga.host.noise.NoisyPort`)."""
        generator = random.Random(seed)
        fields = vars(self) | {"connect": lambda: NoisyPort(self.connect(), share, generator)}
        return AttachedBoard(**fields)


def real(port: str, clock_mhz: float, baud: int, link: str = "serial") -> AttachedBoard:
    """The board behind a serial port; one of USB is as fast as its bus, at whatever rate it is opened."""
    carrier = link_of(link, baud)
    return AttachedBoard(
        name=port,
        connect=lambda: open_port(port, baud),
        clock_mhz=clock_mhz,
        baud=round(carrier.words_per_second * WORD_BYTES * FRAME_BITS),
        nominal=(clock_mhz, baud),
        seconds=time.monotonic,
        link=link,
    )


@contextmanager
def simulated(config: AcceleratorConfig, progress: Progress | None = None) -> Iterator[AttachedBoard]:
    """A simulated board; its times are those of a board at 50 MHz whose line is as fast as it can be."""
    with SimulatedBoard(config, progress) as board:
        yield AttachedBoard(
            name=f"simulated, {BIT_CYCLES} cycles a bit",
            connect=board.connect,
            clock_mhz=board.clock_mhz,
            baud=board.baud,
            nominal=(_CLOCK_MHZ, round(_CLOCK_MHZ * 1e6 / BIT_CYCLES)),
            seconds=lambda: board.cycles() / (_CLOCK_MHZ * 1e6),
        )


def attached_config(board: AttachedBoard) -> str:
    """The preset that a board holds; where the answer is damaged, it is asked again.

    Raises
    ------
    ValueError
        When it is another config.
    """
    for tries_left in reversed(range(_ASKED)):
        port = SerialLink(board.connect(), baud=board.baud, patience=_PATIENCE)
        try:
            digest = identify(port)
        except LinkError:
            if not tries_left:
                raise
            continue
        finally:
            port.close()
        for name, config in PRESETS.items():
            if config.word_digest == digest:
                return name
    raise ValueError(f"{board.name}: the board must hold one of {', '.join(PRESETS)}, not a config of {digest:08x}")


def _session(board: AttachedBoard, program: Program, note: Callable[[str], None]) -> BoardSession:
    held = link_of(board.link, board.baud).held
    how: dict[str, Any] = {"clock_mhz": board.clock_mhz, "baud": board.baud, "held": held, "note": note}
    return BoardSession(board.connect, bundle_of([program]), busy=worst_case(program), tries=20, **how)


def check(
    board: AttachedBoard,
    program: Program,
    codes: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    cycles: bool = False,
    records: bool = False,
    progress: Progress | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Run images on a board, and compare every result on the spot with the golden model.

    Parameters
    ----------
    codes : int8 array (images, height, width, channels)
    labels : int array (images,), optional
    cycles : bool
        Also compare the cycles of every run with the simulator's.
    records : bool
        Also ask for the counters of every layer, and compare them and the cycles with the simulator's.
    note : callable
        Told in words what went wrong and was mended.

    Returns
    -------
    dict
        ``values_equal`` (class, exit, margin), ``cycles_equal`` (with ``records`` all counters; None if not asked for),
        ``images``, ``differing``, ``mismatches``: the first in words, ``accuracy``, ``exit_share``, ``mean_cycles``,
        ``seconds``, ``images_per_second``, ``mended``: what went wrong on the way, ``per_image``; with ``records``
        ``layers``: of each image, of each layer that was run, its name and its counters.

    Raises
    ------
    fpga.host.serial_link.LinkError
        When the board is given up.
    """
    golden = run(program.network, codes)
    timing = simulate(program, codes, golden=golden) if cycles or records else None
    expected = _expected(golden, timing)

    def differences(number: int, outcome: RunOutcome) -> dict[str, tuple[int, int]]:
        return _differences(outcome, expected, number, timing if records else None)

    if progress is not None:
        progress(0, 0, "loading")
    with _session(board, program, note) as session:
        begun = board.seconds()
        outcomes = session.run(
            [(0, image) for image in codes],
            report=records,
            expected=lambda number, outcome: not differences(number, outcome),
            done=lambda count: progress(count, len(codes), "on the board") if progress else None,
        )
        seconds = board.seconds() - begun
    found = [differences(number, outcome) for number, outcome in enumerate(outcomes)]
    return {
        **_reported(outcomes, labels, len(program.network.exits)),
        **_compared(found),
        "cycles_equal": None if timing is None else all(each.keys() <= _VALUES for each in found),
        "seconds": seconds,
        "images_per_second": len(codes) / seconds,
        "mended": session.mended,
        **({"layers": [_counters(program, outcome) for outcome in outcomes]} if records else {}),
    }


def _expected(golden: Result, timing: Simulation | None) -> dict[str, np.ndarray]:
    """What a board must say of each image, int arrays (images,); cycles where they are known."""
    margins = golden.margins[np.arange(len(golden.margins)), golden.exit_index]
    values = {"class": golden.classes, "exit": golden.exit_index, "margin": margins}
    return values if timing is None else values | {"cycles": timing.cycles}


def _differences(
    outcome: RunOutcome, expected: dict[str, np.ndarray], number: int, counted: Simulation | None = None
) -> dict[str, tuple[int, int]]:
    """What differs of an image, as found and as expected; with ``counted`` the counters of layers, too."""
    said = {"class": outcome.label, "exit": outcome.exit, "margin": outcome.margin, "cycles": outcome.cycles}
    found = {name: said[name] for name in expected}
    right = {name: int(values[number]) for name, values in expected.items()}
    if counted is not None:
        found |= {f"{name} of layer {each['index']}": each[name] for each in outcome.layers for name in _COUNTERS}
        right |= _simulated_counters(counted, number)
    return {
        name: (found.get(name, 0), right.get(name, 0))
        for name in dict.fromkeys([*right, *found])
        if found.get(name, 0) != right.get(name, 0)
    }


def _simulated_counters(timing: Simulation, number: int) -> dict[str, int]:
    """What must be counted of every layer that an image runs."""
    return {
        f"{name} of layer {index}": int(getattr(timing, field)[number, index])
        for index in np.flatnonzero(timing.layer_cycles[number])
        for name, field in _COUNTERS.items()
    }


def _counters(program: Program, outcome: RunOutcome) -> list[dict[str, Any]]:
    """What a board counted in each layer of a run, with the layer's name."""
    counted = [{name: value for name, value in each.items() if name != "index"} for each in outcome.layers]
    names = [program.commands[each["index"]].name for each in outcome.layers]
    return [{"layer": name, **each} for name, each in zip(names, counted, strict=True)]


def _compared(found: list[dict[str, tuple[int, int]]]) -> dict[str, Any]:
    """Figures of what differs in each image, as found and as expected."""
    described = [
        f"image {number}: {name}: board {had}, expected {right}"
        for number, each in enumerate(found)
        for name, (had, right) in each.items()
    ]
    return {
        "values_equal": not any(each.keys() & _VALUES for each in found),
        "differing": [number for number, each in enumerate(found) if each],
        "mismatches": described[:_DESCRIBED],
    }


def _reported(outcomes: list[RunOutcome], labels: np.ndarray | None, exits: int) -> dict[str, Any]:
    """Figures of what a board said of images, of a network of so many exits."""
    classes, taken = (np.array([getattr(outcome, name) for outcome in outcomes]) for name in ("label", "exit"))
    return {
        "images": len(outcomes),
        "accuracy": None if labels is None else float((classes == labels).mean()),
        "exit_share": [float((taken == number).mean()) for number in range(exits)],
        "mean_cycles": float(np.mean([outcome.cycles for outcome in outcomes])),
        "per_image": {
            **({} if labels is None else {"label": labels.tolist()}),
            "class": classes.tolist(),
            "exit": taken.tolist(),
            "margin": [outcome.margin for outcome in outcomes],
            "cycles": [outcome.cycles for outcome in outcomes],
        },
    }


def bench(
    board: AttachedBoard,
    program: Program,
    codes: np.ndarray,
    *,
    progress: Progress | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure images a second on a board, back to back and one by one, against what clock and line allow.

    A result that isn't that of golden model and simulator may have been changed on the line, and is asked for again;
    what comes twice is what the board computes.

    Returns
    -------
    dict
        ``images``, ``mean_cycles``, ``expected`` (:class:`fpga.throughput.Throughput`), ``back_to_back`` and
        ``one_by_one``: images per second, ``load_seconds``, ``mended``; ``values_equal``, ``cycles_equal``,
        ``differing`` and ``mismatches`` as of :func:`check`, of either way of sending.

    Raises
    ------
    fpga.host.serial_link.LinkError
        When the board is given up.
    """
    runs: Sequence[tuple[int, np.ndarray]] = [(0, image) for image in codes]
    total = 2 * len(runs)
    golden = run(program.network, codes)
    timing = simulate(program, codes, golden=golden)
    expected = _expected(golden, timing)

    def right_from(first: int) -> Callable[[int, RunOutcome], bool]:
        """What tells a right outcome, of images from this one on."""
        return lambda number, outcome: not _differences(outcome, expected, first + number)

    def done(count: int) -> None:
        if progress is not None:
            progress(count, total, "on the board")

    if progress is not None:
        progress(0, 0, "loading")
    begun = board.seconds()
    with _session(board, program, note) as session:
        loaded = board.seconds()
        in_a_row = session.run(runs, expected=right_from(0), done=done)
        together = board.seconds()
        outcomes: list[RunOutcome] = []
        for number, each in enumerate(runs):
            outcomes += session.run([each], expected=right_from(number))
            done(len(runs) + len(outcomes))
        alone = board.seconds()
    clock_mhz, baud = board.nominal
    cycles = float(np.mean([outcome.cycles for outcome in outcomes]))
    most = throughput(program.network.input.shape, cycles, clock_mhz=clock_mhz, baud=baud, link=board.link)
    found = [
        _differences(after, expected, number) | _differences(before, expected, number)
        for number, (before, after) in enumerate(zip(in_a_row, outcomes, strict=True))
    ]
    return {
        **_compared(found),
        "cycles_equal": all(each.keys() <= _VALUES for each in found),
        "images": len(runs),
        "mean_cycles": cycles,
        "load_seconds": loaded - begun,
        "back_to_back": len(runs) / (together - loaded),
        "one_by_one": len(runs) / (alone - together),
        "expected": most.to_dict(),
        "mended": session.mended,
    }
