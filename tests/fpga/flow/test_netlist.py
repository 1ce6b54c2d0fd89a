"""Cells compute what the Verilog does that they are made of: both side by side, on random inputs."""

import re
import shutil
import subprocess
from random import Random

import pytest
from amaranth import Const, Module
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from fpga.boards import board
from fpga.flow.netlist import STAGES, _connect, cell_models, netlist_verilog
from hw.rtl.verilog import convert
from hw.rtl.verilog_platform import memory_attributes

pytestmark = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog isn't installed")

#: Words and bits of memories: of tables, and of block RAMs by their widths.
MEMORIES = [(16, 8), (8192, 2), (4096, 4), (2048, 9), (1024, 18), (512, 36)]
#: A function of seven bits that is no simpler one.
TABLE = Random(1).getrandbits(128)
#: The larger module reads this far behind what it writes: never what is being written.
BEHIND = 3


class Mixture(wiring.Component):
    """Memories of every width, each read and written in every cycle, a product, a sum, a table of seven bits."""

    write: In(1)
    address: In(13)
    i: In(36)
    reads: Out(sum(bits for _, bits in MEMORIES))
    product: Out(36)
    sum: Out(24)
    bit: Out(1)

    def elaborate(self, platform):
        m = Module()
        first = 0
        for words, bits in MEMORIES:
            store = memory.Memory(shape=bits, depth=words, init=[], attrs=memory_attributes(words))
            m.submodules[f"store_{words}"] = store
            read, write = store.read_port(), store.write_port()
            m.d.comb += [
                read.addr.eq(self.address - BEHIND),
                write.addr.eq(self.address),
                write.data.eq(self.i >> words % 5),
                write.en.eq(self.write),
                self.reads[first : first + bits].eq(read.data),
            ]
            first += bits
        m.d.comb += self.product.eq(self.i[:18].as_signed() * self.i[18:].as_signed())
        m.d.sync += self.bit.eq(Const(TABLE, 128).bit_select(self.i[:7], 1))
        with m.If(self.write):
            m.d.sync += self.sum.eq(self.sum + self.i)
        return m


class Clash(wiring.Component):
    """A block RAM that is read where it is written."""

    write: In(1)
    address: In(9)
    i: In(36)
    o: Out(36)

    def elaborate(self, platform):
        m = Module()
        m.submodules.store = store = memory.Memory(shape=36, depth=512, init=[], attrs=memory_attributes(512))
        read, write = store.read_port(), store.write_port()
        m.d.comb += [read.addr.eq(self.address), write.addr.eq(self.address), write.data.eq(self.i)]
        m.d.comb += [write.en.eq(self.write), self.o.eq(read.data)]
        return m


BENCH = """
module bench;
  reg clk = 0, write;
  reg [12:0] address = 0;
  reg [35:0] i;
  integer cycle, different = 0;
  wire [{reads}:0] reads, cells_reads;
  wire [35:0] product, cells_product;
  wire [23:0] sum, cells_sum;
  wire bit, cells_bit;
  mixture rtl(.clk(clk), .rst(1'b0), .write(write), .address(address), .i(i), .reads(reads), .product(product),
    .sum(sum), .bit(bit));
  cells netlist(.clk(clk), .rst(1'b0), .write(write), .address(address), .i(i), .reads(cells_reads),
    .product(cells_product), .sum(cells_sum), .bit(cells_bit));
  initial begin
    for (cycle = 0; cycle < 5000; cycle = cycle + 1) begin
      write = $random;
      i = {{$random, $random}};
      // Mostly words that were written shortly before.
      address = cycle % 7 ? address + 1 : $random;
      #1 if (cycle > 1 && {{reads, product, sum, bit}} !== {{cells_reads, cells_product, cells_sum, cells_bit}})
        different = different + 1;
      clk = 1;
      #1 clk = 0;
    end
    $display("%0d different", different);
  end
endmodule
"""

CLASH_BENCH = """
module bench;
  reg clk = 0;
  wire [35:0] o;
  reg write = 1;
  clash netlist(.clk(clk), .rst(1'b0), .write(write), .address(9'd5), .i(36'h123456789), .o(o));
  initial begin
    #1 clk = 1; #1 clk = 0; $display("%h", o);
    write = 0;
    #1 clk = 1; #1 clk = 0; $display("%h", o);
  end
endmodule
"""


