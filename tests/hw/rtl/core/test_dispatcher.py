from dataclasses import replace

import pytest
from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.program.bits import encode
from hw.program.isa import Column, Row
from hw.rtl.core.dispatcher import Dispatcher
from hw.rtl.records import WORD
from tests.hw.maps import WORDS, pack, random_view
from tests.hw.simulate import Bench, reused, simulate

CONFIG = AcceleratorConfig(pes=4, list_words=1024, accumulators=64)
SPLIT = CONFIG.replace(list_words=2048)
ALL = (1 << CONFIG.pes) - 1
LISTS = 512
PROGRAM = 128


class Surroundings(wiring.Component):
    """A dispatcher with the memories it reads: tables, activations, and which PEs each list hits.

    ``number`` is the list of the push stage, and of split ones above it what else is told of it.
    """

    space: In(CONFIG.pes)
    push: Out(CONFIG.pes)
    number: Out(CONFIG.start_bits + 4)

    def __init__(self, config):
        self._config = config
        self.dispatcher = Dispatcher(config)
        self.tables = memory.MemoryData(shape=32, depth=PROGRAM, init=[])
        self.words = memory.MemoryData(shape=WORD.size, depth=WORDS, init=[])
        self.hits = memory.MemoryData(shape=CONFIG.pes, depth=CONFIG.list_words, init=[])
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.dispatcher = dispatcher = self.dispatcher

        def port(name, contents, address, enable):
            m.submodules[name] = ram = memory.Memory(contents)
            read = ram.read_port()
            m.d.comb += [read.addr.eq(address), read.en.eq(enable)]
            return read.data

        def behind(register, data):
            with m.If(dispatcher.lookup.advance):
                m.d.sync += register.eq(data)
            return register

        def at_push(register, data, more=0):
            """Behind two stages; the first value that finds the push stage standing still waits."""
            waiting = behind(Signal.like(register), data)
            with m.If(dispatcher.lookup.pushed):
                m.d.sync += register.eq(Mux(dispatcher.lookup.advance, data, waiting) | more)
            return register

        table = port("tables", self.tables, dispatcher.table.address, 1)
        word = Signal(WORD.size)
        m.d.sync += word.eq(port("words", self.words, dispatcher.words.address, 1))
        hit = port("hits", self.hits, dispatcher.lookup.number, dispatcher.lookup.advance)
        m.d.comb += [
            dispatcher.table.data.eq(table),
            dispatcher.words.data.eq(word),
            Cat(pe.hit for pe in dispatcher.pes).eq(
                at_push(
                    Signal(CONFIG.pes), behind(Signal(CONFIG.pes), hit), dispatcher.lookup.dump.replicate(CONFIG.pes)
                )
            ),
            Cat(pe.blocked for pe in dispatcher.pes).eq(Cat(pe.hit for pe in dispatcher.pes) & ~self.space),
            self.push.eq(Mux(dispatcher.lookup.pushed, Cat(pe.wanted & pe.hit for pe in dispatcher.pes), 0)),
        ]
        number = behind(Signal(CONFIG.start_bits), dispatcher.lookup.number)
        if self._config.split_lists:
            number = Cat(number, dispatcher.lookup.odd, dispatcher.lookup.parts)
        number = behind(Signal(len(number)), number)
        m.d.comb += self.number.eq(at_push(Signal.like(self.number), number))
        return m


def tables(view):
    words = [0] * PROGRAM
    for table, layout, entries in (("row_table", Row, view.rows), ("column_table", Column, view.columns)):
        for offset, entry in enumerate(entries):
            (words[view.source[table] + offset],) = encode(layout, **entry)
    return words


def expected(view, hits, split):
    """(slot, list, what each PE is told: dump, value, accumulator, marks to skip; or None) of every push."""
    for slot, what in enumerate(view.slots()):
        if what is None:
            continue
        if what[0] == "dump":
            yield slot, None, ((1, None, what[1], 0),) * CONFIG.pes
            continue
        _, values, number, accumulator, (parts, skip) = what
        told = [None if value is None else (0, value, accumulator, skip) for value in values]
        if split:
            # Lists that aren't split are a word each, two of them a pair.
            pair, odd = (number, 0) if parts else divmod(number, 2)
            number = pair | odd << CONFIG.start_bits | parts << CONFIG.start_bits + 1
        told = [told[pe] if hits[number % len(hits)] >> pe & 1 else None for pe in range(CONFIG.pes)]
        if any(told):
            yield slot, number, tuple(told)


