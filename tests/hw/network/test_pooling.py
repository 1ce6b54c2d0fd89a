import json

import pytest

from hw.network.network import Exit, Linear, MaxPool2D, Network
from hw.numerics import Rounding
from tests.hw.networks import tensor, weighted


def largest(**changes) -> Network:
    """A max pool of the image with changes, and a head."""
    fields = {
        "inputs": ("input",),
        "output": tensor(5, 2, 3, scale=0.5),
        "window": (3, 4),
        "stride": (2, 3),
        "pads": (2, 0, 0, 1),
    }
    pool = MaxPool2D(name="largest", **(fields | changes))
    head = Linear(
        name="head",
        inputs=("largest",),
        output=tensor(1, 1, 2, zero_point=0),
        raw=True,
        rounding=Rounding.SINGLE,
        **weighted(2, *pool.output.shape),
    )
    image = tensor(9, 6, 3, scale=0.5)
    return Network(name="net", input=image, layers=(pool, head), exits=(Exit(logits="head"),), classes=2)


def test_a_max_pool_survives_json():
    net = largest()
    again = Network.from_dict(json.loads(json.dumps(net.to_dict())), dict(net.arrays()))
    assert again.layers[0] == net.layers[0]
    manifest = net.to_dict()
    del manifest["layers"][0]["pads"]
    with pytest.raises(ValueError, match=r"^network description is incomplete or has unknown keys: 'pads'$"):
        Network.from_dict(manifest, dict(net.arrays()))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"window": (1, 1)}, r"^largest: window must be .* 2 positions or more, not \(1, 1\)$"),
        ({"window": (12, 4)}, "^largest: window 12x4 must fit into input 9x6 with its pads .2, 0, 0, 1.$"),
        ({"window": (3, 8)}, "^largest: window 3x8 must fit into input 9x6 with its pads .2, 0, 0, 1.$"),
        ({"stride": (0, 1)}, r"^largest: strides must be two positive integers, not \(0, 1\)$"),
        ({"pads": (1, 2)}, r"^largest: pads must be four integers of at least 0, not \(1, 2\)$"),
        ({"pads": (-1, 0, 0, 0)}, r"^largest: pads must be four integers of at least 0, not \(-1, 0, 0, 0\)$"),
        ({"pads": (3, 0, 0, 0)}, r"^largest: pads must be less than the window 3x4, .*, not \(3, 0, 0, 0\)$"),
        ({"pads": (0, 0, 0, 4)}, r"^largest: pads must be less than the window 3x4, .*, not \(0, 0, 0, 4\)$"),
        ({"pads": (0, 0, 0, 1)}, r"^largest: output must be \(4, 2, 3\), not \(5, 2, 3\)$"),
        ({"output": tensor(5, 2, 3, scale=0.4)}, "^largest: a pool must keep scale and zero point$"),
        ({"output": tensor(5, 2, 3, scale=0.5, zero_point=-127)}, "^largest: a pool must keep scale and zero point$"),
    ],
)
def test_impossible_max_pools_are_refused(changes, expected):
    with pytest.raises(ValueError, match=expected):
        largest(**changes)
