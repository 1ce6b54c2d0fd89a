"""The cocotb side of RTL runs: executed inside the simulator process, see :mod:`offramp.rtl`."""

import os
import random
from collections import deque
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge

from fpga.driver import Answer, Operation, RunOutcome, load_program, reply_length, run_image
from hw.isa import Burst
from hw.program import Program
from hw.words import decode
from offramp.rtl_job import JOB, Job, save_outcomes
from sim import WeightSource

__all__ = ["ExternalMemory", "HostLink", "start", "verify_images"]


class HostLink:
    """Drives the host streams of the accelerator, with random stalls on both if asked.

    Parameters
    ----------
    dut : handle
    stall : float
        Probability that a side of a stream pauses in a cycle, 0 to below 1.
    seed : int
    """

    def __init__(self, dut, *, stall: float = 0.0, seed: int = 0):
        self._dut = dut
        self._stall = stall
        self._random = random.Random(seed)

    async def reset(self, cycles: int = 2) -> None:
        """Hold reset, streams idle."""
        self._dut.i__valid.value = 0
        self._dut.o__ready.value = 0
        self._dut.rst.value = 1
        await ClockCycles(self._dut.clk, cycles)
        self._dut.rst.value = 0

    async def _pause(self) -> None:
        while self._random.random() < self._stall:
            await RisingEdge(self._dut.clk)

    async def _edge_with(self, flag) -> None:
        """Until a clock edge at which the flag is high, without waking up in every cycle."""
        await RisingEdge(self._dut.clk)
        while not int(flag.value):
            await RisingEdge(flag)
            await RisingEdge(self._dut.clk)

    async def send(self, words: list[int]) -> None:
        """Transfer words to the accelerator."""
        dut = self._dut
        for word in words:
            await self._pause()
            dut.i__payload.value = word
            dut.i__valid.value = 1
            await self._edge_with(dut.i__ready)
            dut.i__valid.value = 0

    async def _word(self) -> int:
        await self._pause()
        self._dut.o__ready.value = 1
        await self._edge_with(self._dut.o__valid)
        word = int(self._dut.o__payload.value)
        self._dut.o__ready.value = 0
        return word

    async def receive(self) -> Answer:
        """The next reply."""
        words = [await self._word()]
        for _ in range(reply_length(words[0])):
            words.append(await self._word())
        return Answer.from_words(words)

    async def perform(self, operation: Operation):
        """Carry out a protocol operation; returns its outcome."""
        try:
            exchange = next(operation)
            while True:
                sending = cocotb.start_soon(self.send(exchange.words))
                answers = [await self.receive() for _ in range(exchange.replies)]
                await sending
                exchange = operation.send(answers)
        except StopIteration as finished:
            return finished.value


class ExternalMemory:
    """Answers bursts at a constant rate, or pauses at random if asked.

    Its time passes in the cycles in which the accelerator would take a beat, as the accelerator's own does.

    Parameters
    ----------
    source : WeightSource
    stall : float
        Probability that it doesn't take a request or hasn't a beat in a cycle, 0 to below 1.
    seed : int
    """

    def __init__(self, dut, source: WeightSource, *, stall: float = 0.0, seed: int = 0):
        self._dut = dut
        self._source = source
        self._stall = stall
        self._random = random.Random(seed)
        self._beats: list[int] = []
        dut.request__ready.value = 0
        dut.weights__valid.value = 0

    def hold(self, program: Program) -> None:
        """Put a program's lists into it."""
        words = program.images["weights"].reshape(-1, program.config.loader).tolist()
        self._beats = [sum(word << 32 * n for n, word in enumerate(beat)) for beat in words]

    def _goes(self) -> bool:
        return self._random.random() >= self._stall

    async def serve(self) -> None:
        """Answer forever."""
        dut, source = self._dut, self._source
        queue: deque[tuple[int, int]] = deque()  # beats to deliver, and when each is there
        now, following, offered, ready = 0, 0, False, True
        dut.request__ready.value = 1
        while True:
            await RisingEdge(dut.clk)
            # What was so in the cycle before this edge.
            took = int(dut.weights__ready.value)
            if offered and took:
                queue.popleft()
                offered = False
            if ready and int(dut.request__valid.value):
                burst = decode(Burst, words_of_value(int(dut.request__payload.value)))
                first = max(now + source.latency, following)
                for n in range(burst["beats"]):
                    queue.append((self._beats[burst["address"] + n], first + n * source.cycles_per_beat))
                following = first + burst["beats"] * source.cycles_per_beat
            now += took
            if not offered:
                offered = bool(queue) and queue[0][1] <= now and self._goes()
                dut.weights__valid.value = int(offered)
                if offered:
                    dut.weights__payload.value = queue[0][0]
            ready = self._goes()
            dut.request__ready.value = int(ready)
            if not queue and following <= now and not self._stall and not int(dut.request__valid.value):
                await RisingEdge(dut.request__valid)


def words_of_value(value: int) -> list[int]:
    """A burst's bits as words of 32."""
    return [value & 0xFFFF_FFFF, value >> 32]


async def start(dut, *, stall: float = 0.0, seed: int = 0) -> HostLink:
    """Clock and reset the accelerator; returns a link to it."""
    Clock(dut.clk, 10, unit="ns").start()
    link = HostLink(dut, stall=stall, seed=seed)
    await link.reset()
    return link


@cocotb.test()
async def verify_images(dut) -> None:
    """Do the work of the job folder, and write what the accelerator reported."""
    folder = Path(os.environ[JOB])
    job = Job.load(folder)
    link = await start(dut, stall=job.stall, seed=job.seed)
    memory = None
    if job.work[0][0].config.loader:
        memory = ExternalMemory(dut, job.source, stall=job.stall, seed=job.seed)
        cocotb.start_soon(memory.serve())
    outcomes: list[list[RunOutcome]] = []
    done = 0
    for program, images in job.work:
        await link.perform(load_program(program))
        if memory is not None:
            memory.hold(program)
        outcomes.append([])
        for number, codes in enumerate(images):
            operation = run_image(program, codes, report=True, step=job.step, conditions=job.conditions, number=number)
            outcomes[-1].append(await link.perform(operation))
            done += 1
            (folder / "progress").write_text(str(done))
    save_outcomes(folder, outcomes)
