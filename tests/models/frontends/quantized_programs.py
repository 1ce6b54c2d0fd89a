"""Quantized programs: of torchao's PT2E quantization, and written down with quantize and dequantize."""

import warnings

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

QD = torch.ops.quantized_decomposed


def converted(model, *shape, per_channel=True, seed=0):
    """A program of a module, calibrated on noise and quantized by PT2E as for XNNPACK.

    Parameters
    ----------
    shape : int
        Of an image in the module's layout, without the count.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
        from torchao.testing.pt2e._xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config

        random = torch.Generator().manual_seed(seed)
        example = (torch.randn(1, *shape, generator=random),)
        config = get_symmetric_quantization_config(is_per_channel=per_channel)
        observed = prepare_pt2e(
            torch.export.export(model.eval(), example).module(), XNNPACKQuantizer().set_global(config)
        )
        for _ in range(8):
            observed(torch.randn(1, *shape, generator=random))
        return torch.export.export(convert_pt2e(observed), example)


def images(*shape, count=16, seed=1):
    """Images (N, height, width, channels) as the programs were calibrated on."""
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def seeded(build, seed=0):
    """A module built from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


class Block(nn.Module):
    """A residual network of ordinary style: batch norms, functional ReLUs, a shortcut with a convolution, a mean."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.first, self.second = nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.short, self.linear = nn.Conv2d(8, 16, 1, stride=2), nn.Linear(16, 5)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(self.second(F.relu(self.first(x))) + self.short(x))
        return self.linear(F.adaptive_avg_pool2d(x, 1).view(x.shape[0], -1))


class Quantized(nn.Module):
    """Layers with operators that are written down: what stands between them is an argument.

    Parameters
    ----------
    body : function
        Of this module and the image.
    dtype : torch.dtype
        Of activations.
    """

    def __init__(self, body, dtype=torch.int8):
        super().__init__()
        self.body, self.dtype = body, dtype
        self.limits = (-128, 127) if dtype == torch.int8 else (0, 255)
        self.bias = nn.Parameter(torch.arange(4.0))

    def q(self, x, scale=0.05, zero_point=0, limits=None):
        """Codes."""
        return QD.quantize_per_tensor(x, scale, zero_point, *(limits or self.limits), self.dtype)

    def dq(self, x, scale=0.05, zero_point=0, limits=None):
        """What codes mean."""
        return QD.dequantize_per_tensor(x, scale, zero_point, *(limits or self.limits), self.dtype)

    def round(self, x, scale=0.05, zero_point=0, limits=None):
        """Quantized and dequantized."""
        return self.dq(self.q(x, scale, zero_point, limits), scale, zero_point, limits)

    def weight(self, *shape, seed=0, scale=0.01, per_channel=False):
        """Weights from int8 codes; of channels, each one's scale is another."""
        random = np.random.default_rng(seed)
        codes = torch.from_numpy(random.integers(-127, 128, shape).astype(np.int8))
        if not per_channel:
            return QD.dequantize_per_tensor(codes, scale, 0, -127, 127, torch.int8)
        scales = torch.from_numpy(random.uniform(0.5, 1.5, shape[0]) * scale)
        zeros = torch.zeros(shape[0], dtype=torch.int64)
        return QD.dequantize_per_channel(codes, scales.float(), zeros, 0, -127, 127, torch.int8)

    def forward(self, x):
        return self.body(self, x)


def two_layers(net, x):
    """A convolution, a ReLU and a linear layer, of images (2, 4, 4)."""
    x = net.round(F.relu(F.conv2d(net.round(x), net.weight(4, 2, 3, 3), net.bias)))
    return F.linear(x.flatten(1), net.weight(3, 16))
