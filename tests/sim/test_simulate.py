from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.exits import Decisions
from hw.network.network import INPUT, Network, Select
from models.integer import golden
from sim import WeightSource, timing
from sim.simulate import Simulation, simulate
from tests.hw.changes import Changes
from tests.hw.equality import assert_equals_golden
from tests.hw.machine import Machine
from tests.random_networks import NetworkMaker, odd_network, random_codes, random_network

CONFIG = preset("tiny").replace(
    list_words=4096,
    accumulators=1024,
    activation_words=2048,
    channel_words=1024,
    layer_words=2048,
    accumulator_bits=30,
)
#: Cores, PEs, lanes.
MACHINES = ((1, 4, 1), (1, 8, 2), (2, 8, 1), (4, 4, 1), (8, 8, 2), (8, 2, 1))


def network(density: float = 1.0, threshold: int = 0) -> Network:
    """Two convolutions, a residual block, two exits; smaller densities keep a part of the same weights."""
    maker = NetworkMaker(np.random.default_rng(7), (6, 6, 3))
    here = maker.conv(INPUT, 10, (3, 3), pads=(1, 1, 1, 1), density=1.0)
    maker.head(here, 4, threshold)
    here = maker.block(here, density=1.0)
    maker.head(maker.pool(here), 4)
    made = maker.network("net")
    keep = np.random.default_rng(8)
    layers = [
        replace(layer, weight=layer.weight * (keep.random(layer.weight.shape) < density))
        if hasattr(layer, "weight")
        else layer
        for layer in made.layers
    ]
    return replace(made, layers=tuple(layers))


@cache
def several() -> tuple[Network, np.ndarray]:
    """Images of which half leave early, whatever the weights."""
    codes = np.random.default_rng(1).integers(-128, 128, (8, 6, 6, 3)).astype(np.int8)
    margins = golden.run(network(), codes).margins[:, 0]
    return network(threshold=int(np.sort(margins)[4])), codes


def assert_equal(found: Simulation, expected: Simulation) -> None:
    for entry in fields(Simulation):
        a, b = getattr(found, entry.name), getattr(expected, entry.name)
        if isinstance(a, Decisions):
            a, b = vars(a), vars(b)
        for one, other in zip(a.values(), b.values(), strict=True) if isinstance(a, dict) else [(a, b)]:
            np.testing.assert_array_equal(one, other, err_msg=entry.name)


@pytest.mark.parametrize(
    ("seed", "net"),
    [*((seed, random_network(seed, size=6)) for seed in range(12)), *((seed, odd_network(seed)) for seed in range(6))],
    ids=lambda each: each.name if isinstance(each, Network) else str(each),
)
def test_every_pe_cycle_has_a_cause_and_every_product_is_made(seed, net):
    cores, pes, lanes = MACHINES[seed % len(MACHINES)]
    config = CONFIG.replace(
        cores=cores, pes=pes, lanes=lanes, job_queue=(2, 8)[seed % 2], output_queue=(2, 16)[seed % 2]
    )
    program = compile_network(net, config)
    codes = random_codes(net, 4, seed)
    found = simulate(program, codes)
    assert all((part >= 0).all() for part in found.spent.values())
    np.testing.assert_array_equal(sum(found.spent.values()), found.layer_cycles * config.multipliers)
    np.testing.assert_array_equal(found.spent["products"], found.products)
    assert (found.cycles <= program.decoded.header.timeout).all()
    assert (found.cycles > found.layer_cycles.sum(axis=1)).all()
    assert (found.limit <= found.layer_cycles).all()
    machine = Machine(program.images, config)
    for number, image in enumerate(codes):
        outcome = machine.run(image)
        made = np.zeros(len(program.commands), dtype=np.int64)
        for ran in outcome.layers:
            made[ran.index] = ran.products
        np.testing.assert_array_equal(found.products[number], made)
        assert (found.exit_index[number], found.classes[number]) == (outcome.exit, outcome.label)
    assert_equals_golden(program, codes)


def test_runs_that_the_accelerator_gives_up_are_refused():
    """Lists that come too slowly, or a header that isn't the compiler's."""
    net = random_network(53)
    codes = random_codes(net, 2, 0)
    program = compile_network(net, preset("tiny").replace(list_words=128, loader=1))
    assert len(program.images["weights"])
    timeout = program.decoded.header.timeout
    with pytest.raises(ValueError, match=rf"^{net.name}: a run must take at most {timeout} cycles, then the"):
        simulate(program, codes, source=WeightSource(latency=5000, cycles_per_beat=500))
    changes = Changes(program)
    short = replace(program, images=changes.header(timeout=10))
    assert short.decoded.header.timeout == 10
    with pytest.raises(ValueError, match=rf"^{net.name}: a run must take at most 10 cycles"):
        simulate(short, codes)


