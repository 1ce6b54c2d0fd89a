"""A scanner alone, order after order: what it counts, adds up, finds and keeps, and when it is complete."""

import pytest
from amaranth import Module, Signal
from amaranth.lib import memory, wiring

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.rtl.core.scanner import Scanner
from hw.rtl.records import WORD, OrderKind
from tests.hw.maps import pack
from tests.hw.simulate import Bench, reused, simulate

ROWS = 128
NO_ORDER = {"kind": OrderKind.NONE, "index": 0, "value": {"word": 0}, "prefix": 0}


class Surroundings(wiring.Component):
    """A scanner, its bank of two cycles and its layer memory of one."""

    def __init__(self, selector):
        self.scanner = Scanner(AcceleratorConfig(selector=selector))
        self.bank = memory.MemoryData(shape=WORD.size, depth=ROWS, init=[])
        self.layers = memory.MemoryData(shape=32, depth=ROWS, init=[])
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.scanner = scanner = self.scanner
        for name, contents, port in (("bank", self.bank, scanner.words), ("layers", self.layers, scanner.table)):
            m.submodules[name] = ram = memory.Memory(contents)
            read = ram.read_port()
            m.d.comb += [read.addr.eq(port.address), read.en.eq(1)]
            if name == "bank":
                word = Signal(WORD.size)
                m.d.sync += word.eq(read.data)
                m.d.comb += port.data.as_value().eq(word)
            else:
                m.d.comb += port.data.eq(read.data)
        return m


def values(rng) -> list[tuple[int, ...]]:
    """A bank of words with many ties, or few."""
    highest = rng.choice((1, 3, 20, 255))
    return [tuple(rng.randint(-highest, highest) for _ in range(WORD_CHANNELS)) for _ in range(ROWS)]


def bench(rng, selector, drive):
    """``drive`` gets the scanner and its bank's words."""
    dut, words = reused(Surroundings, selector), values(rng)
    table = [rng.getrandbits(32) for _ in range(ROWS)]
    memories = {dut.bank: [pack(word) for word in words], dut.layers: table}
    return Bench(dut=dut, testbenches=[lambda ctx: drive(ctx, dut.scanner, words, table)], memories=memories)


async def order(ctx, scanner, asked, **fields):
    """An order for a cycle; then there is none, accumulator ``asked`` is asked for, and the prefix holds."""
    ctx.set(scanner.selector.order, NO_ORDER | fields)
    await ctx.tick()
    ctx.set(scanner.selector.order, NO_ORDER | {"index": asked, "prefix": fields.get("prefix", 0)})


async def tallies(ctx, scanner, prefix, first, count):
    """What so many accumulators hold, the first of which has been asked for."""
    found = []
    for number in range(first, first + count):
        ctx.set(scanner.selector.order, NO_ORDER | {"index": number, "prefix": prefix})
        if number > first:
            await ctx.tick().repeat(2)
        found.append(ctx.get(scanner.selector.tally))
    return found


def part(rng):
    """Fields of a selection: words of a bank that are scanned."""
    pitch, count = rng.choice((1, 1, 2, 5)), rng.choice((0, 1, rng.randint(2, 12)))
    base = rng.randrange(ROWS - pitch * 12)
    return {"base": base, "words": count, "pitch": pitch, "shift": base - rng.randrange(1000, 2000), "table": 0}


def scanned(fields, words, more=0):
    return [words[fields["base"] + more + n * fields["pitch"]] for n in range(fields["words"])]


