"""The cocotb side of RTL runs: executed inside the simulator process, see :mod:`offramp.rtl.run`."""

import os
import random
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.task import Task
from cocotb.triggers import ClockCycles, First, RisingEdge, Timer
from cocotb.utils import get_sim_time

from fpga.driver import Answer, DeviceError, HostOperation, load_bundle, reply_length
from fpga.runs import RunOutcome, patience, run_batch, run_image
from hw.network.exits import Conditions
from hw.program.bits import decode
from hw.program.bundle import bundle_of
from hw.program.isa import Burst
from hw.program.program import Program
from hw.program.protocol import Reply
from hw.weight_source import WeightSource
from offramp.rtl.job import JOB, PROGRESS, BatchOutcome, Job, LayerTime, save_outcomes

__all__ = ["ExternalMemory", "HostLink", "RunsDone", "start", "verify_images"]

#: Clock period, nanoseconds.
_PERIOD = 10


class HostLink:
    """Drives the host streams of the accelerator, with random stalls on both if asked.

    Parameters
    ----------
    dut : handle
    stall : float
        Probability that a side of a stream pauses in a cycle, 0 to below 1.
    seed : int

    Attributes
    ----------
    patience : int
        Cycles that may pass before a word goes either way, where one is waited for.
    """

    def __init__(self, dut: Any, *, stall: float = 0.0, seed: int = 0):
        # Handles: to look one up takes as long as to read it.
        self._clock, self._reset = dut.clk, dut.rst
        self._i_valid, self._i_ready, self._i_payload = dut.i__valid, dut.i__ready, dut.i__payload
        self._o_valid, self._o_ready, self._o_payload = dut.o__valid, dut.o__ready, dut.o__payload
        self._stall = stall
        self._random = random.Random(seed)
        self._moved = 0  # words that have gone either way
        self.patience = 1 << 31
        #: Clock cycles in which the first words of sendings went, and of results came.
        self.sent: list[int] = []
        self.results: list[int] = []
        self._asked = 0
        #: Told each record of a layer and each result when it comes.
        self.told: Callable[[Reply], None] = lambda reply: None
        #: Of each layer that a record came of, simulator time of the last sending before, and of the record.
        self.layers: list[tuple[int, int]] = []

    async def reset(self, cycles: int = 2) -> None:
        """Hold reset, streams idle."""
        self._i_valid.value = 0
        self._o_ready.value = 0
        self._reset.value = 1
        await ClockCycles(self._clock, cycles)
        self._reset.value = 0

    async def _raise(self, flag: Any, first: bool) -> None:
        """Raise this side's flag for the next word, after a pause if asked; without pauses it stays high in between."""
        if self._stall:
            flag.value = 0
            while self._random.random() < self._stall:
                await RisingEdge(self._clock)
        if first or self._stall:
            flag.value = 1

    async def _edge_with(self, flag: Any) -> None:
        """Until a clock edge at which the flag is high, without waking up in every cycle."""
        await RisingEdge(self._clock)
        while not int(flag.value):
            await RisingEdge(flag)
            await RisingEdge(self._clock)

    async def send(self, words: list[int]) -> None:
        """Transfer words to the accelerator."""
        for number, word in enumerate(words):
            await self._raise(self._i_valid, number == 0)
            self._i_payload.value = word
            await self._edge_with(self._i_ready)
            self._moved += 1
            if number == 0:
                self.sent.append(_cycle())
                self._asked = get_sim_time("step")
        if words:
            self._i_valid.value = 0

    async def _word(self, first: bool) -> int:
        await self._raise(self._o_ready, first)
        await self._edge_with(self._o_valid)
        self._moved += 1
        return int(self._o_payload.value)

    async def receive(self) -> Answer:
        """The next reply."""
        words = [await self._word(True)]
        came, time = _cycle(), get_sim_time("step")
        for _ in range(reply_length(words[0])):
            words.append(await self._word(False))
        self._o_ready.value = 0
        answer = Answer.from_words(words)
        if answer.reply is Reply.RESULT:
            self.results.append(came)
        if answer.reply is Reply.LAYER:
            self.layers.append((self._asked, time))
        self.told(answer.reply)
        return answer

    async def perform(self, operation: HostOperation) -> Any:
        """Carry out a protocol operation; returns its outcome when all its words are sent.

        Raises
        ------
        TimeoutError
            When the accelerator neither takes nor sends a word for longer than :attr:`patience`.
        """
        sending = cocotb.start_soon(self.send([]))
        try:
            transaction = next(operation)
            while True:
                sending = cocotb.start_soon(self._send_after(sending, transaction.words))
                answers = [await self._in_time(self.receive()) for _ in range(transaction.replies)]
                transaction = operation.send(answers)
        except StopIteration as finished:
            await self._in_time(sending)
            return finished.value

    async def _in_time(self, work: Task[Any] | Coroutine[Any, Any, Any]) -> Any:
        """What a coroutine or task returns, as long as words move."""
        task = work if isinstance(work, Task) else cocotb.start_soon(work)
        while not task.done():
            moved = self._moved
            await First(task, Timer(self.patience * _PERIOD, "ns"))
            if not task.done() and self._moved == moved:
                task.cancel()
                raise TimeoutError(f"the accelerator must take or send a word within {self.patience} cycles")
        return task.result()

    async def _send_after(self, former: Task[None], words: list[int]) -> None:
        await former
        await self.send(words)


