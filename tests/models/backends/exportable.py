"""Networks that files of others can say, made of random ones that they can't."""

from dataclasses import fields, replace

import numpy as np

from hw.network.layers import is_raw
from hw.network.network import Layer, Network
from hw.numerics import Rounding
from models.backends.tflite_writer import ACTIVATIONS
from models.frontends.tflite.layers import clamp_of
from tests.random_networks import random_network


def exportable(seed: int, ending: str) -> Network:
    """A random network without thresholds; its clamps are activation functions', and its roundings as in the file."""
    made, rng = random_network(seed), np.random.default_rng(seed)
    return replace(made, layers=tuple(_sayable(layer, ending, rng) for layer in made.layers))


def _sayable(layer: Layer, ending: str, rng: np.random.Generator) -> Layer:
    changes = {}
    if ending == ".tflite":
        changes["clamp"] = clamp_of(str(rng.choice(ACTIVATIONS)), layer.output) if not is_raw(layer) else layer.clamp
    if hasattr(layer, "threshold"):
        changes["threshold"] = 1
    if hasattr(layer, "rounding") and ending == ".onnx":
        changes["rounding"] = Rounding.SINGLE
    return replace(layer, **changes)


def changed(network: Network, name: str, **values) -> Network:
    """A network of which a layer has other fields."""
    known = {each.name for layer in network.layers for each in fields(layer)}
    assert values.keys() <= known
    return replace(
        network, layers=tuple(replace(each, **values) if each.name == name else each for each in network.layers)
    )


def renamed(network: Network, names: dict[str, str]) -> Network:
    """A network with other names of layers."""

    def new(name: str) -> str:
        return names.get(name, name)

    return replace(
        network,
        layers=tuple(
            replace(each, name=new(each.name), inputs=tuple(map(new, each.inputs))) for each in network.layers
        ),
        exits=tuple(replace(each, logits=new(each.logits)) for each in network.exits),
    )