def test_cycles_fall_with_weights():
    codes = random_codes(network(), 6, 2)
    densities = (1.0, 0.5, 0.2, 0.0)
    stem = [simulate(compile_network(network(d, (1 << 32) - 1), CONFIG), codes) for d in densities]
    # The first layer sees the same images whatever its weights.
    products = [s.products[:, 0] for s in stem]
    cycles = [s.layer_cycles[:, 0] for s in stem]
    for fewer, more in zip(range(1, len(densities)), range(len(densities) - 1), strict=True):
        busy = products[more] > 0
        assert busy.sum() == 4  # two of the images are all zero
        assert (products[fewer][busy] < products[more][busy]).all()
        assert (cycles[fewer] <= cycles[more]).all()
        assert cycles[fewer].sum() < cycles[more].sum()
    assert not products[-1].any()


def test_cycles_fall_with_activations():
    net = network(0.5, (1 << 32) - 1)
    rng = np.random.default_rng(3)
    dense = rng.integers(-128, 128, net.input.shape)
    order = rng.permutation(dense.size)
    images = []
    for share in (0.0, 0.3, 0.6, 0.9, 1.0):
        image = dense.copy().reshape(-1)
        image[order[: int(share * dense.size)]] = net.input.zero_point
        images.append(image.reshape(dense.shape))
    found = simulate(compile_network(net, CONFIG), np.array(images, dtype=np.int8))
    assert (np.diff(found.products[:, 0]) < 0).all()
    assert (np.diff(found.layer_cycles[:, 0]) < 0).all()
    assert found.products[-1, 0] == 0


def test_cycles_fall_with_thresholds():
    net = network(0.5, (1 << 32) - 1)
    codes = np.random.default_rng(3).integers(-64, 64, (3, *net.input.shape)).astype(np.int8)
    net = replace(net, input=replace(net.input, zero_point=0))
    runs = []
    for threshold in (1, 20, 40, 55, 255):
        made = replace(net, layers=(replace(net.layers[0], threshold=threshold), *net.layers[1:]))
        runs.append(simulate(compile_network(made, CONFIG), codes))
    assert (np.diff([run.products[:, 0] for run in runs], axis=0) < 0).all()
    assert (np.diff([run.layer_cycles[:, 0] for run in runs], axis=0) < 0).all()
    assert not runs[-1].products[:, 0].any()


