"""ONNX operators that move, join and pad values of a map, as modules; images stay apart."""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from hw.rules import shown
from models.frontends.onnx.layers import Apply
from models.frontends.onnx.sites import Site

__all__ = [
    "concat",
    "flatten",
    "gather",
    "own_axes",
    "pad",
    "reshape",
    "slice_of",
    "split",
    "squeeze",
    "transpose",
    "unsqueeze",
]


def own_axes(axes: Sequence[int], dimensions: int, what: str) -> list[int]:
    """Axes counted from the first, none of them that of images."""
    found = [axis + dimensions if axis < 0 else axis for axis in axes]
    if len(set(found)) != len(found) or not all(0 < axis < dimensions for axis in found):
        raise ValueError(f"{what} must be over axes from 1 to {dimensions - 1}, each once, not {list(axes)}")
    return found


def reshape(site: Site) -> nn.Module:
    """To sizes that are constant, or computed from those of maps."""
    target = site.integers(1, "sizes") if site.is_constant(1) else None
    zeros = site.attribute("allowzero", 0)
    return Apply(lambda x, sizes=target: _reshaped(x, [int(n) for n in sizes], site.batch, zeros))


def _reshaped(x: torch.Tensor, sizes: list[int], batch: int | None, zeros: int) -> torch.Tensor:
    """A map in other sizes, with all of an image's values in its own row."""
    if not sizes or (zeros and 0 in sizes) or sum(size == -1 for size in sizes) > 1 or min(sizes) < -1:
        raise ValueError(f"sizes must be 1 or more, one of them -1 for the rest, not {sizes}")
    new = [x.shape[number] if size == 0 else size for number, size in enumerate(sizes)]
    if new[0] in (batch, -1, len(x)):
        new[0] = len(x)
    if new[0] != len(x) or (-1 not in new and math.prod(new[1:]) != math.prod(x.shape[1:])):
        raise ValueError(f"each image's values must stay in their own row, not be mixed in {sizes}")
    return x.reshape(new)


def flatten(site: Site) -> nn.Module:
    axis = site.attribute("axis", 1)

    def flat(x: torch.Tensor) -> torch.Tensor:
        own_axes([axis], x.ndim, "a Flatten")
        if axis not in (1, 1 - x.ndim):
            raise ValueError(f"axis must be 1, so that images stay apart, not {axis}")
        return x.flatten(1)

    return Apply(flat)


def squeeze(site: Site) -> nn.Module:
    axes = site.axes(1)

    def squeezed(x: torch.Tensor) -> torch.Tensor:
        chosen = (
            [n for n in range(1, x.ndim) if x.shape[n] == 1] if axes is None else own_axes(axes, x.ndim, "a Squeeze")
        )
        if any(x.shape[axis] != 1 for axis in chosen):
            raise ValueError(f"axes must be of one position, not {axes} of {list(x.shape[1:])} of an image")
        return x.squeeze(chosen)

    return Apply(squeezed)


def unsqueeze(site: Site) -> nn.Module:
    axes = site.axes(1) or []

    def unsqueezed(x: torch.Tensor) -> torch.Tensor:
        for axis in sorted(own_axes(axes, x.ndim + len(axes), "an Unsqueeze")):
            x = x.unsqueeze(axis)
        return x

    return Apply(unsqueezed)


def transpose(site: Site) -> nn.Module:
    order = site.sizes("perm")
    if order is None or sorted(order) != list(range(len(order))) or order[0] != 0:
        raise site.refuse(f"perm must be an order of all axes with images first, not {order}")
    return Apply(lambda x: _permuted(x, order))


def _permuted(x: torch.Tensor, order: Sequence[int]) -> torch.Tensor:
    """A map with its axes in another order: a view, where only axes of one position move."""
    moved = [axis for axis in order if x.shape[axis] != 1]
    return x.reshape([x.shape[axis] for axis in order]) if moved == sorted(moved) else x.permute(*order)


def concat(site: Site) -> nn.Module:
    axis = site.attribute("axis", 1)
    if any(site.is_constant(number) for number in range(len(site.node.inputs))):
        raise site.refuse("what is put together must be maps, not constants")
    return Apply(lambda *maps: torch.cat(maps, own_axes([axis], maps[0].ndim, "a Concat")[0]))


def gather(site: Site) -> nn.Module:
    """Some positions of an axis, in any order; a single one, whose axis goes."""
    axis, indices = site.attribute("axis", 0), site.constant(1, "indices")
    if indices is None or indices.dtype.kind not in "iu" or indices.ndim > 1 or not indices.size:
        raise site.refuse("indices must be constant integers, one or in one dimension")

    def gathered(x: torch.Tensor) -> torch.Tensor:
        (along,) = own_axes([axis], x.ndim, "a Gather")
        size = x.shape[along]
        if not all(-size <= index < size for index in indices.reshape(-1)):
            raise ValueError(f"indices must be from {-size} to {size - 1}, not {indices.tolist()}")
        if not indices.ndim:
            return x.select(along, int(indices) % size)
        return x.index_select(along, torch.from_numpy(indices % size).to(x.device))

    return Apply(gathered)


