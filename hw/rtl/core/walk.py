"""Address counters over a map: row after row, position after position, word after word."""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.core.address_generator import AddressGenerator
from hw.rtl.core.wrapping_counter import WrappingCounter
from hw.rtl.structs import Source

__all__ = ["Item", "Walk"]


class Item(data.Struct):
    """One step of the walk: the beginning of a row, or a word of activations."""

    row: 1
    blank: 1  # of a row below the map: the word counts as zero
    column_end: 1  # last word of its position
    word: 8  # number of the word at its position


class Walk(wiring.Component):
    """Walks a map once.

    Members
    -------
    source : In(Source)
        The map; stable from ``start`` until the last item has been taken.
    start : In(1)
    table_address, word_address : Out(12)
        Where the present item's table entry and word are.
    o : Out(stream of Item)
        For each row an item of its own, then one per word; for a position of a blank row one.

    Latency: the first item one cycle after ``start``. Throughput: one item per cycle. Back-pressure: the walk stands
    still while ``o`` is held back. Reset: idle.
    """

    source: In(Source)
    start: In(1)
    table_address: Out(12)
    word_address: Out(12)
    o: Out(stream.Signature(Item))

    def elaborate(self, platform):
        m = Module()
        source = self.source
        row = Signal(8)
        at_row, active = Signal(), Signal()
        moves, last_word, last_row, blank = Signal(), Signal(), Signal(), Signal()
        # Where they end, ready when the first item is.
        rows_end, blank_from = Signal(8), Signal(8)
        m.submodules.words = words = WrappingCounter(len(source.words))
        m.d.sync += [
            rows_end.eq(source.rows - 1),
            blank_from.eq(source.rows - source.blank_rows - 1),
        ]
        m.submodules.addresses = addresses = AddressGenerator(len(self.word_address))
        m.d.comb += [
            addresses.strides.base.eq(source.base),
            addresses.strides.column_pitch.eq(source.column_pitch),
            addresses.strides.row_pitch.eq(source.row_pitch),
            addresses.strides.columns.eq(source.columns),
            addresses.start.eq(self.start),
            addresses.advance.eq(moves),
            addresses.last.eq(last_word),
        ]
        m.d.comb += [
            moves.eq(active & self.o.ready & ~at_row),
            words.count.eq(source.words),
            words.start.eq(self.start),
            words.advance.eq(moves & ~blank),
            last_word.eq(blank | words.last),
            last_row.eq(row == rows_end),
            self.table_address.eq(Mux(at_row, source.row_table + row, source.column_table + addresses.column)),
            self.word_address.eq(addresses.address),
            self.o.valid.eq(active),
            self.o.payload.row.eq(at_row),
            self.o.payload.blank.eq(blank),
            self.o.payload.column_end.eq(last_word),
            self.o.payload.word.eq(words.value),
        ]
        with m.If(self.start):
            m.d.sync += [
                active.eq(1),
                at_row.eq(1),
                blank.eq(source.rows == source.blank_rows),
                row.eq(0),
            ]
        with m.Elif(active & self.o.ready):
            m.d.sync += at_row.eq(0)
            with m.If(moves & last_word & addresses.last_column):
                m.d.sync += [
                    at_row.eq(1),
                    row.eq(row + 1),
                    blank.eq(blank | (row == blank_from)),
                    active.eq(~last_row),
                ]
        return m
