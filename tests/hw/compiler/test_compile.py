from dataclasses import replace

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.config import AcceleratorConfig, preset
from hw.network.network import INPUT, GlobalAveragePool, Network
from hw.rules import MisfitError, StructureError
from models.integer import golden
from tests.hw.equality import assert_equals_golden
from tests.hw.networks import network as mixed_network
from tests.hw.networks import pooled, runnable, tensor, weighted, with_zero_point
from tests.hw.partitions import only
from tests.random_networks import NetworkMaker, random_codes, random_network

TINY = preset("tiny")
ROOMY = TINY.replace(
    list_words=4096,
    accumulators=1024,
    activation_words=2048,
    channel_words=512,
    layer_words=2048,
    accumulator_bits=30,
)


def conv_network(channels: int, size: tuple[int, int], kernel: int = 3, depth: int = 2, **values) -> Network:
    """One convolution with a head, on a map of that size."""
    maker = NetworkMaker(np.random.default_rng(0), (*size, depth))
    pads = (kernel // 2,) * 4
    maker.conv(INPUT, channels, (kernel, kernel), pads=values.pop("pads", pads), **values)
    maker.head("layer0", 3)
    return maker.network("net")


def refused(network: Network, config: AcceleratorConfig, message: str, kind: type[MisfitError] | None = None) -> None:
    with pytest.raises(MisfitError, match=f"^{message}$") as caught:
        compile_network(network, config)
    assert kind is None or caught.type is kind


@pytest.mark.parametrize("seed", [*range(10), *(pytest.param(n, marks=pytest.mark.slow) for n in range(10, 20))])
def test_random_networks_equal_the_golden_model(seed):
    network = random_network(seed, size=6)
    program = compile_network(network, ROOMY.replace(pes=(2, 4, 8)[seed % 3]))
    assert_equals_golden(program, random_codes(network, 2, seed))


def test_every_kind_of_layer():
    network = runnable()
    program = compile_network(network, ROOMY)
    assert [(c.name, c.kind, c.layer) for c in program.commands] == [
        ("stem", "conv2d", "stem"),
        ("early", "linear", "early"),
        ("inner", "conv2d", "inner"),
        ("sum", "conv2d+add", "branch"),
        ("mean", "global_average_pool", "mean"),
        ("hidden", "linear", "hidden"),
        ("head", "linear", "head"),
    ]
    assert [c.macs for c in program.commands] == [12 * 18 * 4, 48 * 3, 12 * 4 * 4, 12 * 4 * 4, 0, 20, 15]
    assert_equals_golden(program, random_codes(network, 6, 0))


def several_exits() -> tuple[Network, np.ndarray]:
    """Three exits, thresholds so that images leave at each of them."""
    maker = NetworkMaker(np.random.default_rng(3), (6, 6, 2))
    here = maker.conv(INPUT, 6, (3, 3), pads=(1, 1, 1, 1))
    maker.head(here, 4, 0)
    here = maker.block(here, density=0.6)
    maker.head(here, 4, 0)
    maker.head(maker.pool(here), 4)
    network = maker.network("net")
    codes = np.random.default_rng(3).integers(-128, 128, (9, 6, 6, 2)).astype(np.int8)
    margins = golden.run(network, codes).margins
    first = int(np.sort(margins[:, 0])[6])
    second = int(np.sort(margins[margins[:, 0] < first, 1])[3])
    exits = [replace(e, threshold=t) for e, t in zip(network.exits, (first, second, None), strict=True)]
    return replace(network, exits=tuple(exits)), codes


def test_images_leave_at_every_exit():
    network, codes = several_exits()
    taken = assert_equals_golden(compile_network(network, ROOMY), codes)
    assert sorted(taken.tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize(
    ("channels", "pes"),
    [(33, 4), (70, 8), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((33, 8), (70, 4)))],
)
def test_layers_of_many_channels_are_split_into_commands(channels, pes, monkeypatch):
    """3 live rows of 5 positions: the accumulators hold 32 channels of them, but not 40."""
    only(monkeypatch, column_major=False)
    config = ROOMY.replace(pes=pes, accumulators=512 // pes)
    maker = NetworkMaker(np.random.default_rng(4), (4, 5, 2))
    here = maker.conv(INPUT, channels, (3, 3), pads=(1, 1, 1, 1), density=0.3)
    here = maker.conv(here, 5, (1, 1), density=0.3)
    maker.head(maker.pool(here), 3)
    network = maker.network("net")
    program = compile_network(network, config)
    parts = [command for command in program.commands if command.tensor == "layer0"]
    assert len(parts) == -(-channels // 32)
    assert max(c.channels[1] - c.channels[0] for c in parts) <= 32
    assert [c.channels[0] for c in parts] == [0, *(c.channels[1] for c in parts[:-1])]
    assert all(c.channels[0] % 8 == 0 for c in parts)
    assert parts[-1].channels[1] == channels
    assert [c.name for c in parts] == [f"layer0[{c.channels[0]}:{c.channels[1]}]" for c in parts]
    assert sum(c.macs for c in parts) == 4 * 5 * 9 * 2 * channels
    assert_equals_golden(program, random_codes(network, 3, 1))


def test_a_wide_residual_block_is_split():
    maker = NetworkMaker(np.random.default_rng(5), (6, 5, 3))
    here = maker.conv(INPUT, 40, (1, 1), density=0.5)
    here = maker.block(here, density=0.05)
    maker.head(maker.pool(here), 3)
    network = maker.network("net")
    program = compile_network(network, ROOMY.replace(pes=4, accumulators=128))
    assert sum(command.kind == "conv2d+add" for command in program.commands) == 2
    assert_equals_golden(program, random_codes(network, 3, 2))


def test_equal_networks_give_equal_files(tmp_path):
    for name in ("a", "b"):
        compile_network(runnable(), ROOMY).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_accumulators_that_could_overflow_are_refused():
    narrow = ROOMY.replace(accumulator_bits=20)

    def network(weights: int) -> Network:
        found = conv_network(4, (3, 3), depth=6)
        conv = found.layers[0]
        weight = np.zeros_like(conv.weight)
        weight.reshape(4, -1)[:, :weights] = 127
        return replace(found, layers=(replace(conv, weight=weight, shift=np.full(4, 14, np.int32)), *found.layers[1:]))

    low, high = (code - network(1).input.zero_point for code in (-128, 127))
    most = ((1 << 19) - 1) // (127 * max(-low, high))
    assert compile_network(network(most), narrow).config == narrow
    refused(
        network(most + 1),
        narrow,
        rf"layer0: accumulators can reach {127 * low * (most + 1)} and {127 * high * (most + 1)}, beyond the 20 bits "
        r"of this config \(-524288\.\.524287\)",
        MisfitError,
    )


@pytest.mark.parametrize("bias", [(1 << 31) - (1 << 19), -(1 << 31) + (1 << 19)])
def test_biases_may_be_beyond_the_accumulators(bias):
    """The lane adds them: all codes are in reach of the sums, and equal those of the golden model."""
    network, narrow = conv_network(4, (3, 3), depth=6), ROOMY.replace(accumulator_bits=20)
    conv, head = network.layers
    large = replace(
        conv,
        bias=np.full(4, bias, np.int32),
        multiplier=np.full(4, (1 << 31) - 1, np.int32),
        shift=np.full(4, 6, np.int32),
    )
    program = compile_network(replace(network, layers=(large, head)), narrow)
    assert_equals_golden(program, random_codes(network, 2, 0))


@pytest.mark.parametrize(("kernel", "stride"), [((2, 3), (3, 3)), ((1, 2), (4, 5)), ((3, 1), (1, 4))])
def test_strides_beyond_the_kernel(kernel, stride):
    maker = NetworkMaker(np.random.default_rng(0), (9, 9, 2))
    maker.conv(INPUT, 3, kernel, stride)
    maker.head("layer0", 3)
    network = maker.network("net")
    assert_equals_golden(compile_network(network, ROOMY), random_codes(network, 2, 0))


@pytest.mark.parametrize(
    ("kernel", "stride", "pads"),
    [((1, 1), (1, 1), (1, 1, 1, 1)), ((3, 3), (1, 1), (3, 4, 0, 5)), ((2, 1), (3, 2), (3, 2, 4, 1))],
)
@pytest.mark.parametrize("own", [False, True])
def test_pads_beyond_the_kernel(kernel, stride, pads, own):
    """Outputs that read nothing but padding are their bias."""
    maker = NetworkMaker(np.random.default_rng(0), (5, 4, 3))
    last = (maker.depthwise if own else lambda *given, **more: maker.conv(given[0], 3, *given[1:], **more))(
        INPUT, kernel, stride, pads=pads
    )
    maker.head(last, 3)
    network = maker.network("net")
    assert_equals_golden(compile_network(network, ROOMY), random_codes(network, 2, 0))


@pytest.mark.parametrize("clamp", [(-128, 127), (-3, 100)])
def test_a_global_pool_of_one_position_is_the_identity_but_for_its_clamp(clamp):
    maker = NetworkMaker(np.random.default_rng(0), (1, 1, 11))
    maker.input = maker._tensors[INPUT] = tensor(1, 1, 11, zero_point=-3)
    pool = maker._append(GlobalAveragePool(name="pool", inputs=(INPUT,), output=maker.input, clamp=clamp))
    maker.head(pool, 3)
    network = maker.network("net")
    codes = np.arange(-128, 136).clip(-128, 127).astype(np.int8).reshape(24, 1, 1, 11)
    np.testing.assert_array_equal(golden.run(network, codes).tensors["pool"], codes.clip(*clamp))
    assert_equals_golden(compile_network(network, ROOMY), codes)


@pytest.mark.parametrize("inputs", [("stem", "stem"), ("branch", "branch")])
def test_an_add_that_reads_something_else_is_refused(inputs):
    network = runnable({"sum": {"inputs": inputs}})
    refused(
        network, ROOMY, r"sum: an add must directly follow a convolution that only it reads, not branch", StructureError
    )


def test_an_add_behind_another_layer_is_refused():
    network = mixed_network()
    assert [layer.name for layer in network.layers[:4]] == ["stem", "branch", "early", "sum"]
    refused(
        network, ROOMY, r"sum: an add must directly follow a convolution that only it reads, not early", StructureError
    )


def test_an_add_of_the_image_to_itself_is_refused():
    maker = NetworkMaker(np.random.default_rng(0), (4, 4, 2))
    maker.conv(INPUT, 2, (1, 1))
    maker._append(replace(mixed_network().layer("sum"), name="sum", inputs=("layer0", INPUT), output=tensor(4, 4, 2)))
    maker.head("sum", 3)
    network = replace(maker.network("net"), input=tensor(4, 4, 2))
    refused(
        network,
        ROOMY,
        r"input: the input of a convolution can't be the residual added to its own output",
        StructureError,
    )


#: Cores, and the pool between the first layer and the last.
POOLS = [
    *((4, ""), (4, "average"), (4, "largest"), (1, "")),
    *(pytest.param(1, between, marks=pytest.mark.slow) for between in ("average", "largest")),
]


@pytest.mark.parametrize(("cores", "between"), POOLS)
@pytest.mark.parametrize(("zero_point", "low"), [(-128, -128), (-20, -20)])
def test_max_pools_of_what_has_no_code_below_its_zero_point(zero_point, low, between, cores):
    """Also where another pool lies between: its codes are no lower."""
    network = pooled(zero_point, low, between)
    program = compile_network(network, ROOMY.replace(cores=cores))
    assert_equals_golden(program, random_codes(network, 3, 0))
    maxima = [core.source.max_pool for layer in program.decoded.instructions[:-1] for core in layer.cores[:1]]
    assert maxima == [int(layer.kind == "max_pool2d") for layer in network.layers]


@pytest.mark.parametrize(("cores", "between"), POOLS)
@pytest.mark.parametrize(("zero_point", "low"), [(-20, -21), (0, -128), (127, -128)])
def test_max_pools_of_codes_below_the_zero_point(zero_point, low, between, cores):
    """What only max pools read is stored against its lowest code; ten channels leave six dummies in the last word."""
    network = pooled(zero_point, low, between)
    program = compile_network(network, ROOMY.replace(cores=cores))
    assert_equals_golden(program, random_codes(network, 3, 0))
    stored = [layer.cores[0].target.zero_point for layer in program.decoded.instructions[:-2]]
    lowest, zero = low, zero_point
    first = {"": [lowest, lowest], "average": [zero, lowest, lowest], "largest": [lowest] * 3}[between]
    assert stored == [*first, zero]


def test_max_pools_of_images_below_their_zero_point():
    maker = NetworkMaker(np.random.default_rng(2), (9, 8, 3))
    maker.head(maker.max_pool(INPUT, (3, 3), (2, 2), (0, 1, 1, 0)), 3)
    network = maker.network("net")
    pool, head = network.layers
    pool = replace(pool, output=replace(pool.output, zero_point=7), clamp=(-128, 127))
    network = replace(network, input=replace(network.input, zero_point=7), layers=(pool, head))
    program = compile_network(network, ROOMY)
    assert program.decoded.header.image_zero_point == -128
    assert_equals_golden(program, random_codes(network, 3, 0))


def test_max_pools_of_codes_below_the_zero_point_beside_other_readers_are_refused():
    message = (
        "layer2: a max pool's input must have no code below its zero point -20 where other layers read it, too; "
        "layer0 can hold -21"
    )
    refused(pooled(-20, -21, early=True), ROOMY, message, StructureError)


def test_sums_with_dummy_channels_that_only_max_pools_read_are_refused():
    maker = NetworkMaker(np.random.default_rng(2), (9, 8, 3))
    total = maker.block(maker.conv(INPUT, 10, (3, 3), pads=(1, 1, 1, 1)), density=1.0)
    maker.head(maker.max_pool(total, maker.shape(total)[:2], (1, 1)), 3)
    message = (
        f"{total}: a sum that only max pools read must have a multiple of 8 channels, not 10, or no code below its "
        "zero point -20, not -128"
    )
    refused(with_zero_point(maker.network("net"), -20), ROOMY, message, StructureError)


def test_weighted_heads_deliver_their_logits_whatever_the_scale():
    """The requantization of a raw layer is of no influence."""
    fields = weighted(3, 3, 4, 4, seed=2)
    changed = runnable({"early": {"multiplier": fields["multiplier"] // 2}})
    codes = random_codes(changed, 2, 3)
    assert_equals_golden(compile_network(changed, ROOMY), codes)
