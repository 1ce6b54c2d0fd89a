"""Finds the nonzero activations of a map and hands each to the PEs, once per kernel row that meets it.

::

    Walk: counters ──► words, tables ──► mask, queue ──► Scan: next nonzero ──► value, addresses ──► pointers ──► push
    one item a cycle   (2 cycles)        (2 cycles)      one slot a cycle       (2 cycles)           (3 cycles)

An activation whose magnitude is below the layer's threshold counts as zero: "nonzero" means all others. With a
selector there are two thresholds, and which one is an activation's, :class:`hw.rtl.core.favour.Favour` says.

In a depthwise layer a channel has products in one PE only, and as many neighbours as there are PEs are handed out
together: a *group*, which is nonzero if any of them is, and has one list. Each PE gets its own channel's activation.

A *slot* is a cycle in which the scanner is not held up. A row takes one slot for its table entry, a word one slot for
each (nonzero channel or group, kernel row) or one if there is none, a finished output position one slot. Everything
behind the queue stands still while a PE that a job is for has no space, so a layer's timing follows from its slots and
its queues: the walk runs ahead, and the scanner never waits for it. The stages before the push stop and start a cycle
late; what they hand over in the first such cycle waits in front of the push, and is there when they aren't.
"""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, enum, fifo, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.program.isa import Column, Row, Source
from hw.rtl.core.activations import WORD_BITS
from hw.rtl.core.pe import job_layout
from hw.rtl.core.walk import Item, Walk

__all__ = ["Dispatcher", "lowest_bit", "reaches"]


_WORD = data.ArrayLayout(signed(9), WORD_CHANNELS)

#: Items that the walk may be ahead of the scanner. One needs six cycles to be taken and make room for the next.
_AHEAD = 8
#: Words kept behind the scanner: it takes one a cycle at most, and a job needs its word for six.
_KEPT = 8


class _Scan(enum.Enum, shape=2):
    """What the scanner does in this slot."""

    EMPTY = 0  #: waits for the first item
    ROW = 1  #: takes a row's table entry
    WORD = 2  #: hands out a word's nonzero channels
    DUMP = 3  #: announces finished output positions


class _Nonzeros(data.Struct):
    """The nonzero channels of a word, or its nonzero groups, each by its lowest channel: nothing about them has to be
    computed in the cycle that decides.
    """

    channel: range(WORD_CHANNELS)  # the lowest one
    rest: WORD_CHANNELS  # one bit for each of the others
    single: 1  # there are no others
    empty: 1  # there is none


def _split(m, mask, name: str):
    """The parts of a word's nonzero mask."""
    parts = Signal(_Nonzeros, name=f"{name}_parts")
    # Bits above the lowest, without a carry chain.
    rest = Cat(mask[channel] & mask[:channel].any() for channel in range(WORD_CHANNELS))
    m.d.comb += [
        parts.channel.eq(lowest_bit(mask)),
        parts.rest.eq(rest),
        parts.single.eq(rest == 0),
        parts.empty.eq(mask == 0),
    ]
    return parts


def _groups(mask, pes: int):
    """Of a word's nonzero mask: the lowest bit of every group of ``pes`` channels with a nonzero one."""
    return Cat(mask[n : n + pes].any() if n % pes == 0 else 0 for n in range(WORD_CHANNELS))


def lowest_bit(word):
    """Index of the lowest set bit, as a tree of halves: log2 levels of logic."""
    halves = [(word[i], ()) for i in range(len(word))]
    while len(halves) > 1:
        level = []
        for low, high in zip(halves[::2], halves[1::2], strict=True):
            index = [Mux(low[0], a, b) for a, b in zip(low[1], high[1], strict=True)]
            level.append((low[0] | high[0], (*index, ~low[0])))
        halves = level
    return Cat(*halves[0][1])


