import json
import random
import runpy
from functools import reduce
from operator import xor
from pathlib import Path

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from fpga.boards import BOARDS
from fpga.flow.alone import Alone, ClockBaseline, check_no_slower, core_clocks, core_digest
from fpga.flow.build import BuildReport
from fpga.flow.report import Usage
from hw.config import preset

ROOT = Path(__file__).parents[3]
#: MHz by which the median of three seeds may be lower than the baseline's. The baseline's seeds lie within 0.9 MHz of
#: each other, so that the medians of two such threes differ by 0.5 MHz (standard deviation); this is four times that.
NOISE = 2.0


class Mixer(wiring.Component):
    """Sum and difference of two numbers, more bits each way than a word has."""

    a: In(40)
    b: In(20)
    total: Out(41)
    less: Out(30)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.total.eq(self.a + self.b), self.less.eq(self.a - self.b)]
        return m


def test_inputs_come_from_the_chain_and_outputs_reach_the_word():
    dut, rng = Alone(Mixer(), "mixer"), random.Random(1)
    chain, expected = 0, []

    async def drive(ctx):
        nonlocal chain
        for _ in range(50):
            valid, word = rng.random() < 0.7, rng.getrandbits(32)
            ctx.set(dut.i.valid, valid)
            ctx.set(dut.i.payload, word)
            a, b = chain & ((1 << 40) - 1), chain >> 40
            outputs = (a + b) | ((a - b) & ((1 << 30) - 1)) << 41
            expected.append(reduce(xor, (outputs >> start & 0xFFFF_FFFF for start in range(0, 71, 32))))
            await ctx.tick()
            if len(expected) >= 2:
                assert ctx.get(dut.o.payload) == expected[-2]
            if valid:
                chain = (chain << 32 | word) & ((1 << 60) - 1)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(drive)
    simulator.run_until(1e-5)
    assert len(set(expected)) > 20


def _report(seed: int, fmax: float) -> BuildReport:
    use = Usage(1, 2)
    return BuildReport(
        board="ulx3s-85f",
        device="85k",
        package="CABGA381",
        speed=6,
        clock_mhz=100.0,
        baud=1_000_000,
        fmax_mhz=fmax,
        logic=use,
        flip_flops=use,
        block_rams=use,
        multipliers=use,
        critical_path=f"path of {seed}",
        seed=seed,
        tools={},
        seconds=1.0,
        digest="",
        bitstream=Path("board.bit"),
        log=Path("build.log"),
    )


def test_a_record_has_the_median_and_the_slowest_path():
    record = ClockBaseline(builds=(_report(1, 91.0), _report(2, 99.0), _report(3, 95.0))).to_dict()
    assert (record["median_mhz"], record["fmax_mhz"]) == (95.0, {"1": 91.0, "2": 99.0, "3": 95.0})
    assert record["critical_path"] == ["path of 1"]


def test_a_record_needs_a_seed():
    with pytest.raises(ValueError, match=r"^seeds must be one or more, not none$"):
        ClockBaseline(builds=())


def test_a_slower_core_is_refused():
    baseline = ClockBaseline(builds=(_report(1, 91.0), _report(2, 99.0), _report(3, 95.0))).to_dict()
    check_no_slower(ClockBaseline(builds=(_report(0, 95.0),)), baseline)
    with pytest.raises(ValueError, match=r"^the median must be at least the baseline's 95.0 MHz, not 94.9 MHz$"):
        check_no_slower(ClockBaseline(builds=(_report(0, 94.9),)), baseline)


def test_the_tool_keeps_a_faster_record(tmp_path, monkeypatch):
    file, clocks = tmp_path / "new" / "clock.json", {1: 99.0, 2: 97.0}
    monkeypatch.setattr("fpga.flow.alone.build_core", lambda *_, seed, **__: _report(seed, clocks[seed]))
    # The core's Verilog takes a second to make.
    digest = core_digest(preset("tiny"))
    monkeypatch.setattr("fpga.flow.alone.core_digest", {preset("tiny"): digest}.__getitem__)

    def run(*options):
        monkeypatch.setattr("sys.argv", ["clock", str(file), "--config", "tiny", "--seeds", "2", *options])
        runpy.run_path(str(ROOT / "tools" / "clock"))
        return json.loads(file.read_text())

    record = run()
    assert (record["core"]["median_mhz"], record["verilog"]) == (98.0, digest)
    clocks[1] = 98.0
    with pytest.raises(SystemExit, match=r"stays as it is: the median must be .* 98.0 MHz, not 97.5 MHz; --slower "):
        run()
    assert json.loads(file.read_text()) == record
    assert run("--slower")["core"]["median_mhz"] == 97.5
    clocks[1] = 99.0
    assert run() == record


def test_the_baseline_is_of_the_core_as_it_is():
    record = json.loads((ROOT / "baselines" / "clock.json").read_text())
    assert core_digest(preset(record["config"])) == record["verilog"], "the core has changed: make clock"


@pytest.mark.slow
def test_a_core_is_no_slower_than_the_baseline(tmp_path):
    baseline = json.loads((ROOT / "baselines" / "clock.json").read_text())
    seeds = [int(seed) for seed in baseline["core"]["fmax_mhz"]]
    found = core_clocks(preset(baseline["config"]), BOARDS["ulx3s-85f"], seeds, tmp_path)
    assert found.median_mhz >= baseline["core"]["median_mhz"] - NOISE
