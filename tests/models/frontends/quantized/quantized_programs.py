"""Quantized programs: of torchao's PT2E quantization, and written down with quantize and dequantize."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from hw.network.network import Network
from models.frontends.pytorch.calls import undisturbed
from models.frontends.pytorch.exported import exported_program, program_of
from models.frontends.quantized.operators import quantized_steps
from models.frontends.quantized.reader import import_quantized

QD = torch.ops.quantized_decomposed


def converted(model, *shape, per_channel=True, seed=0, inductor=False):
    """A program of a module, calibrated on noise and quantized by PT2E as for XNNPACK, or for Inductor on x86.

    Parameters
    ----------
    shape : int
        Of an image in the module's layout, without the count.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86
        from torchao.testing.pt2e._xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config

        random = torch.Generator().manual_seed(seed)
        example = (torch.randn(1, *shape, generator=random),)
        quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=per_channel))
        if inductor:
            quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
        observed = prepare_pt2e(torch.export.export(model.eval(), example).module(), quantizer)
        for _ in range(8):
            observed(torch.randn(1, *shape, generator=random))
        return torch.export.export(convert_pt2e(observed), example)


def core(program):
    """The same program in core operators, as ``run_decompositions`` writes it, which warns of itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return program.run_decompositions()


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
        self.bounds = (-128, 127) if dtype == torch.int8 else (0, 255)
        self.bias = nn.Parameter(torch.arange(4.0))

    def q(self, x, scale=0.05, zero_point=0, bounds=None):
        """Codes."""
        return QD.quantize_per_tensor(x, scale, zero_point, *(bounds or self.bounds), self.dtype)

    def dq(self, x, scale=0.05, zero_point=0, bounds=None):
        """What codes mean."""
        return QD.dequantize_per_tensor(x, scale, zero_point, *(bounds or self.bounds), self.dtype)

    def round(self, x, scale=0.05, zero_point=0, bounds=None):
        """Quantized and dequantized."""
        return self.dq(self.q(x, scale, zero_point, bounds), scale, zero_point, bounds)

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


class RandomNet(Quantized):
    """A random network: operators of all kinds, in any order, of maps that are rounded at some places.

    The first call sets the scales of roundings from what it computes.

    Parameters
    ----------
    seed : int
    """

    def __init__(self, seed):
        super().__init__(None, (torch.int8, torch.uint8)[seed % 2])
        self.seed, self.scales = seed, []
        with torch.no_grad():
            self(torch.from_numpy(images(8, 8, 3, count=8).transpose(0, 3, 1, 2).copy()))

    def forward(self, x):
        rng, scales = np.random.default_rng(self.seed), iter(list(self.scales))
        x = self._rounded(x, rng, scales)
        maps = [x]
        for _ in range(rng.integers(3, 8)):
            source = maps[rng.integers(len(maps))]
            made = self._operator(source, maps, rng)
            for _ in range(rng.integers(0, 3)):
                made = self._monotone(made, rng)
            maps.append(self._rounded(made, rng, scales))
        x = maps[-1].flatten(1)
        x = F.linear(x, self.weight(4, x.shape[1], seed=self.seed, per_channel=bool(rng.random() < 0.5)))
        return self._rounded(x, rng, scales)

    def _rounded(self, x, rng, scales):
        """Rounded on a scale that holds most of the values, or all."""
        zero_point = int(rng.choice([0, -128, rng.integers(-100, 100)])) + self.bounds[0] + 128
        scale = next(scales, None)
        if scale is None:
            scale = float(x.abs().max()) / int(rng.choice([60, 120, 250])) + 1e-3
            self.scales.append(scale)
        else:
            rng.choice([60, 120, 250])
        return self.round(x, scale, zero_point)

    def _operator(self, x, maps, rng):
        channels, rows, columns = x.shape[1:]
        weight = {"seed": int(rng.integers(1 << 30)), "scale": 0.02, "per_channel": bool(rng.random() < 0.5)}
        kind = rng.choice(["conv", "depthwise", "groups", "average", "max", "add", "concat", "affine", "pass"])
        if kind == "add":
            others = [each for each in maps if each.shape == x.shape]
            return x + others[rng.integers(len(others))]
        if kind == "concat":
            others = [each for each in maps if each.shape[2:] == x.shape[2:]]
            return torch.cat([x, others[rng.integers(len(others))]], 1)[:, :].contiguous()
        if kind == "affine":
            gain = torch.from_numpy(rng.uniform(-1.5, 1.5, (channels, 1, 1)).astype(np.float32))
            return x * gain + float(rng.uniform(-1, 1))
        if kind in ("average", "max") and min(rows, columns) > 2:
            window, stride = int(rng.integers(2, 4)), int(rng.integers(1, 3))
            return (
                F.avg_pool2d(x, window, stride) if kind == "average" else F.max_pool2d(x, window, stride, window // 2)
            )
        if kind == "pass":
            return x
        groups = {"depthwise": channels, "groups": 2 if channels % 2 == 0 else 1}.get(str(kind), 1)
        outputs, size = channels if kind == "depthwise" else 2 * int(rng.integers(1, 4)), int(rng.choice([1, 3]))
        bias = torch.from_numpy(rng.uniform(-0.5, 0.5, outputs).astype(np.float32))
        stride = 2 if rng.random() < 0.3 and min(rows, columns) > 3 else 1
        kernel = self.weight(outputs, channels // groups, size, size, **weight)
        return F.conv2d(x, kernel, bias, stride, size // 2, groups=groups)

    @staticmethod
    def _monotone(x, rng):
        kind = rng.choice(["relu", "relu6", "clamp", "max"])
        if kind == "max" and min(x.shape[2:]) > 2:
            return F.max_pool2d(x, 2, 1)
        return {"relu6": F.relu6, "clamp": lambda x: x.clamp(-0.7, 1.3)}.get(str(kind), F.relu)(x)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far a layer of a network and its program differ.

    Attributes
    ----------
    largest : int
        Codes; of a head that the program doesn't quantize, steps of its accumulators.
    share : float
        Of the layer's outputs that differ, 0..1.
    """

    largest: int
    share: float