def reaches(value, complement):
    """Whether the magnitude of a value is at least a threshold: the carry of one addition.

    Parameters
    ----------
    value : 9 bits
        Two's complement of -255..255.
    complement : 8 bits
        256 less the threshold, which is 1..255.
    """
    negative = value[8]
    # |value| + complement >= 256, where |value| is the one's complement and a carry from the bit below.
    magnitude = Cat(negative, value[:8] ^ negative.replicate(8))
    return (magnitude + Cat(negative, complement))[9]


class Dispatcher(wiring.Component):
    """Walks one layer's input and broadcasts jobs.

    Members
    -------
    source : In(Source)
        The layer; stable from ``start`` until the layer is done.
    start : In(1)
        Begin, for one cycle.
    table_address : Out(12), table_data : In(32)
        Synchronous read port of the layer memory.
    word_address : Out(12), word_data : In(72)
        Synchronous read port of the activation memory.
    word_number : Out(8); favoured : In(8), complement, other_complement : In(8)
        Of a config with selector: number of the word at its position, and for the word two cycles later what
        :class:`hw.rtl.core.favour.Favour` says of it.
    lookup : Out, advance, pushed : Out(1)
        List number, for the PEs' pointer pipeline of three cycles, and when it moves on:
        :class:`hw.rtl.core.pe.ProcessingElement`.
    hit, space, push : In, In, Out, one bit per PE
        Which PEs have entries in the list in the push stage, which have space, and who gets the job.
    job : Out(array of job_layout), one per PE
        They differ in their activations, and that in depthwise layers only.
    hold : In(1)
        Push nothing in this cycle: in the next one, ``advance`` is low, and the list memories are written.
    stalled : Out(1)
        A job waits for space.

    Throughput: one slot per cycle. Back-pressure: by ``space`` and ``hold``. Reset: idle.
    """

    #: Cycles from ``start`` to the first slot: the walk, the RAMs' two, the queue's two, the scanner.
    FIRST_SLOT = 6
    #: Cycles from a slot to its push, if nothing is held up.
    LATENCY = 5
    #: Cycles before a layer's first push in which ``hold`` makes it come later: from taking its item on.
    LEAD = LATENCY + 2

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        favour = {
            "word_number": Out(8),
            "favoured": In(WORD_CHANNELS),
            "complement": In(8),
            "other_complement": In(8),
        }
        super().__init__(
            (favour if config.selector else {})
            | {
                "source": In(Source),
                "start": In(1),
                "table_address": Out(12),
                "table_data": In(32),
                "word_address": Out(12),
                "word_data": In(WORD_BITS),
                "lookup": Out(config.start_bits),
                "advance": Out(1, init=1),
                "pushed": Out(1),
                "hit": In(config.pes),
                "space": In(config.pes),
                "push": Out(config.pes),
                "job": Out(data.ArrayLayout(job_layout(config), config.pes)),
                "hold": In(1),
                "stalled": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        source = self.source
        accumulator = config.accumulator_address_bits

        # Walk. Behind it the RAMs' output, its register, and the queue of words with their nonzeros.
        entry = data.StructLayout(
            {"item": Item, "mask": WORD_CHANNELS, "scan": WORD_CHANNELS, "word": _WORD, "table": 32},
        )
        m.submodules.walk = walk = Walk()
        m.submodules.queue = queue = fifo.SyncFIFOBuffered(width=entry.size, depth=_AHEAD + 1)
        arriving, waiting = Signal(entry), data.View(entry, queue.r_data)
        item, word, table, valid = waiting.item, waiting.word, waiting.table, queue.r_rdy
        item_ram, valid_ram, valid_read = Signal(Item), Signal(), Signal()
        places, room, returned = Signal(range(_AHEAD + 1), init=_AHEAD), Signal(), Signal()
        take, frozen = Signal(), Signal()
        # The source is stable cycles before the first word comes.
        depthwise = Signal()
        m.d.sync += depthwise.eq(source.depthwise)
        groups = _groups(arriving.mask, config.pes)
        m.d.comb += [
            walk.source.eq(source),
            walk.start.eq(self.start),
            room.eq(places != 0),
            walk.o.ready.eq(room),
            self.table_address.eq(walk.table_address),
            self.word_address.eq(walk.word_address),
            arriving.mask.eq(
                Cat(
                    reaches(value, complement) & ~arriving.item.blank
                    for value, complement in zip(arriving.word, self._complements(m), strict=True)
                )
            ),
            arriving.scan.eq(Mux(depthwise, groups, arriving.mask)),
            queue.w_data.eq(arriving),
            queue.w_en.eq(valid_read),
            queue.r_en.eq(take),
        ]
        m.d.sync += [
            valid_ram.eq(walk.o.valid & room),
            item_ram.eq(walk.o.payload),
            valid_read.eq(valid_ram),
            arriving.item.eq(item_ram),
            arriving.word.eq(self.word_data),
            arriving.table.eq(self.table_data),
            returned.eq(take & valid),
            places.eq(places - (walk.o.valid & room) + returned),
        ]

        if config.selector:
            m.d.comb += self.word_number.eq(walk.o.payload.word)

        # Scan.
        state = Signal(_Scan)
        nonzeros = Signal(_Nonzeros)
        number, place = Signal(8), Signal(range(_KEPT))
        dumping = Signal()  # output positions are final after this word
        row, column = Signal(Row), Signal(Column)
        left = Signal(4)  # kernel rows still to serve for this channel, this one included
        list_k, accumulator_k = Signal(12), Signal(accumulator)
        dumps, dump_base = Signal(4), Signal(accumulator)
        # Both are split on the way into the same register: one path is as long as the other.
        first_nonzeros, following_nonzeros = _split(m, waiting.scan, "first"), _split(m, nonzeros.rest, "rest")
        job, dump, word_done = Signal(), Signal(), Signal()
        m.d.comb += [
            job.eq((state == _Scan.WORD) & ~nonzeros.empty),
            dump.eq(state == _Scan.DUMP),
            word_done.eq((state == _Scan.WORD) & (nonzeros.empty | ((left == 1) & nonzeros.single))),
            take.eq(
                self.advance
                & ((state == _Scan.EMPTY) | (state == _Scan.ROW) | (word_done & ~dumping) | (dump & (dumps == 1)))
            ),
        ]

        def restart_kernel_rows():
            return [left.eq(row.count), list_k.eq(row.list), accumulator_k.eq(row.accumulator)]

        with m.If(self.advance):
            with m.If(job):
                with m.If(left == 1):
                    m.d.sync += [nonzeros.eq(following_nonzeros), *restart_kernel_rows()]
                with m.Else():
                    # The next kernel row down feeds the output row above; addresses wrap around.
                    m.d.sync += [
                        left.eq(left - 1),
                        list_k.eq(list_k + source.list_step),
                        accumulator_k.eq(accumulator_k - source.accumulator_step),
                    ]
            with m.If(dump):
                m.d.sync += [dumps.eq(dumps - 1), dump_base.eq(dump_base + source.slots)]
            with m.If(word_done & dumping):
                m.d.sync += [state.eq(_Scan.DUMP), dumps.eq(column.dumps)]
        with m.If(take):
            m.d.sync += state.eq(Mux(valid, Mux(item.row, _Scan.ROW, _Scan.WORD), _Scan.EMPTY))
            m.d.sync += [
                nonzeros.eq(first_nonzeros),
                number.eq(item.word),
                place.eq(place + 1),
            ]
            with m.If(item.row):
                fields = data.View(Row, table[: Row.as_shape().size])
                m.d.sync += [
                    row.eq(fields),
                    left.eq(fields.count),
                    list_k.eq(fields.list),
                    accumulator_k.eq(fields.accumulator),
                ]
            with m.Else():
                entry = data.View(Column, table[: Column.as_shape().size])
                m.d.sync += [column.eq(entry), dumping.eq(item.column_end & row.final & (entry.dumps != 0))]
        with m.If(self.start):
            m.d.sync += dump_base.eq(source.first_dump)

        # The words wait until their jobs are pushed.
        kept = data.StructLayout({"mask": WORD_CHANNELS, "word": _WORD})
        m.submodules.words = words = memory.Memory(shape=kept, depth=_KEPT, init=[], attrs={"ram_style": "distributed"})
        keep, recall = words.write_port(), words.read_port(domain="comb")
        m.d.comb += [
            keep.en.eq(take),
            keep.addr.eq(place + 1),
            keep.data.mask.eq(waiting.mask),
            keep.data.word.eq(word),
        ]

        # Two cycles of addresses; where the word is, and the channel or group, goes along.
        what = {"job": 1, "dump": 1, "place": range(_KEPT), "channel": range(WORD_CHANNELS)}
        chosen = data.StructLayout(
            what
            | {
                "index": 11,
                "list": 12,
                "column_list": 13,
                "accumulator": accumulator,
                "column_accumulator": accumulator,
            }
        )
        a = Signal(chosen)
        summed = data.StructLayout(what | {"accumulator": accumulator})
        b, ram, read, held, coming = (Signal(summed, name=name) for name in ("b", "ram", "read", "held", "coming"))
        index, within = Cat(nonzeros.channel, number), config.pes.bit_length() - 1
        with m.If(self.advance):
            m.d.sync += [
                a.job.eq(job),
                a.dump.eq(dump),
                a.place.eq(place),
                a.channel.eq(nonzeros.channel),
                a.index.eq(Mux(depthwise, index[within:], index)),
                a.list.eq(list_k),
                a.column_list.eq(column.list + source.first_list),
                a.accumulator.eq(Mux(dump, dump_base, accumulator_k)),
                a.column_accumulator.eq(Mux(dump, 0, column.accumulator)),
                *(getattr(b, name).eq(getattr(a, name)) for name in what),
                b.accumulator.eq(a.accumulator + a.column_accumulator),
                self.lookup.eq(a.list + a.column_list + a.index),
                ram.eq(b),
                read.eq(ram),
                held.eq(read),
            ]

        # What each PE is told.
        told = data.StructLayout({"wanted": 1, "job": job_layout(config)})
        out = Signal(data.ArrayLayout(told, config.pes))
        group = coming.channel[within:] << within
        m.d.comb += [coming.eq(Mux(self.advance, read, held)), recall.addr.eq(coming.place)]
        with m.If(self.pushed):
            for pe in range(config.pes):
                mask, values = recall.data.mask, recall.data.word
                m.d.sync += [
                    out[pe].wanted.eq(coming.dump | (coming.job & (~depthwise | mask.bit_select(group | pe, 1)))),
                    out[pe].job.dump.eq(coming.dump),
                    out[pe].job.value.eq(Mux(depthwise, values[group | pe], values[coming.channel])),
                    out[pe].job.accumulator.eq(coming.accumulator),
                ]

        # Push: all targets together, or nobody.
        targets = Signal(config.pes)
        m.d.comb += [
            targets.eq(Cat(each.wanted & (hit | each.job.dump) for each, hit in zip(out, self.hit, strict=True))),
            frozen.eq((targets & ~self.space).any()),
            self.stalled.eq(frozen),
            self.pushed.eq(~frozen & ~self.hold),
            self.push.eq(Mux(self.pushed, targets, 0)),
            *(mine.eq(each.job) for mine, each in zip(self.job, out, strict=True)),
        ]
        m.d.sync += self.advance.eq(self.pushed)
        return m

    def _complements(self, m):
        """256 less the threshold of each channel of the word that arrives."""
        if self._config.selector:
            return [Mux(favoured, self.complement, self.other_complement) for favoured in self.favoured]
        complement = Signal(8)
        # The source is stable cycles before the first word comes.
        m.d.sync += complement.eq(-self.source.threshold)
        return [complement] * WORD_CHANNELS
