import json

import numpy as np
import pytest

from hw.network.layers import threshold_of
from hw.network.network import INPUT, Exit, Linear, Network
from tests.hw.networks import layers, network, tensor, weighted


def test_every_tensor_and_layer_by_name():
    net = network()
    assert list(net.tensors()) == [INPUT, *layers()]
    assert net.tensors()["mean"].shape == (1, 1, 4)
    assert net.layer("sum").inputs == ("stem", "branch")
    with pytest.raises(ValueError, match=r"^net has no layer 'tail'$"):
        net.layer("tail")


def test_round_trip_through_json():
    net = network()
    arrays = dict(net.arrays())
    assert arrays.keys() == {
        f"{name}/{field}"
        for name in ("stem", "branch", "early", "hidden", "head")
        for field in ("weight", "bias", "multiplier", "shift")
    }
    manifest = json.loads(json.dumps(net.to_dict()))
    again = Network.from_dict(manifest, arrays)
    assert again.to_dict() == net.to_dict()
    assert (again.input, again.exits, again.classes, again.name) == (net.input, net.exits, net.classes, net.name)
    for before, after in zip(net.layers, again.layers, strict=True):
        assert type(before) is type(after)
        assert before.output == after.output
        assert (before.inputs, before.clamp) == (after.inputs, after.clamp)
    for name, array in again.arrays():
        np.testing.assert_array_equal(array, arrays[name], strict=True)
    assert again.layer("stem").pads == (0, 1, 1, 1)
    assert again.layer("hidden").rounding is net.layer("hidden").rounding


def test_element_thresholds_survive_json_and_are_1_in_descriptions_without():
    net = network({"branch": {"threshold": 7}, "head": {"threshold": 255}})
    manifest = json.loads(json.dumps(net.to_dict()))
    again = Network.from_dict(manifest, dict(net.arrays()))
    assert [threshold_of(layer) for layer in again.layers] == [1, 7, 1, 1, 1, 1, 255]
    assert [threshold_of(layer) for layer in network().layers] == [1] * 7
    assert "threshold" not in manifest["layers"][3]  # an add has none
    for layer in manifest["layers"]:
        layer.pop("threshold", None)
    assert {threshold_of(layer) for layer in Network.from_dict(manifest, dict(net.arrays())).layers} == {1}


def wrong(array: str, value) -> dict:
    return {"branch": {array: value}}


WEIGHT = weighted(4, 1, 1, 4)["weight"]

