from dataclasses import replace

import numpy as np
import pytest
import torch

from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.network import Conv2D, Layer, Select
from models.compression.element_thresholds import with_element_thresholds
from models.compression.quantize import encode
from models.integer import golden
from models.integer.surrogate import Surrogate
from models.networks.residual_net import to_torch
from models.training.train import predict
from sim import simulate
from tests.random_networks import random_codes, random_network


def test_it_decides_as_the_integers_do(digits, compressed):
    network = compressed.network
    result = golden.run(network, encode(digits.test.images, network), keep=False)
    for logits, values in zip(result.logits, predict(Surrogate(network), digits.test.images), strict=True):
        assert (logits.argmax(axis=1) == values.argmax(axis=1)).mean() > 0.99


def test_steps_differ_at_ties_only(digits, compressed):
    """One convolution: float and integer rounding part by at most a step, and rarely."""
    network = compressed.network
    codes = encode(digits.test.images, network)
    stem = network.layers[0]
    surrogate = Surrogate(network)
    values = surrogate._compute(stem, [to_torch(codes.astype(np.float32) + 128)])
    low, high = stem.clamp
    found = (values.round() + stem.output.zero_point).clamp(low, high).permute(0, 2, 3, 1).numpy()
    expected = golden.run(network, codes).tensors[stem.name]
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 1e-2


def test_activations_below_a_threshold_are_skipped_and_keep_their_gradient(digits, compressed):
    stem = compressed.network.layers[0].name
    network = with_element_thresholds(compressed.network, {stem: 220})
    images = digits.test.images
    expected = golden.run(network, encode(images, network), keep=False).logits[-1].argmax(axis=1)
    assert (predict(Surrogate(network), images)[-1].argmax(axis=1) == expected).mean() > 0.95
    assert (predict(Surrogate(compressed.network), images)[-1].argmax(axis=1) == expected).mean() < 0.95
    dim = to_torch(np.full((1, 8, 8, 1), 0.1, dtype=np.float32)).requires_grad_()
    assert (dim.detach() * (1.0 / network.input.scale) < 220).all()
    (gradient,) = torch.autograd.grad(Surrogate(network)(dim)[0].std(), dim)
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("kind", ["elements", "channels"])
def test_activations_that_do_not_win_are_skipped_and_keep_their_gradient(digits, compressed, kind):
    """In a layer with winners, all agree with the integers on which activations these are, but for rounding before."""
    second = compressed.network.layers[1]
    count = 12 if kind == "elements" else 1
    changed = replace(second, select=Select(kind=kind, count=count))
    layers = tuple(changed if layer is second else layer for layer in compressed.network.layers)
    network = replace(compressed.network, layers=layers)
    images = digits.test.images
    expected = golden.run(network, encode(images, network), keep=False).logits[-1].argmax(axis=1)
    assert (predict(Surrogate(network), images)[-1].argmax(axis=1) == expected).mean() > 0.95
    assert (predict(Surrogate(compressed.network), images)[-1].argmax(axis=1) == expected).mean() < 0.95
    image = to_torch(images[:1]).requires_grad_()
    (gradient,) = torch.autograd.grad(Surrogate(network)(image)[0].std(), image)
    assert (gradient != 0).float().mean() > 0.5


def test_uneven_pads(compressed):
    """TensorFlow's SAME padding at stride 2, as imported networks have it."""
    rng = np.random.default_rng(0)
    network = compressed.dense
    first = network.layers[0]
    assert isinstance(first, Conv2D)
    weight = rng.integers(-127, 128, (*first.weight.shape[:1], 4, 2, 1), dtype=np.int8)
    layers = (replace(first, weight=weight, pads=(1, 2, 1, 0)), *network.layers[1:])
    network = replace(network, layers=layers)
    images = rng.random((50, 8, 8, 1), dtype=np.float32)
    expected = golden.run(network, encode(images, network), keep=False).logits[0]
    assert (predict(Surrogate(network), images)[0].argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.95


def test_gradients_reach_the_image(digits, compressed):
    images = to_torch(digits.test.images[:8]).requires_grad_()
    for head in range(2):
        (gradient,) = torch.autograd.grad(Surrogate(compressed.network)(images)[head].std(), images)
        assert (gradient.abs().amax(dim=(1, 2, 3)) > 0).float().mean() > 0.8


def test_a_layer_without_float_form_is_named(compressed):
    class Odd(Layer):
        kind = "odd"

        def check(self, sources):
            pass

    network = compressed.dense
    odd = Odd(name="strange", inputs=("input",), output=network.input)
    with pytest.raises(ValueError, match="strange: odd has no float form"):
        Surrogate(replace(network, layers=(odd, *network.layers)))


@pytest.mark.parametrize("seed", range(6))
def test_products_are_the_simulators(seed):
    """Where twin and integers make the same activations: the images are codes, and few roundings differ."""
    made = random_network(seed, size=6)
    early = (replace(head, threshold=(1 << 32) - 1) for head in made.exits[:-1])
    pixels = replace(made.input, scale=1 / 255, zero_point=-128)
    network = replace(made, input=pixels, exits=(*early, made.exits[-1]))
    codes = random_codes(network, 6, seed)
    program = compile_network(network, preset("tiny"))
    weighted = [hasattr(network.layer(command.layer), "weight") for command in program.commands]
    expected = simulate(program, codes).products[:, weighted].sum(axis=1)
    images = to_torch((codes.astype(np.float32) + 128) / 255)
    with torch.no_grad():
        found, logits = Surrogate(network).products(images)
        plain = Surrogate(network)(images)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0.03)
    for one, other in zip(logits, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
