"""Networks are the same but for names, or the first layer that isn't is named."""

from dataclasses import replace

import numpy as np
import pytest

from hw.network.network import INPUT, NEVER
from models.backends.comparison import compare
from tests.models.backends.exportable import changed
from tests.random_networks import NetworkMaker


def made():
    """A convolution, a block and two heads."""
    maker = NetworkMaker(np.random.default_rng(4), (5, 5, 2))
    here = maker.conv(INPUT, 3, (2, 2), density=1.0)
    maker.head(here, 3, threshold=7)
    here = maker.block(here, density=1.0)
    maker.head(maker.pool(here), 3)
    return maker.network("made")


def renamed(network):
    """Other names, no thresholds, and scales that differ in the last bits."""
    names = {layer.name: f"other{number}" for number, layer in enumerate(network.layers)}
    layers = [
        replace(layer, name=names[layer.name], inputs=tuple(names.get(name, name) for name in layer.inputs))
        for layer in network.layers
    ]
    exits = [replace(head, logits=names[head.logits], threshold=head.threshold and NEVER) for head in network.exits]
    return replace(network, layers=tuple(layers), exits=tuple(exits))


def test_names_and_thresholds_may_differ():
    assert compare(made(), renamed(made())) == 0


def test_channels_with_other_multipliers_that_make_the_same_codes_are_counted():
    multiplier = made().layers[0].multiplier.copy()
    multiplier[1] += 1
    assert compare(made(), changed(made(), "layer0", multiplier=multiplier)) == 1


CHANGES = {
    "multiplier": ("layer0", lambda layer: {"multiplier": (layer.multiplier - (1 << 22)).astype(np.int32)}),
    "weight": ("layer2", lambda layer: {"weight": layer.weight ^ 1}),
    "bias": ("layer1", lambda layer: {"bias": layer.bias + 1}),
    "clamp": ("layer2", lambda layer: {"clamp": (layer.output.zero_point, layer.output.zero_point)}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_differs_is_named(name):
    layer, change = CHANGES[name]
    network = made()
    other = changed(network, layer, **change(network.layer(layer)))
    with pytest.raises(ValueError, match=rf"^{layer}: .* must be read back as it was written; please report"):
        compare(network, renamed(other))


def test_an_add_by_other_scales_is_named():
    """Both within what files may round scales to, but for the codes."""
    network = made()
    scales = {"layer4": 1 + 1e-4, "layer5": 1 + 1e-4}
    layers = [
        replace(each, output=replace(each.output, scale=each.output.scale * scales.get(each.name, 1.0)))
        for each in network.layers
    ]
    with pytest.raises(ValueError, match=r"^layer4: add must be read back as it was written; please report"):
        compare(network, replace(network, layers=tuple(layers)))


def test_another_image_or_more_layers_are_named():
    network = made()
    with pytest.raises(ValueError, match="the image must be read back as"):
        compare(network, replace(network, input=replace(network.input, scale=0.5)))
    first, *rest = network.layers
    with pytest.raises(ValueError, match="must have the same outputs, and no more layers"):
        compare(network, replace(network, layers=(first, replace(first, name="more"), *rest)))