def ran(folder, *texts: str) -> str:
    """What a bench prints on Icarus Verilog."""
    for number, text in enumerate(texts):
        (folder / f"{number}.v").write_text(text)
    files = [f"{number}.v" for number in range(len(texts))]
    subprocess.run(["iverilog", "-g2005", "-s", "bench", "-o", "bench", *files], cwd=folder, check=True)
    done = subprocess.run(["vvp", "-n", "bench"], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


def netlist(component, name: str, stage: str, folder) -> str:
    return netlist_verilog(convert(component, name), name, stage, board("ulx3s-25f"), failed=folder / "failed.log")


@pytest.mark.parametrize(
    "stage", [name if name == STAGES[0] else pytest.param(name, marks=pytest.mark.slow) for name in STAGES]
)
def test_cells_compute_what_the_verilog_does(tmp_path, stage):
    made = re.sub(r"^module mixture\b", "module cells", netlist(Mixture(), "mixture", stage, tmp_path), flags=re.M)
    kinds = {"synthesized": ("CCU2C", "TRELLIS_DPR16X4", "L6MUX21"), "routed": ("TRELLIS_COMB", "TRELLIS_RAMW")}[stage]
    assert all(re.search(rf"^  {kind} ", made, flags=re.MULTILINE) for kind in ("DP16KD", "MULT18X18D", *kinds))
    bench = BENCH.format(reads=sum(bits for _, bits in MEMORIES) - 1)
    assert ran(tmp_path, bench, convert(Mixture(), "mixture"), made).strip() == "0 different"


def test_what_is_read_where_it_is_written_is_unknown(tmp_path):
    """The Verilog would say it, but nothing of ours may rely on it: so Yosys is told, and adds no cells for it."""
    assert ran(tmp_path, CLASH_BENCH, netlist(Clash(), "clash", STAGES[0], tmp_path)).split() == ["x" * 9, "123456789"]


def test_models_are_of_every_cell_once():
    names = re.findall(r"^module (\S+?) ?\(", cell_models(), flags=re.MULTILINE)
    assert len(set(names)) == len(names)
    assert {"LUT4", "PFUMX", "CCU2C", "TRELLIS_FF", "TRELLIS_COMB", "TRELLIS_RAMW", "DP16KD", "MULT18X18D"} <= set(
        names
    )


def test_pins_that_nextpnr_leaves_open_are_what_it_says_of_them():
    def cell(kind: str, pins: dict[str, list], **parameters: str) -> dict:
        directions = {pin: "output" if pin in ("F", "Q", "O", "CLKO") else "input" for pin in pins}
        return {"type": kind, "connections": pins, "parameters": parameters, "port_directions": directions}

    cells = [
        cell("TRELLIS_FF", {"DI": [], "M": [7], "LSR": [], "CE": [], "Q": [8]}, SD="0 ", LSRMUX="LSR", CEMUX="1 "),
        cell("TRELLIS_FF", {"DI": [7], "LSR": [], "Q": [8]}, SD="1 ", LSRMUX="INV"),
        cell("TRELLIS_COMB", {"A": [], "B": [7], "F": []}, MODE="CCU2"),
        cell("TRELLIS_COMB", {"FXA": [7], "FXB": [8], "M": [9]}),
        cell(
            "DP16KD",
            {"ADA0": [], "CEA": [], "WEB": [], "DIA1": [], "WEA": [7]},
            ADA0MUX="0 ",
            CEAMUX="CEA",
            WEBMUX="INV",
        ),
        cell("DCCA", {"CE": [], "CLKI": [7], "CLKO": [8]}),
        cell("TRELLIS_IO", {"B": [7], "I": [], "O": [8]}, DIR="INPUT"),
        cell("TRELLIS_IO", {"B": [8], "I": [7], "O": []}, DIR="OUTPUT"),
    ]
    _connect(cells)
    assert [each["connections"] for each in cells] == [
        {"DI": [7], "LSR": ["0"], "CE": ["1"], "Q": [8]},
        {"DI": [7], "LSR": ["1"], "Q": [8]},
        {"A": ["1"], "B": [7], "F": []},
        {"FXA": [7], "FXB": [8], "M": [9]},
        {"ADA0": ["0"], "CEA": ["1"], "WEB": ["0"], "WEA": [7]},
        *[{"A": [7], "Y": [8]}] * 3,
    ]
    assert [each["type"] for each in cells[5:]] == ["$_BUF_"] * 3
    assert [each["parameters"] for each in cells[3:5]] == [{"IS_Z1": "1"}, {}]
    assert all("SD" not in each["parameters"] for each in cells)
