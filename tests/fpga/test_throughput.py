import numpy as np
import pytest

from fpga.runs import run_image
from fpga.throughput import throughput
from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.exits import DEFAULT
from hw.program.bits import decode, encode
from hw.program.protocol import ReplyHeader, RunResult
from tests.random_networks import random_codes, random_network

BAUD = 1_000_000
WORD = 40 / BAUD  # seconds: four bytes with a start and a stop bit each


def test_the_link_carries_what_the_driver_sends():
    """Words that one run exchanges, counted: of them the link's images a second follow."""
    network = random_network(6)
    program = compile_network(network, preset("tiny").replace(cores=2))
    transaction = next(run_image(program, random_codes(network, 1, seed=0)[0], conditions=DEFAULT))
    answer = [*encode(ReplyHeader, reply=4, code=0, length=4), *encode(RunResult, **decode(RunResult, [0] * 4))]
    found = throughput(network.input.shape, 5000.0, clock_mhz=50.0, baud=BAUD)
    sent, received = len(transaction.words), len(answer)
    assert (found.words_sent, found.words_received) == (sent, received)
    assert found.link_images_per_second == pytest.approx(1 / (max(sent, received) * WORD))
    assert found.one_by_one_images_per_second == pytest.approx(1 / ((sent + received) * WORD + 5000 / 50e6))


@pytest.mark.parametrize(
    ("cycles", "images", "bottleneck"),
    [(1000.0, 1250.0, "link"), (40_000.0, 1250.0, "link"), (100_000.0, 500.0, "core")],
)
def test_the_slower_of_core_and_link_is_the_bottleneck(cycles, images, bottleneck):
    found = throughput((8, 8, 1), cycles, clock_mhz=50.0, baud=BAUD)
    assert found.images_per_second == pytest.approx(images)
    assert found.bottleneck == bottleneck
    assert found.one_by_one_images_per_second < found.images_per_second
    assert found.to_dict()["images_per_second"] == found.images_per_second
    assert found.to_dict()["bottleneck"] == bottleneck


def test_the_core_takes_images_back_to_back():
    found = throughput((8, 8, 1), 1000.0, back_to_back=1250.0, clock_mhz=50.0, baud=BAUD)
    assert found.core_images_per_second == 40_000
    assert np.isclose(1 / found.one_by_one_images_per_second, 25 * WORD + 1000 / 50e6)


def test_usb_carries_both_ways_in_turn():
    found = throughput((32, 32, 3), 1000.0, clock_mhz=50.0, baud=BAUD, link="usb-high")
    words = found.words_sent + found.words_received
    assert (found.link, found.bottleneck) == ("usb-high", "link")
    assert found.images_per_second == pytest.approx(53_248_000 / (4 * words))


@pytest.mark.parametrize("clock", [0.0, -50.0, float("nan"), float("inf")])
def test_clocks_that_are_none(clock):
    with pytest.raises(ValueError, match=f"the clock must be a positive number of MHz, not {clock}"):
        throughput((8, 8, 1), 1000.0, clock_mhz=clock, baud=BAUD)
