"""Finds the nonzero activations of a map and hands each to the PEs, once per kernel row that meets it.

::

    Walk: counters ──► words, tables ──► mask ─► queue ──► Scan: next nonzero ──► value, addresses ──► pointers ──► push
    one item a cycle   (2 cycles)        (1)     (2)       one slot a cycle       (2 cycles)           (3 cycles)

An activation whose magnitude is below the layer's threshold counts as zero: "nonzero" means all others. With a
selector there are two thresholds, and which one is an activation's, :class:`hw.rtl.core.winner_masks.WinnerMasks` says.

In a depthwise layer a channel has products in one PE only, and as many neighbours as there are PEs are handed out
together: a *group*, which is nonzero if any of them is, and has one list. Each PE gets its own channel's activation.

An *issue slot* is a cycle in which the scanner is not held up. A row takes one slot for its table entry, a word one
slot for each (nonzero channel or group, kernel row) or one if there is none, a finished output position one slot.
Everything behind the queue stands still while a PE that a job is for has no space, so a layer's timing follows from its
slots and its queues: the walk runs ahead, and the scanner never waits for it. The stages before the push stop and start
a cycle late; what they hand over in the first such cycle waits in front of the push, and is there when they aren't.
"""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, enum, fifo, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.rtl.core.nonzeros import Nonzeros, groups, reaches, split
from hw.rtl.core.walk import Item, Walk
from hw.rtl.interfaces import JobPort, PointerLookup, ReadPort, WinnerLookup
from hw.rtl.records import WORD, job_layout
from hw.rtl.structs import Source, table_layouts

__all__ = ["Dispatcher"]

#: Items that the walk may be ahead of the scanner. One needs seven cycles to be taken and make room for the next.
_AHEAD = 8
#: Words kept behind the scanner: it takes one a cycle at most, and a job asks for its word three cycles later.
_KEPT = 4


class _Slot(enum.Enum, shape=2):
    """What the scanner does in this slot."""

    EMPTY = 0  #: waits for the first item
    ROW = 1  #: takes a row's table entry
    WORD = 2  #: hands out a word's nonzero channels
    DUMP = 3  #: announces finished output positions


class _ScanState:
    """The scanner's registers, and what it does in this slot."""

    def __init__(self, config):
        accumulator = config.accumulator_address_bits
        self.state = Signal(_Slot)
        self.nonzeros = Signal(Nonzeros)
        self.number, self.take = Signal(8), Signal()  # of the word; the next item is taken
        self.place = Signal(range(_KEPT))  # where the word is kept
        self.dumping = Signal()  # output positions are final after this word; 0 where none is handed out
        row, column = table_layouts(config)
        self.row, self.column = Signal(row), Signal(column)
        self.left = Signal(4)  # kernel rows still to serve for this channel, this one included
        # What decides about the next slot, known a cycle before: ``left`` is 1; the row, or the column, has only one
        # of them; the slot is the last of its item, or of its word where dumps follow.
        self.last_row, self.one_row, self.one_dump, self.last = Signal(), Signal(), Signal(), Signal(init=1)
        self.list_k, self.accumulator_k = Signal(12), Signal(accumulator)
        self.dump_base = Signal(accumulator)
        # The slot is a job's; a dump's, of so many output positions.
        self.job, self.dump, self.dumps = Signal(), Signal(), Signal(4)

    def begin_kernel_rows(self, row, one_row):
        """Assignments that begin with the first of a row's kernel rows."""
        return [
            self.left.eq(row.count),
            self.last_row.eq(one_row),
            self.list_k.eq(row.list),
            self.accumulator_k.eq(row.accumulator),
        ]


