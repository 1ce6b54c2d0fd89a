"""A generated core in a LiteX SoC, elaborated: its ports are connected, its registers are there."""

import json
import re
import subprocess
import sys

import pytest

#: Run in a process of its own: LiteX and Migen keep what they make in their modules, and print.
_SOC = """
from pathlib import Path
from litex.build.generic_platform import Pins
from litex.build.sim import SimPlatform
from litex.soc.integration.export import get_csr_json
from litex.soc.integration.soc_core import SoCMini
from migen import ClockDomain, Module
from mine_litex import Offramp

platform = SimPlatform("SIM", [(name, 0, Pins(1)) for name in ("sys_clk", "sys_rst")])

class Clocks(Module):
    def __init__(self):
        self.clock_domains.cd_sys = ClockDomain()
        self.comb += [self.cd_sys.clk.eq(platform.request("sys_clk")), self.cd_sys.rst.eq(platform.request("sys_rst"))]

class Soc(SoCMini):
    def __init__(self):
        super().__init__(platform, clk_freq=50e6)
        self.submodules.crg = Clocks()
        self.mine = Offramp(platform)
        self.add_ram("ram", 0x40000000, 4096)
        self.bus.add_master("mine_commands", self.mine.reader.bus)
        self.bus.add_master("mine_replies", self.mine.writer.bus)

soc = Soc()
soc.finalize()
platform.get_verilog(soc, name="soc").write("soc.v")
Path("csr.json").write_text(get_csr_json(soc.csr_regions, soc.constants, soc.mem_regions))
"""


@pytest.fixture(scope="module")
def soc(tmp_path_factory, files):
    """A folder with the SoC's Verilog and the addresses of its CSRs."""
    folder = tmp_path_factory.mktemp("soc")
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "make_soc.py").write_text(_SOC)
    made = subprocess.run([sys.executable, "make_soc.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return folder


def test_the_core_and_its_registers_are_in_the_soc(soc):
    text = (soc / "soc.v").read_text()
    (instance,) = re.findall(r"^mine \w+ ?\((.*?)^\);", text, flags=re.MULTILINE | re.DOTALL)
    declared = re.search(r"^module mine\((.*?)\);", (soc / "mine.v").read_text(), flags=re.MULTILINE)[1]
    connected = set(re.findall(r"\.(\w+) *\(", instance))
    assert connected <= set(declared.split(", "))
    assert set(declared.split(", ")) - connected == {"m_axis_tkeep"}
    registers = json.loads((soc / "csr.json").read_text())["csr_registers"]
    assert {"mine_reset", "mine_reader_base", "mine_writer_offset"} <= set(registers)
