"""Layers that copy, rescale, concatenate and read out maps of an integer network.

A 1x1 convolution with one weight for each channel gives a map on as it is, or on another scale. With it the accelerator
does what it has no operator for: a sum that no convolution stands before, a concatenation, an output that no linear
layer makes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from hw.config import WORD_CHANNELS
from hw.network.network import INPUT, Add, Conv2D, DepthwiseConv2D, Layer, Linear, MaxPool2D, Tensor
from hw.network.zero_points import code_ranges
from hw.numerics import Rounding, Scale, quantize_scale
from models.frontends.requantization import uniform_scale, weighted_fields

__all__ = [
    "MAX_OUTPUTS",
    "ONE_VALUE",
    "affine",
    "averaged",
    "concatenated",
    "own_logits",
    "raw_output",
    "rescaled",
    "runnable",
    "with_logits",
    "with_zero_logit",
]

#: Most values that a network without a classifier may give: its last layer has the square of this in weights.
MAX_OUTPUTS = 2048
#: What is said of an output of one value (:func:`with_zero_logit`).
ONE_VALUE = "one value: class 1 says that it is above zero, class 0 that it isn't"

_LARGEST = 64  # weight, a power of two that int8 holds


def rescaled(
    name: str,
    source: str,
    before: Tensor,
    after: Tensor | None = None,
    clamp: tuple[int, int] = (-128, 127),
) -> Conv2D | DepthwiseConv2D:
    """A convolution that gives the codes of a map on another scale, or as they are.

    Parameters
    ----------
    name : str
    source : str
        Name of the map.
    before : Tensor
        The map.
    after : Tensor or None
        What it becomes, of the same shape; None: what it is. Where the scales are equal, every code is exact.
    clamp : tuple of 2 int

    Raises
    ------
    ValueError
        When a step of the one scale is 64 or more of the other; the message names the layer.
    """
    after = before if after is None else after
    weight, scale = _factor(name, before.scale, after.scale)
    channels = before.shape[2]
    kind = DepthwiseConv2D if channels > 1 else Conv2D
    return kind(
        name=name,
        inputs=(source,),
        output=after,
        clamp=clamp,
        rounding=Rounding.SINGLE,
        weight=np.full((channels, 1, 1, 1), weight, dtype=np.int8),
        **uniform_scale(channels, scale),
    )


def averaged(
    name: str,
    source: str,
    before: Tensor,
    after: Tensor,
    window: tuple[int, int],
    stride: tuple[int, int],
    clamp: tuple[int, int] = (-128, 127),
) -> Conv2D | DepthwiseConv2D:
    """A convolution that averages windows of a map on another scale, with one rounding for both.

    Raises
    ------
    ValueError
        When a step of the map is 64 or more of the result, times the window's positions; the message names the layer.
    """
    weight, scale = _factor(name, before.scale / math.prod(window), after.scale)
    channels = before.shape[2]
    kind = DepthwiseConv2D if channels > 1 else Conv2D
    return kind(
        name=name,
        inputs=(source,),
        output=after,
        clamp=clamp,
        rounding=Rounding.SINGLE,
        weight=np.full((channels, *window, 1), weight, dtype=np.int8),
        stride=stride,
        **uniform_scale(channels, scale),
    )


def affine(
    name: str,
    source: str,
    before: Tensor,
    after: Tensor,
    gain: np.ndarray,
    offset: np.ndarray,
    clamp: tuple[int, int] = (-128, 127),
) -> Conv2D | DepthwiseConv2D:
    """A convolution that multiplies each channel of a map by a gain, adds an offset, and gives another scale.

    Parameters
    ----------
    gain, offset : float array, (channels,)
        Real values. Offsets are rounded to a 64th of a code of the result, or finer: each channel has the weight for
        which that changes its offset least.

    Raises
    ------
    ValueError
        When a step of the map is 64 or more of the result, times its gain, or an offset is beyond all codes; the
        message names the layer.
    """
    factors = before.scale * np.abs(gain) / after.scale
    least = np.exp2(np.ceil(np.log2(np.clip(_LARGEST * factors, 1, _LARGEST))))
    tried = np.minimum(least + np.arange(_LARGEST)[:, None], 127)
    steps = np.where(gain == 0, after.scale, before.scale * np.abs(gain) / tried)
    off = np.abs(offset - steps * np.rint(offset / steps))
    weight, units = (np.take_along_axis(each, off.argmin(axis=0)[None], axis=0)[0] for each in (tried, steps))
    weights = (weight * np.sign(gain)).astype(np.int8).reshape(-1, 1, 1, 1)
    kind = DepthwiseConv2D if len(weights) > 1 else Conv2D
    bias = np.rint(offset / units)
    fields = weighted_fields(name, weights, bias, np.minimum(units, after.scale) / after.scale, Rounding.SINGLE)
    return kind(name=name, inputs=(source,), output=after, clamp=clamp, **fields)


def concatenated(
    name: str,
    sources: Sequence[tuple[str, Tensor]],
    output: Tensor,
    clamp: tuple[int, int] = (-128, 127),
    axis: int = 2,
) -> list[Layer]:
    """Layers that put maps side by side; the last one has the name.

    Each map becomes as large as the result, with zeros beside its own values; then they are added up, which is exact,
    as their scales are equal. What is on the result's scale already is given on exactly.

    Parameters
    ----------
    name : str
    sources : sequence of (str, Tensor)
        Names and maps, in order, equal in their other sizes; a map may come more than once.
    output : Tensor
    clamp : tuple of 2 int
    axis : int
        Which sizes add up: 0 rows, 1 columns, 2 channels.

    Raises
    ------
    ValueError
        When a step of a map is 64 or more of the result; the message names the layer.
    """
    ends = np.cumsum([tensor.shape[axis] for _, tensor in sources])
    starts: dict[tuple[str, int], list[int]] = {}
    for number, ((source, tensor), end) in enumerate(zip(sources, ends, strict=True)):
        once = (source, 0 if axis == 2 else number)  # One convolution puts channels at several offsets, but not rows.
        starts.setdefault(once, []).append(int(end) - tensor.shape[axis])
    maps, layers = dict(sources), list[Layer]()
    for number, ((source, _), offsets) in enumerate(starts.items()):
        only, first, last = len(starts) == 1, number == 0, number == len(starts) - 1
        part = f"{name}.part{number}" if not only else name
        if axis == 2:
            layers.append(_widened(part, source, maps[source], output, offsets, clamp))
        else:
            layers.append(_among_zeros(part, source, maps[source], output, offsets[0], clamp, axis))
        if not first:
            inputs = (layers[-1].name, layers[-2].name)
            layers.append(Add(name=name if last else f"{name}.sum{number}", inputs=inputs, output=output, clamp=clamp))
    return layers


def _among_zeros(
    name: str, source: str, before: Tensor, output: Tensor, offset: int, clamp: tuple[int, int], axis: int
) -> Layer:
    """A convolution that puts a map's rows or columns at an offset in a larger map, and zeros elsewhere."""
    behind = output.shape[axis] - before.shape[axis] - offset
    pads = (offset, behind, 0, 0) if axis == 0 else (0, 0, offset, behind)
    copy = rescaled(name, source, before, replace(output, shape=before.shape), clamp)
    return replace(copy, output=output, pads=pads)


