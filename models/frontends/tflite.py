"""Reads a fully int8 TensorFlow Lite file (schema version 3) into an integer network.

Every tensor of the network equals what TFLite's *reference* kernels compute, bit for bit, up to the final head. The
head delivers its raw accumulators, because an exit decision wants full resolution: their order is that of the logits,
but where requantization or SOFTMAX makes two int8 outputs equal, TFLite's argmax may name another class.

Supported operators: CONV_2D, DEPTHWISE_CONV_2D of one output channel for each input channel (or of a single input
channel), FULLY_CONNECTED, ADD, AVERAGE_POOL_2D without padding, MAX_POOL_2D, RESHAPE that flattens, and a final
SOFTMAX, which keeps the order of the logits and is dropped. MEAN is refused: its reference kernel rounds differently
from AVERAGE_POOL_2D, with results that differ by one (seen with LiteRT 2.3.0).

A TFLite file carries no checksum: damage within the weights can't be noticed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hw.network.network import (
    INPUT,
    Add,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    Exit,
    GlobalAveragePool,
    Layer,
    Linear,
    MaxPool2D,
    Network,
    Tensor,
)
from hw.numerics import Rounding, Scale, clamp, quantize_scale, requantize
from models.frontends.tflite_file import Operator, Subgraph, TensorEntry, parse

__all__ = ["read"]

_BIAS = 0.02  # steps of the output by which a bias's step may be off


def read(path: Path | str) -> Network:
    """The network of a TFLite file. A layer's name is its kind and its operator's position in the file: ``conv2d_0``.

    Raises
    ------
    ValueError
        When the file can't be read, is damaged, or holds what isn't supported: one message names all of it.
    ModuleNotFoundError
        When the package ``tflite`` isn't installed.
    """
    path = Path(path)
    graph = parse(path)
    try:
        return _Reader(path.stem, graph).network()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


class _Reader:
    """Turns operators into layers, in order, and keeps the names of the tensors they write."""

    def __init__(self, name: str, graph: Subgraph) -> None:
        self.name = name
        self.graph = graph
        self.tensors = graph.tensors
        self.operators = graph.operators
        self.names: dict[int, str] = {}
        self.maps: dict[int, Tensor] = {}
        self.layers: list[Layer] = []

    def network(self) -> Network:
        inputs, outputs = self.graph.inputs, self.graph.outputs
        if len(inputs) != 1 or len(outputs) != 1:
            raise ValueError(f"a network must have one input and one output, not {len(inputs)} and {len(outputs)}")
        head = self._head(outputs[0])
        self._refuse_unsupported(head)
        self.names[inputs[0]], self.maps[inputs[0]] = INPUT, self._map(inputs[0])
        image = self.maps[inputs[0]]
        for operator in self.operators[: head.position + 1]:
            if operator.name == "RESHAPE":
                source, target = operator.inputs[0], operator.outputs[0]
                self.names[target], self.maps[target] = self._name(source), self.maps[source]
                continue
            layer = _KINDS[operator.name](self, operator, operator is head)
            self.layers.append(layer)
            self.names[operator.outputs[0]], self.maps[operator.outputs[0]] = layer.name, layer.output
        return Network(
            name=self.name,
            input=image,
            layers=tuple(self.layers),
            exits=(Exit(logits=self.layers[-1].name),),
            classes=self.layers[-1].output.shape[2],
        )

    def _head(self, output: int) -> Operator:
        """The FULLY_CONNECTED that makes the output, perhaps through a SOFTMAX."""
        softmax = bool(self.operators) and self.operators[-1].name == "SOFTMAX"
        tail = self.operators[-2:] if softmax else self.operators[-1:]
        if not tail or tail[0].name != "FULLY_CONNECTED":
            self._refuse_unsupported(None)
            names = " and ".join(operator.name for operator in tail) or "nothing"
            raise ValueError(f"a network must end with FULLY_CONNECTED, or that and SOFTMAX, not with {names}")
        if tail[-1].outputs != [output] or (softmax and tail[1].inputs != tail[0].outputs):
            raise ValueError("the network's output must come from the last operators, FULLY_CONNECTED and SOFTMAX")
        return tail[0]

    def _refuse_unsupported(self, head: Operator | None) -> None:
        """One error that names everything unsupported."""
        reasons = list(self.graph.objections)
        found: dict[str, list[str]] = {}
        written = list(self.graph.inputs)
        for operator in self.operators:
            objections = [*operator.objections, *self._objections(operator, head)]
            for number in (n for n in (*operator.inputs, *operator.outputs) if n >= 0):
                tensor = self.tensors[number]
                objections += [f"tensor {number} ({tensor.name}) {reason}" for reason in tensor.objections]
            for number in operator.outputs:
                if number in written or self.tensors[number].data is not None:
                    objections.append(f"{operator.name} that writes tensor {number}, which holds something already")
            written += operator.outputs
            for reason in dict.fromkeys(objections):
                found.setdefault(reason, []).append(str(operator.position))
        reasons += [f"{reason} (operator {', '.join(where)})" for reason, where in found.items()]
        if reasons:
            raise ValueError(f"unsupported: {'; '.join(reasons)}")

    def _objections(self, operator: Operator, head: Operator | None) -> Iterator[str]:
        """Why an operator isn't supported."""
        name, options = operator.name, operator.options
        if name == "SOFTMAX":
            if head is None or operator.position != head.position + 1:
                yield "SOFTMAX that isn't the last operator"
            elif not 0 < options["beta"] < np.inf:  # otherwise the order of the logits isn't that of their softmax
                yield f"SOFTMAX with beta {options['beta']}"
            return
        if name not in (*_KINDS, "RESHAPE"):
            yield name
            return
        before, after = (self.tensors[i].shape for i in (operator.inputs[0], operator.outputs[0]))
        if name == "RESHAPE":
            if len(after) != 2 or after[0] != 1 or np.prod(before) != after[1]:
                yield f"RESHAPE to {list(after)}"
            elif self._codes(operator.inputs[0]) != self._codes(operator.outputs[0]):
                # It gives codes on as they are: they would mean something else.
                yield "RESHAPE to another scale or zero point"
            elif (asked := self._shape(operator)) not in ([], list(after), [-1, after[1]], [1, -1]):
                yield f"RESHAPE to {asked or 'a computed shape'} of a tensor of shape {list(after)}"
            return
        if options["activation"] not in ("NONE", "RELU", "RELU6", "RELU_N1_TO_1"):
            yield f"{name} with activation {options['activation']}"
        if options.get("padding", "VALID") not in ("SAME", "VALID"):
            yield f"{name} with padding {options['padding']}"
        elif name == "AVERAGE_POOL_2D" and any(_padding(operator, before[1:3], options["window"])):
            yield "AVERAGE_POOL_2D with padding"
        if name == "DEPTHWISE_CONV_2D" and before[3:] not in ((1,), after[3:]):
            yield f"DEPTHWISE_CONV_2D from {list(before)} to {list(after)}"
        if options.get("dilation", (1, 1)) != (1, 1):
            yield f"{name} with dilation {options['dilation']}"
        if options.get("keep_dimensions") and before[:-1] != after[:-1]:
            yield f"FULLY_CONNECTED that keeps dimensions, from {list(before)} to {list(after)}"

    def _codes(self, number: int) -> tuple[list[float], list[int]]:
        """What the codes of a tensor mean."""
        tensor = self.tensors[number]
        return tensor.scales.tolist(), tensor.zero_points.tolist()

    def _shape(self, operator: Operator) -> list[int] | None:
        """What a RESHAPE asks for: nothing, sizes of which one may be -1, or None when it is only known later."""
        if len(operator.inputs) < 2:
            return operator.options["shape"]
        data = self.tensors[operator.inputs[1]].data
        return None if data is None else [int(size) for size in data.reshape(-1)]

    def _name(self, tensor: int) -> str:
        if tensor not in self.names:
            raise ValueError(f"tensor {tensor} must be computed by an earlier operator, not be a constant")
        return self.names[tensor]

    def _source(self, operator: Operator) -> Tensor:
        """The map that an operator reads first."""
        self._name(operator.inputs[0])
        return self.maps[operator.inputs[0]]

    def _map(self, number: int) -> Tensor:
        """Shape and quantization of an activation tensor."""
        tensor = self.tensors[number]
        if tensor.dtype != "INT8":
            raise ValueError(f"tensor {number} ({tensor.name}) must be INT8, not {tensor.dtype}")
        if len(tensor.scales) != 1 or len(tensor.zero_points) != 1:
            found = f"{len(tensor.scales)} and {len(tensor.zero_points)}"
            raise ValueError(f"tensor {number} ({tensor.name}) must have one scale and one zero point, not {found}")
        shape = tensor.shape
        if len(shape) == 2:
            shape = (shape[0], 1, 1, shape[1])
        if len(shape) != 4 or shape[0] != 1:
            raise ValueError(f"tensor {number} ({tensor.name}) must be a batch of one map, not {list(tensor.shape)}")
        return Tensor(shape=shape[1:], scale=float(tensor.scales[0]), zero_point=int(tensor.zero_points[0]))

    def _layer(self, operator: Operator, kind: str, sources: int = 1) -> dict[str, Any]:
        """The fields that all layers share."""
        output = self._map(operator.outputs[0])
        return {
            "name": f"{kind}_{operator.position}",
            "inputs": tuple(self._name(i) for i in operator.inputs[:sources]),
            "output": output,
            "clamp": _clamp(operator.options["activation"], output),
        }

    def _constants(self, operator: Operator, axis: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weight codes, weight scales and bias; ``axis`` is that of the output channels."""
        weight = self.tensors[operator.inputs[1]]
        if weight.dtype != "INT8" or weight.data is None:
            raise ValueError(f"{operator}: weights must be INT8 constants, not {weight.dtype}")
        if weight.data.ndim <= axis:
            raise ValueError(f"{operator}: weights must have 4 dimensions, not {weight.data.ndim}")
        channels, count = weight.shape[axis], len(weight.scales)
        if weight.zero_points.any() or count not in (1, channels) or (weight.axis != axis and count > 1):
            raise ValueError(f"{operator}: weights must be symmetric with one scale, or one per output channel")
        if len(weight.zero_points) != count:
            found = f"{len(weight.zero_points)} and {count}"
            raise ValueError(f"{operator}: weights must have as many zero points as scales, not {found}")
        numbers = operator.inputs[2:3]
        if not numbers or numbers[0] < 0:
            return weight.data, weight.scales, np.zeros(channels, dtype=np.int32)
        bias = self.tensors[numbers[0]]
        if bias.dtype != "INT32" or bias.data is None:
            raise ValueError(f"{operator}: the bias must be an INT32 constant, not {bias.dtype}")
        self._check_bias(operator, weight.scales, bias)
        return weight.data, weight.scales, bias.data

    def _check_bias(self, operator: Operator, scales: np.ndarray, bias: TensorEntry) -> None:
        """Refuse a bias that says another scale than its accumulator's, as far off as LiteRT refuses."""
        if bias.zero_points.any():
            raise ValueError(f"{operator}: the bias must be symmetric, not of zero point {bias.zero_points.max()}")
        if bias.scales.size not in (0, 1, scales.size):
            raise ValueError(
                f"{operator}: the bias must have {scales.size} scales as the weights, not {bias.scales.size}"
            )
        source, output = (self._map(number) for number in (operator.inputs[0], operator.outputs[0]))
        off = np.abs(source.scale * scales.astype(np.float64) - bias.scales) if bias.scales.size else np.zeros(1)
        if off.max() > _BIAS * output.scale:
            raise ValueError(
                f"{operator}: the bias must have the scale of input times weights, not {off.max():.3g} off"
            )

    def convolution(self, operator: Operator, _head: bool) -> Layer:
        """A CONV_2D or DEPTHWISE_CONV_2D, its SAME padding made explicit: the odd row or column goes below or right.

        The depthwise one's weights are (1, height, width, channels); of a single input channel, it is a convolution.
        """
        depthwise = operator.name == "DEPTHWISE_CONV_2D"
        weight, scales, bias = self._constants(operator, axis=3 if depthwise else 0)
        if weight.ndim != 4:
            raise ValueError(f"{operator}: weights must have 4 dimensions, not {weight.ndim}")
        if depthwise:
            weight = np.ascontiguousarray(weight.transpose(3, 1, 2, 0))
        source = self._source(operator)
        kind = DepthwiseConv2D if depthwise and source.shape[2] > 1 else Conv2D
        common = self._layer(operator, kind.kind)
        # PopulateConvolutionQuantizationParams multiplies in double precision.
        factors = source.scale * scales.astype(np.float64) / common["output"].scale
        return kind(
            **common,
            **_weights(operator, weight, bias, factors, Rounding.DOUBLE),
            stride=operator.options["stride"],
            pads=_padding(operator, source.shape[:2], weight.shape[1:3]),
        )

    def linear(self, operator: Operator, head: bool) -> Layer:
        """A FULLY_CONNECTED; the head delivers raw logits."""
        weight, scales, bias = self._constants(operator)
        common = self._layer(operator, "linear")
        source, output = self._source(operator), common["output"]
        if weight.ndim != 2 or weight.shape[1] != np.prod(source.shape):
            raise ValueError(f"{operator}: weights must cover the input {source.shape}, not have {weight.shape}")
        if len(scales) != 1:
            raise ValueError(f"{operator}: weights must share one scale, not have {len(scales)}")
        weight = weight.reshape(len(weight), *source.shape)
        product = source.scale * float(scales[0])
        if not head:
            return Linear(
                **common, **_weights(operator, weight, bias, np.array([product / output.scale]), Rounding.SINGLE)
            )
        if operator.options["activation"] != "NONE":
            raise ValueError(f"{operator}: the head must have no activation, not {operator.options['activation']}")
        common |= {"output": Tensor(shape=output.shape, scale=product, zero_point=0), "clamp": (-128, 127)}
        unused = np.zeros(len(weight), dtype=np.int32)
        return Linear(
            **common, weight=weight, bias=bias, multiplier=unused, shift=unused, rounding=Rounding.SINGLE, raw=True
        )

    def add(self, operator: Operator, _head: bool) -> Layer:
        """An ADD of two computed maps."""
        return Add(**self._layer(operator, "add", sources=2))

    def pool(self, operator: Operator, _head: bool) -> Layer:
        """An AVERAGE_POOL_2D over the whole map or a window."""
        common, window = self._layer(operator, "average_pool"), operator.options["window"]
        if window == self._source(operator).shape[:2]:
            return GlobalAveragePool(**common)
        return AveragePool2D(**common, window=window, stride=operator.options["stride"])

    def max_pool(self, operator: Operator, _head: bool) -> Layer:
        """A MAX_POOL_2D, its SAME padding made explicit."""
        window, size = operator.options["window"], self._source(operator).shape[:2]
        pads = _padding(operator, size, window)
        common = self._layer(operator, MaxPool2D.kind)
        return MaxPool2D(**common, window=window, stride=operator.options["stride"], pads=pads)


_KINDS = {
    "CONV_2D": _Reader.convolution,
    "DEPTHWISE_CONV_2D": _Reader.convolution,
    "FULLY_CONNECTED": _Reader.linear,
    "ADD": _Reader.add,
    "AVERAGE_POOL_2D": _Reader.pool,
    "MAX_POOL_2D": _Reader.max_pool,
}


def _padding(operator: Operator, size: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Rows above and below, columns left and right that a kernel sees beside the map."""
    stride = operator.options["stride"]
    if min(stride) < 1:
        raise ValueError(f"{operator}: strides must be positive, not {stride}")
    if operator.options["padding"] != "SAME":
        return (0, 0, 0, 0)
    rows, columns = (_pads(size[axis], kernel[axis], stride[axis]) for axis in (0, 1))
    return (*rows, *columns)


def _pads(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Explicit pads of SAME: as many outputs as strides begin within the map, an odd pad more behind than before."""
    missing = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    return missing // 2, missing - missing // 2


def _clamp(activation: str, output: Tensor) -> tuple[int, int]:
    """Codes that a fused activation allows (TFLite ``CalculateActivationRangeQuantized``)."""
    real = {"NONE": (None, None), "RELU": (0, None), "RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1)}[activation]
    low, high = (
        None
        if bound is None
        else output.zero_point
        + int(np.copysign(np.floor(abs(np.float32(bound) / np.float32(output.scale)) + 0.5), bound))
        for bound in real
    )
    return max(-128, -128 if low is None else low), min(127, 127 if high is None else high)


def _weights(
    operator: Operator, weight: np.ndarray, bias: np.ndarray, factors: np.ndarray, rounding: Rounding
) -> dict[str, Any]:
    """Fields of a weighted layer from its real requantization factors: one, or one per output channel.

    A channel without weights has the same code everywhere. Converters give it a bias near the limits of int32, for
    which its accumulator would have to be as wide; a scale of one half and twice the result say the same.
    """
    try:
        scales = [quantize_scale(float(factor)) for factor in np.broadcast_to(factors, len(weight))]
    except ValueError as error:
        raise ValueError(f"{operator}: {error}") from error
    multiplier, shift = (np.array([getattr(s, name) for s in scales], dtype=np.int64) for name in Scale._fields)
    arrays = {"bias": bias, "multiplier": multiplier, "shift": shift}
    dead = ~weight.any(axis=tuple(range(1, weight.ndim)))
    if bias.shape == dead.shape:
        constant = 2 * clamp(requantize(bias.astype(np.int64), multiplier, shift, rounding), -255, 255)
        half = quantize_scale(0.5)
        changed = {"bias": constant, "multiplier": half.multiplier, "shift": half.shift}
        arrays = {name: np.where(dead, changed[name], values) for name, values in arrays.items()}
    return {"weight": weight, "rounding": rounding} | {name: a.astype(np.int32) for name, a in arrays.items()}
