"""Small networks for the tests of contracts: one with every kind of layer, one with max pools."""

from dataclasses import replace
from typing import Any

import numpy as np

from hw.network.network import INPUT, Add, Conv2D, Exit, GlobalAveragePool, Linear, Network, Tensor
from hw.numerics import Rounding
from tests.random_networks import NetworkMaker


def weighted(channels: int, *kernel: int, seed: int = 0) -> dict[str, Any]:
    """Random weights and requantization of a weighted layer, kernel (height, width, input channels)."""
    rng = np.random.default_rng(seed)
    return {
        "weight": rng.integers(-127, 128, (channels, *kernel)).astype(np.int8),
        "bias": rng.integers(-5000, 5000, channels).astype(np.int32),
        "multiplier": rng.integers(1 << 30, (1 << 31) - 1, channels).astype(np.int32),
        "shift": rng.integers(6, 10, channels).astype(np.int32),
    }


def tensor(*shape: int, scale: float = 0.25, zero_point: int = -128) -> Tensor:
    return Tensor(shape=shape, scale=scale, zero_point=zero_point)


def layers() -> dict[str, dict[str, Any]]:
    """Arguments of the layers by name, to be changed by tests."""
    return {
        "stem": {
            "kind": Conv2D,
            "inputs": ("input",),
            "output": tensor(3, 4, 4),
            "stride": (2, 1),
            "pads": (0, 1, 1, 1),
            "rounding": Rounding.DOUBLE,
            **weighted(4, 3, 3, 2),
        },
        "branch": {
            "kind": Conv2D,
            "inputs": ("stem",),
            "output": tensor(3, 4, 4, zero_point=3),
            "clamp": (-100, 90),
            "rounding": Rounding.DOUBLE,
            **weighted(4, 1, 1, 4, seed=1),
        },
        "early": {
            "kind": Linear,
            "inputs": ("stem",),
            "output": tensor(1, 1, 3, zero_point=0),
            "raw": True,
            "rounding": Rounding.SINGLE,
            **weighted(3, 3, 4, 4, seed=2),
        },
        "sum": {"kind": Add, "inputs": ("stem", "branch"), "output": tensor(3, 4, 4, scale=0.4)},
        "mean": {"kind": GlobalAveragePool, "inputs": ("sum",), "output": tensor(1, 1, 4, scale=0.4)},
        "hidden": {
            "kind": Linear,
            "inputs": ("mean",),
            "output": tensor(1, 1, 5, zero_point=-7),
            "rounding": Rounding.SINGLE,
            **weighted(5, 1, 1, 4, seed=3),
        },
        "head": {
            "kind": Linear,
            "inputs": ("hidden",),
            "output": tensor(1, 1, 3, zero_point=0),
            "raw": True,
            "rounding": Rounding.SINGLE,
            **weighted(3, 1, 1, 5, seed=4),
        },
    }


def network(changes: dict[str, dict[str, Any]] | None = None, **values: Any) -> Network:
    """The network, with changed layers or fields."""
    arguments = layers()
    for name, change in (changes or {}).items():
        arguments[name] |= change
    built = []
    for name, fields in arguments.items():
        kind = fields.pop("kind")
        built.append(kind(**{"name": name, **fields}))
    defaults = {
        "name": "net",
        "input": tensor(6, 4, 2, scale=1 / 255),
        "layers": tuple(built),
        "exits": (Exit(logits="early", threshold=1000), Exit(logits="head")),
        "classes": 3,
    }
    return Network(**{**defaults, **values})


def runnable(changes: dict[str, dict[str, Any]] | None = None) -> Network:
    """The network as the hardware can run it: the residual block behind the early head, and of two convolutions."""
    mixed = network(changes)
    stem, branch, early, *rest = mixed.layers
    inner = replace(branch, name="inner", output=tensor(3, 4, 4, zero_point=-20), **weighted(4, 1, 1, 4, seed=5))
    return replace(mixed, layers=(stem, early, inner, replace(branch, inputs=("inner",)), *rest))


def with_zero_point(network: Network, zero_point: int, clamps: dict[str, tuple[int, int]] | None = None) -> Network:
    """The network with this zero point of all maps but the image, and these clamps, or none."""
    layers = [
        layer
        if layer.kind == "linear"
        else replace(
            layer,
            output=replace(layer.output, zero_point=zero_point),
            clamp=(clamps or {}).get(layer.name, (-128, 127)),
        )
        for layer in network.layers
    ]
    return replace(network, layers=tuple(layers))


def pooled(zero_point: int, low: int, between: str = "", *, early: bool = False) -> Network:
    """Two max pools of a convolution with this zero point and lowest code, perhaps with another pool between."""
    maker = NetworkMaker(np.random.default_rng(2), (9, 8, 3))
    here = maker.conv(INPUT, 10, (3, 3), pads=(1, 1, 1, 1))
    if early:
        maker.head(here, 3, threshold=5)
    if between == "average":
        here = maker.average_pool(here, (2, 2), (1, 1))
    elif between == "largest":
        here = maker.max_pool(here, (2, 2), (1, 1))
    here = maker.max_pool(here, (3, 3), (2, 2), (0, 1, 1, 0))
    maker.head(maker.max_pool(here, maker.shape(here)[:2], (1, 1)), 3)
    return with_zero_point(maker.network("net"), zero_point, {"layer0": (low, 127)})
