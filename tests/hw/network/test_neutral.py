"""What is exported says all that is computed: the code of the page that defines it gives what golden gives."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hw.network.network import Network
from hw.network.neutral import FORMAT, description
from models.integer import golden
from tests.hw.network.neutral_page import page_functions
from tests.random_networks import odd_network, random_codes, random_network, with_selects


@pytest.fixture(scope="module")
def defined():
    """The functions of the page."""
    return page_functions()


def exported(network, folder):
    """What is read back of the files."""
    found, arrays = description(network, "a test")
    (folder / "network.json").write_text(json.dumps(found))
    np.savez(folder / "arrays.npz", **arrays)
    with np.load(folder / "arrays.npz") as loaded:
        return json.loads((folder / "network.json").read_text()), dict(loaded)


@pytest.mark.parametrize("seed", range(16))
def test_the_page_computes_what_golden_does(defined, tmp_path, seed):
    made = (random_network, odd_network)[seed % 2](seed)
    network = with_selects(made, np.random.default_rng(seed), 0.5 * (seed % 4 > 1))
    codes = random_codes(network, 3, seed)
    expected = golden.run(network, codes).tensors
    found = defined["run"](*exported(network, tmp_path), codes)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_every_kind_of_layer_is_among_them():
    seen = {layer.kind for seed in range(16) for layer in (random_network, odd_network)[seed % 2](seed).layers}
    assert seen == {
        *("conv2d", "depthwise_conv2d", "linear", "add"),
        *("average_pool2d", "max_pool2d", "global_average_pool"),
    }


def test_the_network_can_be_made_of_it_again(tmp_path):
    network = random_network(5)
    found, arrays = exported(network, tmp_path)
    assert (found.pop("format"), found.pop("origin")) == (FORMAT, "a test")
    for layer in found["layers"]:
        for name in ("input_zero_points", "scales", "scale"):
            layer.pop(name, None)
        if layer["kind"] == "global_average_pool":
            layer.pop("window")
    again = Network.from_dict(found, arrays)
    assert again.to_dict() == network.to_dict()


def test_names_that_differ_in_case_alone_are_refused():
    network = random_network(5)
    first, *rest = network.layers
    second = next(layer for layer in rest if hasattr(layer, "weight"))
    names = {first.name: "Conv", second.name: "conv"}
    layers = [
        replace(
            layer,
            name=names.get(layer.name, layer.name),
            inputs=tuple(names.get(name, name) for name in layer.inputs),
        )
        for layer in network.layers
    ]
    with pytest.raises(ValueError, match="names of layers must differ by more than upper and lower case"):
        description(replace(network, layers=tuple(layers)), "a test")
