"""Shared components: the same behaviour as copies, one module in Verilog."""

import json
import re

import pytest
from amaranth import Instance, Module, ResetInserter, Signal
from amaranth.back import verilog
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from fpga.flow.toolchain import run_tool, synthesis_command
from hw.rtl.verilog import convert
from hw.rtl.verilog_platform import memory_attributes, promote, shared
from tests.hw.simulate import Bench, simulate


class Counter(wiring.Component):
    """Counts the words it takes, modulo 16."""

    reset: In(1)
    i: In(stream.Signature(8, always_ready=True))
    count: Out(4)

    def elaborate(self, platform):
        m = Module()
        with m.If(self.i.valid):
            m.d.sync += self.count.eq(self.count + self.i.payload)
        return ResetInserter(self.reset)(m)


class Pair(wiring.Component):
    """Two counters, the second one fed by the first."""

    reset: In(1)
    i: In(8)
    count: Out(4)

    def elaborate(self, platform):
        m = Module()
        first, second = (shared(platform, Counter, "counter") for _ in range(2))
        m.submodules += [first, second]
        valid = Signal()
        m.d.comb += [
            valid.eq(self.i != 0),
            first.i.valid.eq(valid),
            first.i.payload.eq(self.i),
            second.i.valid.eq(valid),
            second.i.payload.eq(first.count),
            first.reset.eq(self.reset),
            second.reset.eq(self.reset),
            self.count.eq(second.count),
        ]
        return m


class Pairs(wiring.Component):
    """Two pairs, so that a module holds instances of a module."""

    reset: In(1)
    i: In(8)
    count: Out(4)

    def elaborate(self, platform):
        m = Module()
        pairs = [shared(platform, Pair, "pair") for _ in range(2)]
        m.submodules += pairs
        for pair in pairs:
            m.d.comb += [pair.i.eq(self.i), pair.reset.eq(self.reset)]
        m.d.comb += self.count.eq(pairs[0].count ^ pairs[1].count)
        return m


def test_without_conversion_every_component_is_its_own(tmp_path):
    def build(rng):
        dut = Pair()

        async def drive(ctx):
            first = second = 0
            for _ in range(100):
                word, reset = rng.randrange(4), rng.random() < 0.05
                ctx.set(dut.i, word)
                ctx.set(dut.reset, reset)
                await ctx.tick()
                if word:
                    first, second = (first + word) % 16, (second + first) % 16
                if reset:
                    first = second = 0
                assert ctx.get(dut.count) == second

        return Bench(dut=dut, testbenches=[drive])

    simulate(build, seed=1, folder=tmp_path)


def test_a_module_is_written_once_and_connected_by_the_names_of_its_ports():
    text = convert(Pairs(), "pairs")
    modules = re.findall(r"^module \\?(\S+?)\s*\(", text, flags=re.MULTILINE)
    assert sorted(modules) == ["counter", "pair", "pairs"]
    assert len(re.findall(r"^  counter ", text, flags=re.MULTILINE)) == 2
    assert len(re.findall(r"^  pair ", text, flags=re.MULTILINE)) == 2
    ports = re.search(r"^module counter\((.*?)\);", text, flags=re.MULTILINE)[1]
    named = {port.strip() for port in ports.split(",")}
    assert named == {"clk", "rst", "reset", "i__valid", "i__payload", "count"}
    for instance in re.findall(r"^  counter .*?\);", text, flags=re.MULTILINE | re.DOTALL):
        assert set(re.findall(r"\.(\w+)\(", instance)) == named


def test_amaranths_own_conversion_still_copies():
    text = verilog.convert(Pair(), name="top", emit_src=False)
    assert len(re.findall(r"^module ", text, flags=re.MULTILINE)) == 3


class Reaching(wiring.Component):
    """A flip-flop for others."""

    i: In(1)
    o: Out(1)

    def elaborate(self, platform):
        m = Module()
        register = Signal()
        m.d.sync += [register.eq(self.i), self.o.eq(promote(platform, m, register))]
        return m


def test_a_network_of_the_device_is_used_where_there_is_one():
    def network(m, signal):
        reached = Signal.like(signal)
        m.submodules += Instance("NETWORK", i_from=signal, o_to=reached)
        return reached

    assert "NETWORK" not in convert(Reaching(), "top")
    assert len(re.findall(r"^  NETWORK ", convert(Reaching(), "top", network), re.MULTILINE)) == 1


def test_without_a_device_the_signal_itself_arrives(tmp_path):
    def build(rng):
        dut = Reaching()

        async def drive(ctx):
            ctx.set(dut.i, 1)
            await ctx.tick().repeat(2)
            assert ctx.get(dut.o) == 1

        return Bench(dut=dut, testbenches=[drive])

    simulate(build, seed=1, folder=tmp_path)


class Memory(wiring.Component):
    """A memory, read in the cycle after its address."""

    address: In(8)
    data: Out(8)
    written: In(8)

    def __init__(self, words: int):
        self._words = words
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = memory.Memory(
            shape=8, depth=self._words, init=[], attrs=memory_attributes(self._words)
        )
        write, read = ram.write_port(), ram.read_port()
        m.d.comb += [write.en.eq(1), write.data.eq(self.written), write.addr.eq(self.address)]
        m.d.comb += [read.addr.eq(self.address), self.data.eq(read.data)]
        return m


@pytest.mark.parametrize(
    ("words", "cells"), [(128, "TRELLIS_DPR16X4"), pytest.param(256, "DP16KD", marks=pytest.mark.slow)]
)
def test_small_memories_take_no_block_ram(tmp_path, words, cells):
    (tmp_path / "memory.v").write_text(convert(Memory(words), "memory"))
    run_tool("synthesis", synthesis_command("memory.v", "memory"), tmp_path, tmp_path / "log")
    module = json.loads((tmp_path / "memory.json").read_text())["modules"]["memory"]
    kinds = {cell["type"] for cell in module["cells"].values()}
    assert kinds & {"TRELLIS_DPR16X4", "DP16KD"} == {cells}