LAYER_REFUSALS = {
    "shape of zero": ({"sum": {"output": tensor(3, 0, 4)}}, r"^sum: shape must be .* not \(3, 0, 4\)$"),
    "arity": ({"sum": {"inputs": ("stem",)}}, "^sum: add reads 2 tensors, not 1$"),
    "clamp zero": ({"branch": {"clamp": (4, 9)}}, r"^branch: clamp \(4, 9\) must contain the zero point 3$"),
    "weight list": (
        wrong("weight", [[1]]),
        r"^branch: weight must be a 4-dimensional int8 array, not <class 'list'> of",
    ),
    "weight type": (wrong("weight", WEIGHT.astype(np.int16)), r"int8 array, not int16 of shape \(4, 1, 1, 4\)$"),
    "weight NaN": (
        wrong("weight", np.full((4, 1, 1, 4), np.nan)),
        "^branch: weight must be .* int8 array, not float64",
    ),
    "weight rank": (wrong("weight", WEIGHT[0]), r"4-dimensional int8 array, not int8 of shape \(1, 1, 4\)$"),
    "bias type": (
        wrong("bias", np.zeros(4)),
        r"^branch: bias must be an int32 array of 4 values, not float64 of shape",
    ),
    "bias length": (wrong("bias", np.zeros(3, np.int32)), r"^branch: bias must be .* not int32 of shape \(3,\)$"),
    "bias list": (wrong("bias", [0] * 4), "^branch: bias must be an int32 array of 4 values, not <class 'list'>"),
    "multiplier low": (
        wrong("multiplier", np.full(4, -1, np.int32)),
        r"^branch: multiplier must be in 0\.\.2147483647$",
    ),
    "shift low": (wrong("shift", np.full(4, -1, np.int32)), r"^branch: shift must be in 0\.\.31$"),
    "shift high": (wrong("shift", np.full(4, 32, np.int32)), r"^branch: shift must be in 0\.\.31$"),
    "threshold zero": ({"branch": {"threshold": 0}}, r"^branch: threshold must be an integer in 1\.\.255, not 0$"),
    "threshold high": ({"head": {"threshold": 256}}, r"^head: threshold must be an integer in 1\.\.255, not 256$"),
    "threshold half": ({"stem": {"threshold": 1.5}}, r"^stem: threshold must be an integer in 1\.\.255, not 1\.5$"),
    "threshold truth": ({"stem": {"threshold": True}}, r"^stem: threshold must be an integer .*, not True$"),
    "output channels": ({"branch": weighted(5, 1, 1, 4)}, "^branch: weight has 5 output channels, the output 4$"),
    "input channels": ({"branch": weighted(4, 1, 1, 3)}, "^branch: weight has 3 input channels, stem 4$"),
    "stride zero": ({"branch": {"stride": (1, 0)}}, r"^branch: strides must be two positive integers, not \(1, 0\)$"),
    "pads negative": (
        {"stem": {"pads": (0, -1, 0, 0)}},
        r"^stem: pads must be four integers of at least 0, not \(0, -1, 0, 0\)$",
    ),
    "pads large": ({"stem": {"pads": (0, 0, 3, 0)}}, r"^stem: output must be "),
    "map": ({"stem": {"stride": (1, 1)}}, r"^stem: output must be \(5, 4, 4\), not \(3, 4, 4\)$"),
    "kernel above map": (
        {"branch": weighted(4, 5, 1, 4)},
        r"^branch: output must be \(-1, 4, 4\), not \(3, 4, 4\)$",
    ),
    "linear cover": (
        {"hidden": weighted(5, 2, 1, 4)},
        r"^hidden: weight must cover mean \(1, 1, 4\), not \(2, 1, 4\)$",
    ),
    "linear map": ({"hidden": {"output": tensor(2, 1, 5)}}, r"^hidden: output must be 1x1 in space, not \(2, 1\)$"),
    "add shapes": (
        {"sum": {"inputs": ("stem", "input")}},
        r"^sum: operands and output must have equal shapes, not \[\(3, 4, 4\), \(6, 4, 2\)\] and \(3, 4, 4\)$",
    ),
    "add scales": (
        {"sum": {"output": tensor(3, 4, 4, scale=1e-9)}},
        "^sum: requantization scale must be above 0 and below 1, not 476",
    ),
    "pool map": (
        {"mean": {"output": tensor(1, 1, 5, scale=0.4)}},
        r"^mean: output must be \(1, 1, 4\), not \(1, 1, 5\)$",
    ),
    "pool scale": (
        {"mean": {"output": tensor(1, 1, 4, scale=0.3)}},
        "^mean: a pool must keep scale and zero point$",
    ),
    "pool zero point": (
        {"mean": {"output": tensor(1, 1, 4, scale=0.4, zero_point=0)}},
        "^mean: a pool must keep scale and zero point$",
    ),
    "same name": ({"sum": {"name": "stem"}}, "^stem: names must be unique$"),
    "name of the image": ({"sum": {"name": INPUT}}, "^input: names must be unique$"),
    "later layer": ({"branch": {"inputs": ("mean",)}}, "^branch: reads 'mean', which no earlier layer writes$"),
    "itself": ({"branch": {"inputs": ("branch",)}}, "^branch: reads 'branch', which no earlier layer writes$"),
    "raw text": ({"head": {"raw": "yes"}}, "^head: raw must be true or false, not 'yes'$"),
    "raw logits": ({"hidden": {"inputs": ("early",)}}, "^hidden: reads the raw logits 'early'$"),
}


@pytest.mark.parametrize(("changes", "expected"), LAYER_REFUSALS.values(), ids=LAYER_REFUSALS.keys())
def test_impossible_layers_are_refused(changes, expected):
    with pytest.raises(ValueError, match=expected):
        network(changes)


EARLY, HEAD = Exit(logits="early", threshold=1), Exit(logits="head")
NETWORK_REFUSALS = {
    "input": ({"input": tensor(6, 4, 2, scale=-1.0)}, r"^input: scale must be positive and finite, not -1\.0$"),
    "no exit": ({"exits": ()}, "^net: a network needs an exit$"),
    "one class": ({"classes": 1}, "^net: classes must be an integer of at least 2, not 1$"),
    "class type": ({"classes": "3"}, "^net: classes must be an integer of at least 2, not '3'$"),
    "classes": ({"classes": 4}, "^exit 0: early has 3 outputs, the network 4 classes$"),
    "exit unknown": ({"exits": (Exit(logits="tail"),)}, "^exit 0: 'tail' must be a raw linear layer$"),
    "exit convolution": ({"exits": (Exit(logits="stem"),)}, "^exit 0: 'stem' must be a raw linear layer$"),
    "exit not raw": ({"exits": (Exit(logits="hidden"),)}, "^exit 0: 'hidden' must be a raw linear layer$"),
    "exit order": (
        {"exits": (Exit(logits="head", threshold=1), Exit(logits="early"))},
        "^exit 1: exits must be in execution order$",
    ),
    "exit twice": ({"exits": (EARLY, EARLY, HEAD)}, "^exit 1: exits must be in execution order$"),
    "early without": (
        {"exits": (Exit(logits="early"), HEAD)},
        "^exit 0: only the last exit, and always that, goes without a threshold$",
    ),
    "last with": (
        {"exits": (EARLY, Exit(logits="head", threshold=3))},
        "^exit 1: only the last exit, and always that, goes without a threshold$",
    ),
    "threshold low": (
        {"exits": (Exit(logits="early", threshold=-1), HEAD)},
        r"^exit 0: threshold must be an integer in 0\.\.4294967295, not -1$",
    ),
    "threshold high": (
        {"exits": (Exit(logits="early", threshold=1 << 32), HEAD)},
        "^exit 0: threshold must .* not 4294967296$",
    ),
    "margins in disorder": (
        {"exits": (Exit(logits="early", threshold=1, low=5, high=4), HEAD)},
        r"^exit 0: low and high must be ordered integers in 0\.\.4294967295, not 5 and 4$",
    ),
    "threshold type": ({"exits": (Exit(logits="early", threshold=1.5), HEAD)}, r"^exit 0: threshold must .* not 1\.5$"),
    "last layer": ({"exits": (Exit(logits="early"),)}, "^net: the last exit must read the last layer$"),
    "no layers": ({"layers": (), "exits": (HEAD,)}, "^exit 0: 'head' must be a raw linear layer$"),
}


