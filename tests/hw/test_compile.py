import re
from dataclasses import replace

import numpy as np
import pytest

from hw.compile import compile_network
from hw.config import AcceleratorConfig, preset
from hw.decode import decode_header, decode_windows
from hw.network import INPUT, Network
from models import golden
from tests.hw.equality import assert_equals_golden
from tests.hw.networks import network as mixed_network
from tests.hw.networks import runnable, tensor, weighted
from tests.hw.partitions import only_merged
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


def refused(network: Network, config: AcceleratorConfig, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        compile_network(network, config)


@pytest.mark.parametrize("seed", range(20))
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


@pytest.mark.parametrize("pes", [4, 8])
@pytest.mark.parametrize("channels", [33, 70])
def test_layers_of_many_channels_are_split_into_commands(channels, pes):
    """3 live rows of 5 positions: the accumulators hold 32 channels of them, but not 40."""
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


def test_a_program_may_take_the_time_it_needs():
    program = compile_network(conv_network(4, (5, 5)), TINY)
    assert 1000 < decode_header(program.images)["limit"] < 10_000


def test_accumulators_that_could_overflow_are_refused():
    # Activations of -100 + 20 to 90 + 20 meet 4 weights of 127.
    products, least = 4 * 127 * 110, 4 * 127 * 80
    narrow = ROOMY.replace(accumulator_bits=20)
    branch = {
        "weight": np.full((4, 1, 1, 4), 127, dtype=np.int8),
        "bias": np.full(4, (1 << 19) - 1 - products, dtype=np.int32),
    }
    # The others stay out of the way.
    quiet = {"early": {"weight": np.zeros((3, 3, 4, 4), dtype=np.int8)}}
    assert compile_network(runnable(quiet | {"branch": branch}), narrow).config == narrow
    branch["bias"] = branch["bias"] + 1
    refused(
        runnable(quiet | {"branch": branch}),
        narrow,
        rf"branch: accumulators can reach -{least} and 524288, beyond the 20 bits of this config \(-524288\.\.524287\)",
    )
    branch["weight"] = -branch["weight"]
    branch["bias"] = np.full(4, products - (1 << 19) - 1, dtype=np.int32)
    refused(
        runnable(quiet | {"branch": branch}),
        narrow,
        rf"branch: accumulators can reach -524289 and {least}, beyond the 20 bits of this config \(-524288\.\.524287\)",
    )


@pytest.mark.parametrize(("kernel", "stride"), [((2, 3), (3, 3)), ((1, 2), (4, 5)), ((3, 1), (1, 4))])
def test_strides_beyond_the_kernel(kernel, stride):
    maker = NetworkMaker(np.random.default_rng(0), (9, 9, 2))
    maker.conv(INPUT, 3, kernel, stride)
    maker.head("layer0", 3)
    network = maker.network("net")
    assert_equals_golden(compile_network(network, ROOMY), random_codes(network, 2, 0))


@pytest.mark.parametrize("inputs", [("stem", "stem"), ("branch", "branch")])
def test_an_add_that_reads_something_else_is_refused(inputs):
    network = runnable({"sum": {"inputs": inputs}})
    refused(network, ROOMY, r"sum: an add must directly follow a convolution that only it reads, not branch")


def test_an_add_behind_another_layer_is_refused():
    network = mixed_network()
    assert [layer.name for layer in network.layers[:4]] == ["stem", "branch", "early", "sum"]
    refused(network, ROOMY, r"sum: an add must directly follow a convolution that only it reads, not early")


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
    )


def pooled(zero_point: int, low: int, between: str = "") -> Network:
    """A max pool of a convolution with this zero point and lowest code, perhaps with another pool between."""
    maker = NetworkMaker(np.random.default_rng(2), (9, 8, 3))
    here = maker.conv(INPUT, 10, (3, 3), pads=(1, 1, 1, 1))
    if between == "average":
        here = maker.average_pool(here, (2, 2), (1, 1))
    elif between == "largest":
        here = maker.max_pool(here, (2, 2), (1, 1))
    here = maker.max_pool(here, (3, 3), (2, 2), (0, 1, 1, 0))
    maker.head(maker.max_pool(here, maker.shape(here)[:2], (1, 1)), 3)
    network = maker.network("net")
    layers = [
        layer
        if layer is network.layers[-1]
        else replace(
            layer,
            output=replace(layer.output, scale=0.1, zero_point=zero_point),
            clamp=(low if number == 0 else -128, 127),
        )
        for number, layer in enumerate(network.layers)
    ]
    return replace(network, layers=tuple(layers))


