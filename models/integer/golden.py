"""The golden model: executes an integer network in PyTorch integers, in batches. Every other execution must equal it.

Convolutions run in floating point, where they are exact: all products are integers, and no sum of them, in whatever
order, reaches the first integer that the format cannot hold (2**24 for float32, 2**53 for float64). Which of the two a
layer needs is proved from its weights. Everything after the accumulator is int64 arithmetic as :mod:`hw.numerics`
defines it. What a process has told PyTorch (autocast, precision, modes) is of no influence
(:mod:`models.integer.exact`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from hw.network.active import active_mask
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
)
from hw.numerics import ADD_LEFT_SHIFT, Rounding, accumulator_range, add_scales, clamp, top2
from models.integer.elementwise import add_codes, requantize_sums
from models.integer.exact import exact

__all__ = ["Result", "checked_images", "compute", "decide", "run"]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a network makes of N images.

    Parameters
    ----------
    tensors : dict of str to array
        Every tensor by name, the image first: int8 codes (N, height, width, channels), raw logits int64
        (N, 1, 1, classes). Empty when they weren't kept.
    logits : list of int64 array, (N, classes)
        One per exit, also for images that left earlier.
    margins : int64 array, (N, exits)
        Largest minus second largest logit.
    exit_index : int64 array, (N,)
        The exit taken: the first whose margin reaches its threshold.
    classes : int64 array, (N,)
        Class of the exit taken; of equal logits the first.
    """

    tensors: dict[str, np.ndarray]
    logits: list[np.ndarray]
    margins: np.ndarray
    exit_index: np.ndarray
    classes: np.ndarray

    def accuracy(self, labels: Any) -> float:
        """Share of images, 0..1, whose class is right.

        Parameters
        ----------
        labels : array of int, (N,)

        Raises
        ------
        ValueError
            When there isn't one label per image, or no image.
        """
        labels = np.asarray(labels)
        if labels.shape != self.classes.shape:
            raise ValueError(f"labels must be one per image, shape {self.classes.shape}, not {labels.shape}")
        if not labels.size:
            raise ValueError("accuracy needs at least 1 image, not 0")
        return float((self.classes == labels).mean())

    def exit_share(self) -> np.ndarray:
        """Share of images, 0..1, that leave at each exit: float64 (exits,).

        Raises
        ------
        ValueError
            When there is no image.
        """
        if not self.exit_index.size:
            raise ValueError("exit share needs at least 1 image, not 0")
        return np.bincount(self.exit_index, minlength=self.margins.shape[1]) / self.exit_index.size


