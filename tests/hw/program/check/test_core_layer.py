"""What one core does in a LAYER: layers that the hardware must never be given, and all that products may reach."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.config import AcceleratorConfig
from hw.network.network import INPUT, Network
from hw.program.check.core_layer import check_core, numbers_of
from hw.program.check.images import check_images
from hw.program.instructions import CoreLayer
from hw.program.list_memory import ListMemory, pack_pointers
from tests.hw.changes import Changes, Images, put
from tests.hw.followed_lists import follow
from tests.hw.networks import runnable
from tests.hw.partitions import only
from tests.hw.program.check.test_images import EARLY, INNER, STEM, SUM, TINY, at, channels, good, lists
from tests.random_networks import NetworkMaker, random_network

EMPTY = "it must have rows, columns and words of a position"


def test_lists_are_looked_at_however_many_at_once(monkeypatch):
    monkeypatch.setattr("hw.program.check.core_layer._AT_ONCE", 1)
    check_images(good().images, TINY)
    images = good().row(STEM, 0, accumulator=TINY.accumulators - 1)
    with pytest.raises(ValueError, match=r"^layer 0 at \d+, core 0: \d+ accumulators are filled but never taken out$"):
        check_images(images, TINY)


REFUSALS: dict[str, Callable[[], tuple[Images, str]]] = {
    "no rows": lambda: (
        good().layer(STEM, "source", rows=0),
        at(STEM) + EMPTY,
    ),
    "no columns": lambda: (
        good().layer(STEM, "source", columns=0),
        at(STEM) + EMPTY,
    ),
    "no words": lambda: (
        good().layer(STEM, "source", words=0),
        at(STEM) + EMPTY,
    ),
    "no threshold": lambda: (
        good().layer(STEM, "source", threshold=0),
        at(STEM) + "the threshold must be at least 1, not 0",
    ),
    "the largest of weighted products": lambda: (
        good().layer(STEM, "source", max_pool=1),
        at(STEM) + "weights of a max pool must be 1",
    ),
    "only rows below the map": lambda: (
        good().layer(STEM, "source", blank_rows=7),
        at(STEM) + "blank rows must be fewer than all 7, not 7",
    ),
    "more rows below the map than rows": lambda: (
        good().layer(STEM, "source", blank_rows=15),
        at(STEM) + "blank rows must be fewer than all 7, not 15",
    ),
    "no accumulators": lambda: (
        good().layer(STEM, "source", dump_length=0),
        at(STEM) + "0 accumulators a position on 4 PEs must make the 8 channels",
    ),
    "other accumulators": lambda: (
        good().layer(STEM, "source", dump_length=3),
        at(STEM) + "3 accumulators a position on 4 PEs must make the 8 channels",
    ),
    "too many accumulators": lambda: (
        good().description(STEM, source={"dump_length": 512}, lane={"channels": 2048}),
        at(STEM) + "512 accumulators a position on 4 PEs must make the 2048 channels",
    ),
    "row without lists": lambda: (
        good().row(STEM, 1, count=0),
        at(STEM) + "row 1 must have at least one list for its activations, not 0",
    ),
    "row of a list too many": lambda: (
        good().row(STEM, 5, count=3),
        at(STEM) + r"\d+ accumulators are filled but never taken out",
    ),
    # Two layers have the same table: the first of them is refused.
    "row for an output above": lambda: (
        good().row(SUM, 2, accumulator=0),
        at(SUM - 1) + r"\d+ accumulators are filled but never taken out",
    ),
    "row that begins at the second position": lambda: (
        good().row(SUM, 2, accumulator=18),
        at(SUM - 1) + r"\d+ accumulators are filled but never taken out",
    ),
    "column beside the outputs": lambda: (
        good().column(STEM, 3, accumulator=8),
        at(STEM) + r"\d+ accumulators are filled but never taken out",
    ),
    "position taken out before it is fed": lambda: (
        good().column(STEM, 3, dumps=1, images=good().column(STEM, 0, dumps=1)),
        at(STEM) + r"\d+ accumulators are filled but never taken out",
    ),
    "offset beside the outputs": lambda: (
        good().image("lists", put((0, lists() - 1), 1 | 200 << 8)),
        r"layer \d at \d+, core 0: \d+ accumulators are filled but never taken out",
    ),
    "row never taken out": lambda: (
        good().row(SUM, 2, final=0),
        at(SUM - 1) + "8 positions of 8 channels don't make 96 outputs",
    ),
    "column never taken out": lambda: (
        good().column(STEM, 2, dumps=0),
        at(STEM) + "9 positions of 8 channels don't make 96 outputs",
    ),
    "position taken out twice": lambda: (
        good().column(STEM, 2, dumps=2),
        at(STEM) + "15 positions of 8 channels don't make 96 outputs",
    ),
    "no outputs": lambda: (
        good().layer(SUM, "lane", outputs=0),
        at(SUM) + "12 positions of 8 channels don't make 0 outputs",
    ),
    "no channels of a layer": lambda: (
        good().description(SUM, source={"dump_length": 0}, lane={"channels": 0, "outputs": 0}),
        at(SUM) + "12 positions of 0 channels don't make 0 outputs",
    ),
    "odd channels": lambda: (
        good().description(SUM, source={"dump_length": 3}, lane={"channels": 12, "outputs": 12 * 12}),
        at(SUM) + "channels must be a multiple of 8 that divides the outputs, not 12",
    ),
    "channels of other positions": lambda: (
        good().layer(SUM, "lane", channels=16),
        at(SUM) + "2 accumulators a position on 4 PEs must make the 16 channels",
    ),
    "channel parameters beyond": lambda: (
        good().layer(SUM, "lane", channel_base=channels() // 8),
        at(SUM) + rf"channel parameters reach to {channels() + 8}, beyond the {channels()} words of their images",
    ),
    "short channel parameters": lambda: (
        good().images | {name: good().images[name][:, :-1] for name in ("bias", "multiplier", "shift")},
        rf"layer 6 at \d+, core 0: channel parameters reach to {channels()}, beyond the {channels() - 1} words of .*",
    ),
    "fast lanes with a residual": lambda: (
        good().layer(SUM, "lane", slow=0),
        at(SUM) + "lanes must be slow with a residual operand and shared multipliers",
    ),
    "head of one class": lambda: (
        good().layer(EARLY, "lane", classes=1),
        at(EARLY) + "a head must have 2 to 8 classes, not 1",
    ),
    "head of more classes than channels": lambda: (
        good().layer(EARLY, "lane", classes=9),
        at(EARLY) + "a head must have 2 to 8 classes, not 9",
    ),
    "head with residual": lambda: (
        good().layer(EARLY, "residual", enable=1),
        at(EARLY) + "lanes must be slow with a residual operand and shared multipliers",
    ),
    "head of a map": lambda: (
        good().layer(INNER, "lane", raw=1, classes=3),
        at(INNER) + "a head must be one position without residual",
    ),
    "residual in the bank of the input": lambda: (
        good().layer(SUM, "residual", bank=good().layers[SUM].cores[0].source.bank),
        at(SUM) + "input and residual must lie in different banks",
    ),
    "target of other words": lambda: (
        good().layer(SUM, "target", words=2),
        at(SUM) + "it must make 1 words a position, not 2",
    ),
    "overlapping positions": lambda: (
        good().layer(SUM, "target", row_pitch=0, column_pitch=0),
        at(SUM) + "12 words must not overlap, only 1 differ",
    ),
    "words beyond a map": lambda: (
        good().layer(SUM, "target", first=65530),
        at(SUM) + "word 65541 is beyond the 65536 of a map",
    ),
    "positions in no row": lambda: (
        good().layer(SUM, "target", columns=0),
        at(SUM) + "it must make 12 positions in whole rows, not in rows of 0",
    ),
    "positions in parts of rows": lambda: (
        good().layer(SUM, "target", columns=5),
        at(SUM) + "it must make 12 positions in whole rows, not in rows of 5",
    ),
    "row of lists beyond": lambda: (
        good().row(STEM, 0, list=4000),
        at(STEM) + rf"list \[\d+\] is not among the {lists()} words of lists then",
    ),
    "column of lists beyond": lambda: (
        good().column(STEM, 3, list=4000),
        at(STEM) + rf"list \[\d+\] is not among the {lists()} words of lists then",
    ),
    "list beyond": lambda: (
        good().image("lists", put((1, 0), pack_pointers(lists() - 1, 2, TINY))),
        at(STEM) + rf"list \[0\] points beyond the {lists()} words of lists then",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_layers_that_would_do_harm_are_refused(name):
    images, message = REFUSALS[name]()
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_images(images, TINY)


def test_lists_beyond_what_a_row_can_begin_with_are_refused():
    """Where there are so many: the dispatcher would go on with the first ones."""
    config = TINY.replace(list_words=8192, layer_words=2048)
    with pytest.MonkeyPatch.context() as patch:
        only(patch, merged=False, column_major=False)
        changes = Changes(compile_network(runnable(), config))
    y = next(y for y, row in enumerate(changes.layers[STEM].cores[0].rows) if row.count == 2)
    images = changes.row(STEM, y, list=4095)
    images["lists"] = np.pad(images["lists"], ((0, 0), (0, 8192 - images["lists"].shape[1])))
    step = changes.layers[STEM].cores[0].source.list_step
    message = rf"^layer 0 at \d+, core 0: list {4095 + step} is beyond the 4096 that a row can begin with$"
    with pytest.raises(ValueError, match=message):
        check_images(images, config)
    # In a row with a list for each of its activations, nothing is beyond; and none of these lists feeds anything.
    y = next(y for y, row in enumerate(changes.layers[STEM].cores[0].rows) if row.count == 1)
    check_images(changes.row(STEM, y, list=4095) | {"lists": images["lists"]}, config)


def test_a_dummy_channel_that_is_not_zero_needs_a_list():
    """5 channels make 3 dummies; were they nonzero, the next layer would look up lists that aren't there."""
    maker = NetworkMaker(np.random.default_rng(0), (1, 1, 1))
    maker.conv(INPUT, 36, (1, 1))
    maker.linear("layer0", 5)
    maker.head("layer1", 3)
    network = maker.network("net")
    # The first words behind the pointers, read as pointers, lead far out: entries of weight -1 and offset 8.
    weight = np.zeros((36, 1, 1, 1), dtype=np.int8)
    weight[32:] = -1
    network = replace(network, layers=(replace(network.layers[0], weight=weight), *network.layers[1:]))
    images = dict(compile_network(network, TINY).images)
    dummy = 40 + 5
    for name, value in (("bias", 1 << 20), ("multiplier", (1 << 31) - 1)):
        images[name] = images[name].copy()
        images[name][0, dummy] = value
    length = images["lists"].shape[1]
    with pytest.raises(ValueError, match=rf"^layer 2 at \d+, core 0: list \[\d+\] points beyond the {length} words"):
        check_images(images, TINY)


