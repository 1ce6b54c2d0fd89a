"""Operators of a TensorFlow Lite file that the accelerator has no layer of: each becomes convolutions, or a sum.

What they compute is what LiteRT's reference kernels do (2.3.0), to the code: all of them round as convolutions do.
"""

from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np

from hw.network.network import INPUT, Conv2D, DepthwiseConv2D, Tensor
from hw.numerics import IDENTITY, Rounding, Scale
from models.frontends.identities import concatenated
from models.frontends.requantization import uniform_scale
from models.frontends.tflite.assembly import Assembly, TensorPlace, bound
from models.frontends.tflite.file import Operator
from models.frontends.tflite.layers import activation_clamp, kept, summed
from models.frontends.tflite.rounding import channel_scale

__all__ = ["ELEMENTWISE"]

#: Copies of a map that are added up, at most.
_COPIES = 8


def rescaling(found: Assembly, operator: Operator) -> None:
    """A QUANTIZE, or an activation that stands alone. What the network's input is before it has codes is the image."""
    free = operator.name == "QUANTIZE"
    source = found.source(operator, coded=not free)
    if source.name == INPUT and found.tensors[operator.inputs[0]].dtype != "INT8":
        if found.quantization(operator.outputs[0]) != (source.map.scale, source.map.zero_point):
            raise ValueError("QUANTIZE of the network's input to other codes than an earlier one; nearest: the same")
        found.same(operator, source)
        return
    output = found.output(operator, source.map.shape, coded=not free)
    clamp = activation_clamp(operator, output, "NONE" if free else operator.name)
    if (output.scale, output.zero_point) == (source.map.scale, source.map.zero_point):
        kept(found, operator, source, output, clamp)
        return
    factor = source.map.scale / output.scale
    if not free:  # ReluPrepare divides in single precision, QUANTIZE in double.
        factor = float(np.float32(source.map.scale) / np.float32(output.scale))
    _times(found, operator, source, output, clamp, factor, np.ones(source.map.shape[2], dtype=np.int64))


def multiplication(found: Assembly, operator: Operator) -> None:
    """The MUL of a map and constants, one or one per channel."""
    index, values, scale, _ = _constant(found, operator)
    source = found.source(operator, index)
    output = found.output(operator, source.map.shape)
    clamp = activation_clamp(operator, output)
    _times(found, operator, source, output, clamp, source.map.scale * scale / output.scale, values)


