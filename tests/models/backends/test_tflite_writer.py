"""TensorFlow Lite files of random networks: what is read back, and LiteRT's reference kernels, make the same codes."""

from dataclasses import replace

import numpy as np
import pytest

from hw.network.network import INPUT, Network
from hw.numerics import Rounding
from models.backends.comparison import compare
from models.backends.export import export_file
from models.frontends.tflite import file as tflite_file
from models.frontends.tflite import reader as tflite_reader
from models.integer import golden
from tests.models.backends.exportable import changed, exportable
from tests.models.frontends.tflite.litert_reference import assert_equals_litert, data_file
from tests.models.frontends.tflite.test_random import RandomFile
from tests.random_networks import NetworkMaker, random_codes

#: Seeds of networks that can be said, and of which every kind of layer is among.
SEEDS = (2, 15, 19)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_networks_come_back_and_equal_litert(tmp_path, seed):
    network = exportable(seed, ".tflite")
    made = export_file(network, ".tflite")
    found = assert_equals_litert(tmp_path, made.content, count=3, seed=seed)
    codes = random_codes(network, 4, seed)
    first, second = (golden.run(each, codes).logits for each in (network, found.network))
    np.testing.assert_array_equal(first, second)
    assert len(found.outputs) == len(network.exits)


def test_every_kind_of_layer_is_among_them():
    seen = {layer.kind for seed in SEEDS for layer in exportable(seed, ".tflite").layers}
    assert seen == {
        *("conv2d", "depthwise_conv2d", "linear", "add"),
        *("average_pool2d", "max_pool2d", "global_average_pool"),
    }


@pytest.mark.parametrize("seed", [0, 5, 6, 11])
def test_files_of_every_operator_leave_as_they_came(tmp_path, seed):
    """Sums, products and concatenations of maps and constants have become layers, which files say as well."""
    path = tmp_path / "came.tflite"
    path.write_bytes(RandomFile(seed).data())
    network = tflite_reader.read(path)
    found = assert_equals_litert(tmp_path, export_file(network, ".tflite").content, count=2)
    codes = random_codes(network, 2, seed)
    np.testing.assert_array_equal(*(golden.run(each, codes).logits[-1] for each in (network, found.network)))


@pytest.mark.parametrize("name", ["pretrainedResnet_quant", "kws_ref_model"])
def test_official_networks_come_back_with_the_same_multipliers(data_root, tmp_path, name):
    """Their own scales are found again."""
    network = tflite_reader.read(data_file(data_root, "mlperf_tiny", f"{name}.tflite"))
    made = export_file(network, ".tflite")
    assert not any("last bits" in note for note in made.notes)
    found = assert_equals_litert(tmp_path, made.content, count=1)
    assert compare(network, found.network) == 0


def without_clamps(maker: NetworkMaker) -> Network:
    made = maker.network("made")
    return replace(made, layers=tuple(replace(layer, clamp=(-128, 127)) for layer in made.layers))


def test_sums_that_are_rounded_once_become_fully_connected_layers(tmp_path):
    """A hidden linear layer, and a convolution of single positions."""
    maker = NetworkMaker(np.random.default_rng(3), (3, 4, 2))
    here = maker.conv(INPUT, 5, (1, 1))
    maker.head(maker.linear(here, 6), 3)
    made = export_file(changed(without_clamps(maker), here, rounding=Rounding.SINGLE), ".tflite")
    found = assert_equals_litert(tmp_path, made.content)
    operators = [operator.name for operator in tflite_file.parse(tmp_path / "net.tflite").operators]
    assert operators.count("FULLY_CONNECTED") == 3
    assert [layer.rounding for layer in found.network.layers] == [Rounding.SINGLE] * 3


@pytest.mark.parametrize(("pads", "operators"), [((0, 1, 0, 1), 0), ((2, 0, 1, 3), 1), ((0, 0, 0, 0), 0)])
def test_pads_are_those_of_an_operator_or_a_pad_before_it(tmp_path, pads, operators):
    maker = NetworkMaker(np.random.default_rng(3), (4, 4, 2))
    maker.head(maker.conv(INPUT, 3, (3, 3), (2, 2), pads), 3)
    found = assert_equals_litert(tmp_path, export_file(without_clamps(maker), ".tflite").content)
    assert found.network.layers[0].pads == pads
    names = [operator.name for operator in tflite_file.parse(tmp_path / "net.tflite").operators]
    assert names.count("PAD") == operators


def test_constants_begin_where_the_schema_asks_for_it(tmp_path):
    content = export_file(exportable(1, ".tflite"), ".tflite").content
    weight = exportable(1, ".tflite").layers[0].weight.tobytes()
    assert content.index(weight) % 16 == 0


def test_clamps_that_are_no_activation_are_refused():
    network = exportable(1, ".tflite")
    names = [layer.name for layer in network.layers[:2]]
    for name in names:
        network = changed(network, name, clamp=(-128, network.layer(name).output.zero_point))
    refusals = [rf"{name}: a TFLite operator clamps its codes as an activation function does .*" for name in names]
    with pytest.raises(ValueError, match=rf"{refusals[0]}; {refusals[1]}, not to -128\.\."):
        export_file(network, ".tflite")


def test_pads_of_a_max_pool_that_would_be_the_largest_are_refused():
    maker = NetworkMaker(np.random.default_rng(3), (4, 4, 2))
    here = maker.conv(INPUT, 3, (1, 1))
    pool = maker.max_pool(here, (3, 3), (2, 2), (1, 1, 1, 1))
    maker.head(pool, 3)
    made = maker.network("made")
    outputs = [replace(layer.output, zero_point=0 if layer.name == "layer2" else 5) for layer in made.layers]
    pairs = zip(made.layers, outputs, strict=True)
    network = replace(made, layers=tuple(replace(each, output=output, clamp=(-128, 127)) for each, output in pairs))
    with pytest.raises(
        ValueError, match=rf"{pool}: pads of a TFLite max pool must be those of SAME .* \(1, 1, 1, 1\)$"
    ):
        export_file(network, ".tflite")
    assert export_file(changed(network, here, clamp=(5, 127)), ".tflite").content
