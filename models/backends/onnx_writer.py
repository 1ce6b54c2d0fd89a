"""Writes an integer network as an ONNX file in QDQ form: operators in float, between codes and codes.

Maps are int8 with their channels first, weights int8 with a scale for each output channel, biases int32; the input
takes floats, and outputs are the logits in float. The node that computes a layer has its name, and so has its result.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hw.network.layers import is_raw
from hw.network.network import (
    INPUT,
    Add,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    Layer,
    Linear,
    MaxPool2D,
    Network,
)
from hw.rules import require
from models.backends.file_scales import FileRounding, FileScales
from models.backends.rounded_sums import Weighted
from models.frontends.onnx import reader
from models.frontends.quantized.reader import import_quantized

__all__ = ["onnx_rounding", "read_onnx", "write_onnx"]

_OPSET, _IR = 13, 8
#: Largest bias that is the same after float32 has held it, times a scale.
_LARGEST_BIAS = 1 << 21
_IMAGES, _SEED = 4, 19  # that both compute, to count what differs


def onnx_rounding(_layer: Weighted) -> FileRounding:
    """How an operator between floats rounds, as it is read back: once."""
    return FileRounding.SINGLE


def read_onnx(path: Path) -> tuple[Network, str]:
    """The network of a file, and how far what computes the file in float is from it."""
    module = reader.read(path)
    found = import_quantized(module, module.program.shape, name=path.stem)
    network = found.network
    codes = np.random.default_rng(_SEED).integers(-128, 128, (_IMAGES, *network.input.shape)).astype(np.int8)
    heads = {head.logits for head in network.exits}
    pairs = [pair for name, pair in found.source.compared(codes).items() if name not in heads]
    off = [np.abs(made.astype(np.int64) - other).reshape(-1) for made, other in pairs]
    rounds = "ONNX Runtime divides in float and rounds half to even, the network multiplies by integers"
    return network, f"{rounds}{_counted(np.concatenate(off))}" if off else rounds


def _counted(off: np.ndarray) -> str:
    """How many codes differ, and by how much."""
    differ, images = np.count_nonzero(off), f"on {_IMAGES} images"
    if not differ:
        return f": run in float, all {off.size:,} codes are the same, {images}"
    return f": run in float, {differ:,} of {off.size:,} codes differ, by at most {off.max():.0f}, {images}"


def write_onnx(network: Network, scales: FileScales) -> bytes:
    """The file of a network in its normal form (:func:`models.backends.normal_form.normal_form`).

    Its outputs are the heads in order.

    Parameters
    ----------
    network : Network
    scales : FileScales
        As :func:`models.backends.file_scales.file_scales` finds them.

    Raises
    ------
    ValueError
        When biases are too large to be held in float; the message names the layers.
    ModuleNotFoundError
        When the package ``onnx`` isn't installed.
    """
    try:
        from onnx import TensorProto, checker, helper
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("writing ONNX files needs the package onnx: pip install onnx") from error
    writer = _OnnxWriter(network, scales)
    image = writer.unused("image")
    writer.quantized(image, INPUT)
    for layer in network.layers:
        writer.add(layer)
    require(not writer.problems, "; ".join(writer.problems))
    height, width, channels = network.input.shape
    shapes: list[tuple[str, tuple[str | int, ...]]] = [(image, ("images", channels, height, width))]
    shapes += [(writer.floats[head.logits], ("images", network.classes)) for head in network.exits]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes]
    graph = helper.make_graph(writer.nodes, "network", values[:1], values[1:], writer.constants)
    opsets = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR, producer_name="Offramp")
    checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


@dataclass
class _OnnxWriter:
    """The nodes so far; ``floats`` are names of what layers give on, as floats."""

    network: Network
    scales: FileScales
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    floats: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._taken = {layer.name for layer in self.network.layers}

    def unused(self, name: str) -> str:
        """A name that no layer and no other value has."""
        found = next(
            new for n in range(len(self._taken) + 1) if (new := f"{name}.{n}" if n else name) not in self._taken
        )
        self._taken.add(found)
        return found

    def add(self, layer: Layer) -> None:
        """Write a layer's nodes."""
        if isinstance(layer, Conv2D | DepthwiseConv2D | Linear):
            made = self._weighted(layer)
        elif isinstance(layer, Add):
            made = self._node("Add", layer, [self.floats[name] for name in layer.inputs])
        elif isinstance(layer, AveragePool2D):
            made = self._pool("AveragePool", layer, kernel_shape=layer.window, strides=layer.stride)
        elif isinstance(layer, MaxPool2D):
            pads = _pads(layer.pads)
            if pads[:2] != pads[2:]:
                self.problems.append(
                    f"{layer.name}: pads of a max pool must be as many before as behind, not {layer.pads}"
                )
            made = self._pool("MaxPool", layer, kernel_shape=layer.window, strides=layer.stride, pads=pads)
        else:
            made = self._pool("GlobalAveragePool", layer)
        if is_raw(layer):
            self.floats[layer.name] = made
        else:
            self.quantized(self._clamped(layer, made), layer.name)

    def quantized(self, values: str, name: str) -> None:
        """Make codes of values, and floats of these."""
        tensor = self.scales.tensors[name]
        scale = self._constant(f"{name}.scale", np.float32(tensor.scale))
        zero_point = self._constant(f"{name}.zero_point", np.int8(tensor.zero_point))
        codes = self._node("QuantizeLinear", f"{name}.codes", [values, scale, zero_point])
        self.floats[name] = self._node("DequantizeLinear", f"{name}.floats", [codes, scale, zero_point])

    def _node(self, operator: str, of: Layer | str, inputs: list[str], **attributes: Any) -> str:
        """A node that computes a layer, or something by a name like this."""
        from onnx import helper

        output = self.unused(of) if isinstance(of, str) else of.name
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def _constant(self, name: str, values: np.ndarray | np.generic) -> str:
        from onnx import numpy_helper

        name = self.unused(name)
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def _pool(self, operator: str, layer: Layer, **attributes: Any) -> str:
        return self._node(operator, layer, [self.floats[layer.inputs[0]]], **attributes)

    def _clamped(self, layer: Layer, values: str) -> str:
        """Values within the range of a layer's codes."""
        tensor, clamp = self.scales.tensors[layer.name], layer.clamp
        ends = [np.float32((code - tensor.zero_point) * tensor.scale) for code in clamp]
        if clamp == (-128, 127):
            return values
        if clamp == (tensor.zero_point, 127):
            return self._node("Relu", f"{layer.name}.relu", [values])
        names = ("low", "high")
        bounds = [self._constant(f"{layer.name}.{name}", end) for name, end in zip(names, ends, strict=True)]
        return self._node("Clip", f"{layer.name}.clip", [values, *bounds])

    def _weighted(self, layer: Weighted) -> str:
        """A Conv, or a Gemm behind a Flatten, whose weights and biases are codes."""
        source = self.scales.tensors[layer.inputs[0]]
        if np.abs(layer.bias.astype(np.int64)).max() > _LARGEST_BIAS:
            self.problems.append(
                f"{layer.name}: biases must be at most {_LARGEST_BIAS}, which floats hold, not "
                f"{np.abs(layer.bias.astype(np.int64)).max()}"
            )
        scales = self.scales.weights[layer.name]
        weight = np.ascontiguousarray(layer.weight.transpose(0, 3, 1, 2))
        values = self.floats[layer.inputs[0]]
        row = isinstance(layer, Linear) and self._is_row(layer)
        if row:
            values = self._node("Flatten", f"{layer.name}.row", [values], axis=1)
            weight = weight.reshape(len(weight), -1)
        products = (source.scale * scales.astype(np.float64)).astype(np.float32)
        constants = [
            self._coded(f"{layer.name}.weight", weight, scales),
            self._coded(f"{layer.name}.bias", layer.bias, products),
        ]
        if row:
            return self._node("Gemm", layer, [values, *constants], transB=1)
        attributes: dict[str, Any] = {"kernel_shape": layer.weight.shape[1:3]}
        if not isinstance(layer, Linear):
            attributes |= {"strides": layer.stride, "pads": _pads(layer.pads)}
        if isinstance(layer, DepthwiseConv2D):
            attributes["group"] = source.shape[2]
        return self._node("Conv", layer, [values, *constants], **attributes)

    def _is_row(self, layer: Linear) -> bool:
        """Whether a linear layer's output need be no map: what reads it are linear layers."""
        return all(isinstance(each, Linear) for each in self.network.layers if layer.name in each.inputs)

    def _coded(self, name: str, codes: np.ndarray, scales: np.ndarray) -> str:
        """Constant codes as floats: with a scale for each along the first axis, or one in all."""
        scales = scales if len(scales) > 1 else scales[0]
        inputs = [
            self._constant(f"{name}.codes", codes),
            self._constant(f"{name}.scale", scales),
            self._constant(f"{name}.zero_point", np.zeros(np.shape(scales), dtype=codes.dtype)),
        ]
        axis = {"axis": 0} if np.ndim(scales) else {}
        return self._node("DequantizeLinear", name, inputs, **axis)


def _pads(pads: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Before rows and columns, then behind them."""
    top, bottom, left, right = pads
    return top, left, bottom, right
