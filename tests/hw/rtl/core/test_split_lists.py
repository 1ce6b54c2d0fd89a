"""A PE whose lists are split: of each job the parts that it meets, without the entries that it skips."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

from hw.compiler.memory.sparse import ListStore
from hw.config import AcceleratorConfig
from hw.program.list_memory import marked_offsets
from hw.rtl.core.pe import ProcessingElement
from tests.hw.simulate import Bench, always, receive, reused, seldom, send, simulate

CONFIG = AcceleratorConfig(pes=2, list_words=2048, accumulators=32, accumulator_bits=28, job_queue=4, output_queue=4)
SLOTS = 8
SPLIT, PLAIN = 20, 9
#: Parts that are neighbours.
NEIGHBOURS = (0b001, 0b010, 0b100, 0b011, 0b110, 0b111)


@dataclass(frozen=True)
class Job:
    number: int  # of a pair of words; of a plain list (parts 0) of a word
    parts: int
    skip: int
    value: int
    accumulator: int


@dataclass(frozen=True)
class Dump:
    accumulator: int


def random_entries(rng, most):
    """(weight, offset, marks), each offset once."""
    offsets = rng.sample(range(CONFIG.accumulators), rng.choice((0, 1, most, rng.randrange(most + 1))))
    return [(rng.choice((-128, 127, 1)), offset, rng.randrange(4)) for offset in offsets]


def random_tasks(rng, first_plain, count):
    for _ in range(count):
        kind, value, accumulator = rng.random(), rng.randrange(-255, 256), rng.randrange(CONFIG.accumulators)
        if kind < 0.1:
            yield Dump(accumulator)
        elif kind < 0.3:
            yield Job(first_plain + rng.randrange(PLAIN), 0, 0, value, accumulator)
        else:
            yield Job(rng.randrange(SPLIT), rng.choice(NEIGHBOURS), rng.randrange(4), value, accumulator)
    for accumulator in range(0, CONFIG.accumulators, SLOTS):
        yield Dump(accumulator)


def chosen(job, lists):
    """What a job walks: entries with their offsets, and whether each has a product."""
    entries = lists[job.number] if job.parts == 0 else [
        entry for part, inside in enumerate(lists[job.number]) if job.parts >> part & 1 for entry in inside
    ]  # fmt: skip
    return [(weight, offset, not marks & job.skip) for weight, offset, marks in entries]


def model(split, plain, tasks):
    """What the dumps deliver, and the number of products."""
    accumulators, outputs, products = [0] * CONFIG.accumulators, [], 0
    for task in tasks:
        if isinstance(task, Dump):
            for address in range(task.accumulator, task.accumulator + SLOTS):
                outputs.append(accumulators[address % CONFIG.accumulators])
                accumulators[address % CONFIG.accumulators] = 0
            continue
        for weight, offset, product in chosen(task, split if task.parts else plain):
            if product:
                accumulators[(task.accumulator + offset) % CONFIG.accumulators] += weight * task.value
                products += 1
    return outputs, products


def packed(split, plain):
    """The words of the list memory of PE 0, plain lists behind split ones."""
    store, nothing = ListStore(CONFIG), np.zeros((0, 2), dtype=np.int64)

    def entries(found):
        rows = [(weight, marked_offsets(offset, marks)) for weight, offset, marks in found]
        return np.array(rows or nothing, dtype=np.int64)

    for parts in split:
        lengths = np.cumsum([len(part) for part in parts])[:2]
        cuts = np.stack([lengths, np.zeros(2, dtype=np.int64)])
        store.append_split([entries(itertools.chain(*parts)), nothing], cuts, "test")
    for number, found in plain.items():
        assert len(store) == number
        store.append([entries([(weight, offset, 0) for weight, offset, _ in found]), nothing], "test")
    return store.pack()[0]


async def dispatch(ctx, dut, split, plain, tasks, go):
    """A dispatcher that serves this PE alone."""
    waiting = list(reversed(tasks))
    entering, reading, read, held, leaving = None, None, None, None, None
    advance = True

    def hits(job):
        return bool(chosen(job, split if job.parts else plain))

    while waiting or entering or reading or read or held or leaving:
        entering = entering or (waiting.pop() if waiting else None)
        dump, job = isinstance(leaving, Dump), isinstance(leaving, Job)
        if leaving:
            assert ctx.get(dut.dispatcher.hit) == (dump or hits(leaving))
        target = (dump or job) and ctx.get(dut.dispatcher.hit)
        # All PEs wait for one that is blocked: none is without a list that hits.
        assert ctx.get(dut.dispatcher.hit) or not ctx.get(dut.dispatcher.blocked)
        wanted = next(go)
        push = target and wanted and not ctx.get(dut.dispatcher.blocked)
        pushed = bool(push or (wanted and not target))
        if isinstance(entering, Job):
            ctx.set(dut.lookup.number, entering.number if entering.parts else entering.number >> 1)
        if isinstance(reading, Job):
            ctx.set(dut.lookup.parts, reading.parts)
            ctx.set(dut.lookup.odd, 0 if reading.parts else reading.number & 1)
        ctx.set(dut.lookup.advance, advance)
        ctx.set(dut.lookup.pushed, pushed)
        ctx.set(dut.lookup.dump, isinstance(read if advance else held, Dump))
        ctx.set(dut.dispatcher.wanted, dump or job)
        if leaving:
            told = {"dump": dump, "value": 0, "skip": 3, "accumulator": leaving.accumulator}
            ctx.set(dut.dispatcher.job, told if dump else told | {"value": leaving.value, "skip": leaving.skip})
        await ctx.tick()
        if advance:
            entering, reading, read, held = None, entering, reading, read
        if pushed:
            leaving, held = held, None
        advance = pushed
    ctx.set(dut.dispatcher.wanted, 0)


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
@pytest.mark.parametrize(("pushing", "taking"), [(1.0, 1.0), (1.0, 0.2), (0.4, 0.9), (0.7, 0.5)])
def test_jobs_walk_their_parts_and_skip_what_is_marked(tmp_path, seed, pushing, taking):
    def build(rng):
        dut = reused(ProcessingElement, CONFIG)
        split = [[random_entries(rng, 7) for _ in range(3)] for _ in range(SPLIT)]
        plain = {2 * SPLIT + number: random_entries(rng, 12) for number in range(PLAIN)}
        tasks = list(random_tasks(rng, 2 * SPLIT, 150))
        expected, products = model(split, plain, tasks)
        outputs, seen = [], []

        async def drive(ctx):
            ctx.set(dut.dump_length, SLOTS)
            words = [{"address": n, "data": int(word)} for n, word in enumerate(packed(split, plain))]
            await send(ctx, dut.load, words, always())
            await ctx.tick().until(~dut.clearing)
            await dispatch(ctx, dut, split, plain, tasks, seldom(rng, pushing))

        async def take(ctx):
            outputs.extend(await receive(ctx, dut.o, len(expected), seldom(rng, taking)))

        async def count(ctx):
            while True:
                _, _, product = await ctx.tick().sample(dut.product)
                seen.append(product)

        def check():
            assert outputs == expected
            assert sum(seen) == products > 100

        return Bench(dut=dut, testbenches=[drive, take], background=[count], check=check)

    simulate(build, seed=seed, folder=tmp_path)