@pytest.mark.parametrize("pe", range(4))
def test_of_a_group_only_channels_that_may_be_nonzero_count(pe):
    """The pool's last group has 2 channels: the other PEs are never given anything for its list."""
    maker = NetworkMaker(np.random.default_rng(1), (2, 2, 3))
    maker.head(maker.pool(maker.conv(INPUT, 10, (1, 1), density=1.0)), 3)
    changes = Changes(compile_network(maker.network("net"), TINY))
    source = changes.layers[1].cores[0].source
    assert source.depthwise
    beyond = pack_pointers(TINY.list_words - 1, 1, TINY)
    images = changes.image("lists", put((pe, source.first_list + 2), beyond))
    if pe >= 2:
        check_images(images, TINY)
        return
    with pytest.raises(ValueError, match=rf"list \[{source.first_list + 2}\] points beyond"):
        check_images(images, TINY)


class Operands:
    """Stands for the activation memories: channels that may be nonzero in what is read, and none in what is added."""

    def __init__(self, used: np.ndarray):
        self._used = used

    def read(self, *of_what):
        return self._used

    def operand(self, where, core, residual, target, positions, words):
        return np.zeros((words, 8), dtype=bool)


def in_passes() -> Network:
    """A head in three passes, of which the first two leave accumulators filled."""
    maker = NetworkMaker(np.random.default_rng(0), (1, 1, 4088))
    maker.head(INPUT, 3)
    return maker.network("passes")


