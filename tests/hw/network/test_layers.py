import json

import pytest

from hw.network.layers import multiply_accumulates
from hw.network.network import AveragePool2D, DepthwiseConv2D, Exit, Linear, Network
from hw.numerics import Rounding
from tests.hw.networks import network as whole
from tests.hw.networks import tensor, weighted


def layers() -> dict[str, dict]:
    """Arguments of a depthwise convolution and a pool with a window, to be changed by tests."""
    return {
        "deep": {
            "kind": DepthwiseConv2D,
            "inputs": ("input",),
            "output": tensor(5, 6, 3, scale=0.5, zero_point=4),
            "stride": (2, 1),
            "pads": (5, 4, 1, 2),
            "rounding": Rounding.DOUBLE,
            **weighted(3, 10, 4, 1),
        },
        "mean": {
            "kind": AveragePool2D,
            "inputs": ("deep",),
            "output": tensor(2, 5, 3, scale=0.5, zero_point=4),
            "window": (3, 2),
            "stride": (2, 1),
        },
    }


def network(changes: dict[str, dict] | None = None) -> Network:
    """The two layers and a head, with changes."""
    arguments = layers()
    for name, change in (changes or {}).items():
        arguments[name] |= change
    built = tuple(fields.pop("kind")(name=name, **fields) for name, fields in arguments.items())
    head = Linear(
        name="head",
        inputs=("mean",),
        output=tensor(1, 1, 2, zero_point=0),
        raw=True,
        rounding=Rounding.SINGLE,
        **weighted(2, 2, 5, 3),
    )
    image = tensor(9, 6, 3, scale=1 / 255)
    return Network(name="net", input=image, layers=(*built, head), exits=(Exit(logits="head"),), classes=2)


def test_depthwise_and_pool_survive_json():
    net = network()
    again = Network.from_dict(json.loads(json.dumps(net.to_dict())), dict(net.arrays()))
    assert [type(layer) for layer in again.layers] == [DepthwiseConv2D, AveragePool2D, Linear]
    assert again.to_dict() == net.to_dict()
    deep, mean, _ = again.layers
    assert (deep.stride, deep.pads, deep.weight.shape) == ((2, 1), (5, 4, 1, 2), (3, 10, 4, 1))
    assert (mean.window, mean.stride) == ((3, 2), (2, 1))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"deep": weighted(3, 10, 4, 3)},
            "^deep: weight must have 3 channels, as input, of one input channel each, not 3 of 3$",
        ),
        (
            {"deep": {"output": tensor(5, 6, 6), **weighted(6, 10, 4, 1)}},
            "^deep: weight must have 3 channels, as input, of one input channel each, not 6 of 1$",
        ),
        ({"deep": weighted(4, 10, 4, 1)}, "^deep: weight has 4 output channels, the output 3$"),
        ({"deep": {"stride": (2, 0)}}, r"^deep: strides must be two positive integers, not \(2, 0\)$"),
        ({"deep": {"stride": (1 << 16, 1)}}, r"^deep: strides must be at most 65535, not 65536$"),
        ({"deep": {"pads": (10, 4, 1, 2)}}, r"^deep: output must be \(7, 6, 3\), not \(5, 6, 3\)$"),
        ({"deep": {"pads": (5, 4, 1, 1)}}, r"^deep: output must be \(5, 5, 3\), not \(5, 6, 3\)$"),
        ({"mean": {"window": (3,)}}, r"^mean: window must be two positive integers, 2 positions or more, not \(3,\)$"),
        ({"mean": {"window": (0, 2)}}, r"^mean: window must be .* not \(0, 2\)$"),
        ({"mean": {"window": (1, 1)}}, r"^mean: window must be .* 2 positions or more, not \(1, 1\)$"),
        ({"mean": {"window": (6, 2)}}, "^mean: window 6x2 must be smaller than deep 5x6$"),
        ({"mean": {"window": (2, 7)}}, "^mean: window 2x7 must be smaller than deep 5x6$"),
        ({"mean": {"window": (5, 6)}}, "^mean: window 5x6 must be smaller than deep 5x6$"),
        ({"mean": {"stride": (1.0, 1)}}, r"^mean: strides must be two positive integers, not \(1\.0, 1\)$"),
        ({"mean": {"stride": (0, 1)}}, r"^mean: strides must be two positive integers, not \(0, 1\)$"),
        ({"mean": {"stride": (2, 2)}}, r"^mean: output must be \(2, 3, 3\), not \(2, 5, 3\)$"),
        (
            {"mean": {"output": tensor(2, 5, 3, scale=0.4, zero_point=4)}},
            "^mean: a pool must keep scale and zero point$",
        ),
        (
            {"mean": {"output": tensor(2, 5, 3, scale=0.5, zero_point=5)}},
            "^mean: a pool must keep scale and zero point$",
        ),
    ],
)
def test_impossible_layers_are_refused(changes, expected):
    with pytest.raises(ValueError, match=expected):
        network(changes)


@pytest.mark.parametrize("key", ["window", "stride"])
def test_a_pool_without_its_window_is_incomplete(key):
    manifest = network().to_dict()
    del manifest["layers"][1][key]
    with pytest.raises(ValueError, match=f"^network description is incomplete or has unknown keys: '{key}'$"):
        Network.from_dict(manifest, dict(network().arrays()))


def test_multiply_accumulates_are_those_of_the_dense_layer():
    """Padded taps included: 4 columns, 3x3 taps of 2 channels."""
    stem = whole().layer("stem")
    assert multiply_accumulates(stem) == stem.weight.size * 3 * 4
    assert multiply_accumulates(stem, 3, 4, (2, 2)) == 3 * 4 * 4 * 9 * 2
    assert multiply_accumulates(stem, 1, 2, (1, 2)) == 4 * 2 * 9
    mean = whole().layer("mean")
    assert multiply_accumulates(mean) == multiply_accumulates(mean, 1, 4, (4, 4)) == 0


def test_a_depthwise_output_has_one_input_channel():
    values = {"rounding": Rounding.DOUBLE, **weighted(4, 3, 3, 1)}
    layer = DepthwiseConv2D(name="own", inputs=("stem",), output=tensor(3, 4, 4), pads=(1, 1, 1, 1), **values)
    assert multiply_accumulates(layer, 3, 4, (4, 4)) == 3 * 4 * 4 * 9
    assert multiply_accumulates(layer) == layer.weight.size * 3 * 4
