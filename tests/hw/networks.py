"""A small network with every kind of layer, for the tests of contracts."""

from dataclasses import replace
from typing import Any

import numpy as np

from hw.network import Add, Conv2D, Exit, GlobalAveragePool, Linear, Network, Tensor
from hw.numerics import Rounding


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