def split_network() -> Network:
    maker = NetworkMaker(np.random.default_rng(3), (7, 6, 9))
    maker.head(maker.conv(maker.conv(INPUT, 9, (3, 3), (2, 2), (0, 1, 0, 1)), 8, (3, 3), pads=(1, 1, 1, 1)), 3)
    return maker.network("split")


SPLIT = AcceleratorConfig(pes=4, list_words=8192, accumulators=64, layer_words=4096, accumulator_bits=32)
ROOMY = TINY.replace(list_words=8192, accumulators=1024, layer_words=4096, activation_words=2048)


@pytest.mark.parametrize(
    ("make", "config", "wanted"),
    [
        (lambda: random_network(0, size=5), ROOMY, {}),
        (lambda: random_network(3, size=5), ROOMY.replace(cores=4, pes=8), {}),
        (lambda: random_network(6, size=5), ROOMY.replace(pes=2), {"merged": False}),
        (lambda: random_network(9004, size=5), SPLIT, {"split": True}),
        (split_network, SPLIT, {"split": True}),
        (in_passes, ROOMY, {}),
    ],
    ids=["one core", "four cores", "single rows", "small split", "split", "passes"],
)
def test_what_products_may_reach_is_what_a_walk_reaches(make, config, wanted, monkeypatch):
    only(monkeypatch, **wanted)
    program = compile_network(make(), config)
    rng = np.random.default_rng(0)
    lists = ListMemory(program.images["lists"], program.decoded.chunks, config)
    certain = np.zeros(config.list_words + 1, dtype=np.int64)
    quiet = {"bias": np.zeros_like(program.images["bias"])}
    bits, filled = [0] * config.cores, [set[tuple[int, int]]() for _ in range(config.cores)]
    partial = 0
    for command, layer in zip(program.commands, program.decoded.layers, strict=True):
        memory = lists.at(layer.chunks)
        depth = program.network.tensors()[program.network.layer(command.layer).inputs[0]].shape[2]
        for k, described in layer.working.items():
            # What isn't fed is 0, so that only what is counts.
            lane = replace(described.lane, offset=0, clamp_low=-128, clamp_high=127)
            target, residual = replace(described.target, zero_point=0), replace(described.residual, enable=0)
            core = replace(described, lane=lane, target=target, residual=residual)
            used = rng.random(8 * core.source.words) < rng.choice([0.05, 0.5, 1.0])
            # Dummy channels are always 0 and have no lists.
            first = core.target.first % -(-depth // 8) if core.source.depthwise else 0
            used[max(0, depth - 8 * first) :] = False
            active, bits[k] = check_core(
                "layer", k, core, program.images | quiet, (memory[k], certain), Operands(used), bits[k], config
            )
            fed = follow(core, used, memory[k], filled[k], config)
            assert set(np.flatnonzero(active.reshape(-1)).tolist()) == fed
            assert active.shape == (core.lane.channels // 8, 8)
            assert bits[k] == sum(1 << address * config.pes + pe for address, pe in filled[k])
            partial += bits[k] > 0
    assert bool(partial) == any(command.partial for command in program.commands)


#: Of eight channels, where half a bias is rounded and added to a zero point.
BIASES = (0, 1, -1, -2, 100, -100, 1 << 20, -(1 << 20))


@pytest.mark.parametrize(
    ("lane", "active"),
    [
        ({"offset": 5, "clamp_low": -128, "clamp_high": 127}, (0, 1, 0, 1, 1, 1, 1, 1)),
        ({"offset": 5, "clamp_low": 5, "clamp_high": 127}, (0, 1, 0, 0, 1, 0, 1, 0)),
        ({"offset": 5, "clamp_low": -128, "clamp_high": 5}, (0, 0, 0, 1, 0, 1, 0, 1)),
        ({"offset": 4, "clamp_low": -128, "clamp_high": 127}, (1, 0, 1, 1, 1, 1, 1, 1)),
    ],
)
def test_channels_without_products_are_their_bias(lane, active):
    core = good().layers[STEM].cores[0]
    core = replace(core, lane=replace(core.lane, double=0, **lane), target=replace(core.target, zero_point=5))
    assert checked(core).tolist() == [[bool(each) for each in active]]


@pytest.mark.parametrize(
    ("zero_point", "total", "some"), [(5, 5, False), (5, 4, True), (4, 5, True), (-100, 100, True)]
)
def test_a_sum_of_two_zeros_is_zero(zero_point, total, some):
    """Of the layer's own output, whose zero point the residual has, and of the operand, which nothing is known of."""
    core = good().layers[SUM].cores[0]
    lane = replace(core.lane, offset=5, clamp_low=5, clamp_high=5)
    residual = replace(core.residual, zero_point=zero_point, offset=100, clamp_low=-100, clamp_high=total)
    core = replace(core, lane=lane, residual=residual, target=replace(core.target, zero_point=5))
    assert checked(core).tolist() == [[some] * 8]


def checked(core: CoreLayer) -> np.ndarray:
    """Channels that may be nonzero though nothing that is read is."""
    images = {name: image.copy() for name, image in good().images.items()}
    place = slice(8 * core.lane.channel_base, 8 * core.lane.channel_base + 8)
    for name, values in (("bias", BIASES), ("multiplier", 1 << 30), ("shift", 0)):
        images[name][0, place] = np.array(values).astype(np.uint32)
    memory = np.zeros((TINY.pes, TINY.list_words), dtype=np.int64)
    certain = np.zeros(TINY.list_words + 1, dtype=np.int64)
    nothing = Operands(np.zeros(8 * core.source.words, dtype=bool))
    active, filled = check_core("layer", 0, core, images, (memory, certain), nothing, 0, TINY)
    assert filled == 0
    return active


def test_words_are_numbered_as_they_are_made():
    core = good().layers[STEM].cores[0]
    lane = replace(core.lane, channels=16, outputs=16 * 6)
    target = replace(core.target, first=100, words=2, columns=3, row_pitch=40, column_pitch=7)
    expected = [100 + y * 40 + x * 7 + word for y in range(2) for x in range(3) for word in range(2)]
    assert numbers_of("layer", replace(core, lane=lane, target=target)).tolist() == expected


def test_lists_end_with_their_memory():
    core, size = good().layers[STEM].cores[0], TINY.list_words
    memory = np.zeros((TINY.pes, size), dtype=np.int64)
    memory[1, 0] = pack_pointers(size - 1, 2, TINY)
    everything = Operands(np.ones(8 * core.source.words, dtype=bool))
    certain = np.zeros(size + 1, dtype=np.int64)
    with pytest.raises(ValueError, match=rf"^layer: list \[0\] points beyond the {size} words of lists then$"):
        check_core("layer", 0, core, good().images, (memory, certain), everything, 0, TINY)
