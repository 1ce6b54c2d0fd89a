"""The cocotb side of RTL runs: executed inside the simulator process, see :mod:`offramp.rtl`."""

import os
import random
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge

from fpga.driver import Answer, Operation, RunOutcome, load_program, reply_length, run_image
from offramp.rtl_job import JOB, Job, save_outcomes

__all__ = ["HostLink", "start", "verify_images"]


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
    outcomes: list[list[RunOutcome]] = []
    done = 0
    for program, images in job.work:
        await link.perform(load_program(program))
        outcomes.append([])
        for number, codes in enumerate(images):
            operation = run_image(program, codes, report=True, step=job.step, conditions=job.conditions, number=number)
            outcomes[-1].append(await link.perform(operation))
            done += 1
            (folder / "progress").write_text(str(done))
    save_outcomes(folder, outcomes)
