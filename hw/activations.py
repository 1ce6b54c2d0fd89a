"""Activation and mask memories of a core: two banks, each read at one place and written at one place a cycle."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BANKS, MASK_CHANNELS, AcceleratorConfig
from hw.writer import ActivationWrite, MaskWrite

__all__ = ["ActivationMemory"]


class ActivationMemory(wiring.Component):
    """Two banks of activations with their nonzero masks.

    Members
    -------
    activation : In(stream of ActivationWrite), mask : In(stream of MaskWrite), always ready
        Writes.
    bank : In(1), address : In(16), advance : In(1), value : Out(signed 9)
        The dispatcher's read: a pipeline of two cycles that moves on where ``advance`` is high.
    other_address : In(16), other : Out(signed 9)
        A read of the other bank, two cycles, every cycle.
    mask_bank : In(1), mask_address : In(12), mask_enable : In(1), mask_word : Out(32)
        Synchronous read of a mask word.

    Reset: memories keep their contents.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "activation": In(stream.Signature(ActivationWrite, always_ready=True)),
                "mask": In(stream.Signature(MaskWrite, always_ready=True)),
                "bank": In(1),
                "address": In(16),
                "advance": In(1),
                "value": Out(signed(9)),
                "other_address": In(16),
                "other": Out(signed(9)),
                "mask_bank": In(1),
                "mask_address": In(12),
                "mask_enable": In(1),
                "mask_word": Out(MASK_CHANNELS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        values, words = [], []
        for bank in range(BANKS):
            ram = memory.Memory(shape=signed(9), depth=config.activation_bytes, init=[], attrs={"no_rw_check": 1})
            masks = memory.Memory(shape=MASK_CHANNELS, depth=config.mask_words, init=[], attrs={"no_rw_check": 1})
            m.submodules[f"activations_{bank}"] = ram
            m.submodules[f"masks_{bank}"] = masks
            write, read = ram.write_port(), ram.read_port()
            mask_write, mask_read = masks.write_port(), masks.read_port()
            mine = self.bank == bank
            value = Signal(signed(9), name=f"value_{bank}")
            enable = Signal(name=f"enable_{bank}")
            m.d.comb += [
                write.addr.eq(self.activation.payload.address),
                write.data.eq(self.activation.payload.value),
                write.en.eq(self.activation.valid & (self.activation.payload.bank == bank)),
                enable.eq(~mine | self.advance),
                read.addr.eq(Mux(mine, self.address, self.other_address)),
                read.en.eq(enable),
                mask_write.addr.eq(self.mask.payload.address),
                mask_write.data.eq(self.mask.payload.mask),
                mask_write.en.eq(self.mask.valid & (self.mask.payload.bank == bank)),
                mask_read.addr.eq(self.mask_address),
                mask_read.en.eq(self.mask_enable),
            ]
            with m.If(enable):
                m.d.sync += value.eq(read.data)
            values.append(value)
            words.append(mask_read.data)
        m.d.comb += [
            self.value.eq(Mux(self.bank, values[1], values[0])),
            self.other.eq(Mux(self.bank, values[0], values[1])),
            self.mask_word.eq(Mux(self.mask_bank, words[1], words[0])),
        ]
        return m
