"""Writes an integer network as a TensorFlow Lite file that is fully int8.

Convolutions become CONV_2D and DEPTHWISE_CONV_2D, which round twice; what rounds once becomes FULLY_CONNECTED where
that can say it. Heads become FULLY_CONNECTED, too, whose outputs are int8 codes that no logit is too large for.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

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
    Tensor,
)
from hw.numerics import Rounding, accumulator_range
from hw.rules import require
from models.backends.file_scales import FileRounding, FileScales
from models.backends.flatbuffer import FlatGraph
from models.backends.normal_form import opened
from models.backends.rounded_sums import Weighted, reached_codes
from models.frontends.tflite import reader
from models.frontends.tflite.layers import clamp_of, same_pads

__all__ = ["ACTIVATIONS", "read_tflite", "tflite_rounding", "write_tflite"]

#: Activation functions that an operator may end with.
ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")

_ZERO_PADS = (0, 0, 0, 0)
_STEPS = 127  # of an int8 output, on either side of 0


def tflite_rounding(layer: Weighted) -> FileRounding:
    """How the operator of a layer rounds: one that rounds once is taken where there is one."""
    single = layer.rounding is Rounding.SINGLE
    pointwise = isinstance(layer, Conv2D) and layer.weight.shape[1:3] == (1, 1) == layer.stride and not any(layer.pads)
    return FileRounding.REAL if single and (pointwise or isinstance(layer, Linear)) else FileRounding.DOUBLE


def read_tflite(path: Path) -> tuple[Network, str]:
    """The network of a file, and what is to be said of it."""
    return reader.read(path), (
        "LiteRT's reference kernels compute the same codes; outputs are the logits as int8, in steps so coarse that "
        "none is too large: logits that differ may be equal there"
    )


def write_tflite(network: Network, scales: FileScales) -> bytes:
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
        When layers have clamps or pads that no operator has; the message names them all.
    ModuleNotFoundError
        When the package ``tflite`` isn't installed.
    """
    writer = _Writer(network, scales)
    for layer in network.layers:
        writer.add(layer)
    require(not writer.problems, "; ".join(writer.problems))
    numbers = [writer.numbers[head.logits] for head in network.exits]
    return writer.graph.content([writer.numbers[INPUT]], numbers)