@pytest.mark.parametrize("kind", ["elements", "channels", "mask"])
def test_a_selection_takes_the_same_time_for_every_image_and_saves_products(kind):
    net = network(0.5, (1 << 32) - 1)
    codes = np.random.default_rng(3).integers(-128, 128, (5, *net.input.shape)).astype(np.int8)
    codes[0] = net.input.zero_point
    config = CONFIG.replace(selector=2)
    depth = net.input.shape[2]
    select = {
        "elements": Select(kind="elements", count=codes[0].size // 3),
        "channels": Select(kind="channels", count=1),
        "mask": Select(kind="mask", channels=(depth - 1,)),
    }[kind]
    plain = simulate(compile_network(net, config), codes)
    made = replace(net, layers=(replace(net.layers[0], select=select), *net.layers[1:]))
    found = simulate(compile_network(made, config), codes)
    assert len(set(found.select_cycles[:, 0].tolist())) == 1
    assert found.select_cycles[0, 0] > 0
    assert not found.select_cycles[:, 1:].any()
    assert not plain.select_cycles.any()
    assert (found.products[1:, 0] < plain.products[1:, 0]).all()
    assert found.products[0, 0] == 0
    between = [run.cycles - run.layer_cycles.sum(axis=1) for run in (found, plain)]
    np.testing.assert_array_equal(between[0] - found.select_cycles[:, 0] - between[1], timing.LAYER_CYCLES)


def test_the_shortest_layer_by_hand():
    """One position without a nonzero, eight channels, a core of four PEs and one lane."""
    maker = NetworkMaker(np.random.default_rng(0), (1, 1, 8))
    maker.head(maker.conv(INPUT, 8, (1, 1)), 2)
    net = maker.network("short")
    codes = np.full((1, 1, 1, 8), net.input.zero_point, dtype=np.int8)
    found = simulate(compile_network(net, CONFIG), codes)
    # Behind the units' start, slots of the row in cycle 12, of the word in 13, of the dump in 14. It is taken from the
    # queues in 15; of its two values in each PE the first goes in 16 and arrives in 23. The lane takes all eight by 30;
    # the last one is an activation 13 cycles later, in its word one after that, and where every core can read it behind
    # 7 more. Units start a cycle behind the layer.
    assert found.layer_cycles[0, 0] == 1 + 30 + 13 + 1 + 7


def test_layers_behind_the_exit_take_no_time():
    net, codes = several()
    program = compile_network(net, CONFIG)
    found = simulate(program, codes)
    left = found.exit_index == 0
    assert left.sum() == 4
    head = next(n for n, command in enumerate(program.commands) if command.layer == net.exits[0].logits)
    assert (found.layer_cycles[:, : head + 1] > 0).all()
    assert (found.layer_cycles[~left] > 0).all()
    for array in (found.layer_cycles, found.stalls, found.products, *found.spent.values()):
        assert not array[left, head + 1 :].any()
    assert found.cycles[left].max() < found.cycles[~left].min()


def test_what_golden_knows_already_is_of_no_influence():
    net, codes = several()
    program = compile_network(net, CONFIG)
    assert_equal(simulate(program, codes, golden=golden.run(net, codes), batch=3), simulate(program, codes))


@pytest.mark.parametrize("batch", [1, 3, 8, 100])
def test_the_batch_is_of_no_influence(batch):
    net, codes = several()
    program = compile_network(net, CONFIG)
    expected = simulate(program, codes)  # the first one may tell that it is compiled
    done = []
    found = simulate(program, codes, batch=batch, progress=lambda part, whole, what: done.append((part, whole, what)))
    assert_equal(found, expected)
    assert done == [(min(n + batch, 8), 8, "simulate") for n in range(0, 8, batch)]


def test_an_image_is_timed_alone_as_among_others():
    net, codes = several()
    program = compile_network(net, CONFIG)
    whole = simulate(program, codes)
    for number in range(len(codes)):
        np.testing.assert_array_equal(simulate(program, codes[number : number + 1]).cycles, whole.cycles[number])


def test_the_same_seeds_give_the_same_results():
    runs = []
    for _ in range(2):
        net = random_network(5, size=6)
        runs.append(simulate(compile_network(net, CONFIG), random_codes(net, 4, 5)))
    assert_equal(*runs)


def test_shares_and_losses():
    net, codes = several()
    found = simulate(compile_network(net, CONFIG), codes)
    assert found.multipliers == 4
    assert found.share_of_limit == found.products.sum() / (4 * found.cycles.sum())
    assert found.loss.keys() == {"dispatch", "imbalance", "cores", "drain", "barrier", "load"}
    np.testing.assert_array_equal(sum(found.loss.values()), found.layer_cycles - found.limit)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((2, 6, 6, 4), np.int8), ((2, 6, 5, 3), np.int8), ((6, 6, 3), np.int8), ((2, 6, 6, 3), np.uint8)],
)
def test_other_images_are_refused(shape, dtype):
    program = compile_network(network(), CONFIG)
    known = golden.run(program.network, np.zeros((2, 6, 6, 3), np.int8))
    for options in ({}, {"golden": known}):
        for count in (0, shape[0]):
            with pytest.raises(ValueError, match=r"^net: images must be int8 of shape \(N, 6, 6, 3\), not .*$"):
                simulate(program, np.zeros((count, *shape[1:]), dtype=dtype), **options)


def test_results_of_others_are_refused():
    net, codes = several()
    program, known = compile_network(net, CONFIG), golden.run(net, codes)
    with pytest.raises(ValueError, match=r"^net: golden must be of the images that are simulated, not of others$"):
        simulate(program, codes[::-1], golden=known)
    expected = (
        r"^net: golden must hold all tensors of these 3 images: input must be \(3, 6, 6, 3\), not \(8, 6, 6, 3\)$"
    )
    with pytest.raises(ValueError, match=expected):
        simulate(program, codes[:3], golden=known)
    with pytest.raises(ValueError, match=r"input must be \(8, 6, 6, 3\), not left out$"):
        simulate(program, codes, golden=golden.run(net, codes, keep=False))
    more = replace(known, tensors=known.tensors | {"other": codes})
    with pytest.raises(ValueError, match=r"other must be left out, not \(8, 6, 6, 3\)$"):
        simulate(program, codes, golden=more)


@pytest.mark.parametrize("batch", [0, -3])
def test_batches_without_images_are_refused(batch):
    net, codes = several()
    with pytest.raises(ValueError, match=f"^batch must be at least 1, not {batch}$"):
        simulate(compile_network(net, CONFIG), codes, golden=golden.run(net, codes), batch=batch)
