from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.network.layers import threshold_of
from hw.network.network import INPUT, Network
from models.compression.element_thresholds import element_thresholds_for, with_element_thresholds
from models.integer import golden
from tests.hw.networks import network as mixed_network
from tests.random_networks import random_codes, random_network

NAMES = ("stem", "branch", "early", "hidden", "head")


def images(count: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(-128, 128, (count, *mixed_network().input.shape)).astype(np.int8)


def shares(network: Network, codes: np.ndarray, name: str, threshold: int) -> float:
    source = network.layer(name).inputs[0]
    values = golden.run(network, codes).tensors[source].astype(int) - network.tensors()[source].zero_point
    return (abs(values) >= threshold).sum() / values.size


def test_only_the_named_layers_change():
    net = with_element_thresholds(mixed_network(), {"branch": 40, "head": 3})
    assert {layer.name: threshold_of(layer) for layer in net.layers if threshold_of(layer) > 1} == {
        "branch": 40,
        "head": 3,
    }
    again = with_element_thresholds(net, {"branch": 1})
    assert {layer.name for layer in again.layers if threshold_of(layer) > 1} == {"head"}
    assert again.layer("stem") is net.layer("stem")


def test_a_layer_skips_what_others_still_see():
    """The head ``early`` and the add read the same tensor as ``branch``."""
    net, codes = mixed_network({"stem": {"clamp": (-128, 100)}}), images()
    before = golden.run(net, codes)
    after = golden.run(with_element_thresholds(net, {"branch": 255}), codes)
    np.testing.assert_array_equal(after.tensors["stem"], before.tensors["stem"])
    np.testing.assert_array_equal(after.logits[0], before.logits[0])
    assert (after.tensors["branch"] != before.tensors["branch"]).any()
    # The add's own operand is whole: as if the branch had given these codes by itself.
    silent = replace(net.layer("branch"), weight=np.zeros_like(net.layer("branch").weight))
    without = golden.run(replace(net, layers=(net.layers[0], silent, *net.layers[2:])), codes)
    np.testing.assert_array_equal(after.tensors["sum"], without.tensors["sum"])
    assert len(np.unique(after.tensors["sum"])) > 10


def test_a_threshold_above_everything_leaves_the_bias():
    net = with_element_thresholds(mixed_network(), {"early": 255})
    codes = np.full((1, *net.input.shape), net.input.zero_point, dtype=np.int8)
    stem = golden.run(net, codes).tensors["stem"]
    assert abs(stem.astype(int) - net.tensors()["stem"].zero_point).max() < 255
    np.testing.assert_array_equal(golden.run(net, codes).logits[0][0], net.layer("early").bias)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 30), data=st.data())
def test_chosen_thresholds_are_the_smallest_with_these_densities(seed, data):
    net = random_network(seed, size=4)
    codes = random_codes(net, 5, seed)
    weighted = [layer.name for layer in net.layers if hasattr(layer, "weight")]
    wanted = {
        name: data.draw(st.sampled_from((0.1, 0.3, 0.5, 0.9, 1.0)))
        for name in data.draw(st.lists(st.sampled_from(weighted), unique=True, min_size=1))
    }
    try:
        chosen = element_thresholds_for(net, codes, wanted)
    except ValueError as error:
        if "the share of magnitudes of 255" not in str(error):
            raise
        return
    assert chosen.keys() == wanted.keys()
    made = with_element_thresholds(net, chosen)
    for name, threshold in chosen.items():
        assert shares(made, codes, name, threshold) <= wanted[name]
        assert threshold == 1 or shares(made, codes, name, threshold - 1) > wanted[name]


def test_a_density_that_no_threshold_reaches_is_refused():
    net = mixed_network()
    codes = np.full((1, *net.input.shape), 127, dtype=np.int8)
    codes[0, 0] = -128
    assert element_thresholds_for(net, codes, {"stem": 5 / 6}) == {"stem": 1}
    message = r"^stem: density must be at least 0\.833333, the share of magnitudes of 255, not 0\.8$"
    with pytest.raises(ValueError, match=message):
        element_thresholds_for(net, codes, {"stem": 0.8})


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"tail": 3}, r"^net has no layer 'tail'$"),
        ({"sum": 3}, "^sum: only a layer with weights has a threshold, not add$"),
        ({"mean": 3}, "^mean: only a layer with weights has a threshold, not global_average_pool$"),
        ({INPUT: 3}, f"^net has no layer '{INPUT}'$"),
        ({"stem": 0}, r"^stem: threshold must be an integer in 1\.\.255, not 0$"),
        ({"stem": 256}, r"^stem: threshold must be an integer in 1\.\.255, not 256$"),
    ],
)
def test_other_thresholds_are_refused(chosen, expected):
    with pytest.raises(ValueError, match=expected):
        with_element_thresholds(mixed_network(), chosen)


@pytest.mark.parametrize(
    ("densities", "expected"),
    [
        ({"tail": 0.3}, r"^net has no layer 'tail'$"),
        ({"sum": 0.3}, "^sum: only a layer with weights has a threshold, not add$"),
        ({"stem": 1.1}, r"^density of stem must be in 0\.\.1, not 1\.1$"),
        ({"stem": float("nan")}, r"^density of stem must be in 0\.\.1, not nan$"),
    ],
)
def test_other_densities_are_refused(densities, expected):
    with pytest.raises(ValueError, match=expected):
        element_thresholds_for(mixed_network(), images(), densities)


def test_no_image_is_refused():
    with pytest.raises(ValueError, match=r"^thresholds need at least 1 image, not 0$"):
        element_thresholds_for(mixed_network(), images(0), {"stem": 0.5})
