"""Modules that are calibrated in the tests, and how near to them in float their networks are."""

import numpy as np
import torch
from torch import nn

from hw.compiler.compile import compile_network
from hw.config import preset
from models.compression.calibration import calibrate
from models.compression.quantize import encode
from models.integer import golden

__all__ = ["check", "images", "made", "settled"]


def images(*shape, count=32, seed=0):
    """Pixels (N, height, width, channels)."""
    return np.random.default_rng(seed).random((count, *shape), dtype=np.float32)


def settled(build, *shape, seed=0):
    """A module built from a seed, whose batch norms are those of noise."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = build().train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = 1.0
                nn.init.uniform_(module.weight, -1.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 1)
        model(torch.from_numpy(images(*shape, seed=2).transpose(0, 3, 1, 2)))
    return model


def made(model, pictures):
    """What a module makes of images, output by output."""
    with torch.no_grad():
        found = model.eval()(torch.from_numpy(pictures.transpose(0, 3, 1, 2)))
    return [each.flatten(1).double().numpy() for each in (found if isinstance(found, tuple) else (found,))]


def signal(model, found, pictures) -> float:
    """Signal to noise of golden against a module, in decibel, of the worst output."""
    network = found.network
    logits = golden.run(network, encode(pictures, network)).logits
    ratios = []
    for each, exit_, expected in zip(logits, network.exits, made(model, pictures), strict=True):
        tensor = network.layer(exit_.logits).output
        values = each[:, : expected.shape[1]] * tensor.scale
        noise = (values - values.mean() - expected + expected.mean()).std()
        ratios.append(20 * np.log10(expected.std() / noise))
    return min(ratios)


def check(model, *shape, least=25.0, config="base-85f"):
    """The network of a module, near it in float on other images than calibrated it, and compiled."""
    found = calibrate(model, images(*shape))
    assert min(found.ratios) > least
    ratio = signal(model, found, images(*shape, seed=1))
    assert ratio > least, ratio
    if config:
        compile_network(found.network, preset(config))
    return found.network