def _times(
    found: Assembly,
    operator: Operator,
    source: TensorPlace,
    output: Tensor,
    clamp: tuple[int, int],
    factor: float,
    values: np.ndarray,
) -> None:
    """A map's activations times an integer per channel and one real factor, rounded twice.

    An integer that int8 doesn't hold is a sum of some that it does: of so many copies of the channel.
    """
    power, scale = _scaled(operator.name, factor)
    whole = values * power
    copies = max(1, -(-int(np.abs(whole).max()) // 127))
    if copies > _COPIES:
        raise ValueError(
            f"{operator.name} by {factor * np.abs(values).max():.3g} codes a code; nearest: a coarser output"
        )
    scales = [scale] * len(values)
    if copies == 1:
        found.append(operator, _channels(operator, source, output, clamp, whole, scales, Rounding.DOUBLE))
        return
    bound(len(values) ** 2 * copies, f"{operator.name}: weights of 0 and 1")
    name = f"{operator.name.lower()}_{operator.position}.copies"
    *_, layer = concatenated(
        name,
        [(source.name, source.map)] * copies,
        replace(source.map, shape=(*source.map.shape[:2], len(values) * copies)),
    )
    view, channels = found.help(layer), np.arange(len(values))
    weight = np.zeros((len(values), 1, 1, len(values) * copies), dtype=np.int8)
    for copy in range(copies):
        part = np.sign(whole) * ((np.abs(whole) + copy) // copies)
        weight[channels, 0, 0, copy * len(values) + channels] = part
    single = _channels(operator, view, output, clamp, values, scales, Rounding.DOUBLE)
    found.append(operator, Conv2D(**vars(single) | {"weight": weight}))


def _scaled(name: str, factor: float) -> tuple[int, Scale]:
    """:func:`channel_scale`, whose error names the operator."""
    try:
        return channel_scale(factor)
    except ValueError as error:
        raise ValueError(f"{name}: {error}; nearest: a coarser output") from error


def _channels(
    operator: Operator,
    source: TensorPlace,
    output: Tensor,
    clamp: tuple[int, int],
    weight: np.ndarray,
    scales: list[Scale],
    rounding: Rounding,
    name: str = "",
) -> Conv2D | DepthwiseConv2D:
    """A convolution of every channel by itself at every position."""
    kind = DepthwiseConv2D if len(weight) > 1 else Conv2D
    return kind(
        name=name or f"{operator.name.lower()}_{operator.position}",
        inputs=(source.name,),
        output=output,
        clamp=clamp,
        weight=weight.astype(np.int8).reshape(-1, 1, 1, 1),
        bias=np.zeros(len(weight), dtype=np.int32),
        multiplier=np.array([scale.multiplier for scale in scales], dtype=np.int32),
        shift=np.array([scale.shift for scale in scales], dtype=np.int32),
        rounding=rounding,
    )


def _constant(found: Assembly, operator: Operator) -> tuple[int, np.ndarray, float, int]:
    """Which operand isn't constant; activations of the other, one per channel, its scale and zero point."""
    numbers = operator.inputs
    constants = [index for index in (0, 1) if found.tensors[numbers[index]].data is not None]
    if len(constants) != 1:
        what = "two maps" if not constants else "two constants"
        raise ValueError(
            f"{operator.name} of {what}; nearest: {operator.name} of a map and a constant, or ADD of two maps"
        )
    index = 1 - constants[0]
    number = numbers[constants[0]]
    if found.tensors[number].dtype != "INT8":
        raise ValueError(f"{found.label(number)} must be INT8, not {found.tensors[number].dtype}")
    scale, zero_point = found.quantization(number)
    data, view = found.tensors[number].data, found.padded(operator, index)
    assert data is not None
    said = found.tensors[numbers[index]].shape
    channels = view.map.shape[2]
    if data.size not in (1, channels) or (data.size > 1 and (data.shape[-1] != channels or said[-1] != channels)):
        raise ValueError(
            f"{operator.name} must have one constant, or one per channel of {list(said)}, not {list(data.shape)}"
        )
    return index, np.broadcast_to(data.reshape(-1).astype(np.int64) - zero_point, channels), scale, zero_point


def addition(found: Assembly, operator: Operator) -> None:
    """An ADD or SUB of two maps, or of a map and constants; what is subtracted is negated first."""
    minus = operator.name == "SUB"
    if all(found.tensors[number].data is None for number in operator.inputs):
        first, second = (found.source(operator, index) for index in (0, 1))
        summed(found, operator, first, _negated(found, operator, second) if minus else second)
        return
    index, values, scale, zero_point = _constant(found, operator)
    source = found.source(operator, index)
    if minus and index == 1:
        source = _negated(found, operator, source)
    elif minus:
        values, zero_point = -values, -1 - zero_point
    # A channel without weights holds the same code everywhere: that of its bias.
    height, width, channels = source.map.shape
    constant = Tensor(shape=(height, width, channels), scale=scale, zero_point=zero_point)
    zeros, name = np.zeros(channels, dtype=np.int8), f"{operator.name.lower()}_{operator.position}.constant"
    layer = _channels(operator, source, constant, (-128, 127), zeros, [IDENTITY] * channels, Rounding.SINGLE, name)
    view = found.help(replace(layer, bias=values.astype(np.int32)))
    summed(found, operator, source, view)


def _negated(found: Assembly, operator: Operator, source: TensorPlace) -> TensorPlace:
    """A map with all signs changed: code q becomes -1 - q, and the zero point with it."""
    tensor = replace(source.map, zero_point=-1 - source.map.zero_point)
    low, high = found.codes(source)
    weight = np.full(tensor.shape[2], -1, dtype=np.int8)
    name, scales = f"{operator.name.lower()}_{operator.position}.negative", [IDENTITY] * len(weight)
    return found.help(_channels(operator, source, tensor, (-1 - high, -1 - low), weight, scales, Rounding.SINGLE, name))


def mean(found: Assembly, operator: Operator) -> None:
    """A MEAN over rows, columns, channels or several of them: a convolution of ones, because a pool rounds otherwise.

    The kernel divides the multiplier by the number of values (``QuantizedMeanOrSum``).
    """
    source, axes = found.source(operator), found.constant(operator, 1, "axes")
    said = found.tensors[operator.inputs[0]].shape
    if found.shape(operator.inputs[0]) != source.map.shape:
        raise ValueError(f"MEAN must read a map as it was computed, {[1, *source.map.shape]}, not {list(said)}")
    chosen = {int(axis) for axis in axes.reshape(-1)}
    if not chosen or not all(-len(said) <= axis < len(said) for axis in chosen):
        raise ValueError(f"MEAN over axes {sorted(chosen)[:8]} of a tensor of shape {list(said)}")
    over = {axis % len(said) - len(said) for axis in chosen}
    if over & {-len(said)} and len(said) > 1:
        raise ValueError("MEAN over the batch; nearest: over rows, columns or channels")
    height, width, channels = source.map.shape
    kernel = (height if -3 in over else 1, width if -2 in over else 1)
    shape = (height // kernel[0], width // kernel[1], 1 if -1 in over else channels)
    output, count = found.output(operator, shape), prod(kernel) * (channels if -1 in over else 1)
    power, scale = _mean_scale(source.map.scale / output.scale, count)
    same = (source.map.scale, source.map.zero_point) == (output.scale, output.zero_point)
    name = f"mean_{operator.position}"
    if same and count == 1:
        kept(found, operator, source, output, (-128, 127))
    else:
        kind = DepthwiseConv2D if shape[2] > 1 else Conv2D
        depth = channels if -1 in over else 1
        bound(shape[2] * prod(kernel) * depth, f"MEAN: as many ones for {list(said)}")
        layer = kind(
            name=name,
            inputs=(source.name,),
            output=output,
            weight=np.full((shape[2], *kernel, depth), power, dtype=np.int8),
            rounding=Rounding.DOUBLE,
            **uniform_scale(shape[2], scale),
        )
        found.append(operator, layer)


def _mean_scale(factor: float, count: int) -> tuple[int, Scale]:
    """A power of two for the ones, and the scale, of a mean of so many activations."""
    power, (multiplier, shift) = _scaled("MEAN", factor)
    doublings = power.bit_length() - 1 - shift  # TFLite's shift, which is to the left
    more = min(count.bit_length() - 1, 32, 31 + doublings)
    multiplier, doublings = (multiplier << more) // count, doublings - more
    if doublings > 6:
        raise ValueError(f"MEAN from a scale {factor:.3g} times the output's; nearest: less than 64 times")
    return 1 << max(doublings, 0), Scale(multiplier, max(-doublings, 0))


def pad(found: Assembly, operator: Operator) -> None:
    """A PAD or PADV2 with zeros: those of rows and columns are left to what reads them, channels are made."""
    name, source = operator.name, found.padded(operator)
    number = operator.inputs[0]
    pads, said = found.constant(operator, 1, "pads"), found.tensors[number].shape
    if pads.shape != (len(said), 2) or pads.min(initial=0) < 0:
        raise ValueError(
            f"{name} must have two pads of at least 0 for each of {len(said)} dimensions, not {pads.tolist()!s:.80}"
        )
    if found.shape(number) != source.shape:
        raise ValueError(f"{name} must read a map as it was computed, {[1, *source.shape]}, not {list(said)}")
    if found.quantization(number) != found.quantization(operator.outputs[0]):
        raise ValueError(f"{name} must keep scale and zero point")
    if name == "PADV2":
        value = found.constant(operator, 2, "value")
        if value.size != 1 or value.reshape(-1)[0] != source.map.zero_point:
            raise ValueError(
                f"PADV2 with {value.reshape(-1)[:1].tolist()}; nearest: the zero point {source.map.zero_point}"
            )
    rows, columns, channels = ([0, 0], *pads.tolist()[1:])[-3:] if len(said) == 3 else pads.tolist()[-3:]
    if len(said) not in (3, 4) or any(pads[0]):
        raise ValueError(
            f"{name} of the batch, or of a tensor of shape {list(said)}; nearest: rows, columns and channels"
        )
    height, width, depth = source.shape
    shape = (height + sum(rows), width + sum(columns), depth + sum(channels))
    output = found.output(operator, shape)
    whole = tuple(before + more for before, more in zip(source.pads, (*rows, *columns), strict=True))
    around = (whole[0], whole[1], whole[2], whole[3])
    if not any(channels):
        view = replace(source, pads=around)
        (found.same if around == source.pads else found.later)(operator, view)
        return
    bound(shape[2] * depth, f"{name}: weights of 0 and 1")
    weight = np.zeros((shape[2], 1, 1, depth), dtype=np.int8)
    weight[channels[0] + np.arange(depth), 0, 0, np.arange(depth)] = 1
    layer = Conv2D(
        name=f"{name.lower()}_{operator.position}",
        inputs=(source.name,),
        output=output,
        weight=weight,
        rounding=Rounding.SINGLE,
        pads=around,
        **uniform_scale(shape[2], IDENTITY),
    )
    found.append(operator, layer)


def concatenation(found: Assembly, operator: Operator) -> None:
    """A CONCATENATION of maps along channels, rows or columns."""
    sources = [found.source(operator, index) for index in range(len(operator.inputs))]
    axis, said = operator.options["axis"], [found.tensors[number].shape for number in operator.inputs]
    if operator.options["activation"] != "NONE":
        raise ValueError(f"CONCATENATION with activation {operator.options['activation']}; nearest: none")
    axes = {axis if axis < 0 else axis - len(shape) for shape in said}
    along = axes.pop() if len(axes) == 1 else 0
    if not -3 <= along < 0 or any(
        len(shape) <= -along or shape[along:] != view.map.shape[along:]
        for shape, view in zip(said, sources, strict=True)
    ):
        raise ValueError(
            f"CONCATENATION of {[list(shape) for shape in said]!s:.80} along {axis}; "
            "nearest: along channels, rows or columns"
        )
    own = along + 3
    if len({view.map.shape[:own] + view.map.shape[own + 1 :] for view in sources}) > 1:
        raise ValueError(f"CONCATENATION of maps of sizes {sorted({view.map.shape for view in sources})}")
    total = sum(view.map.shape[own] for view in sources)
    output = found.output(operator, _with(sources[0].map.shape, own, total))
    if {(view.map.scale, view.map.zero_point) for view in sources} != {(output.scale, output.zero_point)}:
        raise ValueError("CONCATENATION must keep scales and zero points")
    bound(output.shape[2] ** 2, "CONCATENATION: weights of 0 and 1")
    maps = [(view.name, view.map) for view in sources]
    *before, last = concatenated(f"concatenation_{operator.position}", maps, output, axis=own)
    for layer in before:
        found.help(layer)
    found.append(operator, last)


def _with(shape: tuple[int, int, int], axis: int, size: int) -> tuple[int, int, int]:
    """A shape with another size along an axis."""
    height, width, channels = (size if number == axis else each for number, each in enumerate(shape))
    return height, width, channels


ELEMENTWISE: dict[str, Callable[[Assembly, Operator], None]] = {
    "ADD": addition,
    "CONCATENATION": concatenation,
    "MEAN": mean,
    "MUL": multiplication,
    "PAD": pad,
    "PADV2": pad,
    "QUANTIZE": rescaling,
    "RELU": rescaling,
    "RELU6": rescaling,
    "RELU_0_TO_1": rescaling,
    "RELU_N1_TO_1": rescaling,
    "SUB": addition,
}