@pytest.mark.parametrize("cores", [1, 4])
@pytest.mark.parametrize("between", ["", "average", "largest"])
@pytest.mark.parametrize(("zero_point", "low"), [(-128, -128), (-20, -20)])
def test_max_pools_of_what_has_no_code_below_its_zero_point(zero_point, low, between, cores):
    """Also where another pool lies between: its codes are no lower."""
    network = pooled(zero_point, low, between)
    program = compile_network(network, ROOMY.replace(cores=cores))
    assert_equals_golden(program, random_codes(network, 3, 0))
    maxima = [core.fields["source"]["maximum"] for layer in program.instructions()[:-1] for core in layer.cores[:1]]
    assert maxima == [int(layer.kind == "max_pool2d") for layer in network.layers]


@pytest.mark.parametrize(("between", "where"), [("", "layer0"), ("average", "layer1"), ("largest", None)])
def test_max_pools_of_codes_below_the_zero_point_are_refused(between, where):
    pool, source = ("layer1", "layer0") if where != "layer1" else ("layer2", "layer1")
    message = f"{pool}: a max pool's input must have no code below its zero point -20, {source} can hold -21"
    refused(pooled(-20, -21, between), ROOMY, message)


def test_too_many_classes_are_refused():
    maker = NetworkMaker(np.random.default_rng(0), (2, 2, 1))
    maker.head(INPUT, 65)
    refused(maker.network("net"), ROOMY, r"net: classes must be from 2 to 64, not 65")
    maker = NetworkMaker(np.random.default_rng(0), (2, 2, 1))
    maker.head(INPUT, 64)
    network = maker.network("net")
    assert_equals_golden(compile_network(network, ROOMY), random_codes(network, 2, 0))


@pytest.mark.parametrize(("size", "field"), [((256, 1), "rows"), ((1, 256), "columns")])
def test_maps_of_too_many_rows_or_columns_are_refused_by_layer(size, field):
    big = AcceleratorConfig(layer_words=4096)
    maker = NetworkMaker(np.random.default_rng(0), (*size, 1))
    maker.head(maker.pool(INPUT), 3)
    refused(
        maker.network("net"),
        big,
        rf"layer0: Layer\.source\.{field} must be in 0\.\.255, not 256: "
        r"the layer is too large for the instruction format",
    )
    maker = NetworkMaker(np.random.default_rng(0), (*(n - (n > 1) for n in size), 1))
    maker.head(maker.pool(INPUT), 3)
    network = maker.network("net")
    assert_equals_golden(compile_network(network, big), random_codes(network, 1, 0))


def tall(kernel: int, pads: tuple[int, int]) -> Network:
    """One convolution with a kernel of that many rows."""
    maker = NetworkMaker(np.random.default_rng(0), (32, 1, 1))
    maker.conv(INPUT, 2, (kernel, 1), pads=(*pads, 0, 0))
    maker.head("layer0", 3)
    return maker.network("net")


def test_kernels_of_too_many_rows_are_refused_by_layer(monkeypatch):
    assert compile_network(tall(15, (7, 7)), ROOMY)
    # 16 lists of a kernel row each are too many, one list of 16 kernel rows is not.
    network = tall(16, (0, 15))
    assert_equals_golden(compile_network(network, ROOMY), random_codes(network, 2, 0))
    refused(
        tall(17, (0, 16)),
        ROOMY,
        r"layer0: Layer\.source\.blank_rows must be in 0\.\.15, not 16: "
        r"the layer is too large for the instruction format",
    )
    only_merged(monkeypatch, merged=False)
    refused(
        tall(16, (0, 0)),
        ROOMY,
        r"layer0: Row\.count must be in 0\.\.15, not 16: the layer is too large for the instruction format",
    )


def test_maps_of_too_many_channels_are_refused_by_layer():
    """255 words a position, and as many as 4096 inputs of a linear layer in several positions."""
    for shape in ((1, 1, 2040), (2, 2, 1024)):
        maker = NetworkMaker(np.random.default_rng(0), shape)
        maker.head(INPUT, 2)
        network = maker.network("net")
        assert_equals_golden(compile_network(network, ROOMY.replace(list_words=8192)), random_codes(network, 2, 0))
    maker = NetworkMaker(np.random.default_rng(0), (1, 1, 2048))
    maker.head(INPUT, 2)
    refused(
        maker.network("net"),
        ROOMY.replace(list_words=8192),
        r"layer0: Layer\.source\.column_pitch must be in 0\.\.255, not 256: "
        r"the layer is too large for the instruction format",
    )


def short(size: int, needed: int) -> str:
    return f"{size} words; this network needs {needed}, {needed - size} too many"


