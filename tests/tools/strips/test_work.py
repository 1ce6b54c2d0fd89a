"""The same products in strips as in the product, and the same cycles where nothing is changed."""

import numpy as np
import pytest

from hw.compiler.compile import balanced_compilation
from hw.config import preset
from models.integer import golden
from models.integer.activity import activity
from sim import simulate
from tests.random_networks import random_codes
from tests.tools.strips.networks import exiting, shortcut

CONFIG = preset("base-85f")


@pytest.fixture(scope="module", params=[exiting, shortcut])
def simulated(request):
    """Compilation, program, images' values and simulation."""
    network = request.param()
    codes = random_codes(network, 5, 1)
    compilation = balanced_compilation(network, CONFIG, activity(network, codes))
    program = compilation.program()
    values = golden.run(program.network, codes)
    return compilation, program, (values.tensors, values.exit_index), simulate(program, codes, golden=values)


def test_with_barriers_the_cycles_are_those_of_the_simulator(plain, simulated):
    found = plain("check").compared(*simulated)
    assert found["images"] == 5
    assert found["model"] == found["simulator"]
    assert found["model_products"] == found["products"]


@pytest.mark.parametrize("dealt", [0, 16])
@pytest.mark.parametrize("groups", [1, 2])
def test_strips_make_the_products_of_the_network(plain, simulated, dealt, groups):
    """However layers are cut and dealt, and with shortcuts made by other convolutions."""
    cut, work, machine, placement = (plain(name) for name in ("cut", "work", "machine", "placement"))
    _, program, values, simulation = simulated
    network = program.network
    cuts = []
    for step in cut.lower(network).steps:
        rows, _, channels = step.result.output.shape
        cuts.append(cut.Cut(min(rows, 4), groups if channels % (8 * groups) == 0 else 1))
    shares = activity(network, values[0]["input"])
    layers = cut.cut_network(network, cuts, CONFIG, shares, dealt_channels=dealt, fuse=True)
    assert (max(len(layer.dealt) for layer in layers) == 2) == (dealt > 0)
    strips = work.Work(layers, network, *values, CONFIG)
    bench = placement.Bench(strips, machine.Machine(accumulators=128))
    times = bench.time(bench.start(np.arange(len(strips.strips)) % 8, spare=64), slice(None))
    products = plain("recurrence").CORE_FIELDS.index("products")
    assert times.counted[:, products].sum() == simulation.products.sum()


def test_dealt_channels_are_in_the_pe_of_their_column(plain, simulated):
    """Entries of the first strip, PE by PE, at the columns that meet the whole kernel."""
    cut, tables = plain("cut"), plain("work")._tables
    _, program, values, _ = simulated
    network = program.network
    shares = activity(network, values[0]["input"])
    cuts = [cut.Cut()] * len(cut.lower(network).steps)
    layer = cut.cut_network(network, cuts, CONFIG, shares, dealt_channels=16)[0]
    entries, _, row_kinds, column_kinds = tables(layer, layer.strips[0], CONFIG.pes)
    weight, rows, columns = layer.step.kernel.weight, layer.step.kernel.rows, layer.step.kernel.columns
    places = [np.argsort(deal) for deal in layer.dealt]
    inner = range(columns.kernel, columns.size - columns.kernel)
    for x in inner:
        for y in range(rows.size):
            expected = np.zeros((CONFIG.pes, weight.shape[3]), dtype=np.int64)
            for across, right in columns.taps(x):
                for channel, place in enumerate(places[right % 2]):
                    used = [weight[channel, down, across] != 0 for down, _ in rows.taps(y)]
                    expected[place % CONFIG.pes] += np.sum(used, axis=0, dtype=np.int64)
            assert entries[row_kinds[x], column_kinds[y]].T.tolist() == expected.tolist()


def test_shortcuts_are_made_by_convolutions_of_the_same_input(plain):
    cut = plain("cut")
    network = shortcut()
    cuts = [cut.Cut()] * len(cut.lower(network).steps)
    alone, fused = (cut.cut_network(network, cuts, CONFIG, fuse=fuse) for fuse in (False, True))
    assert len(fused) == len(alone) - 1
    assert len(set(fused[0].made)) == 4
    assert len({name for name, _ in fused[0].made}) == 2


def test_lanes_take_what_relu_leaves(plain):
    """Of a pair of accumulators whose sums are both negative, the pair takes a cycle, else each one a cycle."""
    kept = np.array([[0, 0, 1, 0, 1, 1], [0, 0, 0, 0, 0, 0]], dtype=bool)
    cycles = plain("work").lane_cycles
    assert cycles(kept, 1).tolist() == [1 + 1 + 2, 3]
    assert cycles(kept, 2).tolist() == [2, 2]
