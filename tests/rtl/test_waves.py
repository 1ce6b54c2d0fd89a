"""Waveforms of the RTL: every unit of every core, under names that a person knows."""

import re
import shutil

import numpy as np
import pytest
from pywellen import Waveform

from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.network import INPUT
from hw.program.program import Program
from offramp.rtl.layout import groups
from offramp.rtl.run import verify
from offramp.rtl.waves import Waves, layers_named
from sim import simulate
from tests.random_networks import NetworkMaker

_ICARUS = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")


def work(config: str) -> tuple[Program, np.ndarray]:
    """Two convolutions, of which the second has work for every PE."""
    maker = NetworkMaker(np.random.default_rng(6), (4, 4, 1))
    stem = maker.conv(INPUT, 4, (3, 3), pads=(1, 1, 1, 1), density=0.7)
    wide = maker.conv(stem, 6, (3, 3), (2, 2), (0, 1, 0, 1), density=0.7)
    maker.head(maker.pool(wide), 4)
    network = maker.network("two")
    return compile_network(network, preset(config)), np.random.default_rng(6).integers(-128, 128, (1, 4, 4, 1), np.int8)


def changes(waveform, name):
    """Times of a signal's changes, and values."""
    found = list(waveform[name].signal)
    return [time for time, _ in found], [value for _, value in found]


@pytest.mark.parametrize(
    ("simulator", "config"),
    [
        pytest.param("icarus", "tiny,pes=2", marks=_ICARUS),
        pytest.param("icarus", "tiny,cores=2", marks=[pytest.mark.slow, _ICARUS]),
        pytest.param("verilator", "tiny,cores=2", marks=pytest.mark.slow),
    ],
)
def test_waveforms_show_the_machine(simulator, config, tmp_path):
    program, codes = work(config)
    path, layer = tmp_path / "run.fst", program.commands[1].name
    waves = Waves(path=path, layers=layers_named([program], layer))
    result = verify([(program, codes)], simulator=simulator, waves=waves)
    assert (result["mismatches"], result["waveform"]) == ([], str(path))
    found = Waveform(str(path))
    names = {each.full_name for each in found.all_vars()}
    assert not [name for name in names if "$" in name or "._" in name]

    # Units of every core; an accumulator of the last PE of the last core changes.
    config = program.config
    for core in range(config.cores):
        units = {name.split(".")[2] for name in names if name.startswith(f"offramp.core_{core}.")}
        assert {"dispatcher", "lanes", "packer", *(f"pe_{n}" for n in range(config.pes))} <= units
    element = f"offramp.core_{config.cores - 1}.pe_{config.pes - 1}"
    times, values = changes(found, f"{element}.accumulators.write__data")
    assert len(set(values)) > 2

    # Only the layer: as many cycles as it takes, and a few for what is said before and after.
    cycles = simulate(program, codes).layer_cycles[0, 1]
    clock, _ = changes(found, "offramp.clk")
    assert cycles <= (clock[-1] - clock[0]) / 10_000 < cycles + 50
    assert times[-1] <= clock[-1]

    # States have names, and the layout's signals are there.
    _, names_of = found["offramp.sequencer.fsm_state"].enum_type
    seen = {dict(names_of)[f"{value:05b}"] for value in changes(found, "offramp.sequencer.fsm_state")[1]}
    assert {"start", "layer", "report"} <= seen
    lines = path.with_suffix(".gtkw").read_text().splitlines()
    traces = [re.sub(r"\[\d+:\d+\]$", "", line) for line in lines if line.startswith("offramp.")]
    assert set(traces) <= names
    assert set(traces) == {name for _, _, shown in groups(dict.fromkeys(names, "")) for name in shown}
