"""An integer network as a differentiable one, for attacks: the same roundings, gradients straight through them.

Attackers know the integers and get the best gradients there are without differentiating a staircase (backward pass
differentiable approximation, Athalye et al. 2018, arXiv 1802.00420). Needs nothing but the network, so it also serves
for imported ones. Values differ from the integers' by a step at some ties only, because the float multiplier stands for
the two roundings of the integer one.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from hw.multiplied import multiplied
from hw.network import (
    INPUT,
    Add,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    GlobalAveragePool,
    Layer,
    Linear,
    MaxPool2D,
    Network,
)
from models.fakequant import round_through

__all__ = ["Surrogate"]

_KINDS = (Conv2D, DepthwiseConv2D, Linear, Add, AveragePool2D, GlobalAveragePool, MaxPool2D)


class Surrogate(nn.Module):
    """Float twin of an integer network.

    Images (N, channels, height, width) in 0..1 go in; the logits (N, classes) of every exit come out, in real units.
    There is nothing to train.

    Raises
    ------
    ValueError
        When the network has a layer without a float form.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.tensors = network.tensors()
        for layer in network.layers:
            if not isinstance(layer, _KINDS):
                raise ValueError(f"{layer.name}: {layer.kind} has no float form")
            if isinstance(layer, Conv2D | DepthwiseConv2D | Linear):
                weight = torch.from_numpy(layer.weight.astype(np.float32)).permute(0, 3, 1, 2).contiguous()
                scale = np.ones(len(layer.bias))
                if not (isinstance(layer, Linear) and layer.raw):
                    scale = layer.multiplier * np.exp2(-31.0 - layer.shift)
                self.register_buffer(_key(layer, "weight"), weight)
                self.register_buffer(_key(layer, "bias"), torch.from_numpy(layer.bias.astype(np.float32)))
                self.register_buffer(_key(layer, "scale"), torch.from_numpy(scale.astype(np.float32))[:, None, None])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        source = self.network.input
        steps = round_through(x * (1.0 / source.scale))
        maps = {INPUT: steps.clamp(-128 - source.zero_point, 127 - source.zero_point)}
        for layer in self.network.layers:
            result = self._compute(layer, [maps[name] for name in layer.inputs])
            if not (isinstance(layer, Linear) and layer.raw):
                low, high = layer.clamp
                zero = layer.output.zero_point
                result = round_through(result).clamp(low - zero, high - zero)
            maps[layer.name] = result
        heads = [head.logits for head in self.network.exits]
        return tuple(maps[name].flatten(1) * self.tensors[name].scale for name in heads)

    def _compute(self, layer: Layer, operands: list[torch.Tensor]) -> torch.Tensor:
        """A layer's result in steps of its output, relative to the zero point, before rounding."""
        if isinstance(layer, Add):
            ratios = [self.tensors[name].scale / layer.output.scale for name in layer.inputs]
            return operands[0] * ratios[0] + operands[1] * ratios[1]
        if isinstance(layer, GlobalAveragePool):
            return operands[0].mean(dim=(2, 3), keepdim=True)
        if isinstance(layer, AveragePool2D):
            return F.avg_pool2d(operands[0], layer.window, layer.stride)
        if isinstance(layer, MaxPool2D):
            top, bottom, left, right = layer.pads
            padded = F.pad(operands[0], (left, right, top, bottom), value=-math.inf)
            return F.max_pool2d(padded, layer.window, layer.stride)
        assert isinstance(layer, Conv2D | DepthwiseConv2D | Linear)
        weight, bias, scale = (self.get_buffer(_key(layer, name)) for name in ("weight", "bias", "scale"))
        x = operands[0]
        if layer.threshold > 1 or layer.select is not None:
            # Straight through, too: an attacker can lift what is skipped above the threshold, or make it win.
            steps = x.detach().round().to(torch.int16).permute(0, 2, 3, 1).cpu().numpy()
            used = torch.from_numpy(multiplied(layer, steps)).permute(0, 3, 1, 2).to(x.device)
            x = x + (torch.where(used, x, 0) - x).detach()
        stride, groups = (1, 1), len(weight) if isinstance(layer, DepthwiseConv2D) else 1
        if not isinstance(layer, Linear):
            top, bottom, left, right = layer.pads
            x = F.pad(x, (left, right, top, bottom))
            stride = layer.stride
        return F.conv2d(x, weight, bias, stride, groups=groups) * scale


def _key(layer: Layer, name: str) -> str:
    return f"{layer.name.replace('.', '/')}:{name}"
