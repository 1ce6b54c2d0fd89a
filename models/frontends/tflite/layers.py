"""Operators of a TensorFlow Lite file that multiply by weights, add, or pool: each becomes a layer."""

from collections.abc import Callable

import numpy as np

from hw.network.network import (
    Add,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    GlobalAveragePool,
    Linear,
    MaxPool2D,
    Tensor,
)
from hw.numerics import Rounding
from models.frontends.identities import rescaled, with_zero_logit
from models.frontends.tflite.assembly import NO_PADS, Assembly, TensorPlace, bound
from models.frontends.tflite.file import Operator, TensorEntry
from models.frontends.tflite.rounding import as_real, weighted_fields

__all__ = ["LAYERS", "activation_clamp", "clamp_of", "kept", "same_pads", "summed"]

_BIAS = 0.02  # steps of the output by which a bias's step may be off

#: Real bounds of the activation functions that are followed.
_BOUNDS = {
    "NONE": (None, None),
    "RELU": (0, None),
    "RELU6": (0, 6),
    "RELU_N1_TO_1": (-1, 1),
    "RELU_0_TO_1": (0, 1),
}


def convolution(found: Assembly, operator: Operator) -> None:
    """A CONV_2D or DEPTHWISE_CONV_2D, its padding made explicit; groups and dilation become zero weights.

    The depthwise one's weights are (1, height, width, channels); of a single input channel, it is a convolution.
    """
    depthwise = operator.name == "DEPTHWISE_CONV_2D"
    weight, scales, bias = _constants(found, operator, axis=3 if depthwise else 0, dimensions=4)
    source = found.image(operator, padded=True)
    if depthwise:
        if len(weight) != 1:
            raise ValueError(
                f"{operator.name}: weights must be of shape (1, height, width, channels), not {weight.shape}"
            )
        weight = np.ascontiguousarray(weight.transpose(3, 1, 2, 0))
    weight = _dense(operator, _dilated(operator, weight), source.map.shape[2])
    kind = DepthwiseConv2D if weight.shape[3] < source.map.shape[2] else Conv2D
    output = found.output(operator)
    own = _padding(operator, source.shape[:2], weight.shape[1:3])
    top, bottom, left, right = (a + b for a, b in zip(source.pads, own, strict=True))
    # PopulateConvolutionQuantizationParams multiplies in double precision.
    factors = source.map.scale * scales.astype(np.float64) / output.scale
    layer = kind(
        name=f"{kind.kind}_{operator.position}",
        inputs=(source.name,),
        output=output,
        clamp=activation_clamp(operator, output),
        **weighted_fields(operator.name, weight, bias, factors, Rounding.DOUBLE),
        stride=_stride(operator),
        pads=(top, bottom, left, right),
    )
    found.append(operator, layer)


def _dilated(operator: Operator, weight: np.ndarray) -> np.ndarray:
    """Weights with the zeros between them that a dilation leaves."""
    dilation = operator.options["dilation"]
    if min(dilation) < 1:
        raise ValueError(f"{operator.name} with dilation {dilation}")
    if dilation == (1, 1):
        return weight
    height, width = ((size - 1) * step + 1 for size, step in zip(weight.shape[1:3], dilation, strict=True))
    bound(len(weight) * height * width * weight.shape[3], f"{operator.name}: weights with dilation {dilation}")
    wide = np.zeros((len(weight), height, width, weight.shape[3]), dtype=np.int8)
    wide[:, :: dilation[0], :: dilation[1]] = weight
    return wide


