"""The list memory of a PE with split lists: two banks, so that a list's pointer and its cuts are read at once.

The word of an address lies in the bank of its lowest bit. Lists that aren't split have one word; its bank is told.
"""

from functools import reduce
from operator import or_

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import memory

from hw.config import LIST_WORD_BITS, AcceleratorConfig
from hw.rtl.interfaces import PointerLookup
from hw.rtl.structs import cuts_layout, pointer_layout

__all__ = ["SplitMemory"]


class SplitMemory:
    """Adds the banks to a PE.

    Parameters
    ----------
    load : stream interface
        As of :class:`hw.rtl.core.pe.ProcessingElement`.
    lookup : PointerLookup

    Attributes
    ----------
    fetch : list of assignments
        Load the registers behind the banks, where ``lookup.advance`` is high.
    found, hit : Signal
        The pointer to what a job multiplies, two cycles behind its number; whether that has entries, which takes less
        time than to count them.
    addr, data : Signal
        Address of an entry, and its word a cycle later.
    """

    def __init__(self, m: Module, load, lookup: PointerLookup, config: AcceleratorConfig):
        self._config = config
        self.found, self.hit = Signal(pointer_layout(config)), Signal()
        self.fetch = []
        self.addr, self.data = Signal(config.start_bits), Signal(LIST_WORD_BITS)
        banks = [
            memory.Memory(shape=LIST_WORD_BITS, depth=config.list_words // 2, init=[], attrs={"no_rw_check": 1})
            for _ in range(2)
        ]
        odd, words = Signal(), []
        address = Signal(config.start_bits - 1)
        m.d.comb += address.eq(Mux(load.valid, load.payload.address[1:], lookup.number))
        for number, bank in enumerate(banks):
            m.submodules[f"lists_{number}"] = bank
            write, pointers, entries = bank.write_port(), bank.read_port(), bank.read_port()
            fetched = Signal(LIST_WORD_BITS, name=f"fetched_{number}")
            m.d.comb += [
                write.addr.eq(address),
                write.data.eq(load.payload.data),
                write.en.eq(load.valid & (load.payload.address[0] == number)),
                pointers.addr.eq(address),
                pointers.en.eq(lookup.advance),
                entries.addr.eq(self.addr[1:]),
                entries.en.eq(1),
            ]
            self.fetch.append(fetched.eq(pointers.data))
            words.append((fetched, entries.data))
        m.d.sync += odd.eq(self.addr[0])
        m.d.comb += self.data.eq(Mux(odd, words[1][1], words[0][1]))
        self._find(m, _Chosen(m, lookup), words[0][0], words[1][0])

    def _find(self, m, chosen, even, odd):
        """The range of the parts that are met; of a list that isn't split the whole."""
        layout, cuts = pointer_layout(self._config), cuts_layout(self._config)
        cuts = cuts(odd[: cuts.as_shape().size])
        first, second = (layout(word) for word in (even, odd))
        before, behind = Signal.like(first.count), Signal.like(first.count)
        m.d.comb += [
            before.eq(_either((chosen.from_first, cuts.first), (chosen.from_second, cuts.second))),
            behind.eq(_either((chosen.to_first, cuts.first), (chosen.to_second, cuts.second))),
            self.found.start.eq(Mux(chosen.odd, second.start, first.start) + before),
            self.found.count.eq(behind - before),
        ]
        with m.If(chosen.to_end):
            m.d.comb += behind.eq(Mux(chosen.odd, second.count, first.count))
        filled = cuts.first != 0, cuts.second != cuts.first, first.count != cuts.second
        whole = (chosen.even, first.count != 0), (chosen.odd, second.count != 0)
        m.d.comb += self.hit.eq(_either(*zip(chosen.met, filled, strict=True), *whole))


class _Chosen:
    """What is chosen of the words that are fetched: decoded a cycle before, in registers of the PE's own.

    A list that isn't split is one of its words, ``even`` or ``odd``. Of another one the parts that are ``met`` are, and
    what lies between two of them.
    """

    def __init__(self, m, lookup):
        self.even, self.odd = Signal(), Signal()
        self.met = Signal(3)
        # The range begins and ends at a cut, else at the list's own beginning or end; ``to_end`` overrules the others.
        self.from_first, self.from_second = Signal(), Signal()
        self.to_first, self.to_second, self.to_end = Signal(), Signal(), Signal(init=1)
        low, middle, high = lookup.parts
        none = ~lookup.parts.any()
        with m.If(lookup.advance):
            m.d.sync += [
                self.even.eq(none & ~lookup.odd),
                self.odd.eq(lookup.odd),
                self.met.eq(Cat(low, middle | (low & high), high)),
                self.from_first.eq(~low & middle),
                self.from_second.eq(~low & ~middle & high),
                self.to_first.eq(low & ~middle),
                self.to_second.eq(middle),
                self.to_end.eq(high | none),
            ]


def _either(*choices):
    """The values whose choice is high, ored."""
    return reduce(or_, (Value.cast(value) & choice.replicate(len(value)) for choice, value in choices))
