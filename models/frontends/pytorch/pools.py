"""Pools: averages over a window or over all positions, and the largest of a window."""

import math
import operator
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import fx

from hw.numerics import MAX_AVERAGE
from models.frontends.pytorch.exported import arguments
from models.frontends.pytorch.lowering import FIRST, LAST, NO_PADS, Lowering, Map, Pads, pair
from models.frontends.pytorch.steps import GraphStep

__all__ = ["MAX_POOLS", "average_pool", "global_pool", "is_unreached", "largest", "max_pool", "maximum", "mean"]


def global_pool(found: Lowering, node: fx.Node) -> Map:
    """An average of as many windows as there are to be results."""
    return _pool(found, node, *_adaptive(found, node, "AdaptiveAvgPool"))


def largest(found: Lowering, node: fx.Node) -> Map:
    """The same of the largest values."""
    return _pool(found, node, *_adaptive(found, node, "AdaptiveMaxPool"), kind="max_pool")


def _adaptive(found: Lowering, node: fx.Node, kind: str) -> tuple[Map, tuple[int, int], tuple[int, int]]:
    """The map, and windows and strides that PyTorch takes for so many results, where these are always the same."""
    what = found.module_name(node, kind)
    source, sizes = found.whole(node, what), arguments(node)["output_size"]
    value = found.exported.values[node]
    counts = _sizes(found, node, sizes, 1) if isinstance(value, torch.Tensor) else pair(sizes)
    whole = found.shape(source.name)[:2]
    each = [_windows(size, count) for size, count in zip(whole, counts, strict=True)]
    # With more results than positions, windows start where others do.
    if any(len(windows) != 1 for windows in each) or any(map(operator.gt, counts, whole)):
        near = tuple(_nearest(size, count) for size, count in zip(whole, counts, strict=True))
        raise ValueError(
            f"{found.location(node)}: {what} must give sizes of at most the map's {whole}, for which all windows are "
            f"equal, not {counts}: the nearest are {near}"
        )
    (height, down), (width, right) = (windows.pop() for windows in each)
    return source, (height, width), (down, right)


def _nearest(size: int, count: int) -> int:
    """The number of results nearest to this for which all windows along an axis are equal."""
    return min((n for n in range(1, size + 1) if len(_windows(size, n)) == 1), key=lambda n: abs(n - count))


