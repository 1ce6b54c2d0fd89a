"""A core's walk makes the products of its layer, and every product goes where it belongs.

Of each input position that is walked: to which outputs does the layer's kernel send products, in which accumulators do
these outputs stand then, and do the lists that the tables name hold exactly the kernel's weights for exactly these
accumulators? Positions for which all answers are the same are looked at once.
"""

from dataclasses import dataclass, field

import numpy as np

from hw.config import AcceleratorConfig
from hw.network.base_layer import Layer
from hw.network.layers import Conv2D, DepthwiseConv2D, Linear
from hw.network.pooling import AveragePool2D, GlobalAveragePool, MaxPool2D
from hw.program.instructions import CoreLayer, SourceFields
from hw.program.list_memory import marks_of, unpack_entries, unpack_parts, unpack_pointers, unpack_split_entries
from hw.rules import require

__all__ = ["ExpectedWork", "Stencil", "check_products", "stencil_of"]

#: Of a situation, the columns before its outputs.
_FIRST_CODE = 4
#: Weights that are compared at a time.
_AT_ONCE = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Stencil:
    """A multiplying layer as a convolution of its whole input.

    Attributes
    ----------
    weight : int8 array, (taps, output channels, input channels that an output channel sees)
        By kernel position, row by row; of a pool one tap for all positions.
    size, stride, pads : tuple of 2 int
        Vertical, horizontal; pads above and left.
    depthwise : bool
        Whether an output channel reads only the input channel of its number, as in pools, too.
    max_pool : bool
        Whether the largest product is kept instead of the sum.
    """

    weight: np.ndarray = field(repr=False)
    size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int] = (0, 0)
    depthwise: bool = False
    max_pool: bool = False


def stencil_of(layer: Layer, shape: tuple[int, int, int]) -> Stencil:
    """The convolution that a layer is, on an input of this shape."""
    if isinstance(layer, Conv2D | DepthwiseConv2D | Linear):
        outputs, *size, depth = layer.weight.shape
        weight = layer.weight.transpose(1, 2, 0, 3).reshape(-1, outputs, depth)
        if isinstance(layer, Linear):
            return Stencil(weight=weight, size=(size[0], size[1]))
        pads, depthwise = (layer.pads[0], layer.pads[2]), isinstance(layer, DepthwiseConv2D)
        return Stencil(weight=weight, size=(size[0], size[1]), stride=layer.stride, pads=pads, depthwise=depthwise)
    weight = np.ones((1, shape[2], 1), dtype=np.int8)
    if isinstance(layer, GlobalAveragePool):
        return Stencil(weight=weight, size=shape[:2], depthwise=True)
    if isinstance(layer, MaxPool2D):
        pads = (layer.pads[0], layer.pads[2])
        return Stencil(weight=weight, size=layer.window, stride=layer.stride, pads=pads, depthwise=True, max_pool=True)
    assert isinstance(layer, AveragePool2D)
    return Stencil(weight=weight, size=layer.window, stride=layer.stride, depthwise=True)


@dataclass(frozen=True, kw_only=True)
class ExpectedWork:
    """What a core shall do of a layer in a LAYER.

    Attributes
    ----------
    stencil : Stencil
    shape : tuple of 2 int
        Rows and columns of the layer's input.
    positions : tuple of 2 int arrays (rows, columns)
        Row and column of the input at every position of the walk that reads one.
    rows : tuple of 2 int
        First output row, and the one after the last.
    columns : int
        Of the output.
    channels, inputs : tuple of 2 int
        First output channel and the one after the last, dummy ones included; the same of the input.
    column_major : bool
        Whether outputs are made column by column.
    first : int
        The accumulator of the first output, in whichever LAYER it is taken out.
    """

    stencil: Stencil
    shape: tuple[int, int]
    positions: tuple[np.ndarray, np.ndarray]
    rows: tuple[int, int]
    columns: int
    channels: tuple[int, int]
    inputs: tuple[int, int]
    column_major: bool
    first: int


