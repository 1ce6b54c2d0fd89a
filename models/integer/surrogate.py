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

from hw.network.active import active_mask
from hw.network.layers import is_raw
from hw.network.network import (
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
from models.integer.rounding import round_through

__all__ = ["GRADIENTS", "Surrogate"]

#: How gradients pass activations that a layer doesn't multiply, because they are below its threshold or don't win:
#: ``through`` as if they were multiplied, ``winners`` not at all, ``soft`` the less, the farther they are from winning
#: (a sigmoid of the distance in units of a tenth of the least winner's score).
GRADIENTS = ("through", "winners", "soft")

_SOFTNESS = 0.1

_KINDS = (Conv2D, DepthwiseConv2D, Linear, Add, AveragePool2D, GlobalAveragePool, MaxPool2D)


class Surrogate(nn.Module):
    """Float twin of an integer network.

    Images (N, channels, height, width) in 0..1 go in; the logits (N, classes) of every exit come out, in real units.
    There is nothing to train.

    Parameters
    ----------
    network : Network
    gradient : str
        One of :data:`GRADIENTS`. What is not multiplied masks gradients, so an honest attack tries several.

    Raises
    ------
    ValueError
        When the network has a layer without a float form, or there is no such gradient.
    """

    def __init__(self, network: Network, gradient: str = "through") -> None:
        super().__init__()
        if gradient not in GRADIENTS:
            raise ValueError(f"gradient must be one of {', '.join(GRADIENTS)}, not {gradient!r}")
        self.gradient = gradient
        self.network = network
        self.tensors = network.tensors()
        for layer in network.layers:
            if not isinstance(layer, _KINDS):
                raise ValueError(f"{layer.name}: {layer.kind} has no float form")
            if isinstance(layer, Conv2D | DepthwiseConv2D | Linear):
                weight = torch.from_numpy(layer.weight.astype(np.float32)).permute(0, 3, 1, 2).contiguous()
                scale = np.ones(len(layer.bias))
                if not is_raw(layer):
                    scale = layer.multiplier * np.exp2(-31.0 - layer.shift)
                self.register_buffer(_key(layer, "weight"), weight)
                self.register_buffer(_key(layer, "bias"), torch.from_numpy(layer.bias.astype(np.float32)))
                self.register_buffer(_key(layer, "scale"), torch.from_numpy(scale.astype(np.float32))[:, None, None])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self._run(x, None)

    def products(self, x: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Nonzero products of every image (N,), all layers with weights together, and the logits.

        The gradient is as if an activation counted the more, the farther it is from zero, before its clamp: what is
        rectified away can be lifted above zero.
        """
        made: list[torch.Tensor] = []
        logits = self._run(x, made)
        return torch.stack(made).sum(dim=0), logits

    def _run(self, x: torch.Tensor, products: list[torch.Tensor] | None) -> tuple[torch.Tensor, ...]:
        """The logits; the products of every layer, (N,), go into the list, where there is one."""
        source = self.network.input
        # Steps before the clamp, and what is left of them behind it.
        free = {INPUT: round_through(x * (1.0 / source.scale))}
        maps = {INPUT: free[INPUT].clamp(-128 - source.zero_point, 127 - source.zero_point)}
        for layer in self.network.layers:
            if products is not None and isinstance(layer, Conv2D | DepthwiseConv2D | Linear):
                products.append(self._count(layer, free[layer.inputs[0]], maps[layer.inputs[0]]))
            result = self._compute(layer, [maps[name] for name in layer.inputs])
            free[layer.name] = result
            if not is_raw(layer):
                low, high = layer.clamp
                zero = layer.output.zero_point
                result = round_through(result).clamp(low - zero, high - zero)
            maps[layer.name] = result
        heads = [head.logits for head in self.network.exits]
        return tuple(maps[name].flatten(1) * self.tensors[name].scale for name in heads)

    def _count(self, layer: Conv2D | DepthwiseConv2D | Linear, free: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Nonzero products of a layer, (N,): its nonzero weights at the activations that it multiplies."""
        low, high = x.detach().amin(), x.detach().amax()
        unit = free.detach().abs().mean().clamp_min(1.0)
        soft = torch.sigmoid(free / unit) * (high > 0) + torch.sigmoid(-free / unit) * (low < 0)
        active = soft + (self._used(layer, x).to(x.dtype) - soft).detach()
        weight = (self.get_buffer(_key(layer, "weight")) != 0).to(x.dtype)
        return self._convolve(layer, active, weight, None).sum(dim=(1, 2, 3))

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
            x = self._multiplied(layer, x)
        return self._convolve(layer, x, weight, bias) * scale

    @staticmethod
    def _convolve(
        layer: Conv2D | DepthwiseConv2D | Linear, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """A layer's sums with these weights."""
        stride, groups = (1, 1), len(weight) if isinstance(layer, DepthwiseConv2D) else 1
        if not isinstance(layer, Linear):
            top, bottom, left, right = layer.pads
            x = F.pad(x, (left, right, top, bottom))
            stride = layer.stride
        return F.conv2d(x, weight, bias, stride, groups=groups)

    @staticmethod
    def _used(layer: Conv2D | DepthwiseConv2D | Linear, x: torch.Tensor) -> torch.Tensor:
        """Where a layer multiplies its input: bool tensor of the input's shape."""
        steps = x.detach().round().to(torch.int16).permute(0, 2, 3, 1).cpu().numpy()
        return torch.from_numpy(active_mask(layer, steps, 0)).permute(0, 3, 1, 2).to(x.device)

    def _multiplied(self, layer: Conv2D | DepthwiseConv2D | Linear, x: torch.Tensor) -> torch.Tensor:
        """What a layer multiplies of its input, with the chosen gradient."""
        used = self._used(layer, x)
        if self.gradient == "winners":
            return x * used
        if self.gradient == "through":
            # An attacker can lift what is skipped above the threshold, or make it win.
            return x + (x * used - x).detach()
        score = x.abs()
        if layer.select is not None and layer.select.kind == "channels":
            score = score.mean(dim=(2, 3), keepdim=True).expand_as(x)
        least = torch.where(used, score.detach(), torch.inf).amin(dim=(1, 2, 3), keepdim=True)
        least = torch.where(torch.isfinite(least), least, 1.0).clamp_min(1e-6)
        soft = x * torch.sigmoid((score - least) / (_SOFTNESS * least))
        return soft + (x * used - soft).detach()


def _key(layer: Layer, name: str) -> str:
    return f"{layer.name.replace('.', '/')}:{name}"