def run(
    network: Network,
    codes: np.ndarray | torch.Tensor,
    *,
    batch: int = 32,
    keep: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Execute a network on images; every layer is computed for every image, decisions are taken afterwards.

    Parameters
    ----------
    codes : int8 array or tensor, (N, height, width, channels)
        Quantized images, as the network's input tensor says.
    batch : int
        Images computed at once, few enough to stay in a processor's cache; of no influence on the result.
    keep : bool
        Keep all tensors, not only the logits.
    progress : callable, optional
        Called after each batch with the images done and N.

    Raises
    ------
    ValueError
        When the images have another shape or type, a layer could overflow int32, or a PyTorch transform that can't be
        left is at work.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, not {batch}")
    with exact():
        images = checked_images(network, codes)
        # torch shares neither read-only memory nor negative strides
        shared = images if images.flags.writeable and min(images.strides) >= 0 else images.copy()
        return _run(network, torch.from_numpy(shared), batch, keep, progress)


def _run(
    network: Network, images: torch.Tensor, batch: int, keep: bool, progress: Callable[[int, int], None] | None
) -> Result:
    """:func:`run` on checked images."""
    count = images.shape[0]
    heads = [head.logits for head in network.exits]
    names = list(network.tensors()) if keep else heads
    raw = {layer.name for layer in network.layers if is_raw(layer)}
    shapes = {name: (count, *tensor.shape) for name, tensor in network.tensors().items()}
    kept = {name: np.empty(shapes[name], dtype=np.int64 if name in raw else np.int8) for name in names}
    steps = [(layer, _step(network, layer)) for layer in network.layers]
    for start in range(0, count, batch):
        maps = {INPUT: images[start : start + batch]}
        for layer, step in steps:
            maps[layer.name] = step(*(maps[source] for source in layer.inputs))
        for name, array in kept.items():
            array[start : start + batch] = maps[name].numpy()
        if progress is not None:
            progress(min(start + batch, count), count)
    logits = [kept[name].reshape(count, network.classes) for name in heads]
    margins, exit_index, classes = decide(logits, [head.threshold for head in network.exits])
    return Result(tensors=kept if keep else {}, logits=logits, margins=margins, exit_index=exit_index, classes=classes)


def checked_images(network: Network, codes: np.ndarray | torch.Tensor) -> np.ndarray:
    """The images as an int8 array, as they lie in memory.

    Raises
    ------
    ValueError
        When they aren't what the network takes.
    """
    if not isinstance(codes, np.ndarray | torch.Tensor):
        raise ValueError(f"images must be a numpy array or a torch tensor, not {type(codes).__name__}")
    dtype = str(codes.dtype).removeprefix("torch.")
    height, width, channels = network.input.shape
    if dtype != "int8" or tuple(codes.shape[1:]) != network.input.shape:
        raise ValueError(
            f"{network.name}: images must be int8 of shape (N, {height}, {width}, {channels}), "
            f"not {dtype} of shape {tuple(codes.shape)}"
        )
    if isinstance(codes, torch.Tensor):
        form = f"{type(codes).__name__} on {codes.device} of layout {codes.layout}"
        try:
            codes = codes.detach().cpu().numpy()
        except (RuntimeError, TypeError) as error:
            raise ValueError(
                f"{network.name}: images must be a dense tensor that holds its values, not a {form}"
            ) from error
    return codes


def decide(logits: Sequence[np.ndarray], thresholds: Sequence[int | None]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Margins (N, exits), exit taken (N,) and class (N,) from the logits (N, classes) of every exit.

    Parameters
    ----------
    thresholds : sequence of int or None
        One per exit; None is always taken.
    """
    found = [top2(values) for values in logits]
    classes = np.stack([best for best, _ in found], axis=1)
    margins = np.stack([margin for _, margin in found], axis=1)
    taken = np.stack([margins[:, i] >= (0 if t is None else t) for i, t in enumerate(thresholds)], axis=1)
    exit_index = taken.argmax(axis=1)
    return margins, exit_index, classes[np.arange(len(classes)), exit_index]


def compute(network: Network, layer: Layer, sources: Sequence[np.ndarray]) -> np.ndarray:
    """What one layer makes of its input maps.

    Parameters
    ----------
    sources : sequence of int8 array, (N, height, width, channels)
        In the order of the layer's inputs.

    Returns
    -------
    array
        int8 codes (N, height, width, channels), of a raw layer int64 (N, 1, 1, classes).
    """
    with exact():
        return _step(network, layer)(*map(torch.from_numpy, sources)).numpy()


def _step(network: Network, layer: Layer) -> Callable[..., torch.Tensor]:
    """A function from a layer's input maps to its output map, with everything constant prepared."""
    if isinstance(layer, Conv2D | DepthwiseConv2D | Linear):
        return _weighted(network, layer)
    if isinstance(layer, Add):
        return _add(network, layer)
    if isinstance(layer, AveragePool2D | GlobalAveragePool):
        return _pool(network, layer)
    if isinstance(layer, MaxPool2D):
        return _max_pool(layer)
    raise ValueError(f"{layer.name}: layer kind {layer.kind!r} is not one that the golden model executes")


def _activations(network: Network, name: str) -> tuple[int, int]:
    """Lowest and highest ``a = q - zero_point`` a tensor can hold."""
    low, high = (-128, 127) if name == INPUT else network.layer(name).clamp
    zero_point = network.tensors()[name].zero_point
    return low - zero_point, high - zero_point


def _weighted(network: Network, layer: Conv2D | DepthwiseConv2D | Linear) -> Callable[..., torch.Tensor]:
    low, high = _activations(network, layer.inputs[0])
    flat = layer.weight.reshape(len(layer.weight), -1)
    reach = accumulator_range(flat, layer.bias.astype(np.int64), low, high)
    if reach[0] < -(1 << 31) or reach[1] >= 1 << 31:
        raise ValueError(f"{layer.name}: accumulators must stay within int32, not reach {reach[0]}..{reach[1]}")
    largest = int(np.abs(flat.astype(np.int64)).sum(axis=1).max()) * max(-low, high)
    exact = np.float32 if largest < 1 << 24 else np.float64
    weight = torch.from_numpy(layer.weight.astype(exact)).permute(0, 3, 1, 2)
    bias, multiplier, shift = (a.astype(np.int64) for a in (layer.bias, layer.multiplier, layer.shift))
    scales = (bias, multiplier, shift, layer.rounding is Rounding.DOUBLE, layer.output.zero_point, *layer.clamp)
    zero_point = network.tensors()[layer.inputs[0]].zero_point
    stride, (top, bottom, left, right) = (
        ((1, 1), (0, 0, 0, 0)) if isinstance(layer, Linear) else (layer.stride, layer.pads)
    )
    # A depthwise convolution of one channel is none.
    groups = len(weight) if isinstance(layer, DepthwiseConv2D) else 1

    # oneDNN in torch 2.13 mistakes the memory layout of single-channel maps and swaps unequal strides: they get a
    # second channel of zeros.
    extra = int(weight.shape[1] == groups == 1)
    weight = F.pad(weight, (0, 0, 0, 0, 0, extra))

    def step(source: torch.Tensor) -> torch.Tensor:
        values = source.to(weight.dtype).sub_(zero_point).permute(0, 3, 1, 2)
        if layer.threshold > 1 or layer.select is not None:
            used = active_mask(layer, source.numpy(), zero_point)
            values = values * torch.from_numpy(used).permute(0, 3, 1, 2)
        if top == bottom and left == right and not extra:
            sums = F.conv2d(values, weight, stride=stride, padding=(top, left), groups=groups)
        else:
            sums = F.conv2d(F.pad(values, (left, right, top, bottom, 0, extra)), weight, stride=stride, groups=groups)
        sums = sums.permute(0, 2, 3, 1).contiguous()
        if is_raw(layer):
            return sums.to(torch.int64) + torch.from_numpy(bias)
        found = requantize_sums(sums.reshape(-1, len(bias)).numpy(), *scales)
        return torch.from_numpy(found).reshape(sums.shape)

    return step


def _add(network: Network, layer: Add) -> Callable[..., torch.Tensor]:
    first, second = (network.tensors()[name] for name in layer.inputs)
    scales = add_scales(first.scale, second.scale, layer.output.scale)
    zero_points = np.array([first.zero_point, second.zero_point, layer.output.zero_point], dtype=np.int64)
    multipliers, shifts = np.array(scales, dtype=np.int64).T.copy()

    def step(*sources: torch.Tensor) -> torch.Tensor:
        a, b = (source.reshape(-1).numpy() for source in sources)
        found = add_codes(a, b, zero_points, multipliers, shifts, ADD_LEFT_SHIFT, *layer.clamp)
        return torch.from_numpy(found).reshape(sources[0].shape)

    return step


def _pool(network: Network, layer: AveragePool2D | GlobalAveragePool) -> Callable[..., torch.Tensor]:
    rows, columns = window = (
        layer.window if isinstance(layer, AveragePool2D) else network.tensors()[layer.inputs[0]].shape[:2]
    )
    down, right = layer.stride if isinstance(layer, AveragePool2D) else window
    count = rows * columns

    def step(source: torch.Tensor) -> torch.Tensor:
        windows = source.unfold(1, rows, down).unfold(2, columns, right)
        total = windows.sum(dim=(-2, -1), dtype=torch.int64)
        # Half away from zero, as the reference AVERAGE_POOL_2D: it averages the codes themselves.
        mean = total.sign() * ((2 * total.abs() + count) // (2 * count))
        return clamp(mean, *layer.clamp).to(torch.int8)

    return step


def _max_pool(layer: MaxPool2D) -> Callable[..., torch.Tensor]:
    top, bottom, left, right = layer.pads
    (rows, columns), (down, across) = layer.window, layer.stride

    def step(source: torch.Tensor) -> torch.Tensor:
        # No code is below -128, and every window holds a position of the map.
        padded = F.pad(source, (0, 0, left, right, top, bottom), value=-128)
        windows = padded.unfold(1, rows, down).unfold(2, columns, across)
        return clamp(windows.amax(dim=(-2, -1)), *layer.clamp)

    return step
