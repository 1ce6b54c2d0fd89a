"""Runs a unit in Amaranth's simulator, with stimulus that can be repeated to the bit.

A test hands over a *build* function that makes unit, testbenches and final check from one random generator. A passing
run writes nothing; after a failure everything is built anew from the same seed and run again with a waveform.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from amaranth.hdl import Elaboratable
from amaranth.sim import Simulator

__all__ = ["Bench", "always", "receive", "seldom", "send", "simulate"]

_PERIOD = 1e-6


@dataclass(kw_only=True)
class Bench:
    """What one run needs.

    Attributes
    ----------
    dut : Elaboratable
        Not elaborated yet.
    testbenches : list of async functions of the simulator context
        The run ends when all have returned.
    background : list of async functions
        They may go on for ever: observers, random ``ready``.
    check : function
        Called after the run, for what only the whole record shows.
    """

    dut: Elaboratable
    testbenches: list[Callable[[Any], Awaitable[None]]]
    background: list[Callable[[Any], Awaitable[None]]] = field(default_factory=list)
    check: Callable[[], None] = lambda: None


def simulate(build: Callable[[Random], Bench], *, seed: int, folder: Path, max_cycles: int = 20_000) -> None:
    """Build and run a bench.

    Raises
    ------
    TimeoutError
        When the testbenches haven't returned after ``max_cycles``.
    Exception
        Whatever a testbench or the check raised, with a note of the seed and of the waveform, which is in ``folder``.
    """
    try:
        _run(build(Random(seed)), max_cycles, None)
    except Exception as error:
        waveform = folder / f"seed_{seed}.vcd"
        with suppress(type(error)):
            _run(build(Random(seed)), max_cycles, waveform)
        error.add_note(f"seed {seed}, waveform {waveform}")
        raise


def _run(bench: Bench, max_cycles: int, waveform: Path | None) -> None:
    simulator = Simulator(bench.dut)
    simulator.add_clock(_PERIOD)
    for testbench in bench.testbenches:
        simulator.add_testbench(testbench)
    for testbench in bench.background:
        simulator.add_testbench(testbench, background=True)

    async def watchdog(ctx):
        await ctx.delay(max_cycles * _PERIOD)
        raise TimeoutError(f"the testbenches still wait after {max_cycles} cycles")

    simulator.add_testbench(watchdog, background=True)
    with ExitStack() as stack:
        if waveform is not None:
            stack.enter_context(simulator.write_vcd(str(waveform)))
        simulator.run()
        bench.check()


def always() -> Iterator[bool]:
    """Never stalls."""
    while True:
        yield True


def seldom(rng: Random, share: float) -> Iterator[bool]:
    """True in a random share of the cycles."""
    while True:
        yield rng.random() < share


async def send(ctx: Any, stream: Any, payloads: Iterable[Any], go: Iterator[bool]) -> None:
    """Put payloads into a stream; each is first offered in a cycle in which ``go`` is true, and then stays."""
    for payload in payloads:
        while not next(go):
            await ctx.tick()
        ctx.set(stream.payload, payload)
        ctx.set(stream.valid, 1)
        taken = False
        while not taken:
            _, _, taken = await ctx.tick().sample(stream.ready)
        ctx.set(stream.valid, 0)


async def receive(ctx: Any, stream: Any, count: int, go: Iterator[bool]) -> list[Any]:
    """Take payloads from a stream, ready in the cycles in which ``go`` is true."""
    found: list[Any] = []
    while len(found) < count:
        ready = next(go)
        ctx.set(stream.ready, ready)
        _, _, valid, payload = await ctx.tick().sample(stream.valid, stream.payload)
        if valid and ready:
            found.append(payload)
    ctx.set(stream.ready, 0)
    return found