@dataclass
class _Writer:
    """The operators so far."""

    network: Network
    scales: FileScales
    graph: FlatGraph = field(default_factory=FlatGraph)
    numbers: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ranges = reached_codes(self.network)
        self.tensors = self.scales.tensors
        self.numbers[INPUT] = self._map(INPUT, self.tensors[INPUT])

    def add(self, layer: Layer) -> None:
        """Write a layer's operator, with what must stand before it, or note why there is none."""
        try:
            self._write(layer)
        except ValueError as error:
            self.problems.append(str(error))
            self.numbers[layer.name] = self._map(layer.name, self.tensors[layer.name])

    def _write(self, layer: Layer) -> None:
        if is_raw(layer):
            self._head(layer)
        elif isinstance(layer, Conv2D | DepthwiseConv2D | Linear):
            self._weighted(layer)
        elif isinstance(layer, Add):
            inputs = [self.numbers[name] for name in layer.inputs]
            self._put(layer, "ADD", inputs, "AddOptions")
        elif isinstance(layer, MaxPool2D):
            self._pool(layer, "MAX_POOL_2D", layer.window, layer.stride, layer.pads)
        elif isinstance(layer, AveragePool2D):
            self._pool(layer, "AVERAGE_POOL_2D", layer.window, layer.stride, _ZERO_PADS)
        else:
            assert isinstance(layer, GlobalAveragePool)
            height, width, _ = self.tensors[layer.inputs[0]].shape
            self._pool(layer, "AVERAGE_POOL_2D", (height, width), (1, 1), _ZERO_PADS)

    def _map(self, name: str, tensor: Tensor) -> int:
        return self.graph.map(name, (1, *tensor.shape), tensor.scale, tensor.zero_point)

    def _put(self, layer: Layer, name: str, inputs: list[int], table: str, **options: int | str | bool) -> None:
        """Write an operator that makes a layer's output."""
        output = self.tensors[layer.name]
        options["FusedActivationFunction"] = self._activation(layer, output)
        self.numbers[layer.name] = self._map(layer.name, output)
        self.graph.operator(name, inputs, self.numbers[layer.name], table, **options)

    def _activation(self, layer: Layer, output: Tensor) -> str:
        """The activation function that clamps as a layer does."""
        found = {name: clamp_of(name, output) for name in ACTIVATIONS}
        source, held = self.network.tensors()[layer.inputs[0]], self.ranges[layer.inputs[0]]
        for name, clamp in found.items():
            if layer.clamp in (clamp, opened(replace(layer, clamp=clamp), source, held).clamp):
                return name
        said = ", ".join(f"{name} {clamp[0]}..{clamp[1]}" for name, clamp in found.items())
        raise ValueError(
            f"{layer.name}: a TFLite operator clamps its codes as an activation function does ({said}), not to "
            f"{layer.clamp[0]}..{layer.clamp[1]}"
        )

    def _weighted(self, layer: Weighted) -> None:
        if tflite_rounding(layer) is FileRounding.REAL:
            self._fully_connected(layer)
            return
        depthwise = isinstance(layer, DepthwiseConv2D)
        weight = layer.weight.transpose(3, 1, 2, 0) if depthwise else layer.weight
        stride, pads = ((1, 1), _ZERO_PADS) if isinstance(layer, Linear) else (layer.stride, layer.pads)
        inputs, padding = self._padded(layer, layer.weight.shape[1:3], stride, pads)
        inputs += self._constants(layer, np.ascontiguousarray(weight), axis=3 if depthwise else 0)
        sizes = {"StrideH": stride[0], "StrideW": stride[1], "DilationHFactor": 1, "DilationWFactor": 1}
        if depthwise:
            self._put(
                layer,
                "DEPTHWISE_CONV_2D",
                inputs,
                "DepthwiseConv2DOptions",
                Padding=padding,
                DepthMultiplier=1,
                **sizes,
            )
        else:
            self._put(layer, "CONV_2D", inputs, "Conv2DOptions", Padding=padding, **sizes)

    def _fully_connected(self, layer: Weighted) -> None:
        """A linear layer; of a convolution of single positions, one of each position's channels."""
        number = self._flat(layer) if isinstance(layer, Linear) else self.numbers[layer.inputs[0]]
        weight = layer.weight.reshape(len(layer.weight), -1)
        inputs = [number, *self._constants(layer, weight)]
        self._put(layer, "FULLY_CONNECTED", inputs, "FullyConnectedOptions", KeepNumDims=not isinstance(layer, Linear))

    def _head(self, layer: Linear) -> None:
        source = self.tensors[layer.inputs[0]]
        low, high = (code - source.zero_point for code in self.ranges[layer.inputs[0]])
        weight = layer.weight.reshape(len(layer.weight), -1)
        largest = max(map(abs, accumulator_range(weight, layer.bias, low, high)))
        step = max(largest, _STEPS + 1) / _STEPS * source.scale * float(self.scales.weights[layer.name][0])
        inputs = [self._flat(layer), *self._constants(layer, weight)]
        self.numbers[layer.name] = self.graph.map(layer.name, (1, len(weight)), step, 0)
        self.graph.operator("FULLY_CONNECTED", inputs, self.numbers[layer.name], "FullyConnectedOptions")

    def _constants(self, layer: Weighted, weight: np.ndarray, axis: int = 0) -> list[int]:
        """Weights and biases."""
        source, scales = self.tensors[layer.inputs[0]], self.scales.weights[layer.name]
        products = (source.scale * scales.astype(np.float64)).astype(np.float32)
        return [
            self.graph.constant(f"{layer.name}/weight", weight, scales, axis),
            self.graph.constant(f"{layer.name}/bias", layer.bias, products),
        ]

    def _flat(self, layer: Layer) -> int:
        """A layer's input as a row of values."""
        name = layer.inputs[0]
        tensor, number = self.tensors[name], self.numbers[name]
        count = int(np.prod(tensor.shape))
        flat = self.graph.map(f"{layer.name}/row", (1, count), tensor.scale, tensor.zero_point)
        shape = self.graph.constant(f"{layer.name}/shape", np.array([1, count], dtype=np.int32))
        self.graph.operator("RESHAPE", [number, shape], flat, "ReshapeOptions")
        return flat

    def _pool(
        self, layer: Layer, name: str, window: tuple[int, int], stride: tuple[int, int],
        pads: tuple[int, int, int, int],
    ) -> None:  # fmt: skip
        inputs, padding = self._padded(layer, window, stride, pads)
        sizes = {"StrideH": stride[0], "StrideW": stride[1], "FilterHeight": window[0], "FilterWidth": window[1]}
        self._put(layer, name, inputs, "Pool2DOptions", Padding=padding, **sizes)

    def _padded(
        self, layer: Layer, kernel: tuple[int, ...], stride: tuple[int, int], pads: tuple[int, int, int, int]
    ) -> tuple[list[int], str]:
        """What an operator reads, and its padding: a PAD stands before it where neither of its two is this one."""
        name = layer.inputs[0]
        source = self.tensors[name]
        if not any(pads):
            return [self.numbers[name]], "VALID"
        if pads == same_pads(source.shape[:2], kernel, stride):
            return [self.numbers[name]], "SAME"
        lowest = next((each.clamp[0] for each in self.network.layers if each.name == name), -128)
        if isinstance(layer, MaxPool2D) and lowest < source.zero_point:
            raise ValueError(
                f"{layer.name}: pads of a TFLite max pool must be those of SAME where its input holds codes below the "
                f"zero point, not {pads}"
            )
        height, width, channels = source.shape
        shape = (1, height + pads[0] + pads[1], width + pads[2] + pads[3], channels)
        whole = self.graph.map(f"{layer.name}/padded", shape, source.scale, source.zero_point)
        around = np.array([[0, 0], pads[:2], pads[2:], [0, 0]], dtype=np.int32)
        inputs = [self.numbers[name], self.graph.constant(f"{layer.name}/pads", around)]
        self.graph.operator("PAD", inputs, whole, "PadOptions")
        return [whole], "VALID"
