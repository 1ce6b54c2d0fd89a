"""A simulated board: RTL and serial line behind a pseudo-terminal, used as a host uses a real one."""

import pytest

from fpga.host.session import BoardSession
from hw.compiler.compile import compile_network
from hw.config import preset
from hw.program.bundle import bundle_of
from offramp.measure.on_board import bench, check, simulated
from offramp.rtl.simulated_board import SimulatedBoard
from tests.random_networks import random_codes, random_network

pytestmark = pytest.mark.slow  # a Verilator build of its own, and every bit of the line

_NETWORK = 406


@pytest.fixture(scope="module")
def program():
    """A small one: it is loaded again and again."""
    return compile_network(random_network(_NETWORK), preset("tiny"))


@pytest.fixture(scope="module")
def codes(program):
    return random_codes(program.network, 20, _NETWORK)


@pytest.fixture(scope="module")
def board():
    with simulated(preset("tiny")) as found:
        yield found


def test_a_simulated_board_computes_what_it_must(board, program, codes):
    found = check(board, program, codes, cycles=True)
    assert (found["values_equal"], found["cycles_equal"], found["mended"]) == (True, True, [])


@pytest.mark.parametrize("seed", [2, 5])
def test_noise_changes_no_result(board, program, codes, seed):
    found = check(board.noisy(5e-4, seed), program, codes, cycles=True)
    assert (found["values_equal"], found["cycles_equal"]) == (True, True)
    assert found["mended"]


def test_a_bench_stays_below_what_the_line_carries(board, program, codes):
    found = bench(board, program, codes)
    assert 0 < found["back_to_back"] <= found["expected"]["images_per_second"]


def test_a_port_that_is_unplugged_comes_back(program, codes):
    with SimulatedBoard(preset("tiny")) as board:
        with BoardSession(board.connect, bundle_of([program]), clock_mhz=board.clock_mhz, baud=board.baud) as session:
            runs = [(0, image) for image in codes[:4]]
            first = session.run(runs, done=lambda count: board.ask("unplug") if count == 2 else None)
            assert len(session.mended) == 1
            assert "the port was lost" in session.mended[0]
            assert session.run(runs) == first
