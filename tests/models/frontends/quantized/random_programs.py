"""Random programs as torchao's PT2E quantization writes them: networks of ordinary style, quantizers of all kinds."""

import warnings
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["QUANTIZERS", "RandomModule", "random_program"]

QUANTIZERS = ("x86", "x86 reduced", "arm", "xpu", "xnnpack", "xnnpack per tensor")


class RandomModule(nn.Module):
    """A random network of modules and functions, of images (channels, 8, 8) or (channels, 16).

    Parameters
    ----------
    rng : Generator
    """

    def __init__(self, rng):
        super().__init__()
        self.rng, self.steps = rng, []
        self.one, self.functional = bool(rng.random() < 0.2), bool(rng.random() < 0.3)
        self.shape = (int(rng.integers(1, 5)), 16) if self.one else (int(rng.integers(1, 5)), 8, 8)
        self.layers = nn.ModuleList()
        maps = [torch.zeros(2, *self.shape)]
        for _ in range(int(rng.integers(2, 6))):
            self._draw(maps)
        self._head(maps[-1], maps)

    def forward(self, x):
        maps = [x]
        for operator, sources in self.steps:
            maps.append(operator(*(maps[source] for source in sources)))
        return maps[-1]

    def _step(self, maps, operator, *sources):
        """Let an operator read these maps, the last one without."""
        sources = sources or (len(maps) - 1,)
        if isinstance(operator, nn.Module):
            self.layers.append(operator.eval())
        self.steps.append((operator, sources))
        with torch.no_grad():
            maps.append(operator(*(maps[source] for source in sources)))
        return len(maps) - 1

    def _draw(self, maps):
        rng, last = self.rng, len(maps) - 1
        size = min(maps[-1].shape[2:])
        kind = rng.choice(["conv", "conv", "residual", "residual", "depthwise", "concat", "max", "average"])
        if kind in ("max", "average") and size >= 4 and last:
            self._pool(maps, str(kind))
        elif kind == "residual" and last:
            self._residual(maps)
        elif kind == "concat" and last:
            self._conv(maps, relu=True)
            self._step(maps, lambda *parts: torch.cat(parts, 1), last, len(maps) - 1)
        else:
            stride = 2 if rng.random() < 0.3 and size >= 4 else 1
            self._conv(maps, depthwise=kind == "depthwise", stride=stride, relu=rng.random() < 0.8)

    def _conv(self, maps, *, depthwise=False, stride=1, channels=None, relu=False):
        """A convolution, perhaps with a batch norm and what clamps."""
        rng, inputs = self.rng, maps[-1].shape[1]
        channels = inputs if depthwise else channels or int(rng.integers(2, 9))
        size = int(rng.choice([1, 3]))
        kind, norm = (nn.Conv1d, nn.BatchNorm1d) if self.one else (nn.Conv2d, nn.BatchNorm2d)
        groups, bias = inputs if depthwise else 1, bool(rng.random() < 0.5)
        self._step(maps, kind(inputs, channels, size, stride, size // 2, groups=groups, bias=bias))
        if rng.random() < 0.6:
            found = norm(channels)
            with torch.no_grad():
                for values, low, high in ((found.running_mean, -0.2, 0.2), (found.running_var, 0.2, 1.5)):
                    values.uniform_(low, high)
                found.weight.uniform_(0.5, 1.5)
                found.bias.uniform_(-0.3, 0.3)
            self._step(maps, found)
        if relu:
            self._relu(maps)

    def _relu(self, maps):
        kind = self.rng.choice(["relu", "relu", "relu6", "hardtanh"])
        functions = {"relu": F.relu, "relu6": F.relu6, "hardtanh": F.hardtanh}
        modules = {"relu": nn.ReLU, "relu6": nn.ReLU6, "hardtanh": nn.Hardtanh}
        self._step(maps, functions[kind] if self.functional else modules[kind]())

    def _residual(self, maps):
        """The last map, or a convolution of it, and one or two convolutions of it."""
        rng, start = self.rng, len(maps) - 1
        channels = maps[start].shape[1] if rng.random() < 0.7 else int(rng.integers(2, 9))
        short = start
        if channels != maps[start].shape[1]:
            kind = nn.Conv1d if self.one else nn.Conv2d
            short = self._step(maps, kind(maps[start].shape[1], channels, 1))
            self._step(maps, lambda x: x, start)
        if rng.random() < 0.5:
            self._conv(maps, relu=True)
        self._conv(maps, channels=channels)
        pair = (short, len(maps) - 1) if rng.random() < 0.5 else (len(maps) - 1, short)
        self._step(maps, lambda one, other: one + other, *pair)
        if rng.random() < 0.7:
            self._relu(maps)

    def _pool(self, maps, kind):
        modules = {"max": nn.MaxPool1d, "average": nn.AvgPool1d} if self.one else {
            "max": nn.MaxPool2d, "average": nn.AvgPool2d,
        }  # fmt: skip
        self._step(maps, modules[kind](2))

    def _head(self, last, maps):
        rng = self.rng
        axes = tuple(range(2, last.ndim))
        pool = nn.AdaptiveAvgPool1d if self.one else nn.AdaptiveAvgPool2d
        tail = rng.choice(["adaptive", "mean", "flatten"])
        if tail == "mean":
            self._step(maps, lambda x: x.mean(axes))
        elif tail == "adaptive":
            self._step(maps, pool(1))
        if tail != "mean":
            self._step(maps, lambda x: x.flatten(1))
        if rng.random() < 0.3:
            self._step(maps, nn.Dropout(0.3))
        if rng.random() < 0.3:
            self._step(maps, nn.Linear(maps[-1].shape[1], 8))
            self._relu(maps)
        self._step(maps, nn.Linear(maps[-1].shape[1], int(rng.integers(2, 7))))
        if rng.random() < 0.2:
            self._step(maps, partial(F.log_softmax, dim=1))


def _quantizer(kind):
    from torchao.quantization.pt2e.quantizer import arm_inductor_quantizer as arm
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86
    from torchao.quantization.pt2e.quantizer import xpu_inductor_quantizer as xpu
    from torchao.testing.pt2e._xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config

    name, _, rest = kind.partition(" ")
    made, config = {
        "x86": (x86.X86InductorQuantizer, partial(x86.get_default_x86_inductor_quantization_config,
                                                  reduce_range=bool(rest))),
        "arm": (arm.ArmInductorQuantizer, arm.get_default_arm_inductor_quantization_config),
        "xpu": (xpu.XPUInductorQuantizer, xpu.get_default_xpu_inductor_quantization_config),
        "xnnpack": (XNNPACKQuantizer, partial(get_symmetric_quantization_config, is_per_channel=not rest)),
    }[name]  # fmt: skip
    return made().set_global(config())


def random_program(seed):
    """A program of two images, the quantizer that it is from, and its weights as constants or as they are."""
    rng = np.random.default_rng(seed)
    kind = str(rng.choice(QUANTIZERS))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        torch.manual_seed(seed)
        module = RandomModule(rng).eval()
        example = (torch.randn(2, *module.shape),)
        observed = prepare_pt2e(torch.export.export(module, example).module(), _quantizer(kind))
        for _ in range(4):
            observed(torch.randn(2, *module.shape))
        program = torch.export.export(convert_pt2e(observed, fold_quantize=bool(rng.random() < 0.5)), example)
    return program, kind