@pytest.mark.parametrize("selector", [1, 2, 4])
def test_digits_behind_a_prefix_are_counted(tmp_path, selector):
    async def drive(ctx, rng, scanner, words):
        for _ in range(12):
            fields = part(rng)
            ctx.set(scanner.selection, fields)
            magnitudes = [abs(value) for word in scanned(fields, words) for value in word]
            level = rng.randrange(8 // selector)
            rest = 8 - level * selector
            prefix = rng.choice(magnitudes or [0]) >> rest
            await order(ctx, scanner, 0, kind=OrderKind.COUNT, index=level, prefix=prefix)
            await ctx.tick().repeat(fields["words"] + Scanner.LATENCY - 1)
            digits = [(each >> rest - selector) % (1 << selector) for each in magnitudes if each >> rest == prefix]
            expected = [digits.count(digit) for digit in range(1 << selector)]
            assert await tallies(ctx, scanner, prefix, 0, 1 << selector) == expected
            # They stay, whatever the time until the next order.
            await ctx.tick().repeat(rng.randint(1, 5))

    def build(rng):
        return bench(rng, selector, lambda ctx, scanner, words, table: drive(ctx, rng, scanner, words))

    simulate(build, seed=selector, folder=tmp_path)


def test_magnitudes_of_a_block_are_added_up(tmp_path):
    async def drive(ctx, rng, scanner, words):
        for _ in range(12):
            fields = part(rng)
            ctx.set(scanner.selection, fields)
            block = rng.randrange(fields["pitch"])
            await order(ctx, scanner, 0, kind=OrderKind.SUM, value={"block": block})
            await ctx.tick().repeat(fields["words"] + Scanner.LATENCY - 1)
            columns = zip(*scanned(fields, words, block), strict=True) if fields["words"] else [()] * WORD_CHANNELS
            assert await tallies(ctx, scanner, 0, 0, WORD_CHANNELS) == [sum(map(abs, column)) for column in columns]

    def build(rng):
        return bench(rng, 4, lambda ctx, scanner, words, table: drive(ctx, rng, scanner, words))

    simulate(build, seed=1, folder=tmp_path)


@pytest.mark.parametrize("selector", [1, 4])
def test_a_tie_is_found_where_it_is_called_for(tmp_path, selector):
    async def drive(ctx, rng, scanner, words):
        for _ in range(25):
            fields = part(rng) | {"pitch": 1}
            ctx.set(scanner.selection, fields)
            first = fields["base"] - fields["shift"]
            every = [
                (abs(value), {"word": first + n, "channel": channel})
                for n, word in enumerate(scanned(fields, words))
                for channel, value in enumerate(word)
            ]
            magnitude = rng.choice(every)[0] if every else 0
            places = [place for each, place in every if each == magnitude]
            rank, called = rng.randint(1, max(1, len(places))), rng.randrange(4) > 0
            ctx.set(scanner.selector.called, called)
            await order(ctx, scanner, 0, kind=OrderKind.FIND, value={"rank": rank}, prefix=magnitude)
            await ctx.tick().repeat(fields["words"] + Scanner.LATENCY + Scanner.FIND_LATENCY - 1)
            found = ctx.get(scanner.selector.place)
            expected = places[rank - 1] if called and places else {"word": 0, "channel": 0}
            if places or not called:
                assert {"word": found.word, "channel": found.channel} == expected
            await ctx.tick().repeat(rng.randint(1, 3))

    def build(rng):
        return bench(rng, selector, lambda ctx, scanner, words, table: drive(ctx, rng, scanner, words))

    simulate(build, seed=selector, folder=tmp_path)


def test_words_are_read_only_in_a_scan(tmp_path):
    """The bank's port is the dispatcher's, else."""

    async def drive(ctx, rng, scanner):
        for kind in OrderKind:
            fields = part(rng) | {"words": 5}
            ctx.set(scanner.selection, fields)
            begins = []
            ctx.set(scanner.selector.order, NO_ORDER | {"kind": kind})
            for _ in range(12):
                _, _, begin, reads, address = await ctx.tick().sample(
                    scanner.begins, scanner.reads, scanner.words.address
                )
                begins.append((begin, reads and address))
                ctx.set(scanner.selector.order, NO_ORDER)
            addresses = [fields["base"] + n * fields["pitch"] for n in range(5)]
            scans = kind in (OrderKind.COUNT, OrderKind.SUM, OrderKind.FIND)
            # A cycle behind the order: it is a register that all scanners have of their own.
            expected = [(0, 0), (1, 0), *((0, address) for address in addresses), *[(0, 0)] * 5]
            assert begins == (expected if scans else [(0, 0)] * 12)

    def build(rng):
        return bench(rng, 2, lambda ctx, scanner, words, table: drive(ctx, rng, scanner))

    simulate(build, seed=1, folder=tmp_path)


def test_masks_are_those_of_the_selector_or_of_the_layer_memory(tmp_path):
    async def drive(ctx, rng, scanner, table):
        kept, wanted = [], []
        for _ in range(20):
            if rng.random() < 0.5:
                sent = {"channels": rng.getrandbits(8), "word": rng.randrange(64)}
                wanted.append((sent["word"], sent["channels"]))
                fields, wait = {"kind": OrderKind.MASK, "value": {"mask": sent}}, rng.randrange(1, 4)
            else:
                count, first = rng.randint(1, 30), rng.randrange(60)
                ctx.set(scanner.selection, {"pitch": count, "table": first})
                wanted += [(word, table[first + word] & 0xFF) for word in range(count)]
                fields, wait = {"kind": OrderKind.FILL}, count + Scanner.FILL_LATENCY
            ctx.set(scanner.selector.order, NO_ORDER | fields)
            for _ in range(wait):
                _, _, valid, mask = await ctx.tick().sample(scanner.mask.valid, scanner.mask.payload)
                kept += [(mask.word, mask.channels)] * valid
                ctx.set(scanner.selector.order, NO_ORDER)
        for _ in range(3):
            _, _, valid, mask = await ctx.tick().sample(scanner.mask.valid, scanner.mask.payload)
            kept += [(mask.word, mask.channels)] * valid
        assert kept == wanted

    def build(rng):
        return bench(rng, 1, lambda ctx, scanner, words, table: drive(ctx, rng, scanner, table))

    simulate(build, seed=1, folder=tmp_path)
