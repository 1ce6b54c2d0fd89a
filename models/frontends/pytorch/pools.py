"""Pools: averages over a window or over all positions, and the largest of a window."""

from torch import fx

from hw.numerics import MAX_AVERAGE
from models.frontends.pytorch.exported import arguments
from models.frontends.pytorch.lowering import NO_PADS, Lowering, Map, Pads, pair
from models.frontends.pytorch.steps import GraphStep

__all__ = ["average_pool", "global_pool", "max_pool", "mean"]


def global_pool(found: Lowering, node: fx.Node) -> Map:
    source, size = found.whole(node, "AdaptiveAvgPool2d"), _sizes(found, node, arguments(node)["output_size"], 1)
    if size != (1, 1):
        raise ValueError(f"{found.place(node)}: AdaptiveAvgPool2d must give one position, not {size}")
    return _pool(found, node, source, found.shape(source.name)[:2])


def mean(found: Lowering, node: fx.Node) -> Map:
    source, given = found.map(node), arguments(node)
    values, (height, width, channels) = found.exported.values[given["self"]], found.shape(source.name)
    over = {axis % values.ndim for axis in given["dim"] or range(values.ndim)}
    if not source.plain or over != set(range(2, values.ndim)) or values.shape[1] != channels:
        raise ValueError(f"{found.place(node)}: mean must be over all positions of each channel")
    return _pool(found, node, source, (height, width))


def average_pool(found: Lowering, node: fx.Node) -> Map:
    source, given = found.whole(node, "AvgPool2d"), arguments(node)
    if set(given["padding"]) != {0} or given.get("divisor_override") is not None:
        raise ValueError(f"{found.place(node)}: AvgPool2d must have no padding and no divisor_override")
    window, stride = (_sizes(found, node, sizes or given["kernel_size"], 1) for sizes in (None, given["stride"]))
    return _pool(found, node, source, window, stride)


def max_pool(found: Lowering, node: fx.Node) -> Map:
    source, given = found.whole(node, "MaxPool2d"), arguments(node)
    if set(given["dilation"]) != {1}:
        raise ValueError(f"{found.place(node)}: MaxPool2d must have dilation 1")
    rows, columns = _sizes(found, node, given["padding"], 0)
    window, stride = (_sizes(found, node, sizes or given["kernel_size"], 1) for sizes in (None, given["stride"]))
    return _pool(found, node, source, window, stride, (rows, rows, columns, columns), kind="max_pool")


def _sizes(found: Lowering, node: fx.Node, sizes: list[int], rows: int) -> tuple[int, int]:
    """Height and width of sizes; of a pool of one dimension, whose map has one row, the height is ``rows``."""
    one = found.exported.values[node].ndim == 3
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
    """A pool; one whose windows are single positions, one beside the other, changes nothing."""
    (down, right), (height, width, channels) = stride or window, found.shape(source.name)
    if window == (down, right) == (1, 1):
        return source
    if window == (1, 1):
        raise ValueError(f"{found.place(node)}: a pool's window must be of 2 positions or more at stride {down, right}")
    if kind == "pool" and window[0] * window[1] > MAX_AVERAGE:
        size = window[0] * window[1]
        raise ValueError(f"{found.place(node)}: an average must be of at most {MAX_AVERAGE} positions, not {size}")
    shape = (
        (height + sum(pads[:2]) - window[0]) // down + 1,
        (width + sum(pads[2:]) - window[1]) // right + 1,
        channels,
    )
    if (value := found.exported.values[node]).shape[1:].numel() != shape[0] * shape[1] * channels:
        raise ValueError(
            f"{found.place(node)}: a pool's windows must be whole, as without ceil_mode, "
            f"and give {shape[0]}x{shape[1]} positions, not {tuple(value.shape[2:])}"
        )
    return found.put(
        node,
        GraphStep(
            kind=kind, name=found.name(node, kind), inputs=(source.name,), shape=shape,
            stride=(down, right), pads=pads, window=window,
        ),
    )  # fmt: skip
