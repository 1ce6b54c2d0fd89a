"""Runs a unit in Amaranth's simulator, with stimulus that can be repeated to the bit.

A test hands over a *build* function that makes unit, testbenches and final check from one random generator. A passing
run writes nothing; after a failure everything is built anew from the same seed and run again with a waveform.

Most of a run's time would go into elaborating and compiling the unit: `reused` gives all benches of equal units the
same one, which then is compiled once, and reset before each bench.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

from amaranth.hdl import Elaboratable, MemoryData, Value
from amaranth.sim import Simulator

__all__ = ["Bench", "always", "receive", "reused", "seldom", "send", "simulate"]

_PERIOD = 1e-6
#: Testbenches of a bench at most, and as many in the background.
_PLACES = 6


@lru_cache(maxsize=32)
def reused(unit: Callable[..., Elaboratable], *arguments: Any, **options: Any) -> Any:
    """The one unit that was made of these arguments; a bench must leave nothing in it but values of its signals."""
    return unit(*arguments, **options)


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
    memories : dict
        What memories of the unit hold when the run begins, from row 0; other rows and memories: their initial values.
    """

    dut: Elaboratable
    testbenches: list[Callable[[Any], Awaitable[None]]]
    background: list[Callable[[Any], Awaitable[None]]] = field(default_factory=list)
    check: Callable[[], None] = lambda: None
    memories: dict[MemoryData, list[Any]] = field(default_factory=dict)


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
        reused.cache_clear()
        _machine.cache_clear()
        waveform = folder / f"seed_{seed}.vcd"
        with suppress(type(error)):
            _run(build(Random(seed)), max_cycles, waveform)
        error.add_note(f"seed {seed}, waveform {waveform}")
        raise


class _Context:
    """A testbench's context that sets only what changes: to set anything evaluates the whole unit anew."""

    def __init__(self, ctx: Any) -> None:
        self._ctx = ctx

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)

    def set(self, target: Any, value: Any) -> None:
        if not (isinstance(target, Value) and isinstance(value, int) and self._ctx.get(target) == value):
            self._ctx.set(target, value)


class _Machine:
    """A unit in the simulator, for one bench after the other."""

    def __init__(self, dut: Elaboratable) -> None:
        self._simulator = Simulator(dut)
        self._simulator.add_clock(_PERIOD)
        self._simulator.add_testbench(self._fill)
        for background in (False, True):
            for place in range(_PLACES):
                self._simulator.add_testbench(self._place(background, place), background=background)
        self._simulator.add_testbench(self._watch, background=True)
        self._bench: Bench | None = None
        self._max_cycles = 0

    def run(self, bench: Bench, max_cycles: int, waveform: Path | None) -> None:
        """Run a bench from reset."""
        assert max(len(bench.testbenches), len(bench.background)) <= _PLACES
        if self._bench is not None:
            self._simulator.reset()
        self._bench, self._max_cycles = bench, max_cycles
        with ExitStack() as stack:
            if waveform is not None:
                stack.enter_context(self._simulator.write_vcd(str(waveform)))
            self._simulator.run()
            bench.check()

    def _place(self, background: bool, place: int) -> Callable[[Any], Awaitable[None]]:
        async def act(ctx):
            acts = self._bench.background if background else self._bench.testbenches
            if place < len(acts):
                await acts[place](_Context(ctx))

        return act

    async def _fill(self, ctx):
        for memory, values in self._bench.memories.items():
            for row, value in enumerate(values):
                _Context(ctx).set(memory[row], value)

    async def _watch(self, ctx):
        await ctx.delay(self._max_cycles * _PERIOD)
        raise TimeoutError(f"the testbenches still wait after {self._max_cycles} cycles")


@lru_cache(maxsize=32)
def _machine(dut: Elaboratable) -> _Machine:
    return _Machine(dut)


def _run(bench: Bench, max_cycles: int, waveform: Path | None) -> None:
    _machine(bench.dut).run(bench, max_cycles, waveform)


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
