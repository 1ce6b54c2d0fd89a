import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.compiler.lower import lower
from hw.compiler.steps.partition import Rows, bands_of, is_everywhere, join, read_rows, window_words
from hw.compiler.steps.step import Step
from hw.config import AcceleratorConfig, preset
from hw.network.network import INPUT
from hw.program.tiles import divide, tiles_of
from tests.random_networks import NetworkMaker, random_network


def test_rows_are_joined_from_the_first_to_the_last():
    assert join([(3, 5), None, (1, 2)]) == (1, 5)
    assert join([None, None]) is None


def test_words_of_the_largest_window():
    config = AcceleratorConfig(cores=4)
    assert window_words([(0, 3), None, (2, 7), (6, 8)], (8, 6, 9), config) == 5 * 6 * 2
    assert window_words([None] * 4, (8, 6, 9), config) == 0


def test_what_a_core_reads():
    maker = NetworkMaker(np.random.default_rng(0), (9, 4, 8))
    stem = maker.conv(INPUT, 8, (3, 3), pads=(1, 1, 1, 1))
    total = maker.block(stem, density=0.5)
    here = maker.conv(total, 8, (1, 1), (2, 2))
    maker.head(maker.pool(here), 3)
    steps = lower(maker.network("net")).steps

    def read(step: Step, name: str, bands: int, groups: int = 1) -> list[Rows]:
        return read_rows(step, name, tiles_of(bands_of(step, bands), (0, groups), groups), 4)

    assert read(steps[0], INPUT, 2) == [(0, 5), (3, 9), None, None]
    # The first convolution of the block reads over the edge of its band; the second one adds the band itself.
    assert (steps[1].reads, steps[2].residual) == (stem, stem)
    assert read(steps[1], stem, 2, 2) == [(0, 5), (0, 5), (3, 9), (3, 9)]
    assert read(steps[2], stem, 2) == [(0, 4), (4, 9), None, None]
    # Every second row only: what lies behind the last of them is not kept.
    assert read(steps[3], total, 4) == [(0, 1), (2, 3), (4, 5), (6, 9)]
    assert read(steps[4], here, 1) == [(0, 5), None, None, None]
    assert read(steps[4], total, 1) == [None] * 4


@pytest.mark.parametrize(
    ("windows", "everywhere"),
    [
        ([(0, 3), (1, 5), (3, 7), (5, 8)], False),
        ([(0, 5), (1, 5), (3, 7), (5, 8)], True),
        ([(0, 3), (1, 5), (3, 7), (3, 8)], True),
        ([None, None, None, (4, 8)], False),
        ([(0, 8), None, None, None], True),
        ([None] * 4, False),
    ],
)
def test_words_go_everywhere_where_another_than_a_neighbour_keeps_them(windows, everywhere):
    bands = tiles_of(divide(0, 8, 4), (0, 1), 1)
    assert is_everywhere(bands, windows, preset("tiny").replace(cores=4)) is everywhere
    assert is_everywhere(bands[:2], windows[:2], preset("tiny").replace(cores=2)) is True


@pytest.mark.parametrize("cores", [1, 2, 4, 8])
@pytest.mark.parametrize("seed", range(6))
def test_windows_of_programs_hold_what_is_read_and_no_row_more(seed, cores):
    """From the images: what the dispatchers and the residual operands of a core touch, tensor by tensor."""
    network = random_network(seed, size=9)
    sizes = {"list_words": 8192, "accumulators": 1024, "layer_words": 4096, "accumulator_bits": 32}
    program = compile_network(network, AcceleratorConfig(cores=cores, **sizes))
    layers = program.decoded.layers
    windows = {INPUT: program.decoded.windows}
    touched: dict[tuple[str, int], set[int]] = {}
    for command, layer in zip(program.commands, layers, strict=True):
        windows[command.tensor] = tuple(core.window for core in layer.cores)
        inputs = network.layer(command.layer).inputs
        operands = network.layer(command.tensor).inputs
        for k, core in enumerate(layer.cores):
            if not core.enable:
                continue
            source, residual, lane, target = core.source, core.residual, core.lane, core.target
            filled = source.rows - source.blank_rows
            y, x = np.arange(filled)[:, None, None], np.arange(source.columns)[:, None]
            places = source.base + y * source.row_pitch + x * source.column_pitch + np.arange(source.words)
            touched.setdefault((inputs[0], k), set()).update(places.reshape(-1).tolist())
            if residual.enable:
                other = next(name for name in operands if name != command.layer)
                y, x = np.divmod(np.arange(lane.outputs // lane.channels)[:, None], target.columns)
                positions = y * target.row_pitch + x * target.column_pitch
                places = residual.base + positions + np.arange(lane.channels // 8)
                touched.setdefault((other, k), set()).update(places.reshape(-1).tolist())
    for name, cores_of in windows.items():
        _, width, channels = network.tensors()[name].shape
        row = width * -(-channels // 8)
        assert len({(window.bank, window.base) for window in cores_of}) == 1
        for k, window in enumerate(cores_of):
            places = touched.get((name, k), set())
            if not places:
                assert window.count == 0
                continue
            assert window.low % row == window.count % row == 0
            rows = {(place - window.base) // row for place in places}
            assert (min(rows), max(rows)) == (0, window.count // row - 1)
