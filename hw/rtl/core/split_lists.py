"""The list memory of a PE with split lists: two banks, so that a list's pointer and its cuts are read at once.

The word of an address lies in the bank of its lowest bit. Lists that aren't split have one word; its bank is told.
"""

from amaranth import Cat, Module, Mux, Signal
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
        The pointer to what a job multiplies, in the cycle of ``lookup.parts``: two cycles behind its number; whether
        that has entries, which takes less time than to count them.
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
        self._find(m, lookup, words[0][0], words[1][0])

    def _find(self, m, lookup, even, odd):
        """The range of the parts that are met; of a list that isn't split the whole."""
        layout, cuts = pointer_layout(self._config), cuts_layout(self._config)
        cuts = cuts(odd[: cuts.as_shape().size])
        first, second = (layout(word) for word in (even, odd))
        parts, whole = lookup.parts, Signal(layout)
        self._find_entries(m, lookup, first, second, cuts)
        before, behind = Signal.like(whole.count), Signal.like(whole.count)
        m.d.comb += [
            whole.eq(Mux(lookup.odd, second, first)),
            behind.eq(whole.count),
            self.found.start.eq(whole.start + before),
            self.found.count.eq(behind - before),
        ]
        with m.If(parts.any()):
            m.d.comb += before.eq(Mux(parts[0], 0, Mux(parts[1], cuts.first, cuts.second)))
            with m.If(~parts[2]):
                m.d.comb += behind.eq(Mux(parts[1], cuts.second, cuts.first))

    def _find_entries(self, m, lookup, first, second, cuts):
        """Whether one of the parts that are met has entries; the part between two others that are met is, too."""
        parts = lookup.parts
        filled = cuts.first != 0, cuts.second != cuts.first, first.count != cuts.second
        met = parts[0], parts[1] | (parts[0] & parts[2]), parts[2]
        split = Cat(here & has for here, has in zip(met, filled, strict=True)).any()
        whole = Mux(lookup.odd, second.count != 0, first.count != 0)
        m.d.comb += self.hit.eq(Mux(parts.any(), split, whole))
