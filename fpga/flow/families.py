"""Devices of other vendors and generations: what the accelerator takes of them, by Yosys alone.

Nothing is placed or routed: this says whether a family's synthesis takes the Verilog, and how large the outcome is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fpga.flow.toolchain import yosys_command

__all__ = ["FAMILIES", "KINDS", "Family"]

#: What is counted of every family, in cells of its own, and what it is called: tables have four inputs or fewer, those
#: that serve as memories hold 16 bits.
KINDS = {
    "tables": "tables",
    "carries": "carry bits",
    "memory_tables": "tables as memory",
    "flip_flops": "flip-flops",
    "block_rams": "block RAMs",
    "multipliers": "multipliers",
}


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of devices that one script of Yosys serves.

    Parameters
    ----------
    title : str
        Vendor and device that the script is for.
    steps : sequence of str
        Yosys' commands between reading the Verilog and writing the netlist; ``{top}`` stands for the top module.
    takes : mapping of str to (str, int) or None
        What a cell of Yosys takes: of which of :data:`KINDS` how many. None for nothing of its own: constants,
        multiplexers that come with neighbouring tables, and notes about the modules that there were.
    file : str, optional
        Name of a file of this folder that a step reads from where Yosys runs.
    """

    title: str
    steps: Sequence[str]
    takes: Mapping[str, tuple[str, int] | None]
    file: str | None = None

    def command(self, verilog: str, top: str) -> list[str]:
        """Command line of Yosys: netlist of a module of a Verilog file, into the file ``<top>.json``."""
        steps = [step.format(top=top) for step in self.steps]
        return yosys_command([f"read_verilog {verilog}", *steps, f"write_json {top}.json", "stat"])


def _flip_flops(*names: str) -> dict[str, tuple[str, int] | None]:
    return {name: ("flip_flops", 1) for name in names}


def _blocks(*names: str) -> dict[str, tuple[str, int] | None]:
    return {name: ("block_rams", 1) for name in names}


def _multipliers(*names: str) -> dict[str, tuple[str, int] | None]:
    return {name: ("multipliers", 1) for name in names}


#: Families by name.
FAMILIES = {
    "ice40": Family(
        title="Lattice iCE40 UltraPlus",
        # It has no memories of tables: those that are marked to be some become block RAMs or flip-flops.
        steps=("setattr -unset ram_style m:*", "synth_ice40 -top {top} -device u -dsp"),
        takes={
            "SB_LUT4": ("tables", 1),
            "SB_CARRY": ("carries", 1),
            **_flip_flops("SB_DFF", "SB_DFFE", "SB_DFFSR", "SB_DFFESR", "SB_DFFSS", "SB_DFFESS"),
            **_blocks("SB_RAM40_4K"),
            **_multipliers("SB_MAC16"),
            "$scopeinfo": None,
        },
    ),
    "nexus": Family(
        title="Lattice Nexus (CrossLink-NX)",
        # Without the other steps nextpnr-nexus refuses the netlist: its carry chains begin with a constant.
        steps=(
            "synth_lattice -family lifcl -top {top} -noiopad",
            "techmap -max_iter 1 -map nexus_carries.v t:CCU2",
            "clean",
        ),
        file="nexus_carries.v",
        takes={
            "LUT4": ("tables", 1),
            "WIDEFN9": ("tables", 2),
            "INV": ("tables", 1),
            "CCU2": ("carries", 2),
            "DPR16X4": ("memory_tables", 4),
            **_flip_flops("FD1P3BX", "FD1P3DX", "FD1P3IX", "FD1P3JX"),
            **_blocks("DP16K", "PDP16K", "PDPSC16K"),
            **_multipliers("MULT9X9", "MULT18X18"),
            "VHI": None,
            "VLO": None,
            "$scopeinfo": None,
        },
    ),
    "gowin": Family(
        title="Gowin GW2A",
        steps=("synth_gowin -top {top} -family gw2a -noiopads",),
        takes={
            **{f"LUT{inputs}": ("tables", 1) for inputs in (1, 2, 3, 4)},
            "ALU": ("carries", 1),
            **{f"RAM16SDP{bits}": ("memory_tables", bits) for bits in (1, 2, 4)},
            **_flip_flops("DFF", "DFFE", "DFFR", "DFFRE", "DFFS", "DFFSE"),
            **_blocks("SP", "SPX9", "SDPB", "SDPX9B", "DPB", "DPX9B"),
            **_multipliers("MULT9X9", "MULT18X18"),
            **{f"MUX2_LUT{inputs}": None for inputs in (5, 6, 7, 8)},
            "GND": None,
            "VCC": None,
            "$scopeinfo": None,
        },
    ),
}
