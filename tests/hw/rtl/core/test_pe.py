from dataclasses import dataclass

import numpy as np
import pytest
from amaranth import Module, ResetInserter
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.compiler.memory.sparse import ListStore
from hw.config import AcceleratorConfig
from hw.rtl.core.pe import ProcessingElement
from tests.hw.simulate import Bench, always, receive, reused, seldom, send, simulate

CONFIG = AcceleratorConfig(pes=2, list_words=256, accumulators=64, accumulator_bits=28, job_queue=4, output_queue=4)
#: A dump keeps its pace if the queue covers the way of an accumulator from issue to transfer.
WIDE = CONFIG.replace(output_queue=16)
#: Accumulators of one output position.
SLOTS = 8
LISTS = 24
REACH = 12
#: Cycles from a push to the issue of the job's first entry, in an idle PE: queue, walker.
FIRST_ISSUE = 2
#: Cycles from the issue of an entry to its product.
PRODUCT = 3


@dataclass(frozen=True)
class Job:
    number: int
    value: int
    accumulator: int


@dataclass(frozen=True)
class Dump:
    accumulator: int


def random_lists(rng, shortest=0):
    """(weight, offset) lists that fill the memory to half."""
    lengths = [rng.choice((shortest, 1, 2, rng.randint(1, REACH))) for _ in range(LISTS)]
    return [
        [(rng.choice((-128, 127, rng.randrange(-128, 128))), offset) for offset in rng.sample(range(REACH), length)]
        for length in lengths
    ]


def random_tasks(rng, count, dumps=0.1):
    for _ in range(count):
        if rng.random() < dumps:
            yield Dump(rng.randrange(CONFIG.accumulators))
        else:
            yield Job(rng.randrange(LISTS), rng.randrange(-255, 256), rng.randrange(CONFIG.accumulators))
    for accumulator in range(0, CONFIG.accumulators, SLOTS):
        yield Dump(accumulator)


def model(lists, tasks):
    """What the dumps deliver, and the number of products; addresses wrap around."""
    accumulators, outputs, products = [0] * CONFIG.accumulators, [], 0
    for task in tasks:
        if isinstance(task, Dump):
            for address in range(task.accumulator, task.accumulator + SLOTS):
                outputs.append(accumulators[address % CONFIG.accumulators])
                accumulators[address % CONFIG.accumulators] = 0
        else:
            for weight, offset in lists[task.number]:
                accumulators[(task.accumulator + offset) % CONFIG.accumulators] += weight * task.value
            products += len(lists[task.number])
    return outputs, products


async def load(ctx, dut, lists, config):
    store = ListStore(config)
    nothing = np.zeros((0, 2), dtype=np.int64)
    for part in lists:
        store.append([np.array(part or nothing, dtype=np.int64), nothing], "test")
    words = [{"address": address, "data": int(word)} for address, word in enumerate(store.pack()[0])]
    await send(ctx, dut.load, words, always())


async def dispatch(ctx, dut, lists, tasks, go):
    """A dispatcher that serves this PE alone: looks lists up, and pushes what comes out of the lookup if it hits."""
    waiting = list(reversed(tasks))
    entering, reading, read, held, leaving = None, None, None, None, None
    advance = True
    while waiting or entering or reading or read or held or leaving:
        entering = entering or (waiting.pop() if waiting else None)
        dump, job = isinstance(leaving, Dump), isinstance(leaving, Job)
        if leaving:
            assert ctx.get(dut.dispatcher.hit) == (dump or len(lists[leaving.number]) > 0)
        target = (dump or job) and ctx.get(dut.dispatcher.hit)
        # All PEs wait for one that is blocked: none is without a list that hits.
        assert ctx.get(dut.dispatcher.hit) or not ctx.get(dut.dispatcher.blocked)
        wanted = next(go)
        push = target and wanted and not ctx.get(dut.dispatcher.blocked)
        pushed = bool(push or (wanted and not target))
        ctx.set(dut.lookup.number, entering.number if isinstance(entering, Job) else 0)
        ctx.set(dut.lookup.advance, advance)
        ctx.set(dut.lookup.pushed, pushed)
        ctx.set(dut.lookup.dump, isinstance(read if advance else held, Dump))
        ctx.set(dut.dispatcher.wanted, dump or job)
        if leaving:
            ctx.set(
                dut.dispatcher.job,
                {"dump": dump, "value": 0 if dump else leaving.value, "accumulator": leaving.accumulator},
            )
        await ctx.tick()
        if advance:
            entering, reading, read, held = None, entering, reading, read
        if pushed:
            leaving, held = held, None
        advance = pushed
    ctx.set(dut.dispatcher.wanted, 0)