def difference(source, network, images):
    """How far the layers of a network and the program that it has been read from differ, by name."""
    read = import_quantized(source, network.input.shape, name=network.name)
    assert read.network.to_dict() == network.to_dict()
    found = {}
    for name, (made, expected) in read.source.compared(images).items():
        off = np.abs(made.astype(np.int64) - expected.astype(np.int64))
        found[name] = Difference(largest=int(off.max()), share=float((off > 0).mean()))
    return found


def kinds(network: Network) -> dict[str, str]:
    """The kind of each layer, by name."""
    return {layer.name: layer.kind for layer in network.layers}


def several_scales(scales):
    """Weights of 32 inputs and 3 outputs, with a scale for each of these in hundredths."""
    codes = torch.from_numpy(np.random.default_rng(3).integers(-127, 128, (3, 32)).astype(np.int8))
    units, zeros = torch.tensor(scales) / 100, torch.zeros(3, dtype=torch.int64)
    return QD.dequantize_per_channel(codes, units, zeros, 0, -127, 127, torch.int8)


def conv(net, x, channels=4, depth=2, kernel=3, **values):
    """A convolution that keeps the map's size."""
    return F.conv2d(x, net.weight(channels, depth, kernel, kernel, **values), None, padding=kernel // 2)


def head(net, x, **values):
    """Three logits."""
    return F.linear(x.flatten(1), net.weight(3, math.prod(x.shape[1:]), **values))


def written(body, dtype=torch.int8, shape=(4, 4, 2), name="network"):
    """The network of what is written down, and how it differs on codes of all values."""
    net = Quantized(body, dtype)
    network = import_quantized(net, shape, name=name).network
    return network, difference(net, network, images(*shape) * 2)


def steps_of(body, shape=(4, 4, 2)):
    """The steps of what is written down, and why operators can't be followed, without the lines of code."""
    net = Quantized(body)
    with undisturbed(net):
        program = program_of(net, shape)
        found = quantized_steps(exported_program(program, shape, torch.zeros(1, shape[2], *shape[:2])))
    return found, [problem.rpartition(" (")[0] for problem in found.problems]