class RunsDone:
    """Keeps writing how many runs are done, and the share of the one under way, into the file that is looked at.

    Attributes
    ----------
    layers : int
        Of the program that runs.
    """

    def __init__(self, folder: Path):
        self._path = folder / PROGRESS
        self._runs = self._records = 0
        self.layers = 1

    def told(self, reply: Reply) -> None:
        """Count a record of a layer, or a result."""
        if reply is Reply.LAYER:
            self._records += 1
        elif reply is Reply.RESULT:
            self._runs, self._records = self._runs + 1, 0
        self._path.write_text(f"{self._runs + min(self._records / self.layers, 0.99):.2f}")


def _cycle() -> int:
    return round(get_sim_time("ns")) // _PERIOD


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

    def __init__(self, dut: Any, source: WeightSource, *, stall: float = 0.0, seed: int = 0):
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


async def start(dut: Any, *, stall: float = 0.0, seed: int = 0) -> HostLink:
    """Clock and reset the accelerator; returns a link to it."""
    # In C: with a clock in Python a run takes nearly twice as long.
    Clock(dut.clk, _PERIOD, unit="ns", impl="gpi").start()
    link = HostLink(dut, stall=stall, seed=seed)
    await link.reset()
    return link


@cocotb.test()
async def verify_images(dut: Any) -> None:
    """Do the work of the job folder, and write what the accelerator reported."""
    folder = Path(os.environ[JOB])
    job = Job.load(folder)
    link = await start(dut, stall=job.stall, seed=job.seed)
    memory = None
    if job.work[0][0].config.loader:
        memory = ExternalMemory(dut, job.source, stall=job.stall, seed=job.seed)
        cocotb.start_soon(memory.serve())
    outcomes: list[list[RunOutcome]] = [[] for _ in job.work]
    layers: list[LayerTime] = []
    order = [(which, number) for which, (_, images) in enumerate(job.work) for number in range(len(images))]
    done = RunsDone(folder)
    link.told = done.told
    if job.together:
        await _load(link, [program for program, _ in job.work], job.conditions)
        order.sort(key=lambda pair: pair[1])
    for which, number in order:
        program, images = job.work[which]
        done.layers = len(program.commands)
        if not job.together and number == 0:
            await _load(link, [program], job.conditions[which : which + 1])
        if memory is not None and (number == 0 or job.together):
            memory.hold(program)
        options: dict[str, Any] = {"report": True, "step": job.step, "number": number}
        options["conditions"] = job.conditions[which]
        program_number = which if job.together else 0
        outcome = await link.perform(run_image(program, images[number], program_number=program_number, **options))
        outcomes[which].append(outcome)
        for record, (first, last) in zip(outcome.layers, link.layers, strict=True):
            layers.append(LayerTime(which, record["index"], first, last))
        link.layers.clear()
    batches = []
    for which, (program, _) in enumerate(job.work if job.together else []):
        if memory is not None:
            memory.hold(program)
        batches.append(await _batch(link, job, which))
    save_outcomes(folder, outcomes, batches, layers)


async def _load(link: HostLink, programs: list[Program], conditions: list[Conditions]) -> None:
    """Load programs together, and know how long they may take."""
    bundle = bundle_of(programs)
    link.patience = max(patience(bundle, each) for each in conditions)
    await link.perform(load_bundle(bundle))


async def _batch(link: HostLink, job: Job, number: int) -> BatchOutcome:
    """The images of a program back to back, behind another run of it."""
    program, images = job.work[number]
    await link.perform(run_image(program, images[0], program_number=number))
    link.sent.clear()
    link.results.clear()
    runs = await link.perform(run_batch([(number, codes) for codes in images], conditions=job.conditions[number]))
    for run in runs:
        if isinstance(run, DeviceError):
            raise run
    return BatchOutcome(outcomes=runs, results=[cycle - link.sent[0] for cycle in link.results])