def bench(rng, space, *, hits, starts=2, depthwise=False, config=CONFIG, split=False):
    """Runs the same view several times. ``space`` gives the PEs that have space, cycle by cycle."""
    sizes = {"lists": LISTS, "accumulators": CONFIG.accumulators, "pes": CONFIG.pes}
    view = random_view(rng, **sizes, depthwise=depthwise, split=split)
    dut = reused(Surroundings, config)
    memories = {dut.tables: tables(view), dut.words: [pack(word) for word in view.bank], dut.hits: hits}
    dispatcher = dut.dispatcher
    wanted = list(expected(view, hits, config.split_lists))
    slots = list(view.slots())
    runs = []

    async def drive(ctx):
        ctx.set(dispatcher.source, view.source)
        for _ in range(starts):
            found, cycle, stalls, idle = [], 0, 0, 0
            while idle < len(slots) + 20:
                free = next(space)
                ctx.set(dispatcher.start, cycle == 0)
                ctx.set(dut.space, free)
                _, _, push, number, stalled, *jobs = await ctx.tick().sample(
                    dut.push, dut.number, dispatcher.stalled, *(pe.job for pe in dispatcher.pes)
                )
                assert not push & ~free
                assert not (push and stalled)
                stalls += stalled
                idle = 0 if push or stalled else idle + 1
                if push:
                    jobs = [
                        (each.dump, None, each.accumulator, 0)
                        if each.dump
                        else (0, each.value, each.accumulator, each.skip if config.split_lists else 0)
                        for each in jobs
                    ]
                    dump = any(each[0] for each in jobs)
                    told = tuple(each if push >> pe & 1 else None for pe, each in enumerate(jobs))
                    found.append((cycle - stalls, None if dump else number, told))
                cycle += 1
            runs.append((found, stalls))

    def check():
        first = Dispatcher.FIRST_SLOT + Dispatcher.LATENCY
        for found, _ in runs:
            # Every stalled cycle shifts all that follows by one, and nothing else does.
            assert [(cycle - first, *push) for cycle, *push in found] == wanted

    return Bench(dut=dut, testbenches=[drive], check=check, memories=memories), runs, view


def every_list(rng):
    return [rng.randint(1, ALL) for _ in range(CONFIG.list_words)]


def some_lists(rng):
    return [rng.choice((0, rng.randint(0, ALL))) for _ in range(CONFIG.list_words)]


def roomy():
    while True:
        yield ALL


def crowded(rng, share):
    while True:
        yield sum(1 << pe for pe in range(CONFIG.pes) if rng.random() < share)


@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("depthwise", [False, True])
def test_without_stalls_every_push_comes_with_its_slot(tmp_path, seed, depthwise):
    def build(rng):
        result, runs, view = bench(rng, roomy(), hits=every_list(rng), depthwise=depthwise)

        def check():
            result.check()
            assert [stalls for _, stalls in runs] == [0, 0]
            slots = 0
            for y, x, word, address in view.words():
                nonzeros = len(view.handed_out(address))
                slots += 1 if x < 0 else max(1, nonzeros * view.rows[y]["count"])
                if x >= 0 and view.rows[y]["final"] and view.ends(y, word):
                    slots += view.columns[x]["dumps"]
            assert slots == len(list(view.slots()))

        return replace(result, check=check)

    simulate(build, seed=seed, folder=tmp_path)


@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("depthwise", [False, True])
def test_a_full_queue_holds_everybody_and_loses_nothing(tmp_path, seed, share, depthwise):
    def build(rng):
        return bench(rng, crowded(rng, share), hits=some_lists(rng), depthwise=depthwise)[0]

    simulate(build, seed=seed, folder=tmp_path)


@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize(("split", "depthwise"), [(True, False), (False, False), (False, True)])
def test_parts_and_marks_of_split_lists_come_with_their_jobs(tmp_path, seed, split, depthwise):
    def build(rng):
        hits = some_lists(rng)
        return bench(rng, crowded(rng, 0.8), hits=hits, depthwise=depthwise, config=SPLIT, split=split)[0]

    simulate(build, seed=seed, folder=tmp_path)


def test_a_pe_that_is_not_hit_may_be_full(tmp_path):
    """Lists of PE 0 only; PE 1 never has space, and only a dump is for it too."""

    def build(rng):
        result, _, view = bench(rng, iter(lambda: 0b1101, 0), hits=[1] * CONFIG.list_words, starts=1)
        dumps = [slot for slot, what in enumerate(view.slots()) if what and what[0] == "dump"]

        async def until_first_dump(ctx):
            dispatcher = result.dut.dispatcher
            ctx.set(dispatcher.source, view.source)
            ctx.set(result.dut.space, 0b1101)
            ctx.set(dispatcher.start, 1)
            await ctx.tick()
            ctx.set(dispatcher.start, 0)
            first = Dispatcher.FIRST_SLOT + Dispatcher.LATENCY
            for _ in range(first + dumps[0] - 1):
                assert not ctx.get(dispatcher.stalled)
                await ctx.tick()
            for _ in range(20):
                assert ctx.get(dispatcher.stalled)
                assert ctx.get(result.dut.push) == 0
                await ctx.tick()
            ctx.set(result.dut.space, 0b1111)
            assert ctx.get(result.dut.push) == ALL

        assert dumps
        return replace(result, testbenches=[until_first_dump], check=lambda: None)

    simulate(build, seed=4, folder=tmp_path)