def _dense(operator: Operator, weight: np.ndarray, channels: int) -> np.ndarray:
    """Weights of groups with zeros for the channels of others; those of one channel a group stay what they are."""
    count, *kernel, depth = weight.shape
    if not depth or channels % depth or count % (channels // depth):
        raise ValueError(
            f"{operator.name}: weights {list(weight.shape)} must be of the {channels} input channels or groups"
        )
    if depth == channels or (depth == 1 and count == channels):
        return weight
    bound(count * int(np.prod(kernel, dtype=object)) * channels, f"{operator.name}: weights with zeros between groups")
    wide = np.zeros((count, *kernel, channels), dtype=np.int8)
    each = count // (channels // depth)
    for group in range(channels // depth):
        outputs = slice(group * each, (group + 1) * each)
        wide[outputs, :, :, group * depth : (group + 1) * depth] = weight[outputs]
    return wide


def linear(found: Assembly, operator: Operator) -> None:
    """A FULLY_CONNECTED: over the whole map, or over the channels of every position, which is a 1x1 convolution.

    A head with one weight scale delivers its raw accumulators. Others round as the kernel does, which multiplies by the
    real factor in double precision.
    """
    weight, scales, bias = _constants(found, operator, axis=0, dimensions=2)
    source = found.source(operator)
    height, width, channels = source.map.shape
    count, depth = weight.shape
    last = found.tensors[operator.inputs[0]].shape[-1:]
    each = height * width > 1 and depth == channels and last == (depth,)
    if not each and depth != height * width * channels:
        raise ValueError(f"{operator.name}: weights must cover the input {source.map.shape}, not have {weight.shape}")
    if operator.options["keep_dimensions"] and last != (depth,):
        said = list(found.tensors[operator.inputs[0]].shape)
        raise ValueError(f"FULLY_CONNECTED that keeps dimensions must read {depth} values at its last, not {said}")
    output = found.output(operator, (height, width, count) if each else (1, 1, count))
    product = source.map.scale * scales.astype(np.float64)
    if operator.outputs[0] in found.raw and not each and len(scales) == 1 and operator.options["activation"] == "NONE":
        unused = np.zeros(count, dtype=np.int32)
        head = Linear(
            name=f"{Linear.kind}_{operator.position}",
            inputs=(source.name,),
            output=Tensor(shape=output.shape, scale=float(product[0]), zero_point=0),
            weight=weight.reshape(count, height, width, channels),
            bias=bias,
            multiplier=unused,
            shift=unused,
            rounding=Rounding.SINGLE,
            raw=True,
        )
        found.append(operator, with_zero_logit(head) if count == 1 else head)
        return
    kind, factors = Conv2D if each else Linear, np.broadcast_to(product / output.scale, count)
    weight = weight.reshape((count, 1, 1, depth) if each else (count, height, width, channels))
    fields = weighted_fields(operator.name, weight, bias, factors, Rounding.SINGLE)
    low, high = (code - source.map.zero_point for code in found.codes(source))
    fields["multiplier"] = as_real(operator.name, fields, factors, low, high)
    layer = kind(
        name=f"{kind.kind}_{operator.position}",
        inputs=(source.name,),
        output=output,
        clamp=activation_clamp(operator, output),
        **fields,
    )
    found.append(operator, layer)


def summed(found: Assembly, operator: Operator, first: TensorPlace, second: TensorPlace) -> None:
    """The ADD of two maps."""
    if first.map.shape != second.map.shape:
        raise ValueError(
            f"{operator.name} must read maps of equal shapes, not {first.map.shape} and {second.map.shape}"
        )
    output = found.output(operator, first.map.shape)
    name, inputs = f"{operator.name.lower()}_{operator.position}", (first.name, second.name)
    found.append(operator, Add(name=name, inputs=inputs, output=output, clamp=activation_clamp(operator, output)))


def average_pool(found: Assembly, operator: Operator) -> None:
    """An AVERAGE_POOL_2D over the whole map or a window."""
    source, window, stride = found.image(operator), operator.options["window"], _stride(operator)
    size, output = source.map.shape[:2], found.output(operator)
    name, clamp = f"average_pool_{operator.position}", activation_clamp(operator, output)
    pads = _padding(operator, size, window)
    if any(pads):
        if output.shape[:2] != (1, 1) or window[0] - pads[0] < size[0] or window[1] - pads[2] < size[1]:
            raise ValueError(
                "AVERAGE_POOL_2D with padding, whose divisor is another at the edges; nearest: without padding"
            )
        window = size
    if window == (1, 1):
        kept(found, operator, source, output, clamp, stride)
    elif window == size:
        found.append(operator, GlobalAveragePool(name=name, inputs=(source.name,), output=output, clamp=clamp))
    else:
        found.append(
            operator,
            AveragePool2D(name=name, inputs=(source.name,), output=output, clamp=clamp, window=window, stride=stride),
        )


def max_pool(found: Assembly, operator: Operator) -> None:
    """A MAX_POOL_2D, its padding made explicit. Zeros around a map without codes below them are never the largest."""
    window, stride = operator.options["window"], _stride(operator)
    source = found.image(operator, padded=True)
    own = _padding(operator, source.shape[:2], window)
    top, bottom, left, right = pads = tuple(a + b for a, b in zip(source.pads, own, strict=True))
    inside = max(top, bottom) < window[0] and max(left, right) < window[1]
    if source.pads != NO_PADS and (not inside or found.codes(source)[0] < source.map.zero_point):
        source, pads = found.image(operator), own
    output = found.output(operator)
    clamp = activation_clamp(operator, output)
    if window == (1, 1):
        kept(found, operator, source, output, clamp, stride)
        return
    layer = MaxPool2D(
        name=f"{MaxPool2D.kind}_{operator.position}",
        inputs=(source.name,),
        output=output,
        clamp=clamp,
        window=window,
        stride=stride,
        pads=(pads[0], pads[1], pads[2], pads[3]),
    )
    found.append(operator, layer)


def kept(
    found: Assembly,
    operator: Operator,
    source: TensorPlace,
    output: Tensor,
    clamp: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
) -> None:
    """What gives codes on as they are, all or every so many, clamped."""
    if (source.map.scale, source.map.zero_point) != (output.scale, output.zero_point):
        raise ValueError(f"{operator.name} must keep scale and zero point")
    low, high = found.codes(source)
    if stride == (1, 1):
        if clamp[0] <= low and high <= clamp[1]:
            found.same(operator, source)
            return
        if found.clamped(operator, clamp):
            return
    copy = rescaled(f"{operator.name.lower()}_{operator.position}", source.name, source.map, clamp=clamp)
    fields = vars(copy) | {"output": output, "stride": stride}
    found.append(operator, type(copy)(**fields))


LAYERS: dict[str, Callable[[Assembly, Operator], None]] = {
    "AVERAGE_POOL_2D": average_pool,
    "CONV_2D": convolution,
    "DEPTHWISE_CONV_2D": convolution,
    "FULLY_CONNECTED": linear,
    "MAX_POOL_2D": max_pool,
}


def _constants(
    found: Assembly, operator: Operator, axis: int, dimensions: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weight codes, weight scales and bias; ``axis`` is that of the output channels."""
    name, weight = operator.name, found.tensors[operator.inputs[1]]
    if weight.dtype != "INT8" or weight.data is None:
        raise ValueError(f"{name}: weights must be INT8 constants, not {weight.dtype}")
    if weight.data.ndim != dimensions:
        raise ValueError(f"{name}: weights must have {dimensions} dimensions, not {weight.data.ndim}")
    channels, count = weight.shape[axis], len(weight.scales)
    if weight.zero_points.any() or count not in (1, channels) or (weight.axis != axis and count > 1):
        raise ValueError(f"{name}: weights must be symmetric with one scale, or one per output channel")
    if len(weight.zero_points) != count:
        raise ValueError(
            f"{name}: weights must have as many zero points as scales, not {len(weight.zero_points)} and {count}"
        )
    numbers = operator.inputs[2:3]
    if not numbers or numbers[0] < 0:
        return weight.data, weight.scales, np.zeros(channels, dtype=np.int32)
    bias = found.tensors[numbers[0]]
    if bias.dtype != "INT32" or bias.data is None:
        raise ValueError(f"{name}: the bias must be an INT32 constant, not {bias.dtype}")
    if bias.shape != (channels,):
        raise ValueError(f"{name}: the bias must be of {channels} values, not of shape {bias.shape}")
    _check_bias(found, operator, weight.scales, bias)
    return weight.data, weight.scales, bias.data


def _check_bias(found: Assembly, operator: Operator, scales: np.ndarray, bias: TensorEntry) -> None:
    """Refuse a bias that says another scale than its accumulator's, as far off as LiteRT refuses."""
    if bias.zero_points.any():
        raise ValueError(f"{operator.name}: the bias must be symmetric, not of zero point {bias.zero_points.max()}")
    if bias.scales.size not in (0, 1, scales.size):
        raise ValueError(
            f"{operator.name}: the bias must have {scales.size} scales as the weights, not {bias.scales.size}"
        )
    source, output = (found.quantization(number)[0] for number in (operator.inputs[0], operator.outputs[0]))
    off = np.abs(source * scales.astype(np.float64) - bias.scales) if bias.scales.size else np.zeros(1)
    if off.max(initial=0) > _BIAS * output:
        raise ValueError(
            f"{operator.name}: the bias must have the scale of input times weights, not {off.max():.3g} off"
        )


def _stride(operator: Operator) -> tuple[int, int]:
    stride: tuple[int, int] = operator.options["stride"]
    if min(stride) < 1:
        raise ValueError(f"{operator.name}: strides must be positive, not {stride}")
    return stride


def _padding(operator: Operator, size: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Rows above and below, columns left and right that a kernel sees beside the map: the odd one below or right."""
    padding, stride = operator.options["padding"], _stride(operator)
    if padding not in ("SAME", "VALID"):
        raise ValueError(f"{operator.name} with padding {padding}")
    if padding == "VALID":
        return NO_PADS
    return same_pads(size, kernel, stride)


def same_pads(size: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, int]) -> tuple[int, int, int, int]:
    """Explicit pads of SAME: rows above and below, columns left and right."""
    rows, columns = (_pads(size[axis], kernel[axis], stride[axis]) for axis in (0, 1))
    return (*rows, *columns)


def _pads(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Explicit pads of SAME: as many outputs as strides begin within the map, an odd pad more behind than before."""
    missing = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    return missing // 2, missing - missing // 2


def activation_clamp(operator: Operator, output: Tensor, activation: str | None = None) -> tuple[int, int]:
    """Codes that an activation allows, by default the fused one (TFLite ``CalculateActivationRangeQuantized``)."""
    activation = activation or operator.options["activation"]
    if activation not in _BOUNDS:
        followed = ", ".join(_BOUNDS)
        raise ValueError(f"{operator.name} with activation {activation}; nearest: {followed}")
    return clamp_of(activation, output)


def clamp_of(activation: str, output: Tensor) -> tuple[int, int]:
    """Codes that a followed activation allows."""
    codes = []
    for real, most in zip(_BOUNDS[activation], (-128, 127), strict=True):
        if real is None:
            codes.append(most)
            continue
        # Far outside the codes where float32 holds no quotient.
        steps = np.floor(min(abs(real) / float(np.float32(output.scale)), 1e9) if real else 0.0)
        if real and steps < 1e8:
            steps = np.floor(np.abs(np.float32(real) / np.float32(output.scale)) + 0.5)
        codes.append(output.zero_point + int(np.copysign(steps, real)))
    low, high = max(-128, codes[0]), min(127, codes[1])
    return low, high
