"""What the FPGA tools make of the accelerator computes what it computes: its cells in place of the RTL."""

from pathlib import Path

import pytest

from hw.compiler.compile import compile_network
from hw.config import preset
from models.integer.golden import run
from offramp import stages
from offramp.files.inspect import network_of
from offramp.rtl.expected import compare
from offramp.rtl.run import run_work, verify
from sim import simulate
from tests.random_networks import random_codes
from tests.rtl.test_network import exiting_network, with_both_exits

pytestmark = pytest.mark.slow  # synthesis and a simulation of every cell

#: The smaller, the sooner it is routed and compiled; every unit but the selector is there.
ROUTED = preset("tiny").replace(pes=2, job_queue=2, output_queue=4, selector=0)


@pytest.mark.parametrize(("stage", "config"), [("synthesized", preset("tiny")), ("routed", ROUTED)])
def test_cells_run_a_network_with_both_exits(simulator, stage, config):
    network = exiting_network(6, 4, (4, 6))
    program, codes = with_both_exits(compile_network(network, config), random_codes(network, 4, 6))
    result = verify([(program, codes)], simulator=simulator, netlist=stage)
    assert result["mismatches"] == []
    assert (result["values_equal"], result["cycles_equal"], result["images"]) == (True, True, 4)
    assert 0 < result["early"] < 4


def test_cells_run_the_demos_program(simulator):
    """Of the config of the test above, so that its cells are made once."""
    program = compile_network(network_of(Path("zoo:digits")), preset("tiny"))
    codes = stages.verification_codes(program, stages.tried_on(program, None, None), count=2, seed=0)
    (outcomes,) = run_work([(program, codes)], simulator=simulator, netlist="synthesized")
    golden = run(program.network, codes)
    result = compare(program, outcomes, golden, simulate(program, codes, golden=golden))
    assert result["mismatches"] == []
    assert (result["values_equal"], result["cycles_equal"], result["early"]) == (True, True, 1)