def check_products(
    where: str, work: ExpectedWork, core: CoreLayer, lists: np.ndarray, config: AcceleratorConfig
) -> None:
    """Refuse a core's LAYER that makes other products, or sends one elsewhere.

    Parameters
    ----------
    lists : int64 array (PEs, words)
        What its list memories hold.

    Raises
    ------
    ValueError
        Naming the layer and the rule.
    """
    weights = _weights(work, core.source.dump_length, config.pes)
    walked = _situations(where, work, core, config)
    situations = walked[[*{each.tobytes(): number for number, each in enumerate(walked)}.values()]]
    outputs = situations.shape[1] - _FIRST_CODE
    each = max(1, _AT_ONCE // (weights[0].size * max(1, outputs)))
    for start in range(0, len(situations), each):
        _check_lists(where, situations[start : start + each], weights, core.source, lists, config)


def _reach(inputs: np.ndarray, work: ExpectedWork, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """First output along an axis that input rows or columns have products for, and how many these are."""
    first, last = work.rows if axis == 0 else (0, work.columns)
    size, stride, pad = (both[axis] for both in (work.stencil.size, work.stencil.stride, work.stencil.pads))
    lowest = np.maximum(first, -(-(inputs + pad - size + 1) // stride))
    highest = np.minimum(last - 1, (inputs + pad) // stride)
    return lowest, np.maximum(0, highest - lowest + 1)


def _situations(where: str, work: ExpectedWork, core: CoreLayer, config: AcceleratorConfig) -> np.ndarray:
    """What there is to say of every position of the walk: int array (positions, 4 + outputs).

    Number of its first list, lists of an activation, parts and skipped marks of split ones, and of each output that it
    may have products for the tap times the accumulators of a PE, plus the accumulator counted from the position's; -1
    where it has none.
    """
    stencil, source, depth = work.stencil, core.source, config.accumulators
    reach = [_reach(inputs, work, axis) for axis, inputs in enumerate(work.positions)]
    needed = [int((_reach(np.arange(size), work, axis)[1] > 0).sum()) for axis, size in enumerate(work.shape)]
    numbers = (work.positions[0] * work.shape[1] + work.positions[1])[(reach[0][1] > 0) & (reach[1][1] > 0)]
    require(
        np.count_nonzero(np.bincount(numbers)) == len(numbers) == needed[0] * needed[1],
        f"{where}: it must walk each of the {needed[0]}x{needed[1]} positions that its outputs need once, not "
        f"{len(numbers)}",
    )
    most = [int(count.max()) for _, count in reach]
    require(
        most[0] * most[1] * source.dump_length <= depth,
        f"{where}: {most[0]}x{most[1]} outputs of {source.dump_length} accumulators must fit the {depth} of a PE",
    )
    taps, offsets, inside = [], [], []
    for axis, ((lowest, count), inputs) in enumerate(zip(reach, work.positions, strict=True)):
        each = np.arange(most[axis])
        outputs = lowest[..., None] + each
        taps.append(inputs[..., None] + stencil.pads[axis] - outputs * stencil.stride[axis])
        offsets.append(outputs - (work.rows[0] if axis == 0 else 0))
        inside.append(each < count[..., None])
    rows = work.rows[1] - work.rows[0]
    down, right = (1, rows) if work.column_major else (work.columns, 1)
    ordinal = offsets[0][..., :, None] * down + offsets[1][..., None, :] * right
    valid = inside[0][..., :, None] & inside[1][..., None, :]
    starts = np.array([row.accumulator for row in core.rows[: len(valid)]])[:, None]
    starts = starts + np.array([column.accumulator for column in core.columns])
    ahead = ordinal - _taken_out(core, valid.shape[:2])[..., None, None]
    require(
        ((ahead >= 0) & ((ahead + 1) * source.dump_length <= depth))[valid].all(),
        f"{where}: outputs must have accumulators of their own from their first product to their last",
    )
    accumulators = (work.first + ordinal * source.dump_length - starts[..., None, None]) % depth
    tap = taps[0][..., :, None] * stencil.size[1] + taps[1][..., None, :] if len(stencil.weight) > 1 else 0
    lists = np.array([row.list for row in core.rows[: len(valid)]])[:, None]
    lists = lists + np.array([column.list for column in core.columns])
    counts = np.broadcast_to(np.array([row.count for row in core.rows[: len(valid)]])[:, None], lists.shape)
    parts = np.bitwise_and.outer([row.parts for row in core.rows[: len(valid)]], [each.parts for each in core.columns])
    skip = np.bitwise_or.outer([row.skip for row in core.rows[: len(valid)]], [each.skip for each in core.columns])
    codes = np.where(valid, tap * depth + accumulators, -1).reshape(lists.size, -1)
    return np.concatenate([*(each.reshape(-1, 1) for each in (lists, counts, parts, skip)), codes], axis=1)


def _taken_out(core: CoreLayer, shape: tuple[int, ...]) -> np.ndarray:
    """Outputs taken out before each position of a walk of so many rows and columns: int array (rows, columns)."""
    if core.source.partial:
        return np.zeros(shape, dtype=np.int64)
    dumps = np.array([column.dumps for column in core.columns])
    after = np.cumsum(np.outer([row.final for row in core.rows[: shape[0]]], dumps))
    return np.concatenate([[0], after[:-1]]).reshape(shape)


def _weights(work: ExpectedWork, dump_length: int, pes: int) -> np.ndarray:
    """Weights as lists hold them, the last tap all 0: int8 array (taps + 1, accumulators, PEs, lists of a position)"""
    first, last = work.channels
    weight = work.stencil.weight[:, first:last]
    if not work.stencil.depthwise:
        weight = weight[:, :, work.inputs[0] : work.inputs[1]]
    padded: np.ndarray = np.zeros((len(weight) + 1, last - first, weight.shape[2]), dtype=np.int8)
    padded[:-1, : weight.shape[1]] = weight
    padded = padded.reshape(len(weight) + 1, dump_length, pes, -1)
    # Where an output channel reads its own input alone, each list feeds one of a position's accumulators.
    return padded * np.eye(dump_length, dtype=np.int8)[:, None, :] if work.stencil.depthwise else padded


def _check_lists(
    where: str,
    situations: np.ndarray,
    weights: np.ndarray,
    source: SourceFields,
    lists: np.ndarray,
    config: AcceleratorConfig,
) -> None:
    """Compare what the lists of some situations hold with the weights."""
    (firsts, counts, parts, skip), codes = situations[:, :_FIRST_CODE].T, situations[:, _FIRST_CODE:]
    depth, dump_length = config.accumulators, weights.shape[1]
    wanted = weights[np.where(codes < 0, -1, codes // depth)]
    asked = np.broadcast_to(
        (np.arange(max(1, counts.max())) < counts[:, None])[..., None],
        (len(counts), max(1, counts.max()), weights.shape[3]),
    )
    situation, step, number = np.nonzero(asked)
    names = source.first_list + firsts[situation] + step * source.list_step + number
    if parts.any():
        pe, name, words = _split_entries(where, names, (parts[situation], skip[situation]), lists, config)
        values, offsets = unpack_split_entries(words)
    else:
        pe, name, words = _entries(where, names, lists, config)
        values, offsets = unpack_entries(words)
    # Of every accumulator, counted from the position's: which one of which output it is.
    owners = np.full((len(codes), depth), -1)
    some, output = np.nonzero(codes >= 0)
    dumped = (codes[some, output] % depth)[:, None] + np.arange(dump_length)
    owners[some[:, None], dumped % depth] = output[:, None] * dump_length + np.arange(dump_length)
    owned = owners[situation[name], (offsets - step[name] * source.accumulator_step) % depth]
    require((owned >= 0).all(), f"{where}: a product goes to an accumulator of no output that it belongs to")
    found = np.zeros((len(codes), codes.shape[1] * dump_length, *weights.shape[2:]), dtype=np.int8)
    found[situation[name], owned, pe, number[name]] = values
    require(
        np.count_nonzero(found) == len(words) and np.array_equal(found.reshape(wanted.shape), wanted),
        f"{where}: its lists must hold the weights of the network, each once",
    )


def _split_entries(
    where: str, names: np.ndarray, chosen: tuple[np.ndarray, np.ndarray], lists: np.ndarray, config: AcceleratorConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As :func:`_entries`, of some parts of split lists without those that have marks: ``chosen``, of every name."""
    size, last = lists.shape[1], 2 * int(names.max(initial=0)) + 1
    require(last < size, f"{where}: list {last} is beyond the {size} words of lists")
    parts, skip = chosen
    starts, counts = unpack_parts(lists[:, 2 * names], lists[:, 2 * names + 1], parts, config)
    require((counts >= 0).all(), f"{where}: the parts of a list must follow one another")
    pe, name, words = _words_of(where, starts, counts, lists)
    kept = marks_of(words) & skip[name] == 0
    return pe[kept], name[kept], words[kept]


def _entries(
    where: str, names: np.ndarray, lists: np.ndarray, config: AcceleratorConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """PE, index in ``names`` and word of every entry of the lists of these numbers."""
    size = lists.shape[1]
    last = int(names.max(initial=0))
    require(last < size, f"{where}: list {last} is beyond the {size} words of lists")
    return _words_of(where, *unpack_pointers(lists[:, names], config), lists)


def _words_of(
    where: str, starts: np.ndarray, counts: np.ndarray, lists: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """PE, index and word of every entry, given where each PE's begin and how many they are: int arrays (PEs, names)."""
    size, each = lists.shape[1], starts.shape[1]
    starts, counts = starts.reshape(-1), counts.reshape(-1)
    firsts = starts + np.repeat(size * np.arange(len(lists)), each)
    require(
        not counts.any() or int((starts + counts)[counts > 0].max()) <= size,
        f"{where}: lists must lie within the {size} words of lists",
    )
    before = np.cumsum(counts) - counts
    words = lists.reshape(-1)[np.repeat(firsts - before, counts) + np.arange(counts.sum())]
    pe, name = np.divmod(np.repeat(np.arange(len(counts)), counts), max(1, each))
    return pe, name, words