@pytest.mark.parametrize(("changes", "expected"), NETWORK_REFUSALS.values(), ids=NETWORK_REFUSALS.keys())
def test_impossible_networks_are_refused(changes, expected):
    with pytest.raises(ValueError, match=expected):
        network(**changes)


def test_thresholds_at_their_ends():
    for threshold in (0, (1 << 32) - 1):
        assert network(exits=(Exit(logits="early", threshold=threshold), HEAD)).exits[0].threshold == threshold


def damaged(path: tuple, value=None) -> dict:
    """The description with one entry changed, or removed for None."""
    manifest = json.loads(json.dumps(network().to_dict()))
    place = manifest
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return manifest


INCOMPLETE = "^network description is incomplete or has unknown keys: "
DESCRIPTION_REFUSALS = {
    "no layers": (("layers",), None, INCOMPLETE + "'layers'$"),
    "no name": (("name",), None, INCOMPLETE + "'name'$"),
    "no kind": (("layers", 0, "kind"), None, INCOMPLETE + "'kind'$"),
    "no output": (("layers", 0, "output"), None, INCOMPLETE + "'output'$"),
    "no rounding": (("layers", 0, "rounding"), None, INCOMPLETE + "'rounding'$"),
    "no scale": (("input", "scale"), None, INCOMPLETE + ".*'scale'$"),
    "no threshold key": (("exits", 0, "logits"), None, INCOMPLETE + ".*'logits'$"),
    "unknown layer key": (("layers", 3, "dilation"), 2, INCOMPLETE + ".*'dilation'$"),
    "unknown exit key": (("exits", 0, "entropy"), 2, INCOMPLETE + ".*'entropy'$"),
    "unknown tensor key": (("input", "layout"), "nchw", INCOMPLETE + ".*'layout'$"),
    "layer number": (("layers", 0), 7, INCOMPLETE),
    "layers number": (("layers",), 7, INCOMPLETE),
    "shape number": (("input", "shape"), 7, INCOMPLETE),
    "scale text": (("input", "scale"), "large", "^input: scale must be positive and finite, not 'large'$"),
    "kind": (
        ("layers", 0, "kind"),
        "max_pool3d",
        "^stem: layer kind must be one of conv2d, depthwise_conv2d, linear, add, average_pool2d, max_pool2d, "
        "global_average_pool, not 'max_pool3d'$",
    ),
    "rounding": (("layers", 0, "rounding"), "bankers", "^stem: rounding must be one of double, single, not 'bankers'$"),
    "stride": (("layers", 0, "stride"), [1], r"^stem: strides must be two positive integers, not \(1,\)$"),
}


@pytest.mark.parametrize(("path", "value", "expected"), DESCRIPTION_REFUSALS.values(), ids=DESCRIPTION_REFUSALS.keys())
def test_damaged_descriptions_are_refused(path, value, expected):
    with pytest.raises(ValueError, match=expected):
        Network.from_dict(damaged(path, value), dict(network().arrays()))


def test_missing_and_wrong_arrays_are_refused():
    net = network()
    arrays = dict(net.arrays())
    for name in arrays:
        with pytest.raises(ValueError, match=f"{INCOMPLETE}.*'{name.split('/')[1]}'$"):
            Network.from_dict(net.to_dict(), {key: value for key, value in arrays.items() if key != name})
    with pytest.raises(ValueError, match=r"^stem: bias must be an int32 array of 4 values, not int64"):
        Network.from_dict(net.to_dict(), arrays | {"stem/bias": arrays["stem/bias"].astype(np.int64)})


def test_layers_are_frozen_and_print_without_arrays():
    head = network().layer("head")
    assert isinstance(head, Linear)
    assert "weight" not in repr(head)
    with pytest.raises(AttributeError):
        head.raw = False