def slice_of(site: Site) -> nn.Module:
    """Every so many positions from one to another, along axes of their own; which ones may be computed from sizes."""
    names = {1: "starts", 2: "ends", 3: "axes", 4: "steps"}
    computed = [number for number in names if site.name(number) and not site.is_constant(number)]
    given = {
        number: said if (said := site.sizes(name, least=-(1 << 31))) is not None else site.integers(number, name)
        for number, name in names.items()
        if number not in computed
    }
    if not computed:
        try:
            each = _slices(*given.values())
        except ValueError as error:
            raise site.refuse(str(error)) from error
        whole = site.batch or (1 << 31) - 1  # images, which may be named if all of them are taken
        return Apply(lambda x: _sliced(x, each, whole))

    def sliced(x: torch.Tensor, *sizes: np.ndarray) -> torch.Tensor:
        found = given | dict(zip(computed, ([int(n) for n in size.reshape(-1)] for size in sizes), strict=True))
        return _sliced(x, _slices(*(found[number] for number in names)), len(x))

    return Apply(sliced)


def _slices(
    starts: Sequence[int] | None, ends: Sequence[int] | None, axes: Sequence[int] | None, steps: Sequence[int] | None
) -> list[tuple[int, int, int, int]]:
    """Axis, start, end and step of each slice."""
    if starts is None or ends is None or len(starts) != len(ends):
        raise ValueError("starts and ends must be as many, one for each axis")
    count = len(starts)
    steps, axes = steps or [1] * count, list(range(count)) if axes is None else axes
    if len(steps) != count or len(axes) != count or min(steps, default=1) < 1:
        raise ValueError(f"steps must be 1 or more, and one for each axis as axes are, not {shown(list(steps))}")
    return list(zip(axes, starts, ends, steps, strict=True))


def _sliced(x: torch.Tensor, slices: list[tuple[int, int, int, int]], images: int) -> torch.Tensor:
    """The positions that slices say; ``images`` from the first on are all."""
    left = [one for one in slices if one[0] % x.ndim or not (one[1] == 0 and one[2] >= images and one[3] == 1)]
    along = own_axes([axis for axis, *_ in left], x.ndim, "a Slice")
    for axis, (_, start, end, step) in zip(along, left, strict=True):
        size = x.shape[axis]
        first, last, _ = slice(start, end).indices(size)
        if (first, last, step) != (0, size, 1):
            x = x[(slice(None),) * axis + (slice(first, last, step),)]
    return x


def split(site: Site) -> nn.Module:
    """The part of a map that an attribute of ours says: a Split has a node for each of its results."""
    axis, part = site.attribute("axis", 0), site.attribute("part", 0)
    sizes, count = site.sizes("split", least=1) or site.integers(1, "sizes"), site.attribute("parts", 1)

    def one(x: torch.Tensor) -> torch.Tensor:
        (along,) = own_axes([axis], x.ndim, "a Split")
        size = x.shape[along]
        each = sizes or [-(-size // count)] * (count - 1) + [size - -(-size // count) * (count - 1)]
        if len(each) != count or sum(each) != size or min(each) < 1:
            raise ValueError(f"sizes must be {count} that are {size} together, not {shown(list(each))}")
        return x.narrow(along, sum(each[:part]), each[part])

    return Apply(one)


def pad(site: Site) -> nn.Module:
    site.fixed(mode="constant")
    pads = site.sizes("pads") or site.integers(1, "pads")
    filled = site.attribute("value", 0.0) if "pads" in site.node.attributes else site.floats(2, "the value")
    axes = site.integers(3, "axes")
    if not pads or len(pads) % 2 or not all(0 <= size < 1 << 30 for size in pads):
        raise site.refuse(f"pads must be numbers of 0 or more, before and behind each axis, not {shown(pads)}")
    half, value = len(pads) // 2, float(0.0 if filled is None else np.asarray(filled).item())
    pairs = list(zip(pads[:half], pads[half:], strict=True))

    def padded(x: torch.Tensor) -> torch.Tensor:
        order = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in axes]
        found = dict(zip(order, pairs, strict=False))
        if len(order) != half or len(found) != half or found.get(0, (0, 0)) != (0, 0):
            raise ValueError(f"pads must be for each axis once, and 0 for that of images, not {list(pads)}")
        sizes = [n for axis in range(x.ndim - 1, 1, -1) for n in found.get(axis, (0, 0))]
        channels = found.get(1, (0, 0))
        return F.pad(x, [*sizes, *channels] if channels != (0, 0) else sizes, value=value)

    return Apply(padded)