def _windows(size: int, count: int) -> set[tuple[int, int]]:
    """Sizes of an adaptive pool's windows along an axis, each with the distance to the next; one if all are equal."""
    starts = [number * size // count for number in range(count)]
    ends = [-(-(number + 1) * size // count) for number in range(count)]
    steps = [second - first for first, second in pairwise(starts)] or [size]
    lengths = [end - start for start, end in zip(starts, ends, strict=True)]
    return {(length, step) for length in lengths for step in steps}


def mean(found: Lowering, node: fx.Node) -> Map:
    """An average over rows, columns, or all positions."""
    return _pool(found, node, *_over(found, node, "mean"))


def maximum(found: Lowering, node: fx.Node) -> Map:
    """The largest over rows, columns, or all positions."""
    return _pool(found, node, *_over(found, node, "amax"), kind="max_pool")


def _over(found: Lowering, node: fx.Node, what: str) -> tuple[Map, tuple[int, int]]:
    source, given = found.map(node), arguments(node)
    values, (height, width, channels) = found.exported.values[given["self"]], found.shape(source.name)
    over = {axis % values.ndim for axis in given["dim"] or range(values.ndim)}
    last = source.order == LAST
    first, channel = (1, values.ndim - 1) if last else (2, 1)
    rows, columns = ({first}, {first + 1}) if values.ndim == 4 else (set[int](), {first})
    usual = values.ndim in (3, 4) and source.whole and source.order in (FIRST, LAST)
    if not usual or not over or not over <= rows | columns or values.shape[channel] != channels:
        raise ValueError(f"{found.location(node)}: {what} must be over positions of each channel, rows, columns or all")
    if over == rows | columns:
        return source, (height, width)
    return source, (height, 1) if over == rows else (1, width)


def average_pool(found: Lowering, node: fx.Node) -> Map:
    """An average over windows; where they reach beyond the map, a convolution of equal weights."""
    what, given, location = found.module_name(node, "AvgPool"), arguments(node), found.location(node)
    source = found.whole(node, what)
    rows, columns = _sizes(found, node, given["padding"], 0)
    window, stride = (_sizes(found, node, sizes or given["kernel_size"], 1) for sizes in (None, given["stride"]))
    divisor, (height, width, channels) = given.get("divisor_override"), found.shape(source.name)
    made = found.exported.values[node].shape
    shape = (1, made[-1]) if len(made) == 3 else (made[-2], made[-1])
    if divisor is None:
        sizes = zip((height, width), (rows, columns), window, stride, shape, strict=True)
        counts = [_counts(*each, counted=given["count_include_pad"]) for each in sizes]
        if any(len(each) > 1 for each in counts):
            raise ValueError(
                f"{location}: every window of an {what} must be divided by the same number: the zeros around it "
                "must count (count_include_pad=True, without ceil_mode), or there be none"
            )
        down, right = (each.pop() for each in counts)
        if shape == (1, 1) and (down, right) == (height, width):
            return _pool(found, node, source, (height, width))
        if (rows, columns) == (0, 0) and (down, right) == window:
            return _pool(found, node, source, window, stride)
        divisor = down * right
    pads = _reaching((height, width, channels), (rows, rows, columns, columns), window, stride, shape)
    weight = torch.full((channels, 1, *window), 1 / divisor, dtype=torch.float32, device="cpu")
    step = GraphStep(
        kind="depthwise" if channels > 1 else "conv", name=found.name(node, "pool"), inputs=(source.name,),
        shape=(*shape, channels), weight=weight, bias=torch.zeros(channels, dtype=torch.float32, device="cpu"),
        stride=stride, pads=pads,
    )  # fmt: skip
    return found.put(node, step)


def _counts(size: int, pad: int, window: int, stride: int, count: int, *, counted: bool) -> set[int]:
    """By how many positions of an axis PyTorch divides the sums of its windows: of the padding only if it counts."""
    first, last = (-pad, size + pad) if counted else (0, size)
    starts = [number * stride - pad for number in range(count)]
    return {min(start + window, last) - max(start, first) for start in starts}


def max_pool(found: Lowering, node: fx.Node) -> Map:
    """The largest of windows; the last ones may reach beyond the map, and padding before it may be of -infinity."""
    given, operand = arguments(node), node.args[0]
    padded = isinstance(operand, fx.Node) and is_unreached(operand)
    what = found.module_name(node, "MaxPool")
    source = found.map(operand) if padded else found.whole(node, what)  # type: ignore[arg-type]
    if set(given["dilation"]) != {1}:
        raise ValueError(f"{found.location(node)}: {what} must have dilation 1")
    rows, columns = _sizes(found, node, given["padding"], 0)
    above, below, left, right = _around(operand) if padded else NO_PADS  # type: ignore[arg-type]
    pads = (above + rows, below + rows, left + columns, right + columns)
    window, stride = (_sizes(found, node, sizes or given["kernel_size"], 1) for sizes in (None, given["stride"]))
    if given["ceil_mode"]:
        value = found.exported.values[node]
        sizes = tuple(value[0].shape if isinstance(value, tuple) else value.shape)
        counts = (1, sizes[-1]) if len(sizes) == 3 else sizes[-2:]
        pads = _reaching(found.shape(source.name), pads, window, stride, counts)
    return _pool(found, node, source, window, stride, pads, kind="max_pool")


def _reaching(
    shape: tuple[int, int, int], pads: Pads, window: tuple[int, int], stride: tuple[int, int], counts: Sequence[int]
) -> Pads:
    """Pads with which windows that reach beyond the map are whole."""
    above, below, left, right = pads
    ends = [(count - 1) * step + size for count, step, size in zip(counts, stride, window, strict=True)]
    return above, max(below, ends[0] - shape[0] - above), left, max(right, ends[1] - shape[1] - left)


def is_unreached(node: fx.Node) -> bool:
    """Whether a node is padding that max pools alone read, and that is never the largest."""
    if node.target not in (_ATEN.pad.default, _ATEN.constant_pad_nd.default):
        return False
    given = arguments(node)
    pooled = all(user.target in MAX_POOLS for user in node.users)
    return pooled and given["value"] == -math.inf and len(given["pad"]) <= 4 and min(given["pad"]) >= 0


def _around(node: fx.Node) -> Pads:
    """Rows above and below, columns left and right, that padding adds."""
    left, right, above, below = (*arguments(node)["pad"], 0, 0)[:4]
    return above, below, left, right


def _sizes(found: Lowering, node: fx.Node, sizes: list[int], rows: int) -> tuple[int, int]:
    """Height and width of sizes; of a pool of one dimension, whose map has one row, the height is ``rows``."""
    value = found.exported.values[node]
    one = not isinstance(value, tuple) and value.ndim == 3
    return (rows, sizes[-1]) if one else pair(sizes)


def _pool(
    found: Lowering,
    node: fx.Node,
    source: Map,
    window: tuple[int, int],
    stride: tuple[int, int] | None = None,
    pads: Pads = NO_PADS,
    kind: str = "pool",
) -> Map:
    """A pool; one whose windows are single positions changes nothing, but for those that it leaves out."""
    (down, right), (height, width, channels) = stride or window, found.shape(source.name)
    if window == (down, right) == (1, 1):
        return source
    if window == (1, 1):
        return _picked(found, node, source, (down, right), pads, kind)
    if kind == "pool" and window[0] * window[1] > MAX_AVERAGE:
        size = window[0] * window[1]
        raise ValueError(f"{found.location(node)}: an average must be of at most {MAX_AVERAGE} positions, not {size}")
    shape = (
        (height + sum(pads[:2]) - window[0]) // down + 1,
        (width + sum(pads[2:]) - window[1]) // right + 1,
        channels,
    )
    _check_whole(found, node, shape)
    step = GraphStep(
        kind=kind, name=found.name(node, kind), inputs=(source.name,), shape=shape, stride=(down, right), pads=pads,
        window=window,
    )  # fmt: skip
    return replace(found.put(node, step), order=source.order if shape[:2] != (1, 1) else FIRST)


def _picked(found: Lowering, node: fx.Node, source: Map, stride: tuple[int, int], pads: Pads, kind: str) -> Map:
    """Every so many positions of a map: a convolution with weights of 1."""
    if any(pads):
        raise ValueError(f"{found.location(node)}: a pool of single positions must have no padding, not {pads}")
    height, width, channels = found.shape(source.name)
    shape = ((height - 1) // stride[0] + 1, (width - 1) // stride[1] + 1, channels)
    _check_whole(found, node, shape)
    weight = torch.ones(channels, 1, 1, 1, dtype=torch.float32, device="cpu")
    step = GraphStep(
        kind="depthwise" if channels > 1 else "conv", name=found.name(node, kind), inputs=(source.name,), shape=shape,
        weight=weight, bias=torch.zeros(channels, dtype=torch.float32, device="cpu"), stride=stride,
    )  # fmt: skip
    return found.put(node, step)


def _check_whole(found: Lowering, node: fx.Node, shape: tuple[int, int, int]) -> None:
    """Refuse a pool that gives other positions than its whole windows do."""
    value = found.exported.values[node]
    made = value[0] if isinstance(value, tuple) else value  # A max pool may give its indices, too.
    if made.shape[1:].numel() != math.prod(shape):
        raise ValueError(
            f"{found.location(node)}: a pool's windows must be whole, as without ceil_mode, "
            f"and give {shape[0]}x{shape[1]} positions, not {tuple(made.shape[2:])}"
        )


_ATEN = torch.ops.aten
#: Operators whose rule is :func:`max_pool`.
MAX_POOLS = (
    _ATEN.max_pool2d.default, _ATEN.max_pool1d.default, _ATEN.max_pool2d_with_indices.default,
)  # fmt: skip
