"""The RTL skips: its cycles fall with the zeros of the weights, those of the activations, and with the threshold."""

import numpy as np

from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.network import INPUT, Network
from hw.program.program import Program
from models.compression.element_thresholds import with_element_thresholds
from models.integer.golden import run
from offramp.rtl.expected import compare
from offramp.rtl.run import run_work
from sim import simulate
from tests.random_networks import NetworkMaker


def one_layer(density: float) -> Network:
    """A convolution of 3x3x16 to 16 channels, with the same random numbers for every density."""
    maker = NetworkMaker(np.random.default_rng(1), (8, 8, 16))
    conv = maker.conv(INPUT, 16, (3, 3), pads=(1, 1, 1, 1), density=density)
    maker.head(maker.pool(conv), 4)
    return maker.network("one layer")


def thresholded(threshold: int) -> Network:
    """The densest of them, with a threshold."""
    return with_element_thresholds(one_layer(1.0), {"layer0": threshold})


def images(program: Program, density: float) -> np.ndarray:
    """An image of which this share is nonzero."""
    rng = np.random.default_rng(2)
    tensor = program.network.input
    codes = rng.integers(-128, 127, (1, *tensor.shape))
    codes[codes == tensor.zero_point] += 1
    return np.where(rng.random(codes.shape) < density, codes, tensor.zero_point).astype(np.int8)


def test_cycles_fall_with_thresholds(simulator, waves):
    programs = [compile_network(thresholded(n), preset("tiny")) for n in (1, 64, 128, 255)]
    codes = images(programs[0], 1.0).clip(-127, 126)
    magnitudes = abs(codes.astype(int) - programs[0].network.input.zero_point)
    assert magnitudes.max() < 255
    outcomes = run_work([(program, codes) for program in programs], simulator=simulator, waves=waves, step=True)
    for program, runs in zip(programs, outcomes, strict=True):
        golden = run(program.network, codes)
        assert compare(program, runs, golden, simulate(program, codes, golden=golden))["mismatches"] == []
    first = [runs[0].layers[0] for runs in outcomes]
    for name in ("cycles", "products"):
        found = [layer[name] for layer in first]
        assert found == sorted(set(found), reverse=True), name
    # Nothing is left: a slot for each word, row and output position.
    assert first[-1]["products"] == 0


def test_cycles_fall_with_zeros_of_weights_and_of_activations(simulator, waves):
    config = preset("tiny")
    densities = [1.0, 0.5, 0.25]
    programs = {density: compile_network(one_layer(density), config) for density in densities}
    grid = [(w, a) for w in densities for a in densities]
    work = [(programs[w], images(programs[w], a)) for w, a in grid]
    outcomes = run_work(work, simulator=simulator, waves=waves, step=False)
    first = {point: runs[0].layers[0] for point, runs in zip(grid, outcomes, strict=True)}
    for other in densities:
        for fixed, sparser in (
            ("weights", [(w, other) for w in densities]),
            ("activations", [(other, a) for a in densities]),
        ):
            cycles = [first[point]["cycles"] for point in sparser]
            products = [first[point]["products"] for point in sparser]
            assert cycles[0] > cycles[1] > cycles[2], f"{fixed}, other density {other}: {cycles}"
            assert products[0] > products[1] > products[2]
    # Dense: each of the 4 multipliers has a product in nearly every cycle.
    dense = first[1.0, 1.0]
    assert dense["products"] / (4 * dense["cycles"]) > 0.9
