"""What only picks, moves or pads values becomes a convolution of zeros and ones, which is exact.

Chunks and shuffles of channels, strided slices, padding with channels: whatever an operator is called, what it does is
read off numbers that are sent through it, and the convolution is compared with them.
"""

import math
import operator
from dataclasses import replace
from itertools import permutations
from typing import Any

import torch
from torch import fx

from models.frontends.pytorch.lowering import FIRST, LAST, AxisOrder, Lowering, Map
from models.frontends.pytorch.operators import OPERATORS, Rule
from models.frontends.pytorch.steps import GraphStep, compute

__all__ = ["MOVES", "PARTS", "move", "part", "parts"]

_ATEN = torch.ops.aten
#: What gives several parts of a map.
PARTS = (
    _ATEN.chunk.default, _ATEN.split.Tensor, _ATEN.split_with_sizes.default, _ATEN.unbind.int,
    _ATEN.tensor_split.sections, _ATEN.tensor_split.indices,
)  # fmt: skip
#: What moves values of one map.
MOVES = (
    _ATEN.transpose.int, _ATEN.permute.default, _ATEN.slice.Tensor, _ATEN.select.int, _ATEN.channel_shuffle.default,
    _ATEN.index_select.default, _ATEN.flip.default, _ATEN.roll.default, _ATEN.narrow.default, _ATEN.movedim.int,
    _ATEN.movedim.intlist, _ATEN.swapaxes.default,
)  # fmt: skip

_LARGEST = 8  # positions that a kernel may reach over, to leave out the first rows or columns


def parts(found: Lowering, node: fx.Node) -> Map:
    """What gives several parts of a map: each is looked at where it is taken."""
    return found.map(node)


def part(found: Lowering, node: fx.Node, rule: Rule | None = None) -> Map:
    """One of the results of an operator that has several; ``rule``: of what moves values, instead of :func:`move`."""
    taken = node.args[0]
    assert isinstance(taken, fx.Node)
    return (rule or move)(found, node) if taken.target in PARTS else OPERATORS[operator.getitem](found, node)


def move(found: Lowering, node: fx.Node) -> Map:
    """The step of an operator, or of what takes one of its results.

    Raises
    ------
    ValueError
        When it doesn't give each channel whole channels, every so many rows and columns of them, and zeros around.
    """
    taken = node if isinstance(node.target, torch._ops.OpOverload) else node.args[0]
    assert isinstance(taken, fx.Node)
    operand = taken.args[0]
    source, called = found.operand(taken, operand), f"{found.location(node)}: {taken.name}"
    if not source.whole:
        raise ValueError(f"{called} must read a map without padding")
    assert isinstance(operand, fx.Node)
    if not found.exported.values[node].numel():
        raise ValueError(f"{called} must leave values of a map, not none")
    shape, sizes = found.shape(source.name), found.exported.values[operand].shape
    spatial = _spatial_axes(tuple(sizes[1:]), shape)
    numbers = _numbers(found, node, taken, sizes)
    order = None if numbers is None else _order(numbers, source.order, shape)
    if order is not None:
        return replace(source, order=order)
    unknown = numbers is None or spatial is None or source.order != FIRST
    step = None if unknown or numbers is None or spatial is None else _step(numbers, spatial, shape)
    if step is None:
        raise ValueError(f"{called} must move whole channels, every so many rows and columns of them, or add zeros")
    if step.kind == "depthwise" and step.shape == shape and _is_one(step):
        return source
    name = found.name(node, taken.target.__name__.split(".")[0])  # type: ignore[union-attr]
    return found.put(node, replace(step, name=name, inputs=(source.name,)))


def _order(numbers: torch.Tensor, before: AxisOrder, shape: tuple[int, int, int]) -> AxisOrder | None:
    """The order of a map's axes in which these numbers have its values, which lay in another; None if there is none.

    Parameters
    ----------
    numbers : tensor
        Places of the values from 1 on, in the order before.
    """
    if numbers.numel() != math.prod(shape) or not bool((numbers > 0).all()):
        return None
    own = torch.arange(math.prod(shape), device="cpu").reshape(shape[2], *shape[:2])
    values = own.permute(*before).flatten()[numbers.flatten() - 1]
    orders = (FIRST, LAST, *permutations(FIRST))
    return next((order for order in orders if torch.equal(own.permute(*order).flatten(), values)), None)