def _widened(
    name: str, source: str, before: Tensor, output: Tensor, offsets: Sequence[int], clamp: tuple[int, int]
) -> Conv2D:
    """A convolution that puts a map's channels at these offsets in a wider map, and zeros elsewhere."""
    weight, scale = _factor(name, before.scale, output.scale)
    weights = np.zeros((output.shape[2], 1, 1, before.shape[2]), dtype=np.int8)
    for offset in offsets:
        channels = np.arange(before.shape[2])
        weights[offset + channels, 0, 0, channels] = weight
    return Conv2D(
        name=name,
        inputs=(source,),
        output=output,
        clamp=clamp,
        rounding=Rounding.SINGLE,
        weight=weights,
        **uniform_scale(len(weights), scale),
    )


def raw_output(name: str, source: str, tensor: Tensor, *, channels_first: bool) -> Linear:
    """A head that gives a map's codes as they are, less the zero point: the outputs of a network without classifier.

    Parameters
    ----------
    name : str
    source : str
        Name of the map.
    tensor : Tensor
        The map.
    channels_first : bool
        Whether the outputs' order is that of (channels, height, width), and not of (height, width, channels).

    Returns
    -------
    Linear
        Raw. A map of one value gives two logits (:func:`with_zero_logit`).

    Raises
    ------
    ValueError
        When the map has more than :data:`MAX_OUTPUTS` values; the message names it.
    """
    count = math.prod(tensor.shape)
    if count > MAX_OUTPUTS:
        raise ValueError(f"{source}: a network's output must have at most {MAX_OUTPUTS} values, not {count}")
    numbers = np.arange(count).reshape(tensor.shape)
    if channels_first:
        height, width, channels = tensor.shape
        numbers = np.arange(count).reshape(channels, height, width).transpose(1, 2, 0)
    weight = np.zeros((count, *tensor.shape), dtype=np.int8)
    weight[(numbers.reshape(-1), *np.indices(tensor.shape).reshape(3, -1))] = 1
    head = Linear(
        name=name,
        inputs=(source,),
        output=Tensor(shape=(1, 1, count), scale=tensor.scale, zero_point=0),
        rounding=Rounding.SINGLE,
        weight=weight,
        raw=True,
        **uniform_scale(count, Scale(0, 0)),
    )
    return with_zero_logit(head) if count == 1 else head


def with_zero_logit(head: Linear) -> Linear:
    """A raw head of one output, with another logit before it that is always 0.

    An exit compares two logits at least. Class 1 then means that the output is above 0, class 0 that it isn't, as a
    sigmoid above one half says yes; the margin is the output's magnitude.
    """
    weight = np.concatenate([np.zeros_like(head.weight), head.weight])
    unused = uniform_scale(2, Scale(0, 0))
    bias = np.concatenate([np.zeros_like(head.bias), head.bias])
    return replace(head, weight=weight, output=replace(head.output, shape=(1, 1, 2)), **unused | {"bias": bias})