@pytest.mark.parametrize(("memory", "field", "size"), [("layer", "layer_words", 512), ("program", "program_words", 32)])
def test_too_long_programs_are_refused(memory, field, size):
    maker = NetworkMaker(np.random.default_rng(0), (2, 2, 2))
    here = INPUT
    for _ in range(40):
        here = maker.conv(here, 3, (1, 1))
    maker.head(here, 3)
    network = maker.network("net")
    used = compile_network(network, ROOMY).images["program" if memory == "program" else "layers"].shape[-1]
    refused(network, ROOMY.replace(**{field: size}), f"{memory} memory holds {short(size, used)}")


def test_too_many_channels_are_refused():
    network = conv_network(30, (4, 4))
    # 30 channels are stored as 32, 3 classes as 8.
    refused(network, ROOMY.replace(channel_words=32), f"channel memory holds {short(32, 40)}")


def test_too_many_weights_are_refused():
    network = conv_network(16, (4, 4), depth=4, density=1.0)
    most = compile_network(network, ROOMY).images["lists"].shape[1]
    with pytest.raises(ValueError, match=r"^list memory holds 128 words a PE; ") as caught:
        compile_network(network, ROOMY.replace(list_words=128))
    pattern = r"this network needs (\d+) \((\d+) pointers, (\d+) weights\), (\d+) too many$"
    found = re.search(pattern, str(caught.value))
    assert found
    needed, pointers, weights, missing = map(int, found.groups())
    assert pointers + weights == needed == 128 + missing
    # What it needs at least: fewer than where nothing is short, and so many are enough.
    assert 128 < needed <= most
    enough = 1 << (needed - 1).bit_length()
    assert compile_network(network, ROOMY.replace(list_words=enough)).images["lists"].shape[1] <= enough
    refused(network, ROOMY.replace(list_words=enough // 2), rf"list memory holds {enough // 2} words a PE; .* too many")


def test_lists_beyond_the_numbers_of_a_table_are_a_matter_of_memory():
    network = conv_network(2, (2, 2), depth=1200, density=0.001)
    refused(network, ROOMY, r"list memory holds 4096 words a PE; this network needs \d+ .* too many")


def test_lists_longer_than_a_pointer_counts_are_refused():
    # 64 classes in 2 PEs: lists of 32 entries, of which pointers into 8192 words count 31.
    maker = NetworkMaker(np.random.default_rng(0), (1, 1, 1))
    maker.head(INPUT, 64)
    network = maker.network("net")
    head = replace(network.layers[0], weight=np.ones((64, 1, 1, 1), dtype=np.int8))
    refused(
        replace(network, layers=(head,)),
        ROOMY.replace(pes=2, list_words=8192),
        r"layer0: a weight list has 32 entries, 1 more than the 31 that a pointer of this config can count",
    )


def test_rows_longer_than_the_accumulators_are_refused():
    # 3 rows of 20 positions with 2 channels in each of 4 PEs, after the split into commands of a word.
    network = conv_network(64, (3, 20))
    refused(
        network,
        ROOMY.replace(accumulators=64),
        r"layer0: accumulator memory holds 64 a PE; 120 are needed, 56 too many",
    )
    assert compile_network(network, ROOMY.replace(accumulators=128, list_words=8192))


def test_maps_larger_than_the_activation_memory_are_refused():
    network = conv_network(16, (8, 8))
    refused(
        network,
        ROOMY.replace(activation_words=64),
        r"activation memory has banks of 64 words; layer0 alone needs 128, 64 too many",
    )


def test_a_map_larger_than_a_bank_lies_in_several_cores():
    maker = NetworkMaker(np.random.default_rng(0), (8, 8, 2))
    here = maker.conv(INPUT, 8, (3, 3), pads=(1, 1, 1, 1))
    here = maker.conv(here, 8, (3, 3), (2, 2), pads=(1, 0, 1, 0))
    maker.head(maker.pool(here), 3)
    network = maker.network("net")
    small = ROOMY.replace(activation_words=32)
    refused(network, small, r"activation memory has banks of 32 words; input alone needs 64, 32 too many")
    program = compile_network(network, small.replace(cores=4))
    # Two rows of eight words, and one above and below that the kernel reaches.
    assert [window["count"] for window in decode_windows(program.images)] == [24, 32, 32, 24]
    assert [(c.bands, c.groups) for c in program.commands[:2]] == [(4, 1), (4, 1)]
    assert_equals_golden(program, random_codes(network, 2, 0))


def test_weighted_heads_deliver_their_logits_whatever_the_scale():
    """The requantization of a raw layer is of no influence."""
    fields = weighted(3, 3, 4, 4, seed=2)
    changed = runnable({"early": {"multiplier": fields["multiplier"] // 2}})
    codes = random_codes(changed, 2, 3)
    assert_equals_golden(compile_network(changed, ROOMY), codes)
