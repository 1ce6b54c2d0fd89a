"""Modules of PyTorch's for ONNX operators whose meaning differs from them in small things, and for weights in codes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed  # registers the operators that quantize
import torch.nn.functional as F
from torch import nn

from models.frontends.onnx.sites import Codes, Coding

__all__ = [
    "Apply",
    "BatchNorm",
    "Between",
    "CodedConv",
    "CodedLinear",
    "ConvOverMap",
    "ConvOverRow",
    "Dequantize",
    "Pool",
    "Quantize",
    "TurnedLinear",
    "WindowPlace",
    "linear",
    "parameter",
]

_QUANTIZED = torch.ops.quantized_decomposed


def parameter(values: np.ndarray) -> nn.Parameter:
    """A copy of an array that can be trained."""
    return nn.Parameter(torch.from_numpy(np.array(values, dtype=np.float32, order="C")))


@dataclass(frozen=True, kw_only=True)
class WindowPlace:
    """Where the windows of a convolution or pool lie.

    Attributes
    ----------
    kernel, stride, dilation : tuple of int, one per axis
    pads : tuple of pairs
        Before and behind each axis.
    same : str
        ``UPPER`` or ``LOWER``: as many as make the output as long as the input over the stride, the odd one behind or
        before; empty where ``pads`` says it.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    same: str = ""

    def pads_of(self, sizes: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Positions before and behind each axis of a map of these sizes."""
        if not self.same:
            return self.pads
        found = []
        for size, kernel, stride, dilation in zip(sizes, self.kernel, self.stride, self.dilation, strict=True):
            whole = max(0, (math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size)
            small, large = whole // 2, whole - whole // 2
            found.append((small, large) if self.same == "UPPER" else (large, small))
        return tuple(found)

    def padded(self, x: torch.Tensor, value: float = 0.0) -> tuple[torch.Tensor, tuple[int, ...]]:
        """The map, and what is still to be padded on both sides of each axis: uneven padding is done."""
        pads = self.pads_of(x.shape[2:])
        if all(before == behind for before, behind in pads):
            return x, tuple(before for before, _ in pads)
        return F.pad(x, [n for pair in reversed(pads) for n in pair], value=value), (0,) * len(pads)

    def ends(self, sizes: Sequence[int]) -> bool:
        """Whether the last window ends where the padded map does."""
        whole = [size + sum(pads) for size, pads in zip(sizes, self.pads_of(sizes), strict=True)]
        each = zip(whole, self.kernel, self.stride, self.dilation, strict=True)
        return all((size - (kernel - 1) * dilation - 1) % stride == 0 for size, kernel, stride, dilation in each)


class ConvOverMap(nn.Conv2d):
    """A convolution with the padding of a :class:`WindowPlace`."""

    window: WindowPlace

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, padding = self.window.padded(x)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class ConvOverRow(nn.Conv1d):
    """The same over one axis."""

    window: WindowPlace

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, padding = self.window.padded(x)
        return F.conv1d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


def linear(weight: np.ndarray, bias: np.ndarray | None) -> nn.Linear:
    """A linear layer with these weights (outputs, inputs)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = parameter(weight)
    if bias is not None:
        layer.bias = parameter(bias)
    return layer


class Dequantize(nn.Module):
    """Constant codes as the floats that they stand for."""

    def __init__(self, codes: Codes) -> None:
        super().__init__()
        self.register_buffer("codes", torch.from_numpy(np.array(codes.values, order="C")))
        self.bounds = np.iinfo(codes.values.dtype).min, np.iinfo(codes.values.dtype).max
        self.axis = codes.axis if codes.scale.ndim else None
        self.whole = (float(codes.scale), int(codes.zero_point)) if self.axis is None else (0.0, 0)
        if self.axis is not None:
            self.register_buffer("scales", torch.from_numpy(np.array(codes.scale)))
            self.register_buffer("zero_points", torch.from_numpy(codes.zero_point.astype(np.int64)))

    def forward(self) -> torch.Tensor:
        codes: Any = self.codes
        if self.axis is None:
            found = _QUANTIZED.dequantize_per_tensor(codes, *self.whole, *self.bounds, codes.dtype)
        else:
            found = _QUANTIZED.dequantize_per_channel(
                codes, self.scales, self.zero_points, self.axis, *self.bounds, codes.dtype
            )
        result: torch.Tensor = found
        return result


class _Coded(nn.Module):
    """Weights in codes, biases in codes or floats."""

    def __init__(self, weight: Codes, bias: Codes | np.ndarray | None) -> None:
        super().__init__()
        self.weight = Dequantize(weight)
        self.shift = Dequantize(bias) if isinstance(bias, Codes) else None
        self.bias = parameter(bias) if isinstance(bias, np.ndarray) else None

    def biases(self) -> torch.Tensor | None:
        found: torch.Tensor | None = self.bias if self.shift is None else self.shift()
        return found


class CodedConv(_Coded):
    """A convolution over one axis or two, with weights in codes."""

    def __init__(self, weight: Codes, bias: Codes | np.ndarray | None, window: WindowPlace, groups: int) -> None:
        super().__init__(weight, bias)
        self.window, self.groups = window, groups
        self.function: Callable[..., torch.Tensor] = F.conv2d if len(window.kernel) == 2 else F.conv1d

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, padding = self.window.padded(x)
        window = self.window
        return self.function(x, self.weight(), self.biases(), window.stride, padding, window.dilation, self.groups)


class CodedLinear(_Coded):
    """A linear layer with weights (outputs, inputs) in codes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight(), self.biases())


class TurnedLinear(nn.Module):
    """A linear layer whose weights are for a row of values in another order than the row has.

    Parameters
    ----------
    layer : Linear or CodedLinear
    order : sequence of int
        The file's axes of the map that was flattened, as axes of the map itself.
    """

    def __init__(self, layer: "nn.Linear | CodedLinear", order: Sequence[int]) -> None:
        super().__init__()
        self.layer, self.order = layer, order

    def forward(self, x: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        layer, axes = self.layer, self.order[1:]
        weight = layer.weight() if isinstance(layer, CodedLinear) else layer.weight
        bias = layer.biases() if isinstance(layer, CodedLinear) else layer.bias
        wide = weight.reshape(len(weight), *(image.shape[axis] for axis in axes))
        turned = wide.permute(0, *(1 + axes.index(axis) for axis in sorted(axes)))
        return F.linear(x, turned.reshape(len(weight), -1), bias)


class BatchNorm(nn.BatchNorm2d):
    """A batch norm of maps of any number of axes."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"a batch norm must read channels, not {input.ndim} dimensions")


class Pool(nn.Module):
    """A pool with the padding of a :class:`WindowPlace`: averages, or the largest."""

    def __init__(self, window: WindowPlace, *, largest: bool, ceil: bool = False, counted: bool = True) -> None:
        super().__init__()
        self.window, self.largest, self.ceil, self.counted = window, largest, ceil, counted

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        window, two = self.window, len(self.window.kernel) == 2
        pads = window.pads_of(x.shape[2:])
        if self.largest:
            x, padding = window.padded(x, -math.inf)
            largest: Callable[..., torch.Tensor] = F.max_pool2d if two else F.max_pool1d
            return largest(x, window.kernel, window.stride, padding, window.dilation, self.ceil)
        if self.ceil and not window.ends(x.shape[2:]):
            raise ValueError(
                "ceil_mode of averages must make no difference: windows must end where the padded map does"
            )
        if not self.counted and any(before != behind for before, behind in pads):
            raise ValueError("padding that an average doesn't count must be even on both sides, or count_include_pad 1")
        x, padding = window.padded(x)
        average: Callable[..., torch.Tensor] = F.avg_pool2d if two else F.avg_pool1d
        return average(x, window.kernel, window.stride, padding, False, self.counted)


class Apply(nn.Module):
    """A function of maps, and of a constant where there is one."""

    def __init__(self, function: Callable[..., torch.Tensor], constant: np.ndarray | None = None) -> None:
        super().__init__()
        self.function = function
        self.constant = None if constant is None else parameter(constant)

    def forward(self, *maps: Any) -> torch.Tensor:
        return self.function(*maps) if self.constant is None else self.function(*maps, self.constant)


class Quantize(nn.Module):
    """A map's values as codes, or back."""

    def __init__(self, of: Coding, *, back: bool = False) -> None:
        super().__init__()
        self.of, self.back = of, back

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        of = self.of
        function = _QUANTIZED.dequantize_per_tensor if self.back else _QUANTIZED.quantize_per_tensor
        result: torch.Tensor = function(x, of.scale, of.zero_point, of.low, of.high, of.dtype)
        return result


class Between(nn.Module):
    """A module of floats between maps of codes."""

    def __init__(self, sources: Sequence[Coding], module: nn.Module, target: Coding | None) -> None:
        super().__init__()
        self.sources = nn.ModuleList(Quantize(source, back=True) for source in sources)
        self.module = module
        self.target = None if target is None else Quantize(target)

    def forward(self, *codes: Any) -> torch.Tensor:
        count = len(self.sources)
        floats = [source(code) for source, code in zip(self.sources, codes[:count], strict=True)]
        result: torch.Tensor = self.module(*floats, *codes[count:])
        return result if self.target is None else self.target(result)