def _is_one(step: GraphStep) -> bool:
    """Whether every weight is 1."""
    assert step.weight is not None
    return bool((step.weight == 1).all())


def _spatial_axes(layout: tuple[int, ...], shape: tuple[int, int, int]) -> int | None:
    """How many of a layout's axes are a map's rows and columns; None: they can't be told apart."""
    if shape[:2] == (1, 1) and layout[-2:] != (1, 1):
        return 0
    if len(layout) > 2 and layout[-2:] == shape[:2]:
        return 2
    return 1 if len(layout) > 1 and (1, layout[-1]) == shape[:2] else None


def _numbers(found: Lowering, node: fx.Node, taken: fx.Node, sizes: torch.Size) -> torch.Tensor | None:
    """Which value of an image, counted from 1, is where: 0 is a zero; None where images get mixed."""
    count = sizes[1:].numel()
    numbers = torch.arange(1, sizes.numel() + 1, device="cpu").reshape(sizes)
    given: Any = fx.node.map_arg((taken.args[1:], taken.kwargs), found.exported.values.get)
    result: Any = taken.target(numbers, *given[0], **given[1])  # type: ignore[operator]
    if node is not taken:
        result = result[node.args[1]]
    if result.ndim < 2 or result.shape != found.exported.values[node].shape or len(result) != sizes[0]:
        return None
    first = count * torch.arange(sizes[0], device="cpu").reshape(-1, *[1] * (result.ndim - 1))
    own = torch.where(result == 0, 0, result - first)
    same = bool((own == own[:1]).all()) and int(own.min()) >= 0 and int(own.max()) <= count
    return own[0] if same else None


def _step(numbers: torch.Tensor, spatial: int, shape: tuple[int, int, int]) -> GraphStep | None:
    """The convolution that gives these numbers, if there is one."""
    height, width, channels = shape
    rows, columns = (1, 1, *numbers.shape[numbers.ndim - spatial :])[-2:]
    wanted = numbers.reshape(-1, rows, columns)
    used = wanted.flatten(1).amax(1) > 0
    if not used.any():
        return None
    origins = torch.where(used, (wanted.flatten(1).amax(1) - 1) // (height * width), -1)
    example = wanted[int(used.nonzero()[0])]
    places_down, places_right = (example.amax(1) - 1) // width % height, (example.amax(0) - 1) % width
    down = _along(example.amax(1) > 0, places_down, height)
    right = _along(example.amax(0) > 0, places_right, width)
    if down is None or right is None:
        return None
    own = len(wanted) == channels > 1 and bool((~used | (origins == torch.arange(channels, device="cpu"))).all())
    weight = torch.zeros(len(wanted), 1 if own else channels, down[2], right[2], dtype=torch.float32, device="cpu")
    weight[used, 0 if own else origins[used], down[3], right[3]] = 1
    step = GraphStep(
        kind="depthwise" if own else "conv", name="", inputs=(), shape=(rows, columns, len(wanted)), weight=weight,
        bias=torch.zeros(len(wanted), dtype=torch.float32, device="cpu"), stride=(down[0], right[0]),
        pads=(*down[1], *right[1]),
    )  # fmt: skip
    count = height * width * channels
    given = torch.arange(1, count + 1, dtype=torch.float64, device="cpu").reshape(1, channels, height, width)
    made = compute(step, [given], weight.double(), None)[0]
    return step if made.shape == wanted.shape and torch.equal(made, wanted.double()) else None


def _along(used: torch.Tensor, origins: torch.Tensor, size: int) -> tuple[int, tuple[int, int], int, int] | None:
    """Stride, zeros before and behind, kernel of what takes positions of an axis, and which of the kernel's it is."""
    where = [int(index) for index in used.nonzero()]
    first, start = where[0], int(origins[where[0]])
    stride = int(origins[where[1]]) - start if len(where) > 1 else max(1, size)
    if stride < 1:
        return None
    before = first * stride - start
    kernel = 1 + max(0, -before)
    behind = (len(used) - 1) * stride + kernel - size - max(0, before)
    if len(where) == 1 and len(used) > 1:
        stride, before, behind = 1, first - start, len(used) - size - first + start
    tap, left = kernel - 1, max(0, -behind)
    kernel += left - left % stride  # over the last positions, which nothing takes
    return (stride, (max(0, before), max(0, behind)), kernel, tap) if kernel <= _LARGEST else None