def own_logits(logits: np.ndarray, count: int) -> np.ndarray:
    """The logits that are a source's own ``count`` outputs, of (N, logits): not those that were added to them.

    :func:`with_zero_logit` adds one before a single output, :func:`with_logits` adds some behind all.
    """
    first = 1 if count == 1 else 0
    return logits[:, first : first + count]


def with_logits(head: Linear, source: Tensor, count: int) -> Linear:
    """A raw head with so many logits: those that it hasn't are the least that any of its own can be.

    Parameters
    ----------
    source : Tensor
        What the head reads.
    """
    more = count - len(head.weight)
    if not more:
        return head
    weight, ends = head.weight.reshape(len(head.weight), -1).astype(np.int64), np.array([-128, 127]) - source.zero_point
    lowest = np.minimum(weight * ends[0], weight * ends[1]).sum(axis=1) + head.bias
    bias = np.concatenate([head.bias, np.full(more, lowest.min(), dtype=np.int32)])
    weight = np.concatenate([head.weight, np.zeros((more, *head.weight.shape[1:]), dtype=np.int8)])
    unused = uniform_scale(count, Scale(0, 0))
    return replace(head, weight=weight, output=replace(head.output, shape=(1, 1, count)), **unused | {"bias": bias})


def runnable(image: Tensor, layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """The same layers in a form that the compiler takes, copies of maps among them; every tensor stays what it is.

    An add stands directly behind a convolution that only it reads, which reads another map than the one that is added.
    A max pool's input has no code below its zero point where other layers read it, too, or where it is a sum whose
    channels don't fill their last word.
    """
    ordered = list(layers)
    for add in [layer for layer in ordered if isinstance(layer, Add)]:
        ordered = _possible(add, ordered, image)
    for name, tensor in ({INPUT: image} | {layer.name: layer.output for layer in ordered}).items():
        ordered = _own_copy(name, tensor, ordered)
    return tuple(ordered)


def _possible(add: Add, layers: list[Layer], image: Tensor) -> list[Layer]:
    """The layers with a convolution right before an add to which it can be fused."""
    tensors = {INPUT: image} | {layer.name: layer.output for layer in layers}
    read, copies, inputs = [name for layer in layers for name in layer.inputs], list[Layer](), add.inputs
    fusable = [
        layer
        for layer in layers
        if isinstance(layer, Conv2D | DepthwiseConv2D)
        and layer.name in inputs
        and read.count(layer.name) == 1
        and not set(layer.inputs) & set(inputs)
    ]
    if not fusable:
        for _ in range(2 if inputs[0] == inputs[1] else 1):  # A copy of a copy reads another map than the one added.
            name = _unused(f"{add.name}.copy", [*layers, *copies])
            copies.append(rescaled(name, inputs[0], tensors[add.inputs[0]]))
            inputs = (name, inputs[1])
    *earlier, before = copies or fusable[-1:]
    rest = [layer for layer in layers if layer.name not in (before.name, add.name)]
    index = sum(layer.name != before.name for layer in layers[: layers.index(add)])
    return [*rest[:index], *earlier, before, replace(add, inputs=inputs), *rest[index:]]


def _own_copy(name: str, tensor: Tensor, layers: list[Layer]) -> list[Layer]:
    """The layers with a copy of a map for its max pools, where the map needs one."""
    readers = [layer for layer in layers if name in layer.inputs]
    pools = [layer for layer in readers if isinstance(layer, MaxPool2D)]
    is_short_sum = tensor.shape[2] % WORD_CHANNELS and any(
        isinstance(layer, Add) for layer in layers if layer.name == name
    )
    if not pools or (len(pools) == len(readers) and not is_short_sum):
        return layers
    if code_ranges(layers)[name][0] >= tensor.zero_point:
        return layers
    copy = rescaled(_unused(f"{name}.copy", layers), name, tensor)
    changed = [replace(layer, inputs=(copy.name,)) if layer in pools else layer for layer in layers]
    index = layers.index(pools[0])
    return [*changed[:index], copy, *changed[index:]]


def _factor(name: str, before: float, after: float) -> tuple[int, Scale]:
    """A weight and a scale that together are the quotient of two scales."""
    quotient, weight = before / after, 1
    while quotient / weight > 0.5 and weight < _LARGEST:
        weight *= 2
    try:
        return weight, quantize_scale(quotient / weight)
    except ValueError as error:
        raise ValueError(
            f"{name}: a map's scale must be less than {_LARGEST} times that of what it becomes, "
            f"not {before} and {after}"
        ) from error


def _unused(name: str, layers: Sequence[Layer]) -> str:
    taken = {INPUT, *(layer.name for layer in layers)}
    return next(new for new in (name, *(f"{name}_{n}" for n in range(1, len(taken) + 1))) if new not in taken)
