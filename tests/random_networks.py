"""Constrained-random integer networks: layer kinds, shapes, strides, pads, densities and zero points of all sorts."""

from dataclasses import replace

import numpy as np

from hw.config import WORD_CHANNELS
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
    Select,
    Tensor,
)
from hw.numerics import Rounding, quantize_scale

#: Standard deviation, in codes, that a random layer's outputs should have.
_SPREAD = 45.0
#: Weights of a random convolution, so that small configs can hold it.
_WEIGHTS = 3500


class NetworkMaker:
    """Builds a random network layer by layer.

    Parameters
    ----------
    rng : numpy Generator
    shape : tuple of 3 int
        Of the image.
    """

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int, int]):
        self._rng = rng
        self._layers: list[Layer] = []
        self._exits: list[Exit] = []
        self.input = self._tensor(shape)
        self._tensors = {INPUT: self.input}

    def _tensor(self, shape: tuple[int, int, int], zero_point: int | None = None) -> Tensor:
        if zero_point is None:
            zero_point = int(self._rng.choice([-128, -128, -128, 127, 0, self._rng.integers(-128, 128)]))
        return Tensor(shape=shape, scale=float(self._rng.uniform(0.005, 0.05)), zero_point=zero_point)

    def _append(self, layer: Layer) -> str:
        self._layers.append(layer)
        self._tensors[layer.name] = layer.output
        return layer.name

    def _name(self) -> str:
        return f"layer{len(self._layers)}"

    def _clamp(self, zero_point: int) -> tuple[int, int]:
        """No activation function, ReLU, or ReLU6-like limits; the zero point is always inside."""
        low = int(self._rng.choice([-128, zero_point]))
        high = int(self._rng.choice([127, max(zero_point, int(self._rng.integers(0, 128)))]))
        return low, high

    def _weighted(self, channels: int, kernel: tuple[int, int, int], density: float, zero_point: int) -> dict:
        rng = self._rng
        shape = (channels, *kernel)
        weight = rng.integers(-127, 128, shape) * (rng.random(shape) < density)
        # Some filters are pruned away altogether.
        weight[rng.random(channels) < 0.1] = 0
        spread = np.sqrt((weight.astype(float) ** 2).sum(axis=(1, 2, 3)).max() + 1) * 80
        scales = [quantize_scale(float(rng.uniform(0.5, 1.5)) * min(_SPREAD / spread, 0.5)) for _ in range(channels)]
        return {
            "weight": weight.astype(np.int8),
            "bias": rng.integers(-int(spread), int(spread) + 1, channels).astype(np.int32),
            "multiplier": np.array([scale.multiplier for scale in scales], dtype=np.int32),
            "shift": np.array([scale.shift for scale in scales], dtype=np.int32),
        }

    def conv(
        self,
        source: str,
        channels: int,
        kernel: tuple[int, int],
        stride: tuple[int, int] = (1, 1),
        pads: tuple[int, int, int, int] = (0, 0, 0, 0),
        *,
        density: float = 0.5,
    ) -> str:
        """Append a convolution; returns its name."""
        depth = self._tensors[source].shape[2]
        return self._convolution(Conv2D, source, (channels, *kernel, depth), stride, pads, density)

    def depthwise(
        self,
        source: str,
        kernel: tuple[int, int],
        stride: tuple[int, int] = (1, 1),
        pads: tuple[int, int, int, int] = (0, 0, 0, 0),
        *,
        density: float = 0.5,
    ) -> str:
        """Append a depthwise convolution; returns its name."""
        channels = self._tensors[source].shape[2]
        return self._convolution(DepthwiseConv2D, source, (channels, *kernel, 1), stride, pads, density)

    def _convolution(
        self,
        kind: type[Conv2D] | type[DepthwiseConv2D],
        source: str,
        weight: tuple[int, int, int, int],
        stride: tuple[int, int],
        pads: tuple[int, int, int, int],
        density: float,
    ) -> str:
        height, width, _ = self._tensors[source].shape
        channels, rows, columns, depth = weight
        shape = (
            (height + pads[0] + pads[1] - rows) // stride[0] + 1,
            (width + pads[2] + pads[3] - columns) // stride[1] + 1,
            channels,
        )
        output = self._tensor(shape)
        return self._append(
            kind(
                name=self._name(),
                inputs=(source,),
                output=output,
                clamp=self._clamp(output.zero_point),
                stride=stride,
                pads=pads,
                rounding=Rounding.DOUBLE,
                **self._weighted(channels, (rows, columns, depth), density, output.zero_point),
            )
        )

    def _geometry(self, source: str) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
        """Random kernel, stride and pads that fit a map: small kernels mostly, up to 11 in either direction."""
        rng = self._rng
        kernel, stride, pads = [], [], []
        for size in self._tensors[source].shape[:2]:
            drawn = rng.integers(6, 12) if rng.random() < 0.15 else rng.choice([1, 1, 2, 3, 3, 3, 4, 5])
            rows = min(size + 3, int(drawn))
            before, after = (int(pad) for pad in rng.integers(0, min(rows, 3), 2))
            kernel.append(rows)
            pads += [before, max(after, rows - size - before)]
            stride.append(int(rng.integers(1, (3 if rows == 1 else min(rows, 3)) + 1)))
        return tuple(kernel), tuple(stride), tuple(pads)

    def random_conv(self, source: str, *, density: float, channels: int | None = None) -> str:
        """Append a convolution of random kernel, stride and pads that fits its input."""
        kernel, stride, pads = self._geometry(source)
        most = max(1, _WEIGHTS // (kernel[0] * kernel[1] * self._tensors[source].shape[2]))
        channels = channels or int(self._rng.integers(1, min(19, most) + 1))
        return self.conv(source, channels, kernel, stride, pads, density=density)

    def random_depthwise(self, source: str, *, density: float) -> str:
        """Append a depthwise convolution of random kernel, stride and pads that fits its input."""
        return self.depthwise(source, *self._geometry(source), density=density)

    def block(self, source: str, *, density: float) -> str:
        """Append a residual block: a convolution, and one whose output the source is added to."""
        channels = self._tensors[source].shape[2]
        first = self.conv(source, channels, (3, 3), pads=(1, 1, 1, 1), density=density)
        second = self.conv(first, channels, (3, 3), pads=(1, 1, 1, 1), density=density)
        return self.add(source, second)

    def add(self, source: str, second: str) -> str:
        """Append the sum of two maps, in either order."""
        output = self._tensor(self._tensors[source].shape)
        operands = (second, source) if self._rng.random() < 0.5 else (source, second)
        return self._append(
            Add(name=self._name(), inputs=operands, output=output, clamp=self._clamp(output.zero_point))
        )

    def pool(self, source: str) -> str:
        """Append a global average pool."""
        tensor = self._tensors[source]
        output = Tensor(shape=(1, 1, tensor.shape[2]), scale=tensor.scale, zero_point=tensor.zero_point)
        return self._append(
            GlobalAveragePool(name=self._name(), inputs=(source,), output=output, clamp=self._clamp(output.zero_point))
        )

    def average_pool(self, source: str, window: tuple[int, int], stride: tuple[int, int]) -> str:
        """Append an average pool with a window; returns its name."""
        tensor = self._tensors[source]
        rows, columns = ((tensor.shape[axis] - window[axis]) // stride[axis] + 1 for axis in (0, 1))
        output = Tensor(shape=(rows, columns, tensor.shape[2]), scale=tensor.scale, zero_point=tensor.zero_point)
        clamp = self._clamp(output.zero_point)
        return self._append(
            AveragePool2D(name=self._name(), inputs=(source,), output=output, clamp=clamp, window=window, stride=stride)
        )

    def max_pool(
        self,
        source: str,
        window: tuple[int, int],
        stride: tuple[int, int],
        pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    ) -> str:
        """Append a max pool; returns its name. The accelerator runs it where :meth:`may_be_compared`."""
        tensor = self._tensors[source]
        rows, columns = (
            (tensor.shape[axis] + sum(pads[2 * axis : 2 * axis + 2]) - window[axis]) // stride[axis] + 1
            for axis in (0, 1)
        )
        output = Tensor(shape=(rows, columns, tensor.shape[2]), scale=tensor.scale, zero_point=tensor.zero_point)
        return self._append(
            MaxPool2D(
                name=self._name(),
                inputs=(source,),
                output=output,
                clamp=self._clamp(output.zero_point),
                window=window,
                stride=stride,
                pads=pads,
            )
        )

    def shape(self, name: str) -> tuple[int, int, int]:
        """Of a tensor."""
        return self._tensors[name].shape

    def may_be_compared(self, name: str) -> bool:
        """Whether a max pool may read a tensor: its lowest code is its zero point, or nothing else reads it and it is
        no sum with dummy channels.
        """
        layer = next((layer for layer in self._layers if layer.name == name), None)
        if (-128 if layer is None else layer.clamp[0]) == self._tensors[name].zero_point:
            return True
        summed = isinstance(layer, Add) and self._tensors[name].shape[2] % WORD_CHANNELS
        return not summed and not any(name in reader.inputs for reader in self._layers)

    def random_max_pool(self, source: str) -> str:
        """Append a max pool of random window, stride and pads to a map of at least 2 positions; returns its name."""
        rng, shape = self._rng, self._tensors[source].shape[:2]
        window = (1, 1)
        while window == (1, 1):
            window = shape if rng.random() < 0.1 else tuple(int(rng.integers(1, min(size, 5) + 1)) for size in shape)
        pads = tuple(int(rng.integers(0, window[axis])) if rng.random() < 0.4 else 0 for axis in (0, 0, 1, 1))
        stride = tuple(int(rng.integers(1, (3 if size == 1 else min(size, 3)) + 1)) for size in window)
        return self.max_pool(source, window, stride, pads)

    def random_pool(self, source: str) -> str:
        """Append an average pool with a random window to a map of at least 3 positions; returns its name."""
        rng = self._rng
        shape = self._tensors[source].shape[:2]
        window = shape
        while window in (shape, (1, 1)):
            window = tuple(int(rng.integers(1, min(size, 5) + 1)) for size in shape)
        stride = tuple(int(rng.integers(1, (3 if size == 1 else min(size, 3)) + 1)) for size in window)
        return self.average_pool(source, window, stride)

    def linear(self, source: str, channels: int, *, density: float = 0.7, raw: bool = False) -> str:
        """Append a linear layer."""
        output = self._tensor((1, 1, channels), 0 if raw else None)
        return self._append(
            Linear(
                name=self._name(),
                inputs=(source,),
                output=output,
                clamp=(-128, 127) if raw else self._clamp(output.zero_point),
                raw=raw,
                rounding=Rounding.SINGLE,
                **self._weighted(channels, self._tensors[source].shape, density, output.zero_point),
            )
        )

    def head(self, source: str, classes: int, threshold: int | None = None) -> None:
        """Append a classifier head and its exit."""
        self._exits.append(Exit(logits=self.linear(source, classes, raw=True), threshold=threshold))

    def network(self, name: str) -> Network:
        """The network."""
        classes = self._layers[-1].output.shape[2]
        return Network(
            name=name, input=self.input, layers=tuple(self._layers), exits=tuple(self._exits), classes=classes
        )


def random_network(seed: int, *, size: int = 8) -> Network:
    """A network of two to seven random layers with one or two exits, on maps of up to ``size`` positions a side."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in (rng.integers(1, size + 1), rng.integers(1, size + 1), rng.integers(1, 6)))
    maker = NetworkMaker(rng, shape)
    density = float(rng.choice([0.05, 0.2, 0.5, 1.0]))
    classes = int(rng.integers(2, 12))
    first = maker.random_depthwise if rng.random() < 0.15 else maker.random_conv
    here = first(INPUT, density=density)
    if rng.random() < 0.4:
        here = maker.block(here, density=density)
    elif rng.random() < 0.7:
        here = maker.random_depthwise(here, density=density)
    if rng.random() < 0.5:
        maker.head(here, classes, threshold=int(rng.integers(0, 200_000)))
    if rng.random() < 0.25 and np.prod(maker._tensors[here].shape[:2]) > 2:
        here = maker.random_pool(here)
    if rng.random() < 0.5 and np.prod(maker._tensors[here].shape[:2]) > 1 and maker.may_be_compared(here):
        here = maker.random_max_pool(here)
    if rng.random() < 0.7:
        here = maker.random_conv(here, density=density)
    if rng.random() < 0.5:
        rows, columns, _ = maker._tensors[here].shape
        here = maker.pool(here) if rows * columns > 1 else maker.linear(here, int(rng.integers(1, 20)))
    maker.head(here, classes)
    return _with_thresholds(maker.network(f"random{seed}"), rng)


def odd_network(seed: int) -> Network:
    """Layers that are legal and rare: pads as large as the kernel and larger, pools of a map of one position."""
    rng = np.random.default_rng(seed)
    maker = NetworkMaker(rng, tuple(int(n) for n in rng.integers(1, (6, 6, 10))))
    here = INPUT
    for number in range(2):
        kernel = tuple(int(n) for n in rng.integers(1, 4, 2))
        pads = tuple(int(n) for size in kernel for n in size - 1 + rng.integers(0, 4, 2))
        stride = tuple(int(rng.integers(1, (3 if size == 1 else size) + 1)) for size in kernel)
        if number and rng.random() < 0.5:
            here = maker.depthwise(here, kernel, stride, pads)
        else:
            here = maker.conv(here, int(rng.integers(1, 17)), kernel, stride, pads)
    here = maker.pool(maker.pool(here))
    if rng.random() < 0.5:
        here = maker.pool(maker.conv(here, int(rng.integers(1, 17)), (1, 1)))
    maker.head(here, int(rng.integers(2, 12)))
    return maker.network(f"odd{seed}")


def two_blocks(size: int, channels: int) -> Network:
    """Two residual blocks between convolutions, on square maps."""
    maker = NetworkMaker(np.random.default_rng(0), (size, size, 3))
    here = maker.conv(INPUT, channels, (3, 3), pads=(1, 1, 1, 1), density=0.5)
    for _ in range(2):
        here = maker.block(here, density=0.3)
    here = maker.conv(here, 2 * channels, (3, 3), (2, 2), pads=(1, 0, 1, 0), density=0.3)
    maker.head(maker.pool(here), 3)
    return maker.network("blocks")


def heavy_network() -> Network:
    """More different weights than two PEs can hold, on small maps."""
    maker = NetworkMaker(np.random.default_rng(0), (4, 4, 8))
    here = maker.conv(maker.conv(INPUT, 64, (3, 3), density=1.0), 64, (2, 2), density=1.0)
    maker.head(maker.pool(here), 3)
    return maker.network("heavy")


def wide_network(seed: int, *, least: int = 12, most: int = 26) -> Network:
    """A random network with maps between image and result that are much larger than both."""
    rng = np.random.default_rng(seed)
    height, width = (int(size) for size in rng.integers(least, most + 1, 2))
    maker = NetworkMaker(rng, (height, width, int(rng.integers(1, 9))))
    here = INPUT
    for _ in range(int(rng.integers(1, 3))):
        kernel = int(rng.choice([1, 3, 3, 5]))
        channels = int(rng.integers(9, 29))
        here = maker.conv(here, channels, (kernel, kernel), pads=(kernel // 2,) * 4, density=0.2)
    if rng.random() < 0.5:
        here = maker.block(here, density=0.2)
    if rng.random() < 0.4:
        here = maker.depthwise(here, (3, 3), pads=(1, 1, 1, 1), density=0.6)
    if rng.random() < 0.3 and maker.may_be_compared(here):
        here = maker.max_pool(here, (2, 2), (1, 2))
    here = maker.conv(here, int(rng.integers(1, 17)), (3, 3), (2, 2), pads=(0, 1, 1, 0), density=0.3)
    maker.head(maker.pool(here), 3)
    return _with_thresholds(maker.network(f"wide{seed}"), rng)


def _with_thresholds(network: Network, rng: np.random.Generator) -> Network:
    """In half of the networks some layers skip small activations, in a few all."""
    share = float(rng.choice([0.0, 0.0, 0.5, 1.0]))

    def chosen(layer: Layer) -> Layer:
        if not isinstance(layer, Conv2D | DepthwiseConv2D | Linear) or rng.random() >= share:
            return layer
        threshold = int(rng.choice([2, rng.integers(2, 60), rng.integers(2, 60), rng.integers(1, 256)]))
        return replace(layer, threshold=threshold)

    return replace(network, layers=tuple(chosen(layer) for layer in network.layers))


def with_selects(network: Network, rng: np.random.Generator, share: float = 0.5) -> Network:
    """Some layers multiply a random selection of their input only: one or a few winners, most, or all."""
    tensors = network.tensors()

    def count(most: int) -> int:
        few = int(rng.integers(1, min(most, 8) + 1))
        return int(rng.choice([1, few, rng.integers(1, most + 1), most]))

    def chosen(layer: Layer) -> Layer:
        if not isinstance(layer, Conv2D | DepthwiseConv2D | Linear) or rng.random() >= share:
            return layer
        shape = tensors[layer.inputs[0]].shape
        kind = str(rng.choice(["elements", "elements", "channels", "mask"]))
        if kind == "mask":
            kept = np.flatnonzero(rng.random(shape[2]) < 0.6).tolist() or [int(rng.integers(shape[2]))]
            return replace(layer, select=Select(kind=kind, channels=tuple(kept)))
        return replace(layer, select=Select(kind=kind, count=count(shape[2] if kind == "channels" else np.prod(shape))))

    return replace(network, layers=tuple(chosen(layer) for layer in network.layers))


def random_codes(network: Network, count: int, seed: int) -> np.ndarray:
    """Images for a network, from all zero to dense: int8 (count, height, width, channels)."""
    rng = np.random.default_rng(seed)
    shape = (count, *network.input.shape)
    codes = rng.integers(-128, 128, shape)
    density = rng.choice([0.0, 0.1, 0.5, 1.0], size=(count, 1, 1, 1))
    keep = rng.random(shape) < density
    return np.where(keep, codes, network.input.zero_point).astype(np.int8)