class Watch:
    """Cycle numbers of everything that can be seen from outside, counted from the first observed cycle."""

    def __init__(self, dut):
        self._dut = dut
        self.pushes, self.products, self.outputs, self.clearing = [], [], [], []

    async def record(self, ctx):
        dut, cycle = self._dut, 0
        pushed = dut.lookup.pushed & dut.dispatcher.wanted & dut.dispatcher.hit
        signals = (pushed, dut.product, dut.o.valid & dut.o.ready, dut.clearing)
        while True:
            _, _, *seen = await ctx.tick().sample(*signals)
            for value, cycles in zip(seen, (self.pushes, self.products, self.outputs, self.clearing), strict=True):
                if value:
                    cycles.append(cycle)
            cycle += 1


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("pushing", "taking"), [(1.0, 0.2), (0.4, 0.9), (0.7, 0.5)])
def test_random_jobs_and_dumps_with_random_stalls(tmp_path, seed, pushing, taking):
    def build(rng):
        dut, lists = reused(ProcessingElement, CONFIG), random_lists(rng)
        tasks = list(random_tasks(rng, 120))
        outputs, products = model(lists, tasks)
        watch = Watch(dut)

        async def jobs(ctx):
            ctx.set(dut.dump_length, SLOTS)
            await load(ctx, dut, lists, CONFIG)
            await dispatch(ctx, dut, lists, tasks, seldom(rng, pushing))

        async def results(ctx):
            assert await receive(ctx, dut.o, len(outputs), seldom(rng, taking)) == outputs
            await ctx.tick().repeat(20)
            assert not ctx.get(dut.o.valid)

        def check():
            assert len(watch.products) == products

        return Bench(dut=dut, testbenches=[jobs, results], background=[watch.record], check=check)

    simulate(build, seed=seed, folder=tmp_path)


def test_a_full_queue_takes_a_job_for_each_that_leaves_it(tmp_path):
    """Behind a long job the queue is full; the short ones then leave it one a cycle, and as many come."""
    lists, short = [[(1, offset) for offset in range(REACH)], [(1, 0)]], 30
    tasks = [Job(0, 1, 0)] + [Job(1, 1, 0)] * short

    def build(rng):
        dut = reused(ProcessingElement, CONFIG)
        watch = Watch(dut)

        async def jobs(ctx):
            await load(ctx, dut, lists, CONFIG)
            await ctx.tick().until(~dut.clearing)
            await dispatch(ctx, dut, lists, tasks, always())
            await ctx.tick().repeat(2 * CONFIG.job_queue)

        def check():
            late = watch.pushes[CONFIG.job_queue + 2 :]
            assert late == list(range(late[0], late[0] + len(late)))
            # With the long job's last entry the first short one leaves the queue; ``blocked`` says so a cycle later.
            assert late[0] == watch.pushes[0] + FIRST_ISSUE + REACH + 1
            assert len(watch.products) == REACH + short

        return Bench(dut=dut, testbenches=[jobs], background=[watch.record], check=check)

    simulate(build, seed=1, folder=tmp_path)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_job_takes_as_many_cycles_as_its_list_has_entries(tmp_path, seed):
    """Without stalls the walker never pauses: from the first issue on, every cycle is known."""

    def build(rng):
        dut, lists = reused(ProcessingElement, WIDE), random_lists(rng, shortest=1)
        tasks = list(random_tasks(rng, 60))
        outputs, _ = model(lists, tasks)
        watch = Watch(dut)

        async def jobs(ctx):
            ctx.set(dut.dump_length, SLOTS)
            await load(ctx, dut, lists, WIDE)
            await dispatch(ctx, dut, lists, tasks, always())

        async def results(ctx):
            assert await receive(ctx, dut.o, len(outputs), always()) == outputs

        def check():
            issue = watch.pushes[0] + FIRST_ISSUE
            products, leaving = [], []
            for task in tasks:
                length = SLOTS if isinstance(task, Dump) else len(lists[task.number])
                cycles = range(issue, issue + length)
                if isinstance(task, Dump):
                    leaving += [cycle + dut.LATENCY for cycle in cycles]
                else:
                    products += [cycle + PRODUCT for cycle in cycles]
                issue += length
            assert watch.products == products
            assert watch.outputs == leaving

        return Bench(dut=dut, testbenches=[jobs, results], background=[watch.record], check=check)

    simulate(build, seed=seed, folder=tmp_path)