class Dispatcher(wiring.Component):
    """Walks one layer's input and broadcasts jobs.

    Members
    -------
    source : In(Source)
        The layer; stable from ``start`` until the layer is done.
    start : In(1)
        Begin, for one cycle.
    table : Out(ReadPort), words : Out(ReadPort)
        Of the layer memory, and of the bank that holds the map.
    winners : Out(WinnerLookup)
        Of a config with selector: which channels of a word are winners, and what counts as nonzero.
    lookup : Out(PointerLookup)
        To all PEs.
    pes : Out(JobPort), one per PE
        Jobs, to each of them.
    hold : In(1)
        Push nothing in this cycle: in the next one, ``lookup.advance`` is low, and the list memories are written.
    stalled : Out(1)
        A job waits for space.

    Parts, as in the picture: the walk with the queue behind it; the scan, and the item that it takes next; the words
    kept for their jobs; the address sums, then the recall of activations, beside the pointer lookups; what each PE is
    told; the push.

    Latency: :attr:`FIRST_SLOT` cycles from ``start`` to the first slot, :attr:`LATENCY` from a slot to its push.
    Throughput: one issue slot per cycle. Back-pressure: by ``blocked`` and ``hold``. Reset: idle.
    """

    #: Cycles from ``start`` to the first slot: the walk, the RAMs' two, the mask, the queue's two, the scanner.
    FIRST_SLOT = 7
    #: Cycles from a slot to its push, if nothing is held up.
    LATENCY = 5
    #: Cycles from the one in which the first item of a layer is taken to its push. ``hold`` in one of these delays
    #: the push; before them it delays nothing.
    LEAD = LATENCY + 2

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._group_bits = config.pes.bit_length() - 1  #: of a channel's number, below that of its group
        super().__init__(
            ({"winners": Out(WinnerLookup())} if config.selector else {})
            | {
                "source": In(Source),
                "start": In(1),
                "table": Out(ReadPort(32)),
                "words": Out(ReadPort(WORD)),
                "lookup": Out(PointerLookup(config)),
                "pes": Out(JobPort(config)).array(config.pes),
                "hold": In(1),
                "stalled": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # The source is stable cycles before the first word comes.
        depthwise = Signal()
        m.d.sync += depthwise.eq(self.source.depthwise)
        scan = _ScanState(self._config)
        waiting, valid = self._look_ahead(m, scan.take, depthwise)
        first_nonzeros = self._scan(m, scan, waiting)
        self._take_item(m, scan, waiting, valid, first_nonzeros)
        recall = self._keep_words(m, scan, waiting)
        ram = self._sum_addresses(m, scan, depthwise)
        coming = self._recall(m, ram, recall, depthwise)
        out = self._tell(m, coming)
        self._push(m, out)
        return m

    def _look_ahead(self, m, take, depthwise):
        """The walk runs ahead: two cycles of memories, one of the mask, two of the queue, with a credit for each place.

        Returns
        -------
        tuple
            The item at the queue's head with its word, table entry and masks, and whether there is one.
        """
        entry = data.StructLayout(
            {"item": Item, "mask": WORD_CHANNELS, "scan": WORD_CHANNELS, "word": WORD, "table": 32},
        )
        m.submodules.walk = walk = Walk()
        m.submodules.queue = queue = fifo.SyncFIFOBuffered(width=entry.size, depth=_AHEAD + 1)
        arriving, waiting = Signal(entry), data.View(entry, queue.r_data)
        item_ram, valid_ram, valid_read = Signal(Item), Signal(), Signal()
        places, room, returned = Signal(range(_AHEAD + 1), init=_AHEAD), Signal(), Signal()
        m.d.comb += [
            arriving.word.eq(self.words.data),
            walk.source.eq(self.source),
            walk.start.eq(self.start),
            room.eq(places != 0),
            walk.o.ready.eq(room),
            self.table.address.eq(walk.table_address),
            self.words.address.eq(walk.word_address),
            arriving.mask.eq(
                Cat(
                    reaches(value, complement) & ~arriving.item.blank
                    for value, complement in zip(arriving.word, self._complements(m), strict=True)
                )
            ),
            arriving.scan.eq(Mux(depthwise, groups(arriving.mask, self._config.pes), arriving.mask)),
            queue.r_en.eq(take),
        ]
        m.d.sync += [
            valid_ram.eq(walk.o.valid & room),
            item_ram.eq(walk.o.payload),
            valid_read.eq(valid_ram),
            arriving.item.eq(item_ram),
            arriving.table.eq(self.table.data),
            queue.w_data.eq(arriving),
            queue.w_en.eq(valid_read),
            returned.eq(take & queue.r_rdy),
            places.eq(places - (walk.o.valid & room) + returned),
        ]
        if self._config.selector:
            m.d.comb += [self.winners.address.eq(walk.word_address), self.winners.word.eq(walk.o.payload.word)]
        return waiting, queue.r_rdy

    def _complements(self, m):
        """256 less the threshold of each channel of the word that arrives."""
        if self._config.selector:
            found = self.winners
            return [Mux(winner, found.complement, found.other_complement) for winner in found.winners]
        complement = Signal(8)
        # The source is stable cycles before the first word comes.
        m.d.sync += complement.eq(-self.source.threshold)
        return [complement] * WORD_CHANNELS

    def _scan(self, m, scan, waiting):
        """One slot a cycle: a channel's next kernel row, the next channel, or the next output position to drain.

        Returns
        -------
        Nonzeros
            Of the word at the queue's head.
        """
        source, nonzeros = self.source, scan.nonzeros
        # Both are split on the way into the same register: one path is as long as the other.
        first_nonzeros, following_nonzeros = split(m, waiting.scan, "first"), split(m, nonzeros.rest, "rest")
        state, left = scan.state, scan.left
        m.d.comb += [
            scan.job.eq((state == _Slot.WORD) & ~nonzeros.empty),
            scan.dump.eq(state == _Slot.DUMP),
            scan.take.eq(self.lookup.advance & scan.last & ~scan.dumping),
        ]
        with m.If(self.lookup.advance):
            with m.If(scan.job):
                with m.If(scan.last_row):
                    m.d.sync += [
                        nonzeros.eq(following_nonzeros),
                        scan.last.eq(scan.one_row & following_nonzeros.single),
                        *scan.begin_kernel_rows(scan.row, scan.one_row),
                    ]
                with m.Else():
                    # The next kernel row down feeds the output row above; addresses wrap around.
                    m.d.sync += [
                        left.eq(left - 1),
                        scan.last_row.eq(left == 2),
                        scan.last.eq((left == 2) & nonzeros.single),
                        scan.list_k.eq(scan.list_k + source.list_step),
                        scan.accumulator_k.eq(scan.accumulator_k - source.accumulator_step),
                    ]
            with m.If(scan.dump):
                m.d.sync += [
                    scan.dumps.eq(scan.dumps - 1),
                    scan.last.eq(scan.dumps == 2),
                    scan.dump_base.eq(scan.dump_base + source.dump_length),
                ]
            with m.If(scan.last & scan.dumping):
                m.d.sync += [
                    state.eq(_Slot.DUMP),
                    scan.dumping.eq(0),
                    scan.dumps.eq(scan.column.dumps),
                    scan.last.eq(scan.one_dump),
                ]
        return first_nonzeros

    def _take_item(self, m, scan, waiting, valid, first_nonzeros):
        """The next item, in the slot in which the one before ends: a row's table entry, or a word with its column's."""
        item, table = waiting.item, waiting.table
        row, column = table_layouts(self._config)
        with m.If(scan.take):
            m.d.sync += scan.state.eq(Mux(valid, Mux(item.row, _Slot.ROW, _Slot.WORD), _Slot.EMPTY))
            m.d.sync += [
                scan.nonzeros.eq(first_nonzeros),
                scan.number.eq(item.word),
                scan.place.eq(scan.place + 1),
                scan.last.eq(~valid | item.row | first_nonzeros.empty | (scan.one_row & first_nonzeros.single)),
                scan.dumping.eq(0),
            ]
            with m.If(item.row):
                fields, one_row = data.View(row, table[: row.as_shape().size]), Signal()
                m.d.comb += one_row.eq(fields.count == 1)
                m.d.sync += [scan.row.eq(fields), scan.one_row.eq(one_row), *scan.begin_kernel_rows(fields, one_row)]
            with m.Else():
                entry = data.View(column, table[: column.as_shape().size])
                m.d.sync += [
                    scan.column.eq(entry),
                    scan.one_dump.eq(entry.dumps == 1),
                    scan.dumping.eq(valid & item.column_end & scan.row.final & (entry.dumps != 0)),
                ]
        with m.If(self.start):
            m.d.sync += scan.dump_base.eq(self.source.first_dump)

    def _keep_words(self, m, scan, waiting):
        """The words wait for the recall of their activations; returns the port that reads them."""
        kept = data.StructLayout({"mask": WORD_CHANNELS, "word": WORD})
        m.submodules.words = words = memory.Memory(shape=kept, depth=_KEPT, init=[], attrs={"ram_style": "distributed"})
        keep, recall = words.write_port(), words.read_port(domain="comb")
        m.d.comb += [
            keep.en.eq(scan.take),
            keep.addr.eq(scan.place + 1),
            keep.data.mask.eq(waiting.mask),
            keep.data.word.eq(waiting.word),
        ]
        return recall

    def _sum_addresses(self, m, scan, depthwise):
        """Two cycles of address sums, then the first of the pointer lookup.

        Returns
        -------
        Signal
            The job or dump whose pointer the PEs' memories read in this cycle, and where its activations are.
        """
        source, accumulator, split = self.source, self._config.accumulator_address_bits, self._config.split_lists
        what = {"job": 1, "dump": 1, "place": range(_KEPT), "channel": range(WORD_CHANNELS)}
        if split:
            what |= {"parts": 3, "skip": 2}
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
        b, ram = Signal(summed), Signal(summed)
        index = Cat(scan.nonzeros.channel, scan.number)
        with m.If(self.lookup.advance):
            m.d.sync += [
                a.job.eq(scan.job),
                a.dump.eq(scan.dump),
                a.place.eq(scan.place),
                a.channel.eq(scan.nonzeros.channel),
                a.index.eq(Mux(depthwise, index[self._group_bits :], index)),
                a.list.eq(scan.list_k),
                a.column_list.eq(scan.column.list + source.first_list),
                a.accumulator.eq(Mux(scan.dump, scan.dump_base, scan.accumulator_k)),
                a.column_accumulator.eq(Mux(scan.dump, 0, scan.column.accumulator)),
                *(getattr(b, name).eq(getattr(a, name)) for name in what),
                b.accumulator.eq(a.accumulator + a.column_accumulator),
                *([] if split else [self.lookup.number.eq(a.list + a.column_list + a.index)]),
                ram.eq(b),
            ]
        if split:
            self._look_up_split(m, scan, a)
            m.d.comb += self.lookup.parts.eq(ram.parts)
        return ram

    def _look_up_split(self, m, scan, a):
        """Numbers of split lists are those of pairs of words; of others, a word each, there is half and a bit left."""
        number, odd = Signal(14), Signal()
        m.d.comb += number.eq(a.list + a.column_list + a.index)
        with m.If(self.lookup.advance):
            m.d.sync += [
                a.parts.eq(scan.row.parts & scan.column.parts),
                a.skip.eq(scan.row.skip | scan.column.skip),
                self.lookup.number.eq(Mux(a.parts.any(), number, number[1:])),
                odd.eq(number[0] & ~a.parts.any()),
                self.lookup.odd.eq(odd),
            ]

    def _recall(self, m, ram, recall, depthwise):
        """The second cycle of the lookup: each PE's activation; a skid register for when all stop a cycle late.

        Returns
        -------
        Signal
            What the push stage takes next: which PEs it is for, and what it tells them.
        """
        config = self._config
        told = {"wanted": config.pes, "values": data.ArrayLayout(signed(9), config.pes), "dump": 1}
        told |= {"accumulator": config.accumulator_address_bits} | ({"skip": 2} if config.split_lists else {})
        read, held, coming = (Signal(data.StructLayout(told), name=name) for name in ("read", "held", "coming"))
        group = ram.channel[self._group_bits :] << self._group_bits
        mask, values = recall.data.mask, recall.data.word
        m.d.comb += [recall.addr.eq(ram.place), coming.eq(Mux(self.lookup.advance, read, held))]
        with m.If(self.lookup.advance):
            m.d.sync += [
                read.dump.eq(ram.dump),
                read.accumulator.eq(ram.accumulator),
                *([read.skip.eq(ram.skip)] if config.split_lists else []),
                held.eq(read),
            ]
            for pe in range(config.pes):
                m.d.sync += [
                    read.wanted[pe].eq(ram.dump | (ram.job & (~depthwise | mask.bit_select(group | pe, 1)))),
                    read.values[pe].eq(Mux(depthwise, values[group | pe], values[ram.channel])),
                ]
        return coming

    def _tell(self, m, coming):
        """The push stage's register: for each PE a job with its activation, and whether it is wanted."""
        config = self._config
        told = data.StructLayout({"wanted": 1, "job": job_layout(config)})
        out = Signal(data.ArrayLayout(told, config.pes))
        m.d.comb += self.lookup.dump.eq(coming.dump)
        with m.If(self.lookup.pushed):
            for pe in range(config.pes):
                m.d.sync += [
                    out[pe].wanted.eq(coming.wanted[pe]),
                    out[pe].job.dump.eq(coming.dump),
                    out[pe].job.value.eq(coming.values[pe]),
                    out[pe].job.accumulator.eq(coming.accumulator),
                    *([out[pe].job.skip.eq(coming.skip)] if config.split_lists else []),
                ]
        return out

    def _push(self, m, out):
        """All targets together, or nobody: one PE without space holds up the pipeline, which hears it a cycle later."""
        wanted, frozen = Cat(each.wanted for each in out), Signal()
        blocked = Cat(pe.blocked for pe in self.pes)
        m.d.comb += [
            frozen.eq((wanted & blocked).any()),
            self.stalled.eq(frozen),
            self.lookup.pushed.eq(~frozen & ~self.hold),
            Cat(pe.wanted for pe in self.pes).eq(wanted),
            *(pe.job.eq(each.job) for pe, each in zip(self.pes, out, strict=True)),
        ]
        m.d.sync += self.lookup.advance.eq(self.lookup.pushed)