def test_a_full_output_queue_stops_a_dump_and_a_full_job_queue_says_so(tmp_path):
    def build(rng):
        dut, lists = reused(ProcessingElement, CONFIG), random_lists(rng, shortest=1)
        filling = [Job(number, number + 1, number) for number in range(LISTS)]
        # One dump stands in the walker, the rest of the jobs in the queue.
        waiting = [Dump(0), *(Job(0, 1, 0) for _ in range(CONFIG.job_queue))]
        after = [Dump(accumulator) for accumulator in range(0, CONFIG.accumulators, SLOTS)]
        outputs, products = model(lists, [*filling, *waiting, *after])
        _, before = model(lists, filling)
        watch = Watch(dut)

        async def jobs(ctx):
            ctx.set(dut.dump_length, SLOTS)
            await load(ctx, dut, lists, CONFIG)
            await dispatch(ctx, dut, lists, [*filling, *waiting], always())
            for _ in range(60):
                await ctx.tick()
                assert ctx.get(dut.dispatcher.blocked)
            assert len(watch.products) == before
            assert ctx.get(dut.o.valid)
            ctx.set(dut.o.ready, 1)
            found = []
            for _ in range(CONFIG.output_queue):
                _, _, valid, value = await ctx.tick().sample(dut.o.valid, dut.o.payload)
                assert valid
                found.append(value)
            # The queue was full, and no more was on the way.
            assert not ctx.get(dut.o.valid)
            ctx.set(dut.o.ready, 0)
            assert found == outputs[: len(found)]

        async def rest(ctx):
            await jobs(ctx)
            await dispatch(ctx, dut, lists, after, always())

        async def results(ctx):
            while len(watch.outputs) < CONFIG.output_queue:
                await ctx.tick()
            rest_of_outputs = outputs[CONFIG.output_queue :]
            assert await receive(ctx, dut.o, len(rest_of_outputs), seldom(rng, 0.5)) == rest_of_outputs

        def check():
            assert len(watch.products) == products

        return Bench(dut=dut, testbenches=[rest, results], background=[watch.record], check=check)

    simulate(build, seed=1, folder=tmp_path)


class Resettable(wiring.Component):
    """A PE and its reset."""

    reset: In(1)

    def __init__(self):
        self.pe = ProcessingElement(CONFIG)
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.pe = ResetInserter(self.reset)(self.pe)
        return m


@pytest.mark.parametrize("seed", [1, 2])
def test_reset_drops_jobs_and_clears_accumulators(tmp_path, seed):
    def build(rng):
        dut, lists = reused(Resettable), random_lists(rng)
        pe, reset = dut.pe, dut.reset
        dropped, tasks = list(random_tasks(rng, 60)), list(random_tasks(rng, 40))
        outputs, _ = model(lists, tasks)
        until, cycles = rng.randrange(10, 70), []

        async def interrupted(ctx):
            """Pushes without a look at what comes out, and stops anywhere."""
            go = seldom(rng, 0.8)
            for task in dropped[:until]:
                if isinstance(task, Dump) or not lists[task.number]:
                    continue
                ctx.set(pe.lookup.number, task.number)
                ctx.set(pe.lookup.advance, 1)
                ctx.set(pe.lookup.pushed, 1)
                await ctx.tick().repeat(3)
                ctx.set(pe.lookup.advance, 0)
                ctx.set(pe.lookup.pushed, 0)
                while ctx.get(pe.dispatcher.blocked) or not next(go):
                    await ctx.tick()
                ctx.set(pe.lookup.pushed, 1)
                ctx.set(pe.dispatcher.wanted, 1)
                ctx.set(pe.dispatcher.job, {"dump": 0, "value": task.value, "accumulator": task.accumulator})
                await ctx.tick()
                ctx.set(pe.lookup.pushed, 0)
                ctx.set(pe.dispatcher.wanted, 0)

        async def everything(ctx):
            ctx.set(pe.dump_length, SLOTS)
            await load(ctx, pe, lists, CONFIG)
            while ctx.get(pe.clearing):
                await ctx.tick()
            await interrupted(ctx)
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
            assert ctx.get(pe.clearing)
            await dispatch(ctx, pe, lists, tasks, seldom(rng, 0.7))

        async def clearing(ctx):
            while True:
                _, _, high, start = await ctx.tick().sample(pe.clearing, reset)
                if start:
                    cycles.clear()
                elif high:
                    cycles.append(1)

        async def results(ctx):
            assert await receive(ctx, pe.o, len(outputs), seldom(rng, 0.6)) == outputs

        def check():
            assert len(cycles) == CONFIG.accumulators

        return Bench(dut=dut, testbenches=[everything, results], background=[clearing], check=check)

    simulate(build, seed=seed, folder=tmp_path)


def test_lookups_stand_still_without_advance(tmp_path):
    def build(rng):
        dut = reused(ProcessingElement, CONFIG)
        lists = [[(1, 0)] if number % 3 == 0 else [] for number in range(LISTS)]

        async def lookups(ctx):
            await load(ctx, dut, lists, CONFIG)
            entered, left, advance = [], 0, True
            for _ in range(200):
                number, pushed = rng.randrange(LISTS), rng.random() < 0.5
                ctx.set(dut.lookup.number, number)
                ctx.set(dut.lookup.advance, advance)
                ctx.set(dut.lookup.pushed, pushed)
                if left >= 3:
                    assert ctx.get(dut.dispatcher.hit) == (len(lists[entered[left - 3]]) > 0)
                await ctx.tick()
                if advance:
                    entered.append(number)
                left += pushed
                advance = pushed

        return Bench(dut=dut, testbenches=[lookups])

    simulate(build, seed=1, folder=tmp_path)
